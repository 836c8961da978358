"""Pictures of another size: Resizing, CenterCrop, RandomCrop at inference."""

from __future__ import annotations

from typing import Any

import numpy as np

from netferry.converters.keras.layer import Layer
from netferry.converters.keras.layers.scaling import as_float
from netferry.converters.keras.layout import KT, Order, channels_first, identity
from netferry.converters.keras.registry import layer
from netferry.converters.keras.resampling import METHODS, matrix, rows_of_nearest
from netferry.converters.keras.training import acts_in_training, picture_axes
from netferry.errors import LimitExceeded, UnsupportedOption
from netferry.schemas.graph import Builder, shape_of
from netferry.schemas.ir import ir

_MOST = 2**26
"""elements of a matrix of weights"""


def resized(
    b: Builder, l: Layer, x: KT, target: tuple[int, int], method: str, order: Order, *, antialias: bool = False
) -> KT:
    """Resize the last two axes of ``order`` as ``tf.image.resize`` does (centres of pixels aligned).

    Raises:
        UnsupportedOption: a dynamic size with a method that only a known size makes exact.
    """
    if max(target) < 1:
        raise l.config.bad("size", target, "at least 1")
    sizes = [x.shape[order[-2]], x.shape[order[-1]]]
    if sizes == list(target):
        return x
    value = x.to(b, order)
    known = [s for s in sizes if isinstance(s, int)]
    if method == "bilinear" and not antialias:
        value = as_float(b, KT(value, order)).value
        return KT(interpolated(b, value, target, mode="linear", coordinate_transformation_mode="half_pixel"), order)
    if len(known) != 2:
        if method == "nearest":
            made = interpolated(b, value, target, mode="nearest", coordinate_transformation_mode="half_pixel",
                                nearest_mode="round_prefer_ceil")  # fmt: skip
            return KT(made, order)
        raise UnsupportedOption(
            f"{method}{' with antialias' if antialias else ''} needs a known height and width",
            layer=l.path,
            hint="--input-shape NAME=1,HEIGHT,WIDTH,CHANNELS fixes them",
        )
    if any(s * t > _MOST for s, t in zip(known, target, strict=True)):
        raise LimitExceeded(f"resizing {known} to {list(target)} needs matrices of over {_MOST} elements", layer=l.path)
    if method == "nearest":
        return KT(_nearest(b, value, known, target), order)
    value = as_float(b, KT(value, order)).value
    first, second = (matrix(method, s, t, antialias) for s, t in zip(known, target, strict=True))
    if known[1] != target[1] or method in ("gaussian", "mitchellcubic"):
        value = b.op("MatMul", value, b.const(np.ascontiguousarray(second.T), "columns"))
    if known[0] != target[0] or method in ("gaussian", "mitchellcubic"):
        value = b.op("MatMul", b.const(first, "rows"), value)
    return KT(value, order)


def interpolated(b: Builder, value: ir.Value, target: tuple[int, int], **how: Any) -> ir.Value:
    """ONNX's Resize of the last two axes: by factors where the size is known, else by the sizes themselves."""
    dims = shape_of(value)
    factors = [_factor(s, t) for s, t in zip(dims[-2:], target, strict=True) if isinstance(s, int)]
    if len(factors) == 2:
        scales = b.const([1.0] * (len(dims) - 2) + factors, "scales")
        return b.op("Resize", value, None, scales, **how)
    sizes = b.op("Concat", b.op("Shape", value, start=0, end=len(dims) - 2), b.const(list(target), "sizes"), axis=0)
    made = b.op("Resize", value, None, None, sizes, **how)
    made.shape = ir.Shape([*dims[:-2], *target])
    return made


def _factor(size: int, target: int) -> float:
    """The float32 factor whose product with ``size`` rounds down to ``target``, in float32 and in double.

    onnxruntime multiplies in float32, onnx's shape inference in double.
    """
    factor = np.float32(target) / np.float32(size)
    while np.floor(np.float32(size) * factor) < target or size * float(factor) < target:
        factor = np.nextafter(factor, np.float32(np.inf))
    return float(factor)


