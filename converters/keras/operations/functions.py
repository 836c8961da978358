"""Functions of one tensor, element by element, and activations as operations."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from netferry.converters.keras.layout import KT
from netferry.converters.keras.operations.call import Op, operation
from netferry.schemas.graph import Builder
from netferry.schemas.ir import ir

_FLOAT, _BOOL = ir.DataType.FLOAT, ir.DataType.BOOL
Make = Callable[[Builder, ir.Value], ir.Value]


def _op(name: str, **attributes: Any) -> Make:
    return lambda b, v: b.op(name, v, **attributes)


def _scaled_log(base: float) -> Make:
    return lambda b, v: b.op("Mul", b.op("Log", v), b.const(1 / math.log(base), "scale"))


def _expm1(b: Builder, v: ir.Value) -> ir.Value:
    """exp(x) - 1 without cancellation: 2 sinh(x / 2) exp(x / 2)."""
    half = b.op("Mul", v, b.const(0.5, "half"))
    return b.op("Mul", b.op("Mul", b.op("Sinh", half), b.op("Exp", half)), b.const(2.0, "two"))


def log1p(b: Builder, v: ir.Value) -> ir.Value:
    """log(1 + x) without cancellation: 2 atanh(x / (2 + x)) near 0, the logarithm itself far from it."""
    near = b.op("Mul", b.op("Atanh", b.op("Div", v, b.op("Add", v, b.const(2.0, "two")))), b.const(2.0, "two"))
    far = b.op("Log", b.op("Add", v, b.const(1.0, "one")))
    small = b.op("Less", b.op("Abs", v), b.const(0.5, "small"))
    return b.op("Where", small, near, far)


def _square(b: Builder, v: ir.Value) -> ir.Value:
    return b.op("Mul", v, v)


def _rsqrt(b: Builder, v: ir.Value) -> ir.Value:
    return b.op("Reciprocal", b.op("Sqrt", v))


def _erfc(b: Builder, v: ir.Value) -> ir.Value:
    return b.op("Sub", b.const(1.0, "one"), b.op("Erf", v))


def _truncated(b: Builder, v: ir.Value) -> ir.Value:
    return b.op("Mul", b.op("Sign", v), b.op("Floor", b.op("Abs", v)))


def _cbrt(b: Builder, v: ir.Value) -> ir.Value:
    return b.op("Mul", b.op("Sign", v), b.op("Pow", b.op("Abs", v), b.const(1 / 3, "third")))


def _times(factor: float) -> Make:
    return lambda b, v: b.op("Mul", v, b.const(factor, "factor"))


def _sinc(b: Builder, v: ir.Value) -> ir.Value:
    """sin(pi x) / (pi x), 1 at 0."""
    turned = b.op("Mul", v, b.const(math.pi, "pi"))
    none = b.op("Equal", turned, b.const(0.0, "zero"))
    one = b.const(1.0, "one")
    return b.op("Where", none, one, b.op("Div", b.op("Sin", turned), b.op("Where", none, one, turned)))


def _finite(b: Builder, v: ir.Value) -> ir.Value:
    return b.op("Not", b.op("Or", b.op("IsNaN", v), b.op("IsInf", v)))


_SAME: dict[str, tuple[Make, tuple[str, ...]]] = {
    "Absolute value": (_op("Abs"), ("ops:Absolute", "ops:Abs", "tf.math.abs", "tf.abs")),
    "Minus x": (_op("Neg"), ("ops:Negative", "tf.math.negative", "tf.negative", "tf.__operators__.neg")),
    "-1, 0 or 1": (_op("Sign"), ("ops:Sign", "tf.math.sign", "tf.sign")),
    "x * x": (_square, ("ops:Square", "tf.math.square", "tf.square")),
    "max(x, 0)": (_op("Relu"), ("ops:Relu", "tf.nn.relu")),
}
_REAL: dict[str, tuple[Make, tuple[str, ...]]] = {
    "Exponential": (_op("Exp"), ("ops:Exp", "tf.math.exp", "tf.exp")),
    "2 to the power of x": (lambda b, v: b.op("Exp", b.op("Mul", v, b.const(math.log(2), "log2"))), ("ops:Exp2",)),
    "exp(x) - 1": (_expm1, ("ops:Expm1", "tf.math.expm1")),
    "Natural logarithm": (_op("Log"), ("ops:Log", "tf.math.log", "tf.log")),
    "Decimal logarithm": (_scaled_log(10), ("ops:Log10",)),
    "Binary logarithm": (_scaled_log(2), ("ops:Log2",)),
    "log(1 + x)": (log1p, ("ops:Log1p", "tf.math.log1p")),
    "Square root": (_op("Sqrt"), ("ops:Sqrt", "tf.math.sqrt", "tf.sqrt")),
    "1 / sqrt(x)": (_rsqrt, ("ops:Rsqrt", "tf.math.rsqrt")),
    "1 / x": (_op("Reciprocal"), ("ops:Reciprocal", "tf.math.reciprocal")),
    "Absolute value of a real number": (_op("Abs"), ("ops:Fabs",)),
    "Cube root": (_cbrt, ("ops:Cbrt",)),
    "Sine": (_op("Sin"), ("ops:Sin", "tf.math.sin", "tf.sin")),
    "Cosine": (_op("Cos"), ("ops:Cos", "tf.math.cos", "tf.cos")),
    "Tangent": (_op("Tan"), ("ops:Tan", "tf.math.tan", "tf.tan")),
    "Arc sine": (_op("Asin"), ("ops:Arcsin", "tf.math.asin")),
    "Arc cosine": (_op("Acos"), ("ops:Arccos", "tf.math.acos")),
    "Arc tangent": (_op("Atan"), ("ops:Arctan", "tf.math.atan")),
    "Hyperbolic sine": (_op("Sinh"), ("ops:Sinh", "tf.math.sinh")),
    "Hyperbolic cosine": (_op("Cosh"), ("ops:Cosh", "tf.math.cosh")),
    "Hyperbolic tangent": (_op("Tanh"), ("ops:Tanh", "tf.math.tanh", "tf.nn.tanh", "tf.tanh")),
    "Inverse hyperbolic sine": (_op("Asinh"), ("ops:Arcsinh", "tf.math.asinh")),
    "Inverse hyperbolic cosine": (_op("Acosh"), ("ops:Arccosh", "tf.math.acosh")),
    "Inverse hyperbolic tangent": (_op("Atanh"), ("ops:Arctanh", "tf.math.atanh")),
    "Error function": (_op("Erf"), ("ops:Erf", "tf.math.erf")),
    "1 - erf(x)": (_erfc, ("ops:Erfc", "tf.math.erfc")),
    "Degrees to radians": (_times(math.pi / 180), ("ops:Deg2rad",)),
    "Radians to degrees": (_times(180 / math.pi), ("ops:Rad2deg",)),
    "sin(pi x) / (pi x)": (_sinc, ("ops:Sinc",)),
    "Logistic function": (_op("Sigmoid"), ("ops:Sigmoid", "tf.math.sigmoid", "tf.nn.sigmoid", "tf.sigmoid")),
    "log(1 + exp(x))": (_op("Softplus"), ("ops:Softplus", "tf.math.softplus", "tf.nn.softplus")),
    "x / (1 + |x|)": (_op("Softsign"), ("ops:Softsign", "tf.math.softsign", "tf.nn.softsign")),
    "Self-normalising ELU": (_op("Selu"), ("ops:Selu", "tf.nn.selu")),
}
_WHOLE: dict[str, tuple[Make, tuple[str, ...]]] = {
    "Rounded down": (_op("Floor"), ("ops:Floor", "tf.math.floor", "tf.floor")),
    "Rounded up": (_op("Ceil"), ("ops:Ceil", "tf.math.ceil")),
    "Rounded to the nearest, ties to even": (_op("Round"), ("tf.math.round", "tf.math.rint", "tf.round")),
    "Rounded towards zero": (_truncated, ("ops:Trunc",)),
}
_TESTS: dict[str, tuple[Make, tuple[str, ...]]] = {
    "Whether x is no number": (_op("IsNaN"), ("ops:Isnan", "tf.math.is_nan")),
    "Whether x is infinite": (_op("IsInf"), ("ops:Isinf", "tf.math.is_inf")),
    "Whether x is below 0": (lambda b, v: b.op("Less", v, b.const(0.0, "zero")), ("ops:Signbit",)),
    "Whether x is finite": (_finite, ("ops:Isfinite", "tf.math.is_finite")),
    "Whether x is plus infinity": (_op("IsInf", detect_negative=0), ("ops:Isposinf",)),
    "Whether x is minus infinity": (_op("IsInf", detect_positive=0), ("ops:Isneginf",)),
}


def argument(op: Op) -> KT:
    """The one tensor of a function, whatever it is called."""
    name = next((n for n in ("x", "features", "logits", "input", "a", "tensor") if n in op.l.kwargs), "x")
    return op.tensor(name)


def _unary(about: str, make: Make, types: tuple[str, ...], kind: str) -> None:
    def read(op: Op) -> KT:
        x = argument(op)
        if kind == "whole" and x.dtype != _FLOAT:
            return op.floating(x) if op.keras3 and about != "Rounded towards zero" else x
        if kind == "same" and x.dtype == _BOOL:
            x = op.cast(x, ir.DataType.INT32)
        if kind in ("real", "tests"):
            x = op.floating(x)
        return x.like(make(op.b, x.value))

    read.__doc__ = f"{about}."
    operation(*types)(read)


for _table, _kind in ((_SAME, "same"), (_REAL, "real"), (_WHOLE, "whole"), (_TESTS, "tests")):
    for _about, (_make, _types) in _table.items():
        _unary(_about, _make, _types, _kind)


@operation("ops:Round")
def round_to(op: Op) -> KT:
    """Rounded to a number of decimals, ties to even."""
    x = op.floating(argument(op))
    decimals = op.integer("decimals", 1, 0)
    if decimals == 0:
        return x.like(op.b.op("Round", x.value))
    factor = op.b.const(10.0**decimals, "factor")
    return x.like(op.b.op("Div", op.b.op("Round", op.b.op("Mul", x.value, factor)), factor))


@operation("ops:LogicalNot", "tf.math.logical_not", "tf.logical_not")
def logical_not(op: Op) -> KT:
    """Not x."""
    x = op.cast(argument(op), _BOOL)
    return x.like(op.b.op("Not", x.value))


@operation("ops:Cast", "ops:SaturateCast", "tf.cast", "tf.saturate_cast", "tf.dtypes.cast",
           "tf.dtypes.saturate_cast")  # fmt: skip
def cast(op: Op) -> KT:
    """Another element type; saturating if asked."""
    x = argument(op)
    kind = op.dtype("dtype", 1)
    if kind is None:
        return x
    if "aturate" in op.l.type and x.dtype == _FLOAT and kind not in (_FLOAT, _BOOL):
        ends = np.iinfo(kind.numpy())
        high = np.float32(ends.max)
        high = high if int(high) <= ends.max else np.nextafter(high, np.float32(0))  # 2^31 is no int32
        x = x.like(op.b.op("Clip", x.value, op.b.const(float(ends.min), "min"), op.b.const(float(high), "max")))
    return op.cast(x, kind)


@operation("ops:StopGradient", "ops:Copy", "ops:ConvertToTensor", "ops:Conjugate", "ops:Conj", "ops:Real", "ops:Array",
           "tf.stop_gradient", "tf.identity", "tf.convert_to_tensor", "tf.grad_pass_through",
           "tf.debugging.check_numerics")  # fmt: skip
def same(op: Op) -> KT:
    """Nothing, at inference; another type where one is named."""
    x = op.tensor(next((n for n in ("x", "input", "value", "tensor") if n in op.l.kwargs), "x"))
    kind = op.dtype("dtype", None, None)
    op.leave("trainable", "message", "shape", "dtype_hint", "copy")
    if not op.keras3 and op.l.config.raw.get("dtype") and "dtype" not in op.l.kwargs:
        kind = None
    return x if kind is None else op.cast(x, kind)


@operation("ops:NanToNum")
def nan_to_num(op: Op) -> KT:
    """NaN and infinities replaced."""
    x = op.floating(argument(op))
    big = float(np.finfo(np.float32).max)
    low, high = op.take("neginf", None, None), op.take("posinf", None, None)
    made = op.b.op("Where", op.b.op("IsNaN", x.value), op.b.const(op.number("nan", None, 0.0), "nan"), x.value)
    above, below = op.b.op("IsInf", made, detect_negative=0), op.b.op("IsInf", made, detect_positive=0)
    made = op.b.op("Where", above, op.b.const(big if high is None else float(high), "posinf"), made)
    return x.like(op.b.op("Where", below, op.b.const(-big if low is None else float(low), "neginf"), made))
