"""What a node says: inputs, attributes, outputs in use; constants as tensors."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import torch

from netferry.schemas.ir import ir
from netferry.schemas.layers import static_shape
from netferry.schemas.tensors import array_of, constant_tensor


def initializer(node: ir.Node, i: int) -> ir.Value | None:
    """The i-th input, where it is an initializer of the model."""
    value = node.inputs[i] if i < len(node.inputs) else None
    return value if value is not None and value.is_initializer() else None


def given(node: ir.Node, i: int) -> bool:
    """Whether the i-th input is there."""
    return i < len(node.inputs) and node.inputs[i] is not None


def bias_behind(node: ir.Node, outputs: int, axis: int) -> tuple[ir.Value, ir.Node] | None:
    """The initializer with a number for each output of a product that an Add alone reads, and the Add.

    Args:
        node: the product.
        outputs: how many outputs its weight has.
        axis: where they lie, from the end.
    """
    made = node.outputs[0]
    uses = list(made.uses())
    if len(uses) != 1 or made.is_graph_output():
        return None
    add = uses[0].node
    if add.op_type != "Add" or add.domain != node.domain or add.graph is not node.graph:
        return None
    bias = initializer(add, 1 - uses[0].idx)
    if bias is None or made.dtype not in (None, bias.dtype):
        return None
    shape, rank = static_shape(bias), rank_of(made)
    if len(shape) < -axis or not shape[axis] == math.prod(shape) == outputs:
        return None
    return (bias, add) if len(shape) == 1 or (rank is not None and len(shape) <= rank) else None


def known(value: ir.Value | None) -> np.ndarray | None:
    """A value that the file gives: of an initializer, or of a Constant."""
    tensor = None if value is None else constant_tensor(value)
    return None if tensor is None else array_of(tensor)


def attribute(node: ir.Node, name: str, default: Any) -> Any:
    """An attribute's value; lists as lists."""
    held = node.attributes.data.get(name)
    if held is None:
        return default
    value = held.value
    return list(value) if isinstance(value, tuple) else value


def number(node: ir.Node, name: str, default: float) -> float:
    """A float attribute, which ONNX keeps in 32 bits, as the shortest number that means it: 1e-05, 0.9."""
    return _shortest(attribute(node, name, default))


@functools.lru_cache(256)
def _shortest(value: float) -> float:
    return float(str(np.float32(value)))


def used_outputs(node: ir.Node) -> list[bool]:
    """Which outputs are read."""
    return [bool(v.name) and (bool(v.uses()) or v.is_graph_output()) for v in node.outputs]


def rank_of(value: ir.Value | None) -> int | None:
    """Rank of a value, where known."""
    return None if value is None or value.shape is None else len(value.shape)


_WIDER: dict[str, type] = {
    **dict.fromkeys(("int4", "int2"), np.int8),
    **dict.fromkeys(("uint4", "uint2"), np.uint8),
    **dict.fromkeys(("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"), np.float32),
    **dict.fromkeys(("float8_e8m0fnu", "float4_e2m1fn", "float6_e2m3fn", "float6_e3m2fn"), np.float32),
}
"""types of stored weights that torch does not compute with, and one that holds each of their values"""


def torch_values(array: Any) -> torch.Tensor:
    """A NumPy array as a tensor of its own; bfloat16 keeps its bits, what torch has no type for gets a wider one."""
    if (wider := _WIDER.get(array.dtype.name)) is not None:
        array = array.astype(wider)
    if array.dtype.kind not in "biufc":
        if array.dtype.name == "bfloat16":
            return torch.from_numpy(np.array(array).view(np.int16)).view(torch.bfloat16).clone()
        raise TypeError(f"{array.dtype} has no counterpart in torch")
    made = torch.empty(array.shape, dtype=_torch_type(array.dtype))  # torch's memory is aligned
    np.copyto(made.numpy(), array)
    return made


@functools.cache
def _torch_type(dtype: np.dtype[Any]) -> torch.dtype:
    return torch.from_numpy(np.empty(0, dtype)).dtype
