"""Contrast that pictures get at inference too: AutoContrast and ContrastLimitedAdaptiveHistogramEqualization."""

from __future__ import annotations

import numpy as np

from netferry.converters.keras.layer import Layer
from netferry.converters.keras.layers.scaling import as_float
from netferry.converters.keras.layout import KT
from netferry.converters.keras.registry import layer
from netferry.errors import LimitExceeded, MalformedFile
from netferry.schemas.graph import Builder
from netferry.schemas.ir import ir

_LEVELS = 256
_MOST = 2**26
"""pixels times channels of a picture, at most"""


def _range_of(l: Layer) -> tuple[float, float]:
    given = l.config.take("value_range", [0, 255])
    if not isinstance(given, list) or len(given) != 2 or not all(isinstance(v, (int, float)) for v in given):
        raise l.config.bad("value_range", given, "two numbers")
    low, high = float(given[0]), float(given[1])
    if low == high:
        raise l.config.bad("value_range", given, "two different numbers")
    return low, high


def _moved(b: Builder, value: ir.Value, source: tuple[float, float], target: tuple[float, float]) -> ir.Value:
    """From one range of values to another, in Keras's order of operations."""
    if source == target:
        return value
    if source[0]:
        value = b.op("Sub", value, b.const(source[0], "low"))
    value = b.op("Div", value, b.const(source[1] - source[0], "span"))
    value = b.op("Mul", value, b.const(target[1] - target[0], "span"))
    return b.op("Add", value, b.const(target[0], "low")) if target[0] else value


@layer("AutoContrast", mask="keep")
def auto_contrast(b: Builder, l: Layer, x: KT) -> KT:
    """Each channel of each picture stretched to the whole range of values."""
    low, high = sorted(_range_of(l))
    l.config.ignore("data_format", "bounding_box_format")  # Keras takes axes 1 and 2 for space whatever this says
    l.rank(x, 4)
    x = as_float(b, x)
    places = b.const(sorted(x.axis(a) for a in (1, 2)), "axes")
    bytes_ = _moved(b, x.value, (low, high), (0.0, 255.0))
    least, most = b.op("ReduceMin", bytes_, places, keepdims=1), b.op("ReduceMax", bytes_, places, keepdims=1)
    scale = b.op("Div", b.const(255.0, "white"), b.op("Sub", most, least))
    offset = b.op("Mul", b.op("Neg", least), scale)
    stretched = b.op("Add", b.op("Mul", bytes_, scale), offset)
    clipped = b.op("Clip", stretched, b.const(0.0, "min"), b.const(255.0, "max"))
    made = _moved(b, clipped, (0.0, 255.0), (low, high))
    return x.like(b.op("Where", b.op("IsNaN", made), x.value, made))  # one single value has no contrast


