"""Ranks and element types that follow from the operators alone, for files that leave values without.

ONNX's own inference takes a message of the whole graph, and several times as long; the builder needs no more than this
where a network is made of the operators below: which have the rank and type of what they read.
"""

from __future__ import annotations

import functools

from netferry.schemas.ir import ir
from netferry.schemas.tensors import constant_tensor

_AS_FIRST = frozenset((
    "Abs", "AveragePool", "BatchNormalization", "Ceil", "Celu", "Clip", "Concat", "Conv", "ConvTranspose", "Cos",
    "CumSum", "DepthToSpace", "Dropout", "Elu", "Erf", "Exp", "Floor", "Gelu", "GlobalAveragePool", "GlobalMaxPool",
    "GroupNormalization", "HardSigmoid", "HardSwish", "Identity", "InstanceNormalization", "LRN", "LayerNormalization",
    "LeakyRelu", "Log", "LogSoftmax", "LpNormalization", "MaxPool", "MeanVarianceNormalization", "Mish", "Neg", "PRelu",
    "Pad", "Reciprocal", "Relu", "Resize", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin",
    "Slice", "Softmax", "Softplus", "Softsign", "SpaceToDepth", "Split", "Sqrt", "Tanh", "ThresholdedRelu", "Transpose",
    "Trilu", "Upsample",
))  # fmt: skip
"""operators whose first output has the type and rank of their first input"""
_AS_LARGEST = frozenset(("Add", "Div", "Max", "Mean", "Min", "Mul", "Pow", "Sub", "Sum"))
"""operators that repeat what they read along the axes that it lacks"""
_OF_TWO_AXES = frozenset(("Flatten", "Gemm"))
_LINE = 1
"""rank of a vector, which may be the shape of another value: its length is followed"""
_SIZED = frozenset(("GroupNormalization", "Scan"))
"""operators whose older forms are not to be said in newer ones without sizes"""
_SOFTMAX = frozenset(("Softmax", "LogSoftmax", "Hardmax"))
_RANKS_SUFFICE = 7
_AXIS_ALONE = 13
"""the opset from which Softmax is along one axis"""


def complete_ranks(graph: ir.Graph) -> bool:
    """Give values their type and a shape of unknown sizes, where they have none.

    False where operators do not tell: then all is as it was.
    """
    given: list[tuple[ir.Value, ir.TypeProtocol | None, ir.Shape | None]] = []
    for node in graph:
        for i, value in enumerate(node.outputs):
            if value.type is not None and (value.shape is not None or not isinstance(value.type, ir.TensorType)):
                continue
            if i and not value.uses() and not value.is_graph_output():
                continue
            known = node.domain in ("", "ai.onnx") and (i == 0 or node.op_type == "Split")
            found = _found(node) if known else None
            if found is None:
                for one, kind, shape in given:
                    one.type, one.shape = kind, shape
                return False
            given.append((value, value.type, value.shape))
            value.type, value.shape = value.type or found[0], value.shape or found[1]
    return True


def ranks_suffice(graph: ir.Graph, opset: int) -> bool:
    """Whether ranks and types, without sizes, are enough to say a graph's operators at a newer opset as well."""
    return opset >= _RANKS_SUFFICE and not any(
        node.op_type in _SIZED or (node.op_type in _SOFTMAX and opset < _AXIS_ALONE and not _along_last(node))
        for node in graph
    )


def _along_last(node: ir.Node) -> bool:
    """Whether a Softmax of the form before opset 13 is along the last axis alone, as its own output's rank tells."""
    held, shape = node.attributes.get("axis"), node.outputs[0].shape
    axis = 1 if held is None else held.as_int()
    return axis == -1 or (shape is not None and axis == len(shape) - 1)


def _found(node: ir.Node) -> tuple[ir.TypeProtocol, ir.Shape] | None:
    op = node.op_type
    if op == "Constant":
        tensor = constant_tensor(node.outputs[0])
        if tensor is None:
            return None
        sizes = tuple(tensor.shape.numpy())
        return ir.TensorType(tensor.dtype), _of_length(sizes[0]) if len(sizes) == _LINE else _of_rank(len(sizes))
    first = node.inputs[0] if node.inputs else None
    if first is None or first.type is None or first.shape is None:
        return None
    rank = len(first.shape)
    if op == "Concat" and rank == _LINE:
        lengths = [_length(v) for v in node.inputs]
        whole = [n for n in lengths if n is not None]
        return first.type, _of_length(sum(whole)) if len(whole) == len(lengths) else _of_rank(_LINE)
    if op in _AS_FIRST:
        return first.type, _of_rank(rank)
    if op in _OF_TWO_AXES:
        return first.type, _of_rank(2)
    if op in _AS_LARGEST:
        ranks = [-1 if v is None or v.shape is None else len(v.shape) for v in node.inputs]
        return None if min(ranks) < 0 else (first.type, _of_rank(max(ranks)))
    return _of_sizes(node, op, first.type, rank)


def _of_sizes(node: ir.Node, op: str, kind: ir.TypeProtocol, rank: int) -> tuple[ir.TypeProtocol, ir.Shape] | None:
    """Operators that change the rank, and those that make shapes."""
    second = node.inputs[1] if len(node.inputs) > 1 else None
    if op == "MatMul":
        other = 0 if second is None or second.shape is None else len(second.shape)
        return (kind, _of_rank(max(rank, other))) if min(rank, other) > 1 else None
    if op == "Reshape":
        length = _length(second)
        return None if length is None else (kind, _of_rank(length))
    if op == "Shape" and not node.attributes:
        return ir.TensorType(ir.DataType.INT64), _of_length(rank)
    if op == "Gather" and second is not None and second.shape is not None:
        length = _length(second) if rank == _LINE else None
        return kind, _of_rank(rank - 1 + len(second.shape)) if length is None else _of_length(length)
    if op == "Cast" and (to := node.attributes.get("to")) is not None and not to.is_ref():
        return ir.TensorType(ir.DataType(to.as_int())), _of_rank(rank)
    if op.startswith("Reduce"):
        kept = node.attributes.get("keepdims")
        return (kind, _of_rank(rank)) if kept is None or (not kept.is_ref() and kept.as_int()) else None
    if op in ("Unsqueeze", "Squeeze"):
        held = node.attributes.get("axes")
        count = _length(second) if held is None or held.is_ref() else len(held.as_ints())
        if count is None:
            return None
        rank += count if op == "Unsqueeze" else -count
        return kind, _of_length(1) if op == "Unsqueeze" and rank == _LINE else _of_rank(rank)
    return None


def _length(value: ir.Value | None) -> int | None:
    """The length of a vector, where known."""
    shape = None if value is None else value.shape
    if value is not None and value.const_value is not None:
        shape = value.const_value.shape
    return shape[0] if shape is not None and len(shape) == _LINE and isinstance(shape[0], int) else None  # pyright: ignore


@functools.cache
def _of_length(length: int) -> ir.Shape:
    return ir.Shape([length], frozen=True)


@functools.cache
def _of_rank(rank: int) -> ir.Shape:
    return ir.Shape([None] * rank, frozen=True)
