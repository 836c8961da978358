"""Lowering: activations, normalisation, pooling, recurrent layers."""

from __future__ import annotations

import numpy as np

from netferry.converters.passes.opset_rules import Cannot, Rewriter, lower
from netferry.converters.passes.opset_schema import bad_types, schema_of
from netferry.schemas.ir import ir


@lower("Softmax LogSoftmax Hardmax", 13)
def softmax(b: Rewriter) -> ir.Value | None:
    """Before 13 all axes from ``axis`` on count as one: the last means the same, another changes places with it."""
    axis = b.attribute("axis", -1)
    if axis == -1:
        b.set(axis=-1)
        return None
    x = b.data()
    dims = b.dims(x)
    axis %= len(dims)
    if all(d == 1 for d in dims[axis + 1 :]):
        b.set(axis=axis)
        return None
    perm = list(range(len(dims)))
    perm[axis], perm[-1] = perm[-1], perm[axis]
    turned = b.op(b.node.op_type, b.op("Transpose", x, perm=perm), axis=-1)
    return b.op("Transpose", turned, perm=perm)


@lower("Dropout", 12)
def dropout(b: Rewriter) -> list[ir.Value] | None:
    """The ratio is an attribute before 12, and there is no training mode; the mask at rest is all true."""
    training = b.constant(2, "whether Dropout trains")
    if training is not None and bool(training.reshape(-1)[0]):
        ratio = b.constant(1, "the ratio")
        if ratio is None or float(ratio.reshape(-1)[0]) != 0.0:
            raise Cannot("training_mode=true is not there before")
    x = b.data()
    if len(b.node.outputs) > 1 and (b.node.outputs[1].uses() or b.node.outputs[1].is_graph_output()):
        mask = b.op("ConstantOfShape", b.op("Shape", x), value=ir.Tensor(np.array([True])))
        return [b.op("Identity", x), mask]
    given = b.input_at(1)
    if given is not None and given.const_value is not None:
        ratio = b.constant(1, "the ratio")
        if ratio is not None:
            b.set(ratio=float(ratio.reshape(-1)[0]))
    b.cut(1)
    b.set(seed=None)
    return None


@lower("BatchNormalization", 15)
def batch_norm_types(b: Rewriter) -> ir.Value | None:
    """Before 15 the data, scale and bias have one type: half-precision data with float weights is computed in float."""
    schema = schema_of("BatchNormalization", b.opset)
    if schema is None or not bad_types(b.node, schema):
        return None
    if b.attribute("training_mode", 0):
        raise Cannot("mixed element types with training_mode=1 are not there before")
    x = b.data()
    inputs = [b.cast(b.data(i), ir.DataType.FLOAT) for i in range(5)]
    y = b.op("BatchNormalization", *inputs, epsilon=b.attribute("epsilon"), momentum=b.attribute("momentum"))
    return b.cast(y, b.dtype(x))


@lower("BatchNormalization", 14)
def batch_norm(b: Rewriter) -> list[ir.Value] | None:
    """Inference is the same before 14; training is written out by its formula (population variance)."""
    if not b.attribute("training_mode", 0):
        return None
    x, scale, bias, mean, var = (b.data(i) for i in range(5))
    rank = b.rank(x)
    axes = [i for i in range(rank) if i != 1]
    weight = [1, -1, *([1] * (rank - 2))]
    now = b.op("ReduceMean", x, axes=axes, keepdims=1)
    off = b.op("Sub", x, now)
    spread = b.op("ReduceMean", b.op("Mul", off, off), axes=axes, keepdims=1)
    eps, momentum = b.attribute("epsilon", 1e-5), b.attribute("momentum", 0.9)
    y = b.op("Div", off, b.op("Sqrt", b.op("Add", spread, b.like(eps, x))))
    y = b.op("Add", b.op("Mul", y, b.reshape(scale, weight)), b.reshape(bias, weight))
    out = [y]
    for kept, new in ((mean, now), (var, spread)):
        flat = b.cast(b.reshape(new, [-1]), b.dtype(kept))
        old = b.op("Mul", kept, b.like(momentum, kept))
        out.append(b.op("Add", old, b.op("Mul", flat, b.like(1.0 - momentum, kept))))
    return out[: len(b.node.outputs)]


