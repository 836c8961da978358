"""Parameters and buffers of files that torch wrote, told apart.

torch's dynamo exporter notes on every value which it was. Its TorchScript exporter keeps the names of both
(``cls_token``, ``blocks.0.ls1``, ``pe``) and gives what it made itself a name of another form (``onnx::Add_12``): one
with a name of the network's own is taken for a parameter where a gradient can reach it and it is not called like
what networks keep in buffers.
"""

from __future__ import annotations

import re

from netferry.schemas.group_norms import group_norms
from netferry.schemas.ir import ir
from netferry.schemas.layers import FLOATS, MOVERS, ROLE, Role, role_by_use
from netferry.schemas.merged import CALL, KIND, parameters_of
from netferry.schemas.model import Model

_OWN = re.compile(r"^(?!(?:val|input|output)_\d|\d+$)\w+(\.\w+)*$")
"""names of parameters and buffers: paths of Python names; lists number their items"""
_BUFFER = re.compile(
    r"^(pe|pos(ition(al)?)?_?enc(oding)?s?|\w*mask|mean|std|var|\w+_(mean|std|var|cached)|inv_freq|freqs?(_cis|_cos|_sin)?|"
    r"cos|sin|(cos|sin)_\w+|\w*grid|anchors?|\w*priors?|window|fb|filter_?bank|\w*ind(ex|ices)|tril|triu|causal\w*|"
    r"sqrt_\w+|\w*_cumprod)$"
)
"""what the last part of a buffer's name is like"""
_FLAT = frozenset((
    "And", "ArgMax", "ArgMin", "Ceil", "Equal", "Floor", "Greater", "GreaterOrEqual", "IsInf", "IsNaN", "Less",
    "LessOrEqual", "NonZero", "Not", "Or", "Round", "Shape", "Sign", "Size", "Xor",
))  # fmt: skip
"""operators through which no gradient comes"""
_NORMS = frozenset(("BatchNormalization", "GroupNormalization", "InstanceNormalization", "LayerNormalization"))
_AFFINE = (1, 2)
"""inputs of norms that are scale and shift"""
_DEPTH = 8


def take_torch_roles(model: Model) -> None:
    """Note the role of what torch's exporters tell to be a parameter or a buffer, where none is noted."""
    if model.ir.producer_name != "pytorch" or "origin" in model.source.details:
        return
    values = list(model.graph.initializers.values())
    told = any(KIND in value.metadata_props for value in values)
    for norm in group_norms(model.graph):  # the exporter folds their shapes, and with them their names
        learns = not told or "%p_" in norm.norm.metadata_props.get(CALL, "")
        for value in (norm.scale, norm.bias):
            value.metadata_props.setdefault(ROLE, (Role.LEARNABLE if learns else Role.CONSTANT).value)
    names = parameters_of(model.graph)
    whole = told and names <= set(model.graph.initializers)
    for value in values:
        if ROLE in value.metadata_props:
            continue
        role = _told(value, whole and value.name not in names) if told else _named(value)
        if role is not None:
            value.metadata_props[ROLE] = role.value


def _told(value: ir.Value, whole: bool) -> Role | None:
    """The role of a value of a file in which the dynamo exporter noted kinds; ``whole``: no parameter was folded."""
    kind = value.metadata_props.get(KIND)
    if kind == "PARAMETER" and value.dtype in FLOATS:
        return Role.LEARNABLE
    if kind in ("PARAMETER", "BUFFER"):
        return Role.STATE if role_by_use(value) is Role.STATE else Role.CONSTANT
    if whole:
        return Role.CONSTANT
    scales = {use.node.op_type for use in value.uses() if use.idx in _AFFINE}
    return Role.CONSTANT if scales and scales <= _NORMS else None  # a norm without weights gets ones and zeros


def _named(value: ir.Value) -> Role | None:
    """The role of a value by its name, and by what reads it."""
    name = value.name or ""
    if value.dtype not in FLOATS or not _OWN.match(name) or (use := role_by_use(value)) is Role.STATE:
        return None
    if not _is_differentiated(value, _DEPTH) or _BUFFER.match(name.rpartition(".")[2]):
        return Role.CONSTANT
    return Role.LEARNABLE if use is Role.CONSTANT else None


def _is_differentiated(value: ir.Value, depth: int) -> bool:
    """Whether something reads a value through which a gradient comes back."""
    for use in value.uses():
        node = use.node
        if node.op_type in _FLAT or (node.op_type == "Where" and use.idx == 0):
            continue
        if node.op_type == "Cast" and node.attributes.get_int("to", 1) not in map(int, FLOATS):
            continue
        if node.op_type in MOVERS and depth and not node.outputs[0].is_graph_output():
            if _is_differentiated(node.outputs[0], depth - 1):
                return True
            continue
        return True
    return False
