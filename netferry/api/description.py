"""What ``netferry inspect`` tells of a model, as plain data."""

from __future__ import annotations

from collections import Counter
from typing import Any

from netferry.schemas.layers import LayerRow, Role
from netferry.schemas.model import Model

_WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul"}


def describe(model: Model) -> dict[str, Any]:
    """Return inputs, outputs, totals and the layer table of a model.

    Depth is the longest path of convolution and fully connected layers, as published network tables count it.
    """
    rows = model.layers
    inputs = {i.name for i in model.inputs}
    return {
        "name": model.graph.name,
        "source": {"format": model.source.format, "files": list(model.source.files), "version": model.source.version},
        "opset": model.opset,
        "ir_version": model.ir.ir_version,
        "inputs": [i.as_dict() for i in model.inputs],
        "outputs": [o.as_dict() for o in model.outputs],
        "labels": {name: len(labels) for name, labels in model.labels.items()},
        "preprocessing": {name: recipe.as_dict() for name, recipe in model.preprocessing.items()},
        "totals": {
            "layers": len(rows),
            "connections": sum(len(row.inputs) for row in rows),
            "nodes": len(model.graph),
            "operators": dict(sorted(Counter(n.op_type for n in model.nodes()).items())),
            "learnable_tensors": len(model.parameters(Role.LEARNABLE)),
            "learnables": sum(row.learnable_count for row in _first_owner(rows, "learnables")),
            "state": sum(row.state_count for row in _first_owner(rows, "state")),
            "depth": depth(model),
        },
        "layers": [_row(row) for row in rows],
        "warnings": _warnings(model, inputs),
        "notes": [note.as_dict() for note in model.notes],
    }


def _row(row: LayerRow) -> dict[str, Any]:
    shapes = [None if v.shape is None else [d if isinstance(d, int) else d.value for d in v.shape] for v in row.outputs]
    return {
        "name": row.name,
        "type": row.type,
        "inputs": row.inputs,
        "outputs": [{"name": v.name, "shape": s} for v, s in zip(row.outputs, shapes, strict=True)],
        "learnables": {v.name: [int(str(d)) for d in v.shape or ()] for v in row.learnables},
        "learnable_count": row.learnable_count,
        "state_count": row.state_count,
    }


def _first_owner(rows: list[LayerRow], kind: str) -> list[LayerRow]:
    """The rows with shared parameters left only with the first layer that uses them."""
    seen: set[str | None] = set()
    out: list[LayerRow] = []
    for row in rows:
        values = [v for v in getattr(row, kind) if v.name not in seen]
        seen.update(v.name for v in values)
        out.append(LayerRow(row.name, row.type, **{kind: values}))
    return out


def depth(model: Model) -> int:
    """Return the longest path of layers with a kernel (convolution, transposed convolution, matrix product)."""
    far: dict[Any, int] = {}
    longest = 0
    initializers = model.graph.initializers
    for node in model.graph:
        before = max((far.get(v, 0) for v in node.inputs if v is not None), default=0)
        weighted = node.op_type in _WEIGHTED and any(v is not None and v.name in initializers for v in node.inputs)
        here = before + weighted
        longest = max(longest, here)
        for value in node.outputs:
            far[value] = here
    return longest


def _warnings(model: Model, inputs: set[str]) -> list[str]:
    out: list[str] = []
    for value in model.graph.inputs:
        if value.name in inputs and not value.uses() and not value.is_graph_output():
            out.append(f"input {value.name!r} is not used")
    for node in model.graph:
        if not any(v.uses() or v.is_graph_output() for v in node.outputs):
            out.append(f"node {node.name!r} leads nowhere")
    for name, value in model.graph.initializers.items():
        if not value.uses() and not value.is_graph_output():
            out.append(f"initializer {name!r} is not used")
    if model.uninitialised:
        out.append(f"{len(model.uninitialised)} parameters have no values")
    if model.placeholders():
        out.append(f"{len(model.placeholders())} placeholders for layers that netferry cannot read")
    return out
