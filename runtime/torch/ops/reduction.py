"""Reductions over axes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from netferry.runtime.torch.dtypes import unsigned
from netferry.runtime.torch.registry import HostInts, op


def _axes(x: Tensor, axes: list[int] | None, noop: int) -> list[int]:
    """The axes to reduce, none twice; empty means all of them, or none where ``noop`` says so."""
    if axes is None or len(axes) == 0:
        return [] if noop else list(range(x.dim()))
    return sorted({axis % x.dim() for axis in axes})


def _sum(x: Tensor, dims: list[int], keepdims: int) -> Tensor:
    return torch.sum(x, dims, keepdim=bool(keepdims), dtype=x.dtype) if dims else x


@op
@unsigned()
def ReduceSum(
    data: Tensor, axes: HostInts | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Tensor:
    return _sum(data, _axes(data, axes, noop_with_empty_axes), keepdims)


@op
@unsigned()
def ReduceMean(
    data: Tensor, axes: HostInts | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Tensor:
    dims = _axes(data, axes, noop_with_empty_axes)
    if not dims:
        return data
    if data.dtype.is_floating_point:
        return torch.mean(data, dims, keepdim=bool(keepdims))
    total = torch.sum(data, dims, keepdim=bool(keepdims))
    return torch.div(total, math.prod(data.shape[d] for d in dims), rounding_mode="trunc").to(data.dtype)


@op
@unsigned()
def ReduceL1(data: Tensor, axes: HostInts | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Tensor:
    return _sum(data.abs(), _axes(data, axes, noop_with_empty_axes), keepdims)


@op
@unsigned()
def ReduceL2(data: Tensor, axes: HostInts | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Tensor:
    x = data if data.dtype.is_floating_point else data.double()
    dims = _axes(data, axes, noop_with_empty_axes)
    if not dims:
        return data.abs()
    return torch.linalg.vector_norm(x, dim=dims, keepdim=bool(keepdims)).to(data.dtype)


@op
@unsigned()
def ReduceSumSquare(
    data: Tensor, axes: HostInts | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Tensor:
    return _sum(data * data, _axes(data, axes, noop_with_empty_axes), keepdims)


@op
def ReduceLogSum(
    data: Tensor, axes: HostInts | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Tensor:
    total = _sum(data, _axes(data, axes, noop_with_empty_axes), keepdims)
    return torch.log(total).to(data.dtype)


@op
def ReduceLogSumExp(
    data: Tensor, axes: HostInts | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Tensor:
    dims = _axes(data, axes, noop_with_empty_axes)
    if not dims:
        return data
    x = data if data.dtype.is_floating_point else data.double()
    return torch.logsumexp(x, dims, keepdim=bool(keepdims)).to(data.dtype)


@op
@unsigned()
def ReduceProd(
    data: Tensor, axes: HostInts | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Tensor:
    y = data
    for axis in reversed(_axes(data, axes, noop_with_empty_axes)):
        y = torch.prod(y, axis, keepdim=bool(keepdims), dtype=data.dtype)
    return y


def _extreme(x: Tensor, dims: list[int], keepdims: int, largest: bool) -> Tensor:
    if not dims:
        return x
    if any(x.shape[d] == 0 for d in dims):
        shape = [(1 if d in dims else n) for d, n in enumerate(x.shape) if keepdims or d not in dims]
        if x.dtype.is_floating_point:
            limit: float = -math.inf if largest else math.inf
        elif x.dtype is torch.bool:
            limit = not largest
        else:
            limit = torch.iinfo(x.dtype).min if largest else torch.iinfo(x.dtype).max
        return x.new_full(shape, limit)
    return (torch.amax if largest else torch.amin)(x, dims, keepdim=bool(keepdims))


@op
@unsigned(order=True)
def ReduceMax(
    data: Tensor, axes: HostInts | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Tensor:
    return _extreme(data, _axes(data, axes, noop_with_empty_axes), keepdims, True)


@op
@unsigned(order=True)
def ReduceMin(
    data: Tensor, axes: HostInts | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Tensor:
    return _extreme(data, _axes(data, axes, noop_with_empty_axes), keepdims, False)


def _arg(x: Tensor, axis: int, keepdims: int, last: int, largest: bool) -> Tensor:
    find = torch.argmax if largest else torch.argmin
    if not last:
        return find(x, axis, keepdim=bool(keepdims))
    return x.shape[axis] - 1 - find(x.flip(axis), axis, keepdim=bool(keepdims))


@op
@unsigned(order=True)
def ArgMax(data: Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Tensor:
    return _arg(data, axis, keepdims, select_last_index, True)


@op
@unsigned(order=True)
def ArgMin(data: Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Tensor:
    return _arg(data, axis, keepdims, select_last_index, False)


@op
def Det(X: Tensor) -> Tensor:
    return torch.linalg.det(X)
