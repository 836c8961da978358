"""Activation functions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from netferry.runtime.torch.registry import op


@op
def Relu(X: Tensor) -> Tensor:
    return torch.relu(X)


@op
def LeakyRelu(X: Tensor, *, alpha: float = 0.009999999776482582) -> Tensor:
    return F.leaky_relu(X, alpha)


@op
def PRelu(X: Tensor, slope: Tensor) -> Tensor:
    """The slope is broadcast to X; not the other way round."""
    return torch.where(X < 0, X * slope, X)


@op
def ThresholdedRelu(X: Tensor, *, alpha: float = 1.0) -> Tensor:
    return torch.where(alpha < X, X, torch.zeros_like(X))


@op
def Elu(X: Tensor, *, alpha: float = 1.0) -> Tensor:
    return F.elu(X, alpha)


@op
def Celu(X: Tensor, *, alpha: float = 1.0) -> Tensor:
    return F.celu(X, alpha)


@op
def Selu(X: Tensor, *, alpha: float = 1.6732631921768188, gamma: float = 1.0507010221481323) -> Tensor:
    return gamma * F.elu(X, alpha)


@op
def Sigmoid(X: Tensor) -> Tensor:
    return torch.sigmoid(X)


@op
def HardSigmoid(X: Tensor, *, alpha: float = 0.20000000298023224, beta: float = 0.5) -> Tensor:
    return torch.clamp(X * alpha + beta, 0, 1)


@op
def HardSwish(X: Tensor) -> Tensor:
    return F.hardswish(X)


@op
def Swish(X: Tensor, *, alpha: float = 1.0) -> Tensor:
    return F.silu(X) if alpha == 1.0 else X * torch.sigmoid(alpha * X)


@op
def SwiGLU(A: Tensor, B: Tensor, *, alpha: float = 1.0) -> Tensor:
    return Swish(A, alpha=alpha) * B


@op
def Tanh(input: Tensor) -> Tensor:
    return torch.tanh(input)


@op
def Softplus(X: Tensor) -> Tensor:
    """log(1 + exp(x)) without torch's switch to x above a threshold."""
    return torch.logaddexp(X, torch.zeros_like(X))


@op
def Softsign(input: Tensor) -> Tensor:
    return F.softsign(input)


@op
def Mish(X: Tensor) -> Tensor:
    return F.mish(X)


@op
def Gelu(X: Tensor, *, approximate: str = "none") -> Tensor:
    return F.gelu(X, approximate=approximate)


@op
def Shrink(input: Tensor, *, bias: float = 0.0, lambd: float = 0.5) -> Tensor:
    zero = torch.zeros_like(input)
    shifted = torch.where(input > lambd, input - bias, zero)
    return torch.where(input < -lambd, input + bias, shifted).to(input.dtype)


@op
def Softmax(input: Tensor, *, axis: int = -1) -> Tensor:
    return torch.softmax(input, axis)


@op
def LogSoftmax(input: Tensor, *, axis: int = -1) -> Tensor:
    return torch.log_softmax(input, axis)


@op
def Hardmax(input: Tensor, *, axis: int = -1) -> Tensor:
    """1 at the first of the largest, 0 elsewhere."""
    first = torch.argmax(input, axis, keepdim=True)
    return torch.zeros_like(input).scatter(axis, first, 1)
