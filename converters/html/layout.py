"""A layered drawing from top to bottom: where each box stands and which way each line takes."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from netferry.converters.html.order import put_in_order
from netferry.converters.html.place import place
from netferry.converters.html.ranks import ranked

ROW_GAP = 46.0
MARGIN = 30.0
_SPREAD = 16.0


@dataclass(frozen=True)
class Line:
    """A connection: from the lower edge of ``source`` to the upper edge of ``target``.

    ``back`` marks one that closes a cycle, and so runs upwards. ``path`` is SVG path data; ``box`` its least and
    largest x and y.
    """

    source: int
    target: int
    path: str
    box: tuple[float, float, float, float]
    back: bool = False


@dataclass(frozen=True)
class Drawing:
    """Upper left corners of the boxes, the lines, the connections not drawn, and the size of the whole."""

    corners: list[tuple[float, float]]
    lines: list[Line]
    left_out: list[tuple[int, int]]
    width: float
    height: float


def draw(sizes: Sequence[tuple[float, float]], edges: Sequence[tuple[int, int]]) -> Drawing:
    """Lay out boxes of given (width, height): lines run downwards, cross seldom, and long ones are straight."""
    graph = ranked(len(sizes), edges)
    put_in_order(graph)
    x = place(graph, [w for w, _ in sizes])
    tops: list[float] = []
    bottoms: list[float] = []
    y = MARGIN
    for row in graph.rows:
        height = max((sizes[v][1] for v in row if not graph.is_bend(v)), default=0.0)
        tops.append(y)
        bottoms.append(y + height)
        y += height + ROW_GAP
    x = [v + MARGIN for v in x]
    corners = [(x[v] - sizes[v][0] / 2, tops[graph.rank[v]]) for v in range(len(sizes))]
    arrivals = _arrivals(graph.chains, x, [w for w, _ in sizes])
    lines: list[Line] = []
    for edge, chain in graph.chains.items():
        points: list[tuple[float, float, float]] = []  # x, where the line enters the row and where it leaves it
        for v in chain:
            row = graph.rank[v]
            top, bottom = tops[row], bottoms[row]
            if v == chain[0]:
                points.append((x[v], top + sizes[v][1], bottom))
            elif v == chain[-1]:
                points.append((arrivals[edge], top, top))
            else:
                points.append((x[v], top, bottom))
        lines.append(_line(edge, points, edge in graph.turned))
    width = max((c[0] + s[0] for c, s in zip(corners, sizes, strict=True)), default=0.0)
    width = max(width, max((line.box[2] for line in lines), default=0.0))
    return Drawing(corners, lines, graph.left_out, width + MARGIN, y - ROW_GAP + MARGIN)


def _arrivals(
    chains: dict[tuple[int, int], list[int]], x: list[float], widths: Sequence[float]
) -> dict[tuple[int, int], float]:
    """Where each line meets the upper edge of its box: side by side, in the order in which they come."""
    ends: dict[int, list[tuple[float, tuple[int, int]]]] = defaultdict(list)
    for edge, chain in chains.items():
        ends[chain[-1]].append((x[chain[-2]], edge))
    out: dict[tuple[int, int], float] = {}
    for v, coming in ends.items():
        gap = min(_SPREAD, (widths[v] - 16) / max(1, len(coming)))
        for i, (_, edge) in enumerate(sorted(coming)):
            out[edge] = x[v] + (i - (len(coming) - 1) / 2) * gap
    return out


def _line(edge: tuple[int, int], points: list[tuple[float, float, float]], back: bool) -> Line:
    path = [f"M{points[0][0]:.1f} {points[0][1]:.1f}"]
    for (x0, _, leave), (x1, enter, _) in itertools.pairwise(points):
        if path[-1] != f"M{x0:.1f} {leave:.1f}":
            path.append(f"L{x0:.1f} {leave:.1f}")
        if abs(x0 - x1) < 0.5:
            path.append(f"L{x1:.1f} {enter:.1f}")
        else:
            middle = (leave + enter) / 2
            path.append(f"C{x0:.1f} {middle:.1f} {x1:.1f} {middle:.1f} {x1:.1f} {enter:.1f}")
    xs = [p[0] for p in points]
    return Line(*edge, "".join(path), (min(xs), points[0][1], max(xs), points[-1][1]), back)
