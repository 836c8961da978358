"""Recurrent layers as modules, also where an exporter of torch put their weights' gates in another order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from netferry.runtime.torch.facts import attribute, given, initializer
from netferry.runtime.torch.packing import PLAIN, Packing, gate_biases, gates, parts
from netferry.runtime.torch.plans import Bindings, Plan, bindings_key, recurrent_module
from netferry.runtime.torch.recurrent_order import in_order
from netferry.runtime.torch.zeros import computed
from netferry.schemas.ir import ir
from netferry.schemas.layers import static_shape

GATES = {"LSTM": [0, 2, 3, 1], "GRU": [1, 0, 2], "RNN": [0]}
"""torch's order of gates in ONNX's: input, forget, cell, output; reset, update, new"""
_USUAL = {"LSTM": ["sigmoid", "tanh", "tanh"], "GRU": ["sigmoid", "tanh"]}


@dataclass
class _Weight:
    """A weight of a recurrent node: what the module binds, its last dimension, and nodes that only prepare it."""

    bindings: Bindings
    width: int
    hidden: list[ir.Node]


def recurrent(node: ir.Node) -> Plan | None:
    """nn.LSTM, nn.GRU or nn.RNN where torch has the settings; not with clip, peepholes or sequence lengths."""
    op, direction = node.op_type, attribute(node, "direction", "forward")
    directions = 2 if direction == "bidirectional" else 1
    if given(node, 4) or given(node, 7) or "clip" in node.attributes or attribute(node, "input_forget", 0):
        return None
    names = [str(a).lower() for a in attribute(node, "activations", None) or _USUAL.get(op, ["tanh"]) * directions]
    extra: dict[str, Any] = {}
    if op == "RNN":
        if len(set(names[:directions])) != 1 or names[0] not in ("tanh", "relu"):
            return None
        extra["nonlinearity"] = names[0]
    elif names != _USUAL[op] * directions or (op == "GRU" and not attribute(node, "linear_before_reset", 0)):
        return None  # torch's GRU resets after the product with the state
    order, ends = GATES[op], ("", "_reverse")[:directions]
    found = [_weight(node, i, order, [f"weight_{half}_l0{end}" for end in ends]) for i, half in ((1, "ih"), (2, "hh"))]
    bias = _bias(node, order, ends) if given(node, 3) else None
    weight, state = found
    if weight is None or state is None or (bias is None and given(node, 3)):
        return None
    kind, form = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN}[op], in_order(node, directions, state.width)
    all_of_them = [weight, state, *([] if bias is None else [bias])]
    bindings = [b for one in all_of_them for b in one.bindings]
    settings = {"batch_first": form.batch_first, "bidirectional": directions == 2, "bias": bias is not None, **extra}
    sizes = {"input_size": weight.width, "hidden_size": state.width}
    return Plan(
        lambda: recurrent_module(kind, {**sizes, **settings}),
        bindings,
        (op, direction, *settings.values(), *bindings_key(bindings)),
        hidden=[*(n for one in all_of_them for n in one.hidden), *form.hidden],
        recurrent=form,
    )


def unfit(node: ir.Node, found: Plan | None) -> str | None:
    """Why recurrent weights do not fit each other, if so: torch's exporter writes LSTMs with projections like that."""
    held = {name: static_shape(v) for v, _, names in found.bindings for name in names} if found is not None else {}
    of_input, of_state = held.get("weight_ih_l0", ()), held.get("weight_hh_l0", ())
    if of_state and not of_input[-2] == of_state[-2] == len(GATES[node.op_type]) * of_state[-1]:
        return f"its weights do not fit each other: {list(of_input)} and {list(of_state)}"
    for value in node.inputs[5:7] if of_state else ():
        width = value.shape[-1] if value is not None and value.shape else None
        if isinstance(width, int) and width != of_state[-1]:
            return f"its first state has {width} numbers, the layer {of_state[-1]}"
    return None


def _weight(node: ir.Node, i: int, order: list[int], names: list[str]) -> _Weight | None:
    whole = initializer(node, i)
    if whole is not None:
        return _Weight([(whole, gates(order, len(names)), names)], static_shape(whole)[2], [])
    ways = _directions(node.inputs[i], len(order), len(names))
    if ways is None:
        return None
    bindings: Bindings = []
    for way, name in zip(ways[0], names, strict=True):
        source = way[0][0]
        if any(one is not source for one, _ in way) or len(static_shape(source)) != 2:
            return None
        bindings.append((source, _packing([way[k][1] for k in order]), [name]))
    return _Weight(bindings, static_shape(bindings[0][0])[1], ways[1])