def _nearest(b: Builder, value: ir.Value, sizes: list[int], target: tuple[int, int]) -> ir.Value:
    """Rows repeated: by Resize where the factor is whole (rounding cannot matter), else by their numbers."""
    rank = len(value.shape or ())
    if all(t % s == 0 for s, t in zip(sizes, target, strict=True)) and value.dtype == ir.DataType.FLOAT:
        scales = [1.0] * (rank - 2) + [float(t // s) for s, t in zip(sizes, target, strict=True)]
        return b.op("Resize", value, None, b.const(scales, "scales"), mode="nearest",
                    coordinate_transformation_mode="asymmetric", nearest_mode="floor")  # fmt: skip
    for i, (size, want) in enumerate(zip(sizes, target, strict=True)):
        if size != want:
            value = b.op("Gather", value, b.const(rows_of_nearest(size, want), "rows"), axis=rank - 2 + i)
    return value


def _space(l: Layer, x: KT) -> Order:
    """Order with height and width last: pictures with or without a batch."""
    l.rank(x, 3, 4)
    data_format = l.data_format()
    if x.rank == 4:
        return channels_first(4, data_format)
    return identity(3) if data_format == "channels_first" else (2, 0, 1)


def cropped(b: Builder, x: KT, order: Order, starts: list[int], sizes: list[int]) -> KT:
    """Cut a window out of the last two axes of ``order``."""
    places = [x.axis(a) for a in order[-2:]]
    ends = [s + n for s, n in zip(starts, sizes, strict=True)]
    made = b.op("Slice", x.value, b.const(starts, "starts"), b.const(ends, "ends"), b.const(places, "axes"))
    return KT(made, x.order)


def _sizes(l: Layer, x: KT, order: Order) -> list[int]:
    return [l.dim(x, order[-2], "the height"), l.dim(x, order[-1], "the width")]


def window(sizes: list[int], target: tuple[int, int]) -> tuple[list[int], list[int]]:
    """The largest window of the target's aspect ratio: where it starts, and its size (Keras's smart_resize)."""
    height, width = sizes
    quotient = (
        np.float32(width * target[0]) / np.float32(target[1]),
        np.float32(height * target[1]) / np.float32(target[0]),
    )
    cut = [max(min(height, int(quotient[0])), 1), max(min(width, int(quotient[1])), 1)]
    return [(s - c) // 2 for s, c in zip(sizes, cut, strict=True)], cut


def _target(l: Layer) -> tuple[int, int]:
    return l.config.integer("height", least=1), l.config.integer("width", least=1)


def _rounded(b: Builder, x: KT, kind: ir.DataType) -> KT:
    """Keras 3 keeps the input's type: whole numbers are rounded and kept within their range."""
    if x.dtype == kind:
        return x
    ends = np.iinfo(kind.numpy())
    value = b.op("Clip", b.op("Round", x.value), b.const(float(ends.min), "min"), b.const(float(ends.max), "max"))
    return KT(b.op("Cast", value, to=int(kind)), x.order)


@layer("Resizing")
def resizing(b: Builder, l: Layer, x: KT) -> KT:
    """Another height and width, by any of tensorflow's methods; the aspect ratio kept by cropping or padding."""
    target = _target(l)
    method = l.config.choice("interpolation", "bilinear", *METHODS)
    antialias = l.config.flag("antialias", False)
    order = _space(l, x)
    kind = x.dtype
    if l.generation < 3 or kind == ir.DataType.BOOL:
        x = as_float(b, x)
    if l.config.flag("crop_to_aspect_ratio", False):
        sizes = _sizes(l, x, order)
        starts, cut = window(sizes, target)
        if cut != sizes:
            x = cropped(b, x, order, starts, cut)
    elif l.config.flag("pad_to_aspect_ratio", False):
        x = _padded(b, l, x, order, target)
    l.config.choice("fill_mode", "constant", "constant")
    l.config.ignore("fill_value")
    made = resized(b, l, x, target, method, order, antialias=antialias)
    return made if made.dtype == kind or l.generation < 3 else _rounded(b, made, kind)


def _padded(b: Builder, l: Layer, x: KT, order: Order, target: tuple[int, int]) -> KT:
    """A border on both sides that gives the target's aspect ratio."""
    height, width = sizes = _sizes(l, x, order)
    quotient = (
        np.float32(width * target[0]) / np.float32(target[1]),
        np.float32(height * target[1]) / np.float32(target[0]),
    )
    borders = [(max(s, int(q)) - s) // 2 for s, q in zip(sizes, quotient, strict=True)]
    pads = [0] * x.rank
    for axis, border in zip(order[-2:], borders, strict=True):
        pads[x.axis(axis)] = border
    if not any(pads):
        return x
    fill = np.asarray(l.config.number("fill_value", 0.0)).astype(x.dtype.numpy())
    return x.like(b.op("Pad", x.value, b.const(pads + pads, "pads"), b.const(fill, "fill")))


def _smart(b: Builder, l: Layer, x: KT, target: tuple[int, int], order: Order) -> KT:
    sizes = _sizes(l, x, order)
    starts, cut = window(sizes, target)
    if cut != sizes:
        x = cropped(b, x, order, starts, cut)
    return resized(b, l, x, target, "bilinear", order)


@layer("CenterCrop")
def center_crop(b: Builder, l: Layer, x: KT) -> KT:
    """The middle of the picture; smaller pictures are cropped to the aspect ratio and enlarged."""
    target = _target(l)
    order = _space(l, x)
    x = as_float(b, x)
    sizes = _sizes(l, x, order)
    if all(s >= t for s, t in zip(sizes, target, strict=True)):
        starts = [(s - t) // 2 for s, t in zip(sizes, target, strict=True)]
        return x if sizes == list(target) else cropped(b, x, order, starts, list(target))
    return _smart(b, l, x, target, order)


@layer("RandomCrop")
def random_crop(b: Builder, l: Layer, x: KT) -> KT:
    """At inference: Keras 2 crops to the aspect ratio and resizes, Keras 3 leaves pictures alone."""
    target = _target(l)
    order = _space(l, x)
    if l.generation >= 3:
        return acts_in_training(b, x, l.type, height=target[0], width=target[1], axes=picture_axes(l, x))
    l.note("assumed", "RandomCrop at inference: the largest window of the aspect ratio, resized")
    return _smart(b, l, as_float(b, x), target, order)
