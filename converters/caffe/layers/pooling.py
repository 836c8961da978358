"""Pooling and the spatial pyramid, exactly as Caffe windows them.

Rules: pooling_layer.cpp and spp_layer.cpp of BVLC Caffe. The output size rounds up; with padding, a last window that
would start beyond the near padding is dropped. AVE divides by the window clipped to the padded image. Pads behind
are therefore computed from the output size and ``ceil_mode`` is not used where sizes are known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from netferry.converters.caffe.params import Params
from netferry.converters.caffe.registry import Layer, layer
from netferry.converters.caffe.windows import axis_of, check_size
from netferry.errors import MalformedFile, UnsupportedOption
from netferry.schemas.graph import Builder, shape_of
from netferry.schemas.ir import ir

_METHODS = ("MAX", "AVE", "STOCHASTIC")
_LOWEST = float(np.finfo(np.float32).min)


@dataclass(frozen=True)
class Axis:
    """The windows along one axis of ``size`` pixels; ``outside`` counts windows that hold no pixel (0 or 1)."""

    size: int
    kernel: int
    stride: int
    pad: int
    count: int
    outside: int

    @property
    def start(self) -> int:
        """Where the last of all windows starts."""
        return (self.count + self.outside - 1) * self.stride - self.pad

    @property
    def overhang(self) -> int:
        """Pixels by which the last window that holds pixels reaches beyond the image."""
        return max((self.count - 1) * self.stride + self.kernel - self.pad - self.size, 0)

    @property
    def end(self) -> int:
        """Padding behind: as in front where that gives the same windows, else the overhang."""
        same = (self.size + 2 * self.pad - self.kernel) // self.stride + 1 == self.count
        return self.pad if same and self.size + 2 * self.pad >= self.kernel else self.overhang


def _axis(l: Layer, size: int, kernel: int, stride: int, pad: int, *, clip: bool, up: bool) -> Axis:
    room = size + 2 * pad - kernel
    count = (-(-room // stride) if up else room // stride) + 1
    if clip and (count - 1) * stride >= size + pad:
        count -= 1
    check_size(l, (count,))
    if count == 1:  # nothing beyond the padded image counts: a smaller kernel says the same
        kernel = min(kernel, size + 2 * pad)
    outside = int((count - 1) * stride - pad >= size)
    return Axis(size, kernel, stride, pad, count - outside, outside)


@layer("Pooling")
def pooling(b: Builder, l: Layer, x: ir.Value) -> ir.Value | tuple[ir.Value, ...]:
    """MAX, AVE or STOCHASTIC pooling; a second top of MAX holds each maximum's index within its plane."""
    p = l.param("pooling_param")
    method = p.enum("pool", _METHODS, "MAX")
    if len(shape_of(x)) != 4:
        raise MalformedFile(f"Pooling needs 4 axes, the bottom has {len(shape_of(x))}", layer=l.name)
    if len(l.tops) > 1 and method != "MAX":
        raise MalformedFile(f"{method} pooling has one top, not {len(l.tops)}", layer=l.name)
    up = p.enum("round_mode", ("CEIL", "FLOOR"), "CEIL" if p.bool("ceil_mode", True) else "FLOOR") == "CEIL"
    everything = p.bool("global_pooling", False)
    pads = _pair(l, p, "pad", "pad", 0, least=0)
    strides = _pair(l, p, "stride", "stride", 1, least=1)
    if everything:
        if any(pads):
            raise MalformedFile("global_pooling does not go with padding", layer=l.name)
        p.ignore("kernel_size", "kernel_h", "kernel_w")
        if method != "STOCHASTIC" and len(l.tops) < 2:
            return b.op("GlobalMaxPool" if method == "MAX" else "GlobalAveragePool", x)
        kernels, strides = (l.fixed(x, 2, "global pooling"), l.fixed(x, 3, "global pooling")), (1, 1)
    else:
        kernels = _pair(l, p, "kernel_size", "kernel", None, least=1)
    if any(pads):
        if method == "STOCHASTIC":
            raise UnsupportedOption("STOCHASTIC pooling has no padding", layer=l.name)
        if any(pad >= k for pad, k in zip(pads, kernels, strict=True)):
            raise MalformedFile(f"pad {pads} is not smaller than the kernel {kernels}", layer=l.name)
    if any(not isinstance(d, int) for d in shape_of(x)[2:]):
        simple = _unsized(b, l, x, method, kernels, strides, pads, up)
        if simple is not None:
            return simple
    sizes = (l.fixed(x, 2, "pooling"), l.fixed(x, 3, "pooling"))
    high, wide = (
        _axis(l, size, k, s, pad, clip=any(pads), up=up)
        for size, k, s, pad in zip(sizes, kernels, strides, pads, strict=True)
    )
    if len(l.tops) > 1:
        return _with_mask(b, x, high, wide)
    return pool(b, l, x, method, high, wide)


def _pair(l: Layer, p: Params, name: str, short: str, default: int | None, *, least: int) -> tuple[int, int]:
    sides = (f"{short}_h", f"{short}_w")
    given = [p.has(side) for side in sides]
    if any(given):
        if not all(given) or p.has(name):
            raise MalformedFile(f"give {name}, or both {sides[0]} and {sides[1]}", layer=l.name)
        return p.int(sides[0], least=least), p.int(sides[1], least=least)
    value = p.int(name, default, least=least)
    return value, value


