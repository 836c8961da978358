"""Activations, as settings of other layers and as sections of their own; dropout.

Rules: activations.h of pjreddie/darknet; the functions of AlexeyAB's fork have the form that its literature gives them.
"""

from __future__ import annotations

from collections.abc import Callable

from netferry.converters.darknet.registry import Layer, layer
from netferry.schemas.graph import Builder
from netferry.schemas.ir import ir


def _leaky(slope: float) -> Callable[[Builder, ir.Value], ir.Value]:
    return lambda b, x: b.op("LeakyRelu", x, alpha=slope)


def _plain(operator: str) -> Callable[[Builder, ir.Value], ir.Value]:
    return lambda b, x: b.op(operator, x)


def _loggy(b: Builder, x: ir.Value) -> ir.Value:
    return b.op("Sub", b.op("Mul", b.op("Sigmoid", x), 2.0), 1.0)


def _ramp(b: Builder, x: ir.Value) -> ir.Value:
    return b.op("Add", b.op("Relu", x), b.op("Mul", x, 0.1))


def _plse(b: Builder, x: ir.Value) -> ir.Value:
    """Piecewise linear: slope 1/8 between -4 and 4, 1/100 outside (with its jump of nothing at either end)."""
    outer = b.op("Mul", b.op("Sub", x, b.op("Clip", x, -4.0, 4.0)), 0.01)
    return b.op("Add", b.op("Add", b.op("Mul", b.op("Clip", x, -4.0, 4.0), 0.125), 0.5), outer)


def _lhtan(b: Builder, x: ir.Value) -> ir.Value:
    inner = b.op("Clip", x, 0.0, 1.0)
    return b.op("Add", inner, b.op("Mul", b.op("Sub", x, inner), 0.001))


def _stair(b: Builder, x: ir.Value) -> ir.Value:
    """floor(x / 2) where floor(x) is even; there plus the fraction of x where it is odd."""
    n, half = b.op("Floor", x), b.op("Floor", b.op("Mul", x, 0.5))
    odd = b.op("Equal", b.op("Sub", n, b.op("Mul", half, 2.0)), 1.0)
    return b.op("Where", odd, b.op("Add", b.op("Sub", x, n), half), half)


def _selu(b: Builder, x: ir.Value) -> ir.Value:
    return b.op("Selu", x, alpha=1.6732, gamma=1.0507)


def _hard_mish(b: Builder, x: ir.Value) -> ir.Value:
    """x above 0, x + x² / 2 between -2 and 0, 0 below."""
    low = b.op("Clip", x, -2.0, 0.0)
    return b.op("Add", b.op("Relu", x), b.op("Add", low, b.op("Mul", b.op("Mul", low, low), 0.5)))


_FUNCTIONS: dict[str, Callable[[Builder, ir.Value], ir.Value]] = {
    "logistic": _plain("Sigmoid"),
    "loggy": _loggy,
    "relu": _plain("Relu"),
    "relie": _leaky(0.01),
    "ramp": _ramp,
    "linear": lambda b, x: x,
    "tanh": _plain("Tanh"),
    "plse": _plse,
    "leaky": _leaky(0.1),
    "elu": lambda b, x: b.op("Elu", x, alpha=1.0),
    "stair": _stair,
    "hardtan": lambda b, x: b.op("Clip", x, -1.0, 1.0),
    "lhtan": _lhtan,
    "selu": _selu,
    # AlexeyAB's fork
    "relu6": lambda b, x: b.op("Clip", x, 0.0, 6.0),
    "revleaky": _leaky(0.1),
    "mish": _plain("Mish"),
    "hard_mish": _hard_mish,
    "swish": lambda b, x: b.op("Mul", x, b.op("Sigmoid", x)),
    "gelu": lambda b, x: b.op("Gelu", x, approximate="tanh"),
}


def _positive_share(b: Builder, x: ir.Value) -> ir.Value:
    """Of each pixel, the share of a channel in the sum of the positive ones."""
    positive = b.op("Relu", x)
    total = b.op("Add", b.op("ReduceSum", positive, b.const([1], "axes"), keepdims=1), 1e-4)
    return b.op("Div", positive, total)


def _exponent_share(largest: bool) -> Callable[[Builder, ir.Value], ir.Value]:
    """Of each pixel, the exponential of a channel over their sum and 0.0001."""

    def share(b: Builder, x: ir.Value) -> ir.Value:
        axes = b.const([1], "axes")
        if largest:
            x = b.op("Sub", x, b.op("ReduceMax", x, axes, keepdims=1))
        e = b.op("Exp", x)
        return b.op("Div", e, b.op("Add", b.op("ReduceSum", e, axes, keepdims=1), 1e-4))

    return share


_FUNCTIONS |= {  # over channels; AlexeyAB's fork
    "normalize_channels": _positive_share,
    "normalize_channels_softmax": _exponent_share(False),
    "normalize_channels_softmax_maxval": _exponent_share(True),
}


def activate(b: Builder, l: Layer, x: ir.Value, name: str) -> ir.Value:
    """Apply the activation called ``name``.

    Raises:
        UnsupportedOption: no such activation. (Darknet takes relu then; a wrong net would be the result.)
    """
    function = _FUNCTIONS.get(name)
    if function is None:
        raise l.unsupported(f"activation={name!r:.60} is not supported (only {', '.join(_FUNCTIONS)})")
    return function(b, x)


@layer("activation")
def activation(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """An activation alone; linear where left out."""
    return activate(b, l, x, l.section.str("activation", "linear"))


@layer("logistic")
def logistic(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """The logistic function (with the cross entropy in training)."""
    return b.op("Sigmoid", x)


@layer("dropout")
def dropout(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """Nothing when run; kept so that training drops."""
    probability = l.section.float("probability", 0.5)
    l.section.ignore("dropblock", "dropblock_size_rel", "dropblock_size_abs", "dropblock_size")
    if not 0 <= probability < 1:
        l.note("dropped", f"dropout with probability {probability:g}: training will not drop")
        return x
    return b.op("Dropout", x, probability)


@layer("empty", "silence")
def empty(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """Hands on what comes in."""
    return x
