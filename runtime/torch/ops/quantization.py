"""Quantized operators, by exact arithmetic on whole numbers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from netferry.runtime.torch.dtypes import torch_dtype
from netferry.runtime.torch.ops.convolution import Conv
from netferry.runtime.torch.ops.windows import auto_pads, flat_pads
from netferry.runtime.torch.registry import op


def _along(v: Tensor, x: Tensor, axis: int, block_size: int) -> Tensor:
    """A scale or zero point per tensor, per slice of an axis, or per block of it, as wide as ``x``."""
    if block_size:
        return v.repeat_interleave(block_size, axis).narrow(axis, 0, x.shape[axis])
    if v.numel() == 1 and v.dim() <= 1:
        return v.reshape(())
    return v.reshape([-1 if i == axis % x.dim() else 1 for i in range(x.dim())])


def _quantize(x: Tensor, scale: Tensor, zero: Tensor | None, kind: torch.dtype) -> Tensor:
    q = torch.round(x / scale).to(torch.float64)
    if zero is not None:
        q = q + zero.to(torch.float64)
    limits = torch.iinfo(kind)
    return q.clamp(limits.min, limits.max).to(torch.int64).to(kind)


@op
def QuantizeLinear(
    x: Tensor,
    y_scale: Tensor,
    y_zero_point: Tensor | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
    precision: int = 0,
    saturate: int = 1,
) -> Tensor:
    """Halves go to the even neighbour; no gradient passes."""
    kind = y_zero_point.dtype if y_zero_point is not None else torch_dtype(output_dtype or 2)
    scale = _along(y_scale, x, axis, block_size)
    zero = None if y_zero_point is None else _along(y_zero_point, x, axis, block_size)
    wide = torch_dtype(precision) if precision else torch.float32 if not x.dtype.is_floating_point else x.dtype
    return _quantize(x.to(wide), scale.to(wide), zero, kind)


@op
def DequantizeLinear(
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
) -> Tensor:
    scale = _along(x_scale, x, axis, block_size)
    kind = torch_dtype(output_dtype) if output_dtype else x_scale.dtype
    whole = x if x.is_floating_point() else x.to(torch.int64)  # of 8 bits once, if a float
    if x_zero_point is not None:
        whole = whole - _along(x_zero_point, x, axis, block_size).to(whole.dtype)
    return (whole.to(torch.float32) * scale.to(torch.float32)).to(kind)


@op
def DynamicQuantizeLinear(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    low, high = x.amin().clamp(max=0), x.amax().clamp(min=0)
    scale = (high - low) / 255
    zero = torch.round(torch.clamp(-low / scale, 0, 255)).to(torch.uint8)
    return _quantize(x, scale, zero, torch.uint8), scale, zero


def _centred(x: Tensor, zero: Tensor | None, axis: int) -> Tensor:
    """Whole numbers minus their zero point, as float64: products and sums stay exact below 2**53."""
    y = x.to(torch.float64)
    if zero is None:
        return y
    z = zero.to(torch.float64)
    if z.dim() == 1 and z.numel() > 1:
        z = z.reshape([-1 if i == axis % x.dim() else 1 for i in range(x.dim())])
    return y - (z if z.dim() > 1 else z.reshape(-1) if z.numel() > 1 else z.reshape(()))


@op
def MatMulInteger(
    A: Tensor, B: Tensor, a_zero_point: Tensor | None = None, b_zero_point: Tensor | None = None
) -> Tensor:
    return torch.matmul(_centred(A, a_zero_point, -2), _centred(B, b_zero_point, -1)).to(torch.int32)


@op
def QLinearMatMul(
    a: Tensor,
    a_scale: Tensor,
    a_zero_point: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero_point: Tensor,
    y_scale: Tensor,
    y_zero_point: Tensor,
) -> Tensor:
    whole = torch.matmul(_centred(a, a_zero_point, -2), _centred(b, b_zero_point, -1))
    left = a_scale.double()
    left = left.unsqueeze(-1) if left.dim() == 1 and left.numel() > 1 else left
    out = y_scale.double()
    out = out.unsqueeze(-1) if out.dim() == 1 and out.numel() > 1 else out
    zero = y_zero_point
    zero = zero.unsqueeze(-1) if zero.dim() == 1 and zero.numel() > 1 else zero
    return _quantize((whole * left * b_scale.double()).float(), out.float(), zero, y_zero_point.dtype)


def _pad_zero(
    x: Tensor, w: Tensor, auto_pad: str, dilations: list[int] | None, pads: list[int] | None, strides: list[int] | None
) -> Tensor:
    """Pad centred numbers with 0, which is the zero point."""
    n = w.dim() - 2
    if auto_pad not in ("NOTSET", ""):
        pads = auto_pads(auto_pad, x.shape[2:], w.shape[2:], strides or [1] * n, dilations or [1] * n)
    return x if pads is None else F.pad(x, flat_pads(list(zip(pads[:n], pads[n:], strict=True))))


@op
def ConvInteger(
    x: Tensor,
    w: Tensor,
    x_zero_point: Tensor | None = None,
    w_zero_point: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: list[int] | None = None,
    group: int = 1,
    kernel_shape: list[int] | None = None,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Tensor:
    kernel = _centred(w, w_zero_point, 0)
    padded = _pad_zero(_centred(x, x_zero_point, 1), w, auto_pad, dilations, pads, strides)
    return Conv(padded, kernel, dilations=dilations, group=group, strides=strides).round().to(torch.int32)


@op
def QLinearConv(
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor,
    w: Tensor,
    w_scale: Tensor,
    w_zero_point: Tensor,
    y_scale: Tensor,
    y_zero_point: Tensor,
    B: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: list[int] | None = None,
    group: int = 1,
    kernel_shape: list[int] | None = None,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Tensor:
    kernel = _centred(w, w_zero_point, 0)
    padded = _pad_zero(_centred(x, x_zero_point, 1), w, auto_pad, dilations, pads, strides)
    bias = None if B is None else B.to(torch.float64)
    whole = Conv(padded, kernel, bias, dilations=dilations, group=group, strides=strides).round()
    scale = w_scale.double().reshape(-1, *[1] * (x.dim() - 2)) * x_scale.double()
    return _quantize((whole * scale).float(), y_scale, y_zero_point, y_zero_point.dtype)
