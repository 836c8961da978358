"""Operations that name, add, drop and order axes: mostly nothing moves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from netferry.converters.keras.layers.merging import joined
from netferry.converters.keras.layers.reshaping import permuted, reshaped
from netferry.converters.keras.layout import KT, identity
from netferry.converters.keras.operations.call import Op, operation
from netferry.converters.keras.operations.functions import argument
from netferry.converters.keras.operations.sizes import as_value, dims_of
from netferry.schemas.graph import Dim
from netferry.schemas.ir import ir

_INT32, _INT64 = ir.DataType.INT32, ir.DataType.INT64


def inserted(op: Op, x: KT, axes: Sequence[int]) -> KT:
    """Add axes of size 1 that are ``axes`` of the result."""
    if not axes:
        return x
    x = op.plain(x)
    rank = x.rank + len(axes)
    kept = [a for a in range(rank) if a not in axes]
    if x.order == identity(x.rank):
        return KT.of(op.b.op("Unsqueeze", x.value, op.b.const(sorted(axes), "axes")))
    order = (*(kept[a] for a in x.order), *sorted(axes))
    places = list(range(x.rank, rank))
    return KT(op.b.op("Unsqueeze", x.value, op.b.const(places, "axes")), order)


def dropped_order(order: Sequence[int], axes: Sequence[int]) -> tuple[int, ...]:
    """Order of axes once ``axes`` are gone."""
    kept = [a for a in range(len(order)) if a not in axes]
    return tuple(kept.index(a) for a in order if a not in axes)


@operation("ops:ExpandDims", "tf.expand_dims")
def expand_dims(op: Op) -> KT:
    """New axes of size 1."""
    x = argument(op)
    op.leave("dim")
    axes = op.integers("axis", 1)
    assert axes is not None
    return inserted(op, x, op.axes_of(x.rank + len(axes), axes))


@operation("ops:Squeeze", "tf.squeeze")
def squeeze(op: Op) -> KT:
    """Axes of size 1 dropped: those named, or all that are known to be 1."""
    x = op.plain(argument(op))
    op.leave("squeeze_dims")
    axes = op.integers("axis", 1, None)
    if not axes:
        axes = [a for a, d in enumerate(x.shape) if d == 1]
    return squeezed(op, x, op.axes_of(x.rank, axes))


def squeezed(op: Op, x: KT, axes: Sequence[int]) -> KT:
    """Drop axes of size 1."""
    if not axes:
        return x
    places = sorted(x.axis(a) for a in axes)
    return KT(op.b.op("Squeeze", x.value, op.b.const(places, "axes")), dropped_order(x.order, axes))


@operation("ops:Transpose", "tf.transpose", "tf.linalg.matrix_transpose")
def transpose(op: Op) -> KT:
    """Other names for the axes; reversed unless told otherwise."""
    x = argument(op)
    if op.l.type == "tf.linalg.matrix_transpose":
        return permuted(op.b, x, [*range(x.rank - 2), x.rank - 1, x.rank - 2])
    perm = op.integers("axes" if op.keras3 else "perm", 1, None)
    if perm is None:
        perm = list(reversed(range(x.rank)))
    if sorted(a % x.rank for a in perm) != list(range(x.rank)):
        raise op.bad("perm", perm, f"an order of {x.rank} axes")
    return permuted(op.b, x, [a % x.rank for a in perm])


@operation("ops:Swapaxes")
def swapaxes(op: Op) -> KT:
    """Two axes exchanged."""
    x = argument(op)
    first, second = op.axis(x, "axis1", 1), op.axis(x, "axis2", 2)
    perm = list(range(x.rank))
    perm[first], perm[second] = second, first
    return permuted(op.b, x, perm)


@operation("ops:Moveaxis")
def moveaxis(op: Op) -> KT:
    """Axes moved to other places."""
    x = argument(op)
    source, target = op.integers("source", 1) or [], op.integers("destination", 2) or []
    source, target = op.axes_of(x.rank, source), op.axes_of(x.rank, target)
    perm = [a for a in range(x.rank) if a not in source]
    for place, axis in sorted(zip(target, source, strict=True)):
        perm.insert(place, axis)
    return permuted(op.b, x, perm)


@operation("ops:Reshape", "tf.reshape")
def reshape(op: Op) -> KT:
    """The same elements in other dimensions, the batch included; sizes may be computed."""
    x = op.tensor("tensor" if "tensor" in op.l.kwargs else "x")
    name = "newshape" if "newshape" in op.l.config or "newshape" in op.l.kwargs else "shape"
    value = op.take(name, 1)
    dims, parts = dims_of(value, op, name)
    return reshaped_to(op, x, dims, parts)


def reshaped_to(op: Op, x: KT, dims: Sequence[Dim], parts: Sequence[Any]) -> KT:
    """Reshape to dimensions that are numbers (-1: what is left), names of dynamic dimensions, or computed."""
    x_dims = x.shape
    rest = [d for d in dims[1:] if isinstance(d, int) and d >= 0]
    have = [d for d in x_dims[1:] if isinstance(d, int)]
    if x.rank >= 1 and dims and len(have) == x.rank - 1 and len(rest) == len(dims) - 1 and math.prod(have) > 0:
        keeps = dims[0] in (-1, None) or dims[0] == x_dims[0]
        if keeps and math.prod(rest) == math.prod(have):
            return reshaped(op.b, op.l, x, rest)
    if x.rank >= 1 and dims and (dims[0] is not None and dims[0] == x_dims[0]) and len(have) == x.rank - 1:
        tail = [d for d in dims[1:] if isinstance(d, int)]
        if len(tail) == len(dims) - 1 and tail.count(-1) == 1 and math.prod(have) > 0:
            return reshaped(op.b, op.l, x, tail)
    if list(dims) == [-1] and x.rank == 2 and x.flat is not None:
        x = op.plain(x)
    value = x.logical(op.b)
    target: list[int] | None = []
    for place, dim in enumerate(dims):
        if isinstance(dim, int):
            target.append(dim)
        elif place < x.rank and isinstance(dim, str) and dim == x_dims[place]:
            target.append(0)
        else:
            target.append(-2)
    if target.count(-2) == 1 and -1 not in target:
        target[target.index(-2)] = -1
    if -2 not in target and not any(d == 0 and isinstance(dims[i], int) for i, d in enumerate(target)):
        made = KT.of(op.b.reshape(value, target))
    else:
        if any(d is None and not any(isinstance(p, KT) for p in parts) for d in dims):
            raise op.unsupported("more than one dimension is left open")
        made = KT.of(op.b.op("Reshape", value, as_value(op, parts, dims)))
    if made.value.shape is None or len(made.value.shape) != len(dims):
        made = KT.of(_described(made.value, dims))
    return made


def _described(value: ir.Value, dims: Sequence[Dim]) -> ir.Value:
    value.shape = ir.Shape([None if d == -1 else d for d in dims])
    return value


@operation("ops:Ravel")
def ravel(op: Op) -> KT:
    """All elements in one axis, the batch included."""
    x = op.plain(argument(op))
    return KT.of(op.b.reshape(x.logical(op.b), [-1]))


@operation("ops:Concatenate", "tf.concat")
def concatenate(op: Op) -> KT:
    """Tensors joined along an axis."""
    values = op.take("xs" if op.keras3 else "values", 0)
    tensors = _tensors(op, values)
    axis = op.integer("axis", 1, 0)
    return joined(op.b, op.l, tensors, axis)


def _tensors(op: Op, values: Any) -> list[KT]:
    """A list of tensors of one type; constants take the tensors' type."""
    if isinstance(values, KT):
        values = [values]
    if not isinstance(values, list) or not values:
        raise op.bad("values", values, "a list of tensors")
    kinds = [v.dtype for v in values if isinstance(v, KT)]
    kind = kinds[0] if kinds else None
    if any(k == ir.DataType.FLOAT for k in kinds):
        kind = ir.DataType.FLOAT
    made = [op.as_tensor(v, "value", kind) for v in values]
    return made if kind is None else [op.cast(v, kind) for v in made]


