"""Neighbours that only say the shape anew are merged: Reshape, Flatten, Squeeze, Unsqueeze; Slice with Squeeze."""

from __future__ import annotations

from netferry.converters.passes.constants import ints
from netferry.converters.passes.dims_rules import UNARY
from netferry.converters.passes.editing import Edit, attr, given, graph_pass, made_by, only_reader, same_graph
from netferry.converters.passes.shapes import say
from netferry.schemas.ir import ir

_KINDS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")


@graph_pass("reshapes", "safe")
def merge_reshapes(edit: Edit) -> bool:
    """Two of Reshape, Flatten, Squeeze and Unsqueeze in a row become one Reshape, or none"""
    changed = False
    for node in edit.nodes(*_KINDS):
        first = made_by(given(node, 0), *_KINDS)
        if first is None or not same_graph(first, node):
            continue
        source = given(first, 0)
        if source is None:
            continue
        before, after = edit.dims.shape(source), edit.dims.shape(node.outputs[0])
        if before is None or after is None:
            continue
        if before == after:
            changed |= edit.put(node, source)
            continue
        if only_reader(first.outputs[0]) is not node:
            continue
        said = say(before, after)
        if said is None:
            edit.why(node, "more than one size of the shape is new and dynamic")
            continue
        b = edit.at(node)
        changed |= edit.put(node, b.op("Reshape", source, b.const(said, "shape")))
    return changed


@graph_pass("reshape-pairs", "safe")
def cancel_reshapes(edit: Edit) -> bool:
    """Reshape, an operator on each element or along the last axis, and the Reshape back become the operator alone"""
    changed = False
    for node in edit.nodes(*_KINDS):
        middle = made_by(given(node, 0), *UNARY, "Softmax", "LogSoftmax", "Hardmax")
        first = made_by(given(middle, 0), *_KINDS) if middle is not None else None
        if middle is None or first is None or not same_graph(first, node) or not same_graph(middle, node):
            continue
        source, flat = given(first, 0), first.outputs[0]
        before, between = (None, None) if source is None else (edit.dims.shape(source), edit.dims.shape(flat))
        if source is None or not before or not between or before != edit.dims.shape(node.outputs[0]):
            continue
        if only_reader(middle.outputs[0]) is not node:
            continue
        attributes = dict(middle.attributes)
        if middle.op_type not in UNARY:
            if attr(middle, "axis", -1) not in (-1, len(between) - 1) or before[-1] != between[-1]:
                continue
            attributes["axis"] = ir.AttrInt64("axis", -1)
        b = edit.at(middle)
        plain = {k: v.value for k, v in attributes.items()}
        changed |= edit.put(node, b.op(middle.op_type, source, *middle.inputs[1:], **plain))
    return changed


@graph_pass("moved-ones", "full")
def reshape_for_transpose(edit: Edit) -> bool:
    """Transpose that only moves axes of size 1, beside a Reshape, becomes a Reshape"""
    changed = False
    for node in edit.nodes("Transpose"):
        source = given(node, 0)
        before, after = (None, None) if source is None else (edit.dims.shape(source), edit.dims.shape(node.outputs[0]))
        perm = attr(node, "perm")
        if source is None or before is None or after is None or perm is None:
            continue
        moved = [i for i in perm if before[i].number != 1]
        reader = only_reader(node.outputs[0])
        beside = made_by(source, *_KINDS) is not None or (reader is not None and reader.op_type in _KINDS)
        said = say(before, after)
        if moved != sorted(moved) or not beside or said is None:
            continue
        b = edit.at(node)
        changed |= edit.put(node, b.op("Reshape", source, b.const(said, "shape")))
    return changed


@graph_pass("unbind", "full")
def pick_one(edit: Edit) -> bool:
    """Slice (or Split) to one element and Squeeze of that axis become a Gather of that element"""
    changed = False
    for node in edit.nodes("Squeeze"):
        axes, value = ints(given(node, 1)), given(node, 0)
        rank = edit.rank(value)
        if axes is None or len(axes) != 1 or value is None or rank is None:
            continue
        axis = axes[0] % rank
        maker = made_by(value, "Slice", "Split")
        if maker is None or not same_graph(maker, node):
            continue
        source = given(maker, 0)
        place = _sliced(maker, rank) if maker.op_type == "Slice" else _split(edit, maker, value, rank)
        shape = edit.shape(source)
        if source is None or shape is None or place is None or place[0] != axis:
            continue
        size = shape[axis]
        if size is None or not 0 <= place[1] < size:
            continue
        alone = all(_squeezed(v, axis, rank) for v in maker.outputs)
        if maker.op_type == "Split" and not alone:
            continue
        b = edit.at(node)
        index = b.const(place[1], "index", dtype="int64")  # type: ignore[arg-type]
        changed |= edit.put(node, b.op("Gather", source, index, axis=axis))
    return changed


def _squeezed(value: ir.Value, axis: int, rank: int) -> bool:
    return not value.is_graph_output() and all(
        use.node.op_type == "Squeeze" and [a % rank for a in ints(given(use.node, 1)) or []] == [axis]
        for use in value.uses()
    )


def _sliced(maker: ir.Node, rank: int) -> tuple[int, int] | None:
    starts, ends, steps = ints(given(maker, 1)), ints(given(maker, 2)), ints(given(maker, 4))
    axes = ints(given(maker, 3)) if given(maker, 3) is not None else [0]
    if starts is None or ends is None or axes is None or len(starts) != 1 or len(axes) != 1:
        return None
    if steps not in (None, [1]) or starts[0] < 0 or ends[0] != starts[0] + 1:
        return None
    return axes[0] % rank, starts[0]


def _split(edit: Edit, maker: ir.Node, value: ir.Value, rank: int) -> tuple[int, int] | None:
    shapes = [edit.shape(v) for v in maker.outputs]
    axis = attr(maker, "axis", 0) % rank
    if any(s is None or s[axis] != 1 for s in shapes):
        return None
    return axis, list(maker.outputs).index(value)
