"""Layers without weights as modules, so that a printed network reads like one."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from torch import nn

from netferry.runtime.torch.facts import attribute, given, known, number, rank_of, used_outputs
from netferry.runtime.torch.modules_conv import same_or_pads
from netferry.runtime.torch.plans import copied
from netferry.runtime.torch.training_facts import training_module
from netferry.schemas.ir import ir
from netferry.schemas.layers import TRAINING
from netferry.schemas.tensors import constant_tensor, filler_of

SPATIAL = "netferry.spatial"
"""metadata of a Dropout that drops whole channels: the axis of the channels"""
_ZERO_AND_SIX = [struct.pack("<f", 0.0), struct.pack("<f", 6.0)]


def plain_module(node: ir.Node) -> nn.Module | None:
    """A module without weights for a node that is a layer by itself, so that the printed network reads like one."""
    maker = _WEIGHTLESS.get(node.op_type)
    return maker(node) if maker is not None and node.domain in ("", "ai.onnx") else None


def _pool(node: ir.Node) -> nn.Module | None:
    kernel = attribute(node, "kernel_shape", [])
    n = len(kernel)
    if n not in (1, 2, 3) or any(used_outputs(node)[1:]) or rank_of(node.inputs[0]) not in (None, n + 2):
        return None
    value = node.inputs[0]
    if value is None or value.dtype not in (ir.DataType.FLOAT, ir.DataType.DOUBLE):
        return None
    strides, dilations = attribute(node, "strides", [1] * n), attribute(node, "dilations", [1] * n)
    pads = same_or_pads(node, tuple(kernel), strides, dilations)
    if isinstance(pads, str) or pads[:n] != pads[n:] or any(2 * p > k for p, k in zip(pads[:n], kernel, strict=True)):
        return None
    ceil = bool(attribute(node, "ceil_mode", 0))
    place: Any = (tuple(kernel), tuple(strides), tuple(pads[:n]))
    if node.op_type == "MaxPool":
        largest: Any = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)[n - 1]
        return largest(*place, tuple(dilations), ceil_mode=ceil)
    if any(d != 1 for d in dilations):
        return None
    include = bool(attribute(node, "count_include_pad", 0))
    average: Any = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)[n - 1]
    return average(*place, ceil, include)


def _global_average(node: ir.Node) -> nn.Module | None:
    kind: Any = {3: nn.AdaptiveAvgPool1d, 4: nn.AdaptiveAvgPool2d, 5: nn.AdaptiveAvgPool3d}.get(
        rank_of(node.inputs[0]) or 0
    )
    return None if kind is None else kind(1)


def _dropout(node: ir.Node) -> nn.Module | None:
    """Active while the module trains; so is what was exported in training mode."""
    if any(used_outputs(node)[1:]) or "seed" in node.attributes:
        return None
    if TRAINING in node.metadata_props and (made := training_module(node)) is not None:
        return made
    ratio = 0.5
    if given(node, 1):
        held = known(node.inputs[1])
        if held is None:
            return None
        ratio = float(str(held.reshape(-1)[0]))
    if given(node, 2) and known(node.inputs[2]) is None:
        return None
    if SPATIAL in node.metadata_props:  # whole channels, as Keras's SpatialDropout
        rank, axis = rank_of(node.inputs[0]) or 0, node.metadata_props[SPATIAL]
        kind: Any = {3: nn.Dropout1d, 4: nn.Dropout2d, 5: nn.Dropout3d}.get(rank)
        return kind(ratio) if kind is not None and axis in map(str, range(1, rank)) else None
    return nn.Dropout(ratio)


def _clip(node: ir.Node) -> nn.Module | None:
    if not given(node, 1) or not given(node, 2):
        return None
    tensors = [constant_tensor(value) for value in node.inputs[1:3] if value is not None]
    if any(t is None or t.dtype != ir.DataType.FLOAT or filler_of(t) is not None for t in tensors):
        return None
    return copied(nn.ReLU6) if [t.tobytes() for t in tensors if t is not None] == _ZERO_AND_SIX else None


_WEIGHTLESS: dict[str, Callable[[ir.Node], nn.Module | None]] = {
    "Relu": lambda n: copied(nn.ReLU),
    "LeakyRelu": lambda n: nn.LeakyReLU(number(n, "alpha", 0.01)),
    "Elu": lambda n: nn.ELU(number(n, "alpha", 1.0)),
    "Sigmoid": lambda n: copied(nn.Sigmoid),
    "Tanh": lambda n: copied(nn.Tanh),
    "Softmax": lambda n: nn.Softmax(attribute(n, "axis", -1)),
    "Clip": _clip,
    "MaxPool": _pool,
    "AveragePool": _pool,
    "GlobalAveragePool": _global_average,
    "Dropout": _dropout,
    "Identity": training_module,
}
