"""Activations: by name in another layer's settings, as the layer Activation, and as layers of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from netferry.converters.keras.layer import Layer
from netferry.converters.keras.layout import KT, explicit_mask
from netferry.converters.keras.registry import Slot, layer, registry
from netferry.converters.keras.spec import Spec
from netferry.errors import MalformedFile, UnsupportedOption, quoted
from netferry.schemas.graph import Builder
from netferry.schemas.ir import ir

Function = Callable[[Builder, ir.Value], ir.Value]


def _op(name: str, **attributes: Any) -> Function:
    return lambda b, v: b.op(name, v, **attributes)


def _clip(b: Builder, v: ir.Value, low: float | None, high: float | None) -> ir.Value:
    return b.op("Clip", v, None if low is None else b.const(low, "min"), None if high is None else b.const(high, "max"))


def _swish(b: Builder, v: ir.Value) -> ir.Value:
    return b.op("Mul", v, b.op("Sigmoid", v))


def _hard_sigmoid(generation: int) -> Function:
    """Keras 1 and 2: clip(0.2 x + 0.5); Keras 3: relu6(x + 3) / 6."""
    return _op("HardSigmoid", alpha=0.2 if generation <= 2 else 1 / 6, beta=0.5)


def _hard_tanh(b: Builder, v: ir.Value) -> ir.Value:
    return _clip(b, v, -1.0, 1.0)


def _glu(b: Builder, v: ir.Value, axis: int) -> ir.Value:
    first, second = b.op("Split", v, outputs=2, num_outputs=2, axis=axis)
    return b.op("Mul", first, b.op("Sigmoid", second))


def _squareplus(b: Builder, v: ir.Value) -> ir.Value:
    """(x + sqrt(x^2 + 4)) / 2."""
    root = b.op("Sqrt", b.op("Add", b.op("Mul", v, v), b.const(4.0, "b")))
    return b.op("Mul", b.op("Add", v, root), b.const(0.5, "half"))


def _sparse_plus(b: Builder, v: ir.Value) -> ir.Value:
    """0 up to -1, (x + 1)^2 / 4 between -1 and 1, x from 1 on."""
    inside = _clip(b, b.op("Add", v, b.const(1.0, "one")), 0.0, 2.0)
    curve = b.op("Mul", b.op("Mul", inside, inside), b.const(0.25, "quarter"))
    return b.op("Add", curve, b.op("Relu", b.op("Sub", v, b.const(1.0, "one"))))


def _sparse_sigmoid(b: Builder, v: ir.Value) -> ir.Value:
    """(x + 1) / 2 between 0 and 1: HardSigmoid of slope one half."""
    return b.op("HardSigmoid", v, alpha=0.5, beta=0.5)


def _tanh_shrink(b: Builder, v: ir.Value) -> ir.Value:
    return b.op("Sub", v, b.op("Tanh", v))


def _log_sigmoid(b: Builder, v: ir.Value) -> ir.Value:
    return b.op("Neg", b.op("Softplus", b.op("Neg", v)))


def _sparsemax(b: Builder, v: ir.Value, axis: int) -> ir.Value:
    """Projection onto the simplex (Martins & Astudillo 2016) as Keras 3 computes it, along ``axis``.

    Keras adds up all running totals of the support where the paper takes the last one; the file means Keras's.
    """
    size = v.shape[axis] if v.shape is not None else None
    if not isinstance(size, int):
        raise UnsupportedOption("sparsemax needs a known number of values")
    ordered, _ = b.op("TopK", v, b.const([size], "k"), outputs=2, axis=axis)
    count = np.arange(1, size + 1, dtype=np.float32).reshape([-1] + [1] * (len(v.shape or ()) - 1 - axis))
    total = b.op("CumSum", ordered, b.const(axis, "axis"))
    bound = b.op("Div", b.op("Sub", total, b.const(1.0, "one")), b.const(count, "count"))
    support = b.op("Greater", b.op("Sub", ordered, bound), b.const(0.0, "zero"))
    axes = b.const([axis], "axes")
    number = b.op("ReduceSum", b.op("Cast", support, to=int(ir.DataType.FLOAT)), axes, keepdims=1)
    inside = b.op("ReduceSum", b.op("Where", support, total, b.const(0.0, "zero")), axes, keepdims=1)
    return b.op("Relu", b.op("Sub", v, b.op("Div", b.op("Sub", inside, b.const(1.0, "one")), number)))


_SIMPLE: dict[str, Function] = {
    "relu": _op("Relu"),
    "sigmoid": _op("Sigmoid"),
    "tanh": _op("Tanh"),
    "softplus": _op("Softplus"),
    "softsign": _op("Softsign"),
    "exponential": _op("Exp"),
    "mish": _op("Mish"),
    "selu": _op("Selu"),
    "elu": _op("Elu", alpha=1.0),
    "celu": _op("Celu", alpha=1.0),
    "relu6": lambda b, v: _clip(b, v, 0.0, 6.0),
    "silu": _swish,
    "swish": _swish,
    "hard_silu": _op("HardSwish"),
    "hard_swish": _op("HardSwish"),
    "hard_tanh": _hard_tanh,
    "log_sigmoid": _log_sigmoid,
    "hard_shrink": _op("Shrink", lambd=0.5, bias=0.0),
    "soft_shrink": _op("Shrink", lambd=0.5, bias=0.5),
    "tanh_shrink": _tanh_shrink,
    "squareplus": _squareplus,
    "sparse_plus": _sparse_plus,
    "sparse_sigmoid": _sparse_sigmoid,
    "leaky_relu": _op("LeakyRelu", alpha=0.2),
}
_ALONG_AXIS = {"softmax": "Softmax", "log_softmax": "LogSoftmax"}
_LAYERS = ("LeakyReLU", "ReLU", "ELU", "Softmax", "ThresholdedReLU", "PReLU")


def activation_name(value: Any) -> str:
    """Return the name of an activation given as text or as a registered function's object; '' for none."""
    if value is None:
        return "linear"
    if isinstance(value, str):
        return value.rsplit(">", 1)[-1]
    if isinstance(value, dict):
        inner = value.get("config")
        if value.get("class_name") == "function" and isinstance(inner, str):
            return inner.rsplit(">", 1)[-1]
        name = value.get("class_name")
        if isinstance(name, str):
            return name.rsplit(">", 1)[-1]
    return ""


