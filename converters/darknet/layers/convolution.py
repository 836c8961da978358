"""Convolution, transposed convolution, locally connected and fully connected layers.

Rules: convolutional_layer.c, deconvolutional_layer.c, local_layer.c and connected_layer.c of pjreddie/darknet; groups,
``stride_x``, ``stride_y``, ``dilation`` and ``share_index`` as in AlexeyAB's fork.
"""

from __future__ import annotations

import numpy as np

from netferry.converters.darknet.layers.activation import activate
from netferry.converters.darknet.layers.normalization import normalise, read_normalisation
from netferry.converters.darknet.registry import Layer, layer
from netferry.schemas.graph import Builder, shape_of
from netferry.schemas.ir import ir
from netferry.schemas.tensors import computed_tensor, filler_of


def strides(l: Layer) -> tuple[int, int]:
    """Return the strides down and across: ``stride``, or ``stride_y`` and ``stride_x``."""
    s = l.section
    both = s.int("stride", 1, least=1)
    return s.int("stride_y", both, least=1), s.int("stride_x", both, least=1)


def _padding(l: Layer, size: int) -> int:
    """``pad=1`` means half the kernel and beats ``padding``."""
    given = l.section.int("padding", 0, least=0)
    return size // 2 if l.section.int("pad", 0) else given


def _refuse_transfer(l: Layer) -> None:
    for key in ("numload", "dontloadscales"):
        if l.section.int(key, 0):
            raise l.unsupported(f"{key} is not supported: it reads a part of another net's weights")


