"""LSTM, GRU, SimpleRNN, their cuDNN forms and RNN around cells: what happens around the cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from netferry.converters.keras.arguments import flattened
from netferry.converters.keras.layer import Layer
from netferry.converters.keras.layers.recurrent_cells import Cell, cells_of, layer_slots
from netferry.converters.keras.layers.recurrent_masks import Steps, mask_of
from netferry.converters.keras.layers.recurrent_native import Ran, run_native, sayable
from netferry.converters.keras.layers.recurrent_scan import run_scan
from netferry.converters.keras.layers.scaling import as_float
from netferry.converters.keras.layout import KT, Mask, Order
from netferry.converters.keras.registry import layer
from netferry.errors import MalformedFile, UnsupportedOption
from netferry.schemas.graph import Builder, Dim
from netferry.schemas.ir import ir

BACKWARDS_IN_PLACE = "netferry_in_place"
"""Argument by which Bidirectional asks for outputs in the order of the input, though the layer goes backwards."""
_END = -(2**63) + 1


@layer("LSTM", "GRU", "SimpleRNN", "CuDNNLSTM", "CuDNNGRU", "RNN", weights=layer_slots, mask="own")
def recurrent(b: Builder, l: Layer, x: KT, *given: KT) -> KT | tuple[KT, ...]:
    """A node per cell; stacked cells follow each other. Masked steps: see recurrent_masks."""
    cells = cells_of(l.type, l.config, l.generation, "")
    x = as_float(b, x)
    l.rank(x, 3)
    time_major = l.config.flag("time_major", False)
    backwards, zeroed = l.config.flag("go_backwards", False), l.config.flag("zero_output_for_mask", False)
    mask = mask_of(l, x)
    steps = steps_of(b, l, mask, time_major=time_major)
    sizes = [[cell.units] for cell in cells for _ in range(cell.states)]
    batch = x.shape[1 if time_major else 0]
    initial, carry = starts(b, l, given, sizes, batch)
    ran = [Ran(x, x.value, [])]
    for i, cell in enumerate(cells):
        before = sum(c.states for c in cells[:i])
        own = None if initial is None else initial[before : before + cell.states]
        run = run_native if sayable(l, cell) else run_scan
        ran.append(
            run(b, l, cell, ran[-1].outputs, steps, own, backwards=backwards, zeroed=zeroed, time_major=time_major)
        )
    finals = [state for r in ran[1:] for state in r.states]
    carry(finals)
    return finish(b, l, ran[-1], finals, mask or x.mask, time_axis=0 if time_major else 1, backwards=backwards)


def steps_of(b: Builder, l: Layer, mask: Mask | None, *, time_major: bool = False) -> Steps | None:
    """Prepare a mask for recurrent operators, and report how it is dealt with."""
    if mask is None:
        return None
    padded = mask.right_padded or l.facts.options.right_padded_masks
    if l.facts.options.right_padded_masks and not mask.right_padded:
        l.note("assumed", "masked steps are the last ones of each sequence (right_padded_masks)")
    elif not padded:
        l.note(
            "assumed",
            "steps may be masked anywhere: those that count are moved to the front and back again "
            "(right_padded_masks saves this where masked steps are always the last)",
        )
    return Steps(b, mask, padded=padded, time_major=time_major)


def starts(
    b: Builder, l: Layer, given: Sequence[KT], sizes: Sequence[Sequence[Dim]], batch: Dim, order: Order | None = None
) -> tuple[list[ir.Value] | None, Any]:
    """Initial states, in the layer's order, and a function that takes the final ones.

    A stateful layer's states come in as inputs of the graph and leave as outputs, for the next call.

    Args:
        given: states that stand with the input in a list (Keras 2).
        sizes: shape of each state without the batch.
        order: in which order the axes of each are wanted; Keras's own by default.
    """
    states = [v for v in flattened(l.kwargs.get("initial_state")) if isinstance(v, KT)] or list(given)
    states = states or [v for v in flattened(l.args[1:2]) if isinstance(v, KT)]
    if l.config.flag("stateful", False):
        return _carried(b, l, sizes, batch, states, order)
    if not states:
        return None, lambda _: None
    return _values(b, l, states, sizes, order), lambda _: None


def _values(
    b: Builder, l: Layer, states: Sequence[KT], sizes: Sequence[Sequence[Dim]], order: Order | None
) -> list[ir.Value]:
    if len(states) != len(sizes):
        raise MalformedFile(f"{len(states)} initial states are given, the layer has {len(sizes)}", layer=l.path)
    for state, size in zip(states, sizes, strict=True):
        pairs = zip(state.shape[1:], size, strict=False)
        if state.rank != len(size) + 1 or any(isinstance(p, int) and isinstance(q, int) and p != q for p, q in pairs):
            raise MalformedFile(f"an initial state has shape {state.shape}, not {('batch', *size)}", layer=l.path)
    floats = [as_float(b, state) for state in states]
    return [state.logical(b) if order is None else state.to(b, order) for state in floats]


def _carried(
    b: Builder, l: Layer, sizes: Sequence[Sequence[Dim]], batch: Dim, states: Sequence[KT], order: Order | None
) -> tuple[list[ir.Value], Any]:
    """States as inputs and outputs of the graph, so that a caller can hand them from one call to the next."""
    names = [f"state_{i}" for i in range(len(sizes))] if len(sizes) != 2 else ["state_h", "state_c"]
    names = names if len(sizes) > 1 else ["state_h"]
    tail = l.prefix.rstrip("/").rpartition("/")[2]
    base = f"{l.path}.{tail}" if tail in ("forward_layer", "backward_layer", "layer") else l.path
    if any(name.startswith(f"{base}.state_") for _, name in l.network.carried):
        raise UnsupportedOption("a stateful layer that is called more than once is not supported", layer=l.path)
    given = states or [KT.of(b.input(f"{base}.{n}", [batch, *size])) for n, size in zip(names, sizes, strict=True)]
    inputs = _values(b, l, given, sizes, order)
    shown = ", ".join(f"{base}.{name}" for name in names)
    l.note("assumed", f"stateful: its states are inputs and outputs of the graph ({shown}; zeros to begin with)")

    def take(finals: Sequence[ir.Value]) -> None:
        for value, name in zip(finals, names, strict=True):
            made = KT(value, order).logical(b) if order is not None else value
            l.network.carried.append((made, f"{base}.{name}_out"))

    return inputs, take


def finish(
    b: Builder,
    l: Layer,
    ran: Ran,
    states: Sequence[ir.Value],
    mask: Mask | None,
    *,
    time_axis: int,
    backwards: bool,
    order: Order | None = None,
) -> KT | tuple[KT, ...]:
    """What Keras returns: all outputs (a layer that goes backwards in the order it made them) or the last, then states.

    Args:
        order: how the axes of the last output and of the states lie.
    """
    if l.config.flag("return_sequences", False):
        out = ran.outputs
        if backwards and not l.kwargs.get(BACKWARDS_IN_PLACE):
            out = KT(flipped(b, out.value, out.order.index(time_axis)), out.order)
        out = KT(out.value, out.order, mask)
    else:
        out = KT.of(ran.last, order)
    l.config.ignore("unroll", "num_constants", "reverse_state_order", "return_state", "_keras_api_names", "data_format")
    if not l.config.flag("return_state", False):
        return out
    return (out, *(KT.of(v, order) for v in states))


def flipped(b: Builder, value: ir.Value, axis: int) -> ir.Value:
    """Reverse one axis."""
    return b.op("Slice", value, [-1], [_END], [axis], [-1])


def same_cells(first: Sequence[Cell], second: Sequence[Cell]) -> bool:
    """Whether one bidirectional node can run both."""
    if len(first) != 1 or len(second) != 1:
        return False
    p, q = first[0], second[0]
    return (p.kind, p.units, p.biased, p.reset_after, p.double_bias, p.trainable) == (
        q.kind, q.units, q.biased, q.reset_after, q.double_bias, q.trainable
    )  # fmt: skip
