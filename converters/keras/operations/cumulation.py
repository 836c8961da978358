"""Running products and sums over what is a number, areas, distances between rows."""

from __future__ import annotations

import numpy as np

from netferry.converters.keras.layout import KT
from netferry.converters.keras.operations.broadcast import placed
from netferry.converters.keras.operations.call import Op, operation
from netferry.converters.keras.operations.functions import argument
from netferry.converters.keras.operations.linear import two
from netferry.converters.keras.operations.reduction import reduced
from netferry.schemas.graph import Builder
from netferry.schemas.ir import ir

_FLOAT, _INT32 = ir.DataType.FLOAT, ir.DataType.INT32
_NARROW = frozenset({ir.DataType.UINT8, ir.DataType.INT8, ir.DataType.UINT16, ir.DataType.INT16, ir.DataType.BOOL})


@operation("ops:Cumprod", "ops:Nancumprod", "ops:Nancumsum", "tf.math.cumprod")
def cumulated_product(op: Op) -> KT:
    """Running product along an axis; what is no number counts as 1 (as 0 in a sum) where asked for."""
    x = op.plain(argument(op))
    axis = op.take("axis", 1, None if op.keras3 else 0)
    op.leave("dtype")
    if op.flag("exclusive", None, False) or op.flag("reverse", None, False):
        raise op.unsupported("exclusive or reversed products")
    if x.dtype in _NARROW:
        x = op.cast(x, _INT32)
    total = op.l.type.endswith("sum")
    if "Nan" in op.l.type and x.dtype == _FLOAT:
        missing = op.b.op("IsNaN", x.value)
        x = x.like(op.b.op("Where", missing, op.b.const(0.0 if total else 1.0, "absent"), x.value))
    if axis is None:
        x, axis = KT.of(op.b.reshape(x.logical(op.b), [-1])), 0
    place = x.axis(op.axes_of(x.rank, [int(axis)])[0])
    if total:
        return x.like(op.b.op("CumSum", x.value, op.b.const(np.asarray(place), "axis")))
    size = x.value.shape[place] if x.value.shape is not None else None
    make = _doubled if isinstance(size, int) else _crossed
    return x.like(make(op.b, x.value, place, size if isinstance(size, int) else 0))


def _doubled(b: Builder, value: ir.Value, place: int, size: int) -> ir.Value:
    """Products of 2, 4, 8 … neighbours: as many rounds as the size has binary digits."""
    shape = value.shape
    step = 1
    while step < size:
        rank = 0 if shape is None else len(shape)
        pads = [0] * (2 * rank)
        pads[place] = step
        cut = b.op("Slice", value, b.const([0], "starts"), b.const([-step], "ends"), b.const([place], "axes"))
        one = b.const(np.asarray(1, (value.dtype or _FLOAT).numpy()), "one")
        value = b.op("Mul", value, b.op("Pad", cut, b.const(pads, "pads"), one))
        value.shape = shape
        step *= 2
    return value


def _crossed(b: Builder, value: ir.Value, place: int, _: int) -> ir.Value:
    """For an axis of dynamic size: each step's product over a row of all steps, those after it replaced by 1."""
    rank = 0 if value.shape is None else len(value.shape)
    size = b.op("Squeeze", b.op("Shape", value, start=place, end=place + 1), b.const([0], "axes"))
    steps = b.op("Range", b.const(np.asarray(0, np.int64), "first"), size, b.const(np.asarray(1, np.int64), "step"))
    behind = rank - 1 - place
    rows = b.reshape(steps, [-1, 1, *([1] * behind)])
    columns = b.reshape(steps, [-1, *([1] * behind)])
    wide = b.op("Unsqueeze", value, b.const([place], "axes"))
    one = b.const(np.asarray(1, (value.dtype or _FLOAT).numpy()), "one")
    kept = b.op("Where", b.op("LessOrEqual", columns, rows), wide, one)
    made = b.op("ReduceProd", kept, b.const([place + 1], "axes"), keepdims=0)
    made.shape = value.shape
    return made


@operation("ops:Trapezoid")
def trapezoid(op: Op) -> KT:
    """Area below a curve by trapezoids."""
    y = op.floating(op.plain(op.tensor("y", 0)))
    axis = op.axis(y, "axis", 3, -1)
    points, width = op.take("x", 1, None), op.take("dx", 2, 1.0)
    place = y.axis(axis)
    b = op.b
    axes = b.const([place], "axes")
    ends = [(1, 2**31 - 1), (0, -1)]
    sides = [b.op("Slice", y.value, b.const([s], "starts"), b.const([e], "ends"), axes) for s, e in ends]
    heights = b.op("Mul", b.op("Add", *sides), b.const(0.5, "half"))
    if points is not None:
        steps = np.diff(op.array(points, "x", _FLOAT), axis=-1)
        if steps.ndim != 1:
            raise op.unsupported("points of several axes")
        shape = [1] * y.rank
        shape[axis] = -1
        scale = b.const(placed(steps.reshape(shape), y.order), "steps")
    else:
        scale = b.const(op.array(width, "dx", _FLOAT), "dx")
    return reduced(op, y.like(b.op("Mul", heights, scale)), "ReduceSum", [axis], False)


@operation("ops:CDist")
def distances(op: Op) -> KT:
    """Euclidean distance of each row of one tensor to each of another."""
    x, y = (op.floating(t) for t in two(op, ("x", "y")))
    b = op.b
    left = b.op("Unsqueeze", x.logical(b), b.const([-2], "axes"))
    right = b.op("Unsqueeze", y.logical(b), b.const([-3], "axes"))
    apart = b.op("Sub", left, right)
    return KT.of(b.op("Sqrt", b.op("ReduceSumSquare", apart, b.const([-1], "axes"), keepdims=0)))
