"""Attributes of the first files (IR 1), which do not say what type they are: the field that is set tells."""

from __future__ import annotations

import onnx

from netferry.schemas.metadata import proto_nodes

_KIND = onnx.AttributeProto
_FIELDS = {
    "f": _KIND.FLOAT, "i": _KIND.INT, "s": _KIND.STRING, "t": _KIND.TENSOR, "g": _KIND.GRAPH, "floats": _KIND.FLOATS,
    "ints": _KIND.INTS, "strings": _KIND.STRINGS, "tensors": _KIND.TENSORS, "graphs": _KIND.GRAPHS,
}  # fmt: skip


def complete_types(proto: onnx.ModelProto) -> None:
    """Set the type of attributes that have none but hold a value."""
    for node in proto_nodes(proto):
        for attribute in node.attribute:
            if attribute.type != onnx.AttributeProto.UNDEFINED or attribute.ref_attr_name:
                continue
            held = {field.name for field, _ in attribute.ListFields()} & set(_FIELDS)
            if len(held) == 1:
                attribute.type = _FIELDS[held.pop()]
