"""Which node of one graph is which of another: by name, by what it gives, else by its place among its like."""

from __future__ import annotations

from collections import Counter
from difflib import SequenceMatcher
from typing import Any

from netferry.schemas.ir import ir
from netferry.schemas.layers import static_shape


def matched_nodes(a: ir.Graph, b: ir.Graph) -> dict[ir.Node, ir.Node]:
    """Return a node of ``b`` for each node of ``a`` that has a counterpart there, of the same operator.

    Nodes of one name belong together, then those whose first output has one name. What is left on both sides, in the
    order of the graphs, is aligned as texts are: by operator and shapes of weights.
    """
    found: dict[ir.Node, ir.Node] = {}
    left_a, left_b = list(a), list(b)
    for key in (lambda n: n.name, lambda n: n.outputs[0].name if n.outputs else None):
        theirs = _unique(left_b, key)
        for node, name in _unique(left_a, key, by_node=True).items():
            other = theirs.get(name)
            if other is not None and _kind(node) == _kind(other):
                found[node] = other
        taken = set(found.values())
        left_a = [n for n in left_a if n not in found]
        left_b = [n for n in left_b if n not in taken]
    for alike in (_signature, _kind):
        matcher = SequenceMatcher(None, [alike(n) for n in left_a], [alike(n) for n in left_b], autojunk=False)
        for start_a, start_b, size in matcher.get_matching_blocks():
            found.update(zip(left_a[start_a : start_a + size], left_b[start_b : start_b + size], strict=True))
        taken = set(found.values())
        left_a = [n for n in left_a if n not in found]
        left_b = [n for n in left_b if n not in taken]
    return found


def _unique(nodes: list[ir.Node], key: Any, *, by_node: bool = False) -> dict[Any, Any]:
    """Nodes by a name that no other has, or the names by node."""
    count = Counter(key(n) for n in nodes)
    named = [(key(n), n) for n in nodes if key(n) and count[key(n)] == 1]
    return {n: name for name, n in named} if by_node else dict(named)


def _kind(node: ir.Node) -> tuple[str, str]:
    return ("" if node.domain == "ai.onnx" else node.domain, node.op_type)


def _signature(node: ir.Node) -> tuple[Any, ...]:
    weights = tuple(static_shape(v) for v in node.inputs if v is not None and v.is_initializer())
    return (*_kind(node), len(node.inputs), weights)
