"""Joining, splitting and combining blobs: Eltwise, Axpy, Concat, Slice, Split, Tile, Silence.

Rules: eltwise_layer.cpp, concat_layer.cpp, slice_layer.cpp and tile_layer.cpp of BVLC Caffe; axpy_layer.cpp of the
SENet fork.
"""

from __future__ import annotations

from itertools import pairwise

from netferry.converters.caffe.params import Params
from netferry.converters.caffe.registry import Layer, NeedsFixedBatch, layer
from netferry.converters.caffe.windows import axis_of, check_size
from netferry.errors import MalformedFile, UnsupportedOption
from netferry.schemas.graph import Builder, shape_of
from netferry.schemas.ir import ir

_OPERATIONS = ("PROD", "SUM", "MAX")
_AXES = 32
"""Caffe's kMaxBlobAxes."""


@layer("Eltwise")
def eltwise(b: Builder, l: Layer, x: ir.Value, *others: ir.Value) -> ir.Value:
    """Product, maximum or weighted sum of bottoms of one shape."""
    p = l.param("eltwise_param")
    operation, coeff = p.enum("operation", _OPERATIONS, "SUM"), p.floats("coeff")
    values = [x, *others]
    if not others:
        raise MalformedFile("Eltwise needs at least 2 bottoms, it has 1", layer=l.name)
    if coeff and len(coeff) != len(values):
        raise MalformedFile(f"{len(coeff)} coefficients for {len(values)} bottoms", layer=l.name)
    if coeff and operation == "PROD":
        raise MalformedFile("coefficients are for sums, not for products", layer=l.name)
    for other in others:
        l.same_dims(x, other)
    if operation == "PROD":
        y = x
        for other in others:
            y = b.op("Mul", y, other)
        return y
    if operation == "MAX":
        return b.op("Max", *values)
    return _sum(b, values, coeff)


def _sum(b: Builder, values: list[ir.Value], coeff: list[float]) -> ir.Value:
    if not coeff or all(c == 1 for c in coeff):
        return b.op("Add", *values) if len(values) == 2 else b.op("Sum", *values)
    if len(values) == 2 and coeff == [1, -1]:
        return b.op("Sub", *values)
    terms = [v if c == 1 else b.op("Mul", v, c) for v, c in zip(values, coeff, strict=True)]
    return b.op("Add", *terms) if len(terms) == 2 else b.op("Sum", *terms)


@layer("Axpy")
def axpy(b: Builder, l: Layer, a: ir.Value, x: ir.Value, y: ir.Value) -> ir.Value:
    """A * x + y with one factor per item and channel: a is (N, C) or (N, C, 1, 1)."""
    factor, shape = shape_of(a), shape_of(x)
    l.same_dims(x, y)
    if len(factor) not in (2, 4) or len(shape) != 4 or any(d != 1 for d in factor[2:]) or factor[1] != shape[1]:
        raise MalformedFile(f"a factor of shape {factor} does not fit a bottom of shape {shape}", layer=l.name)
    if factor[0] != shape[0]:
        if isinstance(factor[0], int) and isinstance(shape[0], int):
            raise MalformedFile(f"{factor[0]} factors for {shape[0]} items", layer=l.name)
        raise NeedsFixedBatch(f"shapes {factor} and {shape} fit only for one batch size", layer=l.name)
    wide = b.op("Unsqueeze", a, [2, 3]) if len(factor) == 2 else a
    return b.op("Add", b.op("Mul", wide, x), y)


@layer("Concat")
def concat(b: Builder, l: Layer, x: ir.Value, *others: ir.Value) -> ir.Value:
    """Joins bottoms along an axis; all other axes are alike."""
    axis = _axis(l, l.param("concat_param"), x, "concat_dim")
    shape = shape_of(x)
    for other in others:
        given = shape_of(other)
        if len(given) != len(shape):
            raise MalformedFile(f"bottoms of {len(shape)} and {len(given)} axes cannot be joined", layer=l.name)
        for i, (mine, theirs) in enumerate(zip(shape, given, strict=True)):
            if i == axis or mine == theirs:
                continue
            if isinstance(mine, int) and isinstance(theirs, int):
                raise MalformedFile(f"shapes {shape} and {given} differ beside axis {axis}", layer=l.name)
            raise NeedsFixedBatch(f"shapes {shape} and {given} fit only for one batch size", layer=l.name)
    sizes = [shape_of(v)[axis] for v in (x, *others)]
    whole = sum(s for s in sizes if isinstance(s, int)) if all(isinstance(s, int) for s in sizes) else None
    check_size(l, (*shape[:axis], whole, *shape[axis + 1 :]))
    return b.op("Concat", x, *others, axis=axis) if others else b.op("Identity", x)


@layer("Slice")
def slice_(b: Builder, l: Layer, x: ir.Value) -> ir.Value | tuple[ir.Value, ...]:
    """Cuts an axis at the given points, or into equal parts: one top each."""
    p = l.param("slice_param")
    axis = _axis(l, p, x, "slice_dim")
    points, tops = p.ints("slice_point"), len(l.tops)
    if not tops:
        raise MalformedFile("a Slice without tops", layer=l.name)
    if points and len(points) != tops - 1:
        raise MalformedFile(f"{len(points)} slice points for {tops} tops", layer=l.name)
    if tops == 1:
        return b.op("Identity", x)
    size = l.fixed(x, axis, "Slice")
    if not points:
        if size % tops:
            raise MalformedFile(f"axis {axis} of size {size} does not split into {tops} equal parts", layer=l.name)
        points = [size // tops * i for i in range(1, tops)]
    sizes = [end - start for start, end in pairwise([0, *points, size])]
    if min(sizes) <= 0:
        raise MalformedFile(f"slice points {points} do not cut axis {axis} of size {size} into parts", layer=l.name)
    return b.op("Split", x, b.const(sizes, "sizes"), outputs=tops, axis=axis)


def _axis(l: Layer, p: Params, x: ir.Value, legacy: str) -> int:
    """``axis``, or the unsigned setting that it replaced."""
    if not p.has(legacy):
        return axis_of(l, x, p.int("axis", 1))
    if p.has("axis"):
        raise MalformedFile(f"give axis or {legacy}, not both", layer=l.name)
    axis = p.int(legacy)
    if not 0 <= axis < _AXES:
        raise MalformedFile(f"{legacy} {axis} is not in 0 .. {_AXES - 1}", layer=l.name)
    return axis_of(l, x, axis, legacy)


@layer("Split")
def split(b: Builder, l: Layer, x: ir.Value) -> tuple[ir.Value, ...]:
    """All tops are the bottom itself."""
    return (x,) * len(l.tops)


@layer("Silence")
def silence(b: Builder, l: Layer, *bottoms: ir.Value) -> tuple[ir.Value, ...]:
    """Takes blobs that nobody else reads, so that they are no outputs."""
    return ()


@layer("Tile")
def tile(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """Repeats the bottom along an axis."""
    p = l.param("tile_param")
    axis, tiles = axis_of(l, x, p.int("axis", 1)), p.int("tiles")
    if tiles < 1:
        raise UnsupportedOption(f"tile_param.tiles: {tiles} is not above 0", layer=l.name)
    shape = shape_of(x)
    size = shape[axis]
    check_size(l, (*shape[:axis], size * tiles if isinstance(size, int) else tiles, *shape[axis + 1 :]))
    return b.op("Tile", x, [tiles if i == axis else 1 for i in range(len(shape))])
