"""Which layers stay in float32 where the whole graph in half precision is too far off: found by measuring.

Automatic mixed precision of frameworks goes by lists of operators. That does not help where every operator is harmless
and the network amplifies: each layer's rounding is multiplied by what follows, so that the first layers, which hold few
of the weights, make most of the difference. Here every part of the network (a layer with weights and what follows it)
is run in half precision alone, which tells what its rounding costs; parts are ranked by that, over their bytes; then
the number of ranked parts that stay in float32 is bisected, and what need not stay is given back, largest first. The
same is tried in the graph's order, and what leaves fewer bytes in float32 is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from netferry.converters.passes.precision_report import PrecisionReport
from netferry.schemas.ir import ir
from netferry.schemas.layers import layer_of
from netferry.schemas.model import Model

LEAST_SHARE = 0.05
"""a result that has fewer of its weights' bytes in half precision is no result"""
_BACK = 16
"""how many runs may be spent on giving parts back"""


@dataclass
class Part:
    """Layers that change their precision together."""

    layers: dict[str, None] = field(default_factory=dict)
    weight_bytes: int = 0
    """in half precision"""
    neighbours: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class Mix:
    """Parts that stay in float32, and what was measured."""

    kept: frozenset[int]
    error: float
    costs: Mapping[int, float]
    """part: the largest relative difference that its rounding alone makes (of the group that it was run with)"""
    runs: int


def parts_of(model: Model, report: PrecisionReport) -> list[Part]:
    """Return the turned layers of a half-precision model in parts, in graph order.

    A layer that reads a half weight of two or more dimensions begins a part; others join the part that gives them
    their last input: a float32 value between two operators in half precision would gain nothing.
    """
    parts: list[Part] = []
    of_layer: dict[str, int] = {}
    of_value: dict[ir.Value, int] = {}
    weighed: set[ir.Value] = set()
    for node in model.graph:
        read = [v for v in node.inputs if v is not None]
        before = {of_value[v] for v in read if v in of_value}
        if not any((v.name or "") in report.halves for v in node.outputs):
            if before:  # what stays in float32, and Casts, lead on
                of_value.update(dict.fromkeys(node.outputs, max(before)))
            continue
        weights = [v for v in read if (v.name or "") in report.made_of]
        name = layer_of(node)[0]
        if name not in of_layer:
            heavy = any(v.shape is not None and len(v.shape) >= 2 for v in weights)
            if heavy or not before:
                parts.append(Part())
            of_layer[name] = len(parts) - 1 if heavy or not before else max(before)
        number = of_layer[name]
        part = parts[number]
        part.layers[name] = None
        for value in weights:
            if value not in weighed and value.const_value is not None:
                weighed.add(value)
                part.weight_bytes += value.const_value.nbytes
        for other in before - {number}:
            part.neighbours.add(other)
            parts[other].neighbours.add(number)
        of_value.update(dict.fromkeys(node.outputs, number))
    return parts


class Mixer:
    """Finds the parts that have to stay in float32.

    Args:
        parts: see :func:`parts_of`.
        alone: largest relative difference with only these parts in half precision; used for the ranking.
        groups: how many runs the ranking may take; neighbouring parts are measured together where there are more.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        alone: Callable[[np.ndarray], float],
        groups: int,
    ) -> None:
        self.parts, self.runs = parts, 0
        self.total = sum(part.weight_bytes for part in parts)
        self._apart, self._known = alone, dict[frozenset[int], float]()
        self.costs: dict[int, float] = {}
        score: dict[int, float] = {}
        base = 0.25 * self.total / max(1, len(parts)) + 1
        for group in np.array_split(np.arange(len(parts)), min(groups, len(parts))):
            cost = alone(self._mask(set(range(len(parts))) - set(group.tolist())))
            self.runs += 1
            for number in group.tolist():
                self.costs[number] = cost
                score[number] = cost**2 / len(group) / (parts[number].weight_bytes + base)
        self.ranked = sorted(score, key=lambda number: (-score[number], number))
        self._orders = (self.ranked, sorted(score))

    def find(self, apart: Callable[[np.ndarray], float], target: float) -> Mix | None:
        """Return the parts that stay, or None where no mix with a share of half precision is within the target.

        Args:
            apart: largest relative difference with these parts in half precision, as it counts.
            target: what is allowed.
        """
        self._apart, self._known = apart, {}
        found = [kept for order in self._orders if (kept := self._first(order, target)) is not None]
        if not found:
            return None
        kept = min(found, key=self._bytes)
        return Mix(kept, self._error(kept), self.costs, self.runs)

    def _first(self, order: list[int], target: float) -> frozenset[int] | None:
        """How many parts of an order have to stay, less those that need not."""
        self.ranked = order
        low, high = 1, self._most()
        if high < 1 or not self._error(self._closed(high)) <= target:
            return None
        while low < high:
            middle = (low + high) // 2
            if self._error(self._closed(middle)) <= target:
                high = middle
            else:
                low = middle + 1
        return self._given_back(self._closed(high), target)

    def _bytes(self, kept: frozenset[int]) -> int:
        return sum(self.parts[number].weight_bytes for number in kept)

    def _most(self) -> int:
        """The largest number of ranked parts of which the rest is a share worth having."""
        for count in range(len(self.parts) - 1, 0, -1):
            if self._worth(self._closed(count)):
                return count
        return 0

    def _worth(self, kept: frozenset[int]) -> bool:
        left = self.total - self._bytes(kept)
        return len(kept) < len(self.parts) and left >= LEAST_SHARE * self.total

    def _closed(self, count: int) -> frozenset[int]:
        """The first ranked parts, and light ones that lie between float32 parts alone: two Casts for little."""
        kept = set(self.ranked[:count])
        for number, part in enumerate(self.parts):
            light = part.weight_bytes <= 0.005 * self.total
            if number not in kept and light and len(part.neighbours) > 1 and part.neighbours <= kept:
                kept.add(number)
        return frozenset(kept)

    def _given_back(self, kept: frozenset[int], target: float) -> frozenset[int]:
        tries = sorted(kept, key=lambda n: (-self.parts[n].weight_bytes, self.costs[n], n))[:_BACK]
        for number in tries:
            if len(kept) > 1 and self._error(kept - {number}) <= target:
                kept -= {number}
        return kept

    def _error(self, kept: frozenset[int]) -> float:
        if kept not in self._known:
            self._known[kept] = self._apart(self._mask(set(kept)))
            self.runs += 1
        return self._known[kept]

    def _mask(self, kept: set[int]) -> np.ndarray:
        """True: in half precision."""
        return np.array([n not in kept for n in range(len(self.parts))])
