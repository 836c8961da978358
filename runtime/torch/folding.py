"""Nodes of constants alone are computed once, while building."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from netferry.runtime.torch import host
from netferry.runtime.torch.facts import torch_values
from netferry.runtime.torch.registry import Op, operators
from netferry.schemas.ir import ir
from netferry.schemas.tensors import array_of

_RANDOM = {"RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial", "Dropout"}
_LIMIT = 1 << 16


def fold(node: ir.Node, arrays: list[np.ndarray | None], settings: dict[str, Any]) -> list[np.ndarray] | None:
    """Return the outputs of a node of constants, or None where it stays in the graph.

    What is large, random or has no function stays; so does what fails, to fail where it is run.
    """
    op = operators().get(node.op_type)
    if op is None or node.op_type in _RANDOM or not arrays or sum(0 if a is None else a.size for a in arrays) > _LIMIT:
        return None
    if set(settings) - set(op.attributes):
        return None
    if node.op_type == "ConstantOfShape" and arrays[0] is not None and not 0 <= math.prod(arrays[0].tolist()) <= _LIMIT:
        return None
    try:
        for name, held in node.attributes.items():
            if held.type == ir.AttributeType.TENSOR:
                settings[name] = torch_values(array_of(held.as_tensor()))
        with torch.no_grad():
            made = op.function(*_arguments(op, arrays), **settings, **_extras(op, node))
    except (RuntimeError, TypeError, ValueError, IndexError, KeyError, ArithmeticError):
        return None
    results = list(made) if isinstance(made, (tuple, list)) else [made]
    if sum(r.numel() for r in results) > _LIMIT or any(r.dtype is torch.bfloat16 for r in results):
        return None
    return [r.contiguous().numpy() for r in results]


def _arguments(op: Op, arrays: list[np.ndarray | None]) -> list[Any]:
    out: list[Any] = []
    for i, array in enumerate(arrays):
        if array is None:
            out.append(None)
        elif op.kind(i) == "tensor":
            out.append(torch_values(array))
        else:
            out.append(host.as_list(array.tolist()) if op.kind(i) == "vector" else host.as_number(array.tolist()))
    return out


def _extras(op: Op, node: ir.Node) -> dict[str, Any]:
    extras: dict[str, int | Tensor] = {}
    if "like" in op.extras:
        extras["like"] = torch.empty(0)
    if "outputs" in op.extras:
        extras["outputs"] = len(node.outputs)
    return extras
