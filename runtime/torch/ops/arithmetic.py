"""Arithmetic: element by element, with NumPy's broadcasting."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from netferry.runtime.torch.dtypes import convert, unsigned
from netferry.runtime.torch.registry import HostInt, op


@op
@unsigned()
def Add(A: Tensor, B: Tensor) -> Tensor:
    return A + B


@op
@unsigned()
def Sub(A: Tensor, B: Tensor) -> Tensor:
    return A - B


@op
@unsigned()
def Mul(A: Tensor, B: Tensor) -> Tensor:
    return A * B


@op
def Div(A: Tensor, B: Tensor) -> Tensor:
    """Integers are divided towards zero."""
    kind = A.dtype if isinstance(A, Tensor) else B.dtype
    if kind.is_floating_point or kind.is_complex:
        return A / B
    if kind is torch.uint64:
        return _divide_uint64(A.view(torch.int64), B.view(torch.int64)).view(torch.uint64)
    return _divide(A, B)


@unsigned()
def _divide(A: Tensor, B: Tensor) -> Tensor:
    return torch.div(A, B, rounding_mode="trunc")


def _divide_uint64(a: Tensor, b: Tensor) -> Tensor:
    """Divide 64-bit patterns as unsigned numbers: halve, divide, double, correct by one."""
    lowest = -(2**63)
    half = (a >> 1) & (2**63 - 1)
    large = b < 0
    safe = torch.where(large, torch.ones_like(b), b)
    q = torch.div(half, safe, rounding_mode="trunc") << 1
    r = a - q * safe
    q = q + ((r ^ lowest) >= (safe ^ lowest)).to(q.dtype)
    return torch.where(large, ((a ^ lowest) >= (b ^ lowest)).to(q.dtype), q)


@op
def Mod(A: Tensor, B: Tensor, *, fmod: int = 0) -> Tensor:
    """The sign is the divisor's, or with ``fmod`` the dividend's."""
    if A.dtype is torch.uint64:
        a, b = A.view(torch.int64), B.view(torch.int64)
        return (a - _divide_uint64(a, b) * b).view(torch.uint64)
    return _modulo(A, B, fmod)


@unsigned()
def _modulo(A: Tensor, B: Tensor, fmod: int) -> Tensor:
    return torch.fmod(A, B) if fmod else torch.remainder(A, B)


@op
def Pow(X: Tensor, Y: Tensor) -> Tensor:
    """The result has the base's type."""
    if not isinstance(Y, Tensor):
        return torch.pow(X, Y) if X.dtype.is_floating_point else convert(torch.pow(X.double(), Y), X.dtype)
    if X.dtype == Y.dtype and X.dtype not in (torch.uint16, torch.uint32, torch.uint64):
        return torch.pow(X, Y)
    if not X.dtype.is_floating_point and not Y.dtype.is_floating_point:
        return torch.pow(X.to(torch.int64), Y.to(torch.int64)).to(X.dtype)
    wide = torch.promote_types(X.dtype, Y.dtype) if X.dtype.is_floating_point else torch.float64
    return torch.pow(X.to(wide), Y.to(wide)).to(X.dtype)


@op
def Neg(X: Tensor) -> Tensor:
    return -X


@op
@unsigned()
def Abs(X: Tensor) -> Tensor:
    return X.abs()


@op
@unsigned()
def Sign(input: Tensor) -> Tensor:
    return torch.sign(input)


@op
def Reciprocal(X: Tensor) -> Tensor:
    return torch.reciprocal(X)


@op
def Sqrt(X: Tensor) -> Tensor:
    return torch.sqrt(X)


@op
def Exp(input: Tensor) -> Tensor:
    return torch.exp(input)


@op
def Log(input: Tensor) -> Tensor:
    return torch.log(input)


@op
def Floor(X: Tensor) -> Tensor:
    return torch.floor(X)


@op
def Ceil(X: Tensor) -> Tensor:
    return torch.ceil(X)


