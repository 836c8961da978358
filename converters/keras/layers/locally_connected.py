"""LocallyConnected1D and 2D: a convolution whose kernel differs from place to place."""

from __future__ import annotations

import math

import numpy as np

from netferry.converters.keras.layer import Layer
from netferry.converters.keras.layers.activation import activate
from netferry.converters.keras.layers.convolution import kernel_size, spatial_rank
from netferry.converters.keras.layout import KT
from netferry.converters.keras.registry import kernel_and_bias, layer
from netferry.errors import LimitExceeded, MalformedFile
from netferry.schemas.graph import Builder
from netferry.schemas.ir import ir

_MOST = 2**26
"""numbers that say what is connected with what, at most"""


@layer("LocallyConnected1D", "LocallyConnected2D", weights=kernel_and_bias)
def locally_connected(b: Builder, l: Layer, x: KT) -> KT:
    """A kernel of its own for every place, in all three forms in which Keras 2 keeps it (``implementation``)."""
    rank = spatial_rank(l)
    filters = l.config.integer("filters", least=1, also=("nb_filter",))
    kernel = kernel_size(l, rank)
    strides = l.config.integers("strides", rank, 1, least=1, also=("subsample", "subsample_length"))
    same = l.config.choice("padding", "valid", "valid", "same", also=("border_mode",)) == "same"
    form = l.config.integer("implementation", 1, least=1)
    first = l.data_format() == "channels_first"
    l.config.ignore("input_dim", "input_length")
    l.rank(x, rank + 2)
    space = tuple(range(2, rank + 2)) if first else tuple(range(1, rank + 1))
    sizes = tuple(l.dim(x, a, "the size of a picture with a kernel for every place") for a in space)
    channels = l.dim(x, 1 if first else rank + 1)
    window = _windows(l, sizes, kernel, strides, same=same)
    out = window.shape[:rank]
    flat = b.reshape(x.logical(b), [-1, channels * math.prod(sizes)])
    if form == 2:
        made = _dense(b, l, flat, window, sizes, channels, filters, first=first)
    else:
        made = _gathered(b, l, flat, window, math.prod(sizes), channels, filters, first=first, sparse=form == 3)
    if form == 2 and first:
        value, order = b.reshape(made, [-1, filters, *out]), tuple(range(rank + 2))
    else:
        value = b.reshape(made, [-1, *out, filters])
        order = (0, *range(2, rank + 2), 1) if first else tuple(range(rank + 2))
    if l.config.flag("use_bias", True, also=("bias",)):
        # with channels first Keras reads the bias (out ..., filters) as (filters, out ...), without moving an axis
        shaped = (lambda a: a.reshape(filters, *out)) if first else None
        if first and form != 2:
            shaped = lambda a: np.moveaxis(a.reshape(filters, *out), 0, -1)  # noqa: E731
        bias = l.weight(b, "bias", "bias", (*out, filters), transform=shaped)
        value = b.op("Add", value, bias)
    return activate(b, l, KT(value, order), l.config.take("activation", None))


