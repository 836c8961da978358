"""Recurrent layers: LSTM and RNN over time-major sequences, and one step of an LSTM.

Rules: recurrent_layer.cpp, lstm_layer.cpp, rnn_layer.cpp and lstm_unit_layer.cpp of BVLC Caffe.

A second bottom ``cont`` (T x N) multiplies the state before each step: 0 begins a new sequence. ONNX's LSTM and RNN
cannot begin anew inside a sequence, so the recurrence is a Scan; what does not depend on the state stays outside.
Caffe keeps the state from one run to the next; here each run begins at 0, unless the state is exposed as a bottom.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from netferry.converters.caffe.params import Params
from netferry.converters.caffe.registry import Layer, NeedsFixedBatch, layer
from netferry.converters.caffe.windows import check_size
from netferry.errors import MalformedFile
from netferry.schemas.graph import Builder, Dim, shape_of
from netferry.schemas.ir import ir

_FLOAT = ir.DataType.FLOAT


@dataclass(frozen=True)
class _Setup:
    """Sizes and bottoms of a recurrent layer."""

    T: Dim
    N: Dim
    size: int
    x: ir.Value
    cont: ir.Value
    static: ir.Value | None
    states: tuple[ir.Value, ...]
    exposed: bool
    params: Params


def _setup(b: Builder, l: Layer, bottoms: Sequence[ir.Value], states: int) -> _Setup:
    p = l.param("recurrent_param")
    size, exposed = p.int("num_output", least=1), p.bool("expose_hidden", False)
    extra = states if exposed else 0
    if len(bottoms) not in (2 + extra, 3 + extra):
        raise MalformedFile(f"{l.type} takes {2 + extra} or {3 + extra} bottoms, not {len(bottoms)}", layer=l.name)
    x, cont, *others = bottoms
    static = others.pop(0) if len(others) > extra else None
    shape = shape_of(x)
    if len(shape) < 3:
        raise MalformedFile(
            f"a sequence has at least 3 axes (time, batch, values), this one {len(shape)}", layer=l.name
        )
    T, N = shape[:2]
    _expect(l, "cont", shape_of(cont), (T, N))
    check_size(l, (T, N, 4 * size))
    if static is not None:
        if len(shape_of(static)) < 2:
            raise MalformedFile("the static input has at least 2 axes (batch, values)", layer=l.name)
        _expect(l, "the static input", shape_of(static)[:1], (N,))
    for state in others:
        _expect(l, "a state", shape_of(state), (1, N, size))
    if exposed:
        first = [b.op("Squeeze", s, [0]) for s in others]
    else:
        l.note("assumed", "the state begins at 0 in every run; Caffe keeps it from one to the next")
        rows = b.op("Shape", x, start=1, end=2) if not isinstance(N, int) else b.const([N], "batch")
        zeros = b.op(
            "ConstantOfShape", b.op("Concat", rows, b.const([size], "size"), axis=0), types=[(_FLOAT, (N, size))]
        )
        first = [zeros] * states
    return _Setup(T, N, size, x, cont, static, tuple(first), exposed, p)


def _expect(l: Layer, what: str, have: Sequence[Dim], want: Sequence[Dim]) -> None:
    if tuple(have) == tuple(want):
        return
    if len(have) == len(want) and all(
        h == w or not (isinstance(h, int) and isinstance(w, int)) for h, w in zip(have, want, strict=True)
    ):
        raise NeedsFixedBatch(f"{what} of shape {tuple(have)} where {tuple(want)} is needed", layer=l.name)
    raise MalformedFile(f"{what} has shape {tuple(have)}, it should have {tuple(want)}", layer=l.name)


def _parameter(b: Builder, l: Layer, p: Params, name: str, index: int, shape: Sequence[int]) -> ir.Value:
    check_size(l, shape)
    bias = name.startswith("b")
    filler = p.filler("bias_filler" if bias else "weight_filler")
    unstored = 0.0 if bias or l.has_weights_file else None  # Caffe's default filler is the constant 0
    return l.weight(b, name, index, shape, filler=filler, default=unstored)


def _driven(b: Builder, l: Layer, s: _Setup, suffix: str, rows: int) -> tuple[ir.Value, int]:
    """What inputs add to the state's step, (T, N, rows), and the index of the first blob that is left."""
    x, values = s.x, math.prod(l.fixed(s.x, i, l.type) for i in range(2, len(shape_of(s.x))))
    weight = _parameter(b, l, s.params, f"W_x{suffix}", 0, (rows, values))
    bias = _parameter(b, l, s.params, f"b_{suffix}", 1, (rows,))
    if len(shape_of(x)) > 3:
        x = b.reshape(x, [0, 0, values])
    y = b.op("Add", b.op("MatMul", x, b.op("Transpose", weight, perm=[1, 0])), bias)
    if s.static is None:
        return y, 2
    static, values = s.static, math.prod(l.fixed(s.static, i, l.type) for i in range(1, len(shape_of(s.static))))
    weight = _parameter(b, l, s.params, f"W_x{suffix}_static", 2, (rows, values))
    if len(shape_of(static)) > 2:
        static = b.op("Flatten", static, axis=1)
    return b.op("Add", y, b.op("Gemm", static, weight, transB=1)), 3  # the same at each step


