"""Operations on each element: arithmetic, comparison, logic, mathematical functions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from netferry.converters.keras.layout import KT
from netferry.converters.keras.operations.broadcast import kind_of, together, wrapped
from netferry.converters.keras.operations.call import Op, operation
from netferry.converters.keras.operations.functions import log1p
from netferry.schemas.graph import Builder
from netferry.schemas.ir import ir

_FLOAT, _BOOL, _INT32 = ir.DataType.FLOAT, ir.DataType.BOOL, ir.DataType.INT32
_NARROW = frozenset({ir.DataType.UINT8, ir.DataType.INT8, ir.DataType.UINT16, ir.DataType.INT16, _BOOL})
Pair = Callable[[Builder, ir.Value, ir.Value], ir.Value]


def operands(op: Op, names: tuple[str, str] = ("x1", "x2")) -> tuple[Any, Any]:
    """The two operands of a binary operation, whatever TensorFlow or Keras calls them."""
    found = []
    if op.l.type == "tf.math.atan2":
        return op.take("y", 0), op.take("x", 1)
    for place, options in enumerate(((names[0], "x", "a", "input"), (names[1], "y", "b", "other"))):
        name = next((n for n in options if n in op.l.kwargs), options[1] if not op.keras3 else options[0])
        found.append(op.take(name, place))
    return found[0], found[1]


def paired(op: Op, x: Any, y: Any, make: Pair, kind: ir.DataType | None = None) -> KT:
    """Apply a binary operator at the operands' common type (or ``kind``); narrow integers are computed as int32."""
    common = kind or kind_of([x, y], op)
    narrow = common in _NARROW and common != _BOOL
    values, lies = together(op, [x, y], [_INT32 if narrow else common] * 2)
    out = wrapped(make(op.b, values[0], values[1]), lies)
    return op.cast(out, common) if narrow and out.dtype == _INT32 else out


def _simple(operator: str, **attributes: Any) -> Pair:
    return lambda b, x, y: b.op(operator, x, y, **attributes)


def _floor_divided(b: Builder, x: ir.Value, y: ir.Value) -> ir.Value:
    """Quotient rounded down, also for whole numbers (ONNX rounds those towards zero)."""
    if x.dtype == _FLOAT:
        return b.op("Floor", b.op("Div", x, y))
    return b.op("Div", b.op("Sub", x, b.op("Mod", x, y)), y)


def _remainder(b: Builder, x: ir.Value, y: ir.Value) -> ir.Value:
    """Remainder with the divisor's sign."""
    if x.dtype != _FLOAT:
        return b.op("Mod", x, y)
    return b.op("Sub", x, b.op("Mul", b.op("Floor", b.op("Div", x, y)), y))


def _squared_difference(b: Builder, x: ir.Value, y: ir.Value) -> ir.Value:
    difference = b.op("Sub", x, y)
    return b.op("Mul", difference, difference)


def arctan2(b: Builder, y: ir.Value, x: ir.Value) -> ir.Value:
    """Angle of (x, y) by quadrant."""
    zero = b.const(0.0, "zero")
    angle = b.op("Atan", b.op("Div", y, x))
    turn = b.op("Where", b.op("Less", y, zero), b.const(-math.pi, "turn"), b.const(math.pi, "turn"))
    left = b.op("Where", b.op("Less", x, zero), b.op("Add", angle, turn), angle)
    upright = b.op("Mul", b.op("Sign", y), b.const(math.pi / 2, "upright"))
    return b.op("Where", b.op("Equal", x, zero), upright, left)


def _divided_or_zero(b: Builder, x: ir.Value, y: ir.Value) -> ir.Value:
    zero = b.const(0.0, "zero")
    none = b.op("Equal", y, zero)
    return b.op("Where", none, zero, b.op("Div", x, b.op("Where", none, b.const(1.0, "one"), y)))


def _log_add_exp(b: Builder, x: ir.Value, y: ir.Value) -> ir.Value:
    high = b.op("Max", x, y)
    spread = b.op("Neg", b.op("Abs", b.op("Sub", x, y)))
    return b.op("Add", high, b.op("Log", b.op("Add", b.op("Exp", spread), b.const(1.0, "one"))))


def _log_add_exp2(b: Builder, x: ir.Value, y: ir.Value) -> ir.Value:
    log2 = b.const(math.log(2), "log2")
    return b.op("Div", _log_add_exp(b, b.op("Mul", x, log2), b.op("Mul", y, log2)), log2)


def _heaviside(b: Builder, x: ir.Value, y: ir.Value) -> ir.Value:
    """0 below 0, 1 above, y at 0."""
    zero = b.const(0.0, "zero")
    step = b.op("Cast", b.op("Greater", x, zero), to=int(_FLOAT))
    return b.op("Where", b.op("Equal", x, zero), y, step)


