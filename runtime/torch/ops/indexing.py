"""Gathering, scattering, searching, sorting."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from netferry.runtime.torch.dtypes import unsigned
from netferry.runtime.torch.registry import HostFloat, HostInt, op


def _wrapped(indices: Tensor, size: int) -> Tensor:
    """Indices from the end as indices from the start, 64 bits."""
    at = indices.to(torch.int64)
    return torch.where(at < 0, at + size, at)


@op
@unsigned()
def Gather(data: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    if isinstance(indices, int):
        return data.select(axis, indices)
    at = _wrapped(indices, data.shape[axis])
    if at.dim() == 1:
        return data.index_select(axis, at)
    axis = axis % data.dim()
    return data.index_select(axis, at.reshape(-1)).reshape([*data.shape[:axis], *at.shape, *data.shape[axis + 1 :]])


@op
@unsigned()
def GatherElements(data: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    return torch.gather(data, axis, _wrapped(indices, data.shape[axis]))


@op
@unsigned()
def GatherND(data: Tensor, indices: Tensor, *, batch_dims: int = 0) -> Tensor:
    depth = indices.shape[-1]
    at = indices.to(torch.int64)
    batch = data.shape[:batch_dims]
    rows = math.prod(batch)
    inner = list(at.shape[batch_dims:-1])
    places = at.reshape(rows, -1, depth)
    flat = data.reshape(rows, *data.shape[batch_dims:])
    first = torch.arange(rows, device=data.device).unsqueeze(1).expand(rows, places.shape[1])
    found = flat[(first, *places.unbind(-1))]
    return found.reshape([*batch, *inner, *data.shape[batch_dims + depth :]])


_REDUCE = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def _scatter_elements(data: Tensor, at: Tensor, updates: Tensor, reduction: str, axis: int) -> Tensor:
    if reduction == "none":
        return torch.scatter(data, axis, at, updates)
    return torch.scatter_reduce(data, axis, at, updates, _REDUCE[reduction], include_self=True)


@op
@unsigned(order=False)
def ScatterElements(
    data: Tensor, indices: Tensor, updates: Tensor, *, axis: int = 0, reduction: str = "none"
) -> Tensor:
    return _scatter_elements(data, _wrapped(indices, data.shape[axis]), updates, reduction, axis)


@op
@unsigned()
def Scatter(data: Tensor, indices: Tensor, updates: Tensor, *, axis: int = 0) -> Tensor:
    return torch.scatter(data, axis, _wrapped(indices, data.shape[axis]), updates)


@op
@unsigned()
def ScatterND(data: Tensor, indices: Tensor, updates: Tensor, *, reduction: str = "none") -> Tensor:
    """Places are made flat, so that every reduction is one scatter."""
    depth = indices.shape[-1]
    at = indices.to(torch.int64).reshape(-1, depth)
    row = torch.zeros(at.shape[0], dtype=torch.int64, device=data.device)
    for i in range(depth):
        row = row * data.shape[i] + _wrapped(at[:, i], data.shape[i])
    tail = math.prod(data.shape[depth:])
    flat = data.reshape(-1, tail)
    new = updates.reshape(-1, tail)
    return _scatter_elements(flat, row.unsqueeze(1).expand(new.shape), new, reduction, 0).reshape(data.shape)


@op
def TensorScatter(
    past_cache: Tensor, update: Tensor, write_indices: Tensor | None = None, *, axis: int = -2, mode: str = "linear"
) -> Tensor:
    axis = axis % past_cache.dim()
    steps = torch.arange(update.shape[axis], device=update.device).unsqueeze(0)
    if write_indices is None:
        at = steps.expand(past_cache.shape[0], -1)
    else:
        at = write_indices.to(torch.int64).unsqueeze(1) + steps
    if mode == "circular":
        at = torch.remainder(at, past_cache.shape[axis])
    shape = [1] * past_cache.dim()
    shape[0], shape[axis] = at.shape
    return torch.scatter(past_cache, axis, at.reshape(shape).expand(update.shape), update)


@op
def Compress(input: Tensor, condition: Tensor, *, axis: int | None = None) -> Tensor:
    x = input.reshape(-1) if axis is None else input
    place = torch.nonzero(condition).squeeze(1)
    return x.index_select(0 if axis is None else axis, place)


@op
@unsigned()
def NonZero(X: Tensor) -> Tensor:
    return torch.nonzero(X).t()


@op
@unsigned(order=True)
def TopK(X: Tensor, K: HostInt, *, axis: int = -1, largest: int = 1, sorted: int = 1) -> tuple[Tensor, Tensor]:
    """Equal values come in the order of their indices, which torch.topk does not promise."""
    values, indices = torch.sort(X, dim=axis, descending=bool(largest), stable=True)
    return values.narrow(axis, 0, K), indices.narrow(axis, 0, K)


@op
def Unique(
    X: Tensor, *, axis: int | None = None, sorted: int = 1, outputs: int = 1
) -> Tensor | tuple[Tensor, Tensor, Tensor, Tensor]:
    """Index of the first of each; unsorted means in the order of these."""
    x = X.reshape(-1) if axis is None else X
    dim = 0 if axis is None else axis
    values, inverse, counts = torch.unique(x, sorted=True, return_inverse=True, return_counts=True, dim=dim)
    place = torch.arange(inverse.shape[0], device=X.device)
    first = torch.full_like(counts, inverse.shape[0]).scatter_reduce(0, inverse, place, "amin")
    if not sorted:
        order = torch.argsort(first)
        rank = torch.argsort(order)
        values, first, counts, inverse = values.index_select(dim, order), first[order], counts[order], rank[inverse]
    return (values, first, inverse, counts) if outputs > 1 else values


@op
def NonMaxSuppression(
    boxes: Tensor,
    scores: Tensor,
    max_output_boxes_per_class: HostInt | None = None,
    iou_threshold: HostFloat | None = None,
    score_threshold: HostFloat | None = None,
    *,
    center_point_box: int = 0,
) -> Tensor:
    """Greedy, per picture and class; how many boxes stay depends on the data."""
    if center_point_box:
        x, y, w, h = boxes.unbind(-1)
        left, top, right, bottom = x - w / 2, y - h / 2, x + w / 2, y + h / 2
    else:
        a, b, c, d = boxes.unbind(-1)
        top, bottom, left, right = torch.minimum(a, c), torch.maximum(a, c), torch.minimum(b, d), torch.maximum(b, d)
    area = (right - left) * (bottom - top)
    found: list[Tensor] = []
    for n in range(scores.shape[0]):
        wide = torch.minimum(right[n, :, None], right[n]) - torch.maximum(left[n, :, None], left[n])
        high = torch.minimum(bottom[n, :, None], bottom[n]) - torch.maximum(top[n, :, None], top[n])
        both = wide.clamp(min=0) * high.clamp(min=0)
        overlap = both / (area[n, :, None] + area[n] - both)
        for c in range(scores.shape[1]):
            kept = _greedy(
                scores[n, c], overlap, max_output_boxes_per_class or 0, iou_threshold or 0.0, score_threshold
            )
            head = torch.tensor([[n, c]], dtype=torch.int64, device=boxes.device).expand(kept.shape[0], 2)
            found.append(torch.cat([head, kept.unsqueeze(1)], 1))
    if not found:
        return torch.zeros((0, 3), dtype=torch.int64, device=boxes.device)
    return torch.cat(found)


def _greedy(scores: Tensor, overlap: Tensor, most: int, iou: float, least: float | None) -> Tensor:
    order = torch.argsort(scores, descending=True, stable=True)
    alive = torch.ones_like(scores, dtype=torch.bool) if least is None else scores > least
    kept: list[Tensor] = []
    for i in order:
        if len(kept) >= most:
            break
        if bool(alive[i]):
            kept.append(i)
            alive = alive & ~(overlap[i] > iou)
    return torch.stack(kept) if kept else order[:0]
