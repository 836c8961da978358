"""Layers that read other sections: route, shortcut, and the channel and spatial attention of AlexeyAB's fork.

Rules: route_layer.c, shortcut_layer.c and shortcut_cpu in blas.c of pjreddie/darknet; ``groups`` of route, several
sources and weights of shortcut, scale_channels and sam as in AlexeyAB's fork.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from netferry.converters.darknet.layers.activation import activate
from netferry.converters.darknet.registry import Layer, layer
from netferry.schemas.graph import Builder, shape_of
from netferry.schemas.ir import ir


@layer("route")
def route(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """Earlier sections side by side; of each the ``group_id``-th of ``groups`` parts."""
    s = l.section
    numbers = s.ints("layers")
    if not numbers:
        raise l.fail("layers is missing")
    groups, part = s.int("groups", 1, least=1), s.int("group_id", 0, least=0)
    if part >= groups:
        raise l.fail(f"group_id={part} is none of {groups} groups")
    pieces = [_part(b, l, l.source(number), groups, part) for number in numbers]
    shapes = [shape_of(p) for p in pieces]
    if len(pieces) == 1:
        return pieces[0]
    if all(len(shape) == 4 and shape[2:] == shapes[0][2:] for shape in shapes):
        l.check((sum(int(shape[1]) for shape in shapes if isinstance(shape[1], int)), *shapes[0][2:]))
        return b.op("Concat", *pieces, axis=1)
    if all(len(shape) == 3 for shape in shapes):
        return b.op("Concat", *pieces, axis=2)
    l.check([sum(l.features(p) for p in pieces)])
    flat = [p if len(shape) == 2 else b.op("Flatten", p) for p, shape in zip(pieces, shapes, strict=True)]
    return b.op("Concat", *flat, axis=1)


def _part(b: Builder, l: Layer, x: ir.Value, groups: int, part: int) -> ir.Value:
    if groups == 1:
        return x
    channels, _, _ = l.image(x)
    if channels % groups:
        raise l.fail(f"groups={groups} does not divide {channels} channels")
    size = channels // groups
    return b.op("Slice", x, [part * size], [(part + 1) * size], b.const([1], "axes"))


@layer("shortcut")
def shortcut(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """The section before plus earlier ones. Where sizes differ the common part is added, every n-th cell of a map
    that is n times as large."""
    s = l.section
    numbers = s.ints("from")
    if not numbers:
        raise l.fail("from is missing")
    alpha, beta = s.float("alpha", 1.0), s.float("beta", 1.0)
    sources = [l.source(number) for number in numbers]
    weighted = s.str("weights_type", "none")
    s.ignore("weights_normalizion", "weights_normalization")
    if weighted not in ("none", ""):
        factors = _factors(b, l, x, len(sources) + 1, weighted)
        parts = [_only_common(b, l, x, source) for source in sources]
        y = b.op("Mul", x, factors[0])
        for part, factor in zip(parts, factors[1:], strict=True):
            y = b.op("Add", y, b.op("Mul", part, factor))
        return activate(b, l, y, s.str("activation", "linear"))
    y = x
    for source in sources:
        y = _added(b, l, y, source, alpha, beta)
    return activate(b, l, y, s.str("activation", "linear"))


def _added(b: Builder, l: Layer, y: ir.Value, source: ir.Value, alpha: float, beta: float) -> ir.Value:
    """Alpha * y + beta * source where both have cells, y elsewhere."""
    if shape_of(y) == shape_of(source):
        kept = y if alpha == 1 else b.op("Mul", y, alpha)
        return b.op("Add", kept, source if beta == 1 else b.op("Mul", source, beta))
    if alpha != 1:
        y = b.op("Mul", y, _mask(b, l, y, source, alpha))
    part = _only_common(b, l, y, source)
    return b.op("Add", y, part if beta == 1 else b.op("Mul", part, beta))


@dataclass(frozen=True)
class _Common:
    """Where two images meet: channels, cells down and across, their steps in the source and in the target."""

    channels: int
    cells: tuple[int, int]
    stride: int
    sample: int


def _common(l: Layer, to: tuple[int, int, int], of: tuple[int, int, int]) -> _Common:
    stride, sample = max(of[2] // to[2], 1), max(to[2] // of[2], 1)
    if of[2] // to[2] != of[1] // to[1] or to[2] // of[2] != to[1] // of[1]:
        raise l.unsupported(f"a shortcut from {of} to {to}: rows and columns differ by unlike factors")
    high, wide = (min(p, q, (p - 1) // sample + 1, (q - 1) // stride + 1) for p, q in zip(to[1:], of[1:], strict=True))
    return _Common(min(to[0], of[0]), (high, wide), stride, sample)


def _mask(b: Builder, l: Layer, y: ir.Value, source: ir.Value, factor: float) -> ir.Value:
    """``factor`` where y meets the source, 1 elsewhere."""
    to = l.image(y)
    common = _common(l, to, l.image(source))
    l.check_constant(to[0] * to[1] * to[2])
    mask = np.ones((1, *to), np.float32)
    high, wide = (n * common.sample for n in common.cells)
    mask[:, : common.channels, : high : common.sample, : wide : common.sample] = factor
    return b.const(mask, "common")


def _only_common(b: Builder, l: Layer, y: ir.Value, source: ir.Value) -> ir.Value:
    """``source`` in the shape of ``y``, with zeros where it has no cell."""
    if shape_of(y) == shape_of(source):
        return source
    to, of = l.image(y), l.image(source)
    common = _common(l, to, of)
    (high, wide), stride, sample = common.cells, common.stride, common.sample
    ends = (common.channels, (high - 1) * stride + 1, (wide - 1) * stride + 1)
    part = source
    if ends != of or stride > 1:
        steps = b.const([1, stride, stride], "steps")
        part = b.op("Slice", source, [0, 0, 0], list(ends), b.const([1, 2, 3], "axes"), steps)
    shape = (common.channels, high, wide)
    if sample > 1:  # zeros between the cells
        between = b.const([0] * 9 + [sample - 1, 0, sample - 1], "between")
        spread = b.op("Pad", b.reshape(part, [0, common.channels, high, 1, wide, 1]), between)
        part = b.reshape(spread, [0, common.channels, high * sample, wide * sample])
        part = b.op("Slice", part, [0, 0], [to[1], to[2]], b.const([2, 3], "axes"))
        shape = (common.channels, min(high * sample, to[1]), min(wide * sample, to[2]))
    missing = [want - have for want, have in zip(to, shape, strict=True)]
    return b.op("Pad", part, b.const([0, 0, 0, 0, 0, *missing], "missing")) if any(missing) else part


def _factors(b: Builder, l: Layer, x: ir.Value, count: int, kind: str) -> list[ir.Value]:
    """The learnt factor of each source: one number, or one per channel; normalised as asked for."""
    s = l.section
    channels, _, _ = l.image(x)
    if kind not in ("per_feature", "per_layer", "per_channel"):
        raise l.unsupported(f"weights_type={kind!r:.40} is not supported")
    how = s.settings.get("weights_normalization", s.settings.get("weights_normalizion", "none"))
    width = channels if kind == "per_channel" else 1
    weights = l.parameter(b, "weights", (count, width, 1, 1), default=1.0)
    if how in ("relu", "relu_normalization"):
        positive = b.op("Relu", weights)
        total = b.op("Add", b.op("ReduceSum", positive, b.const([0], "axes"), keepdims=1), 1e-4)
        weights = b.op("Div", positive, total)
    elif how in ("softmax", "softmax_normalization"):
        weights = b.op("Softmax", weights, axis=0)
    elif how != "none":
        raise l.unsupported(f"weights_normalization={how!r:.40} is not supported")
    if count == 1:
        return [weights]
    return list(b.op("Split", weights, outputs=count, axis=0, num_outputs=count))


@layer("scale_channels")
def scale_channels(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """An earlier section times one factor per channel, which the section before gives (squeeze and excitation)."""
    s = l.section
    source = l.source(_single(l))
    channels, high, wide = l.image(x)
    to = l.image(source)
    if s.int("scale_wh", 0):
        if (channels, high, wide) != (1, *to[1:]):
            raise l.fail(f"{(channels, high, wide)} does not give one factor per pixel of {to}")
    elif (channels, high, wide) != (to[0], 1, 1):
        raise l.fail(f"{(channels, high, wide)} does not give one factor per channel of {to}")
    return activate(b, l, b.op("Mul", source, x), s.str("activation", "linear"))


@layer("sam")
def sam(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """An earlier section times the section before, cell by cell (spatial attention)."""
    source = l.source(_single(l))
    if l.image(source) != l.image(x):
        raise l.fail(f"shapes {l.image(source)} and {l.image(x)} differ")
    return activate(b, l, b.op("Mul", source, x), l.section.str("activation", "linear"))


def _single(l: Layer) -> int:
    numbers = l.section.ints("from")
    if len(numbers) != 1:
        raise l.fail("from names one section")
    return numbers[0]
