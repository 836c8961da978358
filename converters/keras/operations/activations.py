"""Activations as operations."""

from __future__ import annotations

from netferry.converters.keras.layers.activation import activate, rectified, softmax_like
from netferry.converters.keras.layout import KT
from netferry.converters.keras.operations.call import Op, operation
from netferry.converters.keras.operations.functions import argument

_NAMED = {
    "relu6": ("ops:Relu6", "tf.nn.relu6"),
    "silu": ("ops:Silu", "tf.nn.silu", "tf.nn.swish"),
    "log_sigmoid": ("ops:LogSigmoid", "tf.math.log_sigmoid"),
    "hard_sigmoid": ("ops:HardSigmoid",),
    "hard_silu": ("ops:HardSilu",),
    "hard_tanh": ("ops:HardTanh",),
    "squareplus": ("ops:Squareplus",),
    "sparse_plus": ("ops:SparsePlus",),
    "sparse_sigmoid": ("ops:SparseSigmoid",),
    "tanh_shrink": ("ops:TanhShrink",),
}


def _named(name: str, types: tuple[str, ...]) -> None:
    def read(op: Op) -> KT:
        if name == "silu" and op.number("beta", 1, 1.0) != 1.0:
            x = argument(op)
            gate = op.b.op("Sigmoid", op.b.op("Mul", x.value, op.b.const(op.number("beta", 1), "beta")))
            return x.like(op.b.op("Mul", x.value, gate))
        return activate(op.b, op.l, op.floating(argument(op)), name)

    read.__doc__ = f"The activation {name}."
    operation(*types)(read)


for _name, _types in _NAMED.items():
    _named(_name, _types)


@operation("ops:LeakyRelu", "tf.nn.leaky_relu")
def leaky_relu(op: Op) -> KT:
    """A slope below zero, 0.2 unless told otherwise."""
    x = op.floating(argument(op))
    slope = op.number("negative_slope" if op.keras3 else "alpha", 1, 0.2)
    return x.like(op.b.op("LeakyRelu", x.value, alpha=slope))


@operation("ops:Elu", "tf.nn.elu")
def elu(op: Op) -> KT:
    """alpha (exp(x) - 1) below zero."""
    x = op.floating(argument(op))
    return x.like(op.b.op("Elu", x.value, alpha=op.number("alpha", 1, 1.0)))


@operation("ops:Celu")
def celu(op: Op) -> KT:
    """alpha (exp(x / alpha) - 1) below zero."""
    x = op.floating(argument(op))
    return x.like(op.b.op("Celu", x.value, alpha=op.number("alpha", 1, 1.0)))


@operation("ops:Gelu", "tf.nn.gelu")
def gelu(op: Op) -> KT:
    """x times the normal distribution, exact or by tanh (Keras 3's operation approximates by default)."""
    x = op.floating(argument(op))
    approximate = op.flag("approximate", 1, op.keras3)
    return x.like(op.b.op("Gelu", x.value, approximate="tanh" if approximate else "none"))


@operation("ops:Glu")
def glu(op: Op) -> KT:
    """One half of an axis gates the other."""
    x = op.plain(argument(op))
    axis = x.axis(op.axis(x, "axis", 1, -1))
    first, second = op.b.op("Split", x.value, outputs=2, num_outputs=2, axis=axis)
    return x.like(op.b.op("Mul", first, op.b.op("Sigmoid", second)))


@operation("ops:HardShrink", "ops:SoftShrink")
def shrink(op: Op) -> KT:
    """0 between -threshold and threshold; the soft one moves the rest towards 0."""
    x = op.floating(argument(op))
    size = op.number("threshold", 1, 0.5)
    return x.like(op.b.op("Shrink", x.value, lambd=size, bias=size if op.l.type == "ops:SoftShrink" else 0.0))


@operation("ops:Threshold")
def threshold(op: Op) -> KT:
    """x above the threshold, else a default."""
    x = op.floating(argument(op))
    name = "threshold" if "threshold" in op.l.config or "threshold" in op.l.kwargs else "threshold_value"
    above = op.b.op("Greater", x.value, op.b.const(op.number(name, 1), "threshold"))
    default = op.number("default_value" if "default_value" in op.l.config else "value", 2, 0.0)
    return x.like(op.b.op("Where", above, x.value, op.b.const(default, "default")))


@operation("ops:Softmax", "ops:LogSoftmax", "tf.nn.softmax", "tf.nn.log_softmax",
           "tf.math.softmax", "tf.math.log_softmax")  # fmt: skip
def softmax(op: Op) -> KT:
    """Shares that sum to 1 along an axis (-1 unless told otherwise), or their logarithms."""
    x = op.floating(argument(op))
    name = "LogSoftmax" if "log" in op.l.type.lower() else "Softmax"
    op.leave("dim")
    axes = op.integers("axis", 1, -1)
    if axes is None:
        raise op.unsupported("a softmax over everything, the batch included")
    if len(axes) == 1:
        return softmax_like(op.b, x, name, op.axes_of(x.rank, axes)[0])
    x = op.plain(x)
    places = op.b.const(sorted(x.axis(a) for a in op.axes_of(x.rank, axes)), "axes")
    low = op.b.op("Sub", x.value, op.b.op("ReduceLogSumExp", x.value, places, keepdims=1))
    return x.like(low if name == "LogSoftmax" else op.b.op("Exp", low))


@operation("ops:Sparsemax")
def sparsemax(op: Op) -> KT:
    """Projection onto the simplex along the last axis."""
    x = argument(op)
    if op.axis(x, "axis", 1, -1) != x.rank - 1:
        raise op.unsupported("only the last axis")
    return activate(op.b, op.l, x, "sparsemax")


@operation("tf.keras.activations.relu", "tf.keras.backend.relu", "tf.nn.crelu")
def general_relu(op: Op) -> KT:
    """Keras's rectifier with cap, slope and threshold; crelu joins the rectified x and -x."""
    x = op.floating(argument(op))
    if op.l.type == "tf.nn.crelu":
        x = op.plain(x)
        axis = x.axis(op.axis(x, "axis", 1, -1))
        both = op.b.op("Concat", x.value, op.b.op("Neg", x.value), axis=axis)
        return KT(op.b.op("Relu", both), x.order)
    cap = op.take("max_value", 2, None)
    slope = op.number("alpha" if "alpha" in op.l.kwargs else "negative_slope", 1, 0.0)
    return x.like(rectified(op.b, x.value, None if cap is None else float(cap), slope, op.number("threshold", 3, 0.0)))