@layer("ContrastLimitedAdaptiveHistogramEqualization", mask="keep")
def clahe(b: Builder, l: Layer, x: KT) -> KT:
    """Histograms of tiles, clipped and summed to curves; each pixel by the four nearest tiles' curves."""
    values = _range_of(l)
    grid = l.config.integers("tile_grid_size", 2, (8, 8), least=1)
    limit = l.config.number("clip_limit", 4.0)
    first = l.data_format() == "channels_first"
    l.config.ignore("bounding_box_format")
    l.rank(x, 4)
    axes = (0, 2, 3, 1) if first else (0, 1, 2, 3)
    height, width, channels = (l.dim(x, a, "the size of a picture to equalize") for a in axes[1:])
    tile = (-(-height // grid[0]), -(-width // grid[1]))
    if height * width * channels > _MOST or grid[0] * grid[1] * channels * _LEVELS > _MOST:
        raise LimitExceeded(f"a picture of {height} x {width} in {grid} tiles is too large", layer=l.path)
    if tile[0] * grid[0] > 2 * height or tile[1] * grid[1] > 2 * width:
        raise MalformedFile(f"{grid} tiles do not fit into {height} x {width} pixels", layer=l.path)
    wide = _moved(b, as_float(b, x).to(b, axes), values, (0.0, 255.0))
    clipped = b.op("Clip", wide, b.const(0.0, "min"), b.const(float(_LEVELS - 1), "max"))
    pixels = b.op("Cast", clipped, to=int(ir.DataType.INT64))
    curves = _curves(b, pixels, (height, width, channels), grid, tile, limit)
    made = _by_curves(b, pixels, curves, (height, width, channels), grid, tile)
    made = _moved(b, made, (0.0, 255.0), values)
    if x.dtype != ir.DataType.FLOAT:
        made = b.op("Cast", made, to=int(x.dtype))
    return KT(made, axes)


def _curves(
    b: Builder,
    pixels: ir.Value,
    sizes: tuple[int, int, int],
    grid: tuple[int, ...],
    tile: tuple[int, int],
    limit: float,
) -> ir.Value:
    """(batch, rows of tiles, columns, channels, levels): the new value of each level in each tile."""
    height, width, channels = sizes
    for axis, size, whole in ((1, height, tile[0] * grid[0]), (2, width, tile[1] * grid[1])):
        if whole != size:  # mirrored, the edge itself included
            mirrored = np.concatenate([np.arange(size), np.arange(size)[::-1][: whole - size]])
            pixels = b.op("Gather", pixels, b.const(mirrored, "mirrored"), axis=axis)
    tiles = b.reshape(pixels, [-1, grid[0], tile[0], grid[1], tile[1], channels])
    area = tile[0] * tile[1]
    rows = b.reshape(b.op("Transpose", tiles, perm=[0, 1, 3, 5, 2, 4]), [-1, area])
    count = b.op("Shape", rows, start=0, end=1)
    shape = b.op("Concat", count, b.const([_LEVELS], "levels"), axis=0)
    empty = b.op("Expand", b.const(0.0, "zero"), shape)
    ones = b.op("Expand", b.const(1.0, "one"), b.op("Shape", rows))
    histogram = b.op("ScatterElements", empty, rows, ones, axis=1, reduction="add")
    if limit > 0:
        kept = b.op("Min", histogram, b.const(limit * area / _LEVELS, "clip_limit"))
        excess = b.op("ReduceSum", b.op("Sub", histogram, kept), b.const([1], "axes"), keepdims=1)
        histogram = b.op("Add", kept, b.op("Div", excess, b.const(float(_LEVELS), "levels")))
    summed = b.op("CumSum", histogram, b.const(np.asarray(1, np.int64), "axis"))
    least = b.op("ReduceMin", summed, b.const([1], "axes"), keepdims=1)
    span = b.op("Sub", b.const(float(area), "area"), least)
    span = b.op("Where", b.op("Equal", span, b.const(0.0, "zero")), b.const(1.0, "one"), span)
    curve = b.op("Div", b.op("Mul", b.op("Sub", summed, least), b.const(255.0, "white")), span)
    curve = b.op("Clip", curve, b.const(0.0, "min"), b.const(255.0, "max"))
    return b.reshape(curve, [-1, *grid, channels, _LEVELS])


def _by_curves(
    b: Builder,
    pixels: ir.Value,
    curves: ir.Value,
    sizes: tuple[int, int, int],
    grid: tuple[int, ...],
    tile: tuple[int, int],
) -> ir.Value:
    """Each pixel's value by the curves of the four tiles around it, mixed by distance."""
    height, width, channels = sizes
    table = b.op("Flatten", curves, axis=1)
    flat = b.op("Flatten", pixels, axis=1)
    nearest = [_neighbours(size, t, g) for size, t, g in zip((height, width), tile, grid, strict=True)]
    (y0, y1, wy), (x0, x1, wx) = nearest

    def looked_up(y: np.ndarray, x: np.ndarray) -> ir.Value:
        place = (y[:, None, None] * grid[1] + x[None, :, None]) * channels + np.arange(channels)
        indices = b.op("Add", flat, b.const((place * _LEVELS).reshape(1, -1), "curve"))
        return b.reshape(b.op("GatherElements", table, indices, axis=1), [-1, height, width, channels])

    def mixed(one: ir.Value, other: ir.Value, weight: np.ndarray) -> ir.Value:
        share, rest = b.const(weight, "share"), b.const(np.float32(1) - weight, "rest")
        return b.op("Add", b.op("Mul", one, rest), b.op("Mul", other, share))

    across = wx[None, :, None]
    top = mixed(looked_up(y0, x0), looked_up(y0, x1), across)
    bottom = mixed(looked_up(y1, x0), looked_up(y1, x1), across)
    return mixed(top, bottom, wy[:, None, None])


def _neighbours(size: int, tile: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For every pixel of an axis the tiles before and behind it (the edge's own beyond it) and the second's share."""
    place = (np.arange(size, dtype=np.float32) - np.float32(tile / 2)) / np.float32(tile) + np.float32(1)
    before = np.floor(place)
    share = place - before
    # Keras counts one tile more at each end, copies of the outermost ones
    tiles = [np.clip(np.clip(t, 0, count + 1) - 1, 0, count - 1).astype(np.int64) for t in (before, before + 1)]
    return tiles[0], tiles[1], share
