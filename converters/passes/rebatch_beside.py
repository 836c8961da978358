"""Values that stand beside a batch and have its old size: states, addends, operands, what is joined to it."""

from __future__ import annotations

import numpy as np

from netferry.converters.passes.opset_rules import Rewriter
from netferry.converters.passes.rebatch_at import AtNode, Refused
from netferry.schemas.ir import ir


class Beside(AtNode):
    """How what meets the batch takes its size."""

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
