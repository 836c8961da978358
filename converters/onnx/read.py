"""ONNX files to models: nothing but the file and its data files is opened, weights stay where they are until needed."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from netferry.converters.onnx.external import DataFiles
from netferry.converters.onnx.grouping import group
from netferry.converters.onnx.inputs import fix_shapes
from netferry.converters.onnx.maps import keep_map_types, take_map_types_out
from netferry.converters.onnx.mending import mend_message, mend_order
from netferry.converters.onnx.sound import check_declared, check_message
from netferry.converters.onnx.sparse import keep, sparse_names, take_out
from netferry.converters.onnx.torch_roles import take_torch_roles
from netferry.converters.onnx.training import keep_training
from netferry.converters.onnx.untyped import complete_types
from netferry.converters.onnx.wire import OnnxFile
from netferry.converters.options import ReadOptions
from netferry.errors import InputError, MalformedFile, NetferryError, UnsupportedError, UsageError, quoted
from netferry.schemas.ir import ir
from netferry.schemas.layers import sizes
from netferry.schemas.metadata import all_graphs, all_nodes, restore
from netferry.schemas.model import Model, Note, Source
from netferry.schemas.opening import missing
from netferry.schemas.tensors import byte_size, in_file, uninitialised_tensor


def read(path: Path, options: ReadOptions) -> Model:
    """Read an ONNX model.

    Weights of 1 KB and more are not read: the model's tensors are places in the file, or in its data files.

    Args:
        path: the ``.onnx`` file.
        options: ``batch``, ``input_shapes`` and ``limits`` concern this reader.

    Raises:
        InputError: the file or a data file cannot be opened.
        MalformedFile: truncated, damaged, ambiguous or contradictory.
        UnsafeFile: external data outside the model's folder.
        LimitExceeded: beyond ``options.limits``.
        UnsupportedError: a feature of ONNX that netferry cannot keep.
        UsageError: the options do not fit the model.
    """
    if options.weights is not None:
        raise UsageError("an ONNX model names its data files itself; no second file is needed", file=options.weights)
    given, path = path, Path(os.path.abspath(path))
    if not os.path.exists(path):
        raise missing(given)
    if not os.path.isfile(path):
        raise InputError("not a regular file", file=given)
    try:
        model = _read(path, options)
        fix_shapes(model, options)
    except NetferryError as error:
        raise error.at(file=given) from None
    return model


def _read(path: Path, options: ReadOptions) -> Model:
    token = f"netferry-{secrets.token_hex(16)}"
    apart: dict[int, tuple[int, int]] = {}
    with OnnxFile(path, options.limits) as file:
        structure = file.structure(token, apart)
    try:
        proto = onnx.ModelProto.FromString(structure)
    except DecodeError:
        raise MalformedFile("not an ONNX model, damaged, or nested too deeply for protobuf") from None
    except (UnicodeDecodeError, ValueError) as error:
        raise MalformedFile(f"not an ONNX model: {error}") from None
    del structure
    parts = check_message(proto, options.limits, {index: length for index, (_, length) in apart.items()})
    here = {proto.graph.initializer[index].name: offset for index, (offset, _) in apart.items()}
    complete_types(parts.attributes)
    notes = mend_message(proto, parts)
    sparse, maps = take_out(proto, parts.attributes), take_map_types_out(proto, parts.graphs)
    graph = _deserialized(proto)
    keep(graph, proto, parts.graphs, sparse)
    keep_map_types(graph, maps)
    check_declared(graph, sparse_names(graph))
    graphs = list(all_graphs(graph))
    notes += mend_order([*graphs, *graph.functions.values()])
    data = DataFiles(path)
    outside = any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor, _ in parts.tensors)
    del parts
    _place_weights(graphs, list(all_nodes(graph)) if outside else [], data, token, options)
    _place_main(graph.graph, here, str(path))
    keep_training(graph, proto, data)
    version = " ".join(part for part in (proto.producer_name, proto.producer_version) if part) or None
    model = Model(graph, source=Source("onnx", (str(path), *data.files), version), notes=notes)
    if graph.ir_version < 3 and not graph.opset_imports:
        graph.opset_imports[""] = 1
    if proto.ir_version > onnx.IR_VERSION:
        told = f"IR version {proto.ir_version} is newer than onnx {onnx.__version__} knows ({onnx.IR_VERSION})"
        model.notes.append(Note("warning", f"{told}: what it brought is left out"))
    restore(model)
    take_torch_roles(model)
    group(model)
    return model


def _deserialized(proto: onnx.ModelProto) -> ir.Model:
    try:
        return ir.serde.deserialize_model(proto)
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        text = quoted(" ".join(str(cause).split()) or type(cause).__name__)[1:-1]
        if isinstance(cause, NotImplementedError):
            raise UnsupportedError(f"uses something of ONNX that netferry cannot keep: {text}") from None
        raise MalformedFile(f"the graph is not sound: {text}") from None


def _place_main(graph: ir.Graph, offsets: Mapping[str, int], path: str) -> None:
    """Give initializers of the main graph whose values were left out, and found to fit, their places in the file."""
    for name, offset in offsets.items():
        value = graph.initializers[name]
        told = value.const_value
        assert isinstance(told, ir.serde.TensorProtoTensor)
        dtype, shape = told.dtype, told.shape  # each is made when it is asked for
        value.const_value = ir.ExternalTensor(
            *(path, offset, byte_size(dtype, sizes(shape)), dtype),
            shape=shape,
            name=name,
            doc_string=told.doc_string or None,
            metadata_props=dict(told.metadata_props) or None,
        )


def _place_weights(
    graphs: Sequence[ir.Graph], nodes: Sequence[ir.Node], data: DataFiles, token: str, options: ReadOptions
) -> None:
    """Turn tensors of graphs, and of attributes of nodes, that lie in files into checked places of these files.

    Where the architecture alone is wanted, those of a data file that is not there have no values.
    """

    def placed(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
        if not in_file(tensor):
            return tensor
        if tensor.location == token:
            return data.slice(tensor, str(data.path))
        try:
            return data.tensor(tensor)
        except InputError:
            if not options.no_weights:
                raise
            return uninitialised_tensor([int(d) for d in tensor.shape.numpy()], tensor.dtype)

    for graph in graphs:
        for value in graph.initializers.values():
            if value.const_value is not None:
                value.const_value = placed(value.const_value)
    for node in nodes:
        for attribute in list(node.attributes.values()):
            if attribute.is_ref():
                continue
            # as_tensor() asks whether the value obeys a protocol, member by member
            if attribute.type == ir.AttributeType.TENSOR and in_file(attribute.value):
                tensor = placed(attribute.value)
                node.attributes.add(ir.AttrTensor(attribute.name, tensor, attribute.doc_string))
            elif attribute.type == ir.AttributeType.TENSORS:
                tensors = [placed(t) for t in attribute.as_tensors()]
                node.attributes.add(ir.AttrTensors(attribute.name, tensors, attribute.doc_string))
