"""Pad into the Conv or pooling that follows it."""

from __future__ import annotations

import numpy as np

from netferry.converters.passes.constants import fixed, ints, setting
from netferry.converters.passes.editing import Edit, attr, feed, given, graph_pass, made_by, set_attr, sole, word
from netferry.schemas.ir import ir

_NOT_NEGATIVE = ("Relu", "Sigmoid", "HardSigmoid", "Softmax", "Abs", "Exp", "Softplus", "Sqrt")


@graph_pass("padding", "full")
def fold_padding(edit: Edit) -> bool:
    """Pad by zeros goes into Conv and AveragePool, by the lowest number (or zeros after Relu) into MaxPool"""
    changed = False
    for node in edit.nodes("Conv", "AveragePool", "MaxPool"):
        pad = made_by(given(node, 0), "Pad")
        if pad is None:
            continue
        source, found = given(pad, 0), _pads(edit, pad)
        if source is None or found is None:
            continue
        if word(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
            edit.why(node, "computes its own padding")
            continue
        begin, end, value = found
        spatial = len(begin) - 2
        if spatial < 1 or any(begin[:2] + end[:2]) or any(p < 0 for p in begin + end):
            edit.why(pad, "pads the batch or the channels, or cuts")
            continue
        own = attr(node, "pads") if word(node, "auto_pad", "NOTSET") == "NOTSET" else None
        total = [a + b for a, b in zip(own or [0] * 2 * spatial, begin[2:] + end[2:], strict=True)]
        if (reason := _refusal(edit, node, source, value, own or [], total)) is not None:
            edit.why(node, reason)
            continue
        if node.op_type == "AveragePool":
            set_attr(node, count_include_pad=1)
        set_attr(node, pads=total, auto_pad=None)
        feed(node, 0, source)
        changed = True
    return changed


def _pads(edit: Edit, pad: ir.Node) -> tuple[list[int], list[int], float] | None:
    """What a constant Pad adds before and after each axis, and the value."""
    if word(pad, "mode", "constant") != "constant":
        edit.why(pad, "does not pad with a constant")
        return None
    rank, pads, axes = edit.rank(given(pad, 0)), ints(given(pad, 1)), given(pad, 3)
    if rank is None or pads is None or (axes is not None and not fixed(axes)):
        edit.why(pad, "its padding is computed at run time")
        return None
    begin, end = [0] * rank, [0] * rank
    chosen = list(range(rank)) if axes is None else [a % rank for a in ints(axes) or []]
    if len(pads) != 2 * len(chosen):
        return None
    for i, axis in enumerate(chosen):
        begin[axis], end[axis] = pads[i], pads[i + len(chosen)]
    value = 0.0
    if given(pad, 2) is not None:
        array = setting(given(pad, 2))
        if array is None or array.size != 1:
            return None
        value = float(array.reshape(-1)[0])
    return begin, end, value


def _refusal(edit: Edit, node: ir.Node, source: ir.Value, value: float, own: list[int], total: list[int]) -> str | None:
    if node.op_type == "Conv":
        return None if value == 0 else "pads with zeros, the Pad before it with another value"
    if attr(node, "ceil_mode", 0):
        return "rounds its output size up"
    kernel = attr(node, "kernel_shape", [])
    if any(p >= k for p, k in zip(total, kernel * 2, strict=True)):
        return "a window would lie wholly in the padding"
    if any(d != 1 for d in attr(node, "dilations", [1])):
        return "is dilated: a window might see padding alone"
    if node.op_type == "AveragePool":
        if value != 0:
            return "counts padding as zeros, the Pad before it adds another value"
        if any(own) and not attr(node, "count_include_pad", 0):
            return "leaves its own padding out of the count"
        return None
    if not sole(node):
        return "its indices are read"
    dtype = source.dtype
    if dtype is None or dtype.numpy().kind != "f":
        return "pads integers"
    if value == -np.inf or value <= float(np.finfo(dtype.numpy()).min):
        return None
    if value == 0 and not any(own) and _not_negative(source):
        return None
    return "pads with the lowest number, the Pad before it with a higher one"


def _not_negative(value: ir.Value) -> bool:
    if made_by(value, *_NOT_NEGATIVE) is not None:
        return True
    clip = made_by(value, "Clip")
    low = setting(given(clip, 1)) if clip is not None else None
    return low is not None and low.size == 1 and float(low.reshape(-1)[0]) >= 0
