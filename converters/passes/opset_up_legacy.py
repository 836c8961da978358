"""Raising: opset 1 to 6, the files of 2017: attributes that became inputs, one-sided broadcasting, training flags.

Sources: the schemas of onnx 1.0 to 1.2 (onnx/defs/*/old.cc) and docs/Changelog.md of onnx. ``consumed_inputs``, a hint
that an operator may work in place, is dropped from every node before these rules run.
"""

from __future__ import annotations

import numpy as np
import onnx

from netferry.converters.passes.opset_rules import Cannot, Rewriter, lift
from netferry.schemas.ir import ir


@lift("Add Sub Mul Div Pow And Or Xor Equal Greater Less", 7)
def one_sided_broadcast(b: Rewriter) -> None:
    """``broadcast=1`` fits the second operand's dimensions to the first's from ``axis`` on, else to the last ones.

    Since 7 dimensions meet from the last one on: the second operand gets the ones that are missing behind it.
    """
    axis, broadcast = b.attribute("axis"), b.attribute("broadcast", 0)
    b.set(axis=None, broadcast=None)
    if not broadcast or axis is None:
        return
    other = b.data(1)
    rank = b.rank(other)
    behind = -axis - rank if axis < 0 else b.rank(b.data()) - axis - rank
    if rank and behind < 0:
        raise Cannot(f"axis={axis} does not fit an operand of rank {rank}")
    if rank and behind:
        b.node.replace_input_with(1, b.op("Unsqueeze", other, axes=list(range(rank, rank + behind))))


@lift("Gemm", 7)
def gemm_broadcast(b: Rewriter) -> None:
    """The addend broadcasts by itself since 7."""
    b.set(broadcast=None)


@lift("PRelu", 7)
def slope_per_channel(b: Rewriter) -> None:
    """A slope of rank 1 is one per channel before 7; since 7 dimensions meet from the last one on."""
    slope = b.data(1)
    if b.rank(slope) != 1 or b.dims(slope)[0] == 1:
        return
    rank = b.rank(b.data())
    if rank > 2:
        b.node.replace_input_with(1, b.op("Unsqueeze", slope, axes=list(range(1, rank - 1))))


@lift("BatchNormalization Dropout", 7)
def at_rest(b: Rewriter) -> None:
    """``is_test`` is gone; with one output both operators are at rest, whatever it says."""
    b.set(is_test=None)


@lift("LSTM GRU RNN", 7)
def output_sequence(b: Rewriter) -> None:
    """Whether the whole sequence is given is told by the outputs that are there."""
    b.set(output_sequence=None)


@lift("GRU", 3)
def gru_direction(b: Rewriter) -> None:
    """The default was misspelt ("foward")."""
    direction = b.attribute("direction", "forward")
    b.set(direction="forward" if direction == "foward" else direction)


@lift("Cast", 6)
def cast_to_name(b: Rewriter) -> None:
    """The type was a name ("FLOAT") before 6."""
    name = b.attribute("to")
    if isinstance(name, int):
        return
    kinds = {key.lower(): value for key, value in onnx.TensorProto.DataType.items()}
    if str(name).lower() not in kinds or str(name).lower() == "undefined":
        raise Cannot(f"unknown element type to={name!r}")
    b.set(to=None)
    b.set(to=kinds[str(name).lower()])


@lift("Concat", 4)
def concat_axis(b: Rewriter) -> None:
    """The axis was 1 by default."""
    b.set(axis=b.attribute("axis", 1))


@lift("Split", 2)
def split_sizes(b: Rewriter) -> None:
    """The sizes could be an input of floats; the axis had no default."""
    if b.attribute("axis") is None:
        b.set(axis=_split_axis(b))
    sizes = b.ints(1, "the list of sizes")
    if sizes is not None:
        b.cut(1)
        b.set(split=sizes)


def _split_axis(b: Rewriter) -> int:
    """The axis of a Split 1 that says none: the only one there is, or along which the file says that parts are smaller.

    The schema has no default (Caffe2's was the channels', Split 2 has the first axis), so nothing else tells.
    """
    whole = b.dims(b.data())
    if len(whole) == 1:
        return 0
    shapes = [v.shape for v in b.node.outputs]
    parts = [tuple(d if isinstance(d, int) else d.value for d in s) for s in shapes if s is not None]
    axes = {i for part in parts if len(part) == len(whole) for i in range(len(whole)) if part[i] != whole[i]}
    if len(axes) != 1 or len(parts) < len(shapes):
        raise Cannot("without an axis its meaning is not defined, and the shapes of its parts do not tell it")
    return axes.pop()


@lift("Pad", 2)
def pad_name(b: Rewriter) -> None:
    """``paddings`` became ``pads``."""
    pads = b.attribute("paddings", b.attribute("pads"))
    b.set(paddings=None, pads=pads)


@lift("Reshape", 5)
def reshape_input(b: Rewriter) -> None:
    """The shape is an input since 5."""
    shape = b.attribute("shape")
    b.set(shape=None)
    if shape is not None:
        b.feed(1, np.array(shape, np.int64), "shape")
    elif b.input_at(1) is None:
        raise Cannot("it has no shape")


@lift("LpPool GlobalLpPool", 2)
def whole_norm(b: Rewriter) -> None:
    """The norm was a float."""
    p = b.attribute("p", 2.0)
    if p != int(p):
        raise Cannot(f"p={p} is no whole number")
    b.set(p=None)
    b.set(p=int(p))


@lift("Tile", 6)
def tile_axis(b: Rewriter) -> ir.Value:
    """One axis was repeated; since 6 every axis has its number."""
    rank = b.rank(b.data())
    axes = b.ints(2, "the axis")
    if axes is None or len(axes) != 1:
        raise Cannot("it has no single axis")
    tiles = b.cast(b.data(1), ir.DataType.INT64)
    axis = axes[0] % rank
    parts = [np.ones(axis, np.int64), b.reshape(tiles, [1]), np.ones(rank - axis - 1, np.int64)]
    kept = [p for p in parts if isinstance(p, ir.Value) or p.size]
    return b.op("Tile", b.data(), b.op("Concat", *kept, axis=0) if len(kept) > 1 else kept[0])


@lift("Upsample", 7)
def upsample_scales(b: Rewriter) -> None:
    """Height and width had a scale each; the bilinear mode is called linear since 7."""
    height, width = b.attribute("height_scale"), b.attribute("width_scale")
    b.set(height_scale=None, width_scale=None)
    if height is not None and width is not None:
        b.set(scales=[1.0, 1.0, float(height), float(width)])
    if b.attribute("mode") == "bilinear":
        b.set(mode="linear")
