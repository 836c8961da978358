"""Sums, means, extremes and norms over axes, wherever these lie."""

from __future__ import annotations

import numpy as np

from netferry.converters.keras.layout import KT
from netferry.converters.keras.operations.axes import dropped_order, inserted
from netferry.converters.keras.operations.call import Op, operation
from netferry.converters.keras.operations.functions import argument
from netferry.schemas.ir import ir

_FLOAT, _INT32, _INT64, _BOOL = ir.DataType.FLOAT, ir.DataType.INT32, ir.DataType.INT64, ir.DataType.BOOL
_NARROW = frozenset({ir.DataType.UINT8, ir.DataType.INT8, ir.DataType.UINT16, ir.DataType.INT16, _BOOL})


def over(op: Op) -> tuple[KT, list[int], bool]:
    """Tensor, axes and keepdims of a reduction."""
    x = op.plain(op.tensor(next((n for n in ("input_tensor", "x", "input", "a", "tensor") if n in op.l.kwargs), "x")))
    op.leave("reduction_indices", "keep_dims")
    if op.take("where", None, None) is not None:
        raise op.unsupported("where")
    axes = op.axes(x, "axis", 1, None)
    return x, axes, op.flag("keepdims", 2, False)


def reduced(op: Op, x: KT, operator: str, axes: list[int], keep: bool) -> KT:
    """Apply a Reduce operator over Keras's ``axes``."""
    if not axes:
        return x
    places = sorted(x.axis(a) for a in axes)
    made = op.b.op(operator, x.value, op.b.const(places, "axes"), keepdims=int(keep))
    return KT(made, x.order if keep else dropped_order(x.order, axes))


@operation("ops:Sum", "tf.math.reduce_sum", "tf.reduce_sum", "tf.keras.backend.sum")
def total(op: Op) -> KT:
    """Sum."""
    x, axes, keep = over(op)
    kind = op.dtype("dtype", None, None) if op.keras3 else None
    if x.dtype in _NARROW:
        x = op.cast(x, _INT32)
    return reduced(op, x if kind is None else op.cast(x, kind), "ReduceSum", axes, keep)


@operation("ops:Mean", "tf.math.reduce_mean", "tf.reduce_mean", "tf.keras.backend.mean")
def mean(op: Op) -> KT:
    """Mean."""
    x, axes, keep = over(op)
    return reduced(op, op.floating(x) if op.keras3 or x.dtype == _BOOL else x, "ReduceMean", axes, keep)


def _with_initial(op: Op, x: KT, operator: str) -> KT:
    """A number that counts as one more element."""
    start = op.take("initial", None, None)
    if start is None:
        return x
    return x.like(op.b.op(operator, x.value, op.b.const(op.array(start, "initial", x.dtype), "initial")))


@operation("ops:Max", "ops:Amax", "tf.math.reduce_max", "tf.reduce_max")
def largest(op: Op) -> KT:
    """Largest."""
    x, axes, keep = over(op)
    return _with_initial(op, reduced(op, x, "ReduceMax", axes, keep), "Max")


@operation("ops:Min", "ops:Amin", "tf.math.reduce_min", "tf.reduce_min")
def smallest(op: Op) -> KT:
    """Smallest."""
    x, axes, keep = over(op)
    return _with_initial(op, reduced(op, x, "ReduceMin", axes, keep), "Min")


@operation("ops:Prod", "tf.math.reduce_prod", "tf.reduce_prod")
def product(op: Op) -> KT:
    """Product."""
    x, axes, keep = over(op)
    op.leave("dtype")
    return reduced(op, op.cast(x, _INT32) if x.dtype in _NARROW else x, "ReduceProd", axes, keep)


@operation("ops:Ptp")
def spread(op: Op) -> KT:
    """Largest minus smallest."""
    x, axes, keep = over(op)
    high, low = reduced(op, x, "ReduceMax", axes, keep), reduced(op, x, "ReduceMin", axes, keep)
    return high.like(op.b.op("Sub", high.value, low.value))


@operation("ops:Logsumexp", "tf.math.reduce_logsumexp", "tf.reduce_logsumexp")
def log_sum_exp(op: Op) -> KT:
    """Logarithm of the sum of exponentials."""
    x, axes, keep = over(op)
    return reduced(op, op.floating(x), "ReduceLogSumExp", axes, keep)


@operation("ops:All", "ops:Any", "tf.math.reduce_all", "tf.math.reduce_any", "tf.reduce_all", "tf.reduce_any")
def truth(op: Op) -> KT:
    """Whether all, or any, hold."""
    x, axes, keep = over(op)
    x = op.cast(op.cast(x, _BOOL), _INT32)
    operator = "ReduceMin" if op.l.type.lower().endswith("all") else "ReduceMax"
    return op.cast(reduced(op, x, operator, axes, keep), _BOOL)


