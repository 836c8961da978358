"""Layers as Keras 1 spelled them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from netferry.converters.keras.layer import Layer
from netferry.converters.keras.layers.activation import activate
from netferry.converters.keras.layers.convolution import convolve, kernel_size
from netferry.converters.keras.layers.dense import dense
from netferry.converters.keras.layout import KT, channels_first, channels_last_to_first
from netferry.converters.keras.registry import Slot, kernel_and_bias, layer
from netferry.converters.keras.spec import Spec
from netferry.errors import MalformedFile
from netferry.schemas.graph import Builder, shape_of


def old_kernel(l: Layer, order: str, rank: int) -> Callable[[np.ndarray], np.ndarray]:
    """From Keras 1's file to ONNX's order: ``th`` files hold (out, in, space), turned where Theano wrote them."""
    turn = l.facts.backend == "theano"
    if order == "channels_first" and l.generation == 1 and rank > 1:
        return (lambda k: np.flip(k, tuple(range(2, 2 + rank)))) if turn else (lambda k: k)
    space = tuple(range(rank))
    return (lambda k: channels_last_to_first(np.flip(k, space))) if turn else channels_last_to_first


@layer(
    "Convolution1D", "Convolution2D", "Convolution3D", "AtrousConvolution1D", "AtrousConvolution2D",
    weights=kernel_and_bias,
)  # fmt: skip
def convolution(b: Builder, l: Layer, x: KT) -> KT:
    """Convolution with Keras 1's settings (nb_filter, nb_row, border_mode, subsample, dim_ordering)."""
    rank = next(int(c) for c in l.type if c.isdigit())
    filters = l.config.integer("filters", least=1, also=("nb_filter",))
    kernel = kernel_size(l, rank)
    l.rank(x, rank + 2)
    l.config.ignore("input_dim", "input_length")
    data_format = l.data_format()
    order = channels_first(rank + 2, data_format)
    channels = l.dim(x, order[1])
    turned = l.generation == 1 and data_format == "channels_first" and rank > 1
    stored = (filters, channels, *kernel) if turned else (*kernel, channels, filters)
    if rank == 1 and l.generation == 1:
        stored = (*kernel, channels, filters)
    weight = l.weight(b, "kernel", "weight", stored, transform=old_kernel(l, data_format, rank))
    bias = l.weight(b, "bias", "bias", (filters,)) if l.config.flag("use_bias", True, also=("bias",)) else None
    return activate(b, l, convolve(b, l, x, weight, bias, kernel, order), l.config.take("activation", None))


@layer("Deconvolution2D", weights=kernel_and_bias)
def deconvolution(b: Builder, l: Layer, x: KT) -> KT:
    """Transposed convolution to a declared output shape."""
    filters = l.config.integer("nb_filter", least=1)
    kernel = kernel_size(l, 2)
    strides = l.config.integers("subsample", 2, 1, least=1)
    kind = l.config.choice("border_mode", "valid", "valid", "same")
    data_format = l.data_format()
    order = channels_first(4, data_format)
    l.rank(x, 4)
    channels = l.dim(x, order[1])
    shape = l.config.take("output_shape")
    if not isinstance(shape, list) or len(shape) != 4:
        raise l.config.bad("output_shape", shape, "four dimensions")
    first = data_format == "channels_first" and l.generation == 1
    stored = (channels, filters, *kernel) if first else (*kernel, filters, channels)
    turn = l.facts.backend == "theano"

    def transform(k: np.ndarray) -> np.ndarray:
        k = k if first else np.moveaxis(k, (-1, -2), (0, 1))
        return np.flip(k, (2, 3)) if turn else k

    weight = l.weight(b, "kernel", "weight", stored, transform=transform)
    bias = l.weight(b, "bias", "bias", (filters,)) if l.config.flag("bias", True) else None
    value = x.to(b, order)
    begins, ends, more = [], [], []
    for i in range(2):
        size, want = shape_of(value)[2 + i], shape[order[2 + i]]
        if not isinstance(size, int) or not isinstance(want, int):
            raise MalformedFile("Deconvolution2D needs fixed sizes", layer=l.path)
        cut = (size - 1) * strides[i] + kernel[i] - want
        front = cut // 2 if kind == "same" else 0
        begins.append(max(front, 0) if cut > 0 else 0)
        ends.append(cut - begins[-1] if cut > 0 else 0)
        more.append(max(-cut, 0))
    made = b.op("ConvTranspose", value, weight, bias, kernel_shape=list(kernel), strides=list(strides),
                pads=begins + ends, output_padding=more if any(more) else None)  # fmt: skip
    return activate(b, l, KT(made, order), l.config.take("activation", None))


@layer("TimeDistributedDense", weights=kernel_and_bias, mask="keep")
def time_distributed_dense(b: Builder, l: Layer, x: KT) -> KT:
    """Dense on every step."""
    return dense(b, l, x)


@layer("MaxoutDense", weights=kernel_and_bias)
def maxout(b: Builder, l: Layer, x: KT) -> KT:
    """Largest of nb_feature linear maps."""
    units = l.config.integer("output_dim", least=1)
    pieces = l.config.integer("nb_feature", 4, least=1)
    l.config.ignore("input_dim")
    l.rank(x, 2)
    size = l.dim(x, -1)
    kernel = l.weight(b, "kernel", "weight", (pieces, size, units))
    made = b.op("MatMul", x.logical(b), kernel)
    if l.config.flag("bias", True):
        made = b.op("Add", made, l.weight(b, "bias", "bias", (pieces, units), transform=lambda a: a[:, None, :]))
    return KT.of(b.op("ReduceMax", made, b.const([0], "axes"), keepdims=0))


def _highway_slots(spec: Spec) -> list[Slot]:
    slots = [Slot("W"), Slot("W_carry")]
    return [*slots, Slot("b"), Slot("b_carry")] if spec.config.get("bias", True) else slots


@layer("Highway", weights=_highway_slots)
def highway(b: Builder, l: Layer, x: KT) -> KT:
    """gate * f(x) + (1 - gate) * x, the gate a sigmoid of x."""
    size = l.dim(x, -1)
    l.config.ignore("input_dim", "transform_bias")
    biased = l.config.flag("bias", True)
    value = x.logical(b)

    def affine(matrix: str, vector: str, name: str) -> KT:
        kernel = l.weight(b, matrix, f"{name}.weight", (size, size))
        bias = l.weight(b, vector, f"{name}.bias", (size,)) if biased else None
        return KT.of(b.op("Gemm", value, kernel, bias) if bias is not None else b.op("MatMul", value, kernel))

    gate = b.op("Sigmoid", affine("W_carry", "b_carry", "carry").value)
    made = activate(b, l, affine("W", "b", "transform"), l.config.take("activation", "linear")).value
    rest = b.op("Sub", b.const(1.0, "one"), gate)
    return KT.of(b.op("Add", b.op("Mul", made, gate), b.op("Mul", rest, value)))