def _unsized(
    b: Builder,
    l: Layer,
    x: ir.Value,
    method: str,
    kernels: tuple[int, int],
    strides: tuple[int, int],
    pads: tuple[int, int],
    up: bool,
) -> ir.Value | None:
    """Pooling of a picture of unknown size, where one operator has Caffe's rule for every size.

    That is MAX where no window can lie outside (stride <= kernel), and AVE without overhang or without padding.
    """
    inside = all(s <= k for s, k in zip(strides, kernels, strict=True))
    mixed = any(pads) and not all(pads)
    ceil = 1 if up and strides != (1, 1) else None
    settings: dict[str, Any] = {"kernel_shape": kernels, "strides": strides, "pads": [*pads, *pads], "ceil_mode": ceil}
    if len(l.tops) > 1 or mixed or not inside:
        return None
    if method == "MAX":
        return b.op("MaxPool", x, **settings)
    if method == "AVE" and (ceil is None or not any(pads)):
        return b.op("AveragePool", x, **settings, count_include_pad=1 if any(pads) else None)
    return None


def _settings(high: Axis, wide: Axis) -> dict[str, Any]:
    return {"kernel_shape": (high.kernel, wide.kernel), "strides": (high.stride, wide.stride)}


def _pads(high: Axis, wide: Axis) -> list[int]:
    return [high.pad, wide.pad, high.end, wide.end]


def _with_mask(b: Builder, x: ir.Value, high: Axis, wide: Axis) -> tuple[ir.Value, ir.Value]:
    y, flat = b.op("MaxPool", x, **_settings(high, wide), pads=_pads(high, wide), outputs=2)
    mask = b.op("Cast", b.op("Mod", flat, high.size * wide.size), to=ir.DataType.FLOAT)
    return _outside(b, y, high, wide, _LOWEST, _LOWEST), _outside(b, mask, high, wide, -1.0, -1.0)


def pool(b: Builder, l: Layer, x: ir.Value, method: str, high: Axis, wide: Axis) -> ir.Value:
    """Pool with the windows ``high`` and ``wide``."""
    check_size(l, (*shape_of(x)[:2], high.count + high.outside, wide.count + wide.outside))
    if method == "MAX":
        y = b.op("MaxPool", x, **_settings(high, wide), pads=_pads(high, wide))
        return _outside(b, y, high, wide, _LOWEST, _LOWEST)
    if method == "AVE":
        # an empty window sums to 0 and divides by its clipped size, which is 0 where it starts at the image's end
        fills = [np.nan if a.start == a.size else 0.0 for a in (high, wide)]
        return _outside(b, _average(b, x, high, wide), high, wide, *fills)
    # in the TEST phase the mean of the window weighted by its own values, 0 where they sum to 0 or less
    squares = _average(b, b.op("Mul", x, x), high, wide)
    means = _average(b, x, high, wide)
    y = b.op("Where", b.op("Greater", means, 0.0), b.op("Div", squares, means), 0.0)
    return _outside(b, y, high, wide, 0.0, 0.0)


def _average(b: Builder, x: ir.Value, high: Axis, wide: Axis) -> ir.Value:
    """Means over windows clipped to the padded image: declared padding counts, overhang beyond it does not."""
    padded = bool(high.pad or wide.pad)
    if padded and (high.overhang > high.pad or wide.overhang > wide.pad):
        x = b.op("Pad", x, b.const([0, 0, high.pad, wide.pad] * 2, "pads"))
        pads = [0, 0, max(high.overhang - high.pad, 0), max(wide.overhang - wide.pad, 0)]
        return b.op("AveragePool", x, **_settings(high, wide), pads=pads)
    included = 1 if padded else None
    return b.op("AveragePool", x, **_settings(high, wide), pads=_pads(high, wide), count_include_pad=included)


def _outside(b: Builder, y: ir.Value, high: Axis, wide: Axis, high_fill: float, wide_fill: float) -> ir.Value:
    """Append the row and column of windows that hold no pixel."""
    rows = (high.outside, 0, high_fill) if high.outside else None
    columns = (0, wide.outside, wide_fill) if wide.outside else None
    if rows and columns and (high_fill == wide_fill or np.isnan(high_fill) == np.isnan(wide_fill)):
        rows, columns = (high.outside, wide.outside, high_fill), None
    # the corner belongs to both: NaN wins, so it is written last
    for part in sorted((part for part in (rows, columns) if part), key=lambda part: bool(np.isnan(part[2]))):
        pads = b.const([0, 0, 0, 0, 0, 0, part[0], part[1]], "outside")
        y = b.op("Pad", y, pads, b.const(part[2], "fill", dtype=np.float32))
    return y


@layer("SPP")
def spp(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """Spatial pyramid pooling: grids of 1, 4, 16 … bins over the whole image, flattened one after the other."""
    p = l.param("spp_param")
    levels = p.int("pyramid_height", least=1)
    method = p.enum("pool", _METHODS, "MAX")
    axis_of(l, x, 3)
    sizes = (l.fixed(x, 2, "a pyramid"), l.fixed(x, 3, "a pyramid"))
    parts: list[ir.Value] = []
    for level in range(levels):
        bins = 2**level
        kernels = [-(-size // bins) for size in sizes]
        pads = [(k * bins - size + 1) // 2 for k, size in zip(kernels, sizes, strict=True)]
        if any(pad >= k for pad, k in zip(pads, kernels, strict=True)):
            raise MalformedFile(f"pyramid_height {levels} is too much for {sizes[0]} x {sizes[1]} pixels", layer=l.name)
        if any(pads) and method == "STOCHASTIC":
            raise UnsupportedOption("STOCHASTIC pooling has no padding", layer=l.name)
        high, wide = (
            _axis(l, size, k, k, pad, clip=any(pads), up=True)
            for size, k, pad in zip(sizes, kernels, pads, strict=True)
        )
        part = pool(b, l, x, method, high, wide)
        parts.append(part if levels == 1 else b.op("Flatten", part))
    return parts[0] if levels == 1 else b.op("Concat", *parts, axis=1)
