"""Operators with weights as ordinary torch.nn modules, where torch.nn says the same."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from netferry.runtime.torch.ops.windows import auto_pads
from netferry.runtime.torch.packing import FLAT, PLAIN, TRANSPOSED, Packing, gate_biases, gates
from netferry.schemas.ir import ir
from netferry.schemas.layers import Role, role_of, static_shape
from netferry.schemas.tensors import array_of

Bindings = list[tuple[ir.Value, Packing, list[str]]]


@dataclass
class Plan:
    """A module that takes the place of a node (or two)."""

    make: Callable[[], nn.Module]
    """makes the module; its parameters get their values afterwards"""
    bindings: Bindings
    """initializer, packing, names of the module's parameters"""
    key: tuple[Any, ...]
    """nodes of one layer with equal keys share the module"""
    before: tuple[str, dict[str, Any]] | None = None
    """a function of :mod:`glue` that the input passes through first"""
    absorbs: ir.Node | None = None
    """an Add whose bias the module holds"""
    recurrent: dict[str, Any] | None = None
    """for recurrent layers: directions, batch_first, backward, memory"""


def initializer(node: ir.Node, i: int) -> ir.Value | None:
    """The i-th input, where it is an initializer of the model."""
    value = node.inputs[i] if i < len(node.inputs) else None
    return value if value is not None and value.is_initializer() else None


def given(node: ir.Node, i: int) -> bool:
    """Whether the i-th input is there."""
    return i < len(node.inputs) and node.inputs[i] is not None


def attribute(node: ir.Node, name: str, default: Any) -> Any:
    """An attribute's value; lists as lists."""
    held = node.attributes.get(name)
    if held is None:
        return default
    return list(held.value) if isinstance(held.value, tuple) else held.value


def number(node: ir.Node, name: str, default: float) -> float:
    """A float attribute, which ONNX keeps in 32 bits, as the shortest number that means it: 1e-05, 0.9."""
    return float(str(np.float32(attribute(node, name, default))))


def used_outputs(node: ir.Node) -> list[bool]:
    """Which outputs are read."""
    return [bool(v.name) and (bool(v.uses()) or v.is_graph_output()) for v in node.outputs]


def plan(node: ir.Node, frozen_statistics: bool) -> Plan | None:
    """The module for a node, or None where the operator's function serves it."""
    maker = _MAKERS.get(node.op_type)
    if maker is None or node.domain not in ("", "ai.onnx"):
        return None
    found = maker(node)
    if found is None or not any(role_of(v) == Role.LEARNABLE or role_of(v) == Role.STATE for v, _, _ in found.bindings):
        return None
    if frozen_statistics and node.op_type == "BatchNormalization":
        make = found.make
        found.make = lambda: FrozenStatistics.of(make())
    return found


class FrozenStatistics:
    """BatchNorm that keeps its statistics while the rest trains."""

    @staticmethod
    def of(module: nn.Module) -> nn.Module:
        """Turn a batch norm into one that stays in eval mode; its class keeps its name."""
        base = type(module)
        module.__class__ = _FROZEN[base]
        return module.train(False)


class _Frozen1d(nn.BatchNorm1d):
    def train(self, mode: bool = True) -> nn.BatchNorm1d:
        return super().train(False)


class _Frozen2d(nn.BatchNorm2d):
    def train(self, mode: bool = True) -> nn.BatchNorm2d:
        return super().train(False)


class _Frozen3d(nn.BatchNorm3d):
    def train(self, mode: bool = True) -> nn.BatchNorm3d:
        return super().train(False)


_FROZEN: dict[type, type] = {nn.BatchNorm1d: _Frozen1d, nn.BatchNorm2d: _Frozen2d, nn.BatchNorm3d: _Frozen3d}


def _pads(node: ir.Node, kernel: tuple[int, ...], strides: list[int], dilations: list[int]) -> list[int] | str:
    """Pads as numbers, or the mode where they depend on the input's size."""
    n, mode = len(kernel), attribute(node, "auto_pad", "NOTSET")
    if mode == "VALID":
        return [0] * (2 * n)
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        if all(s == 1 for s in strides):
            return auto_pads(mode, [1 << 20] * n, kernel, strides, dilations)
        return mode
    return attribute(node, "pads", [0] * (2 * n))