def _times_power_of_two(b: Builder, x: ir.Value, y: ir.Value) -> ir.Value:
    return b.op("Mul", x, b.op("Pow", b.const(2.0, "two"), y))


def _hypot(b: Builder, x: ir.Value, y: ir.Value) -> ir.Value:
    return b.op("Sqrt", b.op("Add", b.op("Mul", x, x), b.op("Mul", y, y)))


def _times_log(log: Callable[[Builder, ir.Value], ir.Value]) -> Pair:
    def make(b: Builder, x: ir.Value, y: ir.Value) -> ir.Value:
        zero = b.const(0.0, "zero")
        none = b.op("Equal", x, zero)
        return b.op("Where", none, zero, b.op("Mul", x, log(b, b.op("Where", none, b.const(1.0, "one"), y))))

    return make


_ARITHMETIC: dict[str, tuple[Pair, tuple[str, ...]]] = {
    "Sum of two": (_simple("Add"), ("ops:Add", "tf.math.add", "tf.__operators__.add", "tf.add", "tf.math.add_v2")),
    "Difference": (_simple("Sub"), ("ops:Subtract", "tf.math.subtract", "tf.subtract", "tf.__operators__.sub")),
    "Product": (_simple("Mul"), ("ops:Multiply", "tf.math.multiply", "tf.multiply", "tf.__operators__.mul")),
    "Larger of two": (_simple("Max"), ("ops:Maximum", "ops:Fmax", "tf.math.maximum", "tf.maximum")),
    "Smaller of two": (_simple("Min"), ("ops:Minimum", "ops:Fmin", "tf.math.minimum", "tf.minimum")),
    "Quotient rounded down": (_floor_divided, ("ops:FloorDivide", "tf.math.floordiv",
                                               "tf.floordiv", "tf.floor_div", "tf.__operators__.floordiv")),
    "Remainder with the divisor's sign": (_remainder, ("ops:Mod", "tf.math.floormod", "tf.math.mod", "tf.math.mod_v2",
                                                       "tf.mod", "tf.__operators__.mod")),
    "Square of the difference": (_squared_difference, ("tf.math.squared_difference", "tf.squared_difference")),
}  # fmt: skip
_REAL: dict[str, tuple[Pair, tuple[str, ...]]] = {
    "Quotient": (_simple("Div"), ("ops:Divide", "ops:TrueDivide", "tf.math.truediv", "tf.math.divide", "tf.divide",
                                  "tf.realdiv", "tf.truediv", "tf.__operators__.truediv")),
    "Quotient, 0 where the divisor is 0": (_divided_or_zero, ("ops:DivideNoNan", "tf.math.divide_no_nan")),
    "Angle of (x, y)": (arctan2, ("ops:Arctan2", "tf.math.atan2")),
    "log(exp(x) + exp(y))": (_log_add_exp, ("ops:Logaddexp",)),
    "log2(2^x + 2^y)": (_log_add_exp2, ("ops:Logaddexp2",)),
    "0 below 0, 1 above, y at 0": (_heaviside, ("ops:Heaviside",)),
    "x * 2^y": (_times_power_of_two, ("ops:Ldexp",)),
    "Length of (x, y)": (_hypot, ("ops:Hypot",)),
    "x log(y), 0 where x is 0": (_times_log(lambda b, v: b.op("Log", v)), ("tf.math.xlogy",)),
    "x log(1 + y), 0 where x is 0": (_times_log(log1p), ("tf.math.xlog1py",)),
}  # fmt: skip
_COMPARISON: dict[str, tuple[Pair, tuple[str, ...]]] = {
    "Greater": (_simple("Greater"), ("ops:Greater", "tf.math.greater", "tf.greater")),
    "Greater or equal": (_simple("GreaterOrEqual"), ("ops:GreaterEqual", "tf.math.greater_equal", "tf.greater_equal")),
    "Less": (_simple("Less"), ("ops:Less", "tf.math.less", "tf.less")),
    "Less or equal": (_simple("LessOrEqual"), ("ops:LessEqual", "tf.math.less_equal", "tf.less_equal")),
    "Equal": (_simple("Equal"), ("ops:Equal", "tf.math.equal", "tf.equal", "tf.__operators__.eq")),
    "Not equal": (lambda b, x, y: b.op("Not", b.op("Equal", x, y)),
                  ("ops:NotEqual", "tf.math.not_equal", "tf.not_equal", "tf.__operators__.ne")),
}  # fmt: skip
_LOGIC: dict[str, tuple[Pair, tuple[str, ...]]] = {
    "Both": (_simple("And"), ("ops:LogicalAnd", "tf.math.logical_and", "tf.logical_and")),
    "Either": (_simple("Or"), ("ops:LogicalOr", "tf.math.logical_or", "tf.logical_or")),
    "One but not both": (_simple("Xor"), ("ops:LogicalXor", "tf.math.logical_xor", "tf.logical_xor")),
}
_BITS: dict[str, tuple[Pair, tuple[str, ...]]] = {
    "Bits of both": (_simple("BitwiseAnd"), ("ops:BitwiseAnd", "tf.bitwise.bitwise_and")),
    "Bits of either": (_simple("BitwiseOr"), ("ops:BitwiseOr", "tf.bitwise.bitwise_or")),
    "Bits of one but not both": (_simple("BitwiseXor"), ("ops:BitwiseXor", "tf.bitwise.bitwise_xor")),
}


