"""Group norms as torch's exporters write them, where ONNX had no operator: an InstanceNormalization over groups.

``x`` is reshaped to N x groups x rest, normalized with scales of one and shifts of zero, reshaped back, multiplied by a
scale and shifted, each of one number per channel.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from netferry.schemas.ir import ir
from netferry.schemas.layers import static_shape
from netferry.schemas.tensors import array_of, constant_tensor


class GroupNorm(NamedTuple):
    """One group norm: what it reads, its settings, its initializers, and the node that gives its result."""

    x: ir.Value
    groups: int
    norm: ir.Node
    scale: ir.Value
    bias: ir.Value
    last: ir.Node


def group_norms(graph: ir.Graph) -> list[GroupNorm]:
    """Return the group norms of a graph whose scale and shift serve nothing else."""
    norms = [n for n in graph if n.op_type == "InstanceNormalization" and n.domain in ("", "ai.onnx")]
    found = [g for node in norms if (g := _found(node)) is not None]
    read = [value for g in found for value in (g.scale, g.bias)]
    return [g for g in found if all(_serves(v, sum(one is v for one in read)) for v in (g.scale, g.bias))]


def _serves(value: ir.Value, count: int) -> bool:
    """Whether an initializer is read so many times and no more, behind Unsqueeze and Identity too."""
    readers = 0
    for use in value.uses():
        through = use.node.op_type in ("Unsqueeze", "Identity")
        readers += len(list(use.node.outputs[0].uses())) if through else 1
    return readers == count and not value.is_graph_output()


def _found(norm: ir.Node) -> GroupNorm | None:
    apart, scales, shifts = (norm.inputs[i] if i < len(norm.inputs) else None for i in range(3))
    ones, zeros = _known(scales), _known(shifts)
    before = None if apart is None else apart.producer()
    if ones is None or zeros is None or before is None or before.op_type != "Reshape":
        return None
    x, target = before.inputs[0], _known(before.inputs[1])
    groups = ones.size
    if x is None or not (ones == 1).all() or zeros.any() or zeros.size != groups:
        return None
    if target is None or target.tolist() != [0, groups, -1] or before.attributes.get_int("allowzero", 0):
        return None
    back = _reader(norm.outputs[0], "Reshape")
    if back is None or not _is_shape_of(back.inputs[1], x):
        return None
    scaled = _reader(back.outputs[0], "Mul")
    shifted = None if scaled is None else _reader(scaled.outputs[0], "Add")
    if scaled is None or shifted is None:
        return None
    scale, bias = _per_channel(_other(scaled, back.outputs[0])), _per_channel(_other(shifted, scaled.outputs[0]))
    if scale is None or bias is None or scale[1] != bias[1] or (x.shape is not None and len(x.shape) != scale[1]):
        return None
    channels = {static_shape(value)[0] for value, _ in (scale, bias)}
    if len(channels) != 1 or channels.pop() % groups:
        return None
    return GroupNorm(x, groups, norm, scale[0], bias[0], shifted)


def _known(value: ir.Value | None) -> np.ndarray | None:
    tensor = None if value is None else constant_tensor(value)
    return array_of(tensor) if tensor is not None and tensor.size <= 1 << 16 else None


def _reader(value: ir.Value, op: str) -> ir.Node | None:
    uses = list(value.uses())
    alone = len(uses) == 1 and not value.is_graph_output()
    return uses[0].node if alone and uses[0].node.op_type == op and uses[0].node.domain in ("", "ai.onnx") else None


def _other(node: ir.Node, value: ir.Value) -> ir.Value | None:
    return node.inputs[1] if node.inputs[0] is value else node.inputs[0]


def _is_shape_of(value: ir.Value | None, x: ir.Value) -> bool:
    """Whether a Reshape's target is the shape of ``x``: computed, or known but for the batch."""
    node = None if value is None else value.producer()
    if node is not None and node.op_type == "Shape":
        return node.inputs[0] is x and "end" not in node.attributes and not node.attributes.get_int("start", 0)
    known, shape = _known(value), x.shape
    if known is None or shape is None or known.size != len(shape):
        return False
    free = sum(isinstance(d, int) and d != n for d, n in zip(shape, known.tolist(), strict=True))
    unknown = sum(not isinstance(d, int) for d in shape)
    return free == 0 and unknown <= 1


def _per_channel(value: ir.Value | None) -> tuple[ir.Value, int] | None:
    """The initializer of one number per channel: C x 1 x 1, or C behind an Unsqueeze; with the rank of what it scales.

    torch's exporter hands one of several equal tensors to the others through Identity.
    """
    node = None if value is None else value.producer()
    axes: list[int] | None = None
    if node is not None and node.op_type == "Unsqueeze":
        known = _known(node.inputs[1]) if len(node.inputs) > 1 else np.array(node.attributes.get_ints("axes", ()))
        axes = None if known is None else sorted(known.tolist())
        if axes != list(range(1, len(axes or ()) + 1)):
            return None
        value = node.inputs[0]
    elif node is not None and node.op_type == "Identity":
        value = node.inputs[0]
    if value is None or not value.is_initializer():
        return None
    shape = static_shape(value)
    if len(shape) != 1 if axes is not None else not shape or set(shape[1:]) - {1}:
        return None
    return value, len(axes) + 2 if axes is not None else len(shape) + 1
