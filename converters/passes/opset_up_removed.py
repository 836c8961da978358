"""Raising: operators of 2017 and 2018 that were experimental and are gone; each rule writes opset 11.

Sources: onnx/defs/experiments/defs.cc of onnx 1.0 to 1.4, and the kernels that onnxruntime keeps for some of them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx

from netferry.converters.passes.opset_rules import Cannot, Rewriter, removed
from netferry.schemas.ir import ir

_END = np.iinfo(np.int64).max


@removed("Affine")
def affine(b: Rewriter) -> ir.Value:
    """alpha * x + beta."""
    x = b.data()
    scaled = b.op("Mul", x, b.like(b.attribute("alpha", 1.0), x))
    return b.op("Add", scaled, b.like(b.attribute("beta", 0.0), x))


@removed("Scale")
def scale(b: Rewriter) -> ir.Value:
    """scale * x."""
    return b.op("Mul", b.data(), b.like(b.attribute("scale", 1.0), b.data()))


@removed("ScaledTanh")
def scaled_tanh(b: Rewriter) -> ir.Value:
    """alpha * tanh(beta * x)."""
    x = b.data()
    inner = b.op("Tanh", b.op("Mul", x, b.like(b.attribute("beta", 1.0), x)))
    return b.op("Mul", inner, b.like(b.attribute("alpha", 1.0), x))


@removed("ParametricSoftplus")
def parametric_softplus(b: Rewriter) -> ir.Value:
    """alpha * ln(exp(beta * x) + 1)."""
    x = b.data()
    inner = b.op("Softplus", b.op("Mul", x, b.like(b.attribute("beta", 1.0), x)))
    return b.op("Mul", inner, b.like(b.attribute("alpha", 1.0), x))


@removed("ThresholdedRelu")
def thresholded_relu(b: Rewriter) -> ir.Value:
    """Experimental before 10, with the meaning that it has today."""
    return b.op("ThresholdedRelu", b.data(), alpha=float(b.attribute("alpha", 1.0)))


@removed("ImageScaler")
def image_scaler(b: Rewriter) -> ir.Value:
    """scale * x + bias, one bias per channel (N x C x H x W)."""
    x = b.data()
    y = b.op("Mul", x, b.like(b.attribute("scale", 1.0), x))
    bias = b.attribute("bias", [])
    kind = b.dtype(x).numpy()
    return b.op("Add", y, b.const(np.array(bias, kind).reshape(-1, 1, 1), "bias")) if bias else y


@removed("Crop")
def crop(b: Rewriter) -> ir.Value:
    """Borders left, top, right, bottom cut from N x C x H x W; ``scale`` gives height and width instead of the ends."""
    left, top, right, bottom = b.attribute("border", [0, 0, 0, 0])
    size = b.attribute("scale", [])
    ends = [top + size[0], left + size[1]] if size else [-bottom or _END, -right or _END]
    return b.op("Slice", b.data(), [top, left], ends, [2, 3])


@removed("DynamicSlice")
def dynamic_slice(b: Rewriter) -> ir.Value:
    """Slice as it is today."""
    return b.op("Slice", *(b.input_at(i) for i in range(4)))


@removed("FC")
def fully_connected(b: Rewriter) -> ir.Value:
    """x W^T + b; axes from ``axis`` (of W: ``axis_w``) on count as one."""
    x = b.op("Flatten", b.data(), axis=b.attribute("axis", 1))
    w = b.op("Flatten", b.data(1), axis=b.attribute("axis_w", 1))
    return b.op("Gemm", x, w, b.input_at(2), transB=1)


@removed("MeanVarianceNormalization")
def mean_variance(b: Rewriter) -> ir.Value:
    """Mean and variance over batch, height and width, with ``across_channels`` over channels too."""
    axes = [0, 1, 2, 3] if b.attribute("across_channels", 0) else [0, 2, 3]
    if b.attribute("normalize_variance", 1):
        return b.op("MeanVarianceNormalization", b.data(), axes=axes)
    return b.op("Sub", b.data(), b.op("ReduceMean", b.data(), axes=axes, keepdims=1))


@removed("ConstantFill")
def constant_fill(b: Rewriter) -> ir.Value:
    """A tensor of one value; its shape is an attribute, an input, or an input's shape."""
    kind = ir.DataType(b.attribute("dtype", onnx.TensorProto.FLOAT))
    value = ir.tensor(np.array([b.attribute("value", 0.0)]).astype(kind.numpy()))
    return b.op("ConstantOfShape", _wanted_shape(b), value=ir.AttrTensor("value", value))


@removed("GivenTensorFill")
def given_tensor(b: Rewriter) -> ir.Value:
    """The values that an attribute holds."""
    values = np.array(b.attribute("values", []), np.float32)
    shape = b.attribute("shape")
    if b.input_at(0) is None and shape is not None:
        if math.prod(shape) != values.size:
            raise Cannot(f"{values.size} values do not fill shape {shape}")
        return b.const(values.reshape(shape), "values")
    return b.op("Reshape", b.const(values, "values"), _wanted_shape(b))


def _wanted_shape(b: Rewriter) -> ir.Value:
    given = b.input_at(0)
    if given is None:
        return b.const(np.array(b.attribute("shape", []), np.int64), "shape")
    further = b.attribute("extra_shape", [])
    shape = b.cast(given, ir.DataType.INT64) if b.attribute("input_as_shape", 0) else b.op("Shape", given)
    return b.op("Concat", shape, np.array(further, np.int64), axis=0) if further else shape


@removed("GRUUnit")
def gru_unit(b: Rewriter) -> ir.Value:
    """One step: h = s(u) * h' + (1 - s(u)) * tanh(o); gates (forget, u, o) come without their activations.

    Past a sequence's length the state stays, or becomes zero with ``drop_states`` (caffe2/operators/gru_unit_op.h).
    """
    before, gates, lengths, step = (b.data(i) for i in range(4))
    parts: Any = b.op("Split", gates, outputs=3, axis=-1)
    update = b.op("Sigmoid", parts[1])
    keep = b.op("Mul", before, update)
    new = b.op("Mul", b.op("Tanh", parts[2]), b.op("Sub", b.like(1.0, before), update))
    after = b.op("Add", keep, new)
    kind = ir.DataType.INT64
    running = b.op("Less", b.reshape(b.cast(step, kind), [1]), b.reshape(b.cast(lengths, kind), [-1]))
    past = b.op("Mul", before, b.like(0.0, before)) if b.attribute("drop_states", 0) else before
    return b.op("Where", b.op("Unsqueeze", running, axes=[-1]), after, past)
