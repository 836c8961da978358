"""Feature maps to vectors."""

from __future__ import annotations

import numpy as np

from netferry.errors import UsageError, quoted

POOLS = ("avg", "max", "flatten", "none")


def check_pool(pool: str) -> str:
    """Return the name of a pool.

    Raises:
        UsageError: there is no such.
    """
    if pool not in POOLS:
        raise UsageError(f"pool is {', '.join(POOLS)}, not {quoted(pool)}")
    return pool


def pooled(values: np.ndarray, pool: str, *, channels_last: bool = False) -> np.ndarray:
    """Return the features of a batch of values of one layer.

    Args:
        values: (N, C, spatial axes …), or (N, C); with ``channels_last`` (N, spatial axes …, C).
        pool: ``avg`` or ``max`` over all axes but batch and channels, giving (N, C); ``flatten`` gives (N, all);
            ``none`` leaves the shape.
    """
    if pool == "none":
        return values
    if pool == "flatten" or values.ndim < 3:
        return values.reshape(len(values), -1)
    rows = np.moveaxis(values, -1, 1) if channels_last else values
    flat = rows.reshape(*rows.shape[:2], -1)
    if pool == "max":
        return flat.max(2)
    # a mean of halves in halves loses bits; numpy's own sum in float32 is pairwise
    return flat.mean(2, dtype=np.float32 if flat.dtype == np.float16 else None).astype(flat.dtype)
