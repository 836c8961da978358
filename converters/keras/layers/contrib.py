"""Layers of keras_contrib and TensorFlow Addons, and the one Lambda whose meaning is settled."""

from __future__ import annotations

import numpy as np

from netferry.converters.keras.layer import Layer
from netferry.converters.keras.layers.merging import aligned
from netferry.converters.keras.layers.normalization import along
from netferry.converters.keras.layout import KT
from netferry.converters.keras.registry import Slot, layer
from netferry.converters.keras.spec import Spec
from netferry.schemas.graph import Builder


def _slots(spec: Spec) -> list[Slot]:
    names = [n for n, flag in (("gamma", "scale"), ("beta", "center")) if spec.config.get(flag, True)]
    return [Slot(n) for n in names]


@layer("InstanceNormalization", weights=_slots, mask="keep")
def instance_normalization(b: Builder, l: Layer, x: KT) -> KT:
    """Mean 0 and variance 1 over space per sample and channel.

    TensorFlow Addons (its settings hold ``groups``) divides by sqrt(variance + epsilon), keras_contrib by the
    standard deviation plus epsilon; there ``axis=None`` means one mean for all channels.
    """
    addons = "groups" in l.config
    l.config.ignore("groups")
    axis = l.config.take("axis", -1 if addons else None)
    epsilon = l.config.number("epsilon", 1e-3)
    scaled, centred = l.config.flag("scale", True), l.config.flag("center", True)
    if axis is not None:
        l.config.integer("axis")
        (axis,) = l.config.axes("axis", x.rank)
    if addons and axis is not None and x.rank > 2:
        size = l.dim(x, axis)
        order = (0, axis, *(a for a in range(1, x.rank) if a != axis))
        scale = l.weight(b, "gamma", "weight", (size,)) if scaled else b.const(np.ones(size, np.float32), "weight")
        bias = l.weight(b, "beta", "bias", (size,)) if centred else b.const(np.zeros(size, np.float32), "bias")
        return KT(b.op("InstanceNormalization", x.to(b, order), scale, bias, epsilon=epsilon), order)
    value, order = (x.logical(b), (0, 1)) if x.flat is not None else (x.value, x.order)
    places = b.const(sorted(order.index(a) for a in range(1, x.rank) if a != axis), "axes")
    moved = b.op("Sub", value, b.op("ReduceMean", value, places, keepdims=1))
    spread = b.op("ReduceMean", b.op("Mul", moved, moved), places, keepdims=1)
    made = b.op("Div", moved, b.op("Add", b.op("Sqrt", spread), b.const(epsilon, "epsilon")))
    for slot, name, operator, used in (("gamma", "weight", "Mul", scaled), ("beta", "bias", "Add", centred)):
        if used and axis is not None:
            made = b.op(operator, made, along(b, l, slot, name, [axis], [l.dim(x, axis)], order))
        elif used:
            made = b.op(operator, made, l.weight(b, slot, name, (1,)))
    return KT(made, order)


@layer("Lambda.scale")
def lambda_scale(b: Builder, l: Layer, x: KT, y: KT) -> KT:
    """InceptionResNetV2 of Keras 2: ``inputs[0] + inputs[1] * scale``, known by the model's and the layer's name."""
    scale = l.config.take("arguments")["scale"]
    l.config.ignore(*l.config.raw)
    l.note("assumed", "a Lambda of InceptionResNetV2, known by its name: the first input plus the second times scale")
    (first, second), lies = aligned(b, l, [x, y])
    made = b.op("Add", first, b.op("Mul", second, b.const(float(scale), "scale")))
    return lies.like(made) if isinstance(lies, KT) else KT(made, lies)
