"""Comparisons and logic."""

from __future__ import annotations

import torch
from torch import Tensor

from netferry.runtime.torch.dtypes import unsigned
from netferry.runtime.torch.registry import op


@op
def And(A: Tensor, B: Tensor) -> Tensor:
    return A & B


@op
def Or(A: Tensor, B: Tensor) -> Tensor:
    return A | B


@op
def Xor(A: Tensor, B: Tensor) -> Tensor:
    return A ^ B


@op
def Not(X: Tensor) -> Tensor:
    return ~X


@op
@unsigned()
def Equal(A: Tensor, B: Tensor) -> Tensor:
    return torch.eq(A, B)


@op
@unsigned(order=True)
def Greater(A: Tensor, B: Tensor) -> Tensor:
    return torch.gt(A, B)


@op
@unsigned(order=True)
def GreaterOrEqual(A: Tensor, B: Tensor) -> Tensor:
    return torch.ge(A, B)


@op
@unsigned(order=True)
def Less(A: Tensor, B: Tensor) -> Tensor:
    return torch.lt(A, B)


@op
@unsigned(order=True)
def LessOrEqual(A: Tensor, B: Tensor) -> Tensor:
    return torch.le(A, B)


@op
def Where(condition: Tensor, X: Tensor, Y: Tensor) -> Tensor:
    return torch.where(condition, X, Y)


@op
def IsNaN(X: Tensor) -> Tensor:
    return torch.isnan(X)


@op
def IsInf(X: Tensor, *, detect_negative: int = 1, detect_positive: int = 1) -> Tensor:
    if detect_negative and detect_positive:
        return torch.isinf(X)
    if detect_negative:
        return torch.isneginf(X)
    return torch.isposinf(X) if detect_positive else torch.zeros_like(X, dtype=torch.bool)