@operation("ops:CountNonzero", "tf.math.count_nonzero")
def count_nonzero(op: Op) -> KT:
    """How many are not 0."""
    x, axes, keep = over(op)
    kind = (op.dtype("dtype", None, None) if "dtype" in op.l.kwargs else None) or (_INT32 if op.keras3 else _INT64)
    return reduced(op, op.cast(op.cast(x, _BOOL), kind), "ReduceSum", axes, keep)


def variance_of(op: Op, x: KT, axes: list[int], keep: bool) -> tuple[KT, KT]:
    """Mean and variance (of the whole population)."""
    wide = reduced(op, x, "ReduceMean", axes, True)
    centred = x.like(op.b.op("Sub", x.value, wide.value))
    spread = reduced(op, centred.like(op.b.op("Mul", centred.value, centred.value)), "ReduceMean", axes, keep)
    if keep:
        return wide, spread
    places = sorted(x.axis(a) for a in axes)
    return KT(op.b.op("Squeeze", wide.value, op.b.const(places, "axes")), dropped_order(x.order, axes)), spread


@operation("ops:Var", "tf.math.reduce_variance")
def variance(op: Op) -> KT:
    """Mean square distance from the mean."""
    x, axes, keep = over(op)
    return variance_of(op, op.floating(x), axes, keep)[1]


@operation("ops:Std", "tf.math.reduce_std")
def deviation(op: Op) -> KT:
    """Square root of the variance."""
    x, axes, keep = over(op)
    found = variance_of(op, op.floating(x), axes, keep)[1]
    return found.like(op.b.op("Sqrt", found.value))


@operation("ops:Moments", "tf.nn.moments")
def moments(op: Op) -> tuple[KT, KT]:
    """Mean and variance."""
    x = op.floating(op.plain(argument(op)))
    op.leave("shift", "keep_dims", "synchronized")
    return variance_of(op, x, op.axes(x, "axes", 1), op.flag("keepdims", None, op.flag("keep_dims", None, False)))


@operation("ops:Norm", "tf.norm", "tf.linalg.norm")
def norm(op: Op) -> KT:
    """Length of vectors: Euclidean, sum of sizes, largest size, or another order."""
    x, axes, keep = over(op)
    x = op.floating(x)
    order = op.take("ord", 1 if not op.keras3 else None, None)
    given = op.integers("axis", None, None)
    if given is not None and len(given) == 2 and order not in (None, "fro", "euclidean"):
        raise op.unsupported("norms of matrices other than Frobenius")
    if order in (None, "fro", "euclidean", 2, 2.0):
        return reduced(op, x, "ReduceL2", axes, keep)
    if order in (1, 1.0):
        return reduced(op, x, "ReduceL1", axes, keep)
    size = x.like(op.b.op("Abs", x.value))
    if order in (float("inf"), "inf", float("-inf"), "-inf"):
        return reduced(op, size, "ReduceMin" if str(order).startswith("-") else "ReduceMax", axes, keep)
    if not isinstance(order, (int, float)) or order == 0:
        raise op.unsupported(f"order {order}")
    powers = size.like(op.b.op("Pow", size.value, op.b.const(float(order), "order")))
    summed = reduced(op, powers, "ReduceSum", axes, keep)
    return summed.like(op.b.op("Pow", summed.value, op.b.const(1 / float(order), "root")))


@operation("ops:Normalize", "tf.math.l2_normalize", "tf.nn.l2_normalize",
           "tf.linalg.l2_normalize")  # fmt: skip
def normalize(op: Op) -> KT:
    """Length 1 along axes; the square of the length counts as at least epsilon."""
    x = op.floating(op.plain(argument(op)))
    op.leave("dim")
    axes = op.axes(x, "axis", 1, -1 if op.keras3 else None)
    order = op.take("order", 2, 2) if op.keras3 else 2
    given = op.take("epsilon", None if op.keras3 else 2, None)
    epsilon = float(given) if isinstance(given, (int, float)) else (1e-7 if op.keras3 else 1e-12)
    places = op.b.const(sorted(x.axis(a) for a in axes), "axes")
    if order != 2:
        operator = {1: "ReduceL1"}.get(order)
        if operator is None:
            raise op.unsupported(f"order {order}")
        length = op.b.op("Max", op.b.op(operator, x.value, places, keepdims=1), op.b.const(epsilon, "least"))
        return x.like(op.b.op("Div", x.value, length))
    square = op.b.op("ReduceSumSquare", x.value, places, keepdims=1)
    least = op.b.const(epsilon, "least")
    return x.like(op.b.op("Div", x.value, op.b.op("Sqrt", op.b.op("Max", square, least))))