def _binary(about: str, make: Pair, types: tuple[str, ...], kind: str) -> None:
    def read(op: Op) -> KT:
        x, y = operands(op)
        if kind == "comparison":
            return paired(op, x, y, make, _compared(op, x, y))
        if kind == "arithmetic":
            common = kind_of([x, y], op)
            if common == _BOOL and about in ("Sum of two", "Product"):
                return paired(op, x, y, _simple("Or" if about == "Sum of two" else "And"))
            return paired(op, x, y, make, common)
        return paired(op, x, y, make, {"real": _FLOAT, "logic": _BOOL}.get(kind))

    read.__doc__ = f"{about}."
    operation(*types)(read)


def _compared(op: Op, x: Any, y: Any) -> ir.DataType:
    """The type at which two things are compared: truths as int32, which every operator takes."""
    kind = kind_of([x, y], op)
    return _INT32 if kind in _NARROW else kind


for _table, _kind in ((_ARITHMETIC, "arithmetic"), (_REAL, "real"), (_COMPARISON, "comparison"), (_LOGIC, "logic"),
                      (_BITS, "bits")):  # fmt: skip
    for _about, (_make, _types) in _table.items():
        _binary(_about, _make, _types, _kind)


@operation("ops:Power", "tf.math.pow", "tf.pow", "tf.__operators__.pow")
def power(op: Op) -> KT:
    """Power; squares are products, as negative bases demand."""
    x, y = operands(op)
    kind = kind_of([x, y], op)
    if isinstance(x, KT) and isinstance(y, (int, float)) and y in (1, 2) and kind == x.dtype:
        return x if y == 1 else x.like(op.b.op("Mul", x.value, x.value))
    if isinstance(x, KT) and isinstance(y, float) and y == 0.5 and kind == _FLOAT:
        return x.like(op.b.op("Sqrt", op.floating(x).value))
    return paired(op, x, y, _simple("Pow"), kind)


@operation("ops:Fmod")
def fmod(op: Op) -> KT:
    """Remainder with the dividend's sign."""
    x, y = operands(op)
    return paired(op, x, y, _simple("Mod", fmod=1))


@operation("tf.math.add_n", "tf.add_n")
def add_n(op: Op) -> KT:
    """Sum of a list of tensors."""
    values = op.take("inputs", 0)
    if not isinstance(values, list) or not values:
        raise op.bad("inputs", values, "a list of tensors")
    total = op.as_tensor(values[0])
    for value in values[1:]:
        total = paired(op, total, value, _simple("Add"))
    return total


@operation("ops:Where", "tf.where", "tf.where_v2")
def where(op: Op) -> KT:
    """One or the other by a condition; all three broadcast."""
    condition = op.take("condition", 0)
    x = op.take("x1" if op.keras3 else "x", 1, None)
    y = op.take("x2" if op.keras3 else "y", 2, None)
    if x is None or y is None:
        raise op.unsupported("a condition alone gives a number of rows that depends on the values")
    kind = kind_of([x, y], op)
    safe = _INT32 if kind in _NARROW else kind
    values, lies = together(op, [condition, x, y], [_BOOL, safe, safe])
    return op.cast(wrapped(op.b.op("Where", *values), lies), kind)


@operation("ops:Clip", "tf.clip_by_value")
def clip(op: Op) -> KT:
    """Values cut off below and above."""
    x = op.tensor("x" if op.keras3 else "t")
    low, high = (
        op.take("x_min" if op.keras3 else "clip_value_min", 1),
        op.take("x_max" if op.keras3 else "clip_value_max", 2),
    )
    return clipped(op, x, low, high)


def clipped(op: Op, x: KT, low: Any, high: Any) -> KT:
    """Clip by numbers, or by tensors that broadcast."""
    if op.keras3 and x.dtype != _FLOAT:
        x = op.cast(x, kind_of([x, low, high], op))
    if all(v is None or isinstance(v, (int, float)) for v in (low, high)):
        kind = x.dtype.numpy()
        ends = [
            None if v is None else op.b.const(np.asarray(v).astype(kind), n) for v, n in ((low, "min"), (high, "max"))
        ]
        return x.like(op.b.op("Clip", x.value, *ends))
    return paired(op, paired(op, x, high, _simple("Min")), low, _simple("Max"))
