"""Shapes: reshaping, joining, cutting, padding."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from netferry.runtime.torch.dtypes import convert, torch_dtype, unsigned
from netferry.runtime.torch.registry import HostInt, HostInts, op


@op
def Identity(input: Tensor) -> Tensor:
    return input


@op
def Cast(input: Tensor, *, to: int, round_mode: str = "up", saturate: int = 1) -> Tensor:
    """``saturate`` and ``round_mode`` concern 8-bit floats only."""
    return convert(input, torch_dtype(to))


@op
def CastLike(input: Tensor, target_type: Tensor, *, round_mode: str = "up", saturate: int = 1) -> Tensor:
    return convert(input, target_type.dtype)


@op
def BitCast(input: Tensor, *, to: int) -> Tensor:
    """bool has one byte, 0 or 1."""
    kind = torch_dtype(to)
    return input.view(kind)


@op
def Shape(data: Tensor, *, start: int = 0, end: int | None = None, like: Tensor) -> Tensor:
    return torch.tensor(list(data.shape[start:end]), dtype=torch.int64, device=like.device)


@op
def Size(data: Tensor, *, like: Tensor) -> Tensor:
    return torch.tensor(data.numel(), dtype=torch.int64, device=like.device)


@op
def Reshape(data: Tensor, shape: HostInts, *, allowzero: int = 0) -> Tensor:
    """0 copies the input's dimension, unless ``allowzero``; -1 is what is left."""
    if not allowzero and 0 in shape:
        shape = [data.shape[i] if n == 0 else n for i, n in enumerate(shape)]
    return data.reshape(shape)


@op
def Flatten(input: Tensor, *, axis: int = 1) -> Tensor:
    if axis == 1 and input.dim() > 1:
        return torch.flatten(input, 1)
    axis = axis + input.dim() if axis < 0 else axis
    rows = 1
    for n in input.shape[:axis]:
        rows = rows * n
    columns = 1
    for n in input.shape[axis:]:
        columns = columns * n
    return input.reshape(rows, columns)


@op
def Squeeze(data: Tensor, axes: HostInts | None = None) -> Tensor:
    return data.squeeze() if axes is None else data.squeeze(tuple(axes))


@op
def Unsqueeze(data: Tensor, axes: HostInts) -> Tensor:
    """Axes count in the result."""
    rank = data.dim() + len(axes)
    for axis in sorted(a % rank for a in axes):
        data = data.unsqueeze(axis)
    return data


@op
def Transpose(data: Tensor, *, perm: list[int] | None = None) -> Tensor:
    return data.permute(tuple(reversed(range(data.dim()))) if perm is None else perm)


@op
def Expand(input: Tensor, shape: HostInts) -> Tensor:
    """Both ways: a 1 in the shape keeps the input's dimension."""
    lead = len(shape) - input.dim()
    sizes = [n if i < lead or n != 1 else input.shape[i - lead] for i, n in enumerate(shape)]
    return input.expand([*input.shape[: max(-lead, 0)], *sizes] if lead >= 0 else _right(input, shape))


def _right(x: Tensor, shape: list[int]) -> list[int]:
    lead = x.dim() - len(shape)
    return [n if i < lead or shape[i - lead] == 1 else shape[i - lead] for i, n in enumerate(x.shape)]


@op
def Tile(input: Tensor, repeats: HostInts) -> Tensor:
    return input.repeat(*repeats)


@op
def Concat(*inputs: Tensor, axis: int) -> Tensor:
    return torch.cat(inputs, axis)


