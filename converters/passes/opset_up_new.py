"""Raising: opset 13 and above."""

from __future__ import annotations

import numpy as np

from netferry.converters.passes.opset_rules import Cannot, Rewriter, lift
from netferry.schemas.ir import ir


@lift("Softmax LogSoftmax Hardmax", 13)
def softmax(b: Rewriter) -> ir.Value | None:
    """Before 13 all axes from ``axis`` on count as one: the same where only one of them is larger than 1."""
    axis, x = b.attribute("axis", 1), b.data()
    if x.shape is not None:
        dims = b.dims(x)
        place = axis % len(dims) if dims else axis
        large = [i for i in range(place, len(dims)) if dims[i] != 1]
        if len(large) <= 1:
            b.set(axis=large[0] - len(dims) if large else -1)
            return None
    elif axis == -1:
        b.set(axis=-1)
        return None
    flat = b.op(b.node.op_type, b.op("Flatten", x, axis=axis), axis=-1)
    return b.op("Reshape", flat, b.op("Shape", x))


@lift("Squeeze Unsqueeze ReduceSum", 13)
@lift("ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSumSquare", 18)
def axes_input(b: Rewriter) -> None:
    """The axes are an input since 13 (18 for most reductions)."""
    axes = b.attribute("axes")
    b.set(axes=None)
    if axes is not None:
        b.feed(1, np.array(axes, np.int64), "axes")


@lift("MeanVarianceNormalization", 13)
def mean_variance_axes(b: Rewriter) -> None:
    """The default axes said aloud: from 18 on ONNX's checker stumbles over the default."""
    b.set(axes=b.attribute("axes", [0, 2, 3]))


@lift("Split", 13)
def split_input(b: Rewriter) -> None:
    """The sizes are an input since 13."""
    sizes = b.attribute("split")
    b.set(split=None)
    if sizes is not None:
        b.feed(1, np.array(sizes, np.int64), "split")


@lift("Split", 18)
def split_count(b: Rewriter) -> None:
    """Equal parts: their number is said since 18."""
    if b.input_at(1) is None:
        b.set(num_outputs=len(b.node.outputs))


@lift("BatchNormalization", 14)
def batch_norm(b: Rewriter) -> None:
    """Outputs of the training form are gone; nobody could compute them at rest."""
    for value in b.node.outputs[1:]:
        if value.uses() or value.is_graph_output():
            raise Cannot("outputs of the old training form are gone")
    b.node.resize_outputs(1)


@lift("RoiAlign", 16)
def roi_align(b: Rewriter) -> None:
    """What RoiAlign did before 16 has a name now."""
    b.set(coordinate_transformation_mode="output_half_pixel")


@lift("GridSample", 20)
def grid_sample(b: Rewriter) -> None:
    """The modes have other names since 20."""
    names = {"bilinear": "linear", "bicubic": "cubic"}
    mode = b.attribute("mode", "bilinear")
    b.set(mode=names.get(mode, mode))


@lift("DFT", 20)
def dft_axis(b: Rewriter) -> None:
    """The axis is an input since 20."""
    axis = b.attribute("axis", 1)
    b.set(axis=None)
    b.feed(2, np.array(axis, np.int64), "axis")


@lift("GroupNormalization", 21)
def group_norm(b: Rewriter) -> ir.Value:
    """Scale and bias are per channel since 21, per group before: each is repeated for its group's channels."""
    x, groups = b.data(), b.attribute("num_groups")
    channels = b.size(x, 1)
    wide = []
    for i in (1, 2):
        column = b.op("Unsqueeze", b.data(i), [1])
        wide.append(b.reshape(b.op("Expand", column, [groups, channels // groups]), [channels]))
    return b.op("GroupNormalization", x, *wide, num_groups=groups, epsilon=b.attribute("epsilon"))
