"""Pooling: over windows, over everything, and to a given size."""

from __future__ import annotations

from collections.abc import Sequence

from netferry.converters.keras.layer import Layer
from netferry.converters.keras.layers.convolution import spatial_rank
from netferry.converters.keras.layers.padding import padding_of
from netferry.converters.keras.layout import KT, Order, channels_first, identity
from netferry.converters.keras.registry import layer
from netferry.schemas.graph import Builder, shape_of
from netferry.schemas.ir import ir


def _windows(b: Builder, l: Layer, x: KT, op: str) -> KT:
    rank = spatial_rank(l)
    l.rank(x, rank + 2)
    size = l.config.integers("pool_size", rank, 2, least=1, also=("pool_length",))
    given = l.config.take("strides", None, also=("stride",))
    strides = size if given is None else l.config.integers("strides", rank, least=1, also=("stride",))
    kind = l.config.choice("padding", "valid", "valid", "same", also=("border_mode",))
    order = channels_first(rank + 2, l.data_format())
    value = x.to(b, order)
    _keep_apart(b, value)
    padding = padding_of(kind, shape_of(value)[2:], size, strides, [1] * rank)
    made = b.op(
        op,
        value,
        kernel_shape=list(size),
        strides=list(strides) if any(s != 1 for s in strides) else None,
        **padding.attributes,
    )
    return KT(made, order)


def _keep_apart(b: Builder, value: ir.Value) -> None:
    """Name the axes of a Pad in front of a pooling.

    onnxruntime 1.31 fuses the two. A MaxPool then pads with -infinity, which is wrong where all values of a window are
    negative; a pooling whose window is no wider than the padding does not load. It leaves a Pad that names its axes
    alone.
    """
    node = value.producer()
    if node is not None and node.op_type == "Pad" and len(node.inputs) < 4:
        node.resize_inputs(4)
        node.replace_input_with(3, b.const(list(range(len(shape_of(value)))), "axes"))


@layer("MaxPooling1D", "MaxPooling2D", "MaxPooling3D", "MaxPool1D", "MaxPool2D", "MaxPool3D")
def max_pooling(b: Builder, l: Layer, x: KT) -> KT:
    """Largest value of each window."""
    return _windows(b, l, x, "MaxPool")


@layer("AveragePooling1D", "AveragePooling2D", "AveragePooling3D", "AvgPool1D", "AvgPool2D", "AvgPool3D")
def average_pooling(b: Builder, l: Layer, x: KT) -> KT:
    """Mean of each window, padding not counted."""
    return _windows(b, l, x, "AveragePool")


def _everything(b: Builder, l: Layer, x: KT, op: str) -> KT:
    rank = spatial_rank(l)
    l.rank(x, rank + 2)
    order = channels_first(rank + 2, l.data_format())
    keep = l.config.flag("keepdims", False)
    if op == "GlobalAveragePool" and rank == 1 and x.mask is not None and l.generation >= 2:
        return _masked_mean(b, x, keep)
    made = b.op(op, x.to(b, order))
    return KT(made, order) if keep else KT(b.op("Flatten", made), identity(2), wide=made)


def _masked_mean(b: Builder, x: KT, keep: bool) -> KT:
    """Mean over the steps that count."""
    assert x.mask is not None
    weights = b.op("Cast", x.mask.value(b), to=int(ir.DataType.FLOAT))
    axes = b.const([1], "axes")
    total = b.op(
        "ReduceSum",
        b.op("Mul", x.logical(b), b.op("Unsqueeze", weights, b.const([2], "axes"))),
        axes,
        keepdims=int(keep),
    )
    number = b.op("ReduceSum", weights, axes, keepdims=1)
    if keep:
        number = b.op("Unsqueeze", number, b.const([2], "axes"))
    return KT.of(b.op("Div", total, number))


@layer(
    "GlobalAveragePooling1D", "GlobalAveragePooling2D", "GlobalAveragePooling3D",
    "GlobalAvgPool1D", "GlobalAvgPool2D", "GlobalAvgPool3D",
)  # fmt: skip
def global_average_pooling(b: Builder, l: Layer, x: KT) -> KT:
    """Mean over all of space; in one dimension over the steps that the mask keeps."""
    return _everything(b, l, x, "GlobalAveragePool")


@layer(
    "GlobalMaxPooling1D", "GlobalMaxPooling2D", "GlobalMaxPooling3D",
    "GlobalMaxPool1D", "GlobalMaxPool2D", "GlobalMaxPool3D",
)  # fmt: skip
def global_max_pooling(b: Builder, l: Layer, x: KT) -> KT:
    """Largest value over all of space."""
    return _everything(b, l, x, "GlobalMaxPool")


def _adaptive(b: Builder, l: Layer, x: KT, op: str) -> KT:
    rank = spatial_rank(l)
    l.rank(x, rank + 2)
    target = l.config.integers("output_size", rank, least=1)
    order: Order = channels_first(rank + 2, l.data_format())
    sizes = [l.dim(x, order[2 + i], "the size of space") for i in range(rank)]
    return KT(adaptive(b, x.to(b, order), sizes, target, op), order)


def adaptive(b: Builder, value: ir.Value, sizes: Sequence[int], target: Sequence[int], op: str) -> ir.Value:
    """``Mean`` or ``Max`` of windows of (batch, channels, space …) that cover all, ``target`` of them along space."""
    if all(size % want == 0 for size, want in zip(sizes, target, strict=True)):
        step = [size // want for size, want in zip(sizes, target, strict=True)]
        return b.op("AveragePool" if op == "Mean" else "MaxPool", value, kernel_shape=step, strides=step)
    for i, (size, want) in enumerate(zip(sizes, target, strict=True)):
        value = _pieces(b, value, 2 + i, size, want, op)
    return value


def _pieces(b: Builder, value: ir.Value, axis: int, size: int, want: int, op: str) -> ir.Value:
    """Reduce pieces [floor(i * size / want), ceil((i + 1) * size / want)) of one axis; windows may overlap."""
    axes = b.const([axis], "axes")
    parts: list[ir.Value] = []
    for i in range(want):
        start, end = i * size // want, -(-(i + 1) * size // want)
        piece = b.op("Slice", value, b.const([start], "starts"), b.const([end], "ends"), axes)
        parts.append(b.op(f"Reduce{op}", piece, axes, keepdims=1))
    return parts[0] if want == 1 else b.op("Concat", *parts, axis=axis)


@layer("AdaptiveAveragePooling1D", "AdaptiveAveragePooling2D", "AdaptiveAveragePooling3D")
def adaptive_average_pooling(b: Builder, l: Layer, x: KT) -> KT:
    """Mean of ``output_size`` windows that cover all."""
    return _adaptive(b, l, x, "Mean")


@layer("AdaptiveMaxPooling1D", "AdaptiveMaxPooling2D", "AdaptiveMaxPooling3D")
def adaptive_max_pooling(b: Builder, l: Layer, x: KT) -> KT:
    """Largest value of ``output_size`` windows that cover all."""
    return _adaptive(b, l, x, "Max")
