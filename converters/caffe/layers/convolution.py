"""Convolution, deconvolution, their depthwise forms of forks, and im2col.

Rules: base_conv_layer.cpp, conv_layer.cpp, deconv_layer.cpp and im2col_layer.cpp of BVLC Caffe.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from netferry.converters.caffe.params import Params
from netferry.converters.caffe.registry import Layer, layer
from netferry.converters.caffe.windows import Windows, axis_of, check_constant, check_size, read_windows
from netferry.errors import MalformedFile
from netferry.schemas.graph import Builder, Dim, shape_of
from netferry.schemas.ir import ir


@layer("Convolution", "DepthwiseConvolution", "ConvolutionDepthwise", "DepthwiseConv")
def convolution(b: Builder, l: Layer, x: ir.Value, *more: ir.Value) -> tuple[ir.Value, ...]:
    """Convolution over any number of axes; several bottoms share the weights. Depthwise types group by channel."""
    return _each(b, l, (x, *more), transposed=False)


@layer("Deconvolution", "DepthwiseDeconvolution", "DeconvolutionDepthwise")
def deconvolution(b: Builder, l: Layer, x: ir.Value, *more: ir.Value) -> tuple[ir.Value, ...]:
    """Transposed convolution: output size stride * (in - 1) + extent - 2 * pad."""
    return _each(b, l, (x, *more), transposed=True)


def _each(b: Builder, l: Layer, bottoms: Sequence[ir.Value], *, transposed: bool) -> tuple[ir.Value, ...]:
    p = l.param("convolution_param")
    if len(l.tops) != len(bottoms):
        raise MalformedFile(f"{len(bottoms)} bottoms make as many tops, not {len(l.tops)}", layer=l.name)
    x = bottoms[0]
    for other in bottoms[1:]:
        l.same_dims(x, other)
    axis = axis_of(l, x, p.int("axis", 1))
    rank = len(shape_of(x))
    windows = read_windows(l, p, rank - axis - 1)
    channels = l.fixed(x, axis, "the channel axis")
    outputs = p.int("num_output", 0)
    group = p.int("group", 1, least=1)
    if "Depthwise" in l.type:
        group = group if p.has("group") else channels
        outputs = outputs or channels
    if outputs < 1:
        raise MalformedFile(f"num_output {outputs} is below 1", layer=l.name)
    if channels % group or outputs % group:
        raise MalformedFile(f"group {group} does not divide {channels} channels and {outputs} outputs", layer=l.name)
    shape = (channels, outputs // group) if transposed else (outputs, channels // group)
    weight, bias = _weights(b, l, p, (*shape, *windows.kernel), outputs)
    return tuple(_one(b, l, v, axis, windows, weight, bias, outputs, group, transposed) for v in bottoms)


def _weights(b: Builder, l: Layer, p: Params, shape: tuple[int, ...], outputs: int) -> tuple[ir.Value, ir.Value | None]:
    kernel = shape if len(shape) > 2 else (*shape, 1)  # without spatial axes it runs as a 1-D convolution
    unstored = 0.0 if l.has_weights_file else None  # Caffe's default filler is the constant 0
    weight = l.weight(b, "weight", 0, kernel, filler=p.filler("weight_filler"), default=unstored)
    if not p.bool("bias_term", True):
        return weight, None
    return weight, l.weight(b, "bias", 1, (outputs,), filler=p.filler("bias_filler"), default=0.0)


def _one(
    b: Builder,
    l: Layer,
    x: ir.Value,
    axis: int,
    w: Windows,
    weight: ir.Value,
    bias: ir.Value | None,
    outputs: int,
    group: int,
    transposed: bool,
) -> ir.Value:
    """One bottom: N x C x spatial inside, whatever axes lie in front of the channels."""
    dims = shape_of(x)
    spatial = dims[axis + 1 :]
    sizes = tuple(_deconv_size(d, w, i) if transposed else _conv_size(d, w, i) for i, d in enumerate(spatial))
    check_size(l, (*dims[:axis], outputs, *sizes))
    reshaped, source = axis != 1 or not spatial, x
    if reshaped:
        inner = [l.fixed(x, i, f"axis {axis} as the channel axis") for i in range(axis, len(dims))]
        x = b.reshape(x, [-1, *inner, *([] if spatial else [1])])
    pads = [*w.pad, *(_end_pad(d, w, i) if not transposed else w.pad[i] for i, d in enumerate(spatial))]
    y = b.op(
        "ConvTranspose" if transposed else "Conv",
        x,
        weight,
        bias,
        kernel_shape=list(w.kernel) or [1],
        strides=list(w.stride) or [1],
        pads=pads or [0, 0],
        dilations=list(w.dilation) or [1],
        group=group,
    )
    return restore_front(b, y, source, axis, (outputs, *sizes)) if reshaped else y


def restore_front(b: Builder, y: ir.Value, x: ir.Value, axis: int, rest: Sequence[Dim]) -> ir.Value:
    """Reshape ``y`` to the first ``axis`` dimensions of ``x`` followed by ``rest``, which is static."""
    front = shape_of(x)[:axis]
    tail = [d for d in rest if isinstance(d, int)]
    if sum(not isinstance(d, int) for d in front) > 1:
        parts = (b.op("Shape", x, start=0, end=axis), b.const(tail, "shape", dtype=np.int64))
        target = b.op("Concat", *parts, axis=0, types=[(ir.DataType.INT64, [axis + len(tail)])])
    else:
        target = b.const([*(d if isinstance(d, int) else -1 for d in front), *tail], "shape", dtype=np.int64)
    return b.op("Reshape", y, target, types=[(ir.DataType.FLOAT, [*front, *tail])])


def _conv_size(size: Dim, w: Windows, i: int) -> Dim:
    """Output size; C's division rounds toward zero, so a window larger than its input can still give one pixel."""
    if not isinstance(size, int):
        return size
    room = size + 2 * w.pad[i] - w.extent[i]
    return (room // w.stride[i] if room >= 0 else -(-room // w.stride[i])) + 1


def _deconv_size(size: Dim, w: Windows, i: int) -> Dim:
    return w.stride[i] * (size - 1) + w.extent[i] - 2 * w.pad[i] if isinstance(size, int) else size


def _end_pad(size: Dim, w: Windows, i: int) -> int:
    """Padding behind: as declared, or so much that the one window fits (see :func:`_conv_size`)."""
    missing = w.extent[i] - (size + 2 * w.pad[i]) if isinstance(size, int) else 0
    return w.pad[i] + max(missing, 0)


@layer("Im2col")
def im2col(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """Every window's pixels as channels (C, kernel taps), zeros in the padding."""
    p = l.param("convolution_param")
    p.ignore("num_output", "bias_term", "group")
    dims = shape_of(x)
    axis = axis_of(l, x, p.int("axis", 1))
    count = len(dims) - axis - 1
    w = read_windows(l, p, count)
    channels = l.fixed(x, axis, "im2col")
    sizes: list[int] = []
    for i in range(count):
        size = _conv_size(l.fixed(x, axis + 1 + i, "im2col"), w, i)
        sizes.append(size if isinstance(size, int) else 0)
    taps = channels * math.prod(w.kernel)
    check_size(l, (*dims[:axis], taps, *sizes))
    for k, size in zip(w.kernel, sizes, strict=True):
        check_constant(l, k * size)
    if count == 0:
        return b.op("Identity", x)
    source = x
    ends = [_end_pad(dims[axis + 1 + i], w, i) for i in range(count)]
    if any(w.pad) or any(ends):
        before = [0] * (axis + 1)
        x = b.op("Pad", x, b.const([*before, *w.pad, *before, *ends], "pads"))
    for i in range(count):  # each spatial axis becomes two: taps, positions
        places = np.arange(w.kernel[i])[:, None] * w.dilation[i] + np.arange(sizes[i])[None] * w.stride[i]
        x = b.op("Gather", x, b.const(places.astype(np.int64), "places"), axis=axis + 1 + 2 * i)
    front = range(axis + 1)
    order = [*front, *(axis + 1 + 2 * i for i in range(count)), *(axis + 2 + 2 * i for i in range(count))]
    if count > 1:
        x = b.op("Transpose", x, perm=order)
    return restore_front(b, x, source, axis, (taps, *sizes))