def activate(b: Builder, l: Layer, x: KT, value: Any) -> KT:
    """Apply an activation as a layer's settings name it.

    Raises:
        UnsupportedOption: no such activation.
    """
    name = activation_name(value)
    if name in ("linear", "identity"):
        return x
    if isinstance(value, dict) and (name in _LAYERS or isinstance(value.get("config"), dict)):
        return _as_layer(b, l, x, value, name)
    if name in _ALONG_AXIS:
        return softmax_like(b, x, _ALONG_AXIS[name], -1)
    if name in ("glu", "sparsemax"):
        value_ = x.logical(b) if x.flat is not None else x.value
        function = _glu if name == "glu" else _sparsemax
        made = function(b, value_, x.axis(-1))
        return KT.of(made) if x.flat is not None else x.like(made)
    if name == "hard_sigmoid":
        return x.like(_hard_sigmoid(l.generation)(b, x.value))
    if name == "gelu":
        return x.like(b.op("Gelu", x.value, approximate="none"))
    if name == "leaky_relu" and l.generation <= 2:
        return x.like(b.op("LeakyRelu", x.value, alpha=0.2))
    function = _SIMPLE.get(name)
    return _users_own(b, l, x, value, name) if function is None else x.like(function(b, x.value))


def _users_own(b: Builder, l: Layer, x: KT, value: Any, name: str) -> KT:
    """A user's function: what a plug-in registers under its name, else a placeholder behind the layer."""
    reader = registry.get(name)
    if not name.isidentifier() or (reader is not None and reader.__module__.startswith("netferry.")):
        raise UnsupportedOption(f"activation {quoted(value, 80)} is not known", layer=l.path)
    made = l.inner(b, {"class_name": name, "config": {"name": name}}, "activation", x)
    assert isinstance(made, KT)
    return made


def _as_layer(b: Builder, l: Layer, x: KT, value: dict[str, Any], name: str) -> KT:
    """An activation that is a layer object (``LeakyReLU(0.1)``), or a function with settings."""
    if name in _LAYERS:
        made = l.inner(b, value, "activation", x)
        assert isinstance(made, KT)
        return made
    settings = value["config"]
    if name == "gelu":
        return x.like(b.op("Gelu", x.value, approximate="tanh" if settings.get("approximate") else "none"))
    inner = settings.get("activation") or settings.get("name")
    if isinstance(inner, str) and inner != name:
        return activate(b, l, x, inner)
    return activate(b, l, x, name)


def softmax_like(b: Builder, x: KT, op: str, axis: int) -> KT:
    """Softmax or LogSoftmax along one of Keras's axes."""
    if x.flat is not None:
        return KT.of(b.op(op, x.logical(b), axis=axis))
    return x.like(b.op(op, x.value, axis=x.axis(axis)))


@layer("Activation", mask="keep")
def activation(b: Builder, l: Layer, x: KT) -> KT:
    """A named activation."""
    return activate(b, l, x, l.config.take("activation", "linear"))


@layer("ReLU", mask="keep")
def relu(b: Builder, l: Layer, x: KT) -> KT:
    """max_value for x >= max_value, x above the threshold, negative_slope * (x - threshold) below."""
    cap = l.config.maybe_number("max_value")
    slope = 0.0 if l.config.take("negative_slope", 0.0) is None else l.config.number("negative_slope", 0.0)
    threshold = 0.0 if l.config.take("threshold", 0.0) is None else l.config.number("threshold", 0.0)
    if min(cap or 0.0, slope, threshold) < 0:  # Keras refuses them, too
        told = f"max_value={cap}, negative_slope={slope}, threshold={threshold}"
        raise MalformedFile(f"{told}: none of them may be negative", layer=l.path)
    return x.like(rectified(b, x.value, cap, slope, threshold))


