"""Reshaping: axes renamed where that is all, elements moved only where they must be."""

from __future__ import annotations

import math
from typing import Any

from netferry.converters.keras.grouping import grouped
from netferry.converters.keras.layer import Layer
from netferry.converters.keras.layers.convolution import spatial_rank
from netferry.converters.keras.layers.resizing import resized
from netferry.converters.keras.layout import KT, Order, channels_first, flatten
from netferry.converters.keras.registry import layer
from netferry.converters.keras.resampling import METHODS
from netferry.errors import MalformedFile, UnsupportedOption
from netferry.schemas.graph import Builder
from netferry.schemas.ir import ir


@layer("Flatten")
def flat(b: Builder, l: Layer, x: KT) -> KT:
    """All axes but the batch in one; the elements stay where they lie until someone must know."""
    if l.data_format() == "channels_first" and x.rank > 2:
        # Keras reads channels-first data as channels-last before it flattens
        order: Order = (0, *range(2, x.rank), 1)
        moved = KT(x.value, tuple(order.index(a) for a in x.order))
        return flatten(b, moved)
    if x.rank == 2:
        return KT(x.value, x.order, None, x.flat) if x.order == (0, 1) else KT.of(x.logical(b))
    if x.rank == 1:
        return KT.of(b.op("Unsqueeze", x.value, b.const([1], "axes")))
    return flatten(b, x)


@layer("Reshape")
def reshape(b: Builder, l: Layer, x: KT) -> KT:
    """The same elements in other dimensions; -1 stands for what is left."""
    target = l.config.whole_numbers("target_shape", also=("dims",))
    return reshaped(b, l, x, target)


