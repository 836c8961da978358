"""Constants and values that pin a batch, mended where they stand; the rules of :mod:`rebatch`."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from netferry.converters.passes.opset_rules import Names, Rewriter, fixed_array
from netferry.converters.passes.polynomials import Poly, number, product, symbol
from netferry.converters.passes.sizes_of_one import Sizes
from netferry.errors import quoted
from netferry.schemas.ir import ir
from netferry.schemas.layers import layer_of, read_by
from netferry.schemas.model import Model

Key = tuple[str, ...]
"""what an ambiguous reshape looks like"""
_END = np.iinfo(np.int64).max


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


def _all(sizes: list[Poly | None]) -> Poly | None:
    """The product; None where a size is not known."""
    known = [s for s in sizes if s is not None]
    return product(known) if len(known) == len(sizes) else None


class Mender:
    """What is known at one node, and how each operator lets go of a fixed batch."""

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

    # constants that pin the batch --------------------------------------------------------------------------------

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

    def _mend_reshape(self, b: Rewriter) -> None:
        x, wanted = b.data(), b.data(1)
        dims, numbers = self._dims(x), self.sizes.numbers(wanted)
        axis = self.axis(x)
        if axis is None:
            return
        if numbers is None:
            return  # computed from what is not followed: the run decides
        if any(self._carries(n) for n in numbers):
            return
        copies = not b.attribute("allowzero", 0)
        out = self._resolved(numbers, dims, copies, b.node.outputs[0])
        place = self._place(x, dims, axis, out, b.node.outputs[0])
        if place is None:
            raise Refused(f"the shape {[n.number for n in numbers]} breaks the batch up")
        asked = numbers[place].number
        if asked == -1 or (asked == 0 and copies and place == axis):
            return
        array = fixed_array(wanted)
        if array is not None and array.size == len(numbers):
            fixed = [int(v) for v in array.reshape(-1)]
            taken = out[place]
            if copies and place == axis and taken is not None and self._at(dims[axis]) == self._at(taken):
                fixed[place] = 0
                self._feed(b, fixed)
                return
            if -1 not in fixed:
                fixed[place] = -1
                self._feed(b, fixed)
                return
            other = fixed.index(-1)
            rest = out[other]
            if rest is not None and (known := rest.number) is not None:
                fixed[place], fixed[other] = -1, known
                self._feed(b, fixed)
                return
        factor = (asked or 0) // self.size
        element = self._batch_of(b, x)
        if factor != 1:
            element = b.op("Mul", element, np.array([factor], np.int64))
        b.feed(1, self._made(self._with_element(b, wanted, len(numbers), place, element)))
        self._note(b, f"shape[{place}] follows the batch")

    def _place(
        self, x: ir.Value, dims: tuple[Poly, ...], axis: int, out: list[Poly | None], output: ir.Value
    ) -> int | None:
        """The axis of a reshaped value that takes the batch, by what lies in front of it and behind it in memory.

        An axis of its own comes first; then the axis whose fastest part the batch can be, as trailing axes hold
        features whose number weights fix; then the one whose slowest part it can be. Where several can be, what
        follows decides: a way that ends in a refusal is tried no more.
        """
        factor = dims[axis].over(self.batch) or number(1)
        front, back = product(dims[:axis]), product(dims[axis + 1 :])
        if x in self.fast:
            front = front * factor
        else:
            back = back * factor
        before = [_all(out[:i]) for i in range(len(out))]
        behind = [_all(out[i + 1 :]) for i in range(len(out))]
        whole = [None if d is None else self._at(d) for d in out]
        fits = [w is None or w % self.size == 0 for w in whole]
        for i in range(len(out)):
            own = whole[i] in (None, self.size)
            if own and before[i] in (None, front) and behind[i] in (None, back) and (before[i] or behind[i]):
                return i
        ways = [(i, True) for i in range(len(out)) if fits[i] and behind[i] == back and axis > 0]
        ways += [(i, False) for i in range(len(out)) if fits[i] and before[i] == front][:1]
        if not ways:
            return None
        key = (*map(str, dims), str(x in self.fast), "to", *map(str, out))
        self.chosen.setdefault(key, len(ways))
        place, fast = ways[min(self.choices.get(key, 0), len(ways) - 1)]
        if fast:
            self.fast.add(output)
        return place

    def _feed(self, b: Rewriter, shape: list[int]) -> None:
        b.feed(1, np.array(shape, np.int64), "shape")
        self._note(b, f"shape {shape}")

    def _resolved(
        self, numbers: tuple[Poly, ...], dims: tuple[Poly, ...], copies: bool, output: ir.Value
    ) -> list[Poly | None]:
        """The wanted shape without 0 and -1; None for the -1 where only the run tells it."""
        before = self.before.get(output)
        out: list[Poly | None] = []
        for i, one in enumerate(numbers):
            old = before[i] if before is not None and i < len(before) else None
            if one.number == 0 and copies and i < len(dims):
                out.append(dims[i])
            elif one.number == -1:
                out.append(number(old) if isinstance(old, int) else None)
            else:
                out.append(one)
        return out

    def _mend_expand(self, b: Rewriter) -> None:
        x, wanted = b.data(), b.data(1)
        dims, numbers, axis = self._dims(x), self.sizes.numbers(wanted), self.axis(x)
        if axis is None or numbers is None:
            return
        place = axis + len(numbers) - len(dims)
        if place < 0 or self._carries(numbers[place]) or numbers[place].number in (1, None):
            return
        if numbers[place].number != self._at(dims[axis]):
            raise Refused("expands the batch to another size")
        one = b.const(np.array([1], np.int64))
        array = fixed_array(wanted)
        if array is not None:
            fixed = np.array(array).reshape(-1)
            fixed[place] = 1
            b.feed(1, fixed.astype(np.int64), "shape")
        else:
            b.feed(1, self._made(self._with_element(b, wanted, len(numbers), place, one)))
        self._note(b, f"shape[{place}] no longer says the batch")

    def _mend_slice(self, b: Rewriter) -> None:
        rank, axis = len(self._dims(b.data())), self.axis(b.data())
        if axis is None:
            return
        old = self.model.opset < 10
        parts = ("starts", "ends", "axes", "steps")
        starts, ends, axes, steps = (self._slice_part(b, i, name) for i, name in enumerate(parts, 1))
        count = len(starts or ends or ())
        places = list(range(count)) if axes is None else [-1 if a is None else a % rank for a in axes]
        if axis not in places or starts is None or ends is None:
            return
        at = places.index(axis)
        start, end, whole = starts[at], ends[at], self._at(self._dims(b.data())[axis])
        if start is None or end is None or whole is None or (start == 0 and end >= _END >> 1):
            return  # computed, as from the batch itself: the run decides
        if (steps is not None and steps[at] != 1) or start not in (0, -whole) or end < whole:
            raise Refused("takes a part of the batch")
        starts[at], ends[at] = 0, _END
        plain_starts, plain_ends = ([v for v in part if v is not None] for part in (starts, ends))
        if len(plain_starts) < count or len(plain_ends) < count:
            raise Refused("other bounds of it are computed at run time")
        if old:
            b.set(starts=plain_starts, ends=plain_ends)
        else:
            b.feed(1, np.array(plain_starts, np.int64), "starts")
            b.feed(2, np.array(plain_ends, np.int64), "ends")
        self._note(b, "takes the whole batch, whatever its size")

    def _slice_part(self, b: Rewriter, i: int, name: str) -> list[int | None] | None:
        """Starts, ends, axes or steps: numbers, None for one that is computed; None where all are, or none is given."""
        if self.model.opset < 10:
            held = b.attribute(name)
            return None if held is None else list(held)
        value = b.input_at(i)
        known = None if value is None else self.sizes.numbers(value)
        return None if known is None else [p.number for p in known]

    def _mend_squeeze(self, b: Rewriter) -> None:
        dims = self._dims(b.data())
        given = b.attribute("axes") if self.model.opset < 13 else b.ints(1, "the list of axes")
        if given is None:
            axes = [i for i, d in enumerate(dims) if d.number == 1]
            if self.model.opset < 13:
                b.set(axes=axes)
            else:
                b.feed(1, np.array(axes, np.int64), "axes")
            self._note(b, f"axes {axes}: a batch of 1 stays")

    def _mend_flatten(self, b: Rewriter) -> None:
        axis = self.axis(b.data())
        rank = len(self._dims(b.data()))
        if axis is not None and b.attribute("axis", 1) % (rank + 1) <= axis:
            raise Refused("flattens the batch into the features")

    def _mend_resize(self, b: Rewriter) -> None:
        sizes, axis = b.input_at(3), self.axis(b.data())
        numbers = None if sizes is None else self.sizes.numbers(sizes)
        if sizes is None or numbers is None or axis is None:
            return
        axes = b.attribute("axes")
        place = axis if axes is None else (axes.index(axis) if axis in axes else None)
        if place is None or self._carries(numbers[place]):
            return
        element = b.op("Gather", b.op("Shape", b.data()), np.array([axis], np.int64), axis=0)
        b.feed(3, self._made(self._with_element(b, sizes, len(numbers), place, element)))
        self._note(b, f"sizes[{place}] follows the batch")

    # values that stand beside the batch ---------------------------------------------------------------------------

    def _mend_recurrent(self, b: Rewriter) -> None:
        first = bool(b.attribute("layout", 0))
        place = 0 if first else 1
        if self.axis(b.data()) != place:
            raise Refused(f"takes the batch on axis {place}, it comes on axis {self.axis(b.data())}")
        for i in (4, 5, 6):
            value = b.input_at(i)
            if value is not None and self.axis(value) is None:
                self._spread(b, i, value, 0 if first or i == 4 else 1, b.data())

    def _mend_gemm(self, b: Rewriter) -> None:
        value = b.input_at(2)
        if value is not None and self.axis(value) is None and len(self._dims(value)) == 2 and self.size > 1:
            first = self._dims(value)[0].number
            if first == self.size and self.axis(b.data()) == (1 if b.attribute("transA", 0) else 0):
                b.feed(2, self._made(self._first_row(b, value, 0)))

    def _join(self, b: Rewriter) -> None:
        """Operands that meet the batch with its old size: one row of them broadcasts, or is expanded for Concat."""
        concat = b.node.op_type == "Concat"
        dims = {v: self._dims(v) for v in b.node.inputs if v is not None}
        sample, behind = next((v, len(d) - a) for v, d in dims.items() if (a := self.axis(v)) is not None)
        for i, value in enumerate(list(b.node.inputs)):
            if value is None or value not in dims or self.axis(value) is not None:
                continue
            place = len(dims[value]) - behind
            if place < 0:
                continue
            size = dims[value][place].number
            if concat:
                self._spread(b, i, value, place, sample)
            elif size is not None and size != 1:
                if size != self.size:
                    raise Refused(f"meets the batch with a size of {size}")
                self._refuse_inputs(value)
                b.feed(i, self._made(self._first_row(b, value, place)))
                self._note(b, f"input {i}: one row, which broadcasts")

    def _first_row(self, b: Rewriter, value: ir.Value, axis: int) -> ir.Value:
        return b.op("Slice", value, [0], [1], [axis])

    def _spread(self, b: Rewriter, i: int, value: ir.Value, axis: int, sample: ir.Value) -> None:
        """Let a value that is the same for every sample have the batch's size."""
        dims = self._dims(value)
        if dims[axis].number != self.size:
            raise Refused(f"meets the batch with a size of {dims[axis]}")
        self._refuse_inputs(value)
        row = value if self.size == 1 else self._first_row(b, value, axis)
        ones = b.const(np.ones(len(dims), np.int64))
        shape = self._with_element(b, ones, len(dims), axis, self._batch_of(b, sample))
        b.feed(i, self._made(b.op("Expand", row, shape)))
        self._note(b, f"input {i} is expanded to the batch")

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
