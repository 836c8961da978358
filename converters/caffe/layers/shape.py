"""Other shapes and orders of the same values: Reshape, Flatten, Permute, Transpose, Reverse, Crop.

Rules: reshape_layer.cpp, flatten_layer.cpp and crop_layer.cpp of BVLC Caffe; permute_layer.cpp of the SSD fork;
transpose_layer.cpp and reverse_layer.cpp of the CRNN fork.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from netferry.converters.caffe.registry import Layer, NeedsFixedBatch, layer
from netferry.converters.caffe.windows import axis_of
from netferry.errors import MalformedFile
from netferry.schemas.graph import Builder, Dim, shape_of
from netferry.schemas.ir import ir

_FIRST = -(2**63)
"""ONNX's Slice, going backwards, ends before the first element here."""


@layer("Reshape")
def reshape(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """New dimensions in place of those from ``axis`` on: 0 copies the bottom's, one -1 takes what is left."""
    p = l.param("reshape_param")
    new = p.message("shape").ints("dim")
    old = shape_of(x)
    axis, count = p.int("axis", 0), p.int("num_axes", -1, least=-1)
    start = axis if axis >= 0 else len(old) + axis + 1
    end = len(old) if count == -1 else start + count
    if not 0 <= start <= end <= len(old):
        raise MalformedFile(f"axis {axis} and num_axes {count} reach beyond the {len(old)} axes", layer=l.name)
    if min(new, default=0) < -1 or new.count(-1) > 1:
        raise MalformedFile(f"a shape of {new}: at most one -1, and nothing below", layer=l.name)
    target: list[Dim] = list(old[:start])
    for i, dim in enumerate(new):
        if dim == 0 and start + i >= len(old):
            raise MalformedFile(f"dim {i} copies axis {start + i}, the bottom has {len(old)} axes", layer=l.name)
        target.append(old[start + i] if dim == 0 else dim)
    return to_shape(b, l, x, [*target, *_moved(l, old[end:], len(target) - end)])


@layer("Flatten")
def flatten(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """Makes one axis of those from ``axis`` to ``end_axis``."""
    p = l.param("flatten_param")
    start, end = axis_of(l, x, p.int("axis", 1)), axis_of(l, x, p.int("end_axis", -1), "end_axis") + 1
    old = shape_of(x)
    if start > end:
        raise MalformedFile(f"axis {start} is behind end_axis {end - 1}", layer=l.name)
    if start == 1 and end == len(old) > 2:
        return b.op("Flatten", x, axis=1)
    merged = _count(old[start:end])
    behind = _moved(l, old[end:], start + 1 - end)
    return to_shape(b, l, x, [*old[:start], -1 if merged is None else merged, *behind])


def _moved(l: Layer, dims: Sequence[Dim], by: int) -> Sequence[Dim]:
    """Dimensions that come to stand at other axes; one without a name could not be told apart from another there."""
    if by and None in dims:
        raise NeedsFixedBatch("a reshape that moves an axis of unknown size", layer=l.name)
    return dims


def to_shape(b: Builder, l: Layer, x: ir.Value, target: Sequence[Dim]) -> ir.Value:
    """Reshape ``x`` to ``target``: known dimensions, dynamic ones of the bottom, and at most one -1.

    Dynamic dimensions must stay at their axis, or go into a -1 that comes before all other changes: otherwise items
    of a batch would mix. A number that is the batch as declared, at the batch's axis, stands for the batch.

    Raises:
        MalformedFile: the counts differ.
        NeedsFixedBatch: it cannot be said for every batch size.
    """
    old = shape_of(x)
    same = 0
    while same < min(len(old), len(target)) and _alike(l, old[same], target[same]):
        same += 1
    rest, wanted = old[same:], list(target[same:])
    have, ask = _count(rest), _count([d for d in wanted if d != -1])
    hole = wanted.index(-1) if -1 in wanted else None
    if have is not None and ask is not None:
        fits = ask > 0 and (have % ask == 0 if hole is not None else have == ask)
        if not fits:
            raise MalformedFile(f"{tuple(old)} does not reshape to {tuple(target)}", layer=l.name)
        if hole is not None:
            wanted[hole] = have // ask
    elif ask is None or hole != 0 or ask == 0 or (_count([d for d in rest if isinstance(d, int)]) or 0) % ask:
        raise NeedsFixedBatch(f"a reshape of {tuple(old)} to {tuple(target)}", layer=l.name)
    if any(isinstance(t, int) and not isinstance(d, int) for d, t in zip(old[:same], target[:same], strict=True)):
        l.note("assumed", f"{l.batch} in its shape is the batch, whatever the batch is at run time")
    dims = [d if isinstance(d, int) else 0 for d in old[:same]] + [d for d in wanted if isinstance(d, int)]
    if tuple(rest) == tuple(wanted):
        return b.op("Identity", x)
    return b.reshape(x, dims)


def _alike(l: Layer, old: Dim, new: Dim) -> bool:
    """Whether a dimension stays what it is."""
    return old == new or (old == "batch" and new == l.batch is not None)


def _count(dims: Sequence[Dim]) -> int | None:
    """Number of elements; None where a dimension is dynamic."""
    known = [d for d in dims if isinstance(d, int)]
    return math.prod(known) if len(known) == len(dims) else None


@layer("Permute")
def permute(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """New order of the axes; those not named follow in their order."""
    order = l.param("permute_param").ints("order")
    return _transposed(b, l, x, [*order, *(i for i in range(len(shape_of(x))) if i not in order)])


@layer("Transpose")
def transpose(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """New order of all axes, as ``dim`` (plain or in a message) or ``order``."""
    p = l.param("transpose_param")
    if not p.has("dim"):
        return _transposed(b, l, x, p.ints("order"))
    if isinstance(l.message.messages("transpose_param")[-1].get("dim")[-1], type(l.message)):
        return _transposed(b, l, x, p.message("dim").ints("dim"))
    return _transposed(b, l, x, p.ints("dim"))


def _transposed(b: Builder, l: Layer, x: ir.Value, order: Sequence[int]) -> ir.Value:
    rank = len(shape_of(x))
    if sorted(order) != list(range(rank)):
        raise MalformedFile(f"{list(order)} is not an order of {rank} axes", layer=l.name)
    if list(order) == list(range(rank)):
        return b.op("Identity", x)
    return b.op("Transpose", x, perm=list(order))


@layer("Reverse")
def reverse(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """Runs an axis (several, in some forks) backwards."""
    axes = sorted({axis_of(l, x, a) for a in l.param("reverse_param").ints("axis") or [0]})
    count = len(axes)
    y = b.op("Slice", x, b.const([-1] * count, "starts"), b.const([_FIRST] * count, "ends"), axes, [-1] * count)
    y.shape = ir.Shape(list(shape_of(x)))  # inference loses a dynamic axis here
    return y


@layer("Crop")
def crop(b: Builder, l: Layer, x: ir.Value, reference: ir.Value) -> ir.Value:
    """Cuts the bottom to the size of another from ``axis`` on, beginning at the offsets."""
    p = l.param("crop_param")
    old, new = shape_of(x), shape_of(reference)
    axis, offsets = axis_of(l, x, p.int("axis", 2)), p.ints("offset")
    if len(new) < len(old):
        raise MalformedFile(f"the reference has {len(new)} axes, the bottom {len(old)}", layer=l.name)
    if len(offsets) > 1 and len(offsets) != len(old) - axis:
        raise MalformedFile(f"{len(offsets)} offsets for {len(old) - axis} axes", layer=l.name)
    offsets = offsets * (len(old) - axis) if len(offsets) == 1 else offsets or [0] * (len(old) - axis)
    cuts: list[tuple[int, int]] = []
    for i, offset in zip(range(axis, len(old)), offsets, strict=True):
        have, want = old[i], new[i]
        if isinstance(have, int) and isinstance(want, int):
            if not 0 <= offset <= have - want:
                raise MalformedFile(f"axis {i} of size {have} has no {want} entries from {offset} on", layer=l.name)
        elif i == 0 and (offset or have != want):
            raise NeedsFixedBatch(f"cropping a batch of {have} to {want}", layer=l.name)
        if offset or have is None or have != want:
            cuts.append((i, offset))
    if not cuts:
        return b.op("Identity", x)
    return _cut(b, x, reference, cuts)


def _cut(b: Builder, x: ir.Value, reference: ir.Value, cuts: Sequence[tuple[int, int]]) -> ir.Value:
    """Cut axes to the reference's size at an offset each; sizes that are not known are taken at run time."""
    axes, starts = [a for a, _ in cuts], [o for _, o in cuts]
    new = shape_of(reference)
    sizes = [d for d in (new[a] for a in axes) if isinstance(d, int)]
    if len(sizes) == len(axes):
        ends = b.const([o + d for o, d in zip(starts, sizes, strict=True)], "ends")
    else:
        ends = b.op("Gather", b.op("Shape", reference), b.const(axes, "axes"))
        ends = b.op("Add", ends, b.const(starts, "starts")) if any(starts) else ends
    y = b.op("Slice", x, b.const(starts, "starts"), ends, b.const(axes, "axes"))
    y.shape = ir.Shape([new[i] if i in axes else d for i, d in enumerate(shape_of(x))])
    return y
