"""The part of an ONNX file that computes some layers, made in memory; the weights stay in the file.

Layers are found by the source's names, as the file's metadata tells them, by value names, or by a name's beginning.
"""

from __future__ import annotations

import difflib
import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from netferry.converters.onnx.external import DataFiles
from netferry.converters.onnx.sound import check_message
from netferry.converters.onnx.source_order import Tap, in_source_order, lies_of, names_of
from netferry.converters.onnx.wire import OnnxFile
from netferry.converters.options import Limits
from netferry.errors import InputError, MalformedFile, NetferryError, UsageError, quoted
from netferry.schemas.layers import LAYER, LAYER_TYPE
from netferry.schemas.opening import missing

_CHANNELS_LAST = {
    "MatMul", "Gemm", "LayerNormalization", "RMSNormalization", "Attention", "MultiHeadAttention", "Gather", "Einsum",
}  # fmt: skip
_CHANNELS_FIRST = {"Conv", "ConvTranspose", "MaxPool", "AveragePool", "BatchNormalization", "InstanceNormalization"}
_BEHIND_SCORES = {
    "Softmax", "LogSoftmax", "Sigmoid", "Identity", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Cast",
}  # fmt: skip


@dataclass(frozen=True)
class Cut:
    """A model whose outputs are the tapped values.

    Attributes:
        model: the model, its big weights external data in files of ``folder``.
        taps: one for each name that was asked for, in that order.
        nodes, of_nodes: how many nodes are left, of how many.
    """

    model: bytes
    folder: Path
    taps: tuple[Tap, ...]
    nodes: int
    of_nodes: int

    def whole(self) -> bytes:
        """Return the model with its weights inside (to be sent elsewhere)."""
        proto = onnx.ModelProto.FromString(self.model)
        onnx.load_external_data_for_model(proto, os.fspath(self.folder))
        for tensor in proto.graph.initializer:
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
        return proto.SerializeToString()


def cut(path: Path, layers: Sequence[str], limits: Limits | None = None) -> Cut:
    """Return the part of a model that computes ``layers``.

    A name is that of a layer (the value that leaves it), else of a value, else the beginning of layer names (``fire9``
    for ``fire9/concat``): then the last such layer counts.

    Raises:
        InputError: the file cannot be opened.
        MalformedFile, UnsafeFile, LimitExceeded: as :func:`netferry.converters.onnx.read.read`.
        UsageError: no such layer; the nearest names are told.
    """
    path = _real(path)
    try:
        proto = _structure(path, limits or Limits())
        graph = proto.graph
        names = _layer_names(proto)
        taps = tuple(_tap(name, graph, names) for name in layers)
        total = len(graph.node)
        lies = {tap.value: lies_of(proto, tap.value) for tap in taps}
        _keep(graph, [tap.value for tap in taps])
        taps = tuple(in_source_order(graph, tap, lies[tap.value]) for tap in taps)
    except NetferryError as error:
        raise error.at(file=path) from None
    return Cut(proto.SerializeToString(), path.parent, taps, len(graph.node), total)


def _real(path: Path) -> Path:
    """The file behind a link: neither onnx nor onnxruntime reads weights of a file through one.

    Where weights lie in further files, these are beside the link.
    """
    here, real = Path(os.path.abspath(path)), Path(os.path.realpath(path))
    return real if here != real and not list(here.parent.glob(f"{glob.escape(here.name)}?*data")) else here


def last_feature_layer(path: Path, limits: Limits | None = None) -> str:
    """Return the layer in front of the softmax that gives the first output, else the layer that gives it.

    What only moves elements between the two is gone over.
    """
    path = Path(os.path.abspath(path))
    try:
        proto = _structure(path, limits or Limits())
    except NetferryError as error:
        raise error.at(file=path) from None
    graph, names = proto.graph, _layer_names(proto)
    made = {value: number for number, node in enumerate(graph.node) for value in node.output if value}
    number = made.get(graph.output[0].name) if graph.output else None
    if number is None:
        raise UsageError("the network computes nothing", file=path)
    while graph.node[number].op_type in _BEHIND_SCORES and graph.node[number].input[0] in made:
        number = made[graph.node[number].input[0]]
    return names[number][0]


def _structure(path: Path, limits: Limits) -> onnx.ModelProto:
    if not os.path.isfile(path):
        raise InputError("not a regular file") if os.path.exists(path) else missing(path)
    with OnnxFile(path, limits) as file:
        structure = file.structure(path.name)
    try:
        proto = onnx.ModelProto.FromString(structure)
    except (DecodeError, UnicodeDecodeError, ValueError):
        raise MalformedFile("not an ONNX model, or damaged") from None
    check_message(proto, limits)
    data = DataFiles(path)
    for tensor in proto.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            location = next((e.value for e in tensor.external_data if e.key == "location"), "")
            data.resolve(location, tensor.name)
    return proto