def _conv(node: ir.Node) -> Plan | None:
    weight, bias = initializer(node, 1), initializer(node, 2)
    if weight is None or (bias is None and given(node, 2)):
        return None
    shape = static_shape(weight)
    n = len(shape) - 2
    if n not in (1, 2, 3):
        return None
    kernel, group = shape[2:], attribute(node, "group", 1)
    strides, dilations = attribute(node, "strides", [1] * n), attribute(node, "dilations", [1] * n)
    pads = _pads(node, kernel, strides, dilations)
    before = None
    padding: tuple[int, ...] = (0,) * n
    if isinstance(pads, str):
        before = ("pad_same", {"mode": pads, "kernel": list(kernel), "strides": strides, "dilations": dilations})
    elif pads[:n] == pads[n:] and min(pads) >= 0:
        padding = tuple(pads[:n])
    else:
        before = ("pad_sides", {"pads": pads})
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[n - 1]
    settings: Any = (shape[1] * group, shape[0], tuple(kernel), tuple(strides), padding, tuple(dilations), group)
    has_bias = bias is not None
    bindings: Bindings = [(weight, PLAIN, ["weight"])]
    if bias is not None:
        bindings.append((bias, PLAIN, ["bias"]))
    return Plan(lambda: _bare(kind, *settings, has_bias), bindings, ("Conv", *settings, *bindings_key(bindings)), before)


