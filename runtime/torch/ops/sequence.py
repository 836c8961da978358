"""Sequences (Python lists of tensors) and optional values (None where there is nothing)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from netferry.runtime.torch.registry import HostInt, HostInts, op


@op
def SequenceConstruct(*inputs: Tensor) -> Any:
    return list(inputs)


@op
def SequenceEmpty(*, dtype: int | None = None) -> Any:
    return []


@op
def SequenceAt(input_sequence: Any, position: HostInt) -> Tensor:
    return input_sequence[int(position)]


@op
def SequenceInsert(input_sequence: Any, tensor: Tensor, position: HostInt | None = None) -> Any:
    at = len(input_sequence) if position is None else int(position)
    at = at + len(input_sequence) if at < 0 else at
    return [*input_sequence[:at], tensor, *input_sequence[at:]]


@op
def SequenceErase(input_sequence: Any, position: HostInt | None = None) -> Any:
    at = (-1 if position is None else int(position)) % len(input_sequence)
    return [*input_sequence[:at], *input_sequence[at + 1 :]]


@op
def SequenceLength(input_sequence: Any, *, like: Tensor) -> Tensor:
    return torch.tensor(len(input_sequence), dtype=torch.int64, device=like.device)


@op
def ConcatFromSequence(input_sequence: Any, *, axis: int, new_axis: int = 0) -> Tensor:
    return torch.stack(input_sequence, axis) if new_axis else torch.cat(input_sequence, axis)


@op
def SplitToSequence(input: Tensor, split: HostInts | None = None, *, axis: int = 0, keepdims: int = 1) -> Any:
    """A scalar split is a size, the last part may be smaller; none means single slices."""
    if split is None:
        parts = torch.split(input, 1, axis)
        return [p if keepdims else p.squeeze(axis) for p in parts]
    if len(split) == 1 and split[0] < input.shape[axis]:
        return list(torch.split(input, split[0], axis))
    return list(torch.split(input, split, axis))


@op
def OptionalHasElement(input: Any = None, *, like: Tensor) -> Tensor:
    return torch.tensor(input is not None, device=like.device)


@op
def OptionalGetElement(input: Any) -> Any:
    return input


@op
def Optional(input: Any = None, *, type: Any = None) -> Any:
    return input
