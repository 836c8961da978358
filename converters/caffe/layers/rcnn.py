"""Pooling of regions: ROIPooling of Fast R-CNN, PSROIPooling of R-FCN, ROIAlign with a sampling ratio.

Regions are (R, 5) rows [image, x1, y1, x2, y2] in pixels of the input picture.
"""

from __future__ import annotations

import numpy as np

from netferry.converters.caffe.registry import Declined, Layer, layer
from netferry.errors import LimitExceeded, MalformedFile, UnsupportedOption
from netferry.schemas.graph import Builder, shape_of
from netferry.schemas.ir import ir

_LARGEST_GRID = 4096
_MOST_CHANNELS = 1_000_000


@layer("ROIPooling")
def roi_pooling(b: Builder, l: Layer, x: ir.Value, rois: ir.Value) -> ir.Value:
    """Maxima of a fixed grid over each region: ONNX MaxRoiPool, whose roundings are those of roi_pooling_layer.cpp."""
    p = l.param("roi_pooling_param")
    height, width = _grid(l, p.int("pooled_h", 0)), _grid(l, p.int("pooled_w", 0))
    scale = _scale(l, p.float("spatial_scale", 1.0))
    if p.float("pad_ratio", 0.0) != 0.0:
        raise UnsupportedOption("roi_pooling_param.pad_ratio is not supported", layer=l.name)
    return b.op("MaxRoiPool", _feature(l, x), _rows(b, l, rois), pooled_shape=[height, width], spatial_scale=scale)


@layer("ROIAlign")
def roi_align(b: Builder, l: Layer, x: ir.Value, rois: ir.Value) -> ir.Value:
    """Averages of bilinear samples over each region, as Detectron's first RoIAlign (sampling_ratio given).

    Forks without ``sampling_ratio`` disagree (some take the largest of four samples), so they become placeholders.
    """
    p = l.param("roi_align_param")
    if not p.has("sampling_ratio") or p.has("pad_ratio") or p.int("roi_end_mode", 0) != 0:
        raise Declined("read only with sampling_ratio, without pad_ratio and roi_end_mode: other forks disagree")
    height, width = _grid(l, p.int("pooled_h", 0)), _grid(l, p.int("pooled_w", 0))
    scale = _scale(l, p.float("spatial_scale", 1.0))
    rows = _rows(b, l, rois)
    image = b.op("Cast", b.op("Gather", rows, b.const(0), axis=1), to=ir.DataType.INT64)
    return b.op(
        "RoiAlign",
        _feature(l, x),
        b.op("Slice", rows, b.const([1]), b.const([5]), b.const([1])),
        image,
        coordinate_transformation_mode="output_half_pixel",
        mode="avg",
        output_height=height,
        output_width=width,
        sampling_ratio=max(p.int("sampling_ratio"), 0),
        spatial_scale=scale,
    )


