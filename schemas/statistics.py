"""What a weight tensor holds: range, mean, spread, zeros, a histogram."""

from __future__ import annotations

from typing import Any

import numpy as np

from netferry.schemas.ir import ir
from netferry.schemas.layers import count
from netferry.schemas.tensors import sample_of

BINS = 40
MOST = 1 << 20
"""of a larger tensor this many values, evenly spread, are looked at"""


def statistics(value: ir.Value) -> dict[str, Any] | None:
    """Return what a weight holds, as plain data; None where it has no values or they are no numbers.

    ``looked_at`` is less than ``count`` for large tensors, of which a sample is taken. ``histogram`` counts finite
    values in :data:`BINS` equal steps from ``min`` to ``max``; ``not_finite`` counts NaN and infinities.
    """
    sample = sample_of(value, MOST)
    if sample is None or sample.dtype.kind in "OUSc":
        return None
    with np.errstate(invalid="ignore"):  # NaNs that signal
        numbers = sample.astype(np.float64)
    finite = numbers[np.isfinite(numbers)]
    out: dict[str, Any] = {
        "count": count(value),
        "looked_at": int(numbers.size),
        "not_finite": int(numbers.size - finite.size),
        "zeros": int((numbers == 0).sum()),
    }
    if finite.size:
        low, high = float(finite.min()), float(finite.max())
        with np.errstate(over="ignore", invalid="ignore"):
            mean, spread = float(finite.mean()), float(finite.std())
        half = high / 2 - low / 2  # halves: the range of doubles may overflow
        place = (finite / 2 - low / 2) / half if half > 0 else np.zeros(finite.size)
        bins = np.bincount(np.minimum((place * BINS).astype(int), BINS - 1), minlength=BINS if half > 0 else 1)
        out |= {"min": low, "max": high, "histogram": bins.tolist()}
        out |= {"mean": mean if np.isfinite(mean) else None, "std": spread if np.isfinite(spread) else None}
    return out
