"""Reductions that pass over what is no number, and a weighted mean."""

from __future__ import annotations

import numpy as np

from netferry.converters.keras.layout import KT
from netferry.converters.keras.operations.broadcast import kind_of
from netferry.converters.keras.operations.call import Op, operation
from netferry.converters.keras.operations.elementwise import paired
from netferry.converters.keras.operations.reduction import over, reduced
from netferry.schemas.ir import ir

_FLOAT = ir.DataType.FLOAT


def _replaced(op: Op, x: KT, value: float) -> KT:
    return x.like(op.b.op("Where", op.b.op("IsNaN", x.value), op.b.const(value, "absent"), x.value))


def _count(op: Op, x: KT, axes: list[int], keep: bool) -> KT:
    there = op.cast(x.like(op.b.op("Not", op.b.op("IsNaN", x.value))), _FLOAT)
    return reduced(op, there, "ReduceSum", axes, keep)


def _mean(op: Op, x: KT, axes: list[int], keep: bool) -> KT:
    total = reduced(op, _replaced(op, x, 0.0), "ReduceSum", axes, keep)
    return total.like(op.b.op("Div", total.value, _count(op, x, axes, keep).value))


@operation("ops:Nansum", "ops:Nanprod", "ops:Nanmax", "ops:Nanmin")
def nan_reduced(op: Op) -> KT:
    """Sum, product, largest or smallest of what is a number."""
    x, axes, keep = over(op)
    op.leave("dtype")
    x = op.floating(x)
    operator, absent = {
        "ops:Nansum": ("ReduceSum", 0.0), "ops:Nanprod": ("ReduceProd", 1.0), "ops:Nanmax": ("ReduceMax", -np.inf),
        "ops:Nanmin": ("ReduceMin", np.inf),
    }[op.l.type]  # fmt: skip
    made = reduced(op, _replaced(op, x, absent), operator, axes, keep)
    if np.isfinite(absent):
        return made
    none = op.b.op("Equal", _count(op, x, axes, keep).value, op.b.const(0.0, "none"))
    return made.like(op.b.op("Where", none, op.b.const(np.nan, "nan"), made.value))


@operation("ops:Nanmean", "ops:Nanvar", "ops:Nanstd")
def nan_moment(op: Op) -> KT:
    """Mean, variance or deviation of what is a number."""
    x, axes, keep = over(op)
    op.leave("ddof", "dtype", "correction")
    x = op.floating(x)
    if op.l.type == "ops:Nanmean":
        return _mean(op, x, axes, keep)
    centred = op.b.op("Sub", x.value, _mean(op, x, axes, True).value)
    spread = _mean(op, x.like(op.b.op("Mul", centred, centred)), axes, keep)
    return spread.like(op.b.op("Sqrt", spread.value)) if op.l.type == "ops:Nanstd" else spread


@operation("ops:Average")
def average(op: Op) -> KT:
    """Mean over one axis, or all, perhaps weighted by a vector along that axis or by weights for each element."""
    x = op.floating(op.plain(op.tensor("x")))
    weights, axis = op.take("weights", 2, None), op.take("axis", 1, None)
    axes = op.axes(x, "axis", 1, None)
    if weights is None:
        return reduced(op, x, "ReduceMean", axes, False)
    given = op.plain(op.floating(op.as_tensor(weights, "weights", _FLOAT)))
    if given.rank == 1 and x.rank > 1 and axis is not None:
        shape = [1] * x.rank
        shape[axes[0]] = -1
        given = KT.of(op.b.reshape(given.logical(op.b), shape))
    kind = kind_of([x, given], op)
    product = paired(op, x, given, lambda b, v, w: b.op("Mul", v, w), kind)
    spread = paired(op, x, given, lambda b, v, w: b.op("Add", b.op("Mul", v, b.const(0.0, "zero")), w), kind)
    total, share = (reduced(op, t, "ReduceSum", axes, False) for t in (product, spread))
    return total.like(op.b.op("Div", total.value, share.value))