@layer("PSROIPooling")
def psroi_pooling(b: Builder, l: Layer, x: ir.Value, rois: ir.Value) -> ir.Value:
    """Position-sensitive averages: bin (i, j) of class c reads channel (c * group + i) * group + j.

    Sums come from an integral image, in double so that differences of large sums stay exact to float; the bounds of
    the bins are rounded as in psroi_pooling_layer.cu (float32).

    Args:
        x: (N, output_dim * group * group, H, W).
    """
    p = l.param("psroi_pooling_param")
    outputs, group = p.int("output_dim", least=1), _grid(l, p.int("group_size", 0))
    scale = _scale(l, p.float("spatial_scale"))
    channels, H, W = (l.fixed(_feature(l, x), axis, "PSROIPooling") for axis in (1, 2, 3))
    if channels != outputs * group * group:
        raise MalformedFile(
            f"output_dim {outputs} and group_size {group} need {outputs * group * group} channels, "
            f"the bottom has {channels}",
            layer=l.name,
        )
    if channels > _MOST_CHANNELS or channels * (H + 1) * (W + 1) >= 2**40:
        raise LimitExceeded(f"a feature map of {channels} x {H} x {W} (limit {_MOST_CHANNELS} channels)", layer=l.name)
    rows = _rows(b, l, rois)
    image = b.op("Cast", b.op("Slice", rows, b.const([0]), b.const([1]), b.const([1])), to=ir.DataType.INT64)
    left, right = _bounds(b, rows, (1, 3), scale, group, W)
    top, bottom = _bounds(b, rows, (2, 4), scale, group, H)

    total = b.op("Pad", b.op("Cast", x, to=ir.DataType.DOUBLE), b.const([0, 0, 1, 1, 0, 0, 0, 0]))
    total = b.op("CumSum", b.op("CumSum", total, b.const(2)), b.const(3))
    total = b.reshape(total, [-1])
    channel = np.arange(channels).reshape(1, outputs, group, group) * ((H + 1) * (W + 1))
    start = b.op("Mul", b.reshape(image, [-1, 1, 1, 1]), b.const(channels * (H + 1) * (W + 1)))
    plane = b.op("Add", start, b.const(channel, "plane"))
    (above, below), (before, after) = (
        [b.op("Mul", b.reshape(v, [-1, 1, group, 1]), b.const(W + 1)) for v in (top, bottom)],
        [b.reshape(v, [-1, 1, 1, group]) for v in (left, right)],
    )
    upper, lower = b.op("Add", plane, above), b.op("Add", plane, below)
    corner = [
        b.op("Gather", total, b.op("Add", row, column), axis=0) for row in (upper, lower) for column in (before, after)
    ]
    bins = b.op("Sub", b.op("Sub", corner[3], corner[2]), b.op("Sub", corner[1], corner[0]))
    height, width = (b.op("Sub", far, near) for far, near in ((bottom, top), (right, left)))
    # an empty bin has start = end after the clipping, or no more than that: its sum is taken over area 1 and dropped
    area = b.op("Mul", b.reshape(height, [-1, 1, group, 1]), b.reshape(width, [-1, 1, 1, group]))
    filled = b.op("Greater", b.op("Min", b.reshape(height, [-1, 1, group, 1]), b.reshape(width, [-1, 1, 1, group])), 0)
    size = b.op("Cast", b.op("Max", area, b.const(1)), to=ir.DataType.DOUBLE)
    mean = b.op("Cast", b.op("Div", bins, size), to=ir.DataType.FLOAT)
    return b.op("Where", filled, mean, b.const(0.0))


def _bounds(
    b: Builder, rows: ir.Value, at: tuple[int, int], scale: float, group: int, limit: int
) -> tuple[ir.Value, ir.Value]:
    """First cell and cell after the last of each bin along one axis, (R, group) int64 each, within 0 .. limit."""
    near, far = (b.op("Gather", rows, b.const([i]), axis=1) for i in at)
    near, far = _half_away(b, near), _half_away(b, far)
    first = b.op("Mul", near, b.const(scale, "scale"))
    last = b.op("Mul", b.op("Add", far, b.const(1.0)), b.const(scale, "scale"))
    bin_size = b.op("Div", b.op("Max", b.op("Sub", last, first), b.const(0.1)), b.const(float(group)))
    index = np.arange(group, dtype=np.float32)[None]
    start = b.op("Floor", b.op("Add", b.op("Mul", b.const(index, "bin"), bin_size), first))
    end = b.op("Ceil", b.op("Add", b.op("Mul", b.const(index + 1, "bin"), bin_size), first))
    zero, most = b.const(0.0), b.const(float(limit))
    low, high = (b.op("Cast", b.op("Clip", v, zero, most), to=ir.DataType.INT64) for v in (start, end))
    return low, high


def _half_away(b: Builder, x: ir.Value) -> ir.Value:
    """Round halves away from zero, as C does (ONNX Round goes to even)."""
    return b.op("Mul", b.op("Sign", x), b.op("Floor", b.op("Add", b.op("Abs", x), b.const(0.5))))


def _rows(b: Builder, l: Layer, rois: ir.Value) -> ir.Value:
    """Regions as (R, 5); Caffe also has them as (R, 5, 1, 1)."""
    dims = shape_of(rois)
    each = dims[1:]
    if not each or each[0] not in (5, None) or any(d not in (1, None) for d in each[1:]):
        raise MalformedFile(f"regions have shape R x 5, not {dims}", layer=l.name)
    return rois if dims[1:] == (5,) else b.reshape(rois, [-1, 5])


def _feature(l: Layer, x: ir.Value) -> ir.Value:
    if len(shape_of(x)) != 4:
        raise MalformedFile(f"the feature map has shape N x C x H x W, not {shape_of(x)}", layer=l.name)
    return x


def _grid(l: Layer, size: int) -> int:
    if not 0 < size <= _LARGEST_GRID:
        raise MalformedFile(f"a grid of {size} bins (1 to {_LARGEST_GRID})", layer=l.name)
    return size


def _scale(l: Layer, scale: float) -> float:
    if not 1e-6 <= scale <= 1e6:
        raise MalformedFile(f"spatial_scale {scale} is not within 1e-6 to 1e6", layer=l.name)
    return scale
