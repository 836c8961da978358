"""Element by element: neighbours of one kind merged, and activations recognised that exporters wrote out."""

from __future__ import annotations

import math

import numpy as np

from netferry.converters.passes.constants import scalar, setting
from netferry.converters.passes.editing import Edit, attr, feed, given, graph_pass, made_by, only_reader, same_graph
from netferry.schemas.ir import ir

_INTS = {  # what every value of a type fits into exactly
    ir.DataType.BOOL: {"INT8", "UINT8", "INT16", "UINT16", "INT32", "INT64", "FLOAT", "DOUBLE", "FLOAT16"},
    ir.DataType.INT8: {"INT16", "INT32", "INT64", "FLOAT", "DOUBLE", "FLOAT16"},
    ir.DataType.UINT8: {"INT16", "UINT16", "INT32", "INT64", "FLOAT", "DOUBLE", "FLOAT16"},
    ir.DataType.INT16: {"INT32", "INT64", "FLOAT", "DOUBLE"},
    ir.DataType.INT32: {"INT64", "DOUBLE"},
    ir.DataType.FLOAT16: {"FLOAT", "DOUBLE"},
    ir.DataType.BFLOAT16: {"FLOAT", "DOUBLE"},
    ir.DataType.FLOAT: {"DOUBLE"},
}


@graph_pass("merges", "safe")
def merge(edit: Edit) -> bool:
    """Cast after Cast, Clip after Clip, Relu with Relu or Clip become one"""
    changed = False
    for node in edit.nodes("Cast", "Clip", "Relu"):
        first = made_by(given(node, 0), "Cast", "Clip", "Relu")
        if first is None or not same_graph(first, node):
            continue
        source = given(first, 0)
        if source is None:
            continue
        kinds = (first.op_type, node.op_type)
        if kinds == ("Cast", "Cast"):
            middle = first.outputs[0].dtype
            if source.dtype is None or middle is None or middle.name not in _INTS.get(source.dtype, ()):
                edit.why(node, "the Cast before it may lose something")
                continue
            feed(node, 0, source)
            changed = True
        elif kinds == ("Relu", "Relu"):
            changed |= edit.put(node, first.outputs[0])
        elif "Cast" not in kinds:
            changed |= _clip(edit, first, node, source)
    return changed


def _clip(edit: Edit, first: ir.Node, node: ir.Node, source: ir.Value) -> bool:
    """One Clip for two: its bounds are those of the first, cut by those of the second."""
    own, after = _bounds(first), _bounds(node)
    dtype = source.dtype
    if own is None or after is None or dtype is None or dtype.numpy().kind != "f":
        return False
    (a, b), (c, d) = own, after
    if a > b or c > d:
        return False
    low, high = min(max(a, c), d), max(min(b, d), c)
    if node.op_type == "Clip" and (low, high) == (a, b) and first.op_type == "Clip":
        return edit.put(node, first.outputs[0])
    if only_reader(first.outputs[0]) is not node:
        return False
    kind = dtype.numpy()
    write = edit.at(node)
    ends = [
        None if math.isinf(x) else write.const(np.array(x, kind), name) for x, name in ((low, "min"), (high, "max"))
    ]
    return edit.put(node, write.op("Clip", source, *ends))


def _bounds(node: ir.Node) -> tuple[float, float] | None:
    if node.op_type == "Relu":
        return 0.0, math.inf
    out = [-math.inf, math.inf]
    for i in (1, 2):
        if given(node, i) is not None:
            array = setting(given(node, i))
            if array is None or array.size != 1:
                return None
            out[i - 1] = float(array.reshape(-1)[0])
    return out[0], out[1]


@graph_pass("activations", "full")
def recognise(edit: Edit) -> bool:
    """HardSigmoid, HardSwish and the exact Gelu that exporters had written out become one operator"""
    changed = False
    for node in edit.nodes("Mul", "Div"):
        changed |= _hard_sigmoid(edit, node) or _gelu(edit, node)
    for node in edit.nodes("Mul"):
        changed |= _hard_swish(edit, node)
    return changed


