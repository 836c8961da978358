"""Sampling at computed places: grids, regions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from netferry.runtime.torch.registry import HostInts, op

_MODES = {"linear": "bilinear", "cubic": "bicubic", "bilinear": "bilinear", "bicubic": "bicubic", "nearest": "nearest"}


@op
def GridSample(
    X: Tensor, grid: Tensor, *, align_corners: int = 0, mode: str = "linear", padding_mode: str = "zeros"
) -> Tensor:
    return F.grid_sample(X, grid, _MODES[mode], padding_mode, bool(align_corners))


@op
def AffineGrid(theta: Tensor, size: HostInts, *, align_corners: int = 0) -> Tensor:
    return F.affine_grid(theta, size, bool(align_corners))


@op
def RoiAlign(
    X: Tensor,
    rois: Tensor,
    batch_indices: Tensor,
    *,
    coordinate_transformation_mode: str = "half_pixel",
    mode: str = "avg",
    output_height: int = 1,
    output_width: int = 1,
    sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
) -> Tensor:
    """Mask R-CNN's regions: points between pixels, averaged (or the largest of their weighted corners) per cell."""
    offset = 0.5 if coordinate_transformation_mode == "half_pixel" else 0.0
    found = [
        _region(
            X[image], box * spatial_scale - offset, output_height, output_width, sampling_ratio, mode, offset == 0.0
        )
        for image, box in zip(batch_indices.to(torch.int64).unbind(0), rois.unbind(0), strict=True)
    ]
    if not found:
        return X.new_zeros((0, X.shape[1], output_height, output_width))
    return torch.stack(found)


def _region(image: Tensor, box: Tensor, high: int, wide: int, ratio: int, mode: str, at_least_one: bool) -> Tensor:
    x1, y1, x2, y2 = box.unbind(0)
    w, h = x2 - x1, y2 - y1
    if at_least_one:
        w, h = w.clamp(min=1), h.clamp(min=1)
    down = ratio if ratio > 0 else int(torch.ceil(h / high))
    across = ratio if ratio > 0 else int(torch.ceil(w / wide))

    def points(start: Tensor, size: Tensor, cells: int, per: int) -> Tensor:
        return start + (torch.arange(cells * per, device=image.device, dtype=image.dtype) + 0.5) * size / (cells * per)

    y, x = points(y1, h, high, down), points(x1, w, wide, across)
    rows, columns = _corners(y, image.shape[1]), _corners(x, image.shape[2])
    terms = [image[:, r][:, :, c] * (wr[:, None] * wc) for r, wr in rows for c, wc in columns]
    cells = (image.shape[0], high, down, wide, across)
    if mode == "max":
        best = torch.stack(terms).amax(0)
        return best.reshape(cells).amax((2, 4))
    return sum(terms[1:], terms[0]).reshape(cells).mean((2, 4))


def _corners(at: Tensor, size: int) -> list[tuple[Tensor, Tensor]]:
    """The two neighbours of each point, with weights; further than a pixel outside counts nothing."""
    inside = ((at >= -1) & (at <= size)).to(at.dtype)
    at = at.clamp(0, size - 1)
    low = torch.floor(at)
    share = at - low
    first = low.to(torch.int64)
    return [(first, (1 - share) * inside), ((first + 1).clamp(max=size - 1), share * inside)]