def reshaped(b: Builder, l: Layer, x: KT, target: list[int]) -> KT:
    """Reshape to ``target`` (without the batch), in Keras's order of elements."""
    if target.count(-1) > 1 or any(d < -1 for d in target):
        raise MalformedFile(f"target_shape={target} is not a shape", layer=l.path)
    sizes = [d for d in x.shape[1:] if isinstance(d, int)]
    if len(sizes) == x.rank - 1:
        have = math.prod(sizes)
        want = math.prod(d for d in target if d != -1)
        if (-1 in target and (want == 0 or have % want)) or (-1 not in target and want != have):
            raise MalformedFile(f"{have} elements do not fit target_shape={target}", layer=l.path)
        if -1 in target:
            target = [have // want if d == -1 else d for d in target]
        if x.flat is None:
            found = grouped(b, x, sizes, target)
            if found is not None:
                return found
    return KT.of(b.reshape(x.logical(b), [0, *target] if 0 not in target else [-1, *target]))


@layer("Permute")
def permute(b: Builder, l: Layer, x: KT) -> KT:
    """Other names for the axes: nothing moves."""
    dims = l.config.whole_numbers("dims")
    if sorted(dims) != list(range(1, x.rank)):
        raise MalformedFile(f"dims={dims} is not an order of {x.rank - 1} axes", layer=l.path)
    return permuted(b, x, [0, *dims])


def permuted(b: Builder, x: KT, perm: list[int]) -> KT:
    """Let axis ``perm[i]`` be axis ``i``; only the names change."""
    if x.flat is not None:
        x = KT.of(x.logical(b))
    return KT(x.value, tuple(perm.index(axis) for axis in x.order))


@layer("RepeatVector")
def repeat_vector(b: Builder, l: Layer, x: KT) -> KT:
    """A vector again and again along a new time axis."""
    n = l.config.integer("n", least=1)
    l.rank(x, 2)
    wide = b.op("Unsqueeze", x.logical(b), b.const([1], "axes"))
    return KT.of(wide if n == 1 else b.op("Tile", wide, b.const([1, n, 1], "repeats")))


def _amounts(l: Layer, name: str, rank: int, default: object) -> list[tuple[int, int]]:
    """Paddings or croppings before and after, per dimension of space."""
    value: Any = l.config.take(name, default)
    if isinstance(value, dict):  # Keras 1: {'top_pad': 1, ...}
        keys = (("top_pad", "bottom_pad"), ("left_pad", "right_pad")) if rank == 2 else (("left_pad", "right_pad"),)
        value = [[value.get(first, 0), value.get(last, 0)] for first, last in keys]
    if rank == 1 and isinstance(value, list) and len(value) == 2 and all(isinstance(v, int) for v in value):
        value = [value]
    if isinstance(value, list) and len(value) == 4 and rank == 2 and all(isinstance(v, int) for v in value):
        value = [value[:2], value[2:]]
    items: list[Any] = value if isinstance(value, list) else [value] * rank
    pairs: list[tuple[Any, ...]] = [tuple(i) if isinstance(i, list) and len(i) == 2 else (i, i) for i in items]
    for pair in pairs:
        if any(isinstance(v, bool) or not isinstance(v, int) or not 0 <= v < 2**31 for v in pair):
            raise l.config.bad(name, value, "whole numbers, one or two per dimension")
    if len(pairs) != rank:
        raise l.config.bad(name, value, f"for {rank} dimensions")
    return [(a, c) for a, c in pairs]


def _space(l: Layer, x: KT) -> tuple[int, Order]:
    """Rank of space, and the axes of space in Keras's numbering."""
    rank = spatial_rank(l)
    l.rank(x, rank + 2)
    return rank, channels_first(rank + 2, l.data_format())[2:]


@layer("ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D")
def zero_padding(b: Builder, l: Layer, x: KT) -> KT:
    """Zeros around space."""
    rank, axes = _space(l, x)
    amounts = _amounts(l, "padding", rank, 1)
    if not any(before or after for before, after in amounts):
        return x

    def padded(order: Order) -> ir.Value:
        pads = [0] * (2 * x.rank)
        for axis, (before, after) in zip(axes, amounts, strict=True):
            place = order.index(axis)
            pads[place], pads[x.rank + place] = before, after
        return b.op("Pad", x.to(b, order), b.const(pads, "pads"))

    def remake(order: Order) -> ir.Value:
        with b.layer(l.path, l.type):  # the Transpose too: a layer must not read what reads it
            return padded(order)

    made = x.like(padded(x.order))
    if x.order == tuple(range(x.rank)):  # a picture: let the Pad lie beside the convolution, which can take it in
        made.remake = remake
    return made


@layer("Cropping1D", "Cropping2D", "Cropping3D")
def cropping(b: Builder, l: Layer, x: KT) -> KT:
    """Elements cut off around space."""
    rank, axes = _space(l, x)
    amounts = _amounts(l, "cropping", rank, 0 if rank > 1 else 1)
    starts, ends, places = [], [], []
    for axis, (before, after) in zip(axes, amounts, strict=True):
        if before or after:
            size = x.shape[axis]
            if isinstance(size, int) and before + after >= size:
                raise MalformedFile(f"nothing is left of {size} after cropping {before} and {after}", layer=l.path)
            starts.append(before)
            ends.append(-after if after else 2**63 - 1)
            places.append(x.order.index(axis))
    if not places:
        return x
    made = b.op("Slice", x.value, b.const(starts, "starts"), b.const(ends, "ends"), b.const(places, "axes"))
    return x.like(made)


@layer("UpSampling1D", "UpSampling2D", "UpSampling3D")
def upsampling(b: Builder, l: Layer, x: KT) -> KT:
    """Space enlarged by whole factors: elements repeated, or interpolated between centres of pixels."""
    rank, axes = _space(l, x)
    size = l.config.integers("size", rank, 2, least=1, also=("length",))
    kind = l.config.take("interpolation", "nearest")
    if kind not in METHODS:
        raise UnsupportedOption(f"interpolation={kind!r} is not supported (only {', '.join(METHODS)})", layer=l.path)
    if all(s == 1 for s in size):
        return x
    order = channels_first(rank + 2, l.data_format())
    sides = [x.shape[axis] for axis in axes]
    # tensorflow takes cubic coefficients from a table of 1024 steps, in which other parts of a pixel are not exact
    cubic = kind == "bicubic" and (all(s & (s - 1) == 0 for s in size) or not all(isinstance(d, int) for d in sides))
    if kind not in ("nearest", "bilinear") and not cubic:
        target = [l.dim(x, axis, "a side of the picture") * s for axis, s in zip(axes, size, strict=True)]
        return resized(b, l, x, (target[0], target[-1]), kind, order)
    value = x.to(b, order)
    scales = b.const([1.0, 1.0, *(float(s) for s in size)], "scales")
    if kind == "nearest":
        made = b.op("Resize", value, None, scales, mode="nearest", coordinate_transformation_mode="asymmetric",
                    nearest_mode="floor")  # fmt: skip
    elif kind == "bilinear":
        made = b.op("Resize", value, None, scales, mode="linear", coordinate_transformation_mode="half_pixel")
    else:
        made = b.op("Resize", value, None, scales, mode="cubic", coordinate_transformation_mode="half_pixel",
                    cubic_coeff_a=-0.5, exclude_outside=1)  # fmt: skip
    return KT(made, order)
