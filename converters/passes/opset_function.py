"""Operators written out by the function bodies that ONNX itself defines for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from netferry.converters.passes.opset_rules import Cannot, Rewriter, discard, fixed_array
from netferry.schemas.ir import ir


def body_version(schema: Any, opset: int) -> int | None:
    """The version of the operator's function body that is nearest to ``opset``; None where it has no body."""
    versions = sorted({*schema.function_opset_versions, *schema.context_dependent_function_opset_versions})
    if not versions:
        return None
    return max((v for v in versions if v <= opset), default=versions[0])


def write_out(b: Rewriter, schema: onnx.defs.OpSchema) -> list[ir.Value | None]:
    """Write the operator's function body at ``b.opset``, one of :func:`body_version`'s; returns its outputs.

    None stands for an output that nobody reads.

    Raises:
        Cannot: the body depends on types or ranks that are not known, or holds graphs of its own.
    """
    node = b.node
    function = _function(node, schema, b.opset)
    values: dict[str, ir.Value | None] = {"": None}
    for name, value in zip(function.input, [*node.inputs, *([None] * len(function.input))], strict=False):
        values[name] = value
    settings: dict[str, ir.Attr] = {a.name: ir.from_proto(a) for a in function.attribute_proto}
    for name, formal in schema.attributes.items():
        if formal.default_value.type:
            settings[name] = ir.from_proto(formal.default_value)
    settings.update(node.attributes.items())
    spare: list[ir.Value] = []
    for inner in function.node:
        attributes: dict[str, Any] = {}
        for attribute in inner.attribute:
            if attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS):
                raise Cannot("its definition holds a loop")
            if not attribute.ref_attr_name:
                attributes[attribute.name] = ir.from_proto(attribute)
            elif attribute.ref_attr_name in settings:
                held = settings[attribute.ref_attr_name]
                if held.is_ref():
                    raise Cannot("it stands in a function and takes attributes of the call")
                attributes[attribute.name] = ir.Attr(attribute.name, held.type, held.value)
        if inner.op_type == "Constant":
            values[inner.output[0]] = b.const(_constant(attributes))
            continue
        operands = [values[name] for name in inner.input]
        known = _known(inner.op_type, operands)
        if known is not None:
            values[inner.output[0]] = b.const(known)
            spare.extend(v for v in operands[:1] if v is not None and v not in node.inputs)
            continue
        made = b.op(inner.op_type, *operands, outputs=len(inner.output), domain=inner.domain, **attributes)
        for name, value in zip(inner.output, [made] if isinstance(made, ir.Value) else made, strict=True):
            values[name] = value
    for value in spare:
        discard(value)
    results = [values.get(name) for name in function.output[: len(node.outputs)]]
    for old, value in zip(node.outputs, results, strict=True):
        if value is None and (old.uses() or old.is_graph_output()):
            raise Cannot("its definition leaves an output out")
    return results


def _known(op: str, operands: list[ir.Value | None]) -> np.ndarray | None:
    """What the bodies compute of their own constants alone: a constant in the input's type, a root of one."""
    if op not in ("CastLike", "Sqrt") or operands[0] is None:
        return None
    array = fixed_array(operands[0])
    if array is None or array.size != 1:
        return None
    if op == "Sqrt":
        return np.sqrt(array) if array.dtype.kind == "f" else None
    like = operands[1].dtype if len(operands) > 1 and operands[1] is not None else None
    return None if like is None or array.dtype.kind not in "fi" else array.astype(like.numpy())


def _constant(attributes: dict[str, Any]) -> np.ndarray:
    if not attributes:
        raise Cannot("its definition needs an attribute that is not given")
    name, attribute = next(iter(attributes.items()))
    if name == "value":
        return np.asarray(attribute.value.numpy())
    return np.array(attribute.value, dtype=np.float32 if name.startswith("value_float") else np.int64)


def _function(node: ir.Node, schema: Any, version: int) -> onnx.FunctionProto:
    if version in schema.function_opset_versions:
        text = schema.get_function_with_opset_version(version)
        return onnx.FunctionProto.FromString(text)
    proto = ir.to_proto(node)
    for i, value in enumerate(node.inputs):
        if value is not None:
            proto.input[i] = f"i{i}"
    types = []
    for value in node.inputs:
        kind = onnx.TypeProto()
        if value is not None:
            if value.type is None:
                raise Cannot("the type of its input is not known")
            ir.serde.serialize_type_into(kind, value.type)
            if value.shape is not None:
                ir.serde.serialize_shape_into(kind, value.shape)
        types.append(kind.SerializeToString())
    text = schema.get_context_dependent_function_with_opset_version(version, proto.SerializeToString(), types)
    function = onnx.FunctionProto.FromString(text)
    if not function.node:
        raise Cannot("its definition depends on types or ranks that are not known")
    return function
