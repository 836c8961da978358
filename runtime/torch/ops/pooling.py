"""Pooling in one to three dimensions, with ONNX's exact windows."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from netferry.runtime.torch.dtypes import wide_float
from netferry.runtime.torch.ops.windows import Window, auto_pads, flat_pads, flat_size
from netferry.runtime.torch.registry import HostInts, op

_MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGE = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def _windows(
    x: Tensor,
    kernel: list[int],
    strides: list[int] | None,
    dilations: list[int] | None,
    pads: list[int] | None,
    auto_pad: str,
    ceil_mode: int,
) -> list[Window]:
    """Per axis: where windows lie. One that would begin in the padding after the end is left out."""
    n = len(kernel)
    strides, dilations = strides or [1] * n, dilations or [1] * n
    sizes = list(x.shape[2:])
    if auto_pad not in ("NOTSET", ""):
        pads = auto_pads(auto_pad, sizes, kernel, strides, dilations)
    pads = pads or [0] * (2 * n)
    found = []
    for i in range(n):
        reach = (kernel[i] - 1) * dilations[i] + 1
        room = sizes[i] + pads[i] + pads[i + n] - reach
        count = (-(-room // strides[i]) if ceil_mode else room // strides[i]) + 1
        if ceil_mode and (count - 1) * strides[i] >= sizes[i] + pads[i]:
            count -= 1
        after = (count - 1) * strides[i] + reach - sizes[i] - pads[i]
        found.append(Window(kernel[i], strides[i], dilations[i], pads[i], pads[i + n], after))
    return found


@op
def MaxPool(
    X: Tensor,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: list[int] | None = None,
    kernel_shape: list[int],
    pads: list[int] | None = None,
    storage_order: int = 0,
    strides: list[int] | None = None,
    outputs: int = 1,
) -> Tensor | tuple[Tensor, Tensor]:
    """Indices count in the whole tensor, without the padding."""
    n = len(kernel_shape)
    windows = _windows(X, kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)
    x = X if X.dtype.is_floating_point else X.double()
    padded = F.pad(x, flat_pads([(w.before, w.after) for w in windows]), value=-math.inf)
    steps, gaps = [w.stride for w in windows], [w.dilation for w in windows]
    if outputs == 1:
        return _MAX[n](padded, kernel_shape, steps, 0, gaps).to(X.dtype)
    y, at = _MAX[n](padded, kernel_shape, steps, 0, gaps, return_indices=True)
    return y.to(X.dtype), _places(at, X, windows, storage_order)


def _places(at: Tensor, x: Tensor, windows: list[Window], storage_order: int) -> Tensor:
    """Indices in the padded picture as indices in the whole tensor."""
    parts: list[Tensor] = []
    for window, size in reversed(list(zip(windows, x.shape[2:], strict=True))):
        whole = size + window.before + window.after
        parts.insert(0, at % whole - window.before)
        at = at // whole
    sizes = list(x.shape[2:])
    if storage_order:
        parts, sizes = parts[::-1], sizes[::-1]
    flat = torch.zeros_like(parts[0])
    for part, size in zip(parts, sizes, strict=True):
        flat = flat * size + part
    images = torch.arange(x.shape[0] * x.shape[1], device=x.device).reshape(x.shape[0], x.shape[1])
    return flat + images.reshape(*images.shape, *[1] * len(sizes)) * math.prod(sizes)


def window_sums(x: Tensor, windows: list[Window]) -> Tensor:
    """Sums over windows; ``before`` and ``after`` are padded with zeros. Shape N x C x ... ."""
    n = len(windows)
    padded = F.pad(x, flat_pads([(w.before, w.after) for w in windows]))
    kernel, steps = [w.kernel for w in windows], [w.stride for w in windows]
    if all(w.dilation == 1 for w in windows):
        return _AVERAGE[n](padded, kernel, steps) * math.prod(kernel)
    images = padded.reshape(-1, 1, *padded.shape[2:])
    y = _CONV[n](images, images.new_ones((1, 1, *kernel)), None, steps, 0, [w.dilation for w in windows])
    return y.reshape(*x.shape[:2], *y.shape[2:])


@op
def AveragePool(
    X: Tensor,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: list[int] | None = None,
    kernel_shape: list[int],
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Tensor:
    """The padding counts with ``count_include_pad``; what ceil_mode adds beyond it never does."""
    windows = _windows(X, kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)
    x = wide_float(X)
    sums = window_sums(x, windows)
    ones = x.new_ones((1, 1, *x.shape[2:]))
    if count_include_pad:
        ones = F.pad(ones, flat_pads([(w.before, min(w.asked, w.after)) for w in windows]), value=1.0)
        rest = [w._replace(before=0, after=w.after - min(w.asked, w.after)) for w in windows]
    else:
        rest = windows
    return (sums / window_sums(ones, rest)).to(X.dtype)


@op
def LpPool(
    X: Tensor,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: list[int] | None = None,
    kernel_shape: list[int],
    p: int = 2,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Tensor:
    windows = _windows(X, kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)
    return window_sums(wide_float(X).abs() ** p, windows).pow(1 / p).to(X.dtype)


@op
def GlobalAveragePool(X: Tensor) -> Tensor:
    return X.mean(list(range(2, X.dim())), keepdim=True)


@op
def GlobalMaxPool(X: Tensor) -> Tensor:
    return X.amax(list(range(2, X.dim())), keepdim=True)


@op
def GlobalLpPool(X: Tensor, *, p: int = 2) -> Tensor:
    return wide_float(X).abs().pow(p).sum(list(range(2, X.dim())), keepdim=True).pow(1 / p).to(X.dtype)


@op
def MaxUnpool(
    X: Tensor,
    I: Tensor,
    output_shape: HostInts | None = None,
    *,
    kernel_shape: list[int],
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Tensor:
    """Indices count in the tensor of the natural size; a larger ``output_shape`` adds zeros at the ends."""
    n = len(kernel_shape)
    steps, edges = strides or [1] * n, pads or [0] * (2 * n)
    natural = [(X.shape[i + 2] - 1) * steps[i] + kernel_shape[i] - edges[i] - edges[i + n] for i in range(n)]
    shape = [*X.shape[:2], *natural]
    flat = X.new_zeros(flat_size(shape)).scatter(0, I.reshape(-1), X.reshape(-1))
    y = flat.reshape(shape)
    if output_shape is None:
        return y
    return F.pad(y, flat_pads([(0, a - b) for a, b in zip(output_shape[2:], natural, strict=True)]))


@op
def MaxRoiPool(X: Tensor, rois: Tensor, *, pooled_shape: list[int], spatial_scale: float = 1.0) -> Tensor:
    """Each region, rounded to whole pixels, is cut into a grid; an empty cell gives 0 (Fast R-CNN)."""
    high, wide = pooled_shape
    corners = torch.floor(rois[:, 1:] * spatial_scale + 0.5)
    x1, y1, x2, y2 = corners.unbind(1)
    w, h = (x2 - x1 + 1).clamp(min=1), (y2 - y1 + 1).clamp(min=1)

    def cells(start: Tensor, size: Tensor, count: int, limit: int) -> Tensor:
        steps = torch.arange(count, device=X.device, dtype=X.dtype)
        low = (torch.floor(steps * size[:, None] / count) + start[:, None]).clamp(0, limit)
        top = (torch.ceil((steps + 1) * size[:, None] / count) + start[:, None]).clamp(0, limit)
        at = torch.arange(limit, device=X.device, dtype=X.dtype)
        return (at >= low[..., None]) & (at < top[..., None])

    rows, columns = cells(y1, h, high, X.shape[2]), cells(x1, w, wide, X.shape[3])
    picture = X.index_select(0, rois[:, 0].to(torch.int64))
    inside = rows[:, None, :, None, :, None] & columns[:, None, None, :, None, :]
    values = torch.where(inside, picture[:, :, None, None], -math.inf).amax((-2, -1))
    return torch.where(torch.isneginf(values), 0.0, values)