@operation("ops:Hstack", "ops:Vstack", "ops:Dstack", "ops:Append")
def stacked_along(op: Op) -> KT:
    """Tensors joined side by side, one above the other, or in depth."""
    if op.l.type == "ops:Append":
        tensors = _tensors(op, [op.take("x1", 0), op.take("x2", 1)])
        axis = op.take("axis", 2, None)
        if axis is None:
            tensors = [KT.of(op.b.reshape(op.plain(x).logical(op.b), [-1])) for x in tensors]
        return joined(op.b, op.l, tensors, 0 if axis is None else int(axis))
    tensors = _tensors(op, op.take("xs", 0))
    least = {"ops:Hstack": 1, "ops:Vstack": 2, "ops:Dstack": 3}[op.l.type]
    if any(x.rank < least for x in tensors):
        raise op.unsupported(f"tensors of rank below {least}")
    axis = {"ops:Hstack": 0 if tensors[0].rank == 1 else 1, "ops:Vstack": 0, "ops:Dstack": 2}[op.l.type]
    return joined(op.b, op.l, tensors, axis)


@operation("ops:Stack", "tf.stack")
def stack(op: Op) -> KT:
    """Tensors put side by side along a new axis."""
    tensors = _tensors(op, op.take("x" if op.keras3 else "values", 0))
    axis = op.axes_of(tensors[0].rank + 1, [op.integer("axis", 1, 0)])[0]
    return joined(op.b, op.l, [inserted(op, x, [axis]) for x in tensors], axis)


