"""Trigonometric and hyperbolic functions."""

from __future__ import annotations

import torch
from torch import Tensor

from netferry.runtime.torch.registry import op


@op
def Sin(input: Tensor) -> Tensor:
    return torch.sin(input)


@op
def Cos(input: Tensor) -> Tensor:
    return torch.cos(input)


@op
def Tan(input: Tensor) -> Tensor:
    return torch.tan(input)


@op
def Asin(input: Tensor) -> Tensor:
    return torch.asin(input)


@op
def Acos(input: Tensor) -> Tensor:
    return torch.acos(input)


@op
def Atan(input: Tensor) -> Tensor:
    return torch.atan(input)


@op
def Sinh(input: Tensor) -> Tensor:
    return torch.sinh(input)


@op
def Cosh(input: Tensor) -> Tensor:
    return torch.cosh(input)


@op
def Asinh(input: Tensor) -> Tensor:
    return torch.asinh(input)


@op
def Acosh(input: Tensor) -> Tensor:
    return torch.acosh(input)


@op
def Atanh(input: Tensor) -> Tensor:
    return torch.atanh(input)