def _continued(b: Builder, s: _Setup) -> ir.Value:
    """``cont`` as (T, N, 1)."""
    return b.op("Unsqueeze", s.cont, [2])


@layer("LSTM")
def lstm(b: Builder, l: Layer, *bottoms: ir.Value) -> tuple[ir.Value, ...]:
    """Gates in the order input, forget, output, candidate; tops: the outputs, and where exposed the last h and c."""
    s = _setup(b, l, bottoms, 2)
    driven, index = _driven(b, l, s, "c", 4 * s.size)
    weight = _parameter(b, l, s.params, "W_hc", index, (4 * s.size, s.size))
    body = b.subgraph(f"{b.layer_name}.step")
    h0, c0 = (body.input(name, [s.N, s.size]) for name in ("h", "c"))
    gates, cont = body.input("gates", [s.N, 4 * s.size]), body.input("cont", [s.N, 1])
    kept = body.op("Mul", h0, cont)
    c1, h1 = _step(body, c0, body.op("Gemm", kept, weight, gates, transB=1), cont, s.size, axis=1)
    for value in (h1, c1, body.op("Identity", h1)):
        body.output(value)
    body.finish()
    state = (_FLOAT, (s.N, s.size))
    hT, cT, h = b.op(
        "Scan",
        *s.states,
        driven,
        _continued(b, s),
        outputs=3,
        types=[state, state, (_FLOAT, (s.T, s.N, s.size))],
        body=body.graph,
        num_scan_inputs=2,
    )
    if not s.exposed:
        return (h,)
    return h, b.op("Unsqueeze", hT, [0]), b.op("Unsqueeze", cT, [0])


def _step(b: Builder, c: ir.Value, gates: ir.Value, cont: ir.Value, size: int, axis: int) -> tuple[ir.Value, ir.Value]:
    """The next cell and output from the gates' inputs."""
    i, f, o, g = b.op("Split", gates, b.const([size] * 4, "gates"), outputs=4, axis=axis)
    kept = b.op("Mul", b.op("Mul", b.op("Sigmoid", f), cont), c)
    new = b.op("Add", kept, b.op("Mul", b.op("Sigmoid", i), b.op("Tanh", g)))
    return new, b.op("Mul", b.op("Sigmoid", o), b.op("Tanh", new))


@layer("LSTMUnit")
def lstm_unit(b: Builder, l: Layer, c: ir.Value, gates: ir.Value, cont: ir.Value) -> tuple[ir.Value, ...]:
    """One step: from cell (1, N, D), gates (1, N, 4 D) and cont (1, N) the next cell and the output."""
    shape = shape_of(c)
    if len(shape) != 3 or (isinstance(shape[0], int) and shape[0] != 1):
        raise MalformedFile(f"the cell has shape {shape}, it should have 1 x N x D", layer=l.name)
    size = l.fixed(c, 2, "LSTMUnit")
    _expect(l, "the gates' input", shape_of(gates), (*shape[:2], 4 * size))
    _expect(l, "cont", shape_of(cont), shape[:2])
    return _step(b, c, gates, b.op("Unsqueeze", cont, [2]), size, axis=2)


@layer("RNN")
def rnn(b: Builder, l: Layer, *bottoms: ir.Value) -> tuple[ir.Value, ...]:
    """h = tanh(W_hh h + W_xh x + b_h), o = tanh(W_ho h + b_o); tops: the outputs, and where exposed the last h."""
    s = _setup(b, l, bottoms, 1)
    driven, index = _driven(b, l, s, "h", s.size)
    weight = _parameter(b, l, s.params, "W_hh", index, (s.size, s.size))
    out = _parameter(b, l, s.params, "W_ho", index + 1, (s.size, s.size))
    bias = _parameter(b, l, s.params, "b_o", index + 2, (s.size,))
    body = b.subgraph(f"{b.layer_name}.step")
    h0 = body.input("h", [s.N, s.size])
    x, cont = body.input("driven", [s.N, s.size]), body.input("cont", [s.N, 1])
    h1 = body.op("Tanh", body.op("Gemm", body.op("Mul", h0, cont), weight, x, transB=1))
    for value in (h1, body.op("Identity", h1)):
        body.output(value)
    body.finish()
    hT, h = b.op(
        "Scan",
        *s.states,
        driven,
        _continued(b, s),
        outputs=2,
        types=[(_FLOAT, (s.N, s.size)), (_FLOAT, (s.T, s.N, s.size))],
        body=body.graph,
        num_scan_inputs=2,
    )
    y = b.op("Tanh", b.op("Add", b.op("MatMul", h, b.op("Transpose", out, perm=[1, 0])), bias))
    return (y, b.op("Unsqueeze", hT, [0])) if s.exposed else (y,)
