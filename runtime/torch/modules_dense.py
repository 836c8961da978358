"""Dense, embedding and PReLU layers as modules."""

from __future__ import annotations

import math

from torch import nn

from netferry.runtime.torch.facts import attribute, bias_behind, given, initializer, rank_of
from netferry.runtime.torch.packing import FLAT, PLAIN, TRANSPOSED, Packing
from netferry.runtime.torch.plans import Bindings, Plan, bare, bindings_key
from netferry.schemas.ir import ir
from netferry.schemas.layers import Role, role_of, static_shape


def _linear(weight: ir.Value, packing: Packing, bias: ir.Value | None, absorbs: ir.Node | None) -> Plan:
    rows, columns = static_shape(weight)
    out, inside = (rows, columns) if packing is PLAIN else (columns, rows)
    bindings: Bindings = [(weight, packing, ["weight"])]
    if bias is not None:
        bindings.append((bias, FLAT if len(static_shape(bias)) != 1 else PLAIN, ["bias"]))
    settings, sizes = {"bias": bias is not None}, {"in_features": inside, "out_features": out}
    key = ("Linear", *bindings_key(bindings))
    return Plan(lambda: bare(nn.Linear, settings, **sizes), bindings, key, absorbs=absorbs)


def gemm(node: ir.Node) -> Plan | None:
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


def matmul(node: ir.Node, *, alone: bool = False) -> Plan | None:
    weight, packing = initializer(node, 1), TRANSPOSED
    if weight is None:
        weight, packing = turned_weight(node), PLAIN
    if weight is None or len(static_shape(weight)) != 2 or role_of(weight) != Role.LEARNABLE:
        return None
    found = None if alone else bias_behind(node, static_shape(weight)[1 if packing is TRANSPOSED else 0], -1)
    if found is not None and found[0].dtype == weight.dtype:
        return _linear(weight, packing, *found)
    return _linear(weight, packing, None, None)


def embedding(node: ir.Node) -> Plan | None:
    weight = initializer(node, 0)
    if weight is None or role_of(weight) != Role.LEARNABLE or attribute(node, "axis", 0) != 0:
        return None
    shape = static_shape(weight)
    if len(shape) != 2 or initializer(node, 1) is not None:
        return None
    bindings: Bindings = [(weight, PLAIN, ["weight"])]
    settings = {"num_embeddings": shape[0], "embedding_dim": shape[1]}
    before = ("positions", {"size": shape[0]})
    return Plan(lambda: bare(nn.Embedding, settings), bindings, ("Embedding", *bindings_key(bindings)), before)


def prelu(node: ir.Node) -> Plan | None:
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
    return Plan(lambda: bare(nn.PReLU, {}, num_parameters=count), bindings, ("PReLU", *bindings_key(bindings)))
