"""A model as ONNX's protobuf message, its big weights left out, netferry's facts in the metadata."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import onnx

from netferry.converters.onnx.maps import put_map_types_back
from netferry.converters.onnx.sparse import put_back
from netferry.converters.onnx.training import put_training_back
from netferry.converters.onnx.wire import BIG
from netferry.errors import InputError, MalformedFile
from netferry.schemas.ir import ir, own_errors
from netferry.schemas.layers import LAYER, LAYER_TYPE, ROLE, Role
from netferry.schemas.messages import all_proto_graphs
from netferry.schemas.metadata import (
    MODEL_KEYS,
    NAMES,
    NODE_METADATA_IR,
    all_graphs,
    all_nodes,
    model_metadata,
    names_entry,
    proto_nodes,
    roles_to_record,
)
from netferry.schemas.model import Model
from netferry.schemas.tensors import byte_size

_SHAPE_LIKE = 1 << 16
"""integer vectors up to this size stay inside: shape inference reads some of them"""


@dataclass
class Structure:
    """A model's message without its big weights.

    Attributes:
        proto: the message; a tensor left out claims to lie at ``location`` = ``token``, ``offset`` = its index.
        token: a file name that nothing else has.
        tensors: the tensors left out, by index.
        initializers: how many of them, from the first on, are initializers (the others belong to attributes).
    """

    proto: onnx.ModelProto
    token: str
    tensors: list[ir.TensorProtocol]
    initializers: int

    @property
    def sizes(self) -> list[int]:
        """Bytes of each tensor left out."""
        return [byte_size(t.dtype, t.shape.numpy()) for t in self.tensors]

    def copied(self) -> tuple[onnx.ModelProto, list[tuple[onnx.TensorProto, int]]]:
        """A copy of the message, and its initializers that were left out, each with its index."""
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        found: list[tuple[onnx.TensorProto, int]] = []
        for graph in all_proto_graphs(proto):
            for tensor in graph.initializer:
                entries = {e.key: e.value for e in tensor.external_data}
                if entries.get("location") == self.token:
                    found.append((tensor, int(entries["offset"])))
        return proto, found


def point(tensor: onnx.TensorProto, location: str, offset: int, length: int) -> None:
    """Let a tensor of a message have its values in a file."""
    del tensor.external_data[:]
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))


def structure_of(model: Model, *, ir_version: int, producer_version: str) -> Structure:
    """Return the message of ``model``; the model is as before when this returns.

    Raises:
        CheckFailed: the graph cannot be said in protobuf (a value without a name, a name that is not UTF-8).
    """
    token = f".netferry-{secrets.token_hex(16)}"
    roles = roles_to_record(list(all_graphs(model.ir)))
    with own_errors(), _weights_out(model.ir, token) as (tensors, initializers):
        before = model.ir.ir_version
        try:
            model.ir.ir_version = ir_version
            proto = ir.serde.serialize_model(model.ir)
        finally:
            model.ir.ir_version = before
    put_back(model.ir, proto)
    put_map_types_back(model.ir, proto)
    _leave_out(proto.graph, _idle_state(model))
    put_training_back(model, proto)
    proto.producer_name, proto.producer_version = "netferry", producer_version
    facts = model_metadata(model, producer_version)
    if ir_version < NODE_METADATA_IR:
        names = names_entry(proto, roles)
        facts |= {} if names is None else {NAMES: names}
    kept = {p.key: p.value for p in proto.metadata_props if p.key not in MODEL_KEYS}
    _set_metadata(proto, kept | facts)
    if ir_version < NODE_METADATA_IR:
        for node in proto_nodes(proto):
            _drop(node, LAYER, LAYER_TYPE)
    for graph in all_proto_graphs(proto):
        _tidy(graph, roles if ir_version >= NODE_METADATA_IR else {})
    return Structure(proto, token, tensors, initializers)


def _idle_state(model: Model) -> set[str]:
    """Names of a source's state that no node reads (how many values a Normalization has seen): it is counted in the
    model, but runtimes warn of initializers that nobody uses. What an ONNX file holds stays."""
    if model.source.format == "onnx":
        return set()
    return {
        name
        for name, value in model.graph.initializers.items()
        if value.metadata_props.get(ROLE) == Role.STATE.value and not value.uses() and not value.is_graph_output()
    }


def _leave_out(graph: onnx.GraphProto, names: set[str]) -> None:
    for values in (graph.initializer, graph.value_info):
        for i in reversed(range(len(values))):
            if values[i].name in names:
                del values[i]


@contextmanager
def _weights_out(model: ir.Model, token: str) -> Iterator[tuple[list[ir.TensorProtocol], int]]:
    """Swap big weights for stubs, and small ones that lie in files for their values, while the graph is serialised."""
    tensors: list[ir.TensorProtocol] = []
    undo: list[Callable[[], None]] = []

    def stand_in(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
        if _stays(tensor):
            return _in_memory(tensor) if isinstance(tensor, ir.ExternalTensor) else tensor
        tensors.append(tensor)
        return ir.ExternalTensor(
            token,
            offset=len(tensors) - 1,
            length=None,
            dtype=tensor.dtype,
            shape=ir.Shape(list(tensor.shape.numpy())),
            name=tensor.name or "",
            doc_string=tensor.doc_string,
            metadata_props=dict(tensor.metadata_props),
        )

    try:
        for graph in all_graphs(model):
            for value in graph.initializers.values():
                tensor = value.const_value
                if tensor is not None and (other := stand_in(tensor)) is not tensor:
                    undo.append(lambda value=value, tensor=tensor: setattr(value, "const_value", tensor))
                    value.const_value = other
        initializers = len(tensors)
        for node in all_nodes(model):
            for attribute in list(node.attributes.values()):
                if attribute.is_ref() or attribute.type not in (ir.AttributeType.TENSOR, ir.AttributeType.TENSORS):
                    continue
                many = attribute.type == ir.AttributeType.TENSORS
                old = list(attribute.as_tensors()) if many else [attribute.as_tensor()]
                new = [stand_in(t) for t in old]
                if any(a is not b for a, b in zip(old, new, strict=True)):
                    undo.append(lambda node=node, attribute=attribute: node.attributes.add(attribute))
                    node.attributes.add(
                        ir.Attr(attribute.name, attribute.type, new if many else new[0], attribute.doc_string)
                    )
        yield tensors, initializers
    finally:
        for step in undo:
            step()


def _stays(tensor: ir.TensorProtocol) -> bool:
    """Whether a tensor is written with the structure: small, a string, or a vector that may be a shape."""
    if tensor.dtype == ir.DataType.STRING:
        return True
    nbytes = byte_size(tensor.dtype, tensor.shape.numpy())
    if tensor.dtype in (ir.DataType.INT64, ir.DataType.INT32) and len(tensor.shape) <= 1:
        return nbytes <= _SHAPE_LIKE
    return nbytes < BIG


def _in_memory(tensor: ir.ExternalTensor) -> ir.TensorProtocol:
    """A small tensor that lies in a file, read; its message gets the bytes as they are."""
    nbytes = byte_size(tensor.dtype, tensor.shape.numpy())
    try:
        with open(tensor.path, "rb") as file:
            data = os.pread(file.fileno(), nbytes, tensor.offset or 0)
    except OSError as error:
        raise InputError(f"cannot be opened again: {error.strerror}", file=tensor.path, layer=tensor.name) from None
    if len(data) != nbytes:
        raise MalformedFile("the file became shorter since it was read", file=tensor.path, layer=tensor.name)
    proto = onnx.TensorProto(dims=tensor.shape.numpy(), data_type=tensor.dtype.value, raw_data=data)
    if tensor.name:
        proto.name = tensor.name
    if tensor.doc_string:
        proto.doc_string = tensor.doc_string
    for key, value in tensor.metadata_props.items():
        proto.metadata_props.add(key=key, value=value)
    return ir.serde.TensorProtoTensor(proto)


def _tidy(graph: onnx.GraphProto, roles: dict[str, str]) -> None:
    """Leave roles only where the use does not tell them, and no value_info that only repeats an initializer.

    onnx_ir describes each initializer a second time as a value, and repeats the metadata of tensors that came from
    a file: without this a file would grow with each pass.
    """
    for tensor in graph.initializer:
        props = {p.key: p.value for p in tensor.metadata_props if p.key != ROLE}
        if tensor.name in roles:
            props[ROLE] = roles[tensor.name]
        _set_metadata(tensor, props)
    held = {tensor.name for tensor in graph.initializer}
    for values in (graph.input, graph.output, graph.value_info):
        for value in values:
            _drop(value, ROLE)
    kept = [
        value
        for value in graph.value_info
        if value.name not in held or value.metadata_props or value.doc_string or value.type.denotation
    ]
    if len(kept) != len(graph.value_info):
        copies = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in kept]
        del graph.value_info[:]
        graph.value_info.extend(copies)


def _set_metadata(message: onnx.ModelProto | onnx.TensorProto, props: dict[str, str]) -> None:
    if not props and not message.metadata_props:
        return
    del message.metadata_props[:]
    for key in sorted(props):
        message.metadata_props.add(key=key, value=props[key])


def _drop(message: onnx.NodeProto | onnx.ValueInfoProto, *keys: str) -> None:
    for i in reversed(range(len(message.metadata_props))):
        if message.metadata_props[i].key in keys:
            del message.metadata_props[i]
