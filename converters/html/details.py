"""What the page tells of a layer when it is clicked: operators with their settings, values, weights."""

from __future__ import annotations

from typing import Any

import onnx

from netferry.converters.html.families import family_of
from netferry.schemas.ir import ir
from netferry.schemas.layers import TYPE_TEXT, LayerRow, count, graphs_of, role_of, static_shape
from netferry.schemas.statistics import statistics
from netferry.schemas.tensors import array_of, constant_tensor

_FEW = 24
_LONG = 400


def details(row: LayerRow, opsets: dict[str, int], weights: dict[ir.Value, dict[str, Any]]) -> dict[str, Any]:
    """Return operators and weights of a layer; ``weights`` remembers statistics of those that several layers read."""
    held = dict.fromkeys(
        v for node in row.nodes for v in node.inputs if v is not None and v.is_initializer() and count(v) > _FEW
    )
    held |= dict.fromkeys([*row.learnables, *row.state])
    for value in held:
        if value not in weights:
            weights[value] = _weight(value)
    return {
        "operators": [operator(node, opsets) for node in row.nodes],
        "weights": [weights[value] for value in held],
        "family": family_of(row),
    }


def _weight(value: ir.Value) -> dict[str, Any]:
    out: dict[str, Any] = {
        "name": value.name or "",
        "role": role_of(value).value,
        "type": type_text(value),
        "shape": list(static_shape(value)),
    }
    found = statistics(value)
    return out if found is None else {**out, "statistics": found}


def operator(node: ir.Node, opsets: dict[str, int]) -> dict[str, Any]:
    """One node: operator, what it reads and gives by the names of its schema, attributes as text."""
    schema = _schema(node, opsets)
    return {
        "operator": node.op_type,
        "domain": node.domain,
        "name": node.name or "",
        "reads": [
            _value(_formal(schema, "inputs", i), v) for i, v in enumerate(node.inputs) if v is not None and v.name
        ],
        "gives": [_value(_formal(schema, "outputs", i), v) for i, v in enumerate(node.outputs) if v.name],
        "settings": [[name, setting(held)] for name, held in node.attributes.items() if not graphs_of(held)],
    }


def _schema(node: ir.Node, opsets: dict[str, int]) -> onnx.defs.OpSchema | None:
    domain = "" if node.domain == "ai.onnx" else node.domain
    try:
        return onnx.defs.get_schema(node.op_type, opsets.get(domain, 1), domain)
    except onnx.defs.SchemaError:
        return None


def _formal(schema: onnx.defs.OpSchema | None, side: str, i: int) -> str:
    """What the schema calls an input or output; its number where it says nothing."""
    formal = [] if schema is None else getattr(schema, side)
    if not formal:
        return str(i)
    if i < len(formal) - 1 or (i == len(formal) - 1 and not _variadic(formal[-1])):
        return formal[i].name
    return f"{formal[-1].name}[{i - len(formal) + 1}]" if _variadic(formal[-1]) else str(i)


def _variadic(formal: Any) -> bool:
    return formal.option == onnx.defs.OpSchema.FormalParameterOption.Variadic


def _value(slot: str, value: ir.Value) -> dict[str, Any]:
    out: dict[str, Any] = {"slot": slot, "name": value.name, "type": type_text(value), "shape": shape_of(value)}
    tensor = constant_tensor(value)
    if tensor is not None and tensor.size <= _FEW and (array := array_of(tensor)) is not None:
        out["value"] = _short(str(array.tolist()))
    return out


def type_text(value: ir.Value) -> str:
    """Element type, or the whole type of what is no tensor."""
    if value.dtype is not None and (value.type is None or isinstance(value.type, ir.TensorType)):
        return value.dtype.name.lower()
    return value.meta.get(TYPE_TEXT, "?") if value.type is None else _short(str(value.type))


def shape_of(value: ir.Value) -> list[int | str | None] | None:
    """Dimensions; those that an inference made up names for are None."""
    if value.shape is None:
        return None
    dims = [d if isinstance(d, int) else d.value for d in value.shape]
    return [None if isinstance(d, str) and d.startswith("unk__") else d for d in dims]


def setting(held: ir.Attr) -> str:
    """An attribute's value as text; tensors by type and shape, long ones cut."""
    if held.is_ref():
        return f"@{held.ref_attr_name}"
    kind = ir.AttributeType
    if held.type == kind.TENSOR:
        tensor = held.as_tensor()
        if tensor.size <= _FEW and (array := array_of(tensor)) is not None:
            return _short(str(array.tolist()))
        return f"{tensor.dtype.name.lower()} {' × '.join(map(str, tensor.shape.numpy()))}"
    if held.type in (kind.STRING, kind.INT, kind.INTS):
        return _short(str(held.value if held.type != kind.INTS else list(held.as_ints())))
    if held.type == kind.FLOAT:
        return f"{held.as_float():.7g}"
    if held.type == kind.FLOATS:
        return _short("[" + ", ".join(f"{x:.7g}" for x in held.as_floats()) + "]")
    if held.type == kind.STRINGS:
        return _short(str(list(held.as_strings())))
    return held.type.name.lower()


def _short(text: str) -> str:
    return text if len(text) <= _LONG else text[: _LONG - 1] + "…"
