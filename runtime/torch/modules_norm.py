"""Normalizations as modules."""

from __future__ import annotations

import math

from torch import nn

from netferry.runtime.torch.facts import attribute, given, initializer, number, rank_of, used_outputs
from netferry.runtime.torch.packing import FLAT, PLAIN
from netferry.runtime.torch.plans import Bindings, Plan, bare, bindings_key
from netferry.schemas.ir import ir
from netferry.schemas.layers import static_shape


def batch_norm(node: ir.Node) -> Plan | None:
    values = [initializer(node, i) for i in range(1, 5)]
    if any(v is None for v in values) or any(used_outputs(node)[1:]):
        return None  # statistics that the graph hands on; an export in training mode leaves them to the module
    kind = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}.get(
        rank_of(node.inputs[0]) or 0
    )
    if kind is None:
        return None
    channels = math.prod(static_shape(values[0]))  # type: ignore[arg-type]
    names = ["weight", "bias", "running_mean", "running_var"]
    bindings: Bindings = [(v, PLAIN, [n]) for v, n in zip(values, names, strict=True) if v is not None]
    settings = {"eps": number(node, "epsilon", 1e-5), "momentum": round(1 - number(node, "momentum", 0.9), 7)}
    key = ("BatchNorm", channels, *settings.values(), *bindings_key(bindings))
    return Plan(lambda: bare(kind, settings, num_features=channels), bindings, key)


def instance_norm(node: ir.Node) -> Plan | None:
    scale, bias = initializer(node, 1), initializer(node, 2)
    kind = {3: nn.InstanceNorm1d, 4: nn.InstanceNorm2d, 5: nn.InstanceNorm3d}.get(rank_of(node.inputs[0]) or 0)
    if scale is None or bias is None or kind is None:
        return None
    bindings: Bindings = [(scale, PLAIN, ["weight"]), (bias, PLAIN, ["bias"])]
    channels, settings = static_shape(scale)[0], {"eps": number(node, "epsilon", 1e-5), "affine": True}
    key = ("InstanceNorm", channels, *settings.values(), *bindings_key(bindings))
    return Plan(lambda: bare(kind, settings, num_features=channels), bindings, key)


def group_norm(node: ir.Node) -> Plan | None:
    scale, bias = initializer(node, 1), initializer(node, 2)
    if scale is None or bias is None:
        return None
    forms = [PLAIN if len(static_shape(v)) == 1 else FLAT for v in (scale, bias)]
    bindings: Bindings = [(scale, forms[0], ["weight"]), (bias, forms[1], ["bias"])]
    groups, channels = attribute(node, "num_groups", 1), static_shape(scale)[0]
    if groups < 1 or channels % groups:
        return None
    settings = {"num_groups": groups, "num_channels": channels, "eps": number(node, "epsilon", 1e-5)}
    key = ("GroupNorm", *settings.values(), *bindings_key(bindings))
    return Plan(lambda: bare(nn.GroupNorm, settings), bindings, key)


def layer_norm(node: ir.Node) -> Plan | None:
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
    settings = {
        "normalized_shape": tuple(shape), "eps": number(node, "epsilon", 1e-5), "bias": bias is not None,
    }  # fmt: skip
    key = ("LayerNorm", *settings.values(), *bindings_key(bindings))
    return Plan(lambda: bare(nn.LayerNorm, settings), bindings, key)


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