@op
def Split(
    input: Tensor, split: HostInts | None = None, *, axis: int = 0, num_outputs: int | None = None, outputs: int = 1
) -> list[Tensor]:
    """Equal parts round up; the last one is what is left."""
    if split is None:
        parts, whole = num_outputs or outputs, input.shape[axis]
        size = -(-whole // parts)
        split = [size] * (parts - 1) + [whole - size * (parts - 1)]
    return list(torch.split(input, split, axis))


@op
def Slice(
    data: Tensor, starts: HostInts, ends: HostInts, axes: HostInts | None = None, steps: HostInts | None = None
) -> Tensor:
    """Python's rules, negative steps included; bounds beyond the ends are cut to them."""
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        axis = axis + data.dim() if axis < 0 else axis  # noqa: PLW2901
        cut = [slice(None)] * axis
        if step > 0:
            data = data[(*cut, slice(start, end, step))]
            continue
        n = data.shape[axis]
        first = min(max(start + n if start < 0 else start, -1), n - 1)
        last = max(end + n if end < 0 else end, -1)
        if first <= last:
            data = data[(*cut, slice(0, 0))]
            continue
        data = data[(*cut, slice(last + 1, first + 1))].flip(axis)[(*cut, slice(None, None, -step))]
    return data


_MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


@op
def Pad(
    data: Tensor,
    pads: HostInts,
    constant_value: Tensor | None = None,
    axes: HostInts | None = None,
    *,
    mode: str = "constant",
) -> Tensor:
    """Pads are all starts, then all ends; a negative one cuts."""
    rank = data.dim()
    named = list(range(rank)) if axes is None else [a % rank for a in axes]
    before, after = [0] * rank, [0] * rank
    for i, axis in enumerate(named):
        before[axis], after[axis] = pads[i], pads[i + len(named)]
    if mode == "constant":
        flat = [n for axis in reversed(range(rank)) for n in (before[axis], after[axis])]
        return pad_constant(data, flat, 0 if constant_value is None else constant_value)
    for axis in range(rank):
        data = _pad_axis(data, axis, before[axis], after[axis], mode)
    return data


@unsigned()
def pad_constant(x: Tensor, pads: list[int], value: Tensor | float) -> Tensor:
    """Pad with a number, last axis first as torch has it; the number may be a tensor, which is not read."""
    if not isinstance(value, Tensor):
        return F.pad(x, pads, value=value)
    y = F.pad(x, pads)
    inside = F.pad(x.new_ones((1,) * x.dim(), dtype=torch.bool).expand(x.shape), pads)
    return torch.where(inside, y, value.reshape(()))


def _pad_axis(x: Tensor, axis: int, before: int, after: int, mode: str) -> Tensor:
    if not (before or after):
        return x
    n = x.shape[axis]
    place = torch.arange(-before, n + after, device=x.device)
    if mode == "edge":
        place = place.clamp(0, n - 1)
    elif mode == "wrap":
        place = torch.remainder(place, n)
    elif mode == "reflect":
        period = max(2 * (n - 1), 1)
        place = torch.remainder(place, period)
        place = torch.minimum(place, period - place)
    else:
        raise ValueError(f"Pad mode {mode}")
    return x.index_select(axis, place)


@op
def CenterCropPad(input_data: Tensor, shape: HostInts, *, axes: list[int] | None = None) -> Tensor:
    """Where the difference is odd, the smaller half is at the start."""
    for axis, size in zip(range(input_data.dim()) if axes is None else axes, shape, strict=True):
        n = input_data.shape[axis]
        if size < n:
            input_data = input_data.narrow(axis, (n - size) // 2, size)
        elif size > n:
            before = (size - n) // 2
            pads = [0, 0] * (input_data.dim() - 1 - axis % input_data.dim()) + [before, size - n - before]
            input_data = F.pad(input_data, pads)
    return input_data


@op
def DepthToSpace(input: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    n, c, h, w = input.shape
    b = blocksize
    if mode == "DCR":
        x = input.reshape(n, b, b, c // (b * b), h, w).permute(0, 3, 4, 1, 5, 2)
    else:
        x = input.reshape(n, c // (b * b), b, b, h, w).permute(0, 1, 4, 2, 5, 3)
    return x.reshape(n, c // (b * b), h * b, w * b)


@op
def SpaceToDepth(input: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    n, c, h, w = input.shape
    b = blocksize
    x = input.reshape(n, c, h // b, b, w // b, b)
    order = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)
    return x.permute(order).reshape(n, c * b * b, h // b, w // b)


@op
@unsigned()
def Trilu(input: Tensor, k: HostInt | None = None, *, upper: int = 1) -> Tensor:
    return torch.triu(input, k or 0) if upper else torch.tril(input, k or 0)


@op
@unsigned()
def ReverseSequence(input: Tensor, sequence_lens: Tensor, *, batch_axis: int = 1, time_axis: int = 0) -> Tensor:
    x = input.movedim((time_axis, batch_axis), (0, 1))
    steps = torch.arange(x.shape[0], device=x.device).unsqueeze(1)
    lengths = sequence_lens.unsqueeze(0)
    place = torch.where(steps < lengths, lengths - 1 - steps, steps)
    rows = torch.arange(x.shape[1], device=x.device).unsqueeze(0)
    return x[place, rows].movedim((0, 1), (time_axis, batch_axis))
