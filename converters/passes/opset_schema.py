"""What the operator schemas of two opsets say about one node: does it fit, and what must be written out or dropped."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import onnx

from netferry.converters.passes.opset_rules import Cannot, Rewriter
from netferry.schemas.ir import ir

_OPTIONAL = onnx.defs.OpSchema.FormalParameterOption.Optional
_VARIADIC = onnx.defs.OpSchema.FormalParameterOption.Variadic
_BODIES = (ir.AttributeType.TENSOR, ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS, ir.AttributeType.SPARSE_TENSOR)

_FLOAT8 = [
    d
    for d in ir.DataType
    if d.name.startswith(("FLOAT8", "FLOAT4")) and d.name != "FLOAT8E8M0"  # e8m0 rounds: not exact
]
_EXACT = {
    ir.DataType.INT4: ir.DataType.INT8,
    ir.DataType.UINT4: ir.DataType.UINT8,
    **dict.fromkeys(_FLOAT8, ir.DataType.FLOAT),
}
_MOVERS = (
    *("Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity", "Pad"),
    *("Reshape", "ScatterElements", "ScatterND", "Shape", "Size", "Slice", "SpaceToDepth", "Split", "Squeeze"),
    *("Tile", "Transpose", "Unsqueeze", "Where"),
)
_SMALL = (ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT16, ir.DataType.UINT16)
_SMALL_INTS: dict[ir.DataType, ir.DataType] = dict.fromkeys(_SMALL, ir.DataType.INT32)
_BYTES: dict[ir.DataType, ir.DataType] = dict.fromkeys(_SMALL[:2], ir.DataType.FLOAT)
_WIDER: dict[str, dict[ir.DataType, ir.DataType]] = {
    **dict.fromkeys(_MOVERS, _EXACT),
    **dict.fromkeys(["Add", "Sub", "Mul", "Div", "Relu"], _SMALL_INTS),
    **{key: {**_SMALL_INTS, ir.DataType.BOOL: ir.DataType.UINT8} for key in ["ReduceMax", "ReduceMin"]},
    "MaxPool": _BYTES,
    "IsInf": {ir.DataType.FLOAT16: ir.DataType.FLOAT},
}
"""Per operator, the type in which a narrow one's values are computed exactly."""


@functools.lru_cache(4096)
def raw_schema(op: str, opset: int) -> onnx.defs.OpSchema | None:
    """The operator's schema at an opset, deprecated or not; None where it is not there yet."""
    try:
        return onnx.defs.get_schema(op, opset, "")
    except onnx.defs.SchemaError:
        return None


def schema_of(op: str, opset: int) -> onnx.defs.OpSchema | None:
    """The operator's schema at an opset, None where it is not there (yet, or any more)."""
    schema = raw_schema(op, opset)
    return None if schema is None or schema.deprecated else schema


@functools.lru_cache(4096)
def changed(op: str, opset: int) -> bool:
    """Whether the operator is new, gone or another at ``opset``, against the opset before."""
    try:
        return onnx.defs.get_schema(op, opset, "").since_version == opset
    except onnx.defs.SchemaError:
        return False


def covers(new: onnx.defs.OpSchema, old: onnx.defs.OpSchema) -> bool:
    """Whether every node that is valid under ``old`` is valid under ``new`` and means the same by the schemas' word.

    The attributes and their defaults are equal, inputs and outputs stand where they stood and may be of every type
    that they could be of.
    """
    if {name: (a.type, _default(a)) for name, a in old.attributes.items()} != {
        name: (a.type, _default(a)) for name, a in new.attributes.items() if name in old.attributes or a.required
    }:
        return False
    if new.min_input > old.min_input or len(new.inputs) < len(old.inputs) or len(new.outputs) < len(old.outputs):
        return False
    if new.max_input < old.max_input or new.max_output < old.max_output:
        return False
    wide, narrow = _allowed(new), _allowed(old)
    bound: dict[str, set[str]] = {}  # values of one type variable are of one type: they were so before, too
    for mine, theirs in ((new.inputs, old.inputs), (new.outputs, old.outputs)):
        for a, b in zip(mine, theirs, strict=False):
            if a.option != b.option or a.is_homogeneous != b.is_homogeneous:
                return False
            if not narrow.get(b.type_str, {b.type_str}) <= wide.get(a.type_str, {a.type_str}):
                return False
            bound.setdefault(a.type_str, set()).add(b.type_str)
    return all(len(found) == 1 for found in bound.values())


@functools.lru_cache(4096)
def _allowed(schema: onnx.defs.OpSchema) -> Mapping[str, set[str]]:
    """The types that each variable of a schema may stand for; each look into a schema takes its time."""
    return {c.type_param_str: set(c.allowed_type_strs) for c in schema.type_constraints}


def type_text(kind: ir.TypeProtocol | None) -> str | None:
    """A type as the schemas write it, e.g. ``seq(tensor(float))``; None where it is not known."""
    if type(kind) is ir.TensorType:  # isinstance asks a protocol of typing, member by member
        return _tensor_text(kind.dtype)
    if isinstance(kind, ir.SequenceType):
        inner = type_text(kind.elem_type)
        return inner and f"seq({inner})"
    if isinstance(kind, ir.OptionalType):
        inner = type_text(kind.elem_type)
        return inner and f"optional({inner})"
    return None


@functools.cache
def _tensor_text(dtype: ir.DataType) -> str | None:
    return None if dtype == ir.DataType.UNDEFINED else f"tensor({dtype.name.lower()})"


