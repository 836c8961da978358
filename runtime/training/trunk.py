"""A network in two: the frozen trunk, whose results never change for the same input, and the part that learns."""

from __future__ import annotations

from dataclasses import dataclass

from netferry.schemas.ir import ir
from netferry.schemas.layers import TRAINING, Role, read_by, role_of
from netferry.schemas.model import Model
from netferry.schemas.surgery import prune
from netferry.schemas.tensors import array_of

_FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
_RANDOM = {"RandomNormalLike", "RandomUniformLike", "RandomNormal", "RandomUniform", "Bernoulli", "Multinomial"}


@dataclass
class Halves:
    """Both halves; ``frontier`` names the values that go from the first to the second."""

    trunk: Model | None
    rest: Model
    frontier: list[str]


def split(model: Model, output: ir.Value | None = None) -> Halves:
    """Split a model where everything below is frozen and gives the same result each time.

    What depends on a parameter that learns, on a dropout or on another random operator belongs to the second half,
    and so does what does not have one row per example. Nothing can be split off where the first layers learn.

    Args:
        model: the model, with what is frozen; it stays as it is.
        output: what the second half gives (a value of ``model``); by default the first output.

    Returns:
        Models that share the weights' memory; the trunk is None where it would hold no computation.
    """
    end = next(iter(model.graph.outputs)) if output is None else output
    name = end.name or ""
    whole = model.copy()
    value = next(v for n in whole.graph for v in n.outputs if v.name == name)
    whole.graph.outputs.clear()
    whole.graph.outputs.append(value)
    prune(whole.graph)
    frontier = _frontier(whole, value)
    inputs = {v.name for v in whole.graph.inputs}
    if not frontier or any(v.name in inputs for v in frontier):
        return Halves(None, whole, [v for v in inputs if v])
    names = [v.name or "" for v in frontier]
    trunk = whole.copy()
    by_name = {v.name: v for n in trunk.graph for v in n.outputs} | {v.name: v for v in trunk.graph.inputs}
    trunk.graph.outputs.clear()
    for wanted in names:
        trunk.graph.outputs.append(by_name[wanted])
    prune(trunk.graph)
    trunk.labels = {}
    for old in frontier:
        fresh = ir.Value(name=None, type=old.type, shape=old.shape)
        old.replace_all_uses_with(fresh)
        label, old.name = old.name, None
        fresh.name = label
        whole.graph.inputs.append(fresh)
    prune(whole.graph)
    for value in [v for v in whole.graph.inputs if v.name not in names and v.name not in whole.graph.initializers]:
        if not value.uses():
            whole.graph.inputs.remove(value)
    return Halves(trunk, whole, names)


def _frontier(model: Model, end: ir.Value) -> list[ir.Value]:
    """Values to be handed over, in graph order; empty where nothing can be split off."""
    graph = model.graph
    moving = _moving(model)
    inputs = [v for v in graph.inputs if v.name not in graph.initializers]
    static: set[ir.Value] = set(inputs)
    for node in graph:
        if node not in moving and any(v in static for v in read_by(node)):
            static.update(node.outputs)
    batch = {_first_dim(v) for v in inputs}
    order = {v: i for i, v in enumerate([*inputs, *(v for n in graph for v in n.outputs)])}
    handed: set[ir.Value] = set()
    second: set[ir.Node] = set()
    waiting = [end]
    while waiting:
        value = waiting.pop()
        node = value.producer()
        if value in static and value.dtype in _FLOATS and _first_dim(value) in batch and value is not end:
            handed.add(value)
        elif node is not None and node not in second:
            second.add(node)
            waiting += list(read_by(node))
        elif value in static and node is None:
            handed.add(value)
    return sorted(handed, key=lambda v: order[v])


def _moving(model: Model) -> set[ir.Node]:
    """Nodes whose result changes while training: by a parameter, statistics or chance."""
    graph = model.graph
    moved: set[ir.Value] = set()
    found: set[ir.Node] = set()
    for node in graph:
        learns = any(
            v.is_initializer() and v.name not in model.frozen and role_of(v) != Role.CONSTANT for v in read_by(node)
        )
        if learns or _by_chance(node) or any(v in moved for v in read_by(node)):
            found.add(node)
            moved.update(node.outputs)
    return found


def _by_chance(node: ir.Node) -> bool:
    if node.op_type in _RANDOM or TRAINING in node.metadata_props:
        return True
    if node.op_type != "Dropout":
        return False
    ratio = node.inputs[1] if len(node.inputs) > 1 else None
    held = None if ratio is None else array_of(ratio)
    return held is None or float(held.reshape(-1)[0]) > 0


def _first_dim(value: ir.Value) -> object:
    """What the first dimension is called; unequal for values of unknown shape."""
    if value.shape is None or not len(value.shape):
        return id(value)
    first = value.shape[0]
    return first if isinstance(first, int) else first.value or id(value)
