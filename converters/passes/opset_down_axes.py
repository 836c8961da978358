"""Lowering: axes, sizes and shapes that were attributes or could not be said at all."""

from __future__ import annotations

import numpy as np

from netferry.converters.passes.opset_rules import Cannot, Rewriter, lower
from netferry.schemas.ir import ir
from netferry.schemas.tensors import array_tensor

END = np.iinfo(np.int64).max
_PLAIN_REDUCTIONS = frozenset(["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd"])


@lower("Split", 18)
def split_sizes(b: Rewriter) -> None:
    """``num_outputs`` chunks of ceil(n / num_outputs), the last one smaller; before 18 the sizes are an input."""
    count = b.attribute("num_outputs")
    b.set(num_outputs=None)
    if count is None or b.input_at(1) is not None:
        return
    x, axis = b.data(), b.attribute("axis", 0)
    size = b.dims(x)[axis] if x.shape is not None else None
    if isinstance(size, int):
        if size % count:
            chunk = -(-size // count)
            b.feed(1, [chunk] * (count - 1) + [size - chunk * (count - 1)], "split")
        return  # equal parts are the default
    n = b.op("Slice", b.op("Shape", x), [axis], [axis + 1 or END], [0])
    chunk = b.op("Div", b.op("Add", n, [count - 1]), [count])
    last = b.op("Sub", n, b.op("Mul", chunk, [count - 1]))
    b.feed(1, b.op("Concat", *([chunk] * (count - 1)), last, axis=0))


@lower("Split", 13)
def split_attribute(b: Rewriter) -> None:
    """The sizes are an attribute before 13."""
    sizes = b.ints(1, "the list of sizes")
    if sizes is not None:
        b.cut(1)
        b.set(split=sizes)


@lower("Squeeze Unsqueeze", 13)
def squeeze(b: Rewriter) -> ir.Value | None:
    """The axes are an attribute before 13; an empty list changes nothing."""
    axes = b.ints(1, "the list of axes")
    if axes is None:
        return None
    if not axes:
        return b.op("Identity", b.data())
    b.cut(1)
    b.set(axes=axes)
    return None


@lower("ReduceSum", 13)
@lower("ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSumSquare", 18)
def reduce_axes(b: Rewriter) -> ir.Value | None:
    """The axes are an attribute before 18 (ReduceSum: 13)."""
    axes = b.ints(1, "the list of axes")
    noop = b.attribute("noop_with_empty_axes", 0)
    b.set(noop_with_empty_axes=None)
    if noop and not axes:
        if b.node.op_type not in _PLAIN_REDUCTIONS:
            raise Cannot("noop_with_empty_axes=1 is not there before")
        return b.op("Identity", b.data())
    b.cut(1)
    if axes:
        b.set(axes=axes)
    return None


@lower("Shape", 15)
def shape_part(b: Rewriter) -> ir.Value | None:
    """Part of a shape: the whole, cut by Slice, which clamps and counts from the end alike."""
    start, end = b.attribute("start", 0), b.attribute("end")
    if start == 0 and end is None:
        b.set(start=None)
        return None
    return b.op("Slice", b.op("Shape", b.data()), [start], [END if end is None else end], [0])


@lower("Reshape", 14)
def reshape_zero(b: Rewriter) -> None:
    """Without ``allowzero`` a 0 in the shape copies the input's dimension."""
    if b.attribute("allowzero", 0):
        shape = b.ints(1, "with allowzero=1 a shape that")
        for i, dim in enumerate(shape or []):
            dims = b.dims(b.data())
            if dim == 0 and (i >= len(dims) or dims[i] != 0):
                raise Cannot("allowzero=1 with a 0 in the shape is not there before")
    b.set(allowzero=None)


@lower("Pad", 19)
def pad_wrap(b: Rewriter) -> ir.Value | None:
    """``wrap``: the far end of each axis is put in front of it, the near end behind."""
    if b.attribute("mode", "constant") != "wrap":
        return None
    x = b.data()
    pads = b.ints(1, "the list of pads") or []
    rank = b.rank(x)
    axes = b.ints(3, "the list of axes")
    axes = list(range(rank)) if axes is None else [a % rank for a in axes]
    for i, axis in enumerate(axes):
        before, after = pads[i], pads[i + len(axes)]
        if before == after == 0:
            continue
        size = b.size(b.data(), axis)
        if min(before, after) < 0 or max(before, after) > size:
            raise Cannot("mode='wrap' with pads below 0 or above the size is not there before")
        parts = [b.op("Slice", x, [size - before], [size], [axis])] if before else []
        parts.append(x)
        if after:
            parts.append(b.op("Slice", x, [0], [after], [axis]))
        x = b.op("Concat", *parts, axis=axis)
    return x


@lower("Pad", 18)
def pad_axes(b: Rewriter) -> None:
    """Pads of some axes: before 18 every axis has its pair."""
    axes = b.ints(3, "the list of axes")
    if axes is None:
        b.cut(3)
        return
    rank = b.rank(b.data())
    places = [a % rank for a in axes]
    places += [rank + a for a in places]
    value = b.node.inputs[1]
    pads = b.op("ScatterElements", np.zeros(2 * rank, np.int64), places, value, axis=0)
    fixed = b.ints(1, "") if value is not None and value.const_value is not None else None
    if fixed is not None:
        full = [0] * (2 * rank)
        for place, pad in zip(places, fixed, strict=True):
            full[place] = pad
        node = pads.producer()
        if node is not None and node.graph is not None:
            node.graph.remove(node, safe=True)
            b.made.remove(node)
        b.feed(1, full, "pads")
    else:
        b.feed(1, pads)
    b.cut(3)


@lower("Trilu", 14)
def trilu(b: Rewriter) -> ir.Value:
    """A triangle: kept where column - row is at least (upper) or at most (lower) k."""
    x, k = b.data(), b.input_at(1)
    shape = b.op("Shape", x)
    zero, one = b.const(0), b.const(1)
    rows = b.op("Range", zero, b.op("Squeeze", b.op("Slice", shape, [-2], [-1], [0]), [0]), one)
    columns = b.op("Range", zero, b.op("Squeeze", b.op("Slice", shape, [-1], [END], [0]), [0]), one)
    line = b.op("Unsqueeze", rows, [1])
    if k is not None:
        line = b.op("Add", line, b.op("Reshape", k, [1]))
    out = b.op("Less" if b.attribute("upper", 1) else "Greater", b.op("Unsqueeze", columns, [0]), line)
    return b.op("Where", out, b.like(0, x), x)


@lower("ArgMax ArgMin", 12)
def last_index(b: Rewriter) -> ir.Value | None:
    """The last of equal extremes is the first of the reversed axis."""
    if not b.attribute("select_last_index", 0):
        return None
    x, axis = b.data(), b.attribute("axis", 0)
    turned = b.op("Slice", x, [-1], [-END], [axis], [-1])
    found = b.op(b.node.op_type, turned, axis=axis, keepdims=b.attribute("keepdims", 1))
    size = b.op("Slice", b.op("Shape", x), [axis], [axis + 1 or END], [0])
    size = b.op("Reshape", size, np.zeros(0, np.int64))
    return b.op("Sub", b.op("Sub", size, b.const(1)), found)


@lower("Constant", 12)
def constant_value(b: Rewriter) -> None:
    """Plain numbers and strings are a tensor before 12."""
    for name in ("value_float", "value_floats", "value_int", "value_ints", "value_string", "value_strings"):
        value = b.attribute(name)
        if value is not None:
            b.set(**{name: None})
            if "string" in name:
                b.set(value=array_tensor(np.array(value, dtype=object)))
            else:
                b.set(value=ir.Tensor(np.array(value, np.float32 if "float" in name else np.int64)))