def bad_types(node: ir.Node, schema: onnx.defs.OpSchema) -> dict[ir.Value, str]:
    """Inputs and outputs of the node whose type the schema does not allow."""
    out: dict[ir.Value, str] = {}
    allowed = _allowed(schema)
    first: dict[str, str] = {}  # one type variable, one type
    for values, formals in ((node.inputs, schema.inputs), (node.outputs, schema.outputs)):
        for i, value in enumerate(values):
            if value is None or not formals:
                continue
            formal = formals[min(i, len(formals) - 1)]
            text = type_text(value.type)
            if text is None:
                continue
            known = text in allowed.get(formal.type_str, {formal.type_str})
            if not known or (formal.is_homogeneous and first.setdefault(formal.type_str, text) != text):
                out[value] = text
    return out


def bad_form(node: ir.Node, schema: onnx.defs.OpSchema) -> str | None:
    """Why the node's attributes, or the numbers of its inputs and outputs, are none of the schema's."""
    for name, attribute in node.attributes.items():
        if name not in schema.attributes:
            return f"attribute {name}={_shown(attribute)}"
    for name, formal in schema.attributes.items():
        if formal.required and name not in node.attributes:
            return f"without attribute {name}"
    given = [v is not None for v in node.inputs]
    while len(given) > schema.min_input and not given[-1]:  # Loop(times, "") has the two inputs that it needs
        given.pop()
    if len(given) > schema.max_input:
        names = [f.name for f in onnx.defs.get_schema(node.op_type).inputs]
        i = schema.max_input
        return f"input {names[i] if i < len(names) else i}"
    if len(given) < schema.min_input:
        return f"with fewer than {schema.min_input} inputs"
    for there, formal in zip(given, schema.inputs, strict=False):
        if not there and formal.option not in (_OPTIONAL, _VARIADIC):
            return f"without input {formal.name}"
    if len([v for v in node.outputs if v.name]) > schema.max_output:
        return f"with {len(node.outputs)} outputs"
    return None


def carry_attributes(node: ir.Node, old: onnx.defs.OpSchema, new: onnx.defs.OpSchema) -> None:
    """Keep the meaning of ``old`` under ``new``: defaults that differ are written out, new ones dropped.

    Raises:
        Cannot: the node uses an attribute that ``new`` does not have.
    """
    for name, formal in old.attributes.items():
        default = _default(formal)
        held = node.attributes.get(name)
        if name in new.attributes:
            if held is None and default is not None and default != _default(new.attributes[name]):
                node.attributes[name] = ir.convenience.convert_attribute(name, default)
        elif held is not None:
            if held.is_ref() or default is None or held.value != default:
                raise Cannot(f"attribute {name}={_shown(held)} is not there before")
            node.attributes.pop(name)


def _default(formal: onnx.defs.OpSchema.Attribute) -> Any:
    if not formal.default_value.type:
        return None
    value = onnx.helper.get_attribute_value(formal.default_value)
    return value.decode() if isinstance(value, bytes) else value


def _shown(attribute: ir.Attr) -> str:
    return "…" if attribute.is_ref() or attribute.type in _BODIES else str(attribute.value)[:40]


def widened(b: Rewriter, schema: onnx.defs.OpSchema) -> list[ir.Value]:
    """The node once more with a wider type where the schema does not know the narrow one, and Casts around it.

    bfloat16 is computed in float and rounded once; 8- and 16-bit integers are computed in int32 and wrapped;
    float8 and int4 only pass through operators that move data. All of that gives the values of the narrow operator.

    Raises:
        Cannot: no wider type keeps the meaning.
    """
    node = b.node
    bad = bad_types(node, schema)
    cast = schema_of("Cast", b.opset)
    if cast is None:
        raise AssertionError("Cast is in every opset")
    text = ", ".join(sorted(set(bad.values())))
    refused = Cannot(f"does not take {text} before")
    if any(a.type in _BODIES or a.is_ref() for a in node.attributes.values()):
        raise refused
    castable = {c for t in cast.type_constraints for c in t.allowed_type_strs}
    to: dict[ir.DataType, ir.DataType] = {}
    for value, kind in bad.items():
        narrow = value.dtype
        wide = None
        if narrow == ir.DataType.BFLOAT16:
            wide = ir.DataType.FLOAT
        elif narrow is not None:
            wide = _WIDER.get(node.op_type, {}).get(narrow)
        if narrow is None or wide is None or kind not in castable:
            raise refused
        if node.op_type.startswith("Reduce") and (value.shape is None or 0 in value.shape):
            raise refused  # the extreme of nothing is the type's own
        to[narrow] = wide

    def goes(i: int, value: ir.Value | None) -> ir.Value | None:
        if value is None or value.dtype is None or value.dtype not in to:
            return value
        formal = schema.inputs[min(i, len(schema.inputs) - 1)].type_str
        narrow = next((c.allowed_type_strs for c in schema.type_constraints if c.type_param_str == formal), [formal])
        return value if type_text(value.type) in narrow else b.cast(value, to[value.dtype])

    made = b.op(
        node.op_type,
        *(goes(i, v) for i, v in enumerate(node.inputs)),
        outputs=len(node.outputs),
        **dict(node.attributes.items()),
    )
    values = [made] if isinstance(made, ir.Value) else list(made)
    out = []
    for old, value in zip(node.outputs, values, strict=True):
        out.append(b.cast(value, old.dtype) if old in bad and old.dtype is not None else value)
    if any(bad_types(n, schema_of(n.op_type, b.opset) or schema) for n in b.made):
        raise refused
    return out