@operation("ops:Split", "ops:ArraySplit", "tf.split", "ops:Hsplit", "ops:Vsplit", "ops:Dsplit")
def split(op: Op) -> tuple[KT, ...]:
    """Pieces along an axis: so many, of such sizes (TensorFlow) or cut at such places (Keras 3)."""
    x = op.plain(op.tensor("x" if op.keras3 else "value"))
    how = op.take("indices_or_sections" if op.keras3 else "num_or_size_splits", 1)
    op.leave("num")
    fixed = {"ops:Hsplit": 0 if x.rank == 1 else 1, "ops:Vsplit": 0, "ops:Dsplit": 2}.get(op.l.type)
    axis = fixed if fixed is not None else op.axis(x, "axis", 2, 0)
    size = x.shape[axis]
    if isinstance(how, int):
        if not isinstance(size, int):
            raise op.unsupported(f"axis {axis} must be a known number")
        if how < 1 or (size % how and op.l.type != "ops:ArraySplit"):
            raise op.bad("indices_or_sections", how, f"a divisor of {size}")
        sizes = [size // how + (i < size % how) for i in range(how)]
    else:
        found = op.as_integers(how, "indices_or_sections") or []
        if op.keras3:
            if not isinstance(size, int):
                raise op.unsupported(f"axis {axis} must be a known number")
            cuts = [0, *(min(max(c if c >= 0 else c + size, 0), size) for c in found), size]
            sizes = [max(end - start, 0) for start, end in pairwise(cuts)]
        else:
            sizes = found
            if sizes.count(-1) == 1 and isinstance(size, int):
                sizes[sizes.index(-1)] = size - sum(s for s in sizes if s != -1)
        if any(s < 0 for s in sizes) or (isinstance(size, int) and sum(sizes) != size):
            raise op.bad("num_or_size_splits", how, f"sizes that sum to {size}")
    if len(sizes) == 1:
        return (x,)
    made = op.b.op("Split", x.value, op.b.const(sizes, "sizes"), outputs=len(sizes), axis=x.axis(axis))
    return tuple(KT(v, x.order) for v in made)


@operation("ops:Unstack", "tf.unstack")
def unstack(op: Op) -> tuple[KT, ...]:
    """One tensor for each place along an axis."""
    x = op.plain(op.tensor("x" if op.keras3 else "value"))
    op.leave("num")
    axis = op.axis(x, "axis", 2, 0)
    size = op.l.dim(x, axis, "the axis to take apart")
    order = dropped_order(x.order, [axis])
    return tuple(
        KT(op.b.op("Gather", x.value, op.b.const(np.asarray(i), "index"), axis=x.axis(axis)), order)
        for i in range(size)
    )


@operation("ops:Shape", "tf.shape", "tf.shape_v2")
def shape(op: Op) -> KT:
    """The dimensions of a tensor."""
    x = op.plain(argument(op))
    kind = op.dtype("out_type", 1, "int32") or _INT32
    sizes = op.b.op("Shape", x.value)
    if x.order != identity(x.rank):
        sizes = op.b.op("Gather", sizes, op.b.const([x.order.index(a) for a in range(x.rank)], "axes"), axis=0)
    return KT.of(sizes if kind == _INT64 else op.b.op("Cast", sizes, to=int(kind)))


@operation("ops:Size", "tf.size")
def size(op: Op) -> KT:
    """The number of elements."""
    x = op.plain(argument(op))
    kind = op.dtype("out_type", 1, "int32") or _INT32
    count = op.b.op("Size", x.value)
    return KT.of(count if kind == _INT64 else op.b.op("Cast", count, to=int(kind)))


@operation("tf.rank", "ops:Ndim")
def rank(op: Op) -> KT:
    """The number of axes."""
    return KT.of(op.b.const(np.asarray(argument(op).rank, np.int32), "rank"))
