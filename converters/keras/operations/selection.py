"""Parts of tensors: Python slices, rows by number, padding, repetition, reversal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from netferry.converters.keras.layout import KT, identity
from netferry.converters.keras.operations.axes import dropped_order, inserted
from netferry.converters.keras.operations.call import Op, Slice, operation
from netferry.converters.keras.operations.functions import argument
from netferry.converters.keras.operations.sizes import as_int64, dims_of, known
from netferry.schemas.graph import shape_of
from netferry.schemas.ir import ir

_END, _START = 2**63 - 1, -(2**63)
_INT64, _BOOL = ir.DataType.INT64, ir.DataType.BOOL


@operation("ops:GetItem", "tf.__operators__.getitem")
def get_item(op: Op) -> KT:
    """Python's x[...]: slices, numbers, None, the ellipsis and lists of numbers."""
    x = op.plain(op.tensor("x" if op.keras3 else "tensor"))
    name = "key" if op.keras3 else "slice_spec"
    return indexed(op, x, op.take(name, 1))


def indexed(op: Op, x: KT, key: Any) -> KT:
    """Apply an index to a tensor."""
    items = list(key) if isinstance(key, list) and _is_index(key) else [key]
    items = [Ellipsis if isinstance(i, str) and i in ("Ellipsis", "...") else i for i in items]
    for item in items:
        if isinstance(item, KT) and (item.dtype == _BOOL or item.rank > 1):
            raise op.unsupported("an index by truths or by several axes of numbers")
    used = sum(i is not None and i is not Ellipsis for i in items)
    if used > x.rank or sum(i is Ellipsis for i in items) > 1:
        raise op.bad("key", f"{len(items)} parts", f"an index of a tensor of rank {x.rank}")
    if Ellipsis not in [i for i in items if i is Ellipsis]:
        items.append(Ellipsis)
    at = next(n for n, i in enumerate(items) if i is Ellipsis)
    items[at : at + 1] = [Slice(None, None, None)] * (x.rank - used)
    axes: list[tuple[int, Any]] = []
    new: list[int] = []
    place = axis = 0
    for item in items:
        if item is None:
            new.append(place)
            place += 1
            continue
        axes.append((axis, item))
        axis += 1
        place += not (isinstance(item, int) or (isinstance(item, KT) and item.rank == 0))
    return inserted(op, taken(op, x, axes), new)


def _is_index(key: list[Any]) -> bool:
    """A list that is a tuple of parts, rather than a list of row numbers."""
    return any(not isinstance(i, int) or isinstance(i, bool) for i in key) or len(key) > 0


def taken(op: Op, x: KT, axes: Sequence[tuple[int, Any]]) -> KT:
    """Slice, then take rows, then drop the axes that a single number picked."""
    starts: list[Any] = []
    ends: list[Any] = []
    steps: list[int] = []
    places: list[int] = []
    for axis, item in axes:
        if not isinstance(item, Slice):
            continue
        step = 1 if item.step is None else op.as_integers(item.step, "step")
        step = step if isinstance(step, int) else (step or [1])[0]
        if step == 0:
            raise op.bad("step", 0, "another number than 0")
        start = item.start if item.start is not None else (0 if step > 0 else _END)
        stop = item.stop if item.stop is not None else (_END if step > 0 else _START)
        if (start, stop, step) == (0, _END, 1):
            continue
        starts.append(start)
        ends.append(stop)
        steps.append(step)
        places.append(x.axis(axis))
    if places:
        x = _sliced(op, x, starts, ends, places, steps)
    single = [(axis, item) for axis, item in axes if isinstance(item, int)]
    for axis, item in single:
        size = x.shape[axis]
        if isinstance(size, int) and not -size <= item < size:
            raise op.bad("key", item, f"an element of an axis of size {size}")
    for axis, item in axes:
        if isinstance(item, (list, np.ndarray, KT)) and not (isinstance(item, KT) and item.rank == 0):
            x = KT(op.b.op("Gather", x.value, _rows(op, item), axis=x.axis(axis)), x.order)
    for axis, item in reversed(list(axes)):
        if isinstance(item, int):
            value = op.b.op("Gather", x.value, op.b.const(np.asarray(item), "index"), axis=x.axis(axis))
            x = KT(value, dropped_order(x.order, [axis]))
        elif isinstance(item, KT) and item.rank == 0:
            x = KT(op.b.op("Gather", x.value, _rows(op, item), axis=x.axis(axis)), dropped_order(x.order, [axis]))
    return x


