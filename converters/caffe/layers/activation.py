"""Functions of one value: rectifiers, sigmoids, powers, exponentials, thresholds, and dropout.

Rules: the neuron layers of BVLC Caffe; for types of forks the function that their name has in the literature.
"""

from __future__ import annotations

import math

import numpy as np

from netferry.converters.caffe.registry import Layer, layer
from netferry.errors import MalformedFile
from netferry.schemas.graph import Builder, shape_of
from netferry.schemas.ir import ir


@layer("ReLU")
def relu(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """max(x, 0) + negative_slope * min(x, 0)."""
    return _leaky(b, x, l.param("relu_param").float("negative_slope", 0.0))


def _leaky(b: Builder, x: ir.Value, slope: float) -> ir.Value:
    return b.op("LeakyRelu", x, alpha=slope) if slope else b.op("Relu", x)


@layer("ReLU6")
def relu6(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """min(max(x, 0), 6), with a slope below 0 where one is given."""
    slope = l.param("relu_param").float("negative_slope", 0.0) or l.param("relu6_param").float("negative_slope", 0.0)
    return b.op("Min", b.op("LeakyRelu", x, alpha=slope), 6.0) if slope else b.op("Clip", x, 0.0, 6.0)


@layer("RReLU")
def rrelu(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """Randomised leaky rectifier; in the TEST phase the slope is the mean of its bounds."""
    p = l.param("rrelu_param")
    return _leaky(b, x, (p.float("lower", 1 / 8) + p.float("upper", 1 / 3)) / 2)


@layer("PReLU")
def prelu(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """Leaky rectifier with a learnt slope per channel, or one for all."""
    p = l.param("prelu_param")
    rank = len(shape_of(x))
    if rank < 2:
        raise MalformedFile(f"PReLU needs at least 2 axes, the bottom has {rank}", layer=l.name)
    filler = p.filler("filler")
    if p.bool("channel_shared", False):
        return b.op("PRelu", x, l.weight(b, "weight", 0, [1], filler=filler, default=0.25))
    channels, trailing = l.fixed(x, 1, "one slope per channel"), rank - 2
    if l.shared and l.shared[0]:  # layers that share it may sit on bottoms of unlike rank
        slope = l.weight(b, "weight", 0, [channels], filler=filler, default=0.25)
        return b.op("PRelu", x, b.op("Unsqueeze", slope, list(range(1, 1 + trailing))) if trailing else slope)
    return b.op("PRelu", x, l.weight(b, "weight", 0, [channels, *[1] * trailing], filler=filler, default=0.25))


@layer("ELU")
def elu(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """x above 0, alpha * (exp(x) - 1) below."""
    return b.op("Elu", x, alpha=l.param("elu_param").float("alpha", 1.0))


@layer("SELU", "Selu")
def selu(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """Self-normalising ELU (Klambauer et al. 2017)."""
    p = l.param("selu_param")
    alpha, gamma = p.float("alpha", 1.6732632423543772), p.float("lambda", 1.0507009873554805)
    return b.op("Selu", x, alpha=alpha, gamma=gamma)


_PLAIN = {
    "Sigmoid": "Sigmoid", "TanH": "Tanh", "AbsVal": "Abs", "BNLL": "Softplus", "Softplus": "Softplus", "Mish": "Mish",
    "HardSwish": "HardSwish", "HSwish": "HardSwish", "Hswish": "HardSwish", "GELU": "Gelu", "Gelu": "Gelu",
    "Softsign": "Softsign",
}  # fmt: skip


@layer(*_PLAIN)
def plain(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """A function that ONNX has under a name of its own (BNLL is log(1 + exp x), Softplus)."""
    return b.op(_PLAIN[l.type], x)


@layer("HardSigmoid", "Hsigmoid", "HSigmoid")
def hard_sigmoid(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """max(0, min(1, alpha * x + beta)); the H forms are MobileNetV3's relu6(x + 3) / 6."""
    p = l.param("hard_sigmoid_param")
    alpha = p.float("alpha", 0.2 if l.type == "HardSigmoid" else 1 / 6)
    return b.op("HardSigmoid", x, alpha=alpha, beta=p.float("beta", 0.5))


@layer("Swish", "SiLU", "Silu")
def swish(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """x * sigmoid(beta * x)."""
    beta = l.param("swish_param").float("beta", 1.0)
    return b.op("Mul", x, b.op("Sigmoid", x if beta == 1 else b.op("Mul", x, beta)))


@layer("Clip")
def clip(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """max(min, min(x, max)), so min wins where the bounds cross."""
    p = l.param("clip_param")
    low, high = p.float("min"), p.float("max")
    return b.op("Clip", x, low, max(low, high))


@layer("Threshold")
def threshold(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """1 where x is above the threshold, 0 elsewhere."""
    above = b.op("Greater", x, l.param("threshold_param").float("threshold", 0.0))
    return b.op("Cast", above, to=ir.DataType.FLOAT)


@layer("Power")
def power(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """(shift + scale * x) ^ power; a constant where scale or power is 0."""
    p = l.param("power_param")
    exponent, scale, shift = p.float("power", 1.0), p.float("scale", 1.0), p.float("shift", 0.0)
    if exponent == 0 or scale == 0:
        with np.errstate(all="ignore"):
            value = np.float32(1.0) if exponent == 0 else np.power(np.float32(shift), np.float32(exponent))
        filled = b.const(np.asarray(value, np.float32), "value")
        return b.op("Expand", filled, b.op("Shape", x), types=[(ir.DataType.FLOAT, shape_of(x))])
    y = _scaled(b, x, scale, shift)
    if exponent != 1:
        return b.op("Pow", y, exponent)
    return b.op("Identity", x) if y is x else y


def _scaled(b: Builder, x: ir.Value, scale: float, shift: float) -> ir.Value:
    """Scale * x + shift, without the steps that change nothing."""
    y = x if scale == 1 else b.op("Mul", x, scale)
    return y if shift == 0 else b.op("Add", y, shift)


@layer("Exp")
def exp(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """base ^ (shift + scale * x); base -1 stands for e."""
    p = l.param("exp_param")
    scale, shift = p.float("scale", 1.0), p.float("shift", 0.0)
    rate = _log_base(l, p.float("base", -1.0))
    with np.errstate(over="ignore"):  # the factor of the shift stays outside, as in Caffe: it overflows alike
        inner, factor = np.float32(rate * scale), np.exp(np.float64(rate * shift)).astype(np.float32)
    y = b.op("Exp", _scaled(b, x, float(inner), 0.0))
    return b.op("Mul", y, factor) if factor != 1 else y


@layer("Log")
def log(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """Logarithm of shift + scale * x to ``base``; base -1 stands for e."""
    p = l.param("log_param")
    scale, shift = p.float("scale", 1.0), p.float("shift", 0.0)
    rate = _log_base(l, p.float("base", -1.0))
    if rate == 0:
        raise MalformedFile("there is no logarithm to base 1", layer=l.name)
    y = b.op("Log", _scaled(b, x, scale, shift))
    return y if rate == 1 else b.op("Mul", y, 1 / rate)


def _log_base(l: Layer, base: float) -> float:
    if base == -1:
        return 1.0
    if not 0 < base < math.inf:
        raise MalformedFile(f"base {base} is not above 0", layer=l.name)
    return math.log(base)


@layer("Dropout", "SpatialDropout")
def dropout(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """Nothing in the TEST phase; kept so that training drops. Without scale_train, TEST scales by 1 - ratio instead."""
    p = l.param("dropout_param")
    ratio, in_training = p.float("dropout_ratio", 0.5), p.bool("scale_train", True)
    p.ignore("sample_weights_test")
    channels = p.bool("spatial_dropout", False) or l.type == "SpatialDropout"
    if not 0 <= ratio < 1:
        l.note("dropped", f"{l.type} with ratio {ratio} is nothing in the TEST phase, and training will not drop")
        return b.op("Identity", x) if in_training else b.op("Mul", x, 1 - ratio)
    made = b.op("Dropout", x, ratio, metadata={"netferry.spatial": "1"} if channels else None)
    # ONNX's Dropout scales what it keeps: with the factor of the TEST phase that is 1, as Caffe has it
    return made if in_training else b.op("Mul", made, 1 - ratio)
