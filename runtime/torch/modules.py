"""Operators with weights as ordinary torch.nn modules, where torch.nn says the same."""

from __future__ import annotations

from collections.abc import Callable

from netferry.runtime.torch.modules_conv import conv, conv_transpose
from netferry.runtime.torch.modules_dense import embedding, gemm, matmul, prelu
from netferry.runtime.torch.modules_norm import FrozenStatistics, batch_norm, group_norm, instance_norm, layer_norm
from netferry.runtime.torch.modules_recurrent import recurrent
from netferry.runtime.torch.plans import Plan
from netferry.schemas.ir import ir
from netferry.schemas.layers import Role, role_of


def plan(node: ir.Node, frozen_statistics: bool, *, alone: bool = False) -> Plan | None:
    """The module for a node, or None where the operator's function serves it.

    ``alone`` says that an Add behind the node is not its bias.
    """
    maker = _MAKERS.get(node.op_type)
    if maker is None or node.domain not in ("", "ai.onnx"):
        return None
    found = maker(node) if node.op_type not in _ABSORBING else _ABSORBING[node.op_type](node, alone=alone)
    if found is None or not any(role_of(v) == Role.LEARNABLE or role_of(v) == Role.STATE for v, _, _ in found.bindings):
        return None
    if frozen_statistics and node.op_type == "BatchNormalization":
        make = found.make
        found.make = lambda: FrozenStatistics.of(make())
    return found


_ABSORBING = {"Conv": conv, "ConvTranspose": conv_transpose, "MatMul": matmul}
_MAKERS: dict[str, Callable[[ir.Node], Plan | None]] = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "Gemm": gemm,
    "MatMul": matmul,
    "Gather": embedding,
    "BatchNormalization": batch_norm,
    "InstanceNormalization": instance_norm,
    "GroupNormalization": group_norm,
    "LayerNormalization": layer_norm,
    "PRelu": prelu,
    "LSTM": recurrent,
    "GRU": recurrent,
    "RNN": recurrent,
}
