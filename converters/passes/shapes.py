"""Shape arithmetic: numbers of fixed sizes become constants, dynamic ones are said the shortest way."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from netferry.converters.passes.constants import fixed
from netferry.converters.passes.editing import Edit, attr, feed, given, graph_pass, made_by, set_attr
from netferry.converters.passes.polynomials import Poly, number, product
from netferry.schemas.ir import ir

_TYPES = (ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL)
_LINKS = frozenset((
    "Shape", "Gather", "Concat", "Slice", "Unsqueeze", "Squeeze", "Cast", "Add", "Sub", "Mul", "Div", "Mod",
    "Identity", "Reshape", "Where", "Equal", "ConstantOfShape", "Expand", "Min", "Max", "ReduceProd", "Size",
    "Greater", "Less", "GreaterOrEqual", "LessOrEqual", "Range",
))  # fmt: skip


@graph_pass("shape-constants", "safe")
def fold_known(edit: Edit) -> bool:
    """Numbers that follow from sizes which are fixed become constants; dynamic dimensions stay dynamic"""
    changed = False
    for node in edit.nodes(*_LINKS):
        value = node.outputs[0]
        if value.dtype is None or value.dtype not in _TYPES or not value.uses():
            continue
        found, shape = edit.dims.numbers(value), edit.shape(value)
        if found is None or shape is None or any(p.number is None for p in found):
            continue
        array = np.array([p.number for p in found], value.dtype.numpy())
        if len(shape) > 1 or (len(shape) == 0 and len(found) != 1):
            continue
        changed |= edit.constant(node, array.reshape(() if not shape else (-1,)), value)
    return changed


@graph_pass("reshape-constants", "safe")
def fold_reshape(edit: Edit) -> bool:
    """Reshape to a computed shape becomes Reshape to a constant one, where 0 and -1 can say the dynamic sizes"""
    changed = False
    for node in edit.nodes("Reshape"):
        source, wanted = given(node, 0), given(node, 1)
        if source is None or wanted is None or fixed(wanted):
            continue
        before, after = edit.dims.shape(source), edit.dims.numbers(wanted)
        if before is None or after is None:
            edit.why(node, "its shape is not made of sizes")
            continue
        after = _resolved(before, after, bool(attr(node, "allowzero", 0)))
        said = None if after is None else say(before, after)
        if said is None:
            edit.why(node, "more than one of its sizes is new and dynamic")
            continue
        feed(node, 1, edit.at(node).const(said, "shape"))
        set_attr(node, allowzero=None)
        changed = True
    return changed


def _resolved(before: Sequence[Poly], after: Sequence[Poly], allowzero: bool) -> list[Poly] | None:
    """The sizes that a Reshape gives, its 0 and one -1 resolved; None where they cannot be."""
    out: list[Poly | None] = []
    for i, size in enumerate(after):
        if size.number == 0 and not allowzero:
            if i >= len(before):
                return None
            out.append(before[i])
        else:
            out.append(None if size.number == -1 else size)
    if None in out:
        rest = product(p for p in out if p is not None)
        free = None if rest == number(0) else product(before).over(rest)
        if free is None:
            return None
        out = [free if p is None else p for p in out]
    return [p for p in out if p is not None]


def say(before: Sequence[Poly], after: Sequence[Poly]) -> list[int] | None:
    """A constant shape that turns sizes ``before`` into ``after``: sizes, 0 to copy one, one -1; None if impossible."""
    out: list[int] = []
    free = 0
    for i, size in enumerate(after):
        n = size.number
        if n is not None and n > 0:
            out.append(n)
        elif n is None and i < len(before) and before[i] == size:
            out.append(0)
        elif n is None and size.natural and not free:
            out.append(-1)
            free += 1
        else:
            return None
    return out if product(before) == product(after) else None


@graph_pass("shape-chains", "safe")
def shorten(edit: Edit) -> bool:
    """Vectors of dynamic sizes are made by as few Shape and Concat nodes as they need"""
    changed = False
    for node in edit.nodes(
        "Concat", "Where", "Unsqueeze", "Slice", "Gather", "Cast", "Mul", "Add", "Reshape", "Expand"
    ):
        value = node.outputs[0]
        if value.dtype != ir.DataType.INT64 or edit.rank(value) != 1 or value.is_graph_output():
            continue
        found = edit.dims.numbers(value)
        if found is None or all(p.number is not None for p in found):
            continue
        pieces = _pieces(edit, node, found)
        if pieces is None:
            continue
        cost = sum(not isinstance(p, list) for p in pieces) + (len(pieces) > 1)
        if cost >= _alone(node):
            continue
        b = edit.at(node)
        made: list[ir.Value] = []
        for piece in pieces:
            if isinstance(piece, list):
                made.append(b.const(piece, "sizes"))
            else:
                source, start, end = piece
                made.append(b.op("Shape", source, start=start, end=end))
        whole = b.op("Concat", *made, axis=0) if len(made) > 1 else made[0]
        if edit.put(node, whole):
            changed = True
    return changed


_Piece = list[int] | tuple[ir.Value, int, int]


def _pieces(edit: Edit, node: ir.Node, found: Sequence[Poly]) -> list[_Piece] | None:
    """Runs of fixed numbers, and of neighbouring sizes of the graph's inputs."""
    inputs = edit.model.graph.inputs
    out: list[_Piece] = []
    for size in found:
        if size.number is not None:
            if out and isinstance(out[-1], list):
                out[-1].append(size.number)
            else:
                out.append([size.number])
            continue
        last = out[-1] if out else None
        if isinstance(last, tuple):
            dims = edit.dims.shape(last[0])
            if dims is not None and last[2] < len(dims) and dims[last[2]] == size:
                out[-1] = (last[0], last[1], last[2] + 1)
                continue
        place = _place(edit, node, inputs, size)
        if place is None:
            return None
        out.append((place[0], place[1], place[1] + 1))
    return out


def _place(edit: Edit, node: ir.Node, inputs: Sequence[ir.Value], size: Poly) -> tuple[ir.Value, int] | None:
    """A value with that size: an input of the graph, or one that the numbers come from."""
    if size.atom is None:
        return None
    candidates = [v for v in inputs if isinstance(v.type, ir.TensorType)] + _sources(node)
    for value in candidates:
        dims = edit.dims.shape(value)
        if dims is not None and size in dims:
            return value, dims.index(size)
    return None


def _sources(node: ir.Node) -> list[ir.Value]:
    """Values whose Shape a chain of shape arithmetic starts from."""
    seen: list[ir.Node] = [node]
    out: list[ir.Value] = []
    for one in seen:
        for value in one.inputs:
            maker = made_by(value, *_LINKS)
            if maker is None or maker in seen or len(seen) > 200:
                continue
            if maker.op_type == "Shape":
                if maker.inputs[0] is not None:
                    out.append(maker.inputs[0])
            else:
                seen.append(maker)
    return out


def _alone(node: ir.Node) -> int:
    """How many nodes go when a node goes: those that only it needs, itself included."""
    gone: set[ir.Node] = {node}
    pending = [node]
    while pending:
        for value in pending.pop().inputs:
            maker = made_by(value, *_LINKS)
            if maker is None or maker in gone or any(v.is_graph_output() for v in maker.outputs):
                continue
            if all(use.node in gone for v in maker.outputs for use in v.uses()):
                gone.add(maker)
                pending.append(maker)
    return len(gone)
