"""Ranks and element types that follow from the operators alone, for files that leave values without.

ONNX's own inference takes a message of the whole graph, and several times as long; the builder needs no more than this
where a network is made of the operators below: which have the rank and type of what they read.
"""

from __future__ import annotations

import functools

from netferry.schemas.ir import ir
from netferry.schemas.layers import static_shape
from netferry.schemas.tensors import constant_tensor

_AS_FIRST = frozenset((
    "Abs", "AveragePool", "BatchNormalization", "Ceil", "Clip", "Concat", "Conv", "ConvTranspose", "DepthToSpace",
    "Dropout", "Elu", "Erf", "Exp", "Floor", "Gelu", "GlobalAveragePool", "GlobalMaxPool", "HardSigmoid", "HardSwish",
    "Identity", "InstanceNormalization", "LRN", "LayerNormalization", "LeakyRelu", "Log", "LogSoftmax", "MaxPool",
    "Mish", "Neg", "PRelu", "Pad", "Reciprocal", "Relu", "Resize", "Selu", "Sigmoid", "Softmax", "Softplus", "Softsign",
    "SpaceToDepth", "Sqrt", "Tanh", "Transpose",
))  # fmt: skip
"""operators whose first output has the type and rank of their first input"""
_AS_LARGEST = frozenset(("Add", "Div", "Max", "Mean", "Min", "Mul", "Sub", "Sum"))
"""operators that repeat what they read along the axes that it lacks"""
_OF_TWO_AXES = frozenset(("Flatten", "Gemm"))


def complete_ranks(graph: ir.Graph) -> bool:
    """Give values their type and a shape of unknown sizes, where they have none; False where operators do not tell."""
    for node in graph:
        for i, value in enumerate(node.outputs):
            if value.type is not None and (value.shape is not None or not isinstance(value.type, ir.TensorType)):
                continue
            if i and not value.uses() and not value.is_graph_output():
                continue
            found = None if i or node.domain not in ("", "ai.onnx") else _found(node)
            if found is None:
                return False
            value.type, value.shape = value.type or found[0], value.shape or found[1]
    return True


def _found(node: ir.Node) -> tuple[ir.TypeProtocol, ir.Shape] | None:
    op = node.op_type
    if op == "Constant":
        tensor = constant_tensor(node.outputs[0])
        return None if tensor is None else (ir.TensorType(tensor.dtype), _of_rank(len(tensor.shape)))
    first = node.inputs[0] if node.inputs else None
    if first is None or first.type is None or first.shape is None:
        return None
    if op in _AS_FIRST:
        return first.type, _of_rank(len(first.shape))
    if op in _OF_TWO_AXES:
        return first.type, _of_rank(2)
    if op in _AS_LARGEST:
        ranks = [-1 if v is None or v.shape is None else len(v.shape) for v in node.inputs]
        return None if min(ranks) < 0 else (first.type, _of_rank(max(ranks)))
    if op == "MatMul":
        other = node.inputs[1]
        ranks = (len(first.shape), 0 if other is None or other.shape is None else len(other.shape))
        return (first.type, _of_rank(max(ranks))) if min(ranks) > 1 else None
    if op == "Reshape" and (target := node.inputs[1]) is not None and target.is_initializer():
        return first.type, _of_rank(static_shape(target)[0])
    return None


@functools.cache
def _of_rank(rank: int) -> ir.Shape:
    return ir.Shape([None] * rank, frozen=True)
