"""Matrix products: InnerProduct, and Embed as the product with one-hot rows."""

from __future__ import annotations

import math

from netferry.converters.caffe.registry import Layer, layer
from netferry.converters.caffe.windows import axis_of, check_size
from netferry.schemas.graph import Builder, shape_of
from netferry.schemas.ir import ir


@layer("InnerProduct")
def inner_product(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """Flattens from ``axis`` on and multiplies; ``transpose`` stores the weights as in x out."""
    p = l.param("inner_product_param")
    outputs = p.int("num_output", least=1)
    transpose = p.bool("transpose", False)
    dims = shape_of(x)
    axis = axis_of(l, x, p.int("axis", 1))
    inputs = math.prod(l.fixed(x, i, "the product") for i in range(axis, len(dims)))
    check_size(l, (*dims[:axis], outputs))
    shape = (inputs, outputs) if transpose else (outputs, inputs)
    unstored = 0.0 if l.has_weights_file else None  # Caffe's default filler is the constant 0
    weight = l.weight(b, "weight", 0, shape, filler=p.filler("weight_filler"), default=unstored)
    bias = None
    if p.bool("bias_term", True):
        bias = l.weight(b, "bias", 1, (outputs,), filler=p.filler("bias_filler"), default=0.0)
    if axis < 2:
        if axis == 0 or len(dims) > 2:
            x = b.op("Flatten", x, axis=axis)
        y = b.op("Gemm", x, weight, bias, transB=None if transpose else 1)
        return y if axis == 1 else b.reshape(y, [outputs])
    if len(dims) > axis + 1:
        x = b.reshape(x, [*[0] * axis, inputs])
    y = b.op("MatMul", x, weight if transpose else b.op("Transpose", weight, perm=[1, 0]))
    return y if bias is None else b.op("Add", y, bias)


@layer("Embed")
def embed(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """Rows of a table; the indices come as floats and lose their fraction."""
    p = l.param("embed_param")
    outputs, rows = p.int("num_output", least=1), p.int("input_dim", least=1)
    check_size(l, (*shape_of(x), outputs))
    unstored = 0.0 if l.has_weights_file else None
    table = l.weight(b, "weight", 0, (rows, outputs), filler=p.filler("weight_filler"), default=unstored)
    y = b.op("Gather", table, b.op("Cast", x, to=ir.DataType.INT64))
    if not p.bool("bias_term", True):
        return y
    return b.op("Add", y, l.weight(b, "bias", 1, (outputs,), filler=p.filler("bias_filler"), default=0.0))
