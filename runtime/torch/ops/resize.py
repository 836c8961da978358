"""Resize: one axis at a time, as a weighted sum of gathered neighbours."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from netferry.runtime.torch.registry import HostFloats, HostInts, op


@op
def Resize(
    X: Tensor,
    roi: HostFloats | None = None,
    scales: HostFloats | None = None,
    sizes: HostInts | None = None,
    *,
    antialias: int = 0,
    axes: list[int] | None = None,
    coordinate_transformation_mode: str = "half_pixel",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: str = "stretch",
    mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
) -> Tensor:
    rank = X.dim()
    named = [a % rank for a in axes] if axes is not None else list(range(rank))
    if sizes is not None and len(sizes) > 0:
        pairs = [(size, X.shape[a]) for size, a in zip(sizes, named, strict=True)]
        factors = [1.0 if size == before else size / before for size, before in pairs]  # a symbolic batch stays one
        if keep_aspect_ratio_policy != "stretch":
            one = min(factors) if keep_aspect_ratio_policy == "not_larger" else max(factors)
            factors = [one] * len(named)
            sizes = [math.floor(one * X.shape[a] + 0.5) for a in named]
    elif scales is not None:
        factors = [float(s) for s in scales]
        sizes = [X.shape[a] if s == 1 else int(s * X.shape[a]) for s, a in zip(factors, named, strict=True)]
    else:
        raise ValueError("Resize has neither scales nor sizes")
    if _as_torch(X, named, factors, list(sizes), mode, coordinate_transformation_mode, nearest_mode, antialias):
        return _by_torch(X, [sizes[named.index(i)] for i in range(2, rank)], mode)
    y = X if X.dtype.is_floating_point else X.float()
    for i, axis in enumerate(named):
        box = (roi[i], roi[i + len(named)]) if roi and coordinate_transformation_mode == "tf_crop_and_resize" else None
        if sizes[i] == y.shape[axis] and factors[i] == 1.0 and box in (None, (0.0, 1.0)):
            continue
        at = _coordinates(y, axis, sizes[i], factors[i], coordinate_transformation_mode, box)
        y = _axis(y, axis, at, factors[i], mode, nearest_mode, bool(antialias), bool(exclude_outside), cubic_coeff_a)
        if box is not None:
            outside = (at < 0) | (at > X.shape[axis] - 1)
            outside = outside.reshape([-1 if i == axis else 1 for i in range(rank)])
            y = torch.where(outside, extrapolation_value, y)
    if X.dtype.is_floating_point:
        return y.to(X.dtype)
    limits = torch.iinfo(X.dtype)
    return y.round().clamp(limits.min, limits.max).to(X.dtype)


def _as_torch(
    x: Tensor,
    axes: list[int],
    factors: list[float],
    sizes: list[int],
    mode: str,
    transform: str,
    nearest: str,
    antialias: int,
) -> bool:
    """Whether torch's own interpolation is the same, and fast: pictures, whole factors or plain linear."""
    if x.dim() not in (3, 4, 5) or not x.dtype.is_floating_point or antialias:
        return False
    spatial = {i: (f, s) for i, f, s in zip(axes, factors, sizes, strict=True)}
    if any(spatial.get(i, (1.0, 0))[0] != 1.0 for i in (0, 1)):
        return False
    if any(i not in spatial for i in range(2, x.dim())):
        return False
    exact = all(spatial[i][0] * x.shape[i] == spatial[i][1] for i in range(2, x.dim()))
    if mode == "nearest":
        whole = all(spatial[i][0] == int(spatial[i][0]) for i in range(2, x.dim()))
        return (
            exact
            and whole
            and (
                (transform == "asymmetric" and nearest == "floor")
                or (
                    transform in ("half_pixel", "pytorch_half_pixel")
                    and nearest in ("round_prefer_floor", "round_prefer_ceil")
                )
            )
        )
    return mode == "linear" and exact and transform == "half_pixel"


def _by_torch(x: Tensor, sizes: list[int], mode: str) -> Tensor:
    if mode == "nearest":
        return F.interpolate(x, sizes, mode="nearest")
    return F.interpolate(x, sizes, mode={3: "linear", 4: "bilinear", 5: "trilinear"}[x.dim()], align_corners=False)


def _coordinates(x: Tensor, axis: int, size: int, factor: float, mode: str, box: tuple[float, float] | None) -> Tensor:
    """Where each output element lies in the input, float64."""
    n = x.shape[axis]
    real = factor * n
    i = torch.arange(size, dtype=torch.float64, device=x.device)
    if mode == "align_corners":
        return i * 0 if real == 1 else i * (n - 1) / (real - 1)
    if mode == "asymmetric":
        return i / factor
    if box is not None:
        start, end = box
        if real == 1:
            return i * 0 + start * (n - 1) + (end - start) * (n - 1) / 2
        return i * (end - start) * (n - 1) / (real - 1) + start * (n - 1)
    at = (i + 0.5) / factor - 0.5
    if mode == "pytorch_half_pixel":
        return i * 0 - 0.5 if real == 1 else at
    if mode == "half_pixel_symmetric":
        return at + n / 2 * (1 - size / real)
    if mode != "half_pixel":
        raise ValueError(f"Resize coordinate mode {mode}")
    return at


def _axis(
    x: Tensor,
    axis: int,
    at: Tensor,
    factor: float,
    mode: str,
    nearest: str,
    antialias: bool,
    exclude: bool,
    a: float,
) -> Tensor:
    n = x.shape[axis]
    if mode == "nearest":
        place = {
            "floor": torch.floor(at),
            "ceil": torch.ceil(at),
            "round_prefer_floor": torch.ceil(at - 0.5),
            "round_prefer_ceil": torch.floor(at + 0.5),
        }[nearest]
        return x.index_select(axis, place.to(torch.int64).clamp(0, n - 1))
    shrink = min(factor, 1.0) if antialias else 1.0
    reach = (1 if mode == "linear" else 2) / shrink
    taps = torch.arange(math.floor(-reach) + 1, math.ceil(reach) + 1, device=x.device)
    base = torch.floor(at)
    place = base.unsqueeze(1) + taps
    distance = (place - at.unsqueeze(1)).abs() * shrink
    if mode == "linear":
        weight = (1 - distance).clamp(min=0)
    else:
        near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
        far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
        weight = torch.where(distance <= 1, near, torch.where(distance < 2, far, 0.0))
    if exclude:
        weight = torch.where((place < 0) | (place >= n), 0.0, weight)
    if exclude or antialias:
        weight = weight / weight.sum(1, keepdim=True)
    index = place.to(torch.int64).clamp(0, n - 1)
    gathered = x.index_select(axis, index.reshape(-1)).unflatten(axis, tuple(index.shape))
    shape = [1] * gathered.dim()
    shape[axis], shape[axis + 1] = index.shape
    return (gathered * weight.to(x.dtype).reshape(shape)).sum(axis + 1)


@op
def Upsample(X: Tensor, scales: HostFloats, *, mode: str = "nearest") -> Tensor:
    """Upsample 9 maps an output pixel to its number divided by the scale."""
    return Resize(X, None, scales, mode=mode, coordinate_transformation_mode="asymmetric", nearest_mode="floor")