def _rows(op: Op, item: Any) -> ir.Value:
    """Row numbers as a value that Gather takes."""
    if isinstance(item, KT):
        value = item.logical(op.b)
        return value if value.dtype in (ir.DataType.INT32, _INT64) else op.b.op("Cast", value, to=int(_INT64))
    array = op.array(item, "indices")
    if array.dtype.kind not in "iu":
        raise op.bad("indices", item, "whole numbers")
    return op.b.const(array.astype(np.int64), "indices")


def _sliced(
    op: Op, x: KT, starts: Sequence[Any], ends: Sequence[Any], places: Sequence[int], steps: Sequence[int]
) -> KT:
    """Slice; ends that are computed stay computed unless they are known."""
    made = [_bounds(op, starts), _bounds(op, ends)]
    inputs = [*made, op.b.const(list(places), "axes")]
    if any(s != 1 for s in steps):
        inputs.append(op.b.const(list(steps), "steps"))
    return KT(op.b.op("Slice", x.value, *inputs), x.order)


def _bounds(op: Op, values: Sequence[Any]) -> ir.Value:
    parts = []
    for value in values:
        if isinstance(value, KT):
            found = known(value.value)
            parts.append(found[0] if found and isinstance(found[0], int) else value)
        elif isinstance(value, int) and not isinstance(value, bool):
            parts.append(value)
        else:
            raise op.bad("key", value, "a whole number")
    if all(isinstance(p, int) for p in parts):
        return op.b.const(np.asarray(parts, np.int64), "bounds")
    pieces = [
        op.b.const(np.asarray([p], np.int64), "bounds")
        if isinstance(p, int)
        else op.b.reshape(as_int64(op, p.value), [1])
        for p in parts
    ]
    return pieces[0] if len(pieces) == 1 else op.b.op("Concat", *pieces, axis=0)


@operation("ops:Slice", "tf.slice")
def slice_(op: Op) -> KT:
    """A block: where it starts, and its size on each axis (-1: to the end)."""
    x = op.plain(op.tensor("inputs" if op.keras3 else "input_"))
    start = op.take("start_indices" if op.keras3 else "begin", 1)
    sizes, _ = dims_of(op.take("shape" if op.keras3 else "size", 2), op, "size")
    starts, _ = dims_of(start, op, "begin")
    if len(starts) != x.rank or len(sizes) != x.rank:
        raise op.bad("begin", starts, f"{x.rank} numbers")
    axes: list[tuple[int, Any]] = []
    for axis, (first, count) in enumerate(zip(starts, sizes, strict=True)):
        if count == x.shape[axis] and (first == 0 or not op.keras3):
            continue
        if not isinstance(first, int) or not isinstance(count, int):
            raise op.unsupported("a block at a place that is computed")
        axes.append((axis, Slice(first, None if count == -1 else first + count, None)))
    return taken(op, x, axes)


@operation("tf.strided_slice")
def strided_slice(op: Op) -> KT:
    """begin, end and strides for each axis."""
    x = op.plain(op.tensor("input_"))
    begin, end = op.integers("begin", 1) or [], op.integers("end", 2) or []
    strides = op.integers("strides", 3, None) or [1] * len(begin)
    masks = {
        k: op.integer(k, None, 0)
        for k in ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask")
    }
    return indexed(op, x, strided_key(begin, end, strides, masks))


def strided_key(begin: Sequence[int], end: Sequence[int], strides: Sequence[int], masks: dict[str, int]) -> list[Any]:
    """TensorFlow's StridedSlice as a Python index."""
    key: list[Any] = []
    for i, (first, last, step) in enumerate(zip(begin, end, strides, strict=True)):
        bit = 1 << i
        if masks.get("ellipsis_mask", 0) & bit:
            key.append(Ellipsis)
        elif masks.get("new_axis_mask", 0) & bit:
            key.append(None)
        elif masks.get("shrink_axis_mask", 0) & bit:
            key.append(first)
        else:
            key.append(Slice(None if masks.get("begin_mask", 0) & bit else first,
                             None if masks.get("end_mask", 0) & bit else last, step))  # fmt: skip
    return key


@operation("ops:Take", "tf.gather", "tf.nn.embedding_lookup", "tf.gather_v2")
def take(op: Op) -> KT:
    """Rows by number along an axis; the numbers' own axes take its place."""
    x = op.plain(op.tensor("x" if op.keras3 else "params"))
    indices = op.take("indices" if "ids" not in op.l.kwargs else "ids", 1)
    op.leave("max_norm", "partition_strategy", "mode")
    batches = op.integer("batch_dims", None, 0)
    axis = op.take("axis", 2, 0 if "lookup" in op.l.type else None)
    if axis is None and op.keras3:
        x, axis = KT.of(op.b.reshape(x.logical(op.b), [-1])), 0
    axis = op.axes_of(x.rank, [batches if axis is None else int(axis)])[0]
    if batches:
        return _in_batches(op, x, indices, axis, batches)
    rank = indices.rank if isinstance(indices, KT) else np.ndim(indices)
    rows = _rows(op, indices)
    if rank == 1:
        return KT(op.b.op("Gather", x.value, rows, axis=x.axis(axis)), x.order)
    if rank == 0:
        return KT(op.b.op("Gather", x.value, rows, axis=x.axis(axis)), dropped_order(x.order, [axis]))
    return KT.of(op.b.op("Gather", x.logical(op.b), rows, axis=axis))


