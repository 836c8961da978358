"""Parameters that torch's dynamo exporter merged because they were equal, told apart again.

It keeps one of several equal tensors: norms that are all 1 and 0, layers that are copies of each other before training.
Every node notes the call that it was made for, with the parameters that this read
(``aten.layer_norm.default](args = (%x, [16], %p_blocks_1_norm_weight, %p_blocks_1_norm_bias, …``), and the graph whose
names they stand for. Tied parameters are one there too.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from netferry.schemas.ir import ir
from netferry.schemas.layers import FLOATS, ROLE, Role, static_shape

KIND = "pkg.torch.export.graph_signature.InputSpec.kind"
"""on a value: whether it was a parameter or a buffer, or what the exporter made it for"""
_SIGNATURE, CALL = "pkg.torch.export.ExportedProgram.graph_signature", "pkg.torch.onnx.fx_node"
_PARAMETER = re.compile(r"^(p_\w+): PARAMETER target='([^'\n]+)'", re.M)
_READ = re.compile(r"%(p_\w+)")
_LONGEST = 1 << 22
_WEIGHTS = ("Conv", "ConvTranspose", "Gemm", "LayerNormalization", "BatchNormalization", "GroupNormalization", "PRelu",
            "InstanceNormalization", "RMSNormalization")  # fmt: skip
"""operators whose inputs after the first are the parameters of the call, in its order"""


class Merged(NamedTuple):
    """A parameter without an initializer of its own: its name, the equal one, and the places that read that for it.

    The equal one may hold it transposed, as products read it.
    """

    name: str
    source: ir.Value
    places: list[tuple[ir.Node, int]]


def parameters_of(graph: ir.Graph) -> set[str]:
    """The names of all parameters that the network had, where the exporter noted them."""
    return set(_signature(graph).values())


def _signature(graph: ir.Graph) -> dict[str, str]:
    """Names of parameters by what stands for them in calls."""
    told = graph.metadata_props.get(_SIGNATURE, "")
    return dict(_PARAMETER.findall(told)) if len(told) < _LONGEST else {}


def merged_parameters(graph: ir.Graph) -> list[Merged]:
    """Return the parameters that were merged into others, in the order in which the graph reads them."""
    names = _signature(graph)
    if not names:
        return []
    found: dict[str, Merged] = {}
    sources: dict[str, ir.Value] = {}
    kept: dict[ir.Value, str] = {}
    for node in graph:
        for i, value in enumerate(node.inputs):
            if value is None or not value.is_initializer() or value.dtype not in FLOATS or len(list(value.uses())) < 2:
                continue
            name = _name_at(node, i, value, names)
            if name is None or name == value.name or kept.setdefault(value, _own(value, name, names)) == name:
                continue
            if name not in graph.initializers and sources.setdefault(name, value) is value:
                found.setdefault(name, Merged(name, value, [])).places.append((node, i))
    return list(found.values())


def _own(value: ir.Value, name: str, names: dict[str, str]) -> str:
    """The parameter that an initializer stands for: its name tells, or who reads it first."""
    return value.name if value.name in names.values() else name  # pyright: ignore[reportReturnType]


def _name_at(node: ir.Node, i: int, value: ir.Value, names: dict[str, str]) -> str | None:
    """The parameter that a node's call read in the place of an input."""
    read = [names[p] for p in _READ.findall(node.metadata_props.get(CALL, "")) if p in names]
    if len(read) == 1:
        name = read[0]
    elif node.op_type in _WEIGHTS and 0 < i <= len(read):
        name = read[i - 1]
    elif node.op_type in ("MatMul", "Add") and len(read) == 2:
        name = read[node.op_type == "Add"]
    else:
        return None
    end = name.rpartition(".")[2]
    if value.name in names.values():
        return name if str(value.name).rpartition(".")[2] == end else None
    return name if node.op_type == "MatMul" and end.endswith("weight") else None  # a weight that was turned


def separate_merged(graph: ir.Graph, only: str | None = None) -> None:
    """Give merged parameters, or only one of them, initializers of their own with the values that they share."""
    for merged in merged_parameters(graph):
        tensor = merged.source.const_value
        if tensor is None or (only is not None and merged.name != only):
            continue
        value = ir.Value(
            name=merged.name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(static_shape(merged.source)),
            const_value=tensor, metadata_props={ROLE: Role.LEARNABLE.value},
        )  # fmt: skip
        graph.register_initializer(value)
        for node, i in merged.places:
            node.replace_input_with(i, value)
