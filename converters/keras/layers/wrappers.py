"""TimeDistributed: a layer applied to every step."""

from __future__ import annotations

from netferry.converters.keras.layer import Layer, only
from netferry.converters.keras.layout import KT, Mask, Order
from netferry.converters.keras.registry import Slot, below, layer, slots_of
from netferry.converters.keras.spec import Spec
from netferry.errors import MalformedFile
from netferry.schemas.graph import Builder, Dim, shape_of
from netferry.schemas.ir import ir

_STEPWISE = frozenset({"Dense", "Activation", "ReLU", "LeakyReLU", "ELU", "Dropout", "Identity", "Rescaling",
                       "GaussianNoise", "GaussianDropout", "AlphaDropout", "ThresholdedReLU"})  # fmt: skip
"""Layers that treat each element, or the last axis, alike: they need no folding."""


def wrapped_slots(spec: Spec) -> list[Slot]:
    """The inner layer's variables, under ``layer``."""
    return below("layer", slots_of(spec.inner(spec.config.get("layer"))))


@layer("TimeDistributed", weights=wrapped_slots, mask="own")
def time_distributed(b: Builder, l: Layer, *inputs: KT) -> KT | tuple[KT, ...]:
    """Batch and time become one axis, the inner layer is called once, and the axes are taken apart again."""
    raw = l.config.take("layer")
    kind = raw.get("class_name") if isinstance(raw, dict) else None
    if not inputs or any(x.rank < 3 for x in inputs):
        ranks = [x.rank for x in inputs]
        raise MalformedFile(f"TimeDistributed takes tensors of rank 3 or more, not {ranks}", layer=l.path)
    x = inputs[0]
    mask = x.mask
    told = isinstance(l.kwargs.get("mask"), KT)
    nested = mask is not None and (told or l.generation <= 2) and len(shape_of(mask.value(b))) > 2
    if kind in _STEPWISE and len(inputs) == 1 and not nested:
        out = only(l.inner(b, raw, "layer", x), l)
        return out if out is x else KT(out.value, out.order, mask, out.flat)
    parts = [folded(b, part) for part in inputs]
    if nested and mask is not None:
        parts[0].mask = Mask(lambda builder: folded(builder, KT.of(mask.value(builder))).value)
    made = l.inner(b, raw, "layer", parts if len(parts) > 1 else parts[0])
    found = [part for part in (made if isinstance(made, (list, tuple)) else [made]) if isinstance(part, KT)]
    outputs = [unfolded(b, part, x) for part in found]
    for out, part in zip(outputs, found, strict=True):
        out.mask = _mask_outside(l, part, x, nested)
    return outputs[0] if len(outputs) == 1 else tuple(outputs)


def _mask_outside(l: Layer, made: KT, x: KT, nested: bool) -> Mask | None:
    """The mask of the result: Keras 3 keeps the input's; Keras 2 takes the inner layer's, with time in front.

    Where the inner layer has none, a mask (batch, time, inner steps) shrinks to the steps that hold anything.
    """
    inner, outer = made.mask, x.mask
    if l.generation <= 2 and inner is not None:
        return Mask(lambda b: unfolded(b, KT.of(inner.value(b)), x).value)
    if not nested or outer is None:
        return outer

    def shrunk(b: Builder) -> ir.Value:
        numbers = b.op("Cast", outer.value(b), to=int(ir.DataType.INT32))
        some = b.op("ReduceMax", numbers, b.const([-1], "axes"), keepdims=0)
        return b.op("Cast", some, to=int(ir.DataType.BOOL))

    return Mask(shrunk)


def folded(b: Builder, x: KT) -> KT:
    """Join batch and time (axes 0 and 1); the other axes stay where they lie."""
    rest = tuple(a for a in x.order if a > 1)
    value = x.to(b, (0, 1, *rest))
    dims = shape_of(value)[2:]
    inner: Order = (0, *(a - 1 for a in rest))
    if all(isinstance(d, int) for d in dims):
        return KT(b.reshape(value, [-1, *(int(d) for d in dims if isinstance(d, int))]), inner)
    tail = b.op("Shape", value, start=2)
    target = b.op("Concat", b.const([-1], "batch"), tail, axis=0)
    out = b.op("Reshape", value, target)
    _describe(out, [None, *dims])
    return KT(out, inner)


def unfolded(b: Builder, made: KT, x: KT) -> KT:
    """Take batch and time apart again, as they are in ``x``."""
    rest = tuple(a for a in made.order if a > 0)
    if made.flat is not None or made.order[0] != 0:
        made = KT.of(made.logical(b))
        rest = tuple(range(1, made.rank))
    dims = shape_of(made.value)[1:]
    order: Order = (0, 1, *(a + 1 for a in rest))
    batch, steps = x.shape[0], x.shape[1]
    fixed = [d if isinstance(d, int) else None for d in dims]
    if None not in fixed and isinstance(steps, int):
        return KT(b.reshape(made.value, [-1, steps, *(d for d in fixed if d is not None)]), order)
    if None not in fixed and isinstance(batch, int):
        return KT(b.reshape(made.value, [batch, -1, *(d for d in fixed if d is not None)]), order)
    lead = b.op("Shape", x.to(b, (0, 1, *(a for a in x.order if a > 1))), start=0, end=2)
    target = b.op("Concat", lead, b.op("Shape", made.value, start=1), axis=0)
    out = b.op("Reshape", made.value, target)
    _describe(out, [batch, steps, *dims])
    return KT(out, order)


def _describe(value: ir.Value, dims: list[Dim]) -> None:
    """Tell a shape that inference cannot know, since the target was computed."""
    value.shape = ir.Shape(dims)
