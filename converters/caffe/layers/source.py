"""Layers that make values: Parameter and DummyData.

Rules: parameter_layer.hpp and dummy_data_layer.cpp of BVLC Caffe.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from netferry.converters.caffe.params import Params
from netferry.converters.caffe.registry import Layer, layer
from netferry.converters.caffe.windows import check_constant, check_size
from netferry.errors import MalformedFile, UnsupportedOption, quoted
from netferry.schemas.graph import Builder
from netferry.schemas.ir import ir

T = TypeVar("T")


@layer("Parameter")
def parameter(b: Builder, l: Layer) -> ir.Value:
    """A learnt blob, for layers that take it as a bottom."""
    shape = l.param("parameter_param").message("shape").ints("dim")
    _check(l, shape)
    # Caffe gives it no filler: it starts as 0
    return l.weight(b, "weight", 0, shape, default=0.0 if l.has_weights_file else None)


@layer("DummyData")
def dummy_data(b: Builder, l: Layer) -> tuple[ir.Value, ...]:
    """Constants of the given shapes; fillers that draw anew in every run are refused."""
    p = l.param("dummy_data_param")
    p.ignore("refill")
    tops = len(l.tops)
    fillers = [_constant(l, f) for f in p.messages("data_filler")] or [0.0]
    shapes = [m.ints("dim") for m in p.messages("shape")]
    legacy = [p.ints(name) for name in ("num", "channels", "height", "width")]
    if shapes and any(legacy):
        raise MalformedFile("give shape, or num, channels, height and width, not both", layer=l.name)
    if not shapes:
        if any(len(values) not in (1, tops) for values in legacy):
            raise MalformedFile(
                f"num, channels, height and width are given once, or once for each of {tops} tops", layer=l.name
            )
        shapes = [[_one(values, i) for values in legacy] for i in range(tops)]
    if len(shapes) not in (1, tops) or len(fillers) not in (1, tops):
        raise MalformedFile(f"{len(shapes)} shapes and {len(fillers)} fillers for {tops} tops", layer=l.name)
    made: list[ir.Value] = []
    for i in range(tops):
        shape = _one(shapes, i)
        _check(l, shape)
        check_constant(l, math.prod(shape))
        value = ir.tensor(np.array([_one(fillers, i)], np.float32))
        made.append(b.op("ConstantOfShape", b.const(shape, "shape"), value=value, types=[(ir.DataType.FLOAT, shape)]))
    return tuple(made)


def _check(l: Layer, shape: Sequence[int]) -> None:
    if any(d < 1 for d in shape):
        raise MalformedFile(f"shape {list(shape)} has a dimension below 1", layer=l.name)
    check_size(l, shape)


def _one(values: Sequence[T], i: int) -> T:
    """The ``i``-th value, or the only one."""
    return values[i] if len(values) > 1 else values[0]


def _constant(l: Layer, filler: Params) -> float:
    kind = filler.str("type", "constant")
    if kind != "constant":
        raise UnsupportedOption(f"dummy_data_param.data_filler: {quoted(kind)} draws anew in every run", layer=l.name)
    return filler.float("value", 0.0)