def _bias(node: ir.Node, order: list[int], ends: tuple[str, ...]) -> _Weight | None:
    names = [[f"bias_{half}_l0{end}" for half in ("ih", "hh")] for end in ends]
    whole = initializer(node, 3)
    if whole is not None:
        return _Weight([(whole, gate_biases(order, len(ends)), [n for pair in names for n in pair])], 0, [])
    if (halves := _halves(node.inputs[3])) is not None:
        sides = zip(halves[0], ("ih", "hh"), strict=True)
        return _Weight(
            [(v, gates(order, len(ends)), [f"bias_{h}_l0{e}" for e in ends]) for v, h in sides], 0, halves[1]
        )
    count = len(order)
    ways = _directions(node.inputs[3], 2 * count, len(ends))
    if ways is None:
        return None
    bindings: Bindings = []
    for way, pair in zip(ways[0], names, strict=True):
        sources = {id(one): one for one, _ in way}
        if len(sources) == 1 and [k for _, k in way] == list(range(2 * count)):
            bindings.append((way[0][0], gate_biases(order, 1), pair))  # both, put together by the exporter
            continue
        for half, name in enumerate(pair):
            mine = way[half * count : (half + 1) * count]
            if any(one is not mine[0][0] for one, _ in mine) or static_shape(mine[0][0])[0] % count:
                return None
            bindings.append((mine[0][0], _packing([mine[k][1] for k in order]), [name]))
    return _Weight(bindings, 0, ways[1])


def _halves(value: ir.Value | None) -> tuple[list[ir.Value], list[ir.Node]] | None:
    """The input's bias and the state's, each of all directions, behind the Concat that joins them.

    Keras has one bias: the other is a constant of zeros, and no parameter of the module.
    """
    join = _single(value)
    if join is None or join.op_type != "Concat" or attribute(join, "axis", 0) not in (1, -1) or len(join.inputs) != 2:
        return None
    found = [v for v in join.inputs if v is not None and v.is_initializer() and len(static_shape(v)) == 2]
    return (found, [join]) if len({static_shape(v) for v in found}) == 1 and len(found) == 2 else None


def _packing(order: list[int]) -> Packing:
    return PLAIN if order == list(range(len(order))) else parts(order)


_Parts = list[tuple[ir.Value, int]]
"""initializer and number of the part, in the order in which ONNX's node has them"""


def _directions(value: ir.Value | None, count: int, directions: int) -> tuple[list[_Parts], list[ir.Node]] | None:
    """The parts of each direction's weight behind Unsqueeze (and Concat, of two directions)."""
    made = _single(value)
    if made is None:
        return None
    hidden, ways = [made], [made]
    if directions == 2:
        if made.op_type != "Concat" or attribute(made, "axis", 0) != 0 or len(made.inputs) != 2:
            return None
        both = [_single(v) for v in made.inputs]
        ways = [n for n in both if n is not None]
        hidden += ways
    out: list[_Parts] = []
    for node in ways:
        by = node.inputs[1] if node.op_type == "Unsqueeze" and len(node.inputs) > 1 else None
        axes = None if by is None else computed(by)
        if axes is None or axes.reshape(-1).tolist() != [0]:
            return None
        found = _parts(node.inputs[0], count)
        if found is None:
            return None
        out.append(found[0])
        hidden += found[1]
    return (out, hidden) if len(out) == directions else None


def _parts(value: ir.Value | None, count: int) -> tuple[_Parts, list[ir.Node]] | None:
    """The parts of a value along its first axis: an initializer, or a Concat of slices of some."""
    if value is not None and value.is_initializer():
        return [(value, i) for i in range(count)], []
    join = _single(value)
    if join is None or join.op_type != "Concat" or attribute(join, "axis", 0) != 0:
        return None
    found: _Parts = []
    hidden = [join]
    unit = _length_of_cuts(join) // count
    for one in join.inputs:
        cut = _single(one)
        if cut is None and one is not None and one.is_initializer():
            inner = _parts(one, count // len(join.inputs))
            found += inner[0] if inner is not None else []
            continue
        if cut is None or cut.op_type == "Concat":
            inner = _parts(one, count // len(join.inputs))
            if inner is None:
                return None
            found += inner[0]
            hidden += inner[1]
            continue
        if cut.op_type != "Slice" or (source := initializer(cut, 0)) is None:
            return None
        bounds = _bounds(cut)
        if bounds is None:
            return None
        start, size = bounds
        step = unit if unit and size % unit == 0 else size  # the LSTM's forget and cell gates are cut out as one
        if start % step or static_shape(source)[0] % step:
            return None
        found += [(source, i) for i in range(start // step, (start + size) // step)]
        hidden.append(cut)
    whole = {static_shape(v)[0] for v, _ in found}
    return (found, hidden) if len(found) == count and len(whole) == 1 else None


def _bounds(cut: ir.Node) -> tuple[int, int] | None:
    """Start and length of a Slice along the first axis, where they are known."""
    numbers = [None if v is None else computed(v) for v in cut.inputs[1:]]
    if len(numbers) < 3 or any(n is None or n.size != 1 for n in numbers):
        return None
    start, end, axis, *step = (int(n.reshape(-1)[0]) for n in numbers if n is not None)
    return (start, end - start) if axis == 0 and step in ([], [1]) and end > start >= 0 else None


def _length_of_cuts(join: ir.Node) -> int:
    """The length of a Concat of slices alone; 0 for any other."""
    total = 0
    for value in join.inputs:
        cut = _single(value)
        bounds = _bounds(cut) if cut is not None and cut.op_type == "Slice" else None
        if bounds is None:
            return 0
        total += bounds[1]
    return total


def _single(value: ir.Value | None) -> ir.Node | None:
    """The node of a value that serves one reader and is no output."""
    if value is None or value.is_graph_output() or len(list(value.uses())) != 1:
        return None
    return value.producer()
