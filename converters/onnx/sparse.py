"""Sparse tensors, which onnx_ir does not know: kept beside the graph as they were and put back when it is written."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import onnx
import onnx.checker
import onnx.numpy_helper

from netferry.converters.onnx.structure_places import ir_node_places, ir_places, proto_node_places, proto_places
from netferry.errors import LimitExceeded, MalformedFile, UnsupportedError
from netferry.schemas.ir import ir
from netferry.schemas.layers import ROLE, Role
from netferry.schemas.tensors import SPARSE_KEPT, array_tensor
from netferry.schemas.walk import nodes_of

_INITIALIZERS, _ATTRIBUTES = "netferry.sparse_initializers", "netferry.sparse_attributes"
_SPARSE = (onnx.AttributeProto.SPARSE_TENSOR, onnx.AttributeProto.SPARSE_TENSORS)

_DENSE = 1 << 28
"""bytes of a sparse tensor written out"""

Kept = dict[tuple[int, ...], list[tuple[int, bytes]]]


def take_out(proto: onnx.ModelProto, attributes: Iterable[onnx.AttributeProto]) -> Kept:
    """Remove the sparse ones of the attributes of a message and return them by the place of their node."""
    kept: Kept = {}
    if not any(attribute.type in _SPARSE for attribute in attributes):
        return kept
    for place, node in proto_node_places(proto):
        for i in reversed(range(len(node.attribute))):
            if node.attribute[i].type in _SPARSE:
                kept.setdefault(place, []).append((i, node.attribute[i].SerializeToString()))
                del node.attribute[i]
    return kept


def keep(model: ir.Model, proto: onnx.ModelProto, graphs: Iterable[onnx.GraphProto], kept: Kept) -> int:
    """Hang the sparse tensors of ``proto`` on the graph and the nodes made from it; returns how many there are.

    A sparse initializer is a dense value for those who use it: it gets its type and shape.
    """
    count = 0
    if not kept and not any(graph.sparse_initializer for graph in graphs):
        return count
    for (_, message), (_, graph) in zip(proto_places(proto), ir_places(model), strict=True):
        if isinstance(message, onnx.GraphProto) and message.sparse_initializer and isinstance(graph, ir.Graph):
            graph.meta[_INITIALIZERS] = [t.SerializeToString() for t in message.sparse_initializer]
            model.graph.meta[SPARSE_KEPT] = True
            _declare(graph, {t.values.name: t for t in message.sparse_initializer})
            count += len(message.sparse_initializer)
    if kept:
        for place, node in ir_node_places(model):
            if place in kept:
                node.meta[_ATTRIBUTES] = kept[place]
                count += len(kept[place])
        model.graph.meta[SPARSE_KEPT] = True
    return count


def _declare(graph: ir.Graph, tensors: dict[str, onnx.SparseTensorProto]) -> None:
    """Give values that stand for sparse initializers their type and shape."""
    for node in nodes_of(graph):
        for value in node.inputs:
            if value is None or value.name not in tensors or value.producer() is not None or value.is_graph_input():
                continue
            tensor = tensors[value.name]
            value.type = ir.TensorType(ir.DataType(tensor.values.data_type))
            value.shape = ir.Shape(list(tensor.dims))


def put_back(model: ir.Model, proto: onnx.ModelProto) -> None:
    """Write what :func:`keep` kept into the message of the same model."""
    if not model.graph.meta.get(SPARSE_KEPT):
        return
    for (_, message), (_, graph) in zip(proto_places(proto), ir_places(model), strict=True):
        if isinstance(message, onnx.GraphProto):
            for data in graph.meta.get(_INITIALIZERS, ()):
                message.sparse_initializer.add().ParseFromString(data)
    for (_, message), (_, node) in zip(proto_node_places(proto), ir_node_places(model), strict=True):
        for i, data in reversed(node.meta.get(_ATTRIBUTES, ())):
            message.attribute.insert(i, onnx.AttributeProto.FromString(data))


def sparse_names(model: ir.Model) -> set[str]:
    """Names of the sparse initializers of all graphs."""
    if not model.graph.meta.get(SPARSE_KEPT):
        return set()
    kept = [data for _, graph in ir_places(model) for data in graph.meta.get(_INITIALIZERS, ())]
    return {onnx.SparseTensorProto.FromString(data).values.name for data in kept}


def make_functions_dense(proto: onnx.ModelProto) -> int:
    """Write out, in place, sparse constants of functions, which crash onnxruntime 1.31; returns how many there were.

    Raises:
        NetferryError: as :func:`written_out`.
    """
    count = 0
    for place, node in proto_node_places(proto) if proto.functions else ():
        if place[0] < 0:
            continue  # of the main graph
        for attribute in node.attribute:
            if attribute.name == "sparse_value" and attribute.HasField("sparse_tensor"):
                dense = onnx.numpy_helper.from_array(written_out(attribute.sparse_tensor))
                new = onnx.AttributeProto(name="value", type=onnx.AttributeProto.TENSOR, t=dense)
                new.doc_string = attribute.doc_string
                attribute.CopyFrom(new)
                count += 1
    return count


def make_dense(model: ir.Model) -> None:
    """Turn, in place, the sparse tensors that :func:`keep` kept into dense constants.

    Raises:
        NetferryError: as :func:`written_out`.
    """
    if not model.graph.meta.get(SPARSE_KEPT):
        return
    for _, graph in ir_places(model):
        if isinstance(graph, ir.Graph) and (kept := graph.meta.pop(_INITIALIZERS, None)):
            _register(graph, [onnx.SparseTensorProto.FromString(data) for data in kept])
    for _, node in ir_node_places(model):
        for _, data in node.meta.pop(_ATTRIBUTES, ()):
            attribute = onnx.AttributeProto.FromString(data)
            if attribute.name == "sparse_value":
                tensor = array_tensor(written_out(attribute.sparse_tensor), None)
                node.attributes.add(ir.AttrTensor("value", tensor))
    model.graph.meta[SPARSE_KEPT] = False


def _register(graph: ir.Graph, sparse: list[onnx.SparseTensorProto]) -> None:
    """Make initializers of what values stand for that nothing makes."""
    readers = [(node, i, v) for node in nodes_of(graph) for i, v in enumerate(node.inputs) if v is not None]
    for tensor in sparse:
        dense = array_tensor(written_out(tensor), tensor.values.name)
        value = ir.Value(
            name=tensor.values.name,
            type=ir.TensorType(dense.dtype),
            shape=ir.Shape(dense.shape.numpy()),
            const_value=dense,
            metadata_props={ROLE: Role.CONSTANT.value},
        )
        for node, i, old in readers:
            if (
                old.name == value.name
                and old.producer() is None
                and not old.is_graph_input()
                and not old.is_initializer()
            ):
                node.replace_input_with(i, value)
        for i, old in enumerate(graph.outputs):
            if old.name == value.name and old.producer() is None:
                graph.outputs[i] = value
        graph.register_initializer(value)


def written_out(sparse: onnx.SparseTensorProto) -> np.ndarray:
    """A sparse tensor's values in their places, zeros elsewhere.

    Raises:
        MalformedFile: it is not sound.
        LimitExceeded: it would be larger than 256 MB.
        UnsupportedError: its values lie in another file.
    """
    where = sparse.values.name or None
    if any(t.data_location == onnx.TensorProto.EXTERNAL for t in (sparse.values, sparse.indices)):
        raise UnsupportedError("a sparse tensor whose values lie in another file", layer=where)
    count = math.prod(sparse.dims)
    if count * 16 > _DENSE:
        raise LimitExceeded(f"a sparse tensor of shape {list(sparse.dims)}, where it has to be dense", layer=where)
    try:
        onnx.checker.check_sparse_tensor(sparse)
        values, at = onnx.numpy_helper.to_array(sparse.values), onnx.numpy_helper.to_array(sparse.indices)
        out = np.zeros(count, values.dtype)
        out[at if at.ndim == 1 else np.ravel_multi_index(tuple(at.T), tuple(sparse.dims))] = values
    except (onnx.checker.ValidationError, ValueError, IndexError, TypeError) as error:
        raise MalformedFile(
            f"a sparse tensor that is not sound: {' '.join(str(error).split())[:200]}", layer=where
        ) from None
    return out.reshape(tuple(sparse.dims))


def seen_dense(proto: onnx.ModelProto, location: str) -> onnx.ModelProto:
    """Return the message with its sparse tensors declared dense, their values at ``location``; itself without any.

    For those who use it a sparse tensor is a dense value; onnx's shape inference does not know that.
    """
    constants = [node for _, node in proto_node_places(proto) for a in node.attribute if a.name == "sparse_value"]
    graphs = [g for _, g in proto_places(proto) if isinstance(g, onnx.GraphProto) and g.sparse_initializer]
    if not graphs and not constants:
        return proto
    out = onnx.ModelProto()
    out.CopyFrom(proto)
    for _, graph in proto_places(out):
        if isinstance(graph, onnx.GraphProto):
            for tensor in graph.sparse_initializer:
                onnx.checker.check_sparse_tensor(tensor)
                graph.initializer.append(_dense(tensor, location))
            del graph.sparse_initializer[:]
    for _, node in proto_node_places(out):
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
