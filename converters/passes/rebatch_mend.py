"""Constants that pin a batch, mended where they stand; the rules of :mod:`rebatch`."""

from __future__ import annotations

import numpy as np

from netferry.converters.passes.opset_rules import Rewriter, fixed_array
from netferry.converters.passes.polynomials import Poly, number, product
from netferry.converters.passes.rebatch_at import Key, Mended, Refused
from netferry.converters.passes.rebatch_beside import Beside
from netferry.schemas.ir import ir

__all__ = ["Key", "Mended", "Mender", "Refused"]
_END = np.iinfo(np.int64).max


def _all(sizes: list[Poly | None]) -> Poly | None:
    """The product; None where a size is not known."""
    known = [s for s in sizes if s is not None]
    return product(known) if len(known) == len(sizes) else None


class Mender(Beside):
    """How each operator lets go of a fixed batch."""

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
