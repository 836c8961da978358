"""Steps written out as the body of a Scan: for what ONNX's recurrent operators cannot say."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from netferry.converters.keras.layer import Layer
from netferry.converters.keras.layers.activation import activate
from netferry.converters.keras.layers.recurrent_cells import Cell
from netferry.converters.keras.layers.recurrent_masks import Steps
from netferry.converters.keras.layers.recurrent_native import Ran
from netferry.converters.keras.layers.recurrent_weights import keras_bias, keras_matrix
from netferry.converters.keras.layout import KT
from netferry.schemas.graph import Builder, Dim, shape_of
from netferry.schemas.ir import ir

Step = Callable[[Builder, ir.Value, list[ir.Value]], list[ir.Value]]
"""(builder of the body, input of the step, states) -> new states, of which the first is the output."""


def scan(
    b: Builder,
    x: ir.Value,
    states: Sequence[ir.Value],
    mask: ir.Value | None,
    step: Step,
    *,
    backwards: bool,
    zeroed: bool,
) -> tuple[ir.Value, ir.Value, list[ir.Value]]:
    """Run ``step`` over axis 0 of ``x``; masked steps carry the states and repeat the output before (or give zeros).

    Args:
        x: (time, batch, …).
        states: initial states, (batch, …).
        mask: bool (time, batch, 1 …) with the rank of ``x``.

    Returns:
        The outputs in the order of the input, the last output, the final states.
    """
    body = b.subgraph(b.unique(f"{b.layer_name}.step"))
    carried = list(states)
    if mask is not None:
        # the output before the first step that counts is zero, whatever the states are
        carried.append(b.op("Mul", states[0], b.const(0.0, "zero")))
    inner = [body.input(f"{b.layer_name}.before", shape_of(v), v.dtype or ir.DataType.FLOAT) for v in carried]
    now = body.input(f"{b.layer_name}.now", shape_of(x)[1:])
    new = step(body, now, inner[: len(states)])
    out = new[0]
    if mask is not None:
        counts = body.input(f"{b.layer_name}.counts", shape_of(mask)[1:], ir.DataType.BOOL)
        out = body.op("Where", counts, out, body.const(0.0, "zero") if zeroed else inner[-1])
        new = [body.op("Where", counts, v, old) for v, old in zip(new, inner, strict=False)]
        new.append(out)
    for value in new:
        body.output(value)
    body.output(body.op("Identity", out))
    body.finish()
    scanned = [x] if mask is None else [x, mask]
    time: Dim = shape_of(x)[0]
    types = [(ir.DataType.FLOAT, shape_of(v)) for v in carried]
    types.append((ir.DataType.FLOAT, (time, *shape_of(carried[0]))))
    made = b.op(
        "Scan",
        *carried,
        *scanned,
        outputs=len(types),
        types=types,
        body=body.graph,
        num_scan_inputs=len(scanned),
        scan_input_directions=[1] * len(scanned) if backwards else None,
        scan_output_directions=[1] if backwards else None,
    )
    finals = list(made[: len(states)])
    return made[-1], made[len(states)] if mask is not None else finals[0], finals


def zeros(b: Builder, x: ir.Value, tail: Sequence[int]) -> ir.Value:
    """Zeros of shape (batch, *tail) for a sequence (time, batch, …)."""
    batch = shape_of(x)[1]
    if isinstance(batch, int):
        return b.const(np.zeros((batch, *tail), np.float32), "zeros")
    made = b.op("Expand", b.const(0.0, "zero"), b.op("Concat", b.op("Shape", x, start=1, end=2), list(tail), axis=0))
    made.shape = ir.Shape([batch, *tail])
    return made


def run_scan(
    b: Builder,
    l: Layer,
    cell: Cell,
    x: KT,
    steps: Steps | None,
    initial: Sequence[ir.Value] | None,
    *,
    backwards: bool,
    zeroed: bool,
    time_major: bool,
) -> Ran:
    """Run a cell whose activations no ONNX operator has."""
    order = (0, 1, 2) if time_major else (1, 0, 2)
    value = x.to(b, order)
    size = l.dim(x, -1, "the size of the last axis")
    step, bias = _STEPS[cell.kind](b, l, cell)
    projected = b.op("MatMul", value, keras_matrix(b, l, cell, False, size))
    if bias is not None:
        projected = b.op("Add", projected, bias)
    states = list(initial) if initial is not None else [zeros(b, value, [cell.units])] * cell.states
    outputs, last, finals = scan(
        b, projected, states, None if steps is None else steps.stepwise, step, backwards=backwards, zeroed=zeroed
    )
    return Ran(KT(outputs, order), last, finals)


def _apply(b: Builder, l: Layer, value: ir.Value, activation: object) -> ir.Value:
    return activate(b, l, KT.of(value), activation).value


def _lstm(b: Builder, l: Layer, cell: Cell) -> tuple[Step, ir.Value | None]:
    recurrent = keras_matrix(b, l, cell, True, cell.units)
    bias = keras_bias(b, l, cell) if cell.biased else None
    if bias is not None and cell.double_bias:
        bias = b.op("Add", *b.op("Split", bias, outputs=2, num_outputs=2, axis=0))

    def step(body: Builder, now: ir.Value, states: list[ir.Value]) -> list[ir.Value]:
        h, c = states
        gates = body.op("Add", now, body.op("MatMul", h, recurrent))
        i, f, g, o = body.op("Split", gates, outputs=4, num_outputs=4, axis=1)
        i, f, o = (_apply(body, l, v, cell.gate_activation) for v in (i, f, o))
        kept, fresh = body.op("Mul", f, c), body.op("Mul", i, _apply(body, l, g, cell.activation))
        memory = body.op("Add", kept, fresh)
        return [body.op("Mul", o, _apply(body, l, memory, cell.activation)), memory]

    return step, bias


def _gru(b: Builder, l: Layer, cell: Cell) -> tuple[Step, ir.Value | None]:
    recurrent = keras_matrix(b, l, cell, True, cell.units)
    bias = keras_bias(b, l, cell) if cell.biased else None
    second: ir.Value | None = None
    if bias is not None and cell.double_bias:
        bias, second = b.op("Split", bias, outputs=2, num_outputs=2, axis=0)
    sizes = b.const([2 * cell.units, cell.units], "sizes")
    gate_kernel, kernel = recurrent, recurrent
    if not cell.reset_after:
        gate_kernel, kernel = b.op("Split", recurrent, sizes, outputs=2, axis=1)

    def step(body: Builder, now: ir.Value, states: list[ir.Value]) -> list[ir.Value]:
        h = states[0]
        x_gates, x_new = body.op("Split", now, sizes, outputs=2, axis=1)
        inner = body.op("MatMul", h, gate_kernel)
        h_new: ir.Value | None = None
        if cell.reset_after:
            inner = inner if second is None else body.op("Add", inner, second)
            inner, h_new = body.op("Split", inner, sizes, outputs=2, axis=1)
        gates = _apply(body, l, body.op("Add", x_gates, inner), cell.gate_activation)
        z, r = body.op("Split", gates, outputs=2, num_outputs=2, axis=1)
        reset = body.op("MatMul", body.op("Mul", r, h), kernel) if h_new is None else body.op("Mul", r, h_new)
        new = _apply(body, l, body.op("Add", x_new, reset), cell.activation)
        return [body.op("Add", new, body.op("Mul", z, body.op("Sub", h, new)))]

    return step, bias


def _simple(b: Builder, l: Layer, cell: Cell) -> tuple[Step, ir.Value | None]:
    recurrent = keras_matrix(b, l, cell, True, cell.units)

    def step(body: Builder, now: ir.Value, states: list[ir.Value]) -> list[ir.Value]:
        return [_apply(body, l, body.op("Add", now, body.op("MatMul", states[0], recurrent)), cell.activation)]

    return step, keras_bias(b, l, cell) if cell.biased else None


_STEPS = {"LSTM": _lstm, "GRU": _gru, "RNN": _simple}
