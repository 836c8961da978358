"""A new classifier on top of any layer of a network, with values drawn as the network's framework draws them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from netferry.errors import UsageError, quoted
from netferry.schemas.graph import Builder, shape_of
from netferry.schemas.head import Ending, find_row
from netferry.schemas.initialise import fill
from netferry.schemas.ir import ir
from netferry.schemas.layers import layer_of
from netferry.schemas.metadata import origin
from netferry.schemas.model import Model, Note
from netferry.schemas.surgery import InsertionBuilder, prune

TASKS = {"classes": "Softmax", "labels": "Sigmoid", "values": None}
"""activation at the end of a network for each task"""
_KERAS_WRITERS = ("keras", "tf2onnx", "tensorflow", "onnxmltools")


class Values:
    """Values of new learnables, as the framework of the source draws them."""

    def __init__(self, model: Model, seed: int) -> None:
        told = origin(model)
        version = str(told.get("version") or model.source.version or "").lower()
        self.seed, self.style = seed, "torch"
        if told.get("format") == "keras" or any(w in version for w in _KERAS_WRITERS):
            self.style = "keras"
        elif told.get("format") == "caffe":
            self.style = "caffe"

    def weight(self, name: str, shape: Sequence[int], fan_in: int, fan_out: int) -> np.ndarray:
        fans = {"fan_in": fan_in, "fan_out": fan_out}
        filler: dict[str, Any] = {
            "keras": {"type": "xavier", "variance_norm": "AVERAGE", **fans},  # glorot_uniform
            "caffe": {"type": "xavier", **fans},
            "torch": {"type": "uniform", "min": -(fan_in**-0.5), "max": fan_in**-0.5},  # kaiming_uniform(a=sqrt(5))
        }[self.style]
        return np.asarray(fill(filler, shape, name, self.seed), np.float32)

    def bias(self, name: str, shape: Sequence[int], fan_in: int) -> np.ndarray:
        if self.style != "torch":
            return np.zeros(shape, np.float32)
        return np.asarray(
            fill({"type": "uniform", "min": -(fan_in**-0.5), "max": fan_in**-0.5}, shape, name, self.seed)
        )


def put_head(
    model: Model, ending: Ending, at: str | None, kind: str, classes: int, task: str, hidden: int, values: Values
) -> ir.Value:
    """Put a new head on the value that layer ``at`` gives (by default what the classifier reads, or the output).

    All that no output needs any more goes, other outputs included. Returns the new output.
    """
    graph, name = model.graph, ending.output.name or "scores"
    if ending.classifier is None:  # the old name means features
        name = "scores" if TASKS[task] is None else "prob"
    x = _features(model, ending, at)
    told = ending.activation.op_type if ending.activation is not None else None
    activation = TASKS[task]
    if task == "classes" and ending.classifier is not None:
        activation = told if told in ("Softmax", "LogSoftmax") else None if told is None else "Softmax"
    for value in graph.outputs:
        if value is not x and value.name == name:
            value.name = None
    builder = InsertionBuilder(graph, before=None)
    graph.outputs.clear()
    made = _new_head(builder, x, kind, classes, hidden, values)
    if activation is not None:
        with builder.layer(_free(builder, "head/activation"), activation):
            made = builder.op(activation, made, axis=None if activation == "Sigmoid" else -1)
    graph.outputs.append(made)
    prune(graph)
    if name not in builder._taken or name not in _names(graph):
        made.name = name
    if ending.classifier is None and at is None:
        text = f"the network ends in features ({ending.why}): a {kind} head was put on top"
        model.notes.append(Note("assumed", text))
    return made


def _names(graph: ir.Graph) -> set[str]:
    values = [*graph.inputs, *graph.initializers.values(), *(v for n in graph.all_nodes() for v in n.outputs)]
    return {v.name or "" for v in values}


def _features(model: Model, ending: Ending, at: str | None) -> ir.Value:
    """The value that a new head reads."""
    if at is None:
        if ending.classifier is not None and ending.classifier.inputs[0] is not None:
            return ending.classifier.inputs[0]
        value = ending.output
    else:
        row = find_row(model, at)
        leaving = [v for v in row.outputs if v.dtype in (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE)]
        if len(leaving) != 1:
            raise UsageError(f"gives {len(leaving)} values of numbers, a head needs one", layer=at)
        value = leaving[0]
    while (node := value.producer()) is not None and node.op_type in ("Transpose", "Identity") and node.inputs[0]:
        if not _back_to_channels_first(node):
            break
        value = node.inputs[0]  # the layout that callers saw; features lie channels first in front of it
    return value


def _back_to_channels_first(node: ir.Node) -> bool:
    perm = node.attributes.get("perm")
    return node.op_type == "Identity" or (perm is not None and list(perm.value) in ([0, 2, 3, 1], [0, 2, 1]))


def _channel_axis(value: ir.Value) -> int:
    """Where the channels lie: behind the batch, or last behind a transposition or a product over the last axis."""
    node = value.producer()
    if node is None:
        return 1
    if node.op_type == "Transpose":
        return -1 if _back_to_channels_first(node) else 1
    if node.op_type in ("MatMul", "Gemm", "LSTM", "GRU", "LayerNormalization", "Gather"):
        return -1
    if node.op_type in ("Conv", "BatchNormalization", "MaxPool", "AveragePool", "ConvTranspose"):
        return 1
    if node.op_type == "Concat":
        return int(node.attributes["axis"].value)
    before = [v for v in node.inputs if v is not None and not v.is_initializer() and v.shape is not None]
    same = [v for v in before if len(v.shape or ()) == len(value.shape or ())]
    return _channel_axis(same[0]) if same else 1


def _new_head(b: InsertionBuilder, x: ir.Value, kind: str, classes: int, hidden: int, values: Values) -> ir.Value:
    if x.shape is None or len(x.shape) not in (2, 3, 4, 5):
        raise UsageError(f"the value {quoted(x.name or '')} of shape {x.shape} gives no features for a head")
    rank, axis = len(x.shape), _channel_axis(x)
    if rank > 2 and axis % rank != 1:
        with b.layer(_free(b, "head/channels_first"), "Transpose"):
            x = b.op("Transpose", x, perm=[0, rank - 1, *range(1, rank - 1)])
    width = shape_of(x)[1]
    if not isinstance(width, int):
        raise UsageError(f"the number of features of {quoted(x.name or '')} is not fixed ({x.shape})")
    if kind == "conv" and rank > 2:
        x = _weighted(b, "head", "Conv", x, width, classes, values, kernel=rank - 2)
        return _pooled(b, x)
    x = _pooled(b, x) if rank > 2 else x
    if kind == "mlp":
        x = _weighted(b, "head/hidden", "Gemm", x, width, hidden, values)
        with b.layer(_free(b, "head/relu"), "ReLU"):
            x = b.op("Relu", x)
        with b.layer(_free(b, "head/dropout"), "Dropout"):
            x = b.op("Dropout", x, b.const(0.5, "ratio"))
        width = hidden
    return _weighted(b, "head", "Gemm", x, width, classes, values)


def _pooled(b: Builder, x: ir.Value) -> ir.Value:
    """The mean over all places; one that is one place only is flattened."""
    with b.layer(_free(b, "head/pool"), "GlobalAveragePooling"):
        return b.op("Flatten", b.op("GlobalAveragePool", x), axis=1)


def _weighted(
    b: Builder, wanted: str, op: str, x: ir.Value, width: int, units: int, values: Values, kernel: int = 0
) -> ir.Value:
    name = _free(b, wanted)
    shape = (units, width, *([1] * kernel))
    with b.layer(name, "Convolution" if op == "Conv" else "Dense"):
        weight = b.param("weight", values.weight(f"{name}.weight", shape, width, units))
        bias = b.param("bias", values.bias(f"{name}.bias", (units,), width))
        settings: dict[str, Any] = {"kernel_shape": [1] * kernel} if op == "Conv" else {"transB": 1}
        return b.op(op, x, weight, bias, **settings)


def _free(b: Builder, wanted: str) -> str:
    """A layer name that no layer has."""
    taken = {layer_of(node)[0] for node in b.graph}
    name, i = wanted, 1
    while name in taken:
        i += 1
        name = f"{wanted}{i}"
    return name