@layer("convolutional", "conv")
def convolutional(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """Convolution with groups, batch normalisation, any activation; binary and xnor weights."""
    s = l.section
    channels, high, wide = l.image(x)
    n, size, groups = s.int("filters", 1, least=1), s.int("size", 1, least=1), s.int("groups", 1, least=1)
    (down, across), padding = strides(l), _padding(l, size)
    dilation = 1 if size == 1 else s.int("dilation", 1, least=1)
    for key in ("antialiasing", "assisted_excitation", "sway", "rotate", "stretch", "stretch_sway", "deform", "cbn"):
        if s.float(key, 0):
            raise l.unsupported(f"{key} is not supported")
    s.ignore("dot", "angle", "bin_output", "reverse", "coordconv")
    _refuse_transfer(l)
    if channels % groups or n % groups:
        raise l.fail(f"groups={groups} divides not both {channels} channels and {n} filters")
    out = tuple((d + 2 * padding - size) // step + 1 for d, step in ((high, down), (wide, across)))
    reach = dilation * (size - 1) + 1
    real = tuple((d + 2 * padding * dilation - reach) // step + 1 for d, step in ((high, down), (wide, across)))
    l.check((n, *out))
    if out != real:
        raise l.unsupported(
            f"dilation={dilation} with padding {padding}: Darknet itself counts {out} and {real} pixels"
        )
    shape = (n, channels // groups, size, size)
    shared = s.int("share_index", -1_000_000_000)
    if shared != -1_000_000_000:
        return _shared(b, l, x, shared, shape, padding * dilation, (down, across), dilation, groups)
    bias = l.tensor("biases", (n,), default=0.0)
    found = read_normalisation(l, n) if s.int("batch_normalize", 0) else None
    flipped = (channels // groups * size * size, n) if s.int("flipped", 0) else None
    weights = l.tensor("weights", shape, stored=flipped)
    xnor, binary = s.int("xnor", 0), s.int("binary", 0)
    if xnor:
        x = b.op("Where", b.op("Greater", x, 0.0), b.const(1.0, "plus"), b.const(-1.0, "minus"))
    if xnor or binary:
        weights = _binarised(weights, shape)
        l.note("folded", "each filter's weights became plus or minus their mean size, as binary and xnor say")
    settings = {
        "kernel_shape": (size, size),
        "strides": (down, across),
        "pads": [padding * dilation] * 4,
        "dilations": (dilation, dilation),
        "group": groups,
    }
    kernel = b.param("weights", weights)
    if found is None:
        y = b.op("Conv", x, kernel, b.param("biases", bias), **settings)
    else:
        y = normalise(b, b.op("Conv", x, kernel, **settings), found, bias)
    return activate(b, l, y, s.str("activation", "logistic"))


def _shared(
    b: Builder,
    l: Layer,
    x: ir.Value,
    number: int,
    shape: tuple[int, ...],
    padding: int,
    step: tuple[int, int],
    dilation: int,
    groups: int,
) -> ir.Value:
    """A convolution with the parameters of another section: AlexeyAB's ``share_index``."""
    index = number if number >= 0 else l.index + number
    if not 0 <= index < l.index:
        raise l.fail(f"share_index={number} is no section before this one")
    other = f"layer_{index}"
    nodes = [n for n in b.graph if n.metadata_props.get("netferry.layer") == other]
    conv = next((n for n in nodes if n.op_type == "Conv"), None)
    if conv is None:
        raise l.fail(f"share_index={number} is no convolution")
    kernel = conv.inputs[1]
    if kernel is None or tuple(shape_of(kernel)) != shape:
        raise l.fail(f"shares the weights of {other}, but needs shape {shape}")
    bias = conv.inputs[2] if len(conv.inputs) > 2 else None
    y = b.op(
        "Conv", x, kernel, bias,
        kernel_shape=shape[2:], strides=step, pads=[padding] * 4, dilations=(dilation, dilation), group=groups,
    )  # fmt: skip
    norm = next((n for n in nodes if n.op_type == "BatchNormalization"), None)
    l.section.ignore("batch_normalize")
    if norm is not None:
        y = b.op("BatchNormalization", y, *norm.inputs[1:], epsilon=norm.attributes["epsilon"].as_float())
    return activate(b, l, y, l.section.str("activation", "logistic"))


def _binarised(weights: ir.TensorProtocol, shape: tuple[int, ...]) -> ir.TensorProtocol:
    """Every filter's weights as plus or minus the mean of their absolute values (binarize_weights)."""
    if filler_of(weights) is not None:
        return weights

    def values() -> np.ndarray:
        stored = np.array(weights.numpy(), np.float32).reshape(shape)
        if isinstance(weights, ir.ExternalTensor):
            weights.release()
        means = np.abs(stored).mean((1, 2, 3), keepdims=True, dtype=np.float32)
        return np.where(stored > 0, means, -means)

    return computed_tensor(values, ir.DataType.FLOAT, shape)


@layer("deconvolutional", "deconv")
def deconvolutional(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """Transposed convolution: (size - 1) * stride + kernel - 2 * padding pixels."""
    s = l.section
    channels, high, wide = l.image(x)
    n, size, step = s.int("filters", 1, least=1), s.int("size", 1, least=1), s.int("stride", 1, least=1)
    padding = _padding(l, size)
    _refuse_transfer(l)
    l.check((n, *((d - 1) * step + size - 2 * padding for d in (high, wide))))
    bias = l.tensor("biases", (n,), default=0.0)
    found = read_normalisation(l, n) if s.int("batch_normalize", 0) else None
    weights = b.param("weights", l.tensor("weights", (channels, n, size, size)))
    settings = {"kernel_shape": (size, size), "strides": (step, step), "pads": [padding] * 4}
    if found is None:
        y = b.op("ConvTranspose", x, weights, b.param("biases", bias), **settings)
    else:
        y = normalise(b, b.op("ConvTranspose", x, weights, **settings), found, bias)
    return activate(b, l, y, s.str("activation", "logistic"))


@layer("local")
def local(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """Locally connected: a kernel and a bias of its own for every output pixel."""
    s = l.section
    channels, high, wide = l.image(x)
    n, size, step = s.int("filters", 1, least=1), s.int("size", 1, least=1), s.int("stride", 1, least=1)
    pad = s.int("pad", 0, least=0)
    out = tuple((d - (1 if pad else size)) // step + 1 for d in (high, wide))
    real = tuple((d + 2 * pad - size) // step + 1 for d in (high, wide))
    l.check((n, *out))
    if out != real:
        raise l.unsupported(f"pad={pad} with size={size}: Darknet itself counts {out} and {real} pixels")
    places, taps = out[0] * out[1], channels * size * size
    l.check((places, n, taps))
    bias = l.parameter(b, "biases", (1, n, *out), default=0.0)
    weights = l.parameter(b, "weights", (places, n, taps))
    l.check_constant(taps * size * size)
    pick = np.tile(np.eye(size * size, dtype=np.float32).reshape(-1, 1, size, size), (channels, 1, 1, 1))
    pixels = b.op(
        "Conv", x, b.const(pick, "taps"),
        kernel_shape=(size, size), strides=(step, step), pads=[pad] * 4, group=channels,
    )  # fmt: skip
    columns = b.op("Transpose", b.reshape(pixels, [0, taps, places]), perm=[2, 1, 0])  # (places, taps, batch)
    y = b.op("Transpose", b.op("MatMul", weights, columns), perm=[2, 1, 0])
    y = b.op("Add", b.reshape(y, [0, n, *out]), bias)
    return activate(b, l, y, s.str("activation", "logistic"))


@layer("connected", "conn")
def connected(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """Fully connected over channels, rows and columns, with batch normalisation."""
    s = l.section
    outputs, inputs = s.int("output", 1, least=1), l.features(x)
    _refuse_transfer(l)
    l.check((outputs, 1, 1))
    bias = l.tensor("biases", (outputs,), default=0.0)
    weights = l.tensor("weights", (outputs, inputs), stored=transposed(l, inputs, outputs))
    found = read_normalisation(l, outputs) if s.int("batch_normalize", 0) else None
    rank = len(shape_of(x))
    flat = b.reshape(x, [-1, inputs]) if rank == 3 else b.op("Flatten", x) if rank == 4 else x
    kernel = b.param("weights", weights)
    if found is None:
        y = b.op("Gemm", flat, kernel, b.param("biases", bias), transB=1)
    else:
        y = normalise(b, b.op("Gemm", flat, kernel, transB=1), found, bias)
    y = activate(b, l, y, s.str("activation", "logistic"))
    if rank == 3:  # (time, batch, features): the sizes come from the input
        front = b.op("Shape", x, start=0, end=2)
        shape = b.op("Concat", front, b.const([outputs], "outputs"), axis=0)
        return b.op("Reshape", y, shape, types=[(ir.DataType.FLOAT, (*shape_of(x)[:2], outputs))])
    return b.reshape(y, [0, outputs, 1, 1]) if rank == 4 else y


def transposed(l: Layer, inputs: int, outputs: int) -> tuple[int, int] | None:
    """How a connected layer's matrix is stored, where it has to be transposed."""
    return (inputs, outputs) if l.weights is not None and l.weights.header.transposed else None
