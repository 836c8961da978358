"""Convolutions: plain, depthwise and separable, of one to three dimensions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from netferry.converters.keras.layer import Layer
from netferry.converters.keras.layers.activation import activate
from netferry.converters.keras.layers.padding import padding_of
from netferry.converters.keras.layout import KT, channels_first, channels_last_to_first, depthwise_to_first
from netferry.converters.keras.registry import Slot, kernel_and_bias, layer
from netferry.converters.keras.spec import Spec
from netferry.errors import MalformedFile
from netferry.schemas.graph import Builder, shape_of
from netferry.schemas.ir import ir

Transform = Callable[[np.ndarray], np.ndarray]


def spatial_rank(l: Layer) -> int:
    """Number of dimensions of space, from the class name (Conv2D: 2)."""
    return next(int(c) for c in l.type if c.isdigit())


def turned(l: Layer, transform: Transform, rank: int) -> Transform:
    """Turn kernels by 180 degrees where Theano wrote them: it convolves, the others correlate."""
    if l.facts.backend != "theano":
        return transform
    space = tuple(range(rank))
    return lambda kernel: transform(np.flip(kernel, space))


@layer("Conv1D", "Conv2D", "Conv3D", weights=kernel_and_bias, mask="drop")
def conv(b: Builder, l: Layer, x: KT) -> KT:
    """Convolution of any dimension, with strides, dilation and groups."""
    rank = spatial_rank(l)
    filters = l.config.integer("filters", least=1)
    kernel = l.config.integers("kernel_size", rank, least=1)
    l.rank(x, rank + 2)
    data_format = l.data_format()
    order = channels_first(rank + 2, data_format)
    channels = l.dim(x, order[1])
    groups = l.config.integer("groups", 1, least=1)
    if channels % groups or filters % groups:
        raise MalformedFile(
            f"{channels} channels and {filters} filters do not divide into {groups} groups", layer=l.path
        )
    weight = l.weight(
        b, "kernel", "weight", (*kernel, channels // groups, filters), transform=turned(l, channels_last_to_first, rank)
    )
    bias = l.weight(b, "bias", "bias", (filters,)) if l.config.flag("use_bias", True) else None
    made = convolve(b, l, x, weight, bias, kernel, order, groups=groups)
    return activate(b, l, made, l.config.take("activation", None))


def convolve(
    b: Builder,
    l: Layer,
    x: KT,
    weight: ir.Value,
    bias: ir.Value | None,
    kernel: tuple[int, ...],
    order: tuple[int, ...],
    *,
    groups: int = 1,
) -> KT:
    """A Conv node with the layer's strides, dilation and padding over ``x`` in channels-first ``order``."""
    rank = len(kernel)
    strides = l.config.integers("strides", rank, 1, least=1, also=("subsample", "subsample_length"))
    dilation = l.config.integers("dilation_rate", rank, 1, least=1, also=("atrous_rate",))
    allowed = ("valid", "same", "causal") if rank == 1 else ("valid", "same")
    kind = l.config.choice("padding", "valid", *allowed, also=("border_mode",))
    value = x.to(b, order)
    padding = padding_of(kind, shape_of(value)[2:], kernel, strides, dilation)
    made = b.op(
        "Conv",
        value,
        weight,
        bias,
        kernel_shape=list(kernel),
        strides=list(strides) if any(s != 1 for s in strides) else None,
        dilations=list(dilation) if any(d != 1 for d in dilation) else None,
        group=groups if groups != 1 else None,
        **padding.attributes,
    )
    return KT(made, order)


def _depthwise_slots(spec: Spec) -> list[Slot]:
    kernel = Slot("kernel" if spec.generation == 3 else "depthwise_kernel")
    return [kernel, Slot("bias")] if spec.config.get("use_bias", True) else [kernel]


@layer("DepthwiseConv1D", "DepthwiseConv2D", weights=_depthwise_slots)
def depthwise(b: Builder, l: Layer, x: KT) -> KT:
    """One kernel (or several) per channel."""
    rank = spatial_rank(l)
    kernel = l.config.integers("kernel_size", rank, least=1)
    multiplier = l.config.integer("depth_multiplier", 1, least=1)
    l.config.ignore("groups", "filters")
    l.rank(x, rank + 2)
    order = channels_first(rank + 2, l.data_format())
    channels = l.dim(x, order[1])
    slot = "kernel" if l.generation == 3 else "depthwise_kernel"
    weight = l.weight(b, slot, "weight", (*kernel, channels, multiplier), transform=turned(l, depthwise_to_first, rank))
    bias = l.weight(b, "bias", "bias", (channels * multiplier,)) if l.config.flag("use_bias", True) else None
    made = convolve(b, l, x, weight, bias, kernel, order, groups=channels)
    return activate(b, l, made, l.config.take("activation", None))


def _separable_slots(spec: Spec) -> list[Slot]:
    slots = [Slot("depthwise_kernel"), Slot("pointwise_kernel")]
    return [*slots, Slot("bias")] if spec.config.get("use_bias", spec.config.get("bias", True)) else slots


@layer(
    "SeparableConv1D", "SeparableConv2D", "SeparableConvolution1D", "SeparableConvolution2D", weights=_separable_slots
)
def separable(b: Builder, l: Layer, x: KT) -> KT:
    """A depthwise convolution, then one of size 1; the bias comes at the end only."""
    rank = spatial_rank(l)
    filters = l.config.integer("filters", least=1, also=("nb_filter",))
    kernel = kernel_size(l, rank)
    multiplier = l.config.integer("depth_multiplier", 1, least=1)
    l.config.ignore("groups")
    l.rank(x, rank + 2)
    order = channels_first(rank + 2, l.data_format())
    channels = l.dim(x, order[1])
    inner = channels * multiplier
    first = l.weight(
        b,
        "depthwise_kernel",
        "depthwise.weight",
        (*kernel, channels, multiplier),
        transform=turned(l, depthwise_to_first, rank),
    )
    second = l.weight(
        b, "pointwise_kernel", "weight", (*([1] * rank), inner, filters), transform=channels_last_to_first
    )
    bias = l.weight(b, "bias", "bias", (filters,)) if l.config.flag("use_bias", True, also=("bias",)) else None
    middle = convolve(b, l, x, first, None, kernel, order, groups=channels)
    made = KT(b.op("Conv", middle.value, second, bias, kernel_shape=[1] * rank), order)
    return activate(b, l, made, l.config.take("activation", None))


def kernel_size(l: Layer, rank: int) -> tuple[int, ...]:
    """Kernel size; Keras 1 has ``nb_row`` and ``nb_col``, ``filter_length``, ``kernel_dim1`` …"""
    if "nb_row" in l.config:
        return (l.config.integer("nb_row", least=1), l.config.integer("nb_col", least=1))
    if "kernel_dim1" in l.config:
        return tuple(l.config.integer(f"kernel_dim{i}", least=1) for i in (1, 2, 3))
    return l.config.integers("kernel_size", rank, least=1, also=("filter_length",))