def _windows(
    l: Layer, sizes: tuple[int, ...], kernel: tuple[int, ...], strides: tuple[int, ...], *, same: bool
) -> np.ndarray:
    """Flat place in space that each place of each window has: (out …, kernel …); -1 beside the picture."""
    rank = len(sizes)
    grids: list[np.ndarray] = []
    for size, k, s in zip(sizes, kernel, strides, strict=True):
        count = -(-size // s) if same else (size - k) // s + 1
        if count < 1:
            raise MalformedFile(f"a kernel of {kernel} does not fit into {sizes}", layer=l.path)
        begins = np.arange(count) * s - (k // 2 if same else 0)  # not the rule of Conv2D
        grids.append(begins[:, None] + np.arange(k))
    if math.prod(g.size for g in grids) > _MOST:
        raise LimitExceeded(f"{math.prod(g.size for g in grids)} places in windows, at most {_MOST}", layer=l.path)
    total: np.ndarray = np.zeros((1,) * (2 * rank), np.int64)
    outside: np.ndarray = np.zeros((1,) * (2 * rank), bool)
    for axis, (grid, size) in enumerate(zip(grids, sizes, strict=True)):
        shape = [1] * (2 * rank)
        shape[axis], shape[rank + axis] = grid.shape
        lying = grid.reshape(shape)
        total = total * size + np.clip(lying, 0, size - 1)
        outside = outside | (lying < 0) | (lying >= size)
    return np.where(outside, -1, total)


def _features(window: np.ndarray, area: int, channels: int, *, first: bool) -> np.ndarray:
    """Place in the flattened input of each feature of each window: (places, features); -1 beside the picture."""
    rank = window.ndim // 2
    places = math.prod(window.shape[:rank])
    inside = window.reshape(places, -1)
    if first:
        found = inside[:, None, :] + np.arange(channels)[:, None] * area
        beside = np.broadcast_to(inside[:, None, :] < 0, found.shape)
    else:
        found = inside[:, :, None] * channels + np.arange(channels)
        beside = np.broadcast_to(inside[:, :, None] < 0, found.shape)
    return np.where(beside, -1, found).reshape(places, -1)


def _gathered(
    b: Builder,
    l: Layer,
    flat: ir.Value,
    window: np.ndarray,
    area: int,
    channels: int,
    filters: int,
    *,
    first: bool,
    sparse: bool,
) -> ir.Value:
    """Windows as rows, each times the kernel of its place: (batch, places, 1, filters)."""
    features = _features(window, area, channels, first=first)
    places, width = features.shape
    if features.size * max(filters, 1) > _MOST * 16:
        raise LimitExceeded(f"{features.size * filters} weights of windows, at most {_MOST * 16}", layer=l.path)
    if not sparse:
        weight = l.weight(b, "kernel", "weight", (places, width, filters))
    elif (features >= 0).all():
        # (output, input) pairs in order: the outputs are (place, filter), or (filter, place) with channels first
        stored = (filters, places, width) if first else (places, filters, width)
        moved = (1, 2, 0) if first else (0, 2, 1)
        weight = l.weight(b, "kernel", "weight", stored, transform=lambda a: a.transpose(moved))
    else:
        weight = _spread(b, l, features, filters, first=first)
    rows = b.op("Gather", flat, b.const(np.maximum(features, 0)[:, None, :], "places"), axis=1)
    return b.op("MatMul", rows, weight)


def _spread(b: Builder, l: Layer, features: np.ndarray, filters: int, *, first: bool) -> ir.Value:
    """The kernel of ``implementation=3`` with zeros beside the picture: its numbers are picked by a Gather."""
    inside = features >= 0
    count = int(inside.sum()) * filters
    places, width = features.shape
    shape = (filters, places, width) if first else (places, filters, width)
    there = np.broadcast_to(inside[None] if first else inside[:, None], shape)
    number = np.full(shape, count, np.int64)
    number[there] = np.arange(count)
    number = number.transpose((1, 2, 0) if first else (0, 2, 1))
    stored = l.weight(b, "kernel", "weight", (count,))
    longer = b.op("Concat", stored, b.const(np.zeros(1, np.float32), "zero"), axis=0)
    return b.op("Gather", longer, b.const(np.ascontiguousarray(number), "numbers"), axis=0)


def _dense(
    b: Builder,
    l: Layer,
    flat: ir.Value,
    window: np.ndarray,
    sizes: tuple[int, ...],
    channels: int,
    filters: int,
    *,
    first: bool,
) -> ir.Value:
    """The kernel of ``implementation=2``: a full matrix of which a mask leaves what is connected."""
    rank = window.ndim // 2
    area, out = math.prod(sizes), window.shape[:rank]
    places = math.prod(out)
    if area * places > _MOST:
        raise LimitExceeded(f"{area * places} pairs of places, at most {_MOST}", layer=l.path)
    connected = np.zeros((area + 1, places), np.float32)
    for place, found in enumerate(window.reshape(places, -1)):
        connected[found, place] = 1.0  # -1, beside the picture, is the row that is cut off
    connected = connected[:area]
    stored = (channels, *sizes, filters, *out) if first else (*sizes, channels, *out, filters)
    whole = (channels, area, filters, places) if first else (area, channels, places, filters)
    mask = connected[None, :, None, :] if first else connected[:, None, :, None]
    weight = l.weight(b, "kernel", "weight", stored, transform=lambda a: a.reshape(whole))
    kept = b.op("Mul", weight, b.const(np.ascontiguousarray(mask), "connected"))
    return b.op("MatMul", flat, b.reshape(kept, [channels * area, filters * places]))
