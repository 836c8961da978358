"""Batch normalisation: BVLC's (sums with a factor), NVIDIA's with scale and bias, and the BN of segmentation forks.

Rules: batch_norm_layer.cpp of BVLC Caffe; NVIDIA Caffe's blobs 3 and 4; bn_layer.cpp of the PSPNet and SegNet forks.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from netferry.converters.caffe.params import Params
from netferry.converters.caffe.registry import Layer, layer
from netferry.converters.caffe.windows import check_constant
from netferry.errors import MalformedFile
from netferry.schemas.graph import Builder, shape_of
from netferry.schemas.ir import ir
from netferry.schemas.layers import Role
from netferry.schemas.tensors import uninitialised_tensor


@layer("BatchNorm")
def batch_norm(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """Normalise by the stored mean and variance; by those of the batch where use_global_stats is false."""
    p = l.param("batch_norm_param")
    channels = _channels(l, x)
    eps = p.float("eps", 1e-5)
    affine = p.bool("scale_bias", False) or len(l.blobs) == 5 or p.has("scale_filler") or p.has("bias_filler")
    weight = bias = None
    if affine:
        weight = l.weight(b, "weight", 3, (channels,), filler=p.filler("scale_filler"), default=1.0)
        bias = l.weight(b, "bias", 4, (channels,), filler=p.filler("bias_filler"), default=0.0)
    if not p.bool("use_global_stats", True):
        l.ignore_blobs("use_global_stats is false: the stored statistics are not used, those of the batch are")
        return _affine(b, _by_batch(b, x, eps), weight, bias)
    return _by_stored(b, l, x, eps, weight, bias, _statistics(b, l, channels))


@layer("BN")
def bn(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """PSPNet's BN (slope, bias, mean, variance), or SegNet's (scale and shift; LEARN uses the batch's statistics)."""
    p = l.param("bn_param")
    channels = _channels(l, x)
    p.ignore("momentum", "frozen")
    learn = p.enum("bn_mode", ("LEARN", "INFERENCE"), "LEARN") == "LEARN"
    segnet = any(p.has(name) for name in ("bn_mode", "scale_filler", "shift_filler"))
    two = len(l.blobs) == 2 if l.blobs else segnet
    weight = l.weight(b, "weight", 0, (channels,), filler=_filler(p, "slope_filler", "scale_filler"), default=1.0)
    bias = l.weight(b, "bias", 1, (channels,), filler=_filler(p, "bias_filler", "shift_filler"), default=0.0)
    if two:
        eps = p.float("eps", 1e-9)
        return _affine(b, _by_batch(b, x, eps) if learn else x, weight, bias)
    eps = p.float("eps", 1e-5)
    if l.blobs or l.has_weights_file:
        mean = l.weight(b, "running_mean", 2, (channels,), default=0.0, role=Role.STATE)
        variance = l.weight(b, "running_var", 3, (channels,), default=1.0, role=Role.STATE)
        return _by_stored(b, l, x, eps, weight, bias, _Statistics(mean, variance))
    return _by_stored(b, l, x, eps, weight, bias, _unknown(b, channels))


class _Statistics(NamedTuple):
    mean: ir.Value
    variance: ir.Value


def _filler(p: Params, *names: str) -> dict[str, object] | None:
    found = [p.filler(name) for name in names]
    return next((f for f in found if f is not None), None)


def _channels(l: Layer, x: ir.Value) -> int:
    """Axis 1; a bottom of one axis counts as one channel."""
    shape = shape_of(x)
    if not shape:
        raise MalformedFile("cannot normalise a scalar", layer=l.name)
    channels = 1 if len(shape) == 1 else l.fixed(x, 1, "normalisation by channel")
    check_constant(l, channels)
    return channels


def _statistics(b: Builder, l: Layer, channels: int) -> _Statistics:
    """The stored sums divided by the third blob, where 0 makes them 0; Caffe starts with all three at 0."""
    factor = l.array(2, (1,))
    sums = [l.array(i, (channels,)) for i in (0, 1)]
    if sums[0] is None or sums[1] is None:
        if not l.has_weights_file:
            return _unknown(b, channels)
        l.note("assumed", "the statistics are not in the weights file: mean and variance are 0, as in Caffe")
        factor, sums = np.zeros(1, np.float32), [np.zeros(channels, np.float32)] * 2
    elif factor is None:
        l.note("assumed", "the weights file has no scale factor for the statistics: taken for 1")
        factor = np.ones(1, np.float32)
    scale = np.float32(0.0) if factor[0] == 0 else np.float32(1.0) / factor[0]
    names = [(l.shared[i] if i < len(l.shared) else None) for i in (0, 1)]
    made = [
        b.param(
            name,
            np.asarray(array * scale, np.float32),
            role=Role.STATE,
            key=("batch_norm", shared, float(scale)) if shared else None,
        )
        for name, array, shared in zip(("running_mean", "running_var"), sums, names, strict=True)
        if array is not None
    ]
    return _Statistics(*made)


def _unknown(b: Builder, channels: int) -> _Statistics:
    """Statistics of a net without weights: those that training starts from."""
    mean = uninitialised_tensor((channels,), filler={"type": "constant", "value": 0.0})
    variance = uninitialised_tensor((channels,), filler={"type": "constant", "value": 1.0})
    return _Statistics(
        b.param("running_mean", mean, role=Role.STATE), b.param("running_var", variance, role=Role.STATE)
    )


def _by_stored(
    b: Builder, l: Layer, x: ir.Value, eps: float, weight: ir.Value | None, bias: ir.Value | None, known: _Statistics
) -> ir.Value:
    channels = _channels(l, x)
    flat = len(shape_of(x)) == 1
    y = b.op(
        "BatchNormalization",
        b.reshape(x, [-1, 1]) if flat else x,
        b.const(np.ones(channels, np.float32), "ones") if weight is None else weight,
        b.const(np.zeros(channels, np.float32), "zeros") if bias is None else bias,
        *known,
        epsilon=eps,
    )
    return b.op("Reshape", y, [-1], types=[(ir.DataType.FLOAT, shape_of(x))]) if flat else y


def _by_batch(b: Builder, x: ir.Value, eps: float) -> ir.Value:
    """Mean and (biased) variance over everything but the channels."""
    rank = len(shape_of(x))
    axes = b.const([0, *range(2, rank)], "axes")
    centred = b.op("Sub", x, b.op("ReduceMean", x, axes, keepdims=1))
    variance = b.op("ReduceMean", b.op("Mul", centred, centred), axes, keepdims=1)
    return b.op("Div", centred, b.op("Sqrt", b.op("Add", variance, float(eps))))


def _affine(b: Builder, y: ir.Value, weight: ir.Value | None, bias: ir.Value | None) -> ir.Value:
    """Multiply and add per channel (axis 1)."""
    trailing = list(range(1, len(shape_of(y)) - 1))
    for operator, value in (("Mul", weight), ("Add", bias)):
        if value is not None:
            y = b.op(operator, y, b.op("Unsqueeze", value, trailing) if trailing else value)
    return y
