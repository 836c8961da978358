"""ONNX's messages: walks over them, and types with maps in them, which onnx_ir does not know."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx

from netferry.schemas.ir import ir
from netferry.schemas.metadata import proto_nodes


@dataclass
class Parts:
    """What a message consists of, found in one walk: several readers look at all of it, and each access costs."""

    graphs: list[onnx.GraphProto]
    nodes: list[onnx.NodeProto]
    attributes: list[onnx.AttributeProto]
    tensors: list[tuple[onnx.TensorProto, str]]
    """tensors that attributes hold, with the name of their node"""

    @classmethod
    def of(cls, proto: onnx.ModelProto) -> Parts:
        """Walk over a model, its subgraphs and functions."""
        found = cls([proto.graph], [], [], [])
        pending: list[onnx.GraphProto | onnx.FunctionProto] = [proto.graph, *proto.functions]
        while pending:
            for node in pending.pop().node:
                found.nodes.append(node)
                for attribute in node.attribute:
                    found.attributes.append(attribute)
                    if attribute.HasField("g"):
                        pending.append(attribute.g)
                        found.graphs.append(attribute.g)
                    if graphs := attribute.graphs:
                        pending.extend(graphs)
                        found.graphs.extend(graphs)
                    if attribute.HasField("t"):
                        found.tensors.append((attribute.t, node.name))
                    if tensors := attribute.tensors:
                        found.tensors.extend((tensor, node.name) for tensor in tensors)
        return found


def all_proto_graphs(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """The main graph and all subgraphs of a message, those in functions included."""
    yield proto.graph
    for node in proto_nodes(proto):
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield attribute.g
            yield from attribute.graphs


def has_map(kind: onnx.TypeProto) -> bool:
    """Whether a type is a map, or a sequence or optional of one."""
    held = kind.WhichOneof("value")
    if held in ("sequence_type", "optional_type"):
        return has_map(getattr(kind, held).elem_type)
    return held == "map_type"


def map_text(kind: onnx.TypeProto) -> str:
    """The type as the schemas write it: ``seq(map(string,tensor(float)))``."""
    held = kind.WhichOneof("value")
    if held == "map_type":
        key = onnx.TensorProto.DataType.Name(kind.map_type.key_type).lower()
        return f"map({key},{map_text(kind.map_type.value_type)})"
    if held in ("sequence_type", "optional_type"):
        return f"{'seq' if held == 'sequence_type' else 'optional'}({map_text(getattr(kind, held).elem_type)})"
    if held in ("tensor_type", "sparse_tensor_type"):
        return f"tensor({onnx.TensorProto.DataType.Name(getattr(kind, held).elem_type).lower()})"
    return "?"


def described(graph: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.ValueInfoProto]:
    """Every value of a graph that a message gives a type to."""
    if isinstance(graph, onnx.GraphProto):
        yield from graph.input
        yield from graph.output
    yield from graph.value_info


def to_model(proto: onnx.ModelProto) -> ir.Model:
    """Return the model of a message (of an inference, an optimizer); types with maps in them are left out of it."""
    graphs: list[onnx.GraphProto | onnx.FunctionProto] = [*all_proto_graphs(proto), *proto.functions]
    for graph in graphs:
        for value in described(graph):
            if has_map(value.type):
                value.ClearField("type")
    return ir.from_proto(proto)
