"""What a network costs: multiply-adds of each operator, bytes of values, the most that is alive at a time.

A multiply-add is one multiplication with the addition that sums it up, the unit in which published tables count
(half of their FLOPs). Convolutions, matrix products and recurrent layers have them; what works element by element,
pools, moves or normalizes counts none.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from netferry.errors import NONSENSE
from netferry.schemas.ir import ir
from netferry.schemas.layers import graphs_of, read_by
from netferry.schemas.tensors import array_of

Shape = tuple[int | None, ...]
ShapeOf = Callable[[ir.Value], Shape | None]
"""The shape of a value; None for what is unknown"""


class Unknown(Exception):
    """A size that a count needs is not known."""


def multiply_adds(node: ir.Node, shape_of: ShapeOf) -> int | None:
    """Return the multiply-adds of one node, its subgraphs included.

    The more expensive branch of an If counts, the body of a Scan once per step. None where sizes are unknown, for a
    Loop that does not say how often it runs, and for operators of domains whose operators nobody described to us.
    """
    try:
        return _count(node, shape_of)
    except (Unknown, *NONSENSE):
        return None


def _count(node: ir.Node, shape_of: ShapeOf) -> int:
    inner = [graph for attribute in node.attributes.values() for graph in graphs_of(attribute)]
    if inner:
        bodies = [sum(_count(n, shape_of) for n in graph) for graph in inner]
        return max(bodies) * _rounds(node, shape_of) if any(bodies) else 0
    rule = _RULES.get(node.op_type)
    if rule is None or node.domain not in ("", "ai.onnx", "com.microsoft"):
        if node.domain in ("", "ai.onnx", "ai.onnx.ml"):
            return 0
        raise Unknown
    return rule(node, shape_of)


def _rounds(node: ir.Node, shape_of: ShapeOf) -> int:
    """How often the subgraphs of a node run."""
    if node.op_type == "If":
        return 1
    if node.op_type == "Scan":
        scanned = int(_attribute(node, "num_scan_inputs", 1))
        axes = _attribute(node, "scan_input_axes", None) or [0] * scanned
        return _at(_known(node, len(node.inputs) - scanned, shape_of), int(axes[0]))
    if node.op_type == "Loop":
        trips = array_of(node.inputs[0])
        if trips is not None and trips.size == 1:
            return max(0, int(trips.item()))
    raise Unknown


def _attribute(node: ir.Node, name: str, default: Any) -> Any:
    held = node.attributes.get(name)
    return default if held is None or held.is_ref() else held.value


def _known(node: ir.Node, i: int, shape_of: ShapeOf) -> tuple[int, ...]:
    value = node.inputs[i] if i < len(node.inputs) else None
    return _sizes(None if value is None else shape_of(value))


def _sizes(shape: Shape | None) -> tuple[int, ...]:
    if shape is None or any(d is None for d in shape):
        raise Unknown
    return tuple(d for d in shape if d is not None)


def _given(node: ir.Node, shape_of: ShapeOf) -> tuple[int, ...]:
    return _sizes(shape_of(node.outputs[0]))


def _at(shape: tuple[int, ...], axis: int) -> int:
    if not -len(shape) <= axis < len(shape):
        raise Unknown
    return shape[axis]


def _conv(weight: int) -> Callable[[ir.Node, ShapeOf], int]:
    def count(node: ir.Node, shape_of: ShapeOf) -> int:
        kernel = _known(node, weight, shape_of)  # (M, C / group, k...): every output element sums over the rest
        return math.prod(_given(node, shape_of)) * math.prod(kernel[1:])

    return count


def _conv_transpose(node: ir.Node, shape_of: ShapeOf) -> int:
    kernel = _known(node, 1, shape_of)  # (C, M / group, k...): every input element spreads over the rest
    return math.prod(_known(node, 0, shape_of)) * math.prod(kernel[1:])


def _product(node: ir.Node, shape_of: ShapeOf) -> int:
    return math.prod(_given(node, shape_of)) * _at(_known(node, 0, shape_of), -1)


def _gemm(node: ir.Node, shape_of: ShapeOf) -> int:
    axis = 0 if _attribute(node, "transA", 0) else 1
    return math.prod(_given(node, shape_of)) * _at(_known(node, 0, shape_of), axis)


def _recurrent(gates: int) -> Callable[[ir.Node, ShapeOf], int]:
    def count(node: ir.Node, shape_of: ShapeOf) -> int:
        x, r = _known(node, 0, shape_of), _known(node, 2, shape_of)  # (T, B, I) whatever the layout; (dirs, gates H, H)
        if len(x) != 3 or len(r) != 3:
            raise Unknown
        return x[0] * x[1] * r[0] * gates * r[2] * (x[2] + r[2])

    return count


def _einsum(node: ir.Node, shape_of: ShapeOf) -> int:
    equation = str(_attribute(node, "equation", "")).replace(" ", "")
    terms = equation.split("->")[0].split(",")
    if len(terms) < 2:
        return 0
    if "..." in equation:
        raise Unknown
    sizes: dict[str, int] = {}
    for i, term in enumerate(terms):
        shape = _known(node, i, shape_of)
        if len(shape) != len(term):
            raise Unknown
        for letter, size in zip(term, shape, strict=True):
            sizes[letter] = max(size, sizes.get(letter, 1))
    return math.prod(sizes.values())


def _attention(node: ir.Node, shape_of: ShapeOf) -> int:
    """Attention of opset 23: scores and the weighted sum, q and k of (B, heads, length, size) or (B, length, all)."""
    if node.domain not in ("", "ai.onnx"):
        raise Unknown
    q, k, v = (_known(node, i, shape_of) for i in range(3))
    past = node.inputs[4] if len(node.inputs) > 4 else None
    keys = k[-2] + (_at(_sizes(shape_of(past)), -2) if past is not None else 0)
    if len(q) == 4:
        return q[0] * q[1] * q[2] * keys * (q[3] + v[3])
    heads, kv_heads = int(_attribute(node, "q_num_heads", 1)), int(_attribute(node, "kv_num_heads", 1))
    return q[0] * q[1] * keys * (q[2] + heads * v[2] // max(1, kv_heads))


_RULES: dict[str, Callable[[ir.Node, ShapeOf], int]] = {
    "Conv": _conv(1), "ConvInteger": _conv(1), "DeformConv": _conv(1), "QLinearConv": _conv(3), "FusedConv": _conv(1),
    "ConvTranspose": _conv_transpose, "MatMul": _product, "MatMulInteger": _product, "QLinearMatMul": _product,
    "Gemm": _gemm, "Einsum": _einsum, "Attention": _attention,
    "LSTM": _recurrent(4), "GRU": _recurrent(3), "RNN": _recurrent(1),
}  # fmt: skip


def value_bytes(value: ir.Value, shape_of: ShapeOf) -> int | None:
    """Return the bytes of a tensor value; None where its type or a dimension is unknown."""
    shape = shape_of(value)
    if value.dtype is None or value.dtype in (ir.DataType.STRING, ir.DataType.UNDEFINED):
        return None
    if shape is None or any(d is None for d in shape):
        return None
    return -(-math.prod(d for d in shape if d is not None) * value.dtype.bitwidth // 8)


def weight_bytes(graph: ir.Graph) -> int:
    """Return the bytes of all initializers and of all tensors of Constant nodes, those in subgraphs included."""
    total = 0
    for held in (graph, *graph.subgraphs()):
        tensors = [v.const_value for v in held.initializers.values()]
        total += sum(t.nbytes for t in tensors if t is not None)
        for node in held:
            value = node.attributes.get("value") if node.op_type == "Constant" else None
            if value is not None and value.type == ir.AttributeType.TENSOR and not value.is_ref():
                total += value.as_tensor().nbytes
    return total


def peak_bytes(graph: ir.Graph, shape_of: ShapeOf) -> tuple[int, str]:
    """Return the most bytes of values alive at a time, weights left out, and the node where that is.

    A value lives from the node that makes it to the last that reads it, in the graph's order; inputs and outputs of
    the graph live throughout. Runtimes that work in place or in another order need less or more. Values of unknown
    size count nothing.
    """
    order = list(graph)
    last: dict[ir.Value, int] = {}
    for i, node in enumerate(order):
        for value in read_by(node):
            last[value] = i
    held = {v: value_bytes(v, shape_of) or 0 for v in graph.inputs if v.name not in graph.initializers}
    forever = {*held, *graph.outputs}
    alive = sum(held.values())
    most, where = alive, ""
    for i, node in enumerate(order):
        for value in node.outputs:
            held[value] = value_bytes(value, shape_of) or 0
            alive += held[value]
        if alive > most:
            most, where = alive, node.name or ""
        done = {v for v in read_by(node) if last[v] == i} | {v for v in node.outputs if v not in last}
        for value in done - forever:
            alive -= held.pop(value, 0)
    return most, where
