"""Layers that act in training only: a node that passes values on, with a note of what training does there."""

from __future__ import annotations

import json
from typing import Any

from netferry.converters.keras.layer import Layer
from netferry.converters.keras.layout import KT
from netferry.errors import MalformedFile
from netferry.schemas.graph import Builder
from netferry.schemas.layers import TRAINING


def acts_in_training(b: Builder, x: KT, kind: str, **settings: Any) -> KT:
    """The tensor behind a node that the torch backend turns into a module, and every runtime passes through."""
    note = json.dumps({"layer": kind, **settings}, sort_keys=True)
    return x.like(b.op("Identity", x.value, metadata={TRAINING: note}))


def picture_axes(l: Layer, x: KT) -> list[int]:
    """Places of batch, height, width and channels in the tensor's value."""
    first = l.data_format() == "channels_first"
    return [x.order.index(axis) for axis in ((0, 2, 3, 1) if first else (0, 1, 2, 3))]


def shared_axes(l: Layer, x: KT) -> list[int]:
    """Places of the axes along which ``noise_shape`` asks for one draw.

    Raises:
        MalformedFile: it is no shape of the tensor's rank.
    """
    shape = l.config.take("noise_shape", None)
    if shape is None:
        return []
    if not isinstance(shape, (list, tuple)) or len(shape) != x.rank:
        raise l.config.bad("noise_shape", shape, f"a list of {x.rank} sizes")
    if not all(v is None or (type(v) is int and v > 0) for v in shape):
        raise l.config.bad("noise_shape", shape, "a list of sizes")
    return [x.order.index(axis) for axis, size in enumerate(shape) if size == 1]


def bounds(l: Layer, name: str, *, least: float, about: bool = True) -> list[float]:
    """A factor as a range: two numbers, or one that stands for both ways (``about`` 0) or for each of the two."""
    given = l.config.take(name)
    if isinstance(given, (list, tuple)) and len(given) == 2:
        low, high = (_number(l, name, v) for v in given)
        return sorted((low, high)) if about else [low, high]
    most = abs(_number(l, name, given))
    return [max(-most, least), most] if about else [most, most]


def _number(l: Layer, name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise l.config.bad(name, value, "a number or two")
    return float(value)


def check_rate(l: Layer, rate: float) -> float:
    """A share of dropped elements.

    Raises:
        MalformedFile: not from 0 to 1.
    """
    if not 0 <= rate <= 1:
        raise MalformedFile(f"rate={rate} is not between 0 and 1", layer=l.path)
    return min(rate, 0.999999)
