"""Horizontal places in a drawing: long edges straight, nodes over the middle of what they are joined to.

U. Brandes, B. Köpf, "Fast and Simple Horizontal Coordinate Assignment" (2001): four alignments, to the left and right
and from above and below, are made compact and averaged.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from netferry.converters.html.ranks import Ranked

NODE_GAP, BEND_GAP = 36.0, 22.0


def place(graph: Ranked, widths: Sequence[float]) -> list[float]:
    """Return the horizontal centre of every node and bend; the drawing's left edge is at 0.

    Args:
        graph: rows in their order.
        widths: widths of the nodes; bends have none.
    """
    position = [0] * len(graph.rank)
    for row in graph.rows:
        for i, v in enumerate(row):
            position[v] = i
    half = [w / 2 + NODE_GAP / 2 for w in widths] + [BEND_GAP / 2] * (len(graph.rank) - graph.nodes)
    crossing = _crossing_long_edges(graph, position)
    found: list[tuple[str, list[float]]] = []
    for upwards in (False, True):
        rows = graph.rows[::-1] if upwards else graph.rows
        neighbours = graph.below if upwards else graph.above
        for mirrored in (False, True):
            turned = [row[::-1] for row in rows] if mirrored else rows
            root = _aligned(turned, neighbours, crossing)
            places = _compact(turned, root, half)
            if mirrored:
                places = [-x for x in places]
            found.append(("right" if mirrored else "left", places))
    return _balanced(found, half)


def _crossing_long_edges(graph: Ranked, position: list[int]) -> set[tuple[int, int]]:
    """Edges between nodes that cross a segment of a long edge: these give way, so that the long edge is straight."""
    out: set[tuple[int, int]] = set()
    for upper, row in zip(graph.rows, graph.rows[1:], strict=False):
        left, seen = 0, 0
        for i, v in enumerate(row):
            inner = next((u for u in graph.above[v] if graph.is_bend(u)), None) if graph.is_bend(v) else None
            if inner is None and i != len(row) - 1:
                continue
            right = len(upper) if inner is None else position[inner]
            for w in row[seen : i + 1]:
                for u in graph.above[w]:
                    outside = position[u] < left or position[u] > right
                    if outside and not (graph.is_bend(u) and graph.is_bend(w)):
                        out.add((u, w))
                        out.add((w, u))
            seen, left = i + 1, right
    return out


def _aligned(rows: Sequence[list[int]], neighbours: list[list[int]], crossing: set[tuple[int, int]]) -> list[int]:
    """Root of the vertical block that each one belongs to: aligned with the median of its neighbours where free."""
    size = len(neighbours)
    root, joined = list(range(size)), list(range(size))
    position = [0] * size
    for row in rows:
        for i, v in enumerate(row):
            position[v] = i
    for row in rows:
        last = -1
        for v in row:
            found = sorted(neighbours[v], key=position.__getitem__)
            for m in dict.fromkeys(((len(found) - 1) // 2, len(found) // 2) if found else ()):
                w = found[m]
                if joined[v] == v and last < position[w] and (v, w) not in crossing:
                    joined[w] = v
                    joined[v] = root[v] = root[w]
                    last = position[w]
    return root


def _compact(rows: Sequence[list[int]], root: list[int], half: Sequence[float]) -> list[float]:
    """Place the blocks as far to the left as their neighbours let them, then close gaps from the right."""
    before: dict[int, dict[int, float]] = {}
    after: dict[int, dict[int, float]] = {}
    for row in rows:
        for u, v in itertools.pairwise(row):
            a, b, gap = root[u], root[v], half[u] + half[v]
            if gap > before.setdefault(b, {}).get(a, 0.0):
                before[b][a] = after.setdefault(a, {})[b] = gap
    order = _topological({root[v] for row in rows for v in row}, before, after)
    x: dict[int, float] = {}
    for block in order:
        x[block] = max((x[a] + gap for a, gap in before.get(block, {}).items()), default=0.0)
    for block in reversed(order):
        least = min((x[b] - gap for b, gap in after.get(block, {}).items()), default=None)
        if least is not None:
            x[block] = max(x[block], least)
    return [x[root[v]] for v in range(len(root))]


def _topological(
    blocks: set[int], before: dict[int, dict[int, float]], after: dict[int, dict[int, float]]
) -> list[int]:
    waiting = {b: len(before.get(b, ())) for b in blocks}
    ready = sorted((b for b in blocks if not waiting[b]), reverse=True)
    order: list[int] = []
    while ready:
        block = ready.pop()
        order.append(block)
        for other in after.get(block, ()):
            waiting[other] -= 1
            if not waiting[other]:
                ready.append(other)
    return order


def _balanced(found: list[tuple[str, list[float]]], half: Sequence[float]) -> list[float]:
    """Align the four with the narrowest, and take the mean of the middle two for each."""

    def ends(places: list[float]) -> tuple[float, float]:
        return min(x - h for x, h in zip(places, half, strict=True)), max(
            x + h for x, h in zip(places, half, strict=True)
        )

    if not half:
        return []
    low, high = min((ends(places) for _, places in found), key=lambda e: e[1] - e[0])
    moved: list[list[float]] = []
    for side, places in found:
        a, b = ends(places)
        shift = low - a if side == "left" else high - b
        moved.append([x + shift for x in places])
    out = [sum(sorted(xs)[1:3]) / 2 for xs in zip(*moved, strict=True)]
    least = min(x - h for x, h in zip(out, half, strict=True))
    return [x - least for x in out]
