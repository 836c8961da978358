"""A part of a network: from named layers or tensors to named layers or tensors."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from netferry.errors import UsageError, quoted
from netferry.schemas.ir import ir
from netferry.schemas.layers import LayerRow, read_by
from netferry.schemas.model import Model, Note
from netferry.schemas.surgery import detach


def cut(model: Model, inputs: Sequence[str] = (), outputs: Sequence[str] = ()) -> None:
    """Keep of a model, in place, what leads from ``inputs`` to ``outputs``.

    A name is that of a tensor or of a layer. A layer among the outputs stands for the values that leave it; among the
    inputs for the values that enter it, so that the layer itself is the first that stays. Without ``inputs`` those
    inputs of the graph stay that the outputs need; without ``outputs`` all outputs of the graph stay.

    Raises:
        UsageError: no such tensor or layer, an output that needs more than the given inputs, an input that leads
            nowhere, or one whose element type is not known.
    """
    if not inputs and not outputs:
        return
    graph = model.graph
    rows = {row.name: row for row in model.layers}
    values = _values(graph)
    ends = _once(v for name in outputs for v in _leaving(name, values, rows)) or list(graph.outputs)
    starts = _once(v for name in inputs for v in _entering(name, values, rows))
    kept, reached = _between(graph, starts, ends)
    given = [v for v in reached if v.is_graph_input() and not v.is_initializer()]
    if inputs:
        needed = [v for v in given if v not in starts]
        if needed:
            shown = ", ".join(quoted(v.name or "") for v in needed)
            raise UsageError(f"the outputs also need {shown}", file=_file(model), hint="name it among the inputs too")
        for value in starts:
            if value not in reached:
                raise UsageError(
                    f"the input {quoted(value.name or '')} leads to none of the outputs", file=_file(model)
                )
    for value in ends:
        if value in starts or value.is_graph_input() or value.is_initializer():
            raise UsageError(f"the output {quoted(value.name or '')} is an input", file=_file(model))
    first = starts or given
    graph.outputs[:] = ends
    made = {v: v if v.is_graph_input() else _severed(model, v, kept) for v in first}
    listed = [v for v in graph.inputs if v.is_initializer() and v.uses()]
    graph.inputs[:] = [*made.values(), *(v for v in listed if v not in made.values())]
    for node in reversed(list(graph)):
        if node not in kept:
            detach(node)
            graph.remove(node, safe=True)
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            del graph.initializers[name]
    _forget(model)


def _values(graph: ir.Graph) -> dict[str, ir.Value]:
    found = {v.name: v for v in graph.inputs if v.name}
    found.update({v.name: v for node in graph for v in node.outputs if v.name})
    return found


def _once(values: Iterable[ir.Value]) -> list[ir.Value]:
    return list(dict.fromkeys(values))


def _leaving(name: str, values: dict[str, ir.Value], rows: dict[str, LayerRow]) -> list[ir.Value]:
    if name in values:
        return [values[name]]
    if name in rows:
        return rows[name].outputs
    raise _unknown(name, values, rows)


def _entering(name: str, values: dict[str, ir.Value], rows: dict[str, LayerRow]) -> list[ir.Value]:
    if name in values:
        return [values[name]]
    if name not in rows:
        raise _unknown(name, values, rows)
    row = rows[name]
    own = {v for node in row.nodes for v in node.outputs}
    read = _once(v for node in row.nodes for v in read_by(node) if v not in own and not v.is_initializer())
    by_name = [v for v in read if values.get(v.name or "") is v and not _is_constant(v)]
    if not by_name:
        raise UsageError(f"nothing enters the layer {quoted(name)}")
    return by_name


def _is_constant(value: ir.Value) -> bool:
    """Whether nothing but initializers and constants leads to a value."""
    waiting, seen = [value], {value}
    while waiting:
        one = waiting.pop()
        node = one.producer()
        if node is None:
            if not one.is_initializer():
                return False
            continue
        for read in read_by(node):
            if read not in seen:
                seen.add(read)
                waiting.append(read)
    return True


def _unknown(name: str, values: dict[str, ir.Value], rows: dict[str, LayerRow]) -> UsageError:
    near = difflib.get_close_matches(name, [*rows, *values], 3, 0.4)
    hint = f"perhaps {', '.join(map(quoted, near))}" if near else "netferry inspect lists the layers"
    return UsageError(f"no tensor or layer {quoted(name)}", hint=hint)


def _between(
    graph: ir.Graph, starts: Sequence[ir.Value], ends: Sequence[ir.Value]
) -> tuple[set[ir.Node], list[ir.Value]]:
    """Nodes on the way to ``ends`` that lie behind ``starts``, and the starts and inputs of the graph reached."""
    stops, kept, reached = set(starts), set[ir.Node](), dict[ir.Value, None]()
    waiting = list(ends)
    seen = set(waiting)
    while waiting:
        value = waiting.pop()
        if value in stops or (value.is_graph_input() and value.graph is graph):
            reached[value] = None
            continue
        node = value.producer()
        if node is None or node.graph is not graph or node in kept:
            continue
        kept.add(node)
        for read in read_by(node):
            if read not in seen:
                seen.add(read)
                waiting.append(read)
    order = {v: i for i, v in enumerate([*graph.inputs, *(v for node in graph for v in node.outputs)])}
    return kept, sorted(reached, key=lambda v: order.get(v, 0))


def _severed(model: Model, value: ir.Value, kept: set[ir.Node]) -> ir.Value:
    """An input of the graph in place of a value that a node makes."""
    if value.dtype is None or not isinstance(value.type, ir.TensorType):
        reason = f"the element type of {quoted(value.name or '')} is not known, so it cannot be an input"
        raise UsageError(reason, file=_file(model))
    fresh = ir.Value(type=value.type, shape=value.shape, doc_string=value.doc_string)
    fresh.metadata_props.update(value.metadata_props)
    name = value.name
    value.replace_all_uses_with(fresh, replace_graph_outputs=False)
    value.name = f"{name}/before" if value.producer() in kept else None
    fresh.name = name
    return fresh


def _forget(model: Model) -> None:
    names = {v.name for v in model.graph.outputs}
    model.labels = {k: v for k, v in model.labels.items() if k in names}
    model.tasks = {k: v for k, v in model.tasks.items() if k in names}
    names = {v.name for v in model.graph.inputs}
    model.preprocessing = {k: v for k, v in model.preprocessing.items() if k in names}
    ways = ", ".join(i.name for i in model.inputs), ", ".join(o.name for o in model.outputs)
    model.notes.append(Note("dropped", f"everything but the part from {ways[0]} to {ways[1]}"))


def _file(model: Model) -> str | None:
    return model.source.files[0] if model.source.files else None
