"""Recurrent layers of Darknet's text nets: rnn, gru, lstm.

Rules: rnn_layer.c, gru_layer.c and lstm_layer.c of pjreddie/darknet. Their parts are connected layers, each with its
own bias and perhaps its own batch normalisation; GRU and LSTM become ONNX's operators with the normalisation folded in,
rnn a Scan (its activation sits on each summand, which ONNX's RNN cannot say).

A sequence is (time, batch, features). Darknet keeps the state from one run to the next; here each run begins at 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from netferry.converters.darknet.layers.activation import activate
from netferry.converters.darknet.layers.convolution import transposed
from netferry.converters.darknet.layers.normalization import Normalisation, read_normalisation
from netferry.converters.darknet.registry import Layer, layer
from netferry.schemas.graph import Builder, shape_of
from netferry.schemas.ir import ir
from netferry.schemas.tensors import array_of, array_tensor, filler_of, uninitialised_tensor

_FLOAT = ir.DataType.FLOAT


@dataclass
class _Part:
    """One connected layer inside: outputs x inputs."""

    bias: ir.TensorProtocol
    weights: ir.TensorProtocol
    normalisation: Normalisation | None

    @property
    def known(self) -> bool:
        return filler_of(self.weights) is None

    def folded(self) -> tuple[np.ndarray, np.ndarray]:
        """Matrix and bias with the normalisation in them."""
        matrix, bias = array_of(self.weights), array_of(self.bias)
        assert matrix is not None
        assert bias is not None
        if self.normalisation is None:
            return matrix, bias
        scale, mean, variance = (
            np.asarray(array_of(t), np.float64)
            for t in (self.normalisation.scale, self.normalisation.mean, self.normalisation.variance)
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            factor = scale / (np.sqrt(variance) + 1e-6)
        return (matrix * factor[:, None]).astype(np.float32), (bias - mean * factor).astype(np.float32)


def _read(l: Layer, inputs: int, outputs: int, normalised: bool) -> _Part:
    l.check((outputs, inputs))
    bias = l.tensor("biases", (outputs,), default=0.0)
    weights = l.tensor("weights", (outputs, inputs), stored=transposed(l, inputs, outputs))
    return _Part(bias, weights, read_normalisation(l, outputs) if normalised else None)


@dataclass
class _Sequence:
    """The input of a recurrent layer as (time, batch, features), and the way back to the shape that came in."""

    x: ir.Value
    features: int
    back: Callable[[ir.Value, int], ir.Value]


def _sequence(b: Builder, l: Layer, x: ir.Value) -> _Sequence:
    features = l.features(x)
    l.note("assumed", "the state begins at 0 in every run; Darknet keeps it from one to the next")
    if len(shape_of(x)) == 3:
        return _Sequence(x, features, lambda y, _: y)
    steps = l.net.int("time_steps", 1, least=1)
    rank = len(shape_of(x))

    def back(y: ir.Value, size: int) -> ir.Value:
        shape = [-1, size, 1, 1] if rank == 4 else [-1, size]
        return b.op("Reshape", y, shape, types=[(_FLOAT, (shape_of(x)[0], *shape[1:]))])

    return _Sequence(b.reshape(x, [steps, -1, features]), features, back)


def _stacked(
    b: Builder, l: Layer, inputs: list[_Part], states: list[_Part], features: int, size: int
) -> tuple[ir.Value, ir.Value, ir.Value]:
    """W (1, gates * size, features), R (1, gates * size, size) and B (1, 2 * gates * size) of ONNX's operators."""
    rows = len(inputs) * size
    shapes = ((1, rows, features), (1, rows, size), (1, 2 * rows))
    if not all(p.known for p in (*inputs, *states)):
        fillers = ({"type": "msra", "fan_in": features}, {"type": "msra", "fan_in": size}, {"type": "constant"})
        w, r, bias = (uninitialised_tensor(s, filler=dict(f)) for s, f in zip(shapes, fillers, strict=True))
    else:
        if any(p.normalisation is not None for p in inputs):
            l.note("folded", "batch normalisation inside the gates became part of their matrices")
        first, second = [p.folded() for p in inputs], [p.folded() for p in states]
        w, r = (array_tensor(np.concatenate([m for m, _ in parts])[None]) for parts in (first, second))
        bias = array_tensor(np.concatenate([v for _, v in (*first, *second)])[None])
    return b.param("W", w), b.param("R", r), b.param("B", bias)


