"""Losses."""

from __future__ import annotations

import torch
from torch import Tensor

from netferry.runtime.torch.dtypes import wide_float
from netferry.runtime.torch.registry import op


def _reduced(log: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int | None, reduction: str) -> Tensor:
    at = target.to(torch.int64)
    there = torch.ones_like(at, dtype=torch.bool) if ignore_index is None else at != ignore_index
    safe = torch.where(there, at, torch.zeros_like(at))
    loss = -log.gather(1, safe.unsqueeze(1)).squeeze(1)
    share = torch.ones_like(loss) if weight is None else weight[safe]
    share = torch.where(there, share, torch.zeros_like(share))
    loss = torch.where(there, loss * share, torch.zeros_like(loss))
    if reduction == "none":
        return loss
    total = loss.sum()
    return total / share.sum() if reduction == "mean" else total


@op
def NegativeLogLikelihoodLoss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> Tensor:
    return _reduced(input, target, weight, ignore_index, reduction).to(input.dtype)


@op
def SoftmaxCrossEntropyLoss(
    scores: Tensor,
    labels: Tensor,
    weights: Tensor | None = None,
    *,
    ignore_index: int | None = None,
    reduction: str = "mean",
    outputs: int = 1,
) -> Tensor | tuple[Tensor, Tensor]:
    log = torch.log_softmax(wide_float(scores), 1)
    loss = _reduced(log, labels, None if weights is None else weights.to(log.dtype), ignore_index, reduction)
    loss = loss.to(scores.dtype)
    return (loss, log.to(scores.dtype)) if outputs > 1 else loss