@op
def Round(X: Tensor) -> Tensor:
    """Halves go to the even neighbour."""
    return torch.round(X)


@op
def Erf(input: Tensor) -> Tensor:
    return torch.erf(input) if input.dtype.is_floating_point else torch.erf(input.double()).to(input.dtype)


@op
def Sum(*data_0: Tensor) -> Tensor:
    return functools.reduce(torch.add, data_0)


@op
def Mean(*data_0: Tensor) -> Tensor:
    return functools.reduce(torch.add, data_0) / len(data_0)


@op
@unsigned(order=True)
def Max(*data_0: Tensor) -> Tensor:
    return functools.reduce(torch.maximum, data_0)


@op
@unsigned(order=True)
def Min(*data_0: Tensor) -> Tensor:
    return functools.reduce(torch.minimum, data_0)


@op
@unsigned(order=True)
def Clip(input: Tensor, min: Tensor | None = None, max: Tensor | None = None) -> Tensor:
    """Where the bounds cross, the upper one holds. At constant bounds no gradient passes, as with torch's ReLU6."""
    if isinstance(min, float) and isinstance(max, float) and min <= max:
        return F.hardtanh(input, min, max)
    if not isinstance(min, Tensor) and not isinstance(max, Tensor):
        return input if min is None and max is None else torch.clamp(input, min, max)
    y = input if min is None else torch.maximum(input, min) if isinstance(min, Tensor) else torch.clamp(input, min)
    if max is None:
        return y
    return torch.minimum(y, max) if isinstance(max, Tensor) else torch.clamp(y, max=max)


def _scan(x: Tensor, axis: int, reverse: int, exclusive: int, product: bool) -> Tensor:
    x = x.flip(axis) if reverse else x
    y = (torch.cumprod(x, axis) if product else torch.cumsum(x, axis)).to(x.dtype)
    if exclusive:
        first = torch.full_like(y.narrow(axis, 0, 1), 1 if product else 0)
        y = torch.cat([first, y.narrow(axis, 0, y.shape[axis] - 1)], axis)
    return y.flip(axis) if reverse else y


@op
@unsigned()
def CumSum(x: Tensor, axis: HostInt, *, exclusive: int = 0, reverse: int = 0) -> Tensor:
    return _scan(x, axis, reverse, exclusive, False)


@op
@unsigned()
def CumProd(x: Tensor, axis: HostInt, *, exclusive: int = 0, reverse: int = 0) -> Tensor:
    return _scan(x, axis, reverse, exclusive, True)


@op
def BitShift(X: Tensor, Y: Tensor, *, direction: str) -> Tensor:
    """Signed numbers keep their sign to the right. Beyond the type's bits only the sign is left, or nothing."""
    bits = X.dtype.itemsize * 8
    if X.dtype is torch.uint64:
        a, b = X.view(torch.int64), Y.view(torch.int64)
    else:
        a, b = X.to(torch.int64), Y.to(torch.int64)
    over = (b < 0) | (b >= bits)
    b = torch.where(over, 0, b)
    if direction == "LEFT":
        y = torch.where(over, 0, a << b)
    elif X.dtype is torch.uint64:
        y = torch.where(b == 0, a, (a >> b) & ((1 << (64 - b).clamp(max=63)) - 1))
        y = torch.where(over, 0, y)
    else:
        y = torch.where(over, torch.where(a < 0, -1, 0), a >> b)
    return y.view(X.dtype) if X.dtype is torch.uint64 else y.to(X.dtype)


@op
@unsigned()
def BitwiseAnd(A: Tensor, B: Tensor) -> Tensor:
    return A & B


@op
@unsigned()
def BitwiseOr(A: Tensor, B: Tensor) -> Tensor:
    return A | B


@op
@unsigned()
def BitwiseXor(A: Tensor, B: Tensor) -> Tensor:
    return A ^ B


@op
@unsigned()
def BitwiseNot(X: Tensor) -> Tensor:
    return ~X