@layer("gru")
def gru(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """Gated recurrent unit; its candidate goes through the logistic function unless ``tanh=1``."""
    s = l.section
    size, normalised = s.int("output", 1, least=1), bool(s.int("batch_normalize", 0))
    sequence = _sequence(b, l, x)
    features = sequence.features
    order = (
        [(features, "in"), (size, "state")]
        if l.weights and l.weights.header.fork
        else [(size, "state"), (features, "in")]
    )
    parts = {kind: [_read(l, width, size, normalised) for _ in "zrh"] for width, kind in order}
    W, R, B = _stacked(b, l, parts["in"], parts["state"], features, size)
    candidate = "Tanh" if s.int("tanh", 0) else "Sigmoid"
    y, _ = b.op(
        "GRU", sequence.x, W, R, B,
        outputs=2, hidden_size=size, activations=["Sigmoid", candidate], linear_before_reset=0,
    )  # fmt: skip
    return sequence.back(b.op("Squeeze", y, b.const([1], "axes")), size)


@layer("lstm")
def lstm(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """Long short-term memory."""
    s = l.section
    size, normalised = s.int("output", 1, least=1), bool(s.int("batch_normalize", 0))
    sequence = _sequence(b, l, x)
    features = sequence.features
    gates = (
        "figo" if l.weights and l.weights.header.fork else "ifog"
    )  # the order in the file: w (state), then u (input)
    states = {gate: _read(l, size, size, normalised) for gate in gates}
    inputs = {gate: _read(l, features, size, normalised) for gate in gates}
    W, R, B = _stacked(b, l, [inputs[g] for g in "iofg"], [states[g] for g in "iofg"], features, size)
    y, _, _ = b.op("LSTM", sequence.x, W, R, B, outputs=3, hidden_size=size)
    return sequence.back(b.op("Squeeze", y, b.const([1], "axes")), size)


@layer("rnn")
def rnn(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """state = act(W x + b) + act(U state + c), plus the old state with ``shortcut``; output act(V state + d)."""
    s = l.section
    size, normalised = s.int("output", 1, least=1), bool(s.int("batch_normalize", 0))
    hidden, name = s.int("hidden", size, least=1), s.str("activation", "logistic")
    if s.int("logistic", 0):
        raise l.unsupported("logistic is not supported")
    sequence = _sequence(b, l, x)
    widths = ((sequence.features, hidden), (hidden, hidden), (hidden, size))
    outer, inner, last = (_read(l, width, height, normalised) for width, height in widths)
    N = shape_of(sequence.x)[1]
    driven = activate(b, l, _affine(b, l, "input", sequence.x, outer), name)
    body = b.subgraph(f"{b.layer_name}.step")
    before, now = body.input("state", [N, hidden]), body.input("driven", [N, hidden])
    kernel, bias = _matrix(b, l, "state", inner)
    after = body.op("Add", body.op("MatMul", before, kernel), bias)
    after = body.op("Add", now, activate(body, l, after, name))
    if s.int("shortcut", 0):
        after = body.op("Add", after, before)
    for value in (after, body.op("Identity", after)):
        body.output(value)
    body.finish()
    rows = b.op("Shape", sequence.x, start=1, end=2)
    zeros = b.op(
        "ConstantOfShape", b.op("Concat", rows, b.const([hidden], "size"), axis=0), types=[(_FLOAT, (N, hidden))]
    )
    _, states = b.op(
        "Scan", zeros, driven,
        outputs=2, types=[(_FLOAT, (N, hidden)), (_FLOAT, (shape_of(sequence.x)[0], N, hidden))],
        body=body.graph, num_scan_inputs=1,
    )  # fmt: skip
    return sequence.back(activate(b, l, _affine(b, l, "output", states, last), name), size)


def _matrix(b: Builder, l: Layer, name: str, part: _Part) -> tuple[ir.Value, ir.Value]:
    """The part's matrix (inputs x outputs) and bias, the normalisation folded in."""
    if not part.known:
        outputs, inputs = part.weights.shape.numpy()
        kernel = uninitialised_tensor((inputs, outputs), filler={"type": "msra", "fan_in": inputs})
        return b.param(f"{name}_weights", kernel), b.param(f"{name}_biases", part.bias)
    matrix, bias = part.folded()
    if part.normalisation is not None:
        l.note("folded", f"batch normalisation of its {name} part became part of the matrix")
    kernel = array_tensor(np.ascontiguousarray(matrix.T))
    return b.param(f"{name}_weights", kernel), b.param(f"{name}_biases", array_tensor(bias))


def _affine(b: Builder, l: Layer, name: str, x: ir.Value, part: _Part) -> ir.Value:
    kernel, bias = _matrix(b, l, name, part)
    return b.op("Add", b.op("MatMul", x, kernel), bias)
