"""Layers that reduce, compare or choose along an axis: Softmax, ArgMax, Reduction, BatchReindex, Filter.

Rules: softmax_layer.cpp, argmax_layer.cpp, reduction_layer.cpp, batch_reindex_layer.cpp and filter_layer.cpp of BVLC
Caffe.
"""

from __future__ import annotations

from netferry.converters.caffe.registry import Layer, NeedsFixedBatch, layer
from netferry.converters.caffe.windows import axis_of
from netferry.errors import MalformedFile
from netferry.schemas.graph import Builder, shape_of
from netferry.schemas.ir import ir

_REDUCTIONS = {"SUM": 1, "ASUM": 2, "SUMSQ": 3, "MEAN": 4}
_OPERATORS = {"SUM": "ReduceSum", "ASUM": "ReduceL1", "SUMSQ": "ReduceSumSquare", "MEAN": "ReduceMean"}


@layer("Softmax")
def softmax(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """exp(x) over its sum along an axis."""
    return b.op("Softmax", x, axis=axis_of(l, x, l.param("softmax_param").int("axis", 1)))


@layer("Reduction")
def reduction(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """Sum, absolute sum, sum of squares or mean over all axes from ``axis`` on, times ``coeff``."""
    p = l.param("reduction_param")
    axis, operation = axis_of(l, x, p.int("axis", 0)), p.enum("operation", _REDUCTIONS, "SUM")
    coeff = p.float("coeff", 1.0)
    y = b.op(_OPERATORS[operation], x, list(range(axis, len(shape_of(x)))), keepdims=0)
    return y if coeff == 1 else b.op("Mul", y, coeff)


@layer("ArgMax")
def arg_max(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """Indices, as floats, of the ``top_k`` largest values; of equal values the last comes first.

    With ``axis`` along that axis, and ``out_max_val`` gives the values instead. Without one over each item as
    N x 1 x k (x 1 …), where ``out_max_val`` adds a row of values: N x 2 x k.
    """
    p = l.param("argmax_param")
    values, k = p.bool("out_max_val", False), p.int("top_k", 1, least=1)
    if not shape_of(x):
        raise MalformedFile("ArgMax needs an axis, the bottom is a scalar", layer=l.name)
    if p.has("axis"):
        axis = axis_of(l, x, p.int("axis"))
        return _largest(b, l, x, axis, k, indices=not values, values=values)[0]
    trailing = max(len(shape_of(x)) - 3, 0)
    if len(shape_of(x)) != 2:
        x = b.op("Flatten", x, axis=1)
    found = [b.op("Unsqueeze", v, [1, *range(3, 3 + trailing)]) for v in _largest(b, l, x, 1, k, True, values)]
    return b.op("Concat", *found, axis=1) if values else found[0]


def _largest(b: Builder, l: Layer, x: ir.Value, axis: int, k: int, indices: bool, values: bool) -> tuple[ir.Value, ...]:
    """The asked-for ones of indices (as floats) and values of the ``k`` largest along ``axis``."""
    size = shape_of(x)[axis]
    if isinstance(size, int) and k > size:
        raise MalformedFile(f"top_k {k} of {size} values", layer=l.name)
    float32 = ir.DataType.FLOAT
    out: list[ir.Value] = []
    if k == 1:
        if indices:
            index = b.op("ArgMax", x, axis=axis, keepdims=1, select_last_index=1)
            out.append(b.op("Cast", index, to=float32))
        if values:
            out.append(b.op("ReduceMax", x, [axis], keepdims=1))
        return tuple(out)
    if not indices:
        return (b.op("TopK", x, b.const([k], "k"), outputs=2, axis=axis)[0],)
    # TopK prefers the first of equal values, Caffe the last: look at the axis from behind
    size = l.fixed(x, axis, "top_k")
    backwards = b.op("Slice", x, b.const([-1], "from"), b.const([-(2**63)], "to"), b.const([axis], "axis"), [-1])
    backwards.shape = ir.Shape(list(shape_of(x)))
    best, place = b.op("TopK", backwards, b.const([k], "k"), outputs=2, axis=axis)
    out.append(b.op("Cast", b.op("Sub", b.const(size - 1, "last"), place), to=float32))
    return (*out, best) if values else tuple(out)


@layer("BatchReindex")
def batch_reindex(b: Builder, l: Layer, x: ir.Value, order: ir.Value) -> ir.Value:
    """Items of the batch in the order that the second bottom gives; some may repeat or be left out."""
    if len(shape_of(order)) != 1 or not shape_of(x):
        raise MalformedFile(f"the order has shape {shape_of(order)}, it should have one axis", layer=l.name)
    return b.op("Gather", x, b.op("Cast", order, to=ir.DataType.INT64), axis=0)


@layer("Filter")
def filter_(b: Builder, l: Layer, *bottoms: ir.Value) -> tuple[ir.Value, ...]:
    """Keeps the items whose entry in the last bottom is not 0; how many come out depends on the data."""
    if not bottoms:
        raise MalformedFile("Filter needs bottoms, the last of them the selector", layer=l.name)
    *values, selector = bottoms
    if not values or len(l.tops) != len(values):
        raise MalformedFile(f"{len(bottoms)} bottoms need {len(bottoms) - 1} tops", layer=l.name)
    chosen = shape_of(selector)
    if not chosen or any(d != 1 for d in chosen[1:]):
        raise MalformedFile(f"the selector has shape {chosen}, it should hold one value per item", layer=l.name)
    for value in values:
        items = shape_of(value)[:1]
        if items != chosen[:1]:
            if items and not (isinstance(items[0], int) and isinstance(chosen[0], int)):
                raise NeedsFixedBatch(f"{chosen[0]} selectors for {items[0]} items", layer=l.name)
            raise MalformedFile(f"{chosen[0]} selectors for a bottom of shape {shape_of(value)}", layer=l.name)
    keep = b.op("Cast", selector if len(chosen) == 1 else b.reshape(selector, [-1]), to=ir.DataType.BOOL)
    return tuple(
        b.op("Compress", v, keep, axis=0, types=[(ir.DataType.FLOAT, (None, *shape_of(v)[1:]))]) for v in values
    )