def _conv_transpose(node: ir.Node) -> Plan | None:
    weight, bias = initializer(node, 1), initializer(node, 2)
    if weight is None or (bias is None and given(node, 2)) or "output_shape" in node.attributes:
        return None
    shape = static_shape(weight)
    n = len(shape) - 2
    if n not in (1, 2, 3) or attribute(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return None
    kernel, group = shape[2:], attribute(node, "group", 1)
    strides, dilations = attribute(node, "strides", [1] * n), attribute(node, "dilations", [1] * n)
    pads, extra = attribute(node, "pads", [0] * (2 * n)), attribute(node, "output_padding", [0] * n)
    if attribute(node, "auto_pad", "NOTSET") == "VALID":
        pads = [0] * (2 * n)
    fits = all(e < max(s, d) for e, s, d in zip(extra, strides, dilations, strict=True))
    if pads[:n] != pads[n:] or min(pads) < 0 or not fits:
        return None
    if any(p > (k - 1) * d for p, k, d in zip(pads[:n], kernel, dilations, strict=True)):
        return None
    kind = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[n - 1]
    settings: Any = (shape[0], shape[1] * group, tuple(kernel), tuple(strides), tuple(pads[:n]), tuple(extra), group)
    has_bias = bias is not None
    bindings: Bindings = [(weight, PLAIN, ["weight"])]
    if bias is not None:
        bindings.append((bias, PLAIN, ["bias"]))
    return Plan(
        lambda: _bare(kind, *settings, has_bias, tuple(dilations)),
        bindings,
        ("ConvTranspose", *settings, *dilations, *bindings_key(bindings)),
    )


def _bare(kind: Callable[..., nn.Module], *settings: Any, **named: Any) -> nn.Module:
    """Make a module without drawing random weights: they get their values from the model."""
    return kind(*settings, **named, device="meta")


def bindings_key(bindings: Bindings) -> tuple[Any, ...]:
    """What tells two bindings apart."""
    return tuple((id(value), packing.key) for value, packing, _ in bindings)


def _linear(weight: ir.Value, packing: Packing, bias: ir.Value | None, absorbs: ir.Node | None) -> Plan:
    rows, columns = static_shape(weight)
    out, inside = (rows, columns) if packing is PLAIN else (columns, rows)
    bindings: Bindings = [(weight, packing, ["weight"])]
    if bias is not None:
        bindings.append((bias, FLAT if len(static_shape(bias)) != 1 else PLAIN, ["bias"]))
    has_bias = bias is not None
    return Plan(
        lambda: _bare(nn.Linear, inside, out, has_bias), bindings, ("Linear", *bindings_key(bindings)), absorbs=absorbs
    )


def _gemm(node: ir.Node) -> Plan | None:
    weight, bias = initializer(node, 1), initializer(node, 2)
    if weight is None or (bias is None and given(node, 2)) or attribute(node, "transA", 0):
        return None
    if attribute(node, "alpha", 1.0) != 1.0 or (bias is not None and attribute(node, "beta", 1.0) != 1.0):
        return None
    transposed = bool(attribute(node, "transB", 0))
    shape = static_shape(weight)
    if len(shape) != 2:
        return None
    out = shape[0] if transposed else shape[1]
    if bias is not None and static_shape(bias) not in ((out,), (1, out)):
        return None
    return _linear(weight, PLAIN if transposed else TRANSPOSED, bias, None)


def turned_weight(node: ir.Node) -> ir.Value | None:
    """The initializer of a MatMul's second input behind a Transpose that serves nothing else."""
    value = node.inputs[1] if len(node.inputs) > 1 else None
    before = None if value is None else value.producer()
    if value is None or before is None or before.op_type != "Transpose" or before.graph is not node.graph:
        return None
    if len(list(value.uses())) != 1 or value.is_graph_output() or attribute(before, "perm", [1, 0]) != [1, 0]:
        return None
    return initializer(before, 0)


def _matmul(node: ir.Node) -> Plan | None:
    weight, packing = initializer(node, 1), TRANSPOSED
    if weight is None:
        weight, packing = turned_weight(node), PLAIN
    if weight is None or len(static_shape(weight)) != 2 or role_of(weight) != Role.LEARNABLE:
        return None
    uses = list(node.outputs[0].uses())
    if len(uses) == 1 and not node.outputs[0].is_graph_output():
        add = uses[0].node
        if add.op_type == "Add" and add.domain == node.domain and add.graph is node.graph:
            bias = initializer(add, 1 - uses[0].idx)
            out = static_shape(weight)[1 if packing is TRANSPOSED else 0]
            if bias is not None and static_shape(bias) == (out,) and bias.dtype == weight.dtype:
                return _linear(weight, packing, bias, add)
    return _linear(weight, packing, None, None)


def _embedding(node: ir.Node) -> Plan | None:
    weight = initializer(node, 0)
    if weight is None or role_of(weight) != Role.LEARNABLE or attribute(node, "axis", 0) != 0:
        return None
    shape = static_shape(weight)
    if len(shape) != 2 or initializer(node, 1) is not None:
        return None
    bindings: Bindings = [(weight, PLAIN, ["weight"])]
    settings = (shape[0], shape[1])
    before = ("positions", {"size": shape[0]})
    return Plan(lambda: _bare(nn.Embedding, *settings), bindings, ("Embedding", *bindings_key(bindings)), before)


def rank_of(value: ir.Value | None) -> int | None:
    """Rank of a value, where known."""
    return None if value is None or value.shape is None else len(value.shape)


def _batch_norm(node: ir.Node) -> Plan | None:
    values = [initializer(node, i) for i in range(1, 5)]
    if any(v is None for v in values) or any(used_outputs(node)[1:]):
        return None  # statistics that the graph hands on; an export in training mode leaves them to the module
    kind = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}.get(rank_of(node.inputs[0]) or 0)
    if kind is None:
        return None
    channels = math.prod(static_shape(values[0]))  # type: ignore[arg-type]
    names = ["weight", "bias", "running_mean", "running_var"]
    bindings: Bindings = [(v, PLAIN, [n]) for v, n in zip(values, names, strict=True) if v is not None]
    settings = (channels, number(node, "epsilon", 1e-5), round(1 - number(node, "momentum", 0.9), 7))
    return Plan(lambda: _bare(kind, *settings), bindings, ("BatchNorm", *settings, *bindings_key(bindings)))


def _instance_norm(node: ir.Node) -> Plan | None:
    scale, bias = initializer(node, 1), initializer(node, 2)
    kind = {3: nn.InstanceNorm1d, 4: nn.InstanceNorm2d, 5: nn.InstanceNorm3d}.get(rank_of(node.inputs[0]) or 0)
    if scale is None or bias is None or kind is None:
        return None
    bindings: Bindings = [(scale, PLAIN, ["weight"]), (bias, PLAIN, ["bias"])]
    settings = (static_shape(scale)[0], number(node, "epsilon", 1e-5))
    return Plan(
        lambda: _bare(kind, *settings, affine=True), bindings, ("InstanceNorm", *settings, *bindings_key(bindings))
    )


