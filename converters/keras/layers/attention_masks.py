"""Which positions attention may look at: masks of the inputs, causal and sliding windows, given masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from netferry.converters.keras.layout import KT
from netferry.schemas.graph import Builder
from netferry.schemas.ir import ir

NEVER = -1e9
"""What Keras puts in place of (or adds to) the score of a masked position."""


def both(b: Builder, parts: Sequence[ir.Value | None]) -> ir.Value | None:
    """Positions that all masks allow; None where there is no mask."""
    found: ir.Value | None = None
    for part in parts:
        if part is not None:
            found = part if found is None else b.op("And", found, part)
    return found


def as_bool(b: Builder, value: ir.Value) -> ir.Value:
    """A mask as booleans."""
    return value if value.dtype == ir.DataType.BOOL else b.op("Cast", value, to=int(ir.DataType.BOOL))


def window_mask(b: Builder, query: KT, value: KT, axis: int, *, causal: bool, width: int | None) -> ir.Value | None:
    """Boolean (query steps, value steps): causal looks back only, a width allows steps less than that far away.

    Args:
        axis: the axis of time, in Keras's order.
    """
    if not causal and width is None:
        return None
    rows, columns = query.shape[axis], value.shape[axis]
    if isinstance(rows, int) and isinstance(columns, int):
        r, c = np.arange(rows)[:, None], np.arange(columns)[None, :]
        allowed = np.ones((rows, columns), bool)
        if causal:
            allowed &= r >= c
        if width is not None:
            allowed &= np.abs(r - c) < width
        return b.const(allowed, "window")
    first = b.op("Unsqueeze", _places(b, query, axis), b.const([1], "axes"))
    second = _places(b, value, axis)
    parts: list[ir.Value | None] = []
    if causal:
        parts.append(b.op("GreaterOrEqual", first, second))
    if width is not None:
        parts.append(b.op("Less", b.op("Abs", b.op("Sub", first, second)), b.const(width, "width")))
    return both(b, parts)


def _places(b: Builder, x: KT, axis: int) -> ir.Value:
    """0, 1, 2 … along an axis."""
    place = x.axis(axis)
    size = b.op("Squeeze", b.op("Shape", x.value, start=place, end=place + 1), b.const([0], "axes"))
    return b.op("Range", b.const(0, "start"), size, b.const(1, "delta"))
