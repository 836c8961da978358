"""Sparse tensors, which onnx_ir does not know: kept beside the graph as they were and put back when it is written."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import onnx.checker

from netferry.errors import UnsupportedError, quoted
from netferry.schemas.ir import ir

_INITIALIZERS, _ATTRIBUTES, _WHERE = "netferry.sparse_initializers", "netferry.sparse_attributes", "netferry.sparse_at"
_SPARSE = (onnx.AttributeProto.SPARSE_TENSOR, onnx.AttributeProto.SPARSE_TENSORS)

Kept = dict[tuple[int, ...], list[tuple[int, bytes]]]


def take_out(proto: onnx.ModelProto) -> Kept:
    """Remove the sparse attributes from a message and return them by the place of their node."""
    kept: Kept = {}
    for place, node in _nodes(proto):
        for i in reversed(range(len(node.attribute))):
            if node.attribute[i].type in _SPARSE:
                kept.setdefault(place, []).append((i, node.attribute[i].SerializeToString()))
                del node.attribute[i]
    return kept


def keep(model: ir.Model, proto: onnx.ModelProto, kept: Kept) -> int:
    """Hang the sparse tensors of ``proto`` on the graph and the nodes made from it; returns how many there are.

    A sparse initializer is a dense value for those who use it: it gets its type and shape.
    """
    count = 0
    if proto.graph.sparse_initializer:
        model.graph.meta[_INITIALIZERS] = [t.SerializeToString() for t in proto.graph.sparse_initializer]
        shapes = {t.values.name: t for t in proto.graph.sparse_initializer}
        for node in model.graph.all_nodes():
            for value in node.inputs:
                if (
                    value is not None
                    and value.name in shapes
                    and value.producer() is None
                    and not value.is_graph_input()
                ):
                    tensor = shapes[value.name]
                    value.type = ir.TensorType(ir.DataType(tensor.values.data_type))
                    value.shape = ir.Shape(list(tensor.dims))
        count += len(shapes)
    if kept:
        for place, node in _ir_nodes(model):
            if place in kept:
                node.meta[_ATTRIBUTES] = kept[place]
                count += len(kept[place])
        model.graph.meta[_WHERE] = True
    return count


def put_back(model: ir.Model, proto: onnx.ModelProto) -> None:
    """Write what :func:`keep` kept into the message of the same model."""
    for data in model.graph.meta.get(_INITIALIZERS, ()):
        proto.graph.sparse_initializer.add().ParseFromString(data)
    if not model.graph.meta.get(_WHERE):
        return
    for (_, message), (_, node) in zip(_nodes(proto), _ir_nodes(model), strict=True):
        for i, data in reversed(node.meta.get(_ATTRIBUTES, ())):
            message.attribute.insert(i, onnx.AttributeProto.FromString(data))


def sparse_names(model: ir.Model) -> set[str]:
    """Names of the sparse initializers of the main graph."""
    kept = model.graph.meta.get(_INITIALIZERS, ())
    return {onnx.SparseTensorProto.FromString(data).values.name for data in kept}


def refuse_nested(graph: onnx.GraphProto) -> None:
    """Raise :class:`UnsupportedError` for sparse initializers of a subgraph: they would be lost in silence."""
    if graph.sparse_initializer:
        raise UnsupportedError(f"subgraph {quoted(graph.name)} has sparse initializers, which netferry cannot keep")


def seen_dense(proto: onnx.ModelProto, location: str) -> onnx.ModelProto:
    """Return the message with its sparse tensors declared dense, their values at ``location``; itself without any.

    For those who use it a sparse tensor is a dense value; onnx's shape inference does not know that.
    """
    constants = [node for _, node in _nodes(proto) for a in node.attribute if a.name == "sparse_value"]
    if not proto.graph.sparse_initializer and not constants:
        return proto
    out = onnx.ModelProto()
    out.CopyFrom(proto)
    for tensor in out.graph.sparse_initializer:
        onnx.checker.check_sparse_tensor(tensor)
        out.graph.initializer.append(_dense(tensor, location))
    del out.graph.sparse_initializer[:]
    for _, node in _nodes(out):
        for attribute in node.attribute:
            if attribute.name == "sparse_value" and attribute.HasField("sparse_tensor"):
                onnx.checker.check_sparse_tensor(attribute.sparse_tensor)
                attribute.t.CopyFrom(_dense(attribute.sparse_tensor, location))
                attribute.name, attribute.type = "value", onnx.AttributeProto.TENSOR
                attribute.ClearField("sparse_tensor")
    return out


def _dense(tensor: onnx.SparseTensorProto, location: str) -> onnx.TensorProto:
    out = onnx.TensorProto(name=tensor.values.name, dims=tensor.dims, data_type=tensor.values.data_type)
    out.data_location = onnx.TensorProto.EXTERNAL
    out.external_data.add(key="location", value=location)
    return out


def _nodes(proto: onnx.ModelProto) -> Iterator[tuple[tuple[int, ...], onnx.NodeProto]]:
    """Nodes with their place (position in each graph around), outer ones first; the same order as _ir_nodes."""
    graphs: list[tuple[tuple[int, ...], onnx.GraphProto | onnx.FunctionProto]] = [((-1,), proto.graph)]
    graphs += [((i,), function) for i, function in enumerate(proto.functions)]
    while graphs:
        at, graph = graphs.pop()
        for i, node in enumerate(graph.node):
            yield (*at, i), node
            inner = [g for a in node.attribute for g in ([a.g] if a.HasField("g") else a.graphs)]
            graphs += [((*at, i, k), g) for k, g in enumerate(inner)]


def _ir_nodes(model: ir.Model) -> Iterator[tuple[tuple[int, ...], ir.Node]]:
    graphs: list[tuple[tuple[int, ...], ir.Graph | ir.Function]] = [((-1,), model.graph)]
    graphs += [((i,), function) for i, function in enumerate(model.functions.values())]
    while graphs:
        at, graph = graphs.pop()
        for i, node in enumerate(graph):
            yield (*at, i), node
            inner: list[ir.Graph] = []
            for a in node.attributes.values():
                if a.is_ref():
                    continue
                if a.type == ir.AttributeType.GRAPH:
                    inner.append(a.as_graph())
                elif a.type == ir.AttributeType.GRAPHS:
                    inner.extend(a.as_graphs())
            graphs += [((*at, i, k), g) for k, g in enumerate(inner)]
