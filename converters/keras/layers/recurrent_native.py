"""Recurrent cells as ONNX's LSTM, GRU and RNN nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from netferry.converters.keras.layer import Layer
from netferry.converters.keras.layers.recurrent_cells import Cell, onnx_activation
from netferry.converters.keras.layers.recurrent_masks import Steps
from netferry.converters.keras.layers.recurrent_weights import onnx_bias, onnx_matrix
from netferry.converters.keras.layout import KT
from netferry.schemas.graph import Builder
from netferry.schemas.ir import ir

_DEFAULT = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}


@dataclass
class Ran:
    """What one direction gives: outputs of all steps in the order of the input, the last one, the final states."""

    outputs: KT
    last: ir.Value
    states: list[ir.Value]


def sayable(l: Layer, cell: Cell) -> bool:
    """Whether ONNX's operator has the cell's activations."""
    names = [cell.activation] if cell.kind == "RNN" else [cell.activation, cell.gate_activation]
    return all(onnx_activation(name, l.generation) is not None for name in names)


def _activations(l: Layer, cells: Sequence[Cell]) -> dict[str, list[str] | list[float] | None]:
    found: list[tuple[str, float | None, float | None]] = []
    for cell in cells:
        main, gate = onnx_activation(cell.activation, l.generation), onnx_activation(cell.gate_activation, l.generation)
        assert main is not None
        parts = {"LSTM": [gate, main, main], "GRU": [gate, main], "RNN": [main]}[cell.kind]
        found += [p for p in parts if p is not None]
    names = [name for name, _, _ in found]
    if names == _DEFAULT[cells[0].kind] * len(cells):
        return {}
    alphas = [alpha for _, alpha, _ in found if alpha is not None]
    betas = [beta for _, _, beta in found if beta is not None]
    return {"activations": names, "activation_alpha": alphas or None, "activation_beta": betas or None}


def node(
    b: Builder,
    l: Layer,
    cells: Sequence[Cell],
    x: KT,
    steps: Steps | None,
    initial: Sequence[Sequence[ir.Value]] | None,
    *,
    backwards: bool = False,
    time_major: bool = False,
) -> tuple[ir.Value, ir.Value, ir.Value | None]:
    """One node of one direction, or of both for two cells; returns Y, Y_h and, for LSTM, Y_c.

    Args:
        initial: per direction the states, each (batch, units).
    """
    cell = cells[0]
    size = l.dim(x, -1, "the size of the last axis")
    value = steps.given(x) if steps is not None else x.to(b, (0, 1, 2) if time_major else (1, 0, 2))
    starts: list[ir.Value | None] = []
    for i in range(cell.states):
        parts = [b.op("Unsqueeze", d[i], b.const([0], "axes")) for d in initial or ()]
        starts.append(None if not parts else parts[0] if len(parts) == 1 else b.op("Concat", *parts, axis=0))
    w, r = onnx_matrix(b, l, cells, False, size), onnx_matrix(b, l, cells, True, cell.units)
    made = b.op(
        cell.kind,
        value,
        w,
        r,
        onnx_bias(b, l, cells),
        None if steps is None else steps.lengths,
        *starts,
        outputs=3 if cell.kind == "LSTM" else 2,
        hidden_size=cell.units,
        direction="bidirectional" if len(cells) == 2 else "reverse" if backwards else "forward",
        linear_before_reset=1 if cell.kind == "GRU" and cell.reset_after else None,
        **_activations(l, cells),
    )
    return made[0], made[1], made[2] if cell.kind == "LSTM" else None


def run_native(
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
    """Run one cell over a sequence by one node."""
    y, h, c = node(
        b, l, [cell], x, steps, None if initial is None else [initial], backwards=backwards, time_major=time_major
    )
    finals = [b.op("Squeeze", v, b.const([0], "axes")) for v in (h, c) if v is not None]
    sequence = b.op("Squeeze", y, b.const([1], "axes"))
    if steps is None:
        return Ran(KT(sequence, (0, 1, 2) if time_major else (1, 0, 2)), finals[0], finals)
    return Ran(
        steps.outputs(sequence, finals[0], backwards=backwards, zeroed=zeroed),
        steps.last(finals[0], backwards=backwards, zeroed=zeroed),
        [steps.state(v, None if initial is None else initial[i]) for i, v in enumerate(finals)],
    )
