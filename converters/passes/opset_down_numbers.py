"""Lowering: arithmetic whose element types or rounding were narrower before, and quantisation."""

from __future__ import annotations

import numpy as np

from netferry.converters.passes.opset_rules import Cannot, Rewriter, lower
from netferry.converters.passes.opset_schema import bad_types, schema_of
from netferry.schemas.ir import ir

_FLOATS = (ir.DataType.FLOAT16, ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.BFLOAT16)
_EXACT_IN_DOUBLE = (ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT16, ir.DataType.UINT16, ir.DataType.INT32)


def _fits(b: Rewriter) -> bool:
    schema = schema_of(b.node.op_type, b.opset)
    return schema is not None and not bad_types(b.node, schema)


@lower("Max Min", 12)
def max_min(b: Rewriter) -> ir.Value | None:
    """Floats only before 12; integers are compared and chosen."""
    if _fits(b):
        return None
    compare = "Greater" if b.node.op_type == "Max" else "Less"
    out = b.data()
    for i in range(1, len(b.node.inputs)):
        other = b.data(i)
        out = b.op("Where", b.op(compare, out, other), out, other)
    return b.op("Identity", out) if out is b.data() else out


@lower("Clip", 12)
def clip(b: Rewriter) -> ir.Value | None:
    """Floats only before 12; integers are compared and chosen, first with the lower bound, then with the upper."""
    if _fits(b):
        return None
    x = b.data()
    for i, compare in ((1, "Less"), (2, "Greater")):
        bound = b.input_at(i)
        if bound is not None:
            x = b.op("Where", b.op(compare, x, bound), bound, x)
    return b.op("Identity", x) if x is b.data() else x


@lower("Pow", 12)
def power(b: Rewriter) -> ir.Value | None:
    """Before 12 both have one floating type; integers up to 32 bits are exact in double."""
    if _fits(b):
        return None
    x, y = b.data(), b.data(1)
    kind = b.dtype(x)
    if kind in _FLOATS:
        return b.op("Pow", x, b.cast(y, kind))
    if kind not in _EXACT_IN_DOUBLE:
        raise Cannot(f"{kind.name.lower()} is not taken before")
    wide = ir.DataType.DOUBLE
    return b.cast(b.op("Pow", b.cast(x, wide), b.cast(y, wide)), kind)


@lower("Mod", 28)
def modulo(b: Rewriter) -> ir.Value | None:
    """``fmod=0`` of floats: C's remainder, moved by the divisor where the signs differ."""
    x, y = b.data(), b.data(1)
    if b.attribute("fmod", 0) or b.dtype(x) not in _FLOATS:
        return None
    rest = b.op("Mod", x, y, fmod=1)
    zero = b.like(0, x)
    other = b.op("Xor", b.op("Less", rest, zero), b.op("Less", y, zero))
    moved = b.op("And", other, b.op("Not", b.op("Equal", rest, zero)))
    return b.op("Where", moved, b.op("Add", rest, y), rest)


@lower("Range", 27)
def half_range(b: Rewriter) -> ir.Value | None:
    """Half-precision ranges are counted in float; before 27 there are none."""
    if b.attribute("stash_type", 1) != 1:
        raise Cannot("stash_type other than float is not there before")
    b.set(stash_type=None)
    kind = b.dtype(b.data())
    if kind not in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16):
        return None
    return b.cast(b.op("Range", *(b.cast(b.data(i), ir.DataType.FLOAT) for i in range(3))), kind)


@lower("SpaceToDepth", 28)
def space_to_depth(b: Rewriter) -> ir.Value | None:
    """``CRD`` written out by its definition."""
    if b.attribute("mode", "DCR") == "DCR":
        b.set(mode=None)
        return None
    x, n = b.data(), b.attribute("blocksize")
    c, h, w = (b.size(x, i) for i in (1, 2, 3))
    x = b.reshape(x, [0, c, h // n, n, w // n, n])
    return b.reshape(b.op("Transpose", x, perm=[0, 1, 3, 5, 2, 4]), [0, c * n * n, h // n, w // n])


@lower("CastLike", 15)
def cast_like(b: Rewriter) -> ir.Value:
    """The type is known: a Cast."""
    return b.op("Cast", b.data(), to=int(b.dtype(b.data(1))))


@lower("QuantizeLinear", 21)
def quantize_type(b: Rewriter) -> None:
    """Before 21 the zero point alone says the type."""
    kind, scale = b.attribute("output_dtype", 0), b.data(1)
    if kind and b.input_at(2) is None:
        dims = b.dims(scale)
        if not all(isinstance(d, int) for d in dims):
            raise Cannot("output_dtype with a scale of dynamic size is not there before")
        zeros = np.zeros([int(str(d)) for d in dims], ir.DataType(kind).numpy())
        b.feed(2, zeros, "zero_point")
    b.set(output_dtype=None)


def _one_scale(b: Rewriter) -> bool:
    return all(d == 1 for d in b.dims(b.data(1)))


def _per_axis(b: Rewriter) -> list[int]:
    rank = b.rank(b.data())
    axis = b.attribute("axis", 1) % rank
    return [-1 if i == axis else 1 for i in range(rank)]


@lower("DequantizeLinear", 13)
def dequantize(b: Rewriter) -> ir.Value | None:
    """One scale only before 13; a scale per slice is written out: (x - zero point) * scale."""
    if _one_scale(b):
        b.set(axis=None)
        return None
    dims, x, zero = _per_axis(b), b.cast(b.data(), ir.DataType.FLOAT), b.input_at(2)
    if zero is not None:
        x = b.op("Sub", x, b.reshape(b.cast(zero, ir.DataType.FLOAT), dims))
    return b.op("Mul", x, b.reshape(b.data(1), dims))


@lower("QuantizeLinear", 13)
def quantize(b: Rewriter) -> ir.Value | None:
    """One scale only before 13; a scale per slice is written out: saturate(round(x / scale) + zero point)."""
    if _one_scale(b):
        b.set(axis=None)
        return None
    dims, zero = _per_axis(b), b.input_at(2)
    x = b.op("Round", b.op("Div", b.cast(b.data(), ir.DataType.FLOAT), b.reshape(b.data(1), dims)))
    kind = ir.DataType.UINT8 if zero is None else b.dtype(zero)
    if zero is not None:
        x = b.op("Add", x, b.reshape(b.cast(zero, ir.DataType.FLOAT), dims))
    low, high = (-128.0, 127.0) if kind == ir.DataType.INT8 else (0.0, 255.0)
    return b.cast(b.op("Clip", x, low, high), kind)
