"""Symbolic sizes node by node: by the rules of :mod:`dims_rules`, else by ONNX's inference of the one operator."""

from __future__ import annotations

import onnx

from netferry.converters.passes.dims_rules import DATA, SHAPES, Known, Vector
from netferry.converters.passes.opset_rules import fixed_array
from netferry.converters.passes.polynomials import Poly, number, symbol
from netferry.schemas.graph import CANONICAL_IR
from netferry.schemas.ir import ir
from netferry.schemas.layers import graphs_of

_MOST = 64


class Sizes(Known):
    """Sizes of a graph's values while its nodes are visited in order; a graph may change ahead of the visit.

    Args:
        graph: the main graph.
        opset: its version of the standard operators.
    """

    def __init__(self, graph: ir.Graph, opset: int) -> None:
        super().__init__()
        self._opset = opset
        for value in graph.inputs:
            if value.shape is not None:
                self.dims[value] = tuple(
                    number(d) if isinstance(d, int) else symbol(d.value or f"?{value.name}:{i}")
                    for i, d in enumerate(value.shape)
                )

    def shape(self, value: ir.Value) -> Vector | None:
        """Sizes of a value; None for an unknown rank."""
        known = self.dims.get(value)
        if known is None and value.is_initializer() and value.const_value is not None:
            known = self.dims[value] = tuple(number(int(d)) for d in value.const_value.shape.numpy())
        return known

    def numbers(self, value: ir.Value) -> Vector | None:
        """Elements of an integer scalar or vector; None where they are not known."""
        known = self.data.get(value)
        if known is None and value.dtype in (ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL):
            tensor = value.const_value
            if tensor is not None and tensor.size > _MOST:
                return None
            array = fixed_array(value)
            if array is not None and array.ndim <= 1 and array.size <= _MOST:
                known = self.data[value] = tuple(number(int(x)) for x in array.reshape(-1))
        return known

    def unknown(self, node: ir.Node) -> None:
        """Nothing is known of the node's results."""
        for value in node.outputs:
            self.dims.pop(value, None)
            self.data.pop(value, None)

    def node(self, node: ir.Node) -> None:
        """Find the sizes of the node's outputs."""
        standard = node.domain in ("", "ai.onnx")
        found = SHAPES[node.op_type](self, node) if standard and node.op_type in SHAPES else None
        if standard and node.op_type in ("Resize", "Upsample") and found is None:
            found = [self._resized(node)]
        guessed = None
        for i, value in enumerate(node.outputs):
            dims = found[i] if found is not None and i < len(found) else None
            if dims is None or any((d.atom or "").startswith("?") for d in dims):
                guessed = self._inferred(node) if guessed is None else guessed
                better = guessed[i] if i < len(guessed) else None
                dims = better if dims is None or better is None else _sharper(dims, better)
            if dims is not None:
                self.dims[value] = dims
        if standard and node.op_type in DATA and len(node.outputs) == 1:
            numbers = DATA[node.op_type](self, node)
            if numbers is not None and len(numbers) <= _MOST:
                self.data[node.outputs[0]] = numbers

    def _resized(self, node: ir.Node) -> Vector | None:
        """An axis whose scale is 1 keeps its size, whatever it is; sizes that are given are the result's."""
        x = node.inputs[0]
        dims = None if x is None else self.shape(x)
        held = node.attributes.get("axes")
        if dims is None:
            return None
        axes = range(len(dims)) if held is None else [a % len(dims) for a in held.as_ints()]
        last = node.inputs[3] if len(node.inputs) > 3 else None
        sizes = None if last is None else self.numbers(last)
        policy = node.attributes.get("keep_aspect_ratio_policy")
        if policy is not None and policy.value != "stretch":
            return None
        if sizes is not None and len(sizes) == len(axes):
            new = dict(zip(axes, sizes, strict=True))
            return tuple(new.get(i, d) for i, d in enumerate(dims))
        attribute = node.attributes.get("scales")
        slot = min(len(node.inputs) - 1, 2)
        value = node.inputs[slot] if slot > 0 else None
        array = list(attribute.as_floats()) if attribute is not None else None if value is None else fixed_array(value)
        if array is None or len(array) != len(axes):
            return None
        out = list(dims)
        for axis, scale in zip(axes, array, strict=True):
            size = dims[axis].number
            if scale != 1:
                name = node.outputs[0].name
                out[axis] = symbol(f"?{name}:{axis}") if size is None else number(int(size * float(scale)))
        return tuple(out)

    def _inferred(self, node: ir.Node) -> list[Vector | None]:
        """What ONNX's inference of the one node says of its outputs."""
        declared: list[Vector | None] = [
            None if v.shape is None else tuple(number(d) if isinstance(d, int) else symbol(f"?{v.name}:{i}")
                                               for i, d in enumerate(v.shape))
            for v in node.outputs
        ]  # fmt: skip
        if node.domain not in ("", "ai.onnx") or any(graphs_of(a) for a in node.attributes.values()):
            return declared
        names: dict[str, Poly] = {}
        types: dict[str, onnx.TypeProto] = {}
        data: dict[str, onnx.TensorProto] = {}
        proto = onnx.NodeProto(op_type=node.op_type)
        for i, value in enumerate(node.inputs):
            proto.input.append("" if value is None else f"i{i}")
            if value is None:
                continue
            dims = self.shape(value)
            if value.dtype is None or dims is None:
                return [None] * len(node.outputs)
            types[f"i{i}"] = onnx.helper.make_tensor_type_proto(value.dtype.value, [_said(d, names) for d in dims])
            array = fixed_array(value) if value.const_value is not None and value.const_value.size <= _MOST else None
            if array is not None:
                data[f"i{i}"] = onnx.numpy_helper.from_array(array)
        proto.output.extend(f"o{i}" if v.name else "" for i, v in enumerate(node.outputs))
        for attribute in node.attributes.values():
            ir.serde.serialize_attribute_into(proto.attribute.add(), attribute)
        try:
            schema = onnx.defs.get_schema(node.op_type, self._opset, "")
            found = onnx.shape_inference.infer_node_outputs(
                schema, proto, types, data, opset_imports=[onnx.helper.make_opsetid("", self._opset)],
                ir_version=CANONICAL_IR,
            )  # fmt: skip
        except (onnx.shape_inference.InferenceError, onnx.defs.SchemaError, ValueError, RuntimeError):
            return [None] * len(node.outputs)
        out: list[Vector | None] = []
        for i, value in enumerate(node.outputs):
            kind = found.get(f"o{i}")
            if kind is None or not kind.tensor_type.HasField("shape"):
                out.append(None)
                continue
            out.append(
                tuple(
                    number(d.dim_value)
                    if d.HasField("dim_value")
                    else names.get(d.dim_param, symbol(f"?{value.name}:{k}"))
                    for k, d in enumerate(kind.tensor_type.shape.dim)
                )
            )
        return out


def _said(size: Poly, names: dict[str, Poly]) -> int | str:
    if size.number is not None:
        return size.number
    name = f"s{len(names)}"
    for known, poly in names.items():
        if poly == size:
            return known
    names[name] = size
    return name


def _sharper(one: Vector, other: Vector) -> Vector:
    if len(one) != len(other):
        return one
    return tuple(b if (a.atom or "").startswith("?") else a for a, b in zip(one, other, strict=True))
