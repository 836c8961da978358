"""Scaling of inputs that is part of the network: Rescaling and Normalization."""

from __future__ import annotations

from typing import Any

import numpy as np

from netferry.converters.keras.layer import Layer
from netferry.converters.keras.layout import KT
from netferry.converters.keras.registry import Slot, layer
from netferry.converters.keras.spec import Spec
from netferry.errors import MalformedFile
from netferry.schemas.graph import Builder
from netferry.schemas.ir import ir
from netferry.schemas.layers import Role


def as_float(b: Builder, x: KT) -> KT:
    """Keras computes with floats: whole numbers are cast, in the place where they lie."""
    if x.dtype == ir.DataType.FLOAT:
        return x
    return x.like(b.op("Cast", x.value, to=int(ir.DataType.FLOAT)))


def constant_like(b: Builder, x: KT, values: np.ndarray, name: str) -> ir.Value:
    """A constant that broadcasts over ``x`` as Keras would, with its axes where those of ``x`` lie."""
    array = np.asarray(values, np.float32)
    if array.size == 1:
        return b.const(array.reshape(()), name)
    array = array.reshape((1,) * (x.rank - array.ndim) + array.shape).transpose(x.order)
    while array.ndim > 1 and array.shape[0] == 1:
        array = array[0]
    return b.const(array, name)


def numbers(l: Layer, name: str, default: float) -> np.ndarray:
    """A setting that is a number or nested lists of numbers."""
    value: Any = l.config.take(name, default)
    if isinstance(value, dict):
        inner = value.get("config")
        value = inner.get("value") if isinstance(inner, dict) else value.get("value", value)
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise l.config.bad(name, value, "a number or a list of numbers") from None
    if array.dtype.kind != "f" or array.size == 0:
        raise l.config.bad(name, value, "a number or a list of numbers")
    return array.astype(np.float32)


@layer("Rescaling", mask="keep")
def rescaling(b: Builder, l: Layer, x: KT) -> KT:
    """x * scale + offset; both may be vectors along the last axis."""
    scale, offset = numbers(l, "scale", 1.0), numbers(l, "offset", 0.0)
    l.config.ignore("data_format")
    if x.flat is not None and max(scale.size, offset.size) > 1:
        x = KT.of(x.logical(b))
    out = as_float(b, x)
    if np.any(scale != 1):
        out = out.like(b.op("Mul", out.value, constant_like(b, out, scale, "scale")))
    if np.any(offset != 0):
        out = out.like(b.op("Add", out.value, constant_like(b, out, offset, "offset")))
    return out


def _normalization_slots(spec: Spec) -> list[Slot]:
    if spec.config.get("mean") is not None:
        return []
    return [Slot("mean", False), Slot("variance", False), Slot("count", False)]


@layer("Normalization", weights=_normalization_slots, mask="keep")
def normalization(b: Builder, l: Layer, x: KT) -> KT:
    """(x - mean) / max(sqrt(variance), 1e-7), or its inverse; statistics from the settings or from adapt()."""
    axes = l.config.take("axis", -1)
    inverse = l.config.flag("invert", False)
    given = l.config.take("mean", None) is not None
    l.config.ignore("variance")
    axes = [] if axes is None else l.config.axes("axis", x.rank)
    if x.flat is not None:
        x = KT.of(x.logical(b))
    out = as_float(b, x)
    sizes = [l.dim(x, a) for a in sorted(axes)]

    def part(slot: str, name: str) -> ir.Value:
        broad = tuple(x.shape[a] if a in axes else 1 for a in range(x.rank))

        def shaped(a: np.ndarray) -> np.ndarray:
            array = a.reshape([int(d) for d in broad if isinstance(d, int)]).transpose(out.order)
            return array.reshape(array.shape[_leading_ones(array.shape) :])

        if given:
            values = np.asarray(l.config.raw.get(slot), np.float32)
            if values.size == 1:
                return b.const(values.reshape(()), name)
            if values.size != int(np.prod(sizes)):
                raise MalformedFile(f"{slot} has {values.size} values for axes {axes}", layer=l.path)
            return b.const(shaped(values), name)
        stored = l.stored(slot)
        shape = tuple(sizes) if stored is None else stored.shape
        return l.weight(b, slot, name, shape, transform=shaped, role=Role.STATE, variant=out.order)

    if not given:  # how many values adapt() has seen: it changes nothing, but it is the layer's state
        count = l.stored("count")
        l.weight(b, "count", "count", () if count is None else count.shape, role=Role.STATE)
    mean = part("mean", "mean")
    deviation = b.op("Max", b.op("Sqrt", part("variance", "variance")), b.const(1e-7, "least"))
    if inverse:
        return out.like(b.op("Add", b.op("Mul", out.value, deviation), mean))
    return out.like(b.op("Div", b.op("Sub", out.value, mean), deviation))


def _leading_ones(shape: tuple[int, ...]) -> int:
    n = 0
    while n < len(shape) - 1 and shape[n] == 1:
        n += 1
    return n
