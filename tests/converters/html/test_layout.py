"""The drawing's rules: rows, crossings, straight long lines, nothing over anything else."""

from __future__ import annotations

import itertools
import random

import pytest

from netferry.converters.html.layout import Drawing, draw
from netferry.converters.html.order import crossings, put_in_order
from netferry.converters.html.ranks import ranked

RESIDUAL = [(0, 1), (1, 2), (2, 3), (3, 4), (0, 4), (4, 5), (5, 6), (6, 7), (4, 7)]


def random_graph(seed: int, nodes: int = 60) -> list[tuple[int, int]]:
    rng = random.Random(seed)
    chain = [(rng.randrange(max(0, i - 4), i), i) for i in range(1, nodes)]
    return chain + [(rng.randrange(i), i) for i in range(1, nodes) if rng.random() < 0.3]


def apart(drawing: Drawing, sizes: list[tuple[float, float]]) -> bool:
    boxes = [(x, y, x + w, y + h) for (x, y), (w, h) in zip(drawing.corners, sizes, strict=True)]
    return all(
        a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1] for a, b in itertools.combinations(boxes, 2)
    )


@pytest.mark.parametrize("seed", range(8))
def test_boxes_stand_apart_and_lines_run_down(seed: int) -> None:
    rng = random.Random(seed)
    edges = random_graph(seed)
    sizes = [(rng.uniform(40, 300), rng.choice([27.0, 51.0, 75.0])) for _ in range(60)]
    drawing = draw(sizes, edges)
    assert apart(drawing, sizes)
    assert {(line.source, line.target) for line in drawing.lines} == set(edges)
    for line in drawing.lines:
        assert not line.back
        assert drawing.corners[line.source][1] + sizes[line.source][1] <= drawing.corners[line.target][1]
        left, top, right, bottom = line.box
        assert top < bottom
        assert left >= 0
        assert right <= drawing.width
    assert all(x >= 0 and x + w <= drawing.width for (x, _), (w, _) in zip(drawing.corners, sizes, strict=True))
    assert all(y >= 0 and y + h <= drawing.height for (_, y), (_, h) in zip(drawing.corners, sizes, strict=True))


def test_lines_do_not_run_through_boxes() -> None:
    """A line passes a row in a vertical piece, which no box of the row covers."""
    edges = random_graph(3)
    graph = ranked(60, edges)
    sizes = [(100.0, 30.0)] * 60
    drawing = draw(sizes, edges)
    for line in drawing.lines:
        numbers = [float(n) for n in line.path.replace("M", " ").replace("L", " ").replace("C", " ").split()]
        points = list(zip(numbers[::2], numbers[1::2], strict=True))
        for v in range(60):
            if v in (line.source, line.target):
                continue
            x, y = drawing.corners[v]
            inside = [p for p in points if x < p[0] < x + 100 and y < p[1] < y + 30]
            assert not inside, (line, v)
    assert graph.left_out == []


def test_a_long_skip_connection_is_straight() -> None:
    drawing = draw([(120.0, 50.0)] * 8, RESIDUAL)
    skip = next(line for line in drawing.lines if (line.source, line.target) == (0, 4))
    straight = [piece for piece in skip.path.split("L") if piece]
    xs = {piece.split()[0] for piece in straight[1:] if "C" not in piece}
    assert len(xs) == 1


def test_a_chain_is_a_column() -> None:
    drawing = draw([(60.0, 30.0), (120.0, 30.0), (80.0, 30.0)], [(0, 1), (1, 2)])
    centres = {round(x + w / 2, 3) for (x, _), w in zip(drawing.corners, (60, 120, 80), strict=True)}
    assert len(centres) == 1


def test_cycles_are_drawn_upwards() -> None:
    drawing = draw([(60.0, 30.0)] * 3, [(0, 1), (1, 2), (2, 1)])
    assert {(line.source, line.target): line.back for line in drawing.lines} == {
        (0, 1): False, (1, 2): False, (2, 1): True,
    }  # fmt: skip
    assert apart(drawing, [(60.0, 30.0)] * 3)


def test_a_source_stands_just_above_what_reads_it() -> None:
    graph = ranked(6, [(0, 1), (1, 2), (2, 3), (3, 4), (5, 4)])
    assert graph.rank[5] == graph.rank[4] - 1


def brute_force(graph: object, rows: list[list[int]], below: list[list[int]]) -> int:
    total = 0
    for row, lower in itertools.pairwise(rows):
        place = {v: i for i, v in enumerate(lower)}
        lines = [(i, place[w]) for i, v in enumerate(row) for w in below[v]]
        total += sum((a[0] - b[0]) * (a[1] - b[1]) < 0 for a, b in itertools.combinations(lines, 2))
    return total


@pytest.mark.parametrize("seed", range(4))
def test_crossings_are_counted_and_fall(seed: int) -> None:
    graph = ranked(40, random_graph(seed, 40))
    position = [0] * len(graph.rank)
    for row in graph.rows:
        for i, v in enumerate(row):
            position[v] = i
    before = crossings(graph, position)
    assert before == brute_force(graph, graph.rows, graph.below)
    put_in_order(graph)
    after = brute_force(graph, graph.rows, graph.below)
    assert after <= before
    assert after < before or before == 0


def test_too_many_bends_leave_the_longest_lines_out() -> None:
    nodes = 400
    edges = [(i, i + 1) for i in range(nodes - 1)] + [(i, nodes - 1) for i in range(nodes - 2)]
    graph = ranked(nodes, edges)
    assert graph.left_out
    assert len(graph.rank) <= nodes + 40_000
    assert all((i, i + 1) in graph.chains for i in range(nodes - 1))
    assert (0, nodes - 1) in graph.left_out
    assert (nodes - 3, nodes - 1) in graph.chains


def test_nothing_to_draw() -> None:
    assert draw([], []).lines == []
