"""Kernels rounded to half precision so that their sums stay.

Rounded to the nearest, the errors of a kernel's weights add up by chance; the values of the one channel that it is
multiplied with have a mean (rectified ones above all), so their sum shifts the whole map, and that is what reaches the
scores behind a global average. Here some weights, those nearest to half-way between two numbers, go to the other
neighbour until the errors of a kernel sum to next to nothing: the method of the largest remainder. Sums over channels,
whose means differ, are left alone: on trained networks that was worse as often as better. (That rounding to the nearest
is not best for a layer's result: Nagel et al. 2020, Up or Down? Adaptive Rounding for Post-Training Quantization.)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_AT_ONCE = 1 << 20
"""numbers that are worked on at a time"""


def kernels_of(operator: str, shape: Sequence[int]) -> tuple[int, int] | None:
    """Return a convolution's weight as (kernels, taps): a kernel is what an output channel reads of an input channel.

    None for other operators, and where a kernel is one number.
    """
    size, taps = int(np.prod(shape)), int(np.prod(shape[2:]))
    if operator not in ("Conv", "ConvTranspose") or size == 0 or taps == 1:
        return None
    return size // taps, taps


def rounded(array: np.ndarray, kind: np.dtype, kernels: tuple[int, int] | None) -> np.ndarray:
    """Round float32 values to a half type; with ``kernels`` the sum of each one's errors is as small as that allows.

    No value goes further than to its neighbour on the other side, and what the type holds exactly stays.
    """
    if kernels is None:
        with np.errstate(over="ignore"):
            return array.astype(kind)
    rows = np.ascontiguousarray(array).reshape(kernels)
    out = np.empty(kernels, kind)
    step = max(1, _AT_ONCE // kernels[1])
    for start in range(0, len(rows), step):
        out[start : start + step] = _rounded(rows[start : start + step], kind)
    return out.reshape(array.shape)


def _rounded(rows: np.ndarray, kind: np.dtype) -> np.ndarray:
    with np.errstate(over="ignore"):
        near = rows.astype(kind)
    exact = rows.astype(np.float64)
    errors = near.astype(np.float64) - exact
    infinity = np.array(np.inf, kind)
    other = np.where(errors > 0, np.nextafter(near, -infinity), np.nextafter(near, infinity))
    moves = other.astype(np.float64) - near.astype(np.float64)
    total = np.where(np.isfinite(errors), errors, 0).sum(1, keepdims=True)
    # of those that lead the total towards 0, in the order of what they cost per step
    useful = np.isfinite(errors) & np.isfinite(moves) & (errors != 0) & (moves * total < 0)
    with np.errstate(all="ignore"):
        cost = np.where(useful, ((errors + moves) ** 2 - errors**2) / np.abs(moves), np.inf)
    order = np.argsort(cost, axis=1, kind="stable")
    steps = np.take_along_axis(np.where(useful, np.abs(moves), 0.0), order, 1)
    left = np.abs(total) - np.cumsum(steps, 1)
    # a step is taken where it brings the total nearer to 0 than it was before it
    taken = (left + steps > 0) & (np.abs(left) < left + steps) & (steps > 0)
    chosen = np.zeros(rows.shape, bool)
    np.put_along_axis(chosen, order, taken, 1)
    return np.where(chosen, other, near)
