"""Types and shapes of single nodes, by ONNX's inference of their operators: a graph being built knows them all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx

from netferry.errors import MalformedFile, quoted
from netferry.schemas.ir import ir


class NodeInference:
    """Tells what a node gives, from what its inputs are; what it told itself it need not write down again.

    Args:
        opsets: the graph's opset per domain; read anew for each node.
        ir_version: the graph's IR version.
    """

    def __init__(self, opsets: Mapping[str, int], ir_version: int) -> None:
        self._opsets, self._ir_version = opsets, ir_version
        self._protos: dict[int, tuple[ir.Value, Any, onnx.TypeProto]] = {}

    def tell(self, node: ir.Node, layer: str = "") -> None:
        """Set types and shapes of the node's outputs.

        Args:
            node: a node of an operator of the graph's opsets.
            layer: named in errors.

        Raises:
            MalformedFile: the operands do not fit the operator.
        """
        if any(a.is_ref() for a in node.attributes.values()):
            return  # a function's own setting, known only where it is called
        opset = self._opsets.get(node.domain)
        if opset is None:
            raise AssertionError(f"{node.domain}.{node.op_type}: give types= for operators of other domains")
        schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
        types: dict[str, onnx.TypeProto] = {}
        data: dict[str, onnx.TensorProto] = {}
        proto = onnx.NodeProto(op_type=node.op_type, domain=node.domain)
        for i, value in enumerate(node.inputs):
            if value is None:
                proto.input.append("")
                continue
            proto.input.append(f"i{i}")
            types[f"i{i}"] = self._type_proto(value)
            tensor = value.const_value
            if tensor is not None and tensor.size <= 64 and isinstance(tensor, (ir.Tensor, ir.TensorProtoTensor)):
                data[f"i{i}"] = ir.serde.serialize_tensor(tensor)
        proto.output.extend(f"o{i}" for i in range(len(node.outputs)))
        for attribute in node.attributes.values():
            ir.serde.serialize_attribute_into(proto.attribute.add(), attribute)
        opsets = [onnx.helper.make_opsetid(d, v) for d, v in self._opsets.items()]
        try:
            inferred = onnx.shape_inference.infer_node_outputs(
                schema, proto, types, data, opset_imports=opsets, ir_version=self._ir_version
            )
        except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, ValueError, LookupError) as error:
            shapes = ", ".join(str(v.shape) for v in node.inputs if v is not None)
            detail = " ".join(str(error).split())
            raise MalformedFile(
                f"{node.op_type} does not accept shapes {shapes} ({quoted(detail)[1:-1]})", layer=layer
            ) from None
        for i, value in enumerate(node.outputs):
            proto_type = inferred.get(f"o{i}")
            if proto_type is not None:
                typed = ir.serde.deserialize_type_proto_for_type(proto_type)
                value.type, value.shape = typed, ir.serde.deserialize_type_proto_for_shape(proto_type)
                self._protos[id(value)] = value, (value.type, value.shape), proto_type

    def _type_proto(self, value: ir.Value) -> onnx.TypeProto:
        """Type and shape of a value as inference said them, unless they were changed since."""
        found = self._protos.get(id(value))
        if found is not None and found[1][0] is value.type and found[1][1] is value.shape:
            return found[2]
        return _type_proto(value)


def _type_proto(value: ir.Value) -> onnx.TypeProto:
    proto = onnx.TypeProto()
    if value.type is not None and value.dtype != ir.DataType.UNDEFINED:  # for which inference fails
        ir.serde.serialize_type_into(proto, value.type)
        if value.shape is not None:
            ir.serde.serialize_shape_into(proto, value.shape)
    return proto
