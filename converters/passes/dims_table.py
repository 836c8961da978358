"""The table of rules that carry symbolic shapes (``SHAPES``) and integer vectors (``DATA``) on, and what they share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from netferry.converters.passes.polynomials import Poly, number, symbol
from netferry.schemas.ir import ir

Vector = tuple[Poly, ...]
UNARY = frozenset((
    "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "BitwiseNot", "Cast", "Ceil", "Celu", "Clip", "Cos",
    "Cosh", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity", "IsInf", "IsNaN",
    "LeakyRelu", "Log", "Mish", "Neg", "Not", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign",
    "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Swish", "Tan", "Tanh", "ThresholdedRelu",
))  # fmt: skip
"""operators that work on each element alone"""
BROADCAST = frozenset((
    "Add", "And", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Div", "Equal", "Greater", "GreaterOrEqual", "Less",
    "LessOrEqual", "Max", "Mean", "Min", "Mod", "Mul", "Or", "Pow", "PRelu", "Sub", "Sum", "Where", "Xor",
))  # fmt: skip
"""operators that work element by element on inputs broadcast to one shape"""
SAME_SHAPE = UNARY | frozenset((
    "BatchNormalization", "CumSum", "Dropout", "Hardmax", "InstanceNormalization", "LayerNormalization",
    "LogSoftmax", "LRN", "LpNormalization", "QuantizeLinear", "DequantizeLinear", "Softmax", "GroupNormalization",
    "Trilu", "ScatterElements", "ScatterND",
))  # fmt: skip


class Known(ABC):
    """What has been found so far."""

    def __init__(self) -> None:
        self.dims: dict[ir.Value, Vector] = {}
        self.data: dict[ir.Value, Vector] = {}

    @abstractmethod
    def shape(self, value: ir.Value) -> Vector | None:
        """Sizes of a value; None for an unknown rank."""
        ...

    @abstractmethod
    def numbers(self, value: ir.Value) -> Vector | None:
        """Elements of an integer scalar or vector; None where they are not known."""
        ...


ShapeRule = Callable[[Known, ir.Node], "Sequence[Vector | None] | None"]
DataRule = Callable[[Known, ir.Node], "Vector | None"]
SHAPES: dict[str, ShapeRule] = {}
DATA: dict[str, DataRule] = {}


def shapes_of(*kinds: str) -> Callable[[ShapeRule], ShapeRule]:
    def register(rule: ShapeRule) -> ShapeRule:
        SHAPES.update(dict.fromkeys(kinds, rule))
        return rule

    return register


def numbers_of(*kinds: str) -> Callable[[DataRule], DataRule]:
    def register(rule: DataRule) -> DataRule:
        DATA.update(dict.fromkeys(kinds, rule))
        return rule

    return register


def shape_in(known: Known, node: ir.Node, i: int) -> Vector | None:
    value = node.inputs[i] if i < len(node.inputs) else None
    return None if value is None else known.shape(value)


def numbers_in(known: Known, node: ir.Node, i: int) -> Vector | None:
    value = node.inputs[i] if i < len(node.inputs) else None
    return None if value is None else known.numbers(value)


def plain_in(known: Known, node: ir.Node, i: int) -> list[int] | None:
    found = numbers_in(known, node, i)
    values = [] if found is None else [p.number for p in found]
    return None if found is None or None in values else [v for v in values if v is not None]


def slice_parts(known: Known, node: ir.Node) -> tuple[list[int], list[int], list[int], list[int]] | None:
    """Starts, ends, axes and steps of a Slice, which were settings until opset 9; None where they are not known."""
    parts: list[list[int] | None] = []
    for i, name in enumerate(("starts", "ends", "axes", "steps"), 1):
        held = node.attributes.get(name)
        if held is not None and not held.is_ref():
            parts.append(list(held.as_ints()))
        elif i < len(node.inputs) and node.inputs[i] is not None:
            parts.append(plain_in(known, node, i))
        else:
            count = len(parts[0] or ()) if parts else 0
            parts.append(None if i < 3 else list(range(count)) if i == 3 else [1] * count)
    found = [p for p in parts if p is not None]
    if len(found) < 4 or len({len(p) for p in found}) > 1 or 0 in found[3]:
        return None
    return found[0], found[1], found[2], found[3]


def attribute(node: ir.Node, name: str, default: int) -> int:
    held = node.attributes.get(name)
    return default if held is None or held.is_ref() else held.as_int()


def broadcast(shapes: Sequence[Vector], name: str) -> Vector | None:
    """The shape that shapes broadcast to; where two dynamic sizes meet, a size of its own."""
    rank = max(len(s) for s in shapes)
    out: list[Poly] = []
    for axis in range(rank):
        column = [s[axis - rank + len(s)] for s in shapes if axis - rank + len(s) >= 0]
        wide = list(dict.fromkeys(d for d in column if d != number(1)))
        sized = [d for d in wide if d.number is not None]
        if not wide:
            out.append(number(1))
        elif len(wide) == 1:
            out.append(wide[0])
        else:
            out.append(sized[0] if len(sized) == 1 else symbol(f"?{name}:{axis}"))
    return tuple(out)
