"""The order on each row of a drawing: few crossings, by sweeps of barycentres (Sugiyama et al., 1981)."""

from __future__ import annotations

from netferry.converters.html.ranks import Ranked

_SWEEPS = 12
_LARGE = 20_000


def put_in_order(graph: Ranked) -> None:
    """Reorder ``graph.rows`` in place; the best of all sweeps stays."""
    rows = graph.rows
    position = _positions(graph)
    best, least = [list(row) for row in rows], crossings(graph, position)
    sweeps = _SWEEPS if len(graph.rank) < _LARGE else 3
    for sweep in range(sweeps):
        if not least:
            break
        downwards = sweep % 2 == 0
        for row in rows[1:] if downwards else rows[-2::-1]:
            neighbours = graph.above if downwards else graph.below
            _sort(row, neighbours, position)
            for i, v in enumerate(row):
                position[v] = i
        found = crossings(graph, position)
        if found < least:
            best, least = [list(row) for row in rows], found
    graph.rows = best


def _positions(graph: Ranked) -> list[int]:
    position = [0] * len(graph.rank)
    for row in graph.rows:
        for i, v in enumerate(row):
            position[v] = i
    return position


def _sort(row: list[int], neighbours: list[list[int]], position: list[int]) -> None:
    """Sort a row by the mean position of each one's neighbours; one without any keeps its place."""
    tied = [v for v in row if neighbours[v]]
    mean = {v: sum(position[w] for w in neighbours[v]) / len(neighbours[v]) for v in tied}
    moved = iter(sorted(tied, key=lambda v: mean[v]))
    row[:] = [next(moved) if neighbours[v] else v for v in row]


def crossings(graph: Ranked, position: list[int]) -> int:
    """Count the crossings between all pairs of neighbouring rows.

    By an accumulator tree, after W. Barth, M. Jünger, P. Mutzel, "Simple and Efficient Bilayer Cross Counting" (2002).
    """
    total = 0
    for row, lower in zip(graph.rows, graph.rows[1:], strict=False):
        ends = [position[w] for v in row for w in sorted(graph.below[v], key=position.__getitem__)]
        tree = [0] * (len(lower) + 1)
        for seen, end in enumerate(ends):
            before, i = 0, end + 1
            while i:
                before += tree[i]
                i &= i - 1
            total += seen - before
            i = end + 1
            while i <= len(lower):
                tree[i] += 1
                i += i & -i
    return total
