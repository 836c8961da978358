"""Batch normalisation, local response normalisation, L2 normalisation.

Rules: batchnorm_layer.c, normalize_cpu in blas.c, normalization_layer.c and l2norm_layer.c of pjreddie/darknet.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from netferry.converters.darknet.registry import Layer, layer
from netferry.schemas.graph import Builder
from netferry.schemas.ir import ir
from netferry.schemas.layers import Role
from netferry.schemas.tensors import computed_tensor, filler_of

EPSILON = 1e-12
"""Darknet divides by ``sqrt(variance) + 1e-6``. With ``variance + 2e-6 * sqrt(variance)`` as the variance and this
epsilon, BatchNormalization's ``sqrt(variance + epsilon)`` is exactly that."""


@dataclass
class Normalisation:
    """Parameters of a batch normalisation, read in the file's order before the weights that they follow."""

    scale: ir.TensorProtocol
    mean: ir.TensorProtocol
    variance: ir.TensorProtocol


def read_normalisation(l: Layer, channels: int) -> Normalisation:
    """Take scales, rolling means and rolling variances from the weights file."""
    return Normalisation(
        l.tensor("scales", (channels,), default=1.0),
        l.tensor("rolling means", (channels,), default=0.0),
        l.tensor("rolling variances", (channels,), default=1.0),
    )


def normalise(b: Builder, x: ir.Value, found: Normalisation, bias: ir.TensorProtocol) -> ir.Value:
    """Normalise axis 1 by the stored statistics, scale, and add the bias."""
    return b.op(
        "BatchNormalization",
        x,
        b.param("scales", found.scale),
        b.param("biases", bias),
        b.param("rolling_mean", found.mean, role=Role.STATE),
        b.param("rolling_variance", adjusted(found.variance), role=Role.STATE),
        epsilon=EPSILON,
    )


def adjusted(variance: ir.TensorProtocol) -> ir.TensorProtocol:
    """The variance with which :data:`EPSILON` gives Darknet's normalisation."""
    if filler_of(variance) is not None:
        return variance

    def values() -> np.ndarray:
        stored = np.array(variance.numpy(), np.float64)
        if isinstance(variance, ir.ExternalTensor):
            variance.release()
        with np.errstate(invalid="ignore"):
            return (stored + 2e-6 * np.sqrt(stored)).astype(np.float32)

    return computed_tensor(values, ir.DataType.FLOAT, tuple(variance.shape.numpy()))


@layer("batchnorm")
def batchnorm(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """Batch normalisation alone; AlexeyAB's fork stores biases before the scales, Darknet has none."""
    channels, _, _ = l.image(x)
    biased = l.weights is None or l.weights.header.fork
    if biased:
        bias = l.tensor("biases", (channels,), default=0.0)
    else:
        l.check_constant(channels)
        bias = ir.tensor(np.zeros(channels, np.float32))
    return normalise(b, x, read_normalisation(l, channels), bias)


@layer("normalization", "lrn")
def normalization(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """x / (kappa + alpha * sum of squares of neighbouring channels) ^ beta, with Darknet's sums.

    Darknet slides the sum from channel to channel, but the first one lacks its last neighbour (channel ``size / 2``),
    and so all of them do; a matrix over the channels says just that.
    """
    s = l.section
    channels, _, _ = l.image(x)
    size, alpha, beta = s.int("size", 5, least=1), s.float("alpha", 0.0001), s.float("beta", 0.75)
    kappa = s.float("kappa", 1.0)
    if size // 2 > channels:
        raise l.fail(f"size={size} needs {size // 2} channels, the section before gives {channels}")
    l.check_constant(channels * channels)
    place = np.arange(channels)
    near = (place[None] >= place[:, None] - (size - 1) // 2) & (place[None] <= place[:, None] + size // 2)
    weights = near.astype(np.float32)
    if size // 2 < channels:
        weights[:, size // 2] -= 1
    weights = (weights * np.float32(alpha)).reshape(channels, channels, 1, 1)
    sums = b.op("Conv", b.op("Mul", x, x), b.const(weights, "neighbours"))
    return b.op("Mul", x, b.op("Pow", b.op("Add", sums, kappa), -beta))


@layer("l2norm")
def l2norm(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """Each pixel divided by its length over the channels."""
    l.image(x)
    return b.op("Div", x, b.op("ReduceL2", x, b.const([1], "axes"), keepdims=1))
