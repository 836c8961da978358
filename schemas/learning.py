"""Which parameters of a model learn, and how fast: kept on the model, read by the trainer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from netferry.errors import UsageError, quoted
from netferry.schemas.head import find_row, head_of, parameter_names
from netferry.schemas.ir import ir
from netferry.schemas.layers import LayerRow
from netferry.schemas.model import Model, Note


def freeze(model: Model, except_: Sequence[str] | None = None) -> list[str]:
    """Freeze every layer but those of ``except_`` (by default the head); returns the frozen layers' names.

    A frozen layer's parameters are not trained; a frozen batch norm uses its running statistics and keeps them.

    Raises:
        UsageError: no such layer.
    """
    keep = {find_row(model, name).name for name in ([head_of(model).layer] if except_ is None else except_)}
    kept = {v.name for row in model.layers if row.name in keep for v in _held(row)}
    frozen = [row for row in model.layers if row.name not in keep and _held(row)]
    for row in frozen:
        model.frozen.update(v.name or "" for v in _held(row) if v.name not in kept)  # a tied weight stays with the free
    return [row.name for row in frozen]


def freeze_as_source(model: Model, frozen: Mapping[str, str], said: str) -> None:
    """Freeze what does not learn in the source, until it is freed, and note it.

    Args:
        model: the model that a reader made.
        frozen: names of initializers, each with that of its layer; what is no initializer of the model is left out.
        said: the source's words for it (``trainable=False``).
    """
    there = {name: layer for name, layer in frozen.items() if name in model.graph.initializers}
    model.frozen.update(there)
    if there:
        layers = list(dict.fromkeys(there.values()))
        more = f" and {len(layers) - 1} others" if len(layers) > 1 else ""
        told = f"{quoted(layers[0])}{more} {'do' if more else 'does'} not learn, as in the source ({said})"
        model.notes.append(Note("assumed", told))


def unfreeze(model: Model, from_: str | None = None) -> list[str]:
    """Let layers learn again: ``from_`` and all behind it in graph order, or all; returns their names.

    Raises:
        UsageError: no such layer.
    """
    rows = [row for row in model.layers if row.type != "Input"]
    if from_ is not None:
        wanted = find_row(model, from_).name
        rows = rows[[row.name for row in rows].index(wanted) :]
    freed = [row for row in rows if _held(row)]
    for row in freed:
        model.frozen.difference_update(v.name or "" for v in _held(row))
    return [row.name for row in freed]


def set_lr_factor(model: Model, layer: str, parameter: str | None, factor: float) -> list[str]:
    """Multiply the learning rate of a layer's parameter by ``factor``; returns the initializers' names.

    Args:
        model: the model.
        layer: the layer's name.
        parameter: ``weight``, ``bias`` …, an initializer's whole name, or None for all of the layer.
        factor: zero or more; 0 leaves a parameter as it is, 1 is the default.

    Raises:
        UsageError: no such layer or parameter, or no such factor.
    """
    if not (math.isfinite(factor) and factor >= 0):
        raise UsageError(f"a learning rate factor is a number of at least 0, not {factor}", layer=layer)
    names = parameter_names(find_row(model, layer))
    by_full = {v.name: v for v in names.values()}
    chosen = list(names.values()) if parameter is None else [names.get(parameter) or by_full.get(parameter)]
    if not chosen or chosen[0] is None:
        there = ", ".join(quoted(n) for n in names) or "none"
        raise UsageError(f"no learnable {quoted(parameter or '')} (there are {there})", layer=layer)
    found = [v.name or "" for v in chosen if v is not None]
    for name in found:
        model.lr_factors[name] = float(factor)
    return found


def lr_factor(model: Model, name: str) -> float:
    """The factor of an initializer: 0 where it is frozen."""
    return 0.0 if name in model.frozen else model.lr_factors.get(name, 1.0)


def learning_table(model: Model) -> list[dict[str, object]]:
    """One row per parameter that could learn: layer, parameter, initializer, shape, factor, frozen."""
    rows: list[dict[str, object]] = []
    seen: set[str] = set()
    for row in model.layers:
        for short, value in parameter_names(row).items():
            name = value.name or ""
            if name in seen:
                continue
            seen.add(name)
            shape = [] if value.shape is None else [int(str(d)) for d in value.shape]
            factor = lr_factor(model, name)
            rows.append({"layer": row.name, "parameter": short, "initializer": name, "shape": shape, "factor": factor,
                         "frozen": name in model.frozen})  # fmt: skip
    return rows


def blocks(model: Model) -> list[list[str]]:
    """Layers with learnables in groups, in graph order: those that share the part of the name in front of ``/`` or
    ``.`` (``fire2/squeeze1x1`` and ``fire2/expand1x1``), or a common ``block1_conv1``, ``block1_conv2`` in front of
    ``_``; others alone.
    """
    groups: list[tuple[str, list[str]]] = []
    for row in model.layers:
        if not _held(row):
            continue
        key = _block(row.name)
        if groups and groups[-1][0] == key:
            groups[-1][1].append(row.name)
        else:
            groups.append((key, [row.name]))
    return [names for _, names in groups]


def _block(name: str) -> str:
    parts = [p for p in name.replace(".", "/").split("/") if p]
    if len(parts) > 1:
        return "/".join(parts[:-1]) if len(parts) < 3 else "/".join(parts[:2])
    return name.rsplit("_", 1)[0] if name.startswith(("block", "conv", "stage")) and "_" in name else name


def _held(row: LayerRow) -> list[ir.Value]:
    return [*row.learnables, *row.state]
