"""The sheets of a page: the network itself, and one for each graph inside a layer (branches, loop bodies)."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from netferry.converters.html.details import details, shape_of
from netferry.converters.html.families import family_of, follows
from netferry.converters.html.layout import draw
from netferry.errors import LimitExceeded
from netferry.schemas.ir import ir
from netferry.schemas.layers import LayerRow, graphs_of, layer_table, read_by
from netferry.schemas.model import Model

MAX_LAYERS = 20_000
STRIP, EDGE = 24.0, 3.0
_LEAST, _MOST = 84.0, 300.0
_STACK = 6


@dataclass
class _Layer:
    """A layer on a sheet; without a row an output of the graph."""

    name: str
    type: str
    family: str
    row: LayerRow | None = None
    reads: list[int] = field(default_factory=list)
    readers: list[int] = field(default_factory=list)


def sheets_of(model: Model, described: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the sheets as the page's script takes them; the first is the network.

    Args:
        model: the model, with types and shapes.
        described: what ``inspect`` tells; its rows belong to the first sheet.

    Raises:
        LimitExceeded: there are more layers than a page can draw.
    """
    rows = {row["name"]: row for row in described["layers"]}
    opsets = dict(model.ir.opset_imports)
    weights: dict[ir.Value, dict[str, Any]] = {}
    sheets: list[dict[str, Any]] = []
    waiting: list[tuple[ir.Graph, str, int | None]] = [(model.graph, "", None)]
    drawn = 0
    while waiting:
        graph, title, parent = waiting.pop(0)
        layers = _layers(graph)
        drawn += len(layers)
        if drawn > MAX_LAYERS:
            raise LimitExceeded(
                f"the network has more than {MAX_LAYERS} layers, too many to draw",
                hint="inspect without --html lists them all; --inputs and --outputs cut a part out",
            )
        known = rows if parent is None else {}
        out: list[dict[str, Any]] = []
        for layer in layers:
            entry: dict[str, Any] = {"name": layer.name, "type": layer.type, "family": layer.family}
            entry |= {"reads": layer.reads, "readers": layer.readers}
            if layer.row is not None:
                entry |= details(layer.row, opsets, weights) | {"family": layer.family}
                entry["gives"] = [shape_of(v) for v in layer.row.outputs]
                entry["facts"] = _facts(known.get(layer.name))
                for node in layer.row.nodes:
                    for attribute in node.attributes.values():
                        for inner in graphs_of(attribute):
                            number = len(sheets) + 1 + len(waiting)
                            name = f"{layer.name} · {attribute.name}"
                            entry.setdefault("sheets", []).append([attribute.name, number])
                            waiting.append((inner, name, len(sheets)))
            out.append(entry)
        left_out = len(layer_table(graph)) + len(graph.outputs) - len(layers)
        sheets.append({"title": title, "parent": parent, "layers": out, "constants": left_out} | _drawn(layers))
    return sheets


def _facts(row: Mapping[str, Any] | None) -> dict[str, Any]:
    names = ("learnable_count", "state_count", "multiply_adds", "weight_bytes", "output_bytes")
    return {} if row is None else {name: row[name] for name in names}


def _layers(graph: ir.Graph) -> list[_Layer]:
    """Layers of a graph and its outputs; constants are left out, the layers that read them show them."""
    rows = layer_table(graph)
    made: dict[ir.Value, int] = {}
    layers: list[_Layer] = []
    fixed: set[ir.Value] = set()
    for row in rows:
        if row.nodes and not row.learnables and all(_is_fixed(node, fixed) for node in row.nodes):
            continue
        layers.append(_Layer(row.name, row.type, family_of(row), row))
        for value in row.outputs if not row.nodes else [v for node in row.nodes for v in node.outputs]:
            made[value] = len(layers) - 1
    for i, layer in enumerate(layers):
        for node in layer.row.nodes if layer.row is not None else ():
            for value in read_by(node):
                source = made.get(value)
                if source is not None and source != i and source not in layer.reads:
                    layer.reads.append(source)
    for value in graph.outputs:
        maker = made.get(value)
        layers.append(_Layer(value.name or "", "Output", "output", reads=[] if maker is None else [maker]))
    for i, layer in enumerate(layers):
        for source in layer.reads:
            layers[source].readers.append(i)
    return layers


