"""Convolutions in one to three dimensions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from netferry.runtime.torch.ops.windows import auto_pads, flat_pads
from netferry.runtime.torch.registry import HostInts, op

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


@op
def Conv(
    X: Tensor,
    W: Tensor,
    B: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: list[int] | None = None,
    group: int = 1,
    kernel_shape: list[int] | None = None,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Tensor:
    n = W.dim() - 2
    strides, dilations = strides or [1] * n, dilations or [1] * n
    if auto_pad not in ("NOTSET", ""):
        pads = auto_pads(auto_pad, X.shape[2:], W.shape[2:], strides, dilations)
    pads = pads or [0] * (2 * n)
    if pads[:n] == pads[n:]:
        return _CONV[n](X, W, B, strides, pads[:n], dilations, group)
    X = F.pad(X, flat_pads(list(zip(pads[:n], pads[n:], strict=True))))
    return _CONV[n](X, W, B, strides, 0, dilations, group)


@op
def ConvTranspose(
    X: Tensor,
    W: Tensor,
    B: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: list[int] | None = None,
    group: int = 1,
    kernel_shape: list[int] | None = None,
    output_padding: list[int] | None = None,
    output_shape: list[int] | None = None,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Tensor:
    """The whole result, cut and padded as asked: torch knows only equal pads on both sides."""
    n = W.dim() - 2
    strides, dilations, extra = strides or [1] * n, dilations or [1] * n, output_padding or [0] * n
    pads = pads or [0] * (2 * n)
    edges = []
    for i in range(n):
        whole = strides[i] * (X.shape[i + 2] - 1) + extra[i] + (W.shape[i + 2] - 1) * dilations[i] + 1
        start, end = pads[i], pads[i + n]
        if output_shape is not None or auto_pad in ("SAME_UPPER", "SAME_LOWER"):
            total = whole - (output_shape[i - n] if output_shape is not None else X.shape[i + 2] * strides[i])
            small = total // 2 if total > 0 else 0
            start, end = (small, total - small) if auto_pad == "SAME_UPPER" else (max(total, 0) - small, small)
            end = total - start
        elif auto_pad == "VALID":
            start = end = 0
        edges.append((-start, extra[i] - end))
    y = _TRANSPOSED[n](X, W, None, strides, 0, 0, group, dilations)
    if any(a or b for a, b in edges):
        y = F.pad(y, flat_pads(edges))
    return y if B is None else y + B.reshape(1, -1, *[1] * n)


@op
def CausalConvWithState(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    past_state: Tensor | None = None,
    *,
    activation: str = "none",
) -> tuple[Tensor, Tensor]:
    k = weight.shape[2]
    past = input.new_zeros((*input.shape[:2], k - 1)) if past_state is None else past_state
    padded = torch.cat([past, input], 2)
    y = F.conv1d(padded, weight, bias, groups=input.shape[1])
    state = padded.narrow(2, padded.shape[2] - (k - 1), k - 1)
    return (F.silu(y) if activation in ("silu", "swish") else y), state


@op
def DeformConv(
    X: Tensor,
    W: Tensor,
    offset: Tensor,
    B: Tensor | None = None,
    mask: Tensor | None = None,
    *,
    dilations: list[int] | None = None,
    group: int = 1,
    kernel_shape: list[int] | None = None,
    offset_group: int = 1,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Tensor:
    """Two dimensions. Each tap reads between pixels, bilinear, zeros outside; then a matrix product."""
    strides, dilations, pads = strides or [1, 1], dilations or [1, 1], pads or [0, 0, 0, 0]
    n, c, h, w = X.shape
    kh, kw = W.shape[2:]
    oh, ow = offset.shape[2:]
    kind, device = X.dtype, X.device
    shift = offset.reshape(n, offset_group, kh * kw, 2, oh, ow)

    def base(out: int, k: int, stride: int, dilation: int, pad: int) -> Tensor:
        taps = torch.arange(k, device=device, dtype=kind) * dilation - pad
        return taps[:, None] + torch.arange(out, device=device, dtype=kind) * stride

    rows = base(oh, kh, strides[0], dilations[0], pads[0])[:, None, :, None].expand(kh, kw, oh, ow)
    columns = base(ow, kw, strides[1], dilations[1], pads[1])[None, :, None, :].expand(kh, kw, oh, ow)
    y = rows.reshape(kh * kw, oh, ow) + shift[:, :, :, 0]
    x = columns.reshape(kh * kw, oh, ow) + shift[:, :, :, 1]
    picture = X.reshape(n, offset_group, c // offset_group, h * w)
    taps = _between(picture, y.flatten(2), x.flatten(2), h, w)
    taps = taps.reshape(n, offset_group, c // offset_group, kh * kw, oh, ow)
    if mask is not None:
        taps = taps * mask.reshape(n, offset_group, 1, kh * kw, oh, ow)
    taps = taps.reshape(n, group, (c // group) * kh * kw, oh * ow)
    kernel = W.reshape(group, W.shape[0] // group, -1)
    out = torch.einsum("gok,ngkp->ngop", kernel, taps).reshape(n, W.shape[0], oh, ow)
    return out if B is None else out + B.reshape(1, -1, 1, 1)


def _between(picture: Tensor, y: Tensor, x: Tensor, h: int, w: int) -> Tensor:
    """Values between pixels, bilinear, zeros outside: N x G x C x (H*W) at N x G x P points."""
    top, left = torch.floor(y), torch.floor(x)
    total = torch.zeros((), dtype=picture.dtype, device=picture.device)
    for row, share_y in ((top, top + 1 - y), (top + 1, y - top)):
        for column, share_x in ((left, left + 1 - x), (left + 1, x - left)):
            inside = (row >= 0) & (row < h) & (column >= 0) & (column < w)
            at = (row.clamp(0, h - 1) * w + column.clamp(0, w - 1)).to(torch.int64)
            found = picture.gather(3, at.unsqueeze(2).expand(-1, -1, picture.shape[2], -1))
            total = total + found * (share_y * share_x * inside).unsqueeze(2)
    return total


@op
def Col2Im(
    input: Tensor,
    image_shape: HostInts,
    block_shape: HostInts,
    *,
    dilations: list[int] | None = None,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Tensor:
    """Blocks are added where they overlap; any number of dimensions."""
    n = len(block_shape)
    strides, dilations, pads = strides or [1] * n, dilations or [1] * n, pads or [0] * (2 * n)
    padded = [image_shape[i] + pads[i] + pads[i + n] for i in range(n)]
    counts = [(padded[i] - (block_shape[i] - 1) * dilations[i] - 1) // strides[i] + 1 for i in range(n)]
    place = torch.zeros([1] * (2 * n), dtype=torch.int64, device=input.device)
    for i in range(n):
        taps = torch.arange(block_shape[i], device=input.device) * dilations[i]
        at = taps[:, None] + torch.arange(counts[i], device=input.device) * strides[i]
        shape = [1] * (2 * n)
        shape[i], shape[n + i] = block_shape[i], counts[i]
        place = place * padded[i] + at.reshape(shape)
    channels = input.shape[1] // _product(block_shape)
    values = input.reshape(input.shape[0], channels, -1)
    flat = values.new_zeros((input.shape[0], channels, _product(padded)))
    y = flat.index_add(2, place.reshape(-1), values).reshape(input.shape[0], channels, *padded)
    return F.pad(y, flat_pads([(-pads[i], -pads[i + n]) for i in range(n)]))


def _product(numbers: list[int]) -> int:
    out = 1
    for number in numbers:
        out = out * number
    return out