def _in_batches(op: Op, x: KT, indices: Any, axis: int, batches: int) -> KT:
    """Rows by numbers that differ from sample to sample."""
    rows = op.as_tensor(indices, "indices", _INT64)
    if not 0 < batches < min(x.rank, rows.rank + 1) or axis != batches:
        raise op.unsupported(f"batch_dims={batches} along axis {axis}")
    places = op.b.op("Unsqueeze", as_int64(op, rows.logical(op.b)), op.b.const([-1], "axes"))
    return KT.of(op.b.op("GatherND", x.logical(op.b), places, batch_dims=batches))


@operation("ops:TakeAlongAxis")
def take_along_axis(op: Op) -> KT:
    """For each place the element whose number stands there."""
    x = op.plain(op.tensor("x"))
    axis = op.take("axis", 2, None)
    if axis is None:
        raise op.unsupported("axis=None")
    rows, place = _rows(op, op.as_tensor(op.take("indices", 1))), op.axes_of(x.rank, [int(axis)])[0]
    value, dims = x.logical(op.b), shape_of(rows)
    if len(dims) != x.rank:
        raise op.bad("indices", dims, f"an array of rank {x.rank}")
    if any(d == 1 and x.shape[a] != 1 for a, d in enumerate(dims) if a != place):  # one row of them for all
        sizes = op.b.op("Shape", value)
        one = op.b.const([1], "one")
        sizes = op.b.op("ScatterElements", sizes, op.b.const([place], "axis"), one)
        rows = op.b.op("Expand", rows, sizes)
    return KT.of(op.b.op("GatherElements", value, rows, axis=place))


@operation("tf.gather_nd")
def gather_nd(op: Op) -> KT:
    """Elements by several numbers each."""
    x = op.plain(op.tensor("params"))
    op.leave("bad_indices_policy")  # what happens to indices that are out of bounds
    rows = op.as_tensor(op.take("indices", 1))
    value = rows.logical(op.b)
    value = value if value.dtype == _INT64 else op.b.op("Cast", value, to=int(_INT64))
    return KT.of(op.b.op("GatherND", x.logical(op.b), value, batch_dims=op.integer("batch_dims", None, 0)))


@operation("tf.boolean_mask")
def boolean_mask(op: Op) -> KT:
    """Rows where a condition of one axis holds; how many there are depends on the values."""
    x = op.plain(op.tensor("tensor"))
    mask = op.as_tensor(op.take("mask", 1))
    axis = op.take("axis", None, None)
    if mask.rank == 1:
        value = op.b.op("Compress", x.logical(op.b), mask.value, axis=0 if axis is None else int(axis))
        return KT.of(value)
    if mask.rank == x.rank:
        return KT.of(op.b.op("Compress", x.logical(op.b), op.b.reshape(mask.logical(op.b), [-1])))
    raise op.unsupported("a mask of several axes, but not all")


@operation("ops:Tril", "ops:Triu", "tf.linalg.band_part")
def triangle(op: Op) -> KT:
    """The triangle below or above a diagonal of the last two axes."""
    x = op.plain(argument(op))
    if op.l.type == "tf.linalg.band_part":
        low, high = op.integer("num_lower", 1), op.integer("num_upper", 2)
        value = x.logical(op.b)
        if low >= 0:
            value = op.b.op("Trilu", value, op.b.const(np.asarray(-low), "k"), upper=1)
        if high >= 0:
            value = op.b.op("Trilu", value, op.b.const(np.asarray(high), "k"), upper=0)
        return KT.of(value)
    k = op.b.const(np.asarray(op.integer("k", 1, 0)), "k")
    return KT(op.b.op("Trilu", x.logical(op.b), k, upper=int(op.l.type == "ops:Triu")), identity(x.rank))


@operation("tf.image.crop_to_bounding_box")
def crop_to_bounding_box(op: Op) -> KT:
    """A window of a picture."""
    x = op.plain(op.tensor("image"))
    top, left = op.integer("offset_height", 1), op.integer("offset_width", 2)
    height, width = op.integer("target_height", 3), op.integer("target_width", 4)
    return taken(op, x, [(x.rank - 3, Slice(top, top + height, None)), (x.rank - 2, Slice(left, left + width, None))])
