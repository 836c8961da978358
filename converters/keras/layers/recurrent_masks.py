"""Masked steps for ONNX's recurrent operators, which know no masks but lengths.

Keras carries the state over a masked step and repeats the output before it. A recurrent operator does the same to
every mask if the steps that count are first moved to the front (their number is the length) and its outputs are
then taken back to where they belong. Where masked steps can only be the last ones (``Mask.right_padded``, or the
caller says so with ``right_padded_masks``) nothing has to move.
"""

from __future__ import annotations

from netferry.converters.keras.arguments import flattened
from netferry.converters.keras.layer import Layer
from netferry.converters.keras.layout import KT, Mask, explicit_mask
from netferry.schemas.graph import Builder, shape_of
from netferry.schemas.ir import ir

_INT32, _INT64 = int(ir.DataType.INT32), int(ir.DataType.INT64)


def mask_of(l: Layer, x: KT) -> Mask | None:
    """The mask that a call gives explicitly, else that of its input.

    Keras 3 passes an input's own mask on only where the input is the call's one tensor: not beside initial states.
    """
    given = l.kwargs.get("mask")
    if isinstance(given, (list, tuple)):
        given = given[0] if given else None
    if isinstance(given, Mask):
        return given
    if isinstance(given, KT):
        return explicit_mask(given)
    if l.generation == 3 and any(isinstance(v, KT) for v in flattened(l.kwargs.get("initial_state"))):
        return None
    return x.mask


class Steps:
    """Which steps of a batch count, in the forms that recurrent operators need.

    Args:
        mask: the mask, (batch, time), or (time, batch) where ``time_major``.
        padded: whether masked steps can only be the last ones.
    """

    def __init__(self, b: Builder, mask: Mask, *, padded: bool, time_major: bool) -> None:
        self.b, self.mask, self.padded, self.time_major = b, mask, padded, time_major

    def _shared(self, name: str) -> ir.Value:
        """A value that all layers with this mask share."""
        key = f"{name}/{self.time_major}"
        known = self.mask.derived.get(key)
        if known is None:
            known = self.mask.derived[key] = getattr(self, f"_{name}")()
        return known

    # forms of the mask -----------------------------------------------------------------------------------------

    def _batch_major(self) -> ir.Value:
        value = self.mask.value(self.b)
        return self.b.op("Transpose", value, perm=[1, 0]) if self.time_major else value

    def _stepwise(self) -> ir.Value:
        value = self.mask.value(self.b)
        if not self.time_major:
            value = self.b.op("Transpose", value, perm=[1, 0])
        return self.b.op("Unsqueeze", value, self.b.const([2], "axes"))

    def _featurewise(self) -> ir.Value:
        return self.b.op("Unsqueeze", self._shared("batch_major"), self.b.const([2], "axes"))

    def _numbers(self) -> ir.Value:
        return self.b.op("Cast", self._shared("batch_major"), to=_INT64)

    def _lengths64(self) -> ir.Value:
        return self.b.op("ReduceSum", self._shared("numbers"), self.b.const([1], "axes"), keepdims=1)

    def _lengths(self) -> ir.Value:
        flat = self.b.op("Squeeze", self._shared("lengths64"), self.b.const([1], "axes"))
        return self.b.op("Cast", flat, to=_INT32)

    def _some(self) -> ir.Value:
        return self.b.op("Greater", self._shared("lengths64"), self.b.const(0, "zero"))

    def _sources(self) -> ir.Value:
        """Places of the steps that count, then of the others, each in their order: (batch, time, 1)."""
        b, numbers = self.b, self._shared("numbers")
        steps = b.op("Shape", numbers, start=1, end=2)
        count = b.op("Squeeze", steps, b.const([0], "axes"))
        places = b.op("Range", b.const(0, "start"), count, b.const(1, "delta"))
        keys = b.op("Sub", places, b.op("Mul", numbers, b.const(2**31, "first")))
        _, order = b.op("TopK", keys, steps, outputs=2, axis=1, largest=0, sorted=1)
        order.shape = ir.Shape(list(shape_of(numbers)))
        return b.op("Unsqueeze", order, b.const([2], "axes"))

    def _last(self) -> ir.Value:
        """Number of the last step that counts, up to and with each; -1 before the first."""
        b = self.b
        return b.op("Sub", b.op("CumSum", self._shared("numbers"), b.const(1, "axis")), b.const(1, "one"))

    def _next(self) -> ir.Value:
        """Number of the first step that counts, from each on; the length after the last."""
        return self.b.op("CumSum", self._shared("numbers"), self.b.const(1, "axis"), exclusive=1)

    # what layers ask for ---------------------------------------------------------------------------------------

    @property
    def lengths(self) -> ir.Value:
        """Steps that count per sample: int32 (batch)."""
        return self._shared("lengths")

    @property
    def stepwise(self) -> ir.Value:
        """The mask as bool (time, batch, 1)."""
        return self._shared("stepwise")

    def given(self, x: KT) -> ir.Value:
        """The input (time, batch, features) with the steps that count in front."""
        if self.padded:
            return x.to(self.b, (0, 1, 2) if self.time_major else (1, 0, 2))
        batch_major = x.to(self.b, (1, 0, 2) if self.time_major else (0, 1, 2))
        moved = self.b.op("GatherND", batch_major, self._shared("sources"), batch_dims=1)
        return self.b.op("Transpose", moved, perm=[1, 0, 2])

    def outputs(self, made: ir.Value, final: ir.Value, *, backwards: bool, zeroed: bool) -> KT:
        """Outputs (time, batch, units) back in their places; masked steps repeat the output before, or are zero.

        Args:
            final: the last output, (batch, units).
            backwards: whether the operator went from the last step to the first.
            zeroed: Keras's zero_output_for_mask.
        """
        b = self.b
        swapped = (0, 1, 2) if self.time_major else (1, 0, 2)
        if self.padded:  # the operator gives zeros for what is masked
            if zeroed or backwards:
                return KT(made, swapped)
            repeated = b.op("Unsqueeze", final, b.const([0], "axes"))
            return KT(b.op("Where", self.stepwise, made, repeated), swapped)
        places = self._shared("next" if backwards else "last")
        if zeroed:
            there = self._shared("featurewise")
        else:
            inside = (
                b.op("Less", places, self._shared("lengths64"))
                if backwards
                else b.op("GreaterOrEqual", places, b.const(0, "zero"))
            )
            there = b.op("Unsqueeze", inside, b.const([2], "axes"))
        if not backwards:
            places = b.op("Max", places, b.const(0, "zero"))
        batch_major = b.op("Transpose", made, perm=[1, 0, 2])
        taken = b.op("GatherND", batch_major, b.op("Unsqueeze", places, b.const([2], "axes")), batch_dims=1)
        return KT(b.op("Where", there, taken, b.const(0.0, "zero")), (1, 0, 2) if self.time_major else (0, 1, 2))

    def last(self, final: ir.Value, *, backwards: bool, zeroed: bool) -> ir.Value:
        """The output at the last step: (batch, units)."""
        if not zeroed:
            return final
        b = self.b
        edge = b.op("Gather", self._shared("batch_major"), b.const([0 if backwards else -1], "last"), axis=1)
        return b.op("Where", edge, final, b.const(0.0, "zero"))

    def state(self, final: ir.Value, initial: ir.Value | None) -> ir.Value:
        """A final state (batch, units): the initial one where no step counts."""
        return final if initial is None else self.b.op("Where", self._shared("some"), final, initial)
