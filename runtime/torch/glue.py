"""Small functions between modules: padding in front of a convolution, outputs of recurrent layers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from netferry.runtime.torch.ops.windows import auto_pads, flat_pads


def pad_sides(x: Tensor, *, pads: list[int]) -> Tensor:
    """Pad with zeros: all starts, then all ends."""
    n = len(pads) // 2
    return F.pad(x, flat_pads(list(zip(pads[:n], pads[n:], strict=True))))


def pad_same(x: Tensor, *, mode: str, kernel: list[int], strides: list[int], dilations: list[int]) -> Tensor:
    """Pad so that the output has the input's size divided by the stride, rounded up."""
    return pad_sides(x, pads=auto_pads(mode, x.shape[2:], kernel, strides, dilations))


def positions(indices: Tensor, *, size: int) -> Tensor:
    """Indices for an embedding: those from the end become those from the start."""
    return torch.where(indices < 0, indices + size, indices)


def recurrent_state(
    h: Tensor | None, c: Tensor | None, *, batch_first: bool, memory: bool
) -> Tensor | tuple[Tensor, Tensor]:
    """The first state as torch's recurrent modules take it: D x B x H; one that is not given is zero."""
    one = h if h is not None else c
    if one is None:
        raise AssertionError("one of the states is given")
    hidden = torch.zeros_like(one) if h is None else h
    if batch_first:
        hidden = hidden.transpose(0, 1).contiguous()
    if not memory:
        return hidden
    cell = torch.zeros_like(one) if c is None else c
    return hidden, cell.transpose(0, 1).contiguous() if batch_first else cell


def recurrent_outputs(
    found: tuple[Tensor, Tensor | tuple[Tensor, Tensor]], *, directions: int, batch_first: bool, backward: bool
) -> tuple[Tensor, ...]:
    """Outputs as ONNX has them: T x D x B x H (or B x T x D x H) and the last states."""
    y, last = found
    states = last if isinstance(last, tuple) else (last,)
    if backward:
        y = y.flip(1 if batch_first else 0)
    y = y.unflatten(-1, (directions, -1))
    if not batch_first:
        y = y.transpose(1, 2)
    return (y, *(s.transpose(0, 1) if batch_first else s for s in states))


def reversed_input(x: Tensor, *, batch_first: bool) -> Tensor:
    """The input from its end, for a layer that runs backwards only."""
    return x.flip(1 if batch_first else 0)
