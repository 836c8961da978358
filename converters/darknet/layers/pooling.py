"""Pooling, upsampling, cropping and reordering of pixels.

Rules: maxpool_layer.c, avgpool_layer.c, upsample_layer.c, crop_layer.c, reorg_layer.c and blas.c of pjreddie/darknet.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from netferry.converters.darknet.layers.convolution import strides
from netferry.converters.darknet.registry import Layer, layer
from netferry.schemas.graph import Builder
from netferry.schemas.ir import ir

_LOWEST = float(np.finfo(np.float32).min)


@layer("maxpool", "max")
def maxpool(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """Maxima of windows; ``padding`` (size - 1 where left out) counts both sides together, half of it in front."""
    s = l.section
    if s.int("antialiasing", 0):
        raise l.unsupported("antialiasing is not supported")
    c, high, wide = l.image(x)
    if s.int("maxpool_depth", 0):
        return _over_channels(b, l, x, (c, high, wide))
    s.ignore("out_channels")
    size = s.int("size", s.int("stride", 1, least=1), least=1)
    step = strides(l)
    return _windows(b, l, x, "MaxPool", (c, high, wide), size, step, s.int("padding", size - 1, least=0))


def _over_channels(b: Builder, l: Layer, x: ir.Value, dims: tuple[int, int, int]) -> ir.Value:
    """``maxpool_depth``: the maximum of every ``out_channels``-th channel (AlexeyAB's fork)."""
    l.section.ignore("size", "stride", "stride_x", "stride_y", "padding")
    c, high, wide = dims
    out = l.section.int("out_channels", 1, least=1)
    if out > c:
        raise l.fail(f"out_channels={out} of {c} channels")
    if lacking := -c % out:
        around = b.const([0, 0, 0, 0, 0, lacking, 0, 0], "padding")
        x = b.op("Pad", x, around, b.const(_LOWEST, "lowest"))
    groups = b.reshape(x, [0, (c + lacking) // out, out, high, wide])
    return b.op("ReduceMax", groups, b.const([1], "axes"), keepdims=0)


@layer("local_avgpool", "local_avg")
def local_avgpool(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """Means of windows, of the pixels that lie inside (AlexeyAB's fork)."""
    s = l.section
    c, high, wide = l.image(x)
    size = s.int("size", s.int("stride", 1, least=1), least=1)
    step = strides(l)
    return _windows(b, l, x, "AveragePool", (c, high, wide), size, step, s.int("padding", size - 1, least=0))


def _windows(
    b: Builder,
    l: Layer,
    x: ir.Value,
    operator: str,
    dims: tuple[int, int, int],
    size: int,
    step: tuple[int, int],
    padding: int,
) -> ir.Value:
    c, *extent = dims
    counts = [(d + padding - size) // each + 1 for d, each in zip(extent, step, strict=True)]
    l.check((c, *counts))
    before = padding // 2
    after = [max((n - 1) * each + size - before - d, 0) for n, each, d in zip(counts, step, extent, strict=True)]
    settings: dict[str, Any] = {"kernel_shape": (size, size), "strides": step}
    if size > max(before, *after):
        return b.op(operator, x, **settings, pads=[before, before, *after])
    if operator != "MaxPool":
        raise l.unsupported(f"padding={padding} leaves windows of size={size} empty")
    l.check((c, *(d + before + a for d, a in zip(extent, after, strict=True))))
    around = b.const([0, 0, before, before, 0, 0, *after], "padding")
    return b.op("MaxPool", b.op("Pad", x, around, b.const(_LOWEST, "lowest")), **settings)


@layer("avgpool", "avg")
def avgpool(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """The mean of each channel."""
    l.image(x)
    return b.op("GlobalAveragePool", x)


@layer("upsample")
def upsample(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """Each pixel ``stride`` times in both directions, times ``scale``; with a negative stride the sums of blocks."""
    s = l.section
    c, high, wide = l.image(x)
    stride, scale = s.int("stride", 2), s.float("scale", 1.0)
    if stride < 0:
        stride = -stride
        if high % stride or wide % stride:
            raise l.unsupported(f"stride=-{stride} does not divide {high} x {wide} pixels")
        y = b.op("AveragePool", x, kernel_shape=(stride, stride), strides=(stride, stride))
        return b.op("Mul", y, scale * stride * stride)
    l.check((c, high * stride, wide * stride))
    factors = b.const([1.0, 1.0, float(stride), float(stride)], "factors")
    y = x
    if stride > 1:
        y = b.op(
            "Resize", x, None, factors,
            mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor",
        )  # fmt: skip
    return b.op("Mul", y, scale) if scale != 1 else y


@layer("crop")
def crop(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """The centre of the picture, with values 2 x - 1 unless ``noadjust``; flips and turns only in training."""
    s = l.section
    c, high, wide = l.image(x)
    sizes = s.int("crop_height", 1, least=1), s.int("crop_width", 1, least=1)
    s.ignore("flip", "angle", "saturation", "exposure", "shift")
    l.check((c, *sizes))
    if sizes[0] > high or sizes[1] > wide:
        raise l.fail(f"a crop of {sizes[0]} x {sizes[1]} out of {high} x {wide} pixels")
    starts = [(d - n) // 2 for d, n in zip((high, wide), sizes, strict=True)]
    ends = [a + n for a, n in zip(starts, sizes, strict=True)]
    y = b.op("Slice", x, starts, ends, b.const([2, 3], "axes"))
    return y if s.int("noadjust", 0) else b.op("Sub", b.op("Mul", y, 2.0), 1.0)


@layer("reorg")
def reorg(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """Pixels into channels (back with ``reverse``) in Darknet's own order; with ``flatten`` channels last.

    Darknet reads the memory of a (C, H, W) image as one of (C / s², H s, W s), moves blocks of s x s pixels into the
    channels of that, and takes the memory of the result for (C s², H / s, W / s).
    """
    s = l.section
    c, high, wide = l.image(x)
    step, reverse = s.int("stride", 1, least=1), bool(s.int("reverse", 0))
    if s.int("extra", 0):
        raise l.unsupported("extra is not supported: it reads memory behind the image")
    if c % (step * step) or (not reverse and (high % step or wide % step)):
        raise l.unsupported(f"stride={step} does not divide {c} channels, {high} x {wide} pixels")
    out = (c // step**2, high * step, wide * step) if reverse else (c * step**2, high // step, wide // step)
    l.check(out)
    if s.int("flatten", 0):
        if reverse:
            y = b.op("Transpose", b.reshape(x, [0, high * wide, c]), perm=[0, 2, 1])
        else:
            y = b.op("Transpose", b.reshape(x, [0, c, high * wide]), perm=[0, 2, 1])
        return b.reshape(y, [0, *out])
    if step == 1:
        return x
    inner = c // step**2
    if reverse:
        y = b.op("Transpose", b.reshape(x, [0, step, step, inner, high, wide]), perm=[0, 3, 4, 1, 5, 2])
    else:
        y = b.op("Transpose", b.reshape(x, [0, inner, high, step, wide, step]), perm=[0, 3, 5, 1, 2, 4])
    return b.reshape(y, [0, *out])
