"""Rows summed by group, and places: among sorted numbers, of the k largest, in a set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from netferry.converters.keras.layout import KT
from netferry.converters.keras.operations.call import Op, operation
from netferry.converters.keras.operations.functions import argument
from netferry.converters.keras.operations.linear import two
from netferry.converters.keras.operations.reduction import reduced
from netferry.converters.keras.operations.sizes import as_int64
from netferry.schemas.ir import ir

_FLOAT, _INT32, _BOOL = ir.DataType.FLOAT, ir.DataType.INT32, ir.DataType.BOOL


@operation("ops:SegmentSum", "ops:SegmentMax", "ops:SegmentMin", "ops:SegmentProd", "tf.math.unsorted_segment_sum",
           "tf.math.unsorted_segment_max", "tf.math.unsorted_segment_min", "tf.math.unsorted_segment_prod")  # fmt: skip
def segments(op: Op) -> KT:
    """Rows joined by the number of their group: sum, product, largest or smallest; rows below 0 are left out."""
    data, groups = op.plain(op.tensor("data", 0)), op.plain(op.tensor("segment_ids", 1))
    op.leave("sorted")
    if groups.rank != 1 or op.take("num_segments", 2, None) is None:
        raise op.unsupported("groups of more than one axis, or an unknown number of them")
    count = op.integer("num_segments", 2)
    kind = data.dtype.numpy()
    ends = np.finfo(kind) if kind.kind == "f" else np.iinfo(kind)
    way, start = {
        "sum": ("add", 0), "rod": ("mul", 1), "max": ("max", ends.min), "min": ("min", ends.max),
    }[op.l.type[-3:].lower()]  # fmt: skip
    b, value = op.b, data.logical(op.b)
    # one more row takes what belongs to no group
    rows = as_int64(op, groups.logical(b))
    none = b.op("Less", rows, b.const(np.asarray(0, np.int64), "zero"))
    rows = b.op("Where", none, b.const(np.asarray(count, np.int64), "none"), rows)
    shape = b.op("Concat", b.const([count + 1], "rows"), b.op("Shape", value, start=1), axis=0)
    empty = b.op("ConstantOfShape", shape, value=ir.tensor(np.asarray([start], kind)))
    empty.shape = ir.Shape([count + 1, *data.shape[1:]])
    places = b.op("Unsqueeze", rows, b.const([1], "axes"))
    filled = b.op("ScatterND", empty, places, value, reduction=way)
    return KT.of(b.op("Slice", filled, b.const([0], "starts"), b.const([count], "ends"), b.const([0], "axes")))


@operation("ops:InTopK", "tf.math.in_top_k", "tf.nn.in_top_k")
def in_top_k(op: Op) -> KT:
    """Whether fewer than k scores are larger than that of the target."""
    targets, scores = op.plain(op.tensor("targets", 0)), op.floating(op.plain(op.tensor("predictions", 1)))
    k, b = op.integer("k", 2), op.b
    place = b.op("Unsqueeze", as_int64(op, targets.logical(b)), b.const([1], "axes"))
    own = b.op("GatherElements", scores.logical(b), place, axis=1)
    above = b.op("Cast", b.op("Greater", scores.logical(b), own), to=int(_INT32))
    number = b.op("ReduceSum", above, b.const([1], "axes"), keepdims=0)
    return KT.of(b.op("Less", number, b.const(np.asarray(k, np.int32), "k")))


def _counted(op: Op, values: KT, edges: KT, operator: str) -> KT:
    """How many of the ``edges``, a vector, are less (or less or equal) than each value."""
    b = op.b
    wide = b.op("Unsqueeze", values.logical(b), b.const([-1], "axes"))
    below = b.op("Cast", b.op(operator, edges.logical(b), wide), to=int(_INT32))
    return KT.of(b.op("ReduceSum", below, b.const([-1], "axes"), keepdims=0))


@operation("ops:SearchSorted", "tf.searchsorted")
def search_sorted(op: Op) -> KT:
    """Where values would stand in a sorted vector."""
    edges, values = (op.plain(x) for x in two(op, ("sorted_sequence", "values")))
    side = op.take("side", 2, "left")
    op.leave("out_type")
    if edges.rank != 1 or side not in ("left", "right"):
        raise op.unsupported("a sorted tensor of several axes")
    return _counted(op, values, edges, "Less" if side == "left" else "LessOrEqual")


@operation("ops:Digitize")
def digitize(op: Op) -> KT:
    """The number of the bin that each value falls into."""
    x = op.floating(op.plain(op.tensor("x", 0)))
    edges = op.array(op.take("bins", 1), "bins", _FLOAT)
    return _counted(op, x, KT.of(op.b.const(edges, "bins")), "LessOrEqual")


@operation("ops:IsIn")
def is_in(op: Op) -> KT:
    """Whether each element is among those of another tensor."""
    x, others = two(op)
    op.leave("assume_unique")
    b = op.b
    wide = b.op("Unsqueeze", x.logical(b), b.const([-1], "axes"))
    hit = b.op("Cast", b.op("Equal", wide, b.reshape(others.logical(b), [-1])), to=int(_INT32))
    found = op.cast(KT.of(b.op("ReduceMax", hit, b.const([-1], "axes"), keepdims=0)), _BOOL)
    return found.like(b.op("Not", found.value)) if op.flag("invert", None, False) else found


@operation("ops:Quantile", "ops:Percentile")
def quantile(op: Op) -> KT:
    """Values below which given shares of an axis of fixed size lie."""
    x = op.floating(op.plain(op.tensor("x", 0)))
    shares = op.array(op.take("q", 1), "q", _FLOAT).astype(np.float64) / (100 if "Percent" in op.l.type else 1)
    axes, keep = op.axes(x, "axis", 2, None), op.flag("keepdims", 4, False)
    method = str(op.take("method", 3, "linear"))
    if op.l.type == "ops:Quantile" and method in _ROUNDED:
        method = "linear"  # Keras 3.15's node passes the method over
    if len(axes) != 1 or not isinstance(size := x.shape[axes[0]], int) or shares.ndim > 1:
        raise op.unsupported("other than one axis of fixed size and a number or list of shares")
    if method not in _ROUNDED or shares.size == 0 or not ((shares >= 0) & (shares <= 1)).all():
        raise op.bad("q", shares.tolist(), f"shares, method one of {', '.join(_ROUNDED)}")
    b, place = op.b, x.axis(axes[0])
    ordered = b.op("TopK", x.value, b.const([size], "k"), outputs=2, axis=place, largest=0)[0]
    found: list[KT] = []
    for share in shares.reshape(-1):
        low, high, weight = _ROUNDED[method](share * (size - 1))
        parts = [b.op("Gather", ordered, b.const([int(i)], "place"), axis=place) for i in (low, high)]
        if low == high or weight == 0:
            made = parts[0]
        else:
            step = b.op("Mul", b.op("Sub", parts[1], parts[0]), b.const(float(weight), "weight"))
            made = b.op("Add", parts[0], step)
        found.append(x.like(made) if keep else reduced(op, x.like(made), "ReduceMax", axes, False))
    if shares.ndim == 0:
        return found[0]
    rows = [b.op("Unsqueeze", v.logical(b), b.const([0], "axes")) for v in found]
    return KT.of(rows[0] if len(rows) == 1 else b.op("Concat", *rows, axis=0))


def _nearest(at: float) -> tuple[int, int, float]:
    return round(at), round(at), 0.0


_ROUNDED: dict[str, Callable[[float], tuple[int, int, float]]] = {
    "linear": lambda at: (int(np.floor(at)), int(np.ceil(at)), at - np.floor(at)),
    "lower": lambda at: (int(np.floor(at)), int(np.floor(at)), 0.0),
    "higher": lambda at: (int(np.ceil(at)), int(np.ceil(at)), 0.0),
    "midpoint": lambda at: (int(np.floor(at)), int(np.ceil(at)), 0.5),
    "nearest": _nearest,
}
"""places of the neighbours among the sorted values, and the weight of the upper one"""


@operation("ops:Nanargmax", "ops:Nanargmin")
def nan_extreme_place(op: Op) -> KT:
    """Place of the largest or smallest of what is a number along an axis, -1 where nothing is."""
    x = op.floating(op.plain(argument(op)))
    largest = op.l.type.endswith("max")
    axis, keep = op.take("axis", 1, None), op.flag("keepdims", 2, False)
    if axis is None:
        raise op.unsupported("the place in the flattened tensor")
    b, axes = op.b, op.axes_of(x.rank, [int(axis)])
    missing = b.op("IsNaN", x.value)
    value: Any = b.op("Where", missing, b.const(-np.inf if largest else np.inf, "absent"), x.value)
    place = b.op("ArgMax" if largest else "ArgMin", value, axis=x.axis(axes[0]), keepdims=1)
    empty = b.op("ReduceMin", b.op("Cast", missing, to=int(_INT32)), b.const([x.axis(axes[0])], "axes"), keepdims=1)
    place = b.op("Where", b.op("Cast", empty, to=int(_BOOL)), b.const(np.asarray(-1, np.int64), "none"), place)
    made = op.cast(x.like(place), _INT32)
    return made if keep else reduced(op, made, "ReduceMax", axes, False)