@lower("LSTM GRU RNN", 14)
def recurrent_layout(b: Rewriter) -> list[ir.Value] | None:
    """``layout=1`` (batch first) is two Transposes around ``layout=0``."""
    if not b.attribute("layout", 0):
        return None
    states = (5, 6) if b.node.op_type == "LSTM" else (5,)
    inputs = [b.input_at(i) for i in range(len(b.node.inputs))]
    for i in (0, *states):
        value = inputs[i] if i < len(inputs) else None
        if value is not None:
            inputs[i] = b.op("Transpose", value, perm=[1, 0, 2])
    attributes = {k: v for k, v in b.node.attributes.items() if k != "layout"}
    made = b.op(b.node.op_type, *inputs, outputs=len(b.node.outputs), **attributes)
    values = [made] if isinstance(made, ir.Value) else list(made)
    perms = [[2, 0, 1, 3], [1, 0, 2], [1, 0, 2]]
    return [b.op("Transpose", v, perm=p) for v, p in zip(values, perms, strict=False)]


@lower("MaxPool AveragePool LpPool", 22)
def pool_ceil(b: Rewriter) -> None:
    """Since 22 ``ceil_mode`` gives no window that starts in the padding behind: what is left is then the floor."""
    if not b.attribute("ceil_mode", 0):
        return
    dims, kernel = b.dims(b.data())[2:], b.attribute("kernel_shape")
    n = len(kernel)
    ones = [1] * n
    strides, dilations = b.attribute("strides", ones), b.attribute("dilations", ones)
    pads = b.attribute("pads", [0] * (2 * n))
    up, ignored = False, False
    for i, dim in enumerate(dims):
        if not isinstance(dim, int):
            return  # every runtime has always left these windows out
        room = dim + pads[i] + pads[i + n] - ((kernel[i] - 1) * dilations[i] + 1)
        start = -(-room // strides[i]) * strides[i]
        late = start >= dim + pads[i]
        ignored |= late
        up |= room % strides[i] != 0 and not late
    if ignored and up:
        raise Cannot("ceil_mode=1 with windows that start in the padding is not there before")
    if ignored:
        b.set(ceil_mode=None)


@lower("AveragePool", 19)
@lower("LpPool", 18)
def pool_dilations(b: Rewriter) -> None:
    """Dilations of 1 are what was meant before."""
    if all(d == 1 for d in b.attribute("dilations", [])):
        b.set(dilations=None)


@lower("RoiAlign", 16)
def roi_align(b: Rewriter) -> None:
    """Before 16 only ``output_half_pixel``; ``half_pixel`` also lifts the least size of a region: not the same."""
    if b.attribute("coordinate_transformation_mode", "half_pixel") != "output_half_pixel":
        raise Cannot("coordinate_transformation_mode='half_pixel' is not there before")
    b.set(coordinate_transformation_mode=None)


@lower("GridSample", 20)
def grid_sample_names(b: Rewriter) -> None:
    """Pictures only before 20, and other names for the modes."""
    if b.rank(b.data()) != 4:
        raise Cannot("grids of other ranks than 4 are not there before")
    names = {"linear": "bilinear", "cubic": "bicubic"}
    mode = b.attribute("mode", "linear")
    b.set(mode=names.get(mode, mode))


@lower("DFT", 20)
def dft_axis(b: Rewriter) -> None:
    """The axis is an attribute before 20."""
    axes = b.ints(2, "the axis")
    rank = b.rank(b.data())
    b.cut(2)
    b.set(axis=(axes[0] if axes else -2) % rank)
