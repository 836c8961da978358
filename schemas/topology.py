"""What the connections of a graph tell: depth, what leads nowhere, what no input reaches, weights that are equal."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from typing import Any

import numpy as np

from netferry.schemas.ir import ir
from netferry.schemas.layers import ROLE, Role, count, graphs_of, read_by, role_of, static_shape
from netferry.schemas.tensors import array_of, filler_of, sample_of

WEIGHTED = frozenset((
    "Conv", "ConvTranspose", "ConvInteger", "DeformConv", "QLinearConv", "FusedConv",
    "Gemm", "MatMul", "MatMulInteger", "QLinearMatMul",
))  # fmt: skip
"""operators of convolution and fully connected layers, where one side is a weight"""
_SAMPLE = 4096
_LEAST = 16


def depth(graph: ir.Graph) -> int:
    """Return the longest path of convolution and fully connected layers, as published network tables count it.

    A product of two values that both come from the inputs (attention) is no layer; a weight may pass through other
    operators on its way (a transposition, a dequantization). Matrices that a front end brought along and that nobody
    learns (a Fourier transform, mel bands) make no layer. A node with subgraphs is as deep as the deepest.
    """
    return max(_depths(graph, {}).values(), default=0)


def _depths(graph: ir.Graph, outer: dict[ir.Value, int]) -> dict[ir.Value, int]:
    """Depth of every value that an input reaches; what only weights and constants reach is left out."""
    far = dict(outer)
    for value in graph.inputs:
        if not value.is_initializer():
            far[value] = 0
    for node in graph:
        read = [v for v in read_by(node) if v in far]
        inner = [g for attribute in node.attributes.values() for g in graphs_of(attribute)]
        if not read and not any(_reads_input(g) for g in inner):
            continue
        here = max((far[v] for v in read), default=0)
        if inner:
            here = max(here, *(max(_depths(g, far).values(), default=0) for g in inner))
        elif node.op_type in WEIGHTED and any(v is not None and v not in far for v in node.inputs[:4]):
            here += not any(v is not None and _fixed(v) for v in node.inputs[:2])
        for value in node.outputs:
            far[value] = here
    return far


def _fixed(value: ir.Value) -> bool:
    """Whether a matrix was put into the graph as a constant, not as something learnt."""
    return (
        value.dtype in (ir.DataType.FLOAT, ir.DataType.DOUBLE) and value.metadata_props.get(ROLE) == Role.CONSTANT.value
    )


def _reads_input(graph: ir.Graph) -> bool:
    """Whether a subgraph has inputs of its own (the body of a Loop without anything carried still runs)."""
    return bool(graph.inputs)


def dangling(graph: ir.Graph) -> tuple[list[ir.Node], list[ir.Value]]:
    """Nodes and initializers from which no path leads to an output of the graph."""
    needed: set[ir.Value] = set(graph.outputs)
    out: list[ir.Node] = []
    for node in reversed(list(graph)):
        if any(v in needed for v in node.outputs):
            needed.update(read_by(node))
        else:
            out.append(node)
    return out[::-1], [v for v in graph.initializers.values() if v not in needed]


def unreachable(graph: ir.Graph) -> list[ir.Value]:
    """Outputs of the graph that no input reaches: they are the same for all inputs."""
    if not any(not v.is_initializer() for v in graph.inputs):
        return []
    reached: set[ir.Value] = {v for v in graph.inputs if not v.is_initializer()}
    for node in graph:
        if any(v in reached for v in read_by(node)):
            reached.update(node.outputs)
    return [v for v in graph.outputs if v not in reached]


def equal_weights(graph: ir.Graph) -> list[list[ir.Value]]:
    """Groups of learnables and states that hold the same values under several names.

    Tensors of less than 16 elements, and those that hold one value throughout (zero biases before training), are not
    looked at. Only tensors of one type and shape that a sample cannot tell apart are read whole.
    """
    alike: dict[Any, list[ir.Value]] = defaultdict(list)
    for value in graph.initializers.values():
        tensor = value.const_value
        if tensor is None or filler_of(tensor) is not None or count(value) < _LEAST:
            continue
        if role_of(value) != Role.CONSTANT:
            alike[tensor.dtype, static_shape(value)].append(value)
    groups: list[list[ir.Value]] = []
    for same in alike.values():
        if len(same) < 2:
            continue
        by_head = _grouped(same, whole=False)
        for candidates in by_head:
            groups.extend(_grouped(candidates, whole=True))
    return groups


def _grouped(values: list[ir.Value], *, whole: bool) -> list[list[ir.Value]]:
    """Values whose bytes (or those of a sample) are equal, where there are several."""
    found: dict[bytes, list[ir.Value]] = defaultdict(list)
    for value in values:
        array = array_of(value) if whole else sample_of(value, _SAMPLE)
        if array is None or array.dtype.kind in "OUS":
            continue
        flat = np.ascontiguousarray(array).reshape(-1)
        if whole and (flat == flat[0]).all():
            continue
        found[hashlib.sha256(flat.view(np.uint8).data).digest()].append(value)
    return [group for group in found.values() if len(group) > 1]
