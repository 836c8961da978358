"""What ``netferry inspect`` tells of a model, as plain data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from netferry.errors import UsageError, quoted
from netferry.schemas.costs import ShapeOf, multiply_adds, peak_bytes, value_bytes, weight_bytes
from netferry.schemas.ir import ir
from netferry.schemas.layers import LayerRow, Role, count, layer_of, static_shape
from netferry.schemas.model import Model
from netferry.schemas.topology import dangling, depth, equal_weights, unreachable

_LISTED = 8


def describe(model: Model, *, sizes: Mapping[str, int] | None = None, batch: int = 1) -> dict[str, Any]:
    """Return inputs, outputs, totals and the layer table of a model.

    Args:
        model: the model.
        sizes: sizes of dynamic dimensions, by name, at which costs are counted.
        batch: the batch size at which they are counted.

    Returns:
        Plain data. ``totals.depth`` is the longest path of convolution and fully connected layers, as published
        network tables count it; ``multiply_adds`` and ``memory_bytes`` are null where a size is not known;
        ``counted_at`` has the sizes taken.

    Raises:
        UsageError: ``sizes`` names a dimension that the model does not have.
    """
    from netferry.converters.passes.opset_types import annotate
    from netferry.converters.passes.sizes import sizes_at

    annotate(model.ir)
    _check(model, sizes or {})
    shapes, taken = sizes_at(model, sizes or {}, batch)
    rows = model.layers
    named = _named_dims(model)
    described = [_row(row, shapes.get, named) for row in rows]
    peak, where = peak_bytes(model.graph, shapes.get)
    return {
        "name": model.graph.name,
        "source": {"format": model.source.format, "files": list(model.source.files), "version": model.source.version},
        "opset": model.opset,
        "opsets": dict(model.ir.opset_imports),
        "ir_version": model.ir.ir_version,
        "inputs": [i.as_dict() for i in model.inputs],
        "outputs": [o.as_dict() for o in model.outputs],
        "labels": {name: len(labels) for name, labels in model.labels.items()},
        "preprocessing": {name: recipe.as_dict() for name, recipe in model.preprocessing.items()},
        "counted_at": taken,
        "totals": {
            "layers": len(rows),
            "connections": sum(len(row.inputs) for row in rows),
            "nodes": len(model.graph),
            "operators": dict(sorted(Counter(n.op_type for n in model.nodes()).items())),
            "learnable_tensors": len(model.parameters(Role.LEARNABLE)),
            "learnables": sum(row.learnable_count for row in _first_owner(rows, "learnables")),
            "state": sum(row.state_count for row in _first_owner(rows, "state")),
            "multiply_adds": sum(row["multiply_adds"] or 0 for row in described),
            "multiply_adds_unknown": [row["name"] for row in described if row["multiply_adds"] is None],
            "weight_bytes": weight_bytes(model.graph),
            "peak_bytes": peak,
            "peak_at": where,
            "depth": depth(model.graph),
        },
        "layers": described,
        "warnings": _warnings(model),
        "notes": [note.as_dict() for note in model.notes],
    }


def _check(model: Model, sizes: Mapping[str, int]) -> None:
    known = _named_dims(model)
    if unknown := [n for n in sizes if n not in known]:
        there = ", ".join(quoted(n) for n in sorted(known)) or "none"
        raise UsageError(f"no dynamic dimension {quoted(unknown[0])} (there are {there})")


def _named_dims(model: Model) -> set[str]:
    """Names of dimensions that inputs and outputs carry; others are made up by the inference."""
    return {d for info in (*model.inputs, *model.outputs) for d in info.shape or () if isinstance(d, str)}


def _row(row: LayerRow, shape_of: ShapeOf, named: set[str]) -> dict[str, Any]:
    shapes = [_shown(v, named) for v in row.outputs]
    counts = [multiply_adds(node, shape_of) for node in row.nodes]
    weights = {v: None for node in row.nodes for v in node.inputs if v is not None and v.is_initializer()}
    given = [value_bytes(v, shape_of) for v in row.outputs]
    held = sum(value_bytes(v, shape_of) or 0 for v in weights)
    return {
        "name": row.name,
        "type": row.type,
        "inputs": row.inputs,
        "outputs": [{"name": v.name, "shape": s} for v, s in zip(row.outputs, shapes, strict=True)],
        "learnables": {v.name: list(static_shape(v)) for v in row.learnables},
        "learnable_count": row.learnable_count,
        "state_count": row.state_count,
        "multiply_adds": None if None in counts else sum(n or 0 for n in counts),
        "weight_bytes": held,
        "output_bytes": None if None in given else sum(n or 0 for n in given),
        "memory_bytes": None if None in given else held + sum(n or 0 for n in given),
        "nodes": len(row.nodes),
    }


def _shown(value: ir.Value, named: set[str]) -> list[int | str | None] | None:
    if value.shape is None:
        return None
    dims = [d if isinstance(d, int) else d.value for d in value.shape]
    return [d if isinstance(d, int) or d in named else None for d in dims]


def _first_owner(rows: list[LayerRow], kind: str) -> list[LayerRow]:
    """The rows with shared parameters left only with the first layer that uses them."""
    seen: set[str | None] = set()
    out: list[LayerRow] = []
    for row in rows:
        values = [v for v in getattr(row, kind) if v.name not in seen]
        seen.update(v.name for v in values)
        out.append(LayerRow(row.name, row.type, **{kind: values}))
    return out


def _warnings(model: Model) -> list[dict[str, Any]]:
    """What looks wrong: kind, message, names concerned."""
    out: list[dict[str, Any]] = []

    def warn(kind: str, message: str, names: list[str]) -> None:
        out.append({"kind": kind, "message": message, "names": names})

    graph = model.graph
    for value in graph.inputs:
        if not value.is_initializer() and not value.uses() and not value.is_graph_output():
            warn("unused input", f"input {quoted(value.name)} is not used", [value.name or ""])
    nowhere, unread = dangling(graph)
    layers = Counter(layer_of(n)[0] for n in graph)
    lost = Counter(layer_of(n)[0] for n in nowhere)
    if whole := [name for name, n in lost.items() if n == layers[name]]:
        warn("dangling", f"{_some(whole, 'layer')} lead{_s(whole)} to no output", whole)
    if part := [n.name or layer_of(n)[0] for n in nowhere if lost[layer_of(n)[0]] != layers[layer_of(n)[0]]]:
        warn("dangling", f"{_some(part, 'node')} lead{_s(part)} to no output", part)
    if fixed := [v.name or "" for v in unreachable(graph)]:
        warn("unreachable", f"{_some(fixed, 'output')} depend{_s(fixed)} on no input", fixed)
    if unused := [v.name or "" for v in unread]:
        elements = sum(count(v) for v in unread)
        warn("unused weights", f"{_some(unused, 'weight')} ({elements:,} elements) serve{_s(unused)} no output", unused)
    for group in equal_weights(graph):
        names = [v.name or "" for v in group]
        size = count(group[0]) * (len(group) - 1)
        warn("duplicated weights", f"{_some(names, 'weight')} hold the same values ({size:,} elements too many)", names)
    if model.uninitialised:
        warn("no values", f"{len(model.uninitialised)} parameters have no values", model.uninitialised)
    if found := [layer_of(n)[0] for n in model.placeholders()]:
        warn("placeholders", f"{len(found)} placeholders for layers that netferry cannot read", found)
    return out


def _some(names: list[str], what: str) -> str:
    shown = ", ".join(quoted(n) for n in names[:_LISTED])
    more = f" … and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"{what}{'s' if len(names) > 1 else ''} {shown}{more}"


def _s(names: list[str]) -> str:
    return "" if len(names) > 1 else "s"