def _layer_names(proto: onnx.ModelProto) -> list[tuple[str, str]]:
    """(layer, type) of each node of the main graph; a node without a stamp is a layer of its own."""
    stamped = names_of(proto, "layers")
    found: list[tuple[str, str]] = []
    for node in proto.graph.node:
        props = {p.key: p.value for p in node.metadata_props}
        pair = stamped.get(node.name)
        if LAYER not in props and isinstance(pair, list) and len(pair) == 2 and all(isinstance(t, str) for t in pair):
            props = {LAYER: pair[0], LAYER_TYPE: pair[1]}
        name = props.get(LAYER) or node.name or next((v for v in node.output if v), "")
        found.append((name, props.get(LAYER_TYPE) or node.op_type))
    return found


def _tap(asked: str, graph: onnx.GraphProto, names: Sequence[tuple[str, str]]) -> Tap:
    """What a name means."""
    held = {t.name for t in graph.initializer}
    inputs = {v.name for v in graph.input} - held
    last = {name: number for number, (name, _) in enumerate(names)}
    made = {value: number for number, node in enumerate(graph.node) for value in node.output if value}
    if asked in last:
        return _leaving(asked, asked, graph, names)
    if asked in made:
        name, kind = names[made[asked]]
        return Tap(asked, name, kind, asked, _channels_last(graph, made[asked], made))
    if asked in inputs:
        return Tap(asked, asked, "Input", asked)
    begins = [name for name in last if name.startswith(asked) and name[len(asked) : len(asked) + 1] in "/._-:"]
    if begins and asked:
        return _leaving(asked, max(begins, key=last.__getitem__), graph, names)
    near = difflib.get_close_matches(asked, [*last, *made], 5, 0.5)
    raise UsageError(
        f"no layer {quoted(asked)}" + (f"; near it are {', '.join(quoted(n) for n in near)}" if near else ""),
        hint="netferry inspect MODEL lists the layers",
    )


def _leaving(asked: str, layer: str, graph: onnx.GraphProto, names: Sequence[tuple[str, str]]) -> Tap:
    """The value that leaves a layer: its last one that another layer reads or that is an output, else its last."""
    own = [number for number, (name, _) in enumerate(names) if name == layer]
    made = {value: number for number, node in enumerate(graph.node) for value in node.output if value}
    read = {v.name for v in graph.output}
    for number, node in enumerate(graph.node):
        if names[number][0] != layer:
            read.update(_reads(node))
    leaving = [v for number in own for v in graph.node[number].output if v and v in read]
    # of several, the first of the last node: an LSTM's sequence, not its states
    last = max((made[v] for v in leaving), default=own[-1])
    value = next(v for v in graph.node[last].output if v and (v in read or not leaving))
    return Tap(asked, layer, names[last][1], value, _channels_last(graph, last, made))


def _channels_last(graph: onnx.GraphProto, number: int, made: dict[str, int]) -> bool:
    """Whether a value of rank 3 has its channels last: upstream, a matrix product is nearer than a convolution."""
    for _ in range(50):
        node = graph.node[number]
        if node.op_type in _CHANNELS_LAST:
            return True
        before = [made[v] for v in node.input if v in made]
        if node.op_type in _CHANNELS_FIRST or not before:
            return False
        number = max(before)
    return False


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """Names that a node reads, those that its subgraphs take from outside included."""
    yield from (v for v in node.input if v)
    for attribute in node.attribute:
        for graph in [attribute.g] if attribute.HasField("g") else attribute.graphs:
            inside = {v.name for v in graph.input} | {t.name for t in graph.initializer}
            for inner in graph.node:
                yield from (v for v in _reads(inner) if v not in inside)
                inside.update(inner.output)
            yield from (v.name for v in graph.output if v.name not in inside)


def _keep(graph: onnx.GraphProto, values: Sequence[str]) -> None:
    """Leave what the values need, and make them the outputs."""
    needed, kept = set(values), []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(_reads(node))
    types = {v.name: v for v in (*graph.value_info, *graph.output)}
    outputs = [types.get(name) or onnx.ValueInfoProto(name=name) for name in dict.fromkeys(values)]
    inputs = [v for v in graph.input if v.name in needed]
    held = {t.name for t in graph.initializer}
    if not any(v.name not in held for v in inputs):
        raise UsageError("the layers read no input of the network")
    for field, wanted in (
        ("node", reversed(kept)),
        ("output", outputs),
        ("input", inputs),
        ("initializer", [t for t in graph.initializer if t.name in needed]),
        ("sparse_initializer", [t for t in graph.sparse_initializer if t.values.name in needed]),
        ("value_info", [v for v in graph.value_info if v.name in needed and v.name not in values]),
        ("quantization_annotation", [a for a in graph.quantization_annotation if a.tensor_name in needed]),
    ):
        copies = [type(m).FromString(m.SerializeToString()) for m in wanted]
        graph.ClearField(field)
        getattr(graph, field).extend(copies)
    for name in set(values) & {v.name for v in inputs}:  # an input is no output: it goes through a node
        graph.node.append(onnx.helper.make_node("Identity", [name], [f"{name}@output"]))
        for output in graph.output:
            if output.name == name:
                source = next(v for v in graph.input if v.name == name)
                output.CopyFrom(source)
                output.name = f"{name}@output"
