"""Names of local variables: ``x = self.conv1(x)`` where nothing else needs the old value, a name of its own else."""

from __future__ import annotations

import builtins
import keyword
from collections.abc import Iterable

from torch import fx

_POOL = ("x", "y", "z", "u", "v", "w")
_LONG = 12
"""statements after which a value is worth a name that says where it comes from"""


class Variables:
    """Which statements a graph needs and how their values are called.

    Args:
        graph: the graph.
        reserved: names that mean something else in the file.

    Attributes:
        statements: nodes that get a line of their own, in order.
        names: their names, those of the inputs included.
    """

    def __init__(self, graph: fx.Graph, reserved: Iterable[str]) -> None:
        self.taken = {*reserved, *keyword.kwlist, "self", "super", "print"}
        self.names: dict[fx.Node, str] = {}
        self.statements = [n for n in graph.nodes if _is_statement(n)]
        for node in graph.nodes:
            if node.op == "placeholder":
                self.names[node] = self._own(str(node.target))
        self._assign(next(n for n in graph.nodes if n.op == "output"))

    def _assign(self, output: fx.Node) -> None:
        reads = {node: _reads(node) for node in [*self.statements, output]}
        last = {source: i for i, (_, sources) in enumerate(reads.items()) for source in sources}
        free = [name for name in _POOL if name not in self.taken]
        for i, node in enumerate(self.statements):
            dying = [s for s in reads[node] if last[s] == i and s in self.names]
            reusable = [self.names[s] for s in dying if self.names[s] in _POOL and s.op != "placeholder"]
            reusable += [self.names[s] for s in dying if self.names[s] in _POOL and s.op == "placeholder"]
            if node.meta.get("netferry.plain_numbers") or last.get(node, i) - i > _LONG or not (reusable or free):
                self.names[node] = self._own(node.name)
                free += [name for name in dict.fromkeys(reusable) if name not in free]
                continue
            self.names[node] = reusable[0] if reusable else free.pop(0)
            free += [name for name in dict.fromkeys(reusable[1:]) if name not in free]
            free.sort(key=_POOL.index)

    def _own(self, wanted: str) -> str:
        name, i = wanted, 0
        while name in self.taken or hasattr(builtins, name):
            i += 1
            name = f"{wanted}_{i}"
        self.taken.add(name)
        return name


def is_inline(node: fx.Node) -> bool:
    """Whether a node is written where it is used: attributes, parts of several results, numbers used once."""
    if node.op == "get_attr" or getattr(node.target, "__name__", "") in ("getitem", "Identity", "same"):
        return True
    return is_host(node) and (len(node.users) == 1 or node.target.__name__ in ("shape", "gather"))  # type: ignore[union-attr]


def is_host(node: fx.Node) -> bool:
    """Whether a node computes with Python's numbers."""
    if node.op != "call_function" or getattr(node.target, "__module__", "") != "netferry.runtime.torch.host":
        return False
    return node.target.__name__ not in ("as_tensor",)  # type: ignore[union-attr]


def _is_statement(node: fx.Node) -> bool:
    if node.op not in ("call_function", "call_module") or is_inline(node) or not node.users:
        return False
    if is_host(node):
        node.meta["netferry.plain_numbers"] = True
    return True


def _reads(node: fx.Node) -> list[fx.Node]:
    """Values that the line of a node names, through what is written inside it."""
    found: list[fx.Node] = []
    for source in node.all_input_nodes:
        found += _reads(source) if is_inline(source) else [source]
    return list(dict.fromkeys(found))
