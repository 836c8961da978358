"""Attributes of the first files (IR 1), which do not say what type they are: the field that is set tells."""

from __future__ import annotations

from collections.abc import Iterable

import onnx

_KIND = onnx.AttributeProto
_FIELDS = {
    "f": _KIND.FLOAT, "i": _KIND.INT, "s": _KIND.STRING, "t": _KIND.TENSOR, "g": _KIND.GRAPH, "floats": _KIND.FLOATS,
    "ints": _KIND.INTS, "strings": _KIND.STRINGS, "tensors": _KIND.TENSORS, "graphs": _KIND.GRAPHS,
}  # fmt: skip


def complete_types(attributes: Iterable[onnx.AttributeProto]) -> None:
    """Set the type of attributes that have none but hold a value."""
    for attribute in attributes:
        if attribute.type != _KIND.UNDEFINED or attribute.ref_attr_name:
            continue
        held = {field.name for field, _ in attribute.ListFields()} & set(_FIELDS)
        if len(held) == 1:
            attribute.type = _FIELDS[held.pop()]