def _group_norm(node: ir.Node) -> Plan | None:
    scale, bias = initializer(node, 1), initializer(node, 2)
    if scale is None or bias is None:
        return None
    bindings: Bindings = [(scale, PLAIN, ["weight"]), (bias, PLAIN, ["bias"])]
    settings = (attribute(node, "num_groups", 1), static_shape(scale)[0], number(node, "epsilon", 1e-5))
    return Plan(lambda: _bare(nn.GroupNorm, *settings), bindings, ("GroupNorm", *settings, *bindings_key(bindings)))


def _layer_norm(node: ir.Node) -> Plan | None:
    scale, bias = initializer(node, 1), initializer(node, 2)
    if scale is None or (bias is None and given(node, 2)) or any(used_outputs(node)[1:]):
        return None
    axis, rank, shape = attribute(node, "axis", -1), rank_of(node.inputs[0]), static_shape(scale)
    width = -axis if axis < 0 else None if rank is None else rank - axis
    if width != len(shape) or (bias is not None and static_shape(bias) != shape):
        return None
    if node.inputs[0] is None or node.inputs[0].dtype not in (ir.DataType.FLOAT, ir.DataType.DOUBLE, None):
        return None  # half precision: ONNX stashes in float32 and rounds before the scale
    bindings: Bindings = [(scale, PLAIN, ["weight"])]
    if bias is not None:
        bindings.append((bias, PLAIN, ["bias"]))
    settings, has_bias = (tuple(shape), number(node, "epsilon", 1e-5)), bias is not None
    return Plan(
        lambda: _bare(nn.LayerNorm, *settings, bias=has_bias),
        bindings,
        ("LayerNorm", *settings, *bindings_key(bindings)),
    )


def _prelu(node: ir.Node) -> Plan | None:
    slope = initializer(node, 1)
    rank = rank_of(node.inputs[0])
    if slope is None:
        return None
    shape = static_shape(slope)
    count = math.prod(shape)
    per_channel = rank is not None and rank > 1 and len(shape) == rank - 1 and shape[0] == count
    if count != 1 and not per_channel:
        return None
    bindings: Bindings = [(slope, FLAT, ["weight"])]
    return Plan(lambda: _bare(nn.PReLU, count), bindings, ("PReLU", *bindings_key(bindings)))


_GATES = {"LSTM": [0, 2, 3, 1], "GRU": [1, 0, 2], "RNN": [0]}
"""torch's order of gates in ONNX's: input, forget, cell, output; reset, update, new"""
_USUAL = {"LSTM": ["sigmoid", "tanh", "tanh"], "GRU": ["sigmoid", "tanh"]}


def recurrent(node: ir.Node) -> Plan | None:
    """nn.LSTM, nn.GRU or nn.RNN where torch has the settings; not with clip, peepholes or sequence lengths."""
    op, direction = node.op_type, attribute(node, "direction", "forward")
    directions = 2 if direction == "bidirectional" else 1
    weight, state, bias = (initializer(node, i) for i in (1, 2, 3))
    if weight is None or state is None or (bias is None and given(node, 3)):
        return None
    if given(node, 4) or given(node, 7) or "clip" in node.attributes or attribute(node, "input_forget", 0):
        return None
    names = [str(a).lower() for a in attribute(node, "activations", None) or _USUAL.get(op, ["tanh"]) * directions]
    extra: dict[str, Any] = {}
    if op == "RNN":
        if len(set(names[:directions])) != 1 or names[0] not in ("tanh", "relu"):
            return None
        extra["nonlinearity"] = names[0]
    elif names != _USUAL[op] * directions or (op == "GRU" and not attribute(node, "linear_before_reset", 0)):
        return None  # torch's GRU resets after the product with the state
    hidden, inside, batch_first = static_shape(state)[2], static_shape(weight)[2], bool(attribute(node, "layout", 0))
    order, ends = _GATES[op], ("", "_reverse")[:directions]
    bindings: Bindings = [
        (weight, gates(order, directions), [f"weight_ih_l0{end}" for end in ends]),
        (state, gates(order, directions), [f"weight_hh_l0{end}" for end in ends]),
    ]
    if bias is not None:
        names = [f"bias_{half}_l0{end}" for end in ends for half in ("ih", "hh")]
        bindings.append((bias, gate_biases(order, directions), names))
    kind: Any = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN}[op]
    has_bias = bias is not None
    settings = {"batch_first": batch_first, "bidirectional": directions == 2, "bias": has_bias, **extra}
    return Plan(
        lambda: _bare(kind, inside, hidden, **settings),
        bindings,
        (op, direction, *settings.values(), *bindings_key(bindings)),
        recurrent={
            "directions": directions, "batch_first": batch_first, "backward": direction == "reverse",
            "memory": op == "LSTM",
        },
    )  # fmt: skip


