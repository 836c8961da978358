"""Zeros that a graph computes and that say nothing, taken out: torch's exporters write them.

The dynamo exporter gives a convolution the bias ``Expand(CastLike(0, x), Shape(weight)[0:1])`` unless it may optimize;
it depends on sizes and types that the file tells, and with it a convolution is no ``nn.Conv2d``. Both exporters give a
recurrent layer a first state of zeros in the size of the batch, which is what it starts from anyway.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from netferry.runtime.torch.calls import settings_of
from netferry.runtime.torch.folding import fold
from netferry.runtime.torch.values import Unsupported
from netferry.schemas.group_norms import group_norms
from netferry.schemas.ir import ir
from netferry.schemas.layers import FLOATS, ROLE, Role, role_of
from netferry.schemas.tensors import array_of, constant_tensor
from netferry.schemas.walk import nodes_of

_DEPTH, _BYTES = 16, 1 << 16
_BIAS = 2
_SLOTS = {"Conv": (_BIAS,), "ConvTranspose": (_BIAS,), "LSTM": (5, 6), "GRU": (5,), "RNN": (5,)}
"""inputs that count as zero where they are left out"""
_NORMS = {"BatchNormalization", "InstanceNormalization", "LayerNormalization", "GroupNormalization"}
_AFFINE = (1, 2)
"""inputs of norms that are scale and shift: a norm without weights is given computed ones and zeros"""
_SAME_VALUES = {
    "Expand", "Slice", "Reshape", "Transpose", "Unsqueeze", "Squeeze", "Identity", "Cast", "CastLike", "Tile",
}  # fmt: skip
"""operators that give the values of their first input and no others"""


def drop_zeros(graph: ir.Graph) -> None:
    """Take out biases of convolutions and first states of recurrent layers that are zero, with what computed them.

    Scales and shifts of norms that are computed become constants of their own: so a norm without weights is a module.
    """
    for node in list(nodes_of(graph)):
        slots = _SLOTS.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        for i in slots or ():
            value = node.inputs[i] if i < len(node.inputs) else None
            if value is None or not (_always_zero(value) if i != _BIAS else _zero_bias(value)):
                continue
            if i != _BIAS and not _has_width(value, node):
                continue  # no first state of this layer: said where the layer is made
            node.replace_input_with(i, None)
            _discard(value)
        for i in _AFFINE if node.op_type in _NORMS and node.domain in ("", "ai.onnx") else ():
            value = node.inputs[i] if i < len(node.inputs) else None
            array = None if value is None or value.producer() is None else computed(value)
            if value is not None and array is not None and node.graph is graph:
                node.replace_input_with(i, _constant(graph, array))
                _discard(value)


def _has_width(value: ir.Value, node: ir.Node) -> bool:
    """Whether a first state is as wide as a recurrent layer, for all that is known."""
    width = None if not value.shape else value.shape[-1]
    return not isinstance(width, int) or width == node.attributes.get_int("hidden_size", width)


def join_group_norms(graph: ir.Graph) -> None:
    """Say group norms that are written with an InstanceNormalization by the operator that ONNX has by now."""
    for found in group_norms(graph):
        if Role.CONSTANT in [v.metadata_props.get(ROLE) for v in (found.scale, found.bias)]:
            continue
        before = found.norm.inputs[0].producer() if found.norm.inputs[0] is not None else None
        x = found.x if before is None else before.inputs[0]  # the result of another one, maybe, by now
        settings = [ir.AttrInt64("num_groups", found.groups), *(a for a in found.norm.attributes.values())]
        props = dict(found.norm.metadata_props)
        made = ir.Node("", "GroupNormalization", [x, found.scale, found.bias], settings, name=found.norm.name)
        made.metadata_props.update(props)
        old = found.last.outputs[0]
        made.outputs[0].type, made.outputs[0].shape = old.type, old.shape
        graph.insert_before(found.last, made)
        old.replace_all_uses_with(made.outputs[0], replace_graph_outputs=True)
        _discard(old)


def _constant(graph: ir.Graph, array: np.ndarray) -> ir.Value:
    """A new initializer that does not learn."""
    name, i = "norm", 0
    while name in graph.initializers:
        name, i = f"norm_{i}", i + 1
    made = ir.Value(
        name=name, type=ir.TensorType(ir.DataType.from_numpy(array.dtype)), shape=ir.Shape(array.shape),
        const_value=ir.Tensor(array, name=name),
    )  # fmt: skip
    made.metadata_props[ROLE] = Role.CONSTANT.value
    graph.register_initializer(made)
    return made


def _zero_bias(value: ir.Value) -> bool:
    """Whether a bias is computed and zero; one that is an initializer trains."""
    values = None if value.producer() is None else computed(value)
    return values is not None and not values.any()


def _always_zero(value: ir.Value, depth: int = _DEPTH) -> bool:
    """Whether a value is zero, of whatever size, and no parameter."""
    if value.is_initializer() and role_of(value) is not Role.CONSTANT:
        return False
    tensor = constant_tensor(value)
    if tensor is not None:
        array = array_of(tensor) if tensor.nbytes <= _BYTES else None
        return array is not None and array.dtype.kind in "fiub" and not array.any()
    node = value.producer()
    if node is None or depth == 0 or node.domain not in ("", "ai.onnx"):
        return False
    if node.op_type == "ConstantOfShape":
        held = node.attributes.get("value")
        return held is None or not np.any(array_of(held.as_tensor()))
    if node.op_type == "Concat":
        return all(v is not None and _always_zero(v, depth - 1) for v in node.inputs)
    first = node.inputs[0] if node.inputs else None
    return node.op_type in _SAME_VALUES and first is not None and _always_zero(first, depth - 1)


def computed(
    value: ir.Value, depth: int = _DEPTH, sizes: Mapping[ir.Value, Sequence[int]] | None = None
) -> np.ndarray | None:
    """Values that follow from constants, and from shapes and types that are known; None for what learns, and others.

    Args:
        value: the value.
        depth: how many nodes may lie behind it, one after the other.
        sizes: dimensions of values, where they are taken for known.
    """
    if value.dtype in FLOATS and value.is_initializer() and role_of(value) is not Role.CONSTANT:
        return None
    tensor = constant_tensor(value)
    if tensor is not None:
        return array_of(tensor) if tensor.nbytes <= _BYTES else None
    node = value.producer()
    if node is None or depth == 0 or len(node.outputs) != 1 or node.domain not in ("", "ai.onnx"):
        return None
    try:
        settings = settings_of(node)
    except Unsupported:
        return None
    first = node.inputs[0] if node.inputs else None
    if node.op_type == "Shape" and first is not None:
        whole = sizes[first] if sizes and first in sizes else first.shape
        dims = None if whole is None else list(whole)[settings.get("start", 0) : settings.get("end")]
        known = dims is not None and all(isinstance(d, int) for d in dims)
        return np.array(dims, np.int64) if known else None
    if node.op_type == "CastLike" and first is not None:
        like, made = node.inputs[1], computed(first, depth - 1, sizes)
        known = made is not None and like is not None and like.dtype in (ir.DataType.FLOAT, ir.DataType.DOUBLE)
        return made.astype(like.dtype.numpy()) if known else None  # pyright: ignore[reportOptionalMemberAccess]
    arrays = [None if v is None else computed(v, depth - 1, sizes) for v in node.inputs]
    if not arrays or any(a is None and v is not None for a, v in zip(arrays, node.inputs, strict=True)):
        return None
    found = fold(node, arrays, settings)
    return None if found is None else found[0]


def _discard(value: ir.Value) -> None:
    """Remove the node of a value that nobody reads any more, and so on behind it."""
    node = value.producer()
    if node is None or node.graph is None or any(v.uses() or v.is_graph_output() for v in node.outputs):
        return
    read = [v for v in node.inputs if v is not None]
    node.graph.remove(node, safe=True)
    for one in read:
        _discard(one)
