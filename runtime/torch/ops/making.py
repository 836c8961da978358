"""Tensors out of nothing: constants, ranges, windows, random numbers."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from netferry.runtime.torch.dtypes import torch_dtype
from netferry.runtime.torch.registry import HostFloat, HostInt, HostInts, op


@op
def ConstantOfShape(input: HostInts, *, value: Tensor | None = None, like: Tensor) -> Tensor:
    if value is None:
        return torch.zeros(input, dtype=torch.float32, device=like.device)
    return value.reshape(()).expand(input).clone()


@op
def Range(start: Tensor, limit: Tensor, delta: Tensor, *, stash_type: int = 1, like: Tensor) -> Tensor:
    """Bounds are Python numbers or tensors; the number of elements has to be known to go on."""
    given: list[Any] = [start, limit, delta]
    kind = next((x.dtype for x in given if isinstance(x, Tensor)), None)
    if kind is None:
        kind = torch.float32 if any(isinstance(x, float) for x in given) else torch.int64
    a, b, step = (x.item() if isinstance(x, Tensor) else x for x in given)
    if isinstance(a, float) or isinstance(step, float):
        steps: Any = torch.arange(max(math.ceil((b - a) / step), 0), device=like.device)
        wide = torch.float64 if kind is torch.float64 else torch.float32
        return (steps.to(wide) * step + a).to(kind)
    return torch.arange(a, b, step, dtype=kind, device=like.device)


@op
def EyeLike(input: Tensor, *, dtype: int | None = None, k: int = 0) -> Tensor:
    rows, columns = input.shape
    kind = input.dtype if dtype is None else torch_dtype(dtype)
    down = torch.arange(rows, device=input.device).unsqueeze(1)
    across = torch.arange(columns, device=input.device).unsqueeze(0)
    return (across - down == k).to(kind)


@op
def OneHot(indices: Tensor, depth: HostInt, values: Tensor, *, axis: int = -1) -> Tensor:
    """Indices from -depth to depth - 1; others give no hot place."""
    axis = axis + indices.dim() + 1 if axis < 0 else axis
    places = torch.arange(int(depth), device=indices.device)
    places = places.reshape([-1 if i == axis else 1 for i in range(indices.dim() + 1)])
    at = indices.to(torch.int64).unsqueeze(axis)
    at = torch.where(at < 0, at + int(depth), at)
    return torch.where(at == places, values[1], values[0])


@op
def RandomNormal(
    *, shape: list[int], dtype: int = 1, mean: float = 0.0, scale: float = 1.0, seed: float | None = None, like: Tensor
) -> Tensor:
    return (
        torch.randn(shape, dtype=torch_dtype(dtype), device=like.device, generator=_seeded(seed, like)) * scale + mean
    )


@op
def RandomNormalLike(
    input: Tensor, *, dtype: int | None = None, mean: float = 0.0, scale: float = 1.0, seed: float | None = None
) -> Tensor:
    kind = input.dtype if dtype is None else torch_dtype(dtype)
    drawn = torch.randn(input.shape, dtype=kind, device=input.device, generator=_seeded(seed, input))
    return drawn * scale + mean


@op
def RandomUniform(
    *, shape: list[int], dtype: int = 1, high: float = 1.0, low: float = 0.0, seed: float | None = None, like: Tensor
) -> Tensor:
    drawn = torch.rand(shape, dtype=torch_dtype(dtype), device=like.device, generator=_seeded(seed, like))
    return drawn * (high - low) + low


@op
def RandomUniformLike(
    input: Tensor, *, dtype: int | None = None, high: float = 1.0, low: float = 0.0, seed: float | None = None
) -> Tensor:
    kind = input.dtype if dtype is None else torch_dtype(dtype)
    return torch.rand(input.shape, dtype=kind, device=input.device, generator=_seeded(seed, input)) * (high - low) + low


@op
def Bernoulli(input: Tensor, *, dtype: int | None = None, seed: float | None = None) -> Tensor:
    kind = input.dtype if dtype is None else torch_dtype(dtype)
    drawn = torch.rand(input.shape, dtype=torch.float32, device=input.device, generator=_seeded(seed, input))
    return (drawn < input).to(kind)


@op
def Multinomial(input: Tensor, *, dtype: int = 6, sample_size: int = 1, seed: float | None = None) -> Tensor:
    drawn = torch.multinomial(input.softmax(-1), sample_size, replacement=True, generator=_seeded(seed, input))
    return drawn.to(torch_dtype(dtype))


def _seeded(seed: float | None, like: Tensor) -> torch.Generator | None:
    if seed is None:
        return None
    return torch.Generator(like.device).manual_seed(hash(seed) & 0x7FFFFFFF)


def _window(size: int, periodic: int, kind: int, terms: tuple[float, float, float], like: Tensor) -> Tensor:
    n = torch.arange(int(size), dtype=torch.float32, device=like.device)
    angle = n * (2 * math.pi / (size if periodic else size - 1))
    a, b, c = terms
    return (a - b * torch.cos(angle) + c * torch.cos(2 * angle)).to(torch_dtype(kind))


@op
def HannWindow(size: HostInt, *, output_datatype: int = 1, periodic: int = 1, like: Tensor) -> Tensor:
    return _window(size, periodic, output_datatype, (0.5, 0.5, 0.0), like)


@op
def HammingWindow(size: HostInt, *, output_datatype: int = 1, periodic: int = 1, like: Tensor) -> Tensor:
    return _window(size, periodic, output_datatype, (25 / 46, 21 / 46, 0.0), like)


@op
def BlackmanWindow(size: HostInt, *, output_datatype: int = 1, periodic: int = 1, like: Tensor) -> Tensor:
    return _window(size, periodic, output_datatype, (0.42, 0.5, 0.08), like)


@op
def MelWeightMatrix(
    num_mel_bins: HostInt,
    dft_length: HostInt,
    sample_rate: HostInt,
    lower_edge_hertz: HostFloat,
    upper_edge_hertz: HostFloat,
    *,
    output_datatype: int = 1,
    like: Tensor,
) -> Tensor:
    """Triangles between mel points that are rounded down to whole spectrum lines."""
    lines = dft_length // 2 + 1
    low, high = (2595 * math.log10(1 + hz / 700) for hz in (lower_edge_hertz, upper_edge_hertz))
    step = (high - low) / (num_mel_bins + 2)
    edges = [
        int((dft_length + 1) * (700 * (10 ** ((low + i * step) / 2595) - 1)) // sample_rate)
        for i in range(num_mel_bins + 2)
    ]
    rows = [[0.0] * num_mel_bins for _ in range(lines)]
    for i in range(num_mel_bins):
        left, middle, right = edges[i : i + 3]
        if middle == left:
            rows[middle][i] = 1.0
        else:
            for j in range(left, middle + 1):
                rows[j][i] = (j - left) / (middle - left)
        if right > middle:
            for j in range(middle, right):
                rows[j][i] = (right - j) / (right - middle)
    return torch.tensor(rows, dtype=torch_dtype(output_datatype), device=like.device)