def rectified(b: Builder, v: ir.Value, cap: float | None, slope: float, threshold: float) -> ir.Value:
    """Keras's general rectifier."""
    if threshold == 0.0 and slope == 0.0:
        return b.op("Relu", v) if cap is None else _clip(b, v, 0.0, cap)
    if threshold == 0.0:
        made = b.op("LeakyRelu", v, alpha=slope)
    else:
        above = b.op("GreaterOrEqual", v, b.const(threshold, "threshold"))
        if slope == 0.0:
            below = b.const(0.0, "zero")
        else:
            below = b.op("Mul", b.op("Sub", v, b.const(threshold, "threshold")), b.const(slope, "slope"))
        made = b.op("Where", above, v, below)
    return made if cap is None else _clip(b, made, None, cap)


@layer("LeakyReLU", mask="keep")
def leaky_relu(b: Builder, l: Layer, x: KT) -> KT:
    """Slope 0.3 below zero unless told otherwise; Keras 3 renamed ``alpha``."""
    return x.like(b.op("LeakyRelu", x.value, alpha=l.config.number("negative_slope", 0.3, also=("alpha",))))


@layer("ELU", mask="keep")
def elu(b: Builder, l: Layer, x: KT) -> KT:
    """alpha * (exp(x) - 1) below zero."""
    return x.like(b.op("Elu", x.value, alpha=l.config.number("alpha", 1.0)))


@layer("ThresholdedReLU", mask="keep")
def thresholded_relu(b: Builder, l: Layer, x: KT) -> KT:
    """x above theta, else 0."""
    theta = l.config.number("theta", 1.0)
    if theta < 0:
        raise MalformedFile(f"theta is {theta}, it must not be negative", layer=l.path)
    return x.like(b.op("ThresholdedRelu", x.value, alpha=theta))


@layer("Softmax", mask="keep")
def softmax(b: Builder, l: Layer, x: KT) -> KT:
    """Softmax along an axis, or over several together; of what a mask leaves, where a call gives one."""
    axes = l.config.whole_numbers("axis", -1)
    if any(not -x.rank <= a < x.rank for a in axes):
        raise l.config.bad("axis", axes, f"an axis of a tensor of rank {x.rank}")
    mask = l.kwargs.get("mask", l.args[1] if len(l.args) > 1 else None)
    if isinstance(mask, KT):
        kept = explicit_mask(mask).value(b)
        left = KT.of(b.op("Where", kept, x.logical(b), b.const(-1e9, "masked")))
        made = _softmax(b, left, axes).logical(b)
        # Keras 2 leaves equal shares where everything is masked, Keras 3 nothing
        return KT.of(b.op("Where", kept, made, b.const(0.0, "nothing")) if l.generation == 3 else made)
    return _softmax(b, x, axes)


def _softmax(b: Builder, x: KT, axes: Sequence[int]) -> KT:
    if len(axes) == 1:
        return softmax_like(b, x, "Softmax", axes[0])
    v = x.logical(b)
    places = b.const(sorted(a % x.rank for a in axes), "axes")
    high = b.op("ReduceMax", v, places, keepdims=1)
    powers = b.op("Exp", b.op("Sub", v, high))
    return KT.of(b.op("Div", powers, b.op("ReduceSum", powers, places, keepdims=1)))


def _prelu_slots(_: Spec) -> list[Slot]:
    return [Slot("alpha")]


@layer("PReLU", weights=_prelu_slots, mask="keep")
def prelu(b: Builder, l: Layer, x: KT) -> KT:
    """A learnt slope below zero, one per element unless axes share it."""
    shared: set[int] = set()
    if l.config.take("shared_axes", None) is not None:  # Keras sets param_shape[i - 1], without the batch
        named, free = l.config.whole_numbers("shared_axes", None), x.rank - 1
        if not all(-free <= i - 1 < free for i in named):
            raise l.config.bad("shared_axes", named, f"axes of a tensor of rank {x.rank}")
        shared = {(i - 1) % free + 1 for i in named}
    sizes = [1 if axis in shared else l.dim(x, axis, "the sizes of unshared axes") for axis in range(1, x.rank)]
    if x.flat is not None:
        transform = x.flat.rows if not shared else None
        slope = l.weight(b, "alpha", "weight", sizes, transform=transform, variant=("flat", x.flat.order))
        return x.like(b.op("PRelu", x.value, slope))
    places = [axis - 1 for axis in x.order if axis != 0]
    if x.order[0] != 0:
        return KT.of(b.op("PRelu", x.logical(b), l.weight(b, "alpha", "weight", sizes)))
    moved = None if places == sorted(places) else (lambda a: a.transpose(places))
    slope = l.weight(b, "alpha", "weight", sizes, transform=moved, variant=tuple(places))
    return x.like(b.op("PRelu", x.value, slope))