_MAKERS: dict[str, Callable[[ir.Node], Plan | None]] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Gather": _embedding,
    "BatchNormalization": _batch_norm,
    "InstanceNormalization": _instance_norm,
    "GroupNormalization": _group_norm,
    "LayerNormalization": _layer_norm,
    "PRelu": _prelu,
    "LSTM": recurrent,
    "GRU": recurrent,
    "RNN": recurrent,
}


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
    pads = _pads(node, tuple(kernel), strides, dilations)
    if isinstance(pads, str) or pads[:n] != pads[n:] or any(2 * p > k for p, k in zip(pads[:n], kernel, strict=True)):
        return None
    ceil = bool(attribute(node, "ceil_mode", 0))
    place = (tuple(kernel), tuple(strides), tuple(pads[:n]))
    if node.op_type == "MaxPool":
        return (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)[n - 1](*place, tuple(dilations), ceil_mode=ceil)
    if any(d != 1 for d in dilations):
        return None
    include = bool(attribute(node, "count_include_pad", 0))
    return (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)[n - 1](*place, ceil, include)


def _global_average(node: ir.Node) -> nn.Module | None:
    kind: Any = {3: nn.AdaptiveAvgPool1d, 4: nn.AdaptiveAvgPool2d, 5: nn.AdaptiveAvgPool3d}.get(
        rank_of(node.inputs[0]) or 0
    )
    return None if kind is None else kind(1)


def _dropout(node: ir.Node) -> nn.Module | None:
    """Active while the module trains; so is what was exported in training mode."""
    if any(used_outputs(node)[1:]) or "seed" in node.attributes:
        return None
    ratio = 0.5
    if given(node, 1):
        held = array_of(node.inputs[1])
        if held is None:
            return None
        ratio = float(str(held.reshape(-1)[0]))
    if given(node, 2):
        if array_of(node.inputs[2]) is None:
            return None
    return nn.Dropout(ratio)


def _clip(node: ir.Node) -> nn.Module | None:
    bounds = [array_of(node.inputs[i]) if given(node, i) else None for i in (1, 2)]
    known = [float(b.reshape(-1)[0]) if b is not None and b.dtype == np.float32 else None for b in bounds]
    return nn.ReLU6() if known == [0.0, 6.0] else None


_WEIGHTLESS: dict[str, Callable[[ir.Node], nn.Module | None]] = {
    "Relu": lambda n: nn.ReLU(),
    "LeakyRelu": lambda n: nn.LeakyReLU(number(n, "alpha", 0.01)),
    "Elu": lambda n: nn.ELU(number(n, "alpha", 1.0)),
    "Sigmoid": lambda n: nn.Sigmoid(),
    "Tanh": lambda n: nn.Tanh(),
    "Softmax": lambda n: nn.Softmax(attribute(n, "axis", -1)),
    "Clip": _clip,
    "MaxPool": _pool,
    "AveragePool": _pool,
    "GlobalAveragePool": _global_average,
    "Dropout": _dropout,
}


def torch_values(array: Any) -> torch.Tensor:
    """A NumPy array as a tensor of its own; bfloat16 keeps its bits."""
    if array.dtype.kind not in "biufc":
        if array.dtype.name == "bfloat16":
            return torch.from_numpy(np.array(array).view(np.int16)).view(torch.bfloat16).clone()
        raise TypeError(f"{array.dtype} has no counterpart in torch")
    return torch.from_numpy(np.ascontiguousarray(array).reshape(array.shape)).clone()  # torch's memory is aligned
