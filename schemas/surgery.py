"""Changes to a finished graph: nodes put where another stood, what nobody needs taken out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from netferry.schemas.graph import CANONICAL_IR, Builder
from netferry.schemas.ir import ir
from netferry.schemas.layers import read_by
from netferry.schemas.node_inference import NodeInference
from netferry.schemas.walk import bodies_of


class InsertionBuilder(Builder):
    """A builder that writes into a finished graph, in front of a node.

    Args:
        graph: the graph to change.
        before: new nodes go in front of this one; None puts them at the end.
    """

    def __init__(self, graph: ir.Graph, *, before: ir.Node | None) -> None:
        super().__init__(graph.name or "graph")
        self.graph = graph
        self.inference = NodeInference(graph.opset_imports, CANONICAL_IR)
        self._before = before
        for value in [*graph.inputs, *graph.initializers.values()]:
            self._taken.add(value.name or "")
        for node in graph.all_nodes():
            self._node_names.add(node.name or "")
            self._taken.update(v.name or "" for v in node.outputs)
        if before is not None:
            self._node_names.discard(before.name or "")

    def _append(self, node: ir.Node) -> None:
        if self._before is None:
            self.graph.append(node)
        else:
            self.graph.insert_before(self._before, node)
        for value in node.outputs:
            value.name = None
        self._fresh.append(node)

    def replace(self, node: ir.Node, values: Sequence[ir.Value]) -> None:
        """Let ``values`` take the names and uses of the node's outputs, and remove the node."""
        for old, new in zip(node.outputs, values, strict=True):
            name = old.name
            old.replace_all_uses_with(new, replace_graph_outputs=True)
            old.name = None
            if name is not None and not (new.is_graph_input() or new.is_initializer()):
                new.name = name
        detach(node)
        self.graph.remove(node, safe=True)


def detach(node: ir.Node) -> None:
    """Let the subgraphs of a node that goes read nothing any more: their nodes would count as readers."""
    for graph in bodies_of(node):
        graph.outputs.clear()
        for inner in graph:
            detach(inner)
            for i in range(len(inner.inputs)):
                inner.replace_input_with(i, None)


def prune(graph: ir.Graph) -> None:
    """Remove nodes and initializers that no output needs."""
    needed = ancestors(graph, graph.outputs)
    for node in reversed(list(graph)):
        if node not in needed:
            detach(node)
            graph.remove(node, safe=True)
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            del graph.initializers[name]
            if value.is_graph_input():
                graph.inputs.remove(value)


def ancestors(graph: ir.Graph, values: Iterable[ir.Value | None]) -> set[ir.Node]:
    """All nodes that the values depend on."""
    found: set[ir.Node] = set()
    waiting = [v for v in values if v is not None]
    while waiting:
        node = waiting.pop().producer()
        if node is not None and node.graph is graph and node not in found:
            found.add(node)
            waiting += [v for v in read_by(node) if v is not None]
    return found