@operation("ops:Argmax", "ops:Argmin", "tf.math.argmax", "tf.math.argmin", "tf.argmax", "tf.argmin")  # fmt: skip
def extreme_place(op: Op) -> KT:
    """Place of the largest or smallest along an axis, the first where several are equal."""
    x = op.plain(argument(op))
    operator = "ArgMax" if "argmax" in op.l.type.lower() else "ArgMin"
    op.leave("dimension", "axis_")
    value = op.take("axis", 1, None)
    keep = op.flag("keepdims", None, False)
    kind = _INT32 if op.keras3 else op.dtype("output_type", None, "int64") or _INT64
    if x.dtype == _BOOL or x.dtype in _NARROW:
        x = op.cast(x, _INT32)
    if value is None and op.keras3:
        if keep:
            raise op.unsupported("the place in the flattened tensor with keepdims")
        found = op.b.op(operator, op.b.reshape(x.logical(op.b), [-1]), axis=0, keepdims=0)
        return op.cast(KT.of(found), kind)
    axis = op.axes_of(x.rank, [0 if value is None else int(value)])[0]
    made = op.b.op(operator, x.value, axis=x.axis(axis), keepdims=int(keep))
    return op.cast(KT(made, x.order if keep else dropped_order(x.order, [axis])), kind)


@operation("ops:Cumsum", "tf.math.cumsum", "tf.cumsum")
def cumulated(op: Op) -> KT:
    """Running sum along an axis."""
    x = op.plain(argument(op))
    axis = op.take("axis", 1, None if op.keras3 else 0)
    if axis is None:
        x, axis = KT.of(op.b.reshape(x.logical(op.b), [-1])), 0
    if x.dtype in _NARROW:
        x = op.cast(x, _INT32)
    place = x.axis(op.axes_of(x.rank, [int(axis)])[0])
    exclusive, backwards = op.flag("exclusive", 2, False), op.flag("reverse", 3, False)
    op.leave("dtype")
    made = op.b.op("CumSum", x.value, op.b.const(np.asarray(place), "axis"), exclusive=int(exclusive) or None,
                   reverse=int(backwards) or None)  # fmt: skip
    return x.like(made)


@operation("ops:TopK", "tf.math.top_k", "tf.nn.top_k")
def top_k(op: Op) -> tuple[KT, KT]:
    """The k largest along the last axis, largest first, and their places."""
    x = op.plain(argument(op))
    op.leave("sorted")
    k = op.integer("k", 1, 1)
    values, places = op.b.op("TopK", x.value, op.b.const([k], "k"), outputs=2, axis=x.axis(-1))
    return x.like(values), op.cast(x.like(places), _INT32)


@operation("ops:Sort", "ops:Argsort", "tf.sort", "tf.argsort")
def sort(op: Op) -> KT:
    """Values, or their places, in order along an axis."""
    x = op.plain(argument(op) if op.keras3 else op.tensor("values"))
    axis = op.take("axis", 1, -1)
    if axis is None:
        x, axis = KT.of(op.b.reshape(x.logical(op.b), [-1])), 0
    place = x.axis(op.axes_of(x.rank, [int(axis)])[0])
    down = str(op.take("direction", 2, "ASCENDING")).upper() == "DESCENDING"
    size = op.b.op("Shape", x.value, start=place, end=place + 1)
    values, places = op.b.op("TopK", x.value, size, outputs=2, axis=place, largest=int(down))
    for made in (values, places):
        made.shape = x.value.shape
    return (
        x.like(values)
        if op.l.type.lower().endswith(".sort") or op.l.type == "ops:Sort"
        else op.cast(x.like(places), _INT32)
    )


@operation("ops:OneHot", "tf.one_hot")
def one_hot(op: Op) -> KT:
    """1 at the place that a number names, 0 elsewhere; numbers out of range name none."""
    x = op.plain(op.tensor("x" if op.keras3 else "indices"))
    depth = op.integer("num_classes" if op.keras3 else "depth", 1)
    axis = op.integer("axis", None if not op.keras3 else 2, -1)
    kind = op.dtype("dtype", None, None) if op.keras3 or "dtype" in op.l.kwargs else None
    on, off = op.take("on_value", None, None), op.take("off_value", None, None)
    return encoded(op, x, depth, axis, kind or _FLOAT, (0 if off is None else off, 1 if on is None else on))


def encoded(op: Op, x: KT, depth: int, axis: int, kind: ir.DataType, ends: tuple[float, float] = (0, 1)) -> KT:
    """One-hot by comparison, so that numbers below 0 name no class (ONNX's OneHot counts them from the end)."""
    rank = x.rank + 1
    place = op.axes_of(rank, [axis])[0]
    shape = [1] * rank
    shape[place] = depth
    x = op.cast(x, _INT32) if x.dtype not in (_INT32, _INT64) else x
    wide = inserted(op, KT.of(x.logical(op.b)), [place])
    classes = op.b.const(np.arange(depth, dtype=x.dtype.numpy()).reshape(shape), "classes")
    hit = KT.of(op.b.op("Equal", wide.value, classes))
    if ends == (0, 1):
        return op.cast(hit, kind)
    off, on = (op.b.const(np.asarray(v).astype(kind.numpy()), "value") for v in ends)
    return KT.of(op.b.op("Where", hit.value, on, off))
