"""Ranks of a drawing: every node on a row below all that it reads, long edges led through the rows between.

The first two steps of layered drawing after K. Sugiyama et al., "Methods for Visual Understanding of Hierarchical
System Structures" (1981): cycles are broken, rows are assigned by the longest path, and an edge over several rows
becomes a chain of bends.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

MAX_BENDS = 40_000
"""more bends than this make no drawing that anybody could follow: the longest edges are then not drawn"""


@dataclass
class Ranked:
    """Nodes and bends on rows.

    Nodes keep their numbers, bends follow. ``chains`` has for each drawn edge its numbers from the upper to the lower
    end; an edge of a cycle that was turned is in ``turned`` and its chain runs from its target to its source.
    """

    rank: list[int]
    rows: list[list[int]]
    chains: dict[tuple[int, int], list[int]]
    turned: set[tuple[int, int]]
    left_out: list[tuple[int, int]] = field(default_factory=list)
    above: list[list[int]] = field(default_factory=list)
    below: list[list[int]] = field(default_factory=list)
    nodes: int = 0

    def is_bend(self, v: int) -> bool:
        """Whether a number stands for a bend, not a node."""
        return v >= self.nodes


def ranked(nodes: int, edges: Sequence[tuple[int, int]]) -> Ranked:
    """Put nodes 0 .. ``nodes`` - 1 on rows; edges between a node and itself are ignored, equal ones count once."""
    unique = list(dict.fromkeys((a, b) for a, b in edges if a != b))
    turned = _turned(nodes, unique)
    down = [(b, a) if (a, b) in turned else (a, b) for a, b in unique]
    rank = _longest(nodes, down)
    chains: dict[tuple[int, int], list[int]] = {}
    left_out: list[tuple[int, int]] = []
    bends = 0
    for (a, b), (u, v) in sorted(zip(unique, down, strict=True), key=lambda pair: rank[pair[1][1]] - rank[pair[1][0]]):
        span = rank[v] - rank[u] - 1
        if bends + span > MAX_BENDS:
            left_out.append((a, b))
            continue
        bends += span
        chains[a, b] = [u, v]
    for (a, b), (u, v) in zip(unique, down, strict=True):
        if (a, b) not in chains:
            continue
        chain = [u]
        for row in range(rank[u] + 1, rank[v]):
            chain.append(len(rank))
            rank.append(row)
        chains[a, b] = [*chain, v]
    out = Ranked(rank, [], chains, turned & chains.keys(), left_out, nodes=nodes)
    out.above, out.below = [[] for _ in rank], [[] for _ in rank]
    for chain in {tuple(c): None for c in chains.values()}:
        for u, v in itertools.pairwise(chain):
            if v not in out.below[u]:
                out.below[u].append(v)
                out.above[v].append(u)
    out.rows = [[] for _ in range(max(rank, default=-1) + 1)]
    for v, row in enumerate(rank):
        out.rows[row].append(v)
    return out


def _turned(nodes: int, edges: Sequence[tuple[int, int]]) -> set[tuple[int, int]]:
    """Edges that close a cycle, found by depth-first search in the nodes' order."""
    following: list[list[int]] = [[] for _ in range(nodes)]
    for a, b in edges:
        following[a].append(b)
    state = [0] * nodes  # 1: on the path, 2: done
    found: set[tuple[int, int]] = set()
    for start in range(nodes):
        if state[start]:
            continue
        path = [(start, iter(following[start]))]
        state[start] = 1
        while path:
            node, rest = path[-1]
            for other in rest:
                if state[other] == 1:
                    found.add((node, other))
                elif state[other] == 0:
                    state[other] = 1
                    path.append((other, iter(following[other])))
                    break
            else:
                state[node] = 2
                path.pop()
    return found


def _longest(nodes: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """Row of each node: one below the lowest that it reads; what reads nothing lies just above its first reader."""
    following: list[list[int]] = [[] for _ in range(nodes)]
    waiting = [0] * nodes
    for a, b in edges:
        following[a].append(b)
        waiting[b] += 1
    sources = [v for v in range(nodes) if not waiting[v]]
    rank = [0] * nodes
    ready = list(sources)
    while ready:
        node = ready.pop()
        for other in following[node]:
            rank[other] = max(rank[other], rank[node] + 1)
            waiting[other] -= 1
            if not waiting[other]:
                ready.append(other)
    for node in sources:
        if following[node]:
            rank[node] = min(rank[other] for other in following[node]) - 1
    least = min(rank, default=0)
    return [r - least for r in rank]
