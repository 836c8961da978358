"""How far two weights are apart."""

from __future__ import annotations

from typing import Any

import numpy as np

from netferry.schemas.ir import ir
from netferry.schemas.layers import static_shape
from netferry.schemas.tensors import array_of, filler_of

_BLOCK = 1 << 22
"""elements that are compared at a time"""


def hash_of(array: np.ndarray) -> str:
    """A short digest of an array's bytes."""
    import hashlib

    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:12]


def apart(a: ir.Value, b: ir.Value) -> dict[str, Any] | None:
    """How far two weights are apart; None where they are equal in type, shape and every bit.

    ``max_abs`` is the largest difference, ``max_rel`` that over the largest magnitude in ``a``, ``rms_rel`` the root of
    the mean squared difference over that of ``a``; ``differing`` how many elements are not equal. NaN equals NaN;
    differences that are infinite are None.
    """
    shape, other_shape = static_shape(a), static_shape(b)
    kind, other_kind = a.const_value.dtype, b.const_value.dtype  # pyright: ignore[reportOptionalMemberAccess]
    out: dict[str, Any] = {"shape": list(shape)}
    if shape != other_shape:
        return out | {"shape": [list(shape), list(other_shape)]}
    if kind != other_kind:
        out["dtype"] = [kind.name, other_kind.name]
    if filler_of(a.const_value) is not None or filler_of(b.const_value) is not None:
        same = filler_of(a.const_value) == filler_of(b.const_value)
        return None if same and "dtype" not in out else out | {"values": "one of them has none"}
    x, y = array_of(a), array_of(b)
    if x is None or y is None:
        return out
    if x.dtype.kind in "OUS" or y.dtype.kind in "OUS":
        differing = int((x != y).sum())
        return None if not differing and "dtype" not in out else out | {"differing": differing}
    found = _distance(x.reshape(-1), y.reshape(-1))
    return None if not found["differing"] and "dtype" not in out else out | found


def _distance(x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    differing, worst, largest, error, energy = 0, 0.0, 0.0, 0.0, 0.0
    wide = np.complex128 if "c" in (x.dtype.kind, y.dtype.kind) else np.float64
    for start in range(0, x.size, _BLOCK):
        with np.errstate(invalid="ignore"):  # NaNs that signal
            p, q = (side[start : start + _BLOCK].astype(wide) for side in (x, y))
        same = (p == q) | (np.isnan(p) & np.isnan(q))
        with np.errstate(invalid="ignore", over="ignore"):
            gap = np.where(same, 0.0, np.abs(p - q))
            gap[np.isnan(gap)] = np.inf
            error += float((gap**2).sum())
            finite = np.abs(p[np.isfinite(p)])
            energy += float((finite**2).sum())
        differing += int((~same).sum())
        worst = max(worst, float(gap.max(initial=0.0)))
        largest = max(largest, float(finite.max(initial=0.0)))
    relative = 0.0 if not worst else worst / largest if largest else float("inf")
    rms = 0.0 if not error else float(np.sqrt(error / energy)) if energy else float("inf")
    found = {"max_abs": worst, "max_rel": relative, "rms_rel": rms}
    return {k: v if np.isfinite(v) else None for k, v in found.items()} | {"differing": differing}
