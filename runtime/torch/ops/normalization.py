"""Normalizations and dropout."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from netferry.runtime.torch.dtypes import torch_dtype, wide_float
from netferry.runtime.torch.registry import op


def _channels(v: Tensor, rank: int) -> Tensor:
    return v.reshape(1, -1, *[1] * (rank - 2))


@op
def BatchNormalization(
    X: Tensor,
    scale: Tensor,
    B: Tensor,
    input_mean: Tensor,
    input_var: Tensor,
    *,
    epsilon: float = 9.999999747378752e-06,
    momentum: float = 0.8999999761581421,
    training_mode: int = 0,
    outputs: int = 1,
) -> Tensor | tuple[Tensor, ...]:
    """``momentum`` is the share of the old statistics; the batch's variance is that of the population."""
    if not training_mode:
        mean, var = _channels(input_mean, X.dim()), _channels(input_var, X.dim())
    else:
        dims = [i for i in range(X.dim()) if i != 1]
        var, mean = torch.var_mean(X, dims, correction=0, keepdim=True)
    y = (X - mean) * (torch.rsqrt(var + epsilon) * _channels(scale, X.dim())) + _channels(B, X.dim())
    y = y.to(X.dtype)
    if outputs == 1:
        return y
    new_mean = input_mean * momentum + mean.reshape(-1) * (1 - momentum)
    return y, new_mean, input_var * momentum + var.reshape(-1) * (1 - momentum)


@op
def InstanceNormalization(input: Tensor, scale: Tensor, B: Tensor, *, epsilon: float = 9.999999747378752e-06) -> Tensor:
    dims = list(range(2, input.dim()))
    var, mean = torch.var_mean(input, dims, correction=0, keepdim=True)
    y = (input - mean) * torch.rsqrt(var + epsilon)
    return (y * _channels(scale, input.dim()) + _channels(B, input.dim())).to(input.dtype)


@op
def LayerNormalization(
    X: Tensor,
    Scale: Tensor,
    B: Tensor | None = None,
    *,
    axis: int = -1,
    epsilon: float = 9.999999747378752e-06,
    stash_type: int = 1,
    outputs: int = 1,
) -> Tensor | tuple[Tensor, Tensor, Tensor]:
    dims = list(range(axis % X.dim(), X.dim()))
    x = X.to(torch_dtype(stash_type))
    var, mean = torch.var_mean(x, dims, correction=0, keepdim=True)
    inverse = torch.rsqrt(var + epsilon)
    y = ((x - mean) * inverse).to(X.dtype) * Scale
    y = y if B is None else y + B
    return (y, mean, inverse) if outputs > 1 else y


@op
def RMSNormalization(
    X: Tensor, scale: Tensor, *, axis: int = -1, epsilon: float = 9.999999747378752e-06, stash_type: int = 1
) -> Tensor:
    dims = list(range(axis % X.dim(), X.dim()))
    x = X.to(torch_dtype(stash_type))
    y = x * torch.rsqrt(x.square().mean(dims, keepdim=True) + epsilon)
    return y.to(X.dtype) * scale


@op
def GroupNormalization(
    X: Tensor,
    scale: Tensor,
    bias: Tensor,
    *,
    epsilon: float = 9.999999747378752e-06,
    num_groups: int,
    stash_type: int = 1,
) -> Tensor:
    return F.group_norm(X, num_groups, scale, bias, epsilon)


@op
def MeanVarianceNormalization(X: Tensor, *, axes: list[int] | None = [0, 2, 3]) -> Tensor:  # noqa: B006
    var, mean = torch.var_mean(X, axes, correction=0, keepdim=True)
    return (X - mean) / (torch.sqrt(var) + 1e-9)


@op
def LpNormalization(input: Tensor, *, axis: int = -1, p: int = 2) -> Tensor:
    """A vector of zeros stays one."""
    norm = torch.linalg.vector_norm(input, p, axis, keepdim=True)
    return torch.where(norm == 0, torch.zeros_like(input), input / norm)


@op
def LRN(X: Tensor, *, alpha: float = 9.999999747378752e-05, beta: float = 0.75, bias: float = 1.0, size: int) -> Tensor:
    """Across channels; of an even size the larger half lies behind."""
    x = wide_float(X)
    before = (size - 1) // 2
    square = F.pad(x.square().movedim(1, -1), (before, size - 1 - before))
    total = square.unfold(-1, size, 1).sum(-1).movedim(-1, 1)
    return (x / (bias + alpha / size * total) ** beta).to(X.dtype)


@op
def Dropout(
    data: Tensor,
    ratio: Tensor | None = None,
    training_mode: Tensor | None = None,
    *,
    seed: int | None = None,
    outputs: int = 1,
) -> Tensor | tuple[Tensor, Tensor]:
    """Nothing without ``training_mode``. What torch draws is not what another runtime draws for the same seed."""
    whole = torch.ones((), dtype=torch.bool, device=data.device)
    if training_mode is None or training_mode is False:
        return (data, whole.expand(data.shape)) if outputs > 1 else data
    share = 0.5 if ratio is None else ratio
    generator = None if seed is None else torch.Generator(data.device).manual_seed(seed)
    mask = torch.rand(data.shape, device=data.device, generator=generator) >= share
    dropped = torch.where(mask, data / (1 - share), torch.zeros_like(data)).to(data.dtype)
    if isinstance(training_mode, Tensor):
        mask = mask | ~training_mode
        dropped = torch.where(training_mode, dropped, data)
    return (dropped, mask) if outputs > 1 else dropped
