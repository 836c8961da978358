"""Lowering: normalisations written out by their formulas, in few operators."""

from __future__ import annotations

import numpy as np

from netferry.converters.passes.opset_rules import Rewriter, lower
from netferry.schemas.ir import ir


def _stash(b: Rewriter, x: ir.Value) -> ir.DataType:
    """The type that the first stage is computed in: ``stash_type`` (float), double for doubles."""
    kind = ir.DataType(b.attribute("stash_type", 1))
    return ir.DataType.DOUBLE if b.dtype(x) == ir.DataType.DOUBLE else kind


def _mean(b: Rewriter, x: ir.Value, axes: list[int]) -> ir.Value:
    if b.opset >= 18:
        return b.op("ReduceMean", x, np.array(axes, np.int64), keepdims=1)
    return b.op("ReduceMean", x, axes=axes, keepdims=1)


def _scaled(b: Rewriter, x: ir.Value, square_mean: ir.Value) -> tuple[ir.Value, ir.Value]:
    """``x / sqrt(square_mean + epsilon)`` and the divisor."""
    root = b.op("Sqrt", b.op("Add", square_mean, b.like(b.attribute("epsilon", 1e-5), square_mean)))
    return b.op("Div", x, root), root


def _axes(b: Rewriter, x: ir.Value) -> list[int]:
    """The normalised axes, from ``axis`` to the last, counted from the end: that needs no rank for a negative axis."""
    axis = b.attribute("axis", -1)
    first = axis if axis < 0 else axis - b.rank(x)
    return list(range(first, 0))


@lower("LayerNormalization", 17)
def layer_norm(b: Rewriter) -> list[ir.Value]:
    """(x - mean) / sqrt(mean((x - mean)²) + epsilon) * scale + bias."""
    data = b.data()
    x = b.cast(data, _stash(b, data))
    axes = _axes(b, data)
    mean = _mean(b, x, axes)
    off = b.op("Sub", x, mean)
    y, root = _scaled(b, off, _mean(b, b.op("Mul", off, off), axes))
    y = b.op("Mul", b.cast(y, b.dtype(data)), b.data(1))
    bias = b.input_at(2)
    if bias is not None:
        y = b.op("Add", y, bias)
    out = [y]
    if len(b.node.outputs) > 1:
        out.append(mean)
    if len(b.node.outputs) > 2:
        out.append(b.op("Reciprocal", root))
    return out


@lower("RMSNormalization", 23)
def rms_norm(b: Rewriter) -> ir.Value:
    """x / sqrt(mean(x²) + epsilon) * scale."""
    data = b.data()
    x = b.cast(data, _stash(b, data))
    y, _ = _scaled(b, x, _mean(b, b.op("Mul", x, x), _axes(b, data)))
    return b.op("Mul", b.cast(y, b.dtype(data)), b.data(1))


@lower("GroupNormalization", 18, 21)
def group_norm(b: Rewriter) -> ir.Value:
    """Each group's values in one row, normalised, then scale and bias: per channel from 21 on, per group before.

    The form of 18 to 20 is deprecated and never written.
    """
    data, groups = b.data(), b.attribute("num_groups")
    x = b.cast(data, _stash(b, data))
    rows = b.reshape(x, [0, groups, -1])
    off = b.op("Sub", rows, _mean(b, rows, [-1]))
    y, _ = _scaled(b, off, _mean(b, b.op("Mul", off, off), [-1]))
    y = b.cast(y, b.dtype(data))
    if b.opset == 17:
        y = b.op("Add", b.op("Mul", y, b.reshape(b.data(1), [-1, 1])), b.reshape(b.data(2), [-1, 1]))
        return b.op("Reshape", y, b.op("Shape", data))
    channels = [-1, *([1] * (b.rank(data) - 2))]
    y = b.op("Reshape", y, b.op("Shape", data))
    return b.op("Add", b.op("Mul", y, b.reshape(b.data(1), channels)), b.reshape(b.data(2), channels))
