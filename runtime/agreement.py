"""Do two runs agree, and where does the first difference arise?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from netferry.errors import CheckFailed
from netferry.runtime.verify import compare

SAME, LAYOUT, SQUEEZED, REORDERED = "same", "transposed", "reshaped", "reordered"
_OWN_ORDER = {"Dense", "Gemm", "MatMul", "InnerProduct", "Embedding", "LSTM", "GRU", "SimpleRNN", "RNN"}
"""layers whose features lie as in the source; others may keep the order that a channels-first Flatten gives"""


@dataclass(frozen=True)
class Tolerance:
    """Floats agree where the largest difference is at most ``atol``, or at most ``rtol`` times the reference's
    largest magnitude; anything else must be equal."""

    atol: float = 1e-6
    rtol: float = 1e-4

    def allows(self, row: Mapping[str, Any]) -> bool:
        """Whether a row of :func:`difference` is within the tolerance."""
        if row["differing"] == 0:
            return True
        return row["float"] and (row["max_abs"] <= self.atol or row["max_rel"] <= self.rtol)


@dataclass(frozen=True)
class Tap:
    """A layer of the candidate with the values that leave it."""

    layer: str
    type: str
    values: list[np.ndarray]
    key: str
    """what the reference calls it"""
    reads: tuple[str, ...] = ()


def layouts(a: np.ndarray, b: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Give ``a`` in every layout that has the shape of ``b``: as it is, channels moved between first and last (Keras
    computes channels-last), batch and time swapped, axes of size 1 left out or added."""
    if a.shape == b.shape:
        yield SAME, a
    turned = []
    if a.ndim >= 3:
        turned = [np.moveaxis(a, 1, -1), np.moveaxis(a, -1, 1), np.swapaxes(a, 0, 1)]
    for array in turned:
        if array.shape == b.shape:
            yield LAYOUT, array
    plain = tuple(d for d in a.shape if d != 1)
    if a.shape != b.shape and plain == tuple(d for d in b.shape if d != 1):
        yield SQUEEZED, a.reshape(b.shape)


def difference(a: np.ndarray, b: np.ndarray, *, any_layout: bool = False) -> dict[str, Any]:
    """Return how far ``a`` is from the reference ``b``: :func:`netferry.runtime.verify.compare`'s row with ``layout``
    and ``float``; where several layouts fit, of the one that is nearest.

    Args:
        any_layout: try the other layouts also where the shapes are equal.

    Raises:
        CheckFailed: no layout fits, or one holds strings and the other numbers.
    """
    best: dict[str, Any] | None = None
    for layout, array in layouts(a, b):
        row = compare({"": array}, {"": b})[""] | {"layout": layout}
        if best is None or row["max_abs"] < best["max_abs"]:
            best = row
        if layout == SAME and not any_layout:
            break
    if best is None:
        raise CheckFailed(f"shapes {list(a.shape)} and {list(b.shape)}")
    return best | {"float": a.dtype.kind in "fcV" or b.dtype.kind in "fcV"}


def first_divergence(
    taps: Sequence[Tap],
    reference: Mapping[str, Sequence[np.ndarray]],
    tolerance: Tolerance,
    *,
    reordered: bool = False,
) -> dict[str, Any]:
    """Return the first layer, in the candidate's order, whose values are not the reference's.

    A layer agrees where each value that leaves it, and that the reference has in some layout, is within the tolerance.

    Args:
        taps: the candidate's layers.
        reference: the reference's values by the taps' keys.
        tolerance: what is allowed.
        reordered: features of a rank-2 value may lie in another order (a channels-first Flatten), but not those of
            layers with weights of their own.

    Returns:
        ``compared`` and ``not_compared`` (numbers of layers), ``layer`` (None where all agree), and for a layer
        ``type``, ``max_abs``, ``max_rel``, ``layout``, ``reads``, and ``last_agreeing``, the layer compared before it.
    """
    compared, before, left_out = 0, None, 0
    for tap in taps:
        row = _nearest(tap.values, reference.get(tap.key, ()))
        if row is not None and not tolerance.allows(row) and reordered and tap.type not in _OWN_ORDER:
            pairs = ([np.sort(v, axis=-1) for v in side if v.ndim == 2] for side in (tap.values, reference[tap.key]))
            again = _nearest(*pairs)
            row = row if again is None else again | {"layout": REORDERED}
        if row is None:
            left_out += 1
            continue
        compared += 1
        if not tolerance.allows(row):
            kept = {k: row[k] for k in ("max_abs", "max_rel", "layout", "differing")}
            found = {"layer": tap.layer, "type": tap.type, **kept, "reads": list(tap.reads), "last_agreeing": before}
            return {"compared": compared, "not_compared": left_out, **found}
        before = tap.layer
    return {"compared": compared, "not_compared": left_out, "layer": None, "last_agreeing": before}


def _nearest(values: Sequence[np.ndarray], wanted: Sequence[np.ndarray]) -> dict[str, Any] | None:
    """The worst over the candidate's values of the nearest that the reference has; None where nothing is comparable."""
    worst: dict[str, Any] | None = None
    for value in values:
        best: dict[str, Any] | None = None
        for other in wanted:
            if (value.dtype.kind in "fcV") != (other.dtype.kind in "fcV"):
                continue  # a mask beside the values
            try:
                row = difference(value, other, any_layout=True)
            except CheckFailed:
                continue
            if best is None or row["max_abs"] < best["max_abs"]:
                best = row
        if best is not None and (worst is None or best["max_abs"] > worst["max_abs"]):
            worst = best
    return worst