def _parts(node: ir.Node, kind: str) -> tuple[ir.Value, float] | None:
    """The value and the number of ``value + number`` or ``value * number``."""
    if node.op_type != kind and not (kind == "Mul" and node.op_type == "Div"):
        return None
    for i in (0, 1):
        data, number = given(node, i), scalar(given(node, 1 - i))
        if (
            data is None
            or number is None
            or scalar(data) is not None
            or (node.op_type == "Div" and (i == 1 or number == 0))
        ):
            continue
        constant = given(node, 1 - i)
        if (
            constant is not None
            and constant.shape is not None
            and data.shape is not None
            and len(constant.shape) <= len(data.shape)
        ):
            return data, 1 / number if node.op_type == "Div" else number
    return None


def _hard_sigmoid(edit: Edit, node: ir.Node) -> bool:
    """clip(x + a, 0, b) / b is HardSigmoid with alpha 1/b, beta a/b."""
    scaled = _parts(node, "Mul")
    clip = made_by(scaled[0], "Clip") if scaled else None
    limits = _bounds(clip) if clip is not None else None
    add = made_by(given(clip, 0), "Add") if clip is not None else None
    shifted = _parts(add, "Add") if add is not None else None
    if scaled is None or clip is None or add is None or limits is None or shifted is None:
        return False
    if only_reader(clip.outputs[0]) is not node or only_reader(add.outputs[0]) is not clip or not same_graph(add, node):
        return False
    low, high = limits
    factor = scaled[1]
    if low != 0 or not math.isfinite(high) or high <= 0 or abs(factor * high - 1) > 1e-6:
        return False
    if edit.dims.shape(shifted[0]) is None or edit.dims.shape(shifted[0]) != edit.dims.shape(node.outputs[0]):
        return False
    b = edit.at(node)
    return edit.put(node, b.op("HardSigmoid", shifted[0], alpha=1.0 / high, beta=shifted[1] / high))


def _hard_swish(edit: Edit, node: ir.Node) -> bool:
    if edit.target < 14:
        return False
    for i in (0, 1):
        data, gate = given(node, i), made_by(given(node, 1 - i), "HardSigmoid")
        if gate is None or data is None or given(gate, 0) is not data or only_reader(gate.outputs[0]) is not node:
            continue
        alpha, beta = attr(gate, "alpha", 0.2), attr(gate, "beta", 0.5)
        if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5 and same_graph(gate, node):
            return edit.put(node, edit.at(node).op("HardSwish", data))
    return False


def _gelu(edit: Edit, node: ir.Node) -> bool:
    """x * (erf(x / sqrt 2) + 1) * 0.5 in any order is Gelu."""
    if edit.target < 20 or node.op_type != "Mul":
        return False
    factors = _factors(node, [node])
    if factors is None:
        return False
    values, number, inside = factors
    for gate in values:
        add = made_by(gate, "Add")
        shifted = _parts(add, "Add") if add is not None else None
        erf = made_by(shifted[0], "Erf") if shifted is not None else None
        if add is None or shifted is None or erf is None or shifted[1] != 1.0:
            continue
        scaling = made_by(given(erf, 0), "Div", "Mul")
        scaled = _parts(scaling, "Mul") if scaling is not None else None
        rest = [v for v in values if v is not gate]
        if scaled is None or len(rest) != 1 or rest[0] is not scaled[0] or abs(number - 0.5) > 1e-6:
            continue
        if abs(scaled[1] - math.sqrt(0.5)) > 1e-6:
            continue
        before, after = edit.dims.shape(scaled[0]), edit.dims.shape(node.outputs[0])
        if before is None or before != after or len(inside) < 1:
            continue
        return edit.put(node, edit.at(node).op("Gelu", scaled[0]))
    return False


def _factors(node: ir.Node, inside: list[ir.Node]) -> tuple[list[ir.Value], float, list[ir.Node]] | None:
    """The factors of a product of Muls that nobody else reads: values, the product of the numbers, the Muls."""
    values: list[ir.Value] = []
    number = 1.0
    pending = [v for v in node.inputs if v is not None]
    while pending:
        value = pending.pop()
        constant = scalar(value)
        maker = made_by(value, "Mul")
        if constant is not None:
            number *= constant
        elif maker is not None and only_reader(value) in inside and len(inside) < 4 and same_graph(maker, node):
            inside.append(maker)
            pending.extend(v for v in maker.inputs if v is not None)
        else:
            values.append(value)
    return (values, number, inside) if len(values) == 2 else None
