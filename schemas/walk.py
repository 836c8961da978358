"""Walks over a graph and the bodies inside it; onnx_ir's own iterators cost several times as much."""

from __future__ import annotations

from collections.abc import Iterator

from netferry.schemas.ir import ir

_GRAPH, _GRAPHS = ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS


def bodies_of(node: ir.Node) -> list[ir.Graph]:
    """The graphs that the attributes of a node hold."""
    found: list[ir.Graph] = []
    for attribute in node.attributes.data.values():
        kind = attribute.type
        if kind is _GRAPH and not attribute.is_ref():
            found.append(attribute.as_graph())
        elif kind is _GRAPHS and not attribute.is_ref():
            found.extend(attribute.as_graphs())
    return found


def nodes_of(graph: ir.Graph | ir.Function) -> Iterator[ir.Node]:
    """All nodes in graph order, each followed by those of its bodies."""
    for node in graph:
        yield node
        if node.attributes.data:
            for body in bodies_of(node):
                yield from nodes_of(body)


def bodies_in(graph: ir.Graph | ir.Function) -> Iterator[ir.Graph]:
    """All graphs inside a graph, at any depth."""
    for node in graph:
        if node.attributes.data:
            for body in bodies_of(node):
                yield body
                yield from bodies_in(body)
