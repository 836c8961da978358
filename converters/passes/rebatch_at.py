"""What the rules of :mod:`rebatch` know at a node: where the batch is, how large; and the small changes they share."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from netferry.converters.passes.opset_rules import Names, Rewriter
from netferry.converters.passes.polynomials import Poly, symbol
from netferry.converters.passes.sizes_of_one import Sizes
from netferry.errors import quoted
from netferry.schemas.ir import ir
from netferry.schemas.layers import layer_of, read_by
from netferry.schemas.model import Model

Key = tuple[str, ...]
"""what an ambiguous reshape looks like"""


@dataclass
class Mended:
    """What was done.

    Attributes:
        size: the batch that was baked in.
        axes: the batch's axis of each input.
        changed: (layer, what) of each change.
        outputs: the batch's axis of each output; None where it has none.
    """

    size: int
    axes: dict[str, int]
    changed: list[tuple[str, str]] = field(default_factory=list)
    outputs: dict[str, int | None] = field(default_factory=dict)


class Refused(Exception):
    """A node keeps the batch; the argument says why."""


class AtNode:
    """What is known at one node while a batch is let go of."""

    def __init__(self, model: Model, mended: Mended, name: str, choices: dict[Key, int]) -> None:
        self.model, self.mended, self.name, self.size = model, mended, name, mended.size
        self.choices, self.chosen = choices, dict[Key, int]()
        """which of several ways to take at a reshape, and how many there were at each that was met"""
        self.batch = symbol(name)
        self.sizes = Sizes(model.graph, model.opset)
        self.names = Names.of(model.graph)
        self.before = {v: v.shape for node in model.graph for v in node.outputs}
        self.fast: set[ir.Value] = set()
        """values that have the batch in one axis with other sizes, as its fastest part"""

    def axis(self, value: ir.Value | None) -> int | None:
        """The axis that carries the batch; None where none does."""
        dims = None if value is None else self.sizes.shape(value)
        found = [i for i, d in enumerate(dims or ()) if self._carries(d)]
        if len(found) > 1:
            raise Refused("carries the batch on two axes")
        return found[0] if found else None

    def _carries(self, size: Poly) -> bool:
        return any(self.name in term for term, _ in size.terms)

    def _at(self, size: Poly) -> int | None:
        """A size with the batch that was baked in; None where another dynamic dimension is in it."""
        total = 0
        for term, factor in size.terms:
            if any(part != self.name for part in term):
                return None
            total += factor * self.size ** len(term)
        return total

    def _note(self, b: Rewriter, what: str) -> None:
        self.mended.changed.append((layer_of(b.node)[0], what))

    def _dims(self, value: ir.Value) -> tuple[Poly, ...]:
        dims = self.sizes.shape(value)
        if dims is None:
            raise Refused("the shape of its input is not known")
        return dims

    def _made(self, value: ir.Value) -> ir.Value:
        """Follow the sizes of nodes that were put in."""
        node = value.producer()
        if node is not None and self.sizes.shape(value) is None:
            for read in node.inputs:
                if read is not None:
                    self._made(read)
            self.sizes.node(node)
        return value

    def _batch_of(self, b: Rewriter, value: ir.Value) -> ir.Value:
        """The size of the batch, from a value that has it on an axis of its own (one element of a vector)."""
        axis = self.axis(value)
        assert axis is not None
        size = b.op("Gather", b.op("Shape", value), np.array([axis], np.int64), axis=0)
        factor = self._dims(value)[axis].over(self.batch)
        if factor is None or factor.number is None:
            raise Refused("the batch is mixed with another dynamic size")
        return size if factor.number == 1 else b.op("Div", size, np.array([factor.number], np.int64))

    def _with_element(self, b: Rewriter, vector: ir.Value, count: int, place: int, element: ir.Value) -> ir.Value:
        """A vector computed at run time with one element replaced."""
        parts: list[ir.Value] = []
        if place:
            parts.append(b.op("Slice", vector, [0], [place], [0]))
        parts.append(element)
        if place + 1 < count:
            parts.append(b.op("Slice", vector, [place + 1], [count], [0]))
        return b.op("Concat", *parts, axis=0) if len(parts) > 1 else parts[0]

    def _first_row(self, b: Rewriter, value: ir.Value, axis: int) -> ir.Value:
        return b.op("Slice", value, [0], [1], [axis])

    def _refuse_inputs(self, value: ir.Value) -> None:
        """A value that a caller feeds has a batch of its own, which must be named."""
        waiting, seen = [value], {value}
        while waiting:
            one = waiting.pop()
            if one.is_graph_input() and not one.is_initializer() and one.name not in self.mended.axes:
                raise Refused(
                    f"meets the input {quoted(one.name or '')}: --axis {one.name}=AXIS says where its batch is"
                )
            node = one.producer()
            if node is None or node.op_type in ("Shape", "Size"):
                continue
            for read in read_by(node):
                if read not in seen:
                    seen.add(read)
                    waiting.append(read)
