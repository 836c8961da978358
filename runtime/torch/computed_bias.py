"""Biases of zeros that a graph computes, taken out: torch's dynamo exporter writes them unless it may optimize.

``Expand(CastLike(0, x), Shape(weight)[0:1])`` depends on sizes and types that the file tells. With it a convolution is
no ``nn.Conv2d``, and reads sizes at run time.
"""

from __future__ import annotations

import numpy as np

from netferry.runtime.torch.calls import settings_of
from netferry.runtime.torch.folding import fold
from netferry.runtime.torch.values import Unsupported
from netferry.schemas.ir import ir
from netferry.schemas.tensors import array_of, constant_tensor
from netferry.schemas.walk import nodes_of

_DEPTH, _BYTES = 16, 1 << 16


def drop_zero_biases(graph: ir.Graph) -> None:
    """Take biases of convolutions out that are computed and zero, with what computed them."""
    for node in list(nodes_of(graph)):
        if node.op_type not in ("Conv", "ConvTranspose") or node.domain not in ("", "ai.onnx") or len(node.inputs) < 3:
            continue
        bias = node.inputs[2]
        if bias is None or bias.producer() is None:
            continue
        values = computed(bias)
        if values is not None and not values.any():
            node.replace_input_with(2, None)
            _discard(bias)


def computed(value: ir.Value, depth: int = _DEPTH) -> np.ndarray | None:
    """Values that follow from constants, and from shapes and types that are known; None for any others."""
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
        dims = None if first.shape is None else list(first.shape)[settings.get("start", 0) : settings.get("end")]
        known = dims is not None and all(isinstance(d, int) for d in dims)
        return np.array(dims, np.int64) if known else None
    if node.op_type == "CastLike" and first is not None:
        like, made = node.inputs[1], computed(first, depth - 1)
        known = made is not None and like is not None and like.dtype in (ir.DataType.FLOAT, ir.DataType.DOUBLE)
        return made.astype(like.dtype.numpy()) if known else None  # pyright: ignore[reportOptionalMemberAccess]
    arrays = [None if v is None else computed(v, depth - 1) for v in node.inputs]
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
