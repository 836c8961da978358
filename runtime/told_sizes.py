"""Open sizes of inputs that a weight decides: the columns of a MatMul's input, the channels of a convolution's."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from netferry.schemas.ir import ir

_SAME = {
    "Abs", "Binarizer", "Cast", "CastLike", "Celu", "Clip", "Dropout", "Elu", "Erf", "Exp", "Floor", "Gelu",
    "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Log", "LogSoftmax", "LpNormalization",
    "MeanVarianceNormalization", "Mish", "Neg", "Normalizer", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Softmax",
    "Softplus", "Softsign", "Sqrt", "Tanh",
}  # fmt: skip
_PAIRED = {
    "Add", "And", "BitShift", "Div", "Equal", "Greater", "Less", "Max", "Mean", "Min", "Mod", "Mul", "Or", "Pow",
    "PRelu", "Sub", "Sum", "Where", "Xor",
}  # fmt: skip
_MOST = 2**24
"""elements of an input; a small file may ask for more, by the number of a feature or by broadcasting"""
_CHANNELS = {"BatchNormalization", "InstanceNormalization"}
_PER_TARGET = {"LinearClassifier": ("coefficients", "intercepts"), "LinearRegressor": ("coefficients", "intercepts")}
_PER_FEATURE = {"Scaler": ("offset", "scale"), "Imputer": ("imputed_value_floats", "imputed_value_int64s")}

Axes = tuple[int | None, ...]
"""For each axis of a value the axis of the input that it is; None where it is none of them."""


def told_sizes(graph: ir.Graph) -> dict[str, dict[int, int]]:
    """Return, by input and axis, the open sizes that what reads the input leaves no choice in.

    Followed through what keeps an axis as it is; a tensor that is broadcast against it counts as its size.
    """
    found: dict[str, dict[int, int]] = {}
    for value in graph.inputs:
        if not value.name or value.shape is None or all(isinstance(d, int) for d in value.shape):
            continue
        sizes: dict[int, int] = {}
        for axis, size in _told(value, len(value.shape)):
            if size > 0 and not isinstance(value.shape[axis], int):
                sizes.setdefault(axis, size)
        if sizes and math.prod(sizes.values()) <= _MOST:
            found[value.name] = sizes
    return found


def _told(value: ir.Value, rank: int) -> Iterator[tuple[int, int]]:
    queue: list[tuple[ir.Value, Axes]] = [(value, tuple(range(rank)))]
    seen = {value}
    while queue:
        now, axes = queue.pop(0)
        for use in now.uses():
            node, place = use.node, use.idx
            for axis, size in _asked(node, place, len(axes)):
                if -len(axes) <= axis < len(axes) and (own := axes[axis]) is not None:
                    yield own, size
            kept = _kept(node, place, axes)
            if kept is not None and node.outputs and node.outputs[0] not in seen:
                seen.add(node.outputs[0])
                queue.append((node.outputs[0], kept))


def _kept(node: ir.Node, place: int, axes: Axes) -> Axes | None:
    kind = node.op_type
    if kind in _SAME or kind in _CHANNELS or kind in _PER_FEATURE or kind == "LayerNormalization":
        return axes if place == 0 else None
    if kind == "Transpose":
        order = node.attributes["perm"].as_ints() if "perm" in node.attributes else range(len(axes))[::-1]
        return tuple(axes[a] for a in order) if sorted(order) == list(range(len(axes))) else None
    if kind in _PAIRED:
        ranks = [None if v is None or v.shape is None else len(v.shape) for v in node.inputs]
        others = [r for i, r in enumerate(ranks) if i != place]
        if any(r is None for r in others):
            return None
        return (None,) * (max([len(axes), *(r or 0 for r in others)]) - len(axes)) + axes
    return None


def _asked(node: ir.Node, place: int, rank: int) -> Iterator[tuple[int, int]]:
    """The (axis, size) that a node asks of its input at ``place``."""
    kind, attributes = node.op_type, node.attributes
    shapes = [() if v is None else _known(v) for v in node.inputs]
    other = shapes[1 - place] if len(shapes) > 1 and place < 2 else ()
    if kind in ("MatMul", "MatMulInteger") and other:
        yield (-1, other[-2 if len(other) > 1 else 0]) if place == 0 else (-2 if rank > 1 else -1, other[-1])
    elif kind == "Gemm" and place < 2 and len(other) == 2:
        across = attributes.get_int("transA" if place == 0 else "transB", 0)
        turned = attributes.get_int("transB" if place == 0 else "transA", 0)
        if place == 0:
            yield (0 if across else 1), other[1 if turned else 0]
        else:
            yield (1 if across else 0), other[0 if turned else 1]
    elif kind == "Conv" and place == 0 and len(other) > 2:
        yield 1, other[1] * attributes.get_int("group", 1)
    elif (kind == "ConvTranspose" and place == 0 and len(other) > 2) or (kind in _CHANNELS and place == 0 and other):
        yield 1, other[0]
    elif kind == "LayerNormalization" and place == 0:
        yield from ((-1 - i, size) for i, size in enumerate(reversed(other)))
    elif kind in ("LSTM", "GRU", "RNN") and place == 0 and len(other) == 3:
        yield 2, other[2]
    elif kind in _PAIRED:
        for n, shape in enumerate(shapes):
            if n != place:
                yield from ((-1 - i, size) for i, size in enumerate(reversed(shape)) if size > 1)
    elif place == 0:
        yield from _asked_by_learners(node)


def _asked_by_learners(node: ir.Node) -> Iterator[tuple[int, int]]:
    """What the operators of ai.onnx.ml ask: a number for each feature."""
    if node.op_type in _PER_TARGET:
        numbers, targets = (_length(node, name) for name in _PER_TARGET[node.op_type])
        yield -1, numbers // max(targets, node.attributes.get_int("targets", 1))
    elif node.op_type in _PER_FEATURE:
        sizes = [_length(node, name) for name in _PER_FEATURE[node.op_type]]
        if max(sizes) > 1:
            yield -1, max(sizes)
    elif node.op_type.startswith("TreeEnsemble") and "nodes_featureids" in node.attributes:
        yield -1, 1 + max((int(i) for i in node.attributes["nodes_featureids"].as_ints()), default=0)


def _known(value: ir.Value) -> Sequence[int]:
    """The sizes of a value, 0 where one is open."""
    shape = value.shape if value.const_value is None else value.const_value.shape
    return () if shape is None else [d if isinstance(d, int) else 0 for d in shape]


def _length(node: ir.Node, name: str) -> int:
    return len(node.attributes[name].value) if name in node.attributes else 0