def _is_fixed(node: ir.Node, fixed: set[ir.Value]) -> bool:
    """Whether a node computes from constants alone; its outputs are then noted as fixed."""
    if any(graphs_of(a) for a in node.attributes.values()) or any(v.is_graph_output() for v in node.outputs):
        return False
    if all(v is None or v in fixed or v.is_initializer() for v in node.inputs):
        fixed.update(node.outputs)
        return True
    return False


def _drawn(layers: list[_Layer]) -> dict[str, Any]:
    """Boxes with their layers, and lines between them."""
    boxes = _stacks(layers)
    box_of = {i: b for b, stack in enumerate(boxes) for i in stack}
    sizes = [(_width([layers[i] for i in stack]), STRIP * len(stack) + EDGE) for stack in boxes]
    pairs = [(box_of[source], box_of[i]) for i, layer in enumerate(layers) for source in layer.reads]
    edges = list(dict.fromkeys((a, b) for a, b in pairs if a != b))
    drawing = draw(sizes, edges)
    shown = []
    for stack, (x, y), (width, height) in zip(boxes, drawing.corners, sizes, strict=True):
        last = layers[stack[-1]]
        label = ""
        if last.row is not None and last.readers and last.row.outputs:
            shapes = [shape_of(v) for v in last.row.outputs]
            known = shapes[0] is not None and any(d is not None for d in shapes[0])
            label = " × ".join("?" if d is None else str(d) for d in shapes[0] or ()) if known else ""
        kinds = [layers[i].type + (" ▸" if layers[i].family == "control" else "") for i in stack]
        texts = [[_cut(kind, width * 0.62), ""] for kind in kinds]
        for text, i in zip(texts, stack, strict=True):
            text[1] = _cut(layers[i].name, width - 30 - _measure(text[0], bold=True))
        shown.append({"at": [round(x, 1), round(y, 1), round(width, 1), round(height, 1)], "layers": stack,
                      "texts": texts, "shape": label[:60]})  # fmt: skip
    lines = [
        {"from": e.source, "to": e.target, "path": e.path, "at": [round(v, 1) for v in e.box]}
        | ({"back": True} if e.back else {})
        for e in drawing.lines
    ]
    size = [round(drawing.width, 1), round(drawing.height, 1)]
    return {"boxes": shown, "lines": lines, "not_drawn": [list(e) for e in drawing.left_out], "size": size}


def _stacks(layers: list[_Layer]) -> list[list[int]]:
    """Layers that share a box: one, and the activations and normalizations that follow it and nothing else does."""
    at: dict[int, int] = {}
    boxes: list[list[int]] = []
    for i, layer in enumerate(layers):
        before = layer.reads[0] if len(layer.reads) == 1 else None
        if before is not None and before < i and follows(layer.family) and len(layers[before].readers) == 1:
            box = boxes[at[before]]
            if len(box) < _STACK and layers[box[0]].family != "input" and box[-1] == before:
                box.append(i)
                at[i] = at[before]
                continue
        at[i] = len(boxes)
        boxes.append([i])
    return boxes


def _width(stack: list[_Layer]) -> float:
    wanted = max(
        _measure(layer.type, bold=True) + (12 if layer.family == "control" else 0) + _measure(layer.name) + 34
        for layer in stack
    )
    return round(min(_MOST, max(_LEAST, wanted)))


def _measure(text: str, *, bold: bool = False) -> float:
    """About how wide a text is at 12 pixels in a system font."""
    kinds = Counter(_kind(c) for c in text[:200])
    return (kinds["wide"] * 12.5 + kinds["upper"] * 9.3 + kinds["thin"] * 4.4 + kinds["other"] * 7.4) * (
        1.08 if bold else 1.0
    )


def _kind(letter: str) -> str:
    if unicodedata.east_asian_width(letter) in "WF":
        return "wide"
    return "thin" if letter in "iljtf.,:;/|' 1" else "upper" if letter.isupper() or letter in "mw_" else "other"


def _cut(text: str, room: float) -> str:
    """The text, its middle left out where it is too long; the end tells layers of one network apart."""
    text = "".join(c if c.isprintable() else "·" for c in text[:400])
    if _measure(text) <= room:
        return text
    for keep in range(min(len(text), 60), 3, -1):
        short = text[: keep // 3] + "…" + text[len(text) - (keep - keep // 3) :]
        if _measure(short) <= room:
            return short
    return "…" if room > 10 else ""
