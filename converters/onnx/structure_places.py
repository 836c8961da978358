"""Graphs and nodes of a message and of the model made from it, in the same order, with the place of each.

What onnx_ir does not know is kept by these places while it reads a message, and put back by them when it writes one.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from netferry.schemas.ir import ir
from netferry.schemas.walk import bodies_of

Place = tuple[int, ...]


def proto_places(proto: onnx.ModelProto) -> Iterator[tuple[Place, onnx.GraphProto | onnx.FunctionProto]]:
    """Graphs and functions with their place (position in each graph around), in the same order as :func:`ir_places`."""
    pending: list[tuple[Place, onnx.GraphProto | onnx.FunctionProto]] = [((-1,), proto.graph)]
    pending += [((i,), function) for i, function in enumerate(proto.functions)]
    while pending:
        at, graph = pending.pop()
        yield at, graph
        for i, node in enumerate(graph.node):
            inner = [g for a in node.attribute for g in ([a.g] if a.HasField("g") else a.graphs)]
            pending += [((*at, i, k), g) for k, g in enumerate(inner)]


def proto_node_places(proto: onnx.ModelProto) -> Iterator[tuple[Place, onnx.NodeProto]]:
    for at, graph in proto_places(proto):
        for i, node in enumerate(graph.node):
            yield (*at, i), node


def ir_places(model: ir.Model) -> Iterator[tuple[Place, ir.Graph | ir.Function]]:
    pending: list[tuple[Place, ir.Graph | ir.Function]] = [((-1,), model.graph)]
    pending += [((i,), function) for i, function in enumerate(model.functions.values())]
    while pending:
        at, graph = pending.pop()
        yield at, graph
        for i, node in enumerate(graph):
            pending += [((*at, i, k), g) for k, g in enumerate(bodies_of(node))]


def ir_node_places(model: ir.Model) -> Iterator[tuple[Place, ir.Node]]:
    for at, graph in ir_places(model):
        for i, node in enumerate(graph):
            yield (*at, i), node
