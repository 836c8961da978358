"""A graph on its way from opset to opset: which rule carries a node across a version, and what stands for it then."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from netferry.converters.passes.opset_function import body_version, write_out
from netferry.converters.passes.opset_levels import RUNS_FROM, born_deprecated, level_of
from netferry.converters.passes.opset_rules import LIFT, LOWER, REMOVED, Cannot, Names, Rewriter, discard
from netferry.converters.passes.opset_schema import (
    bad_form,
    bad_types,
    carry_attributes,
    changed,
    covers,
    raw_schema,
    schema_of,
    widened,
)
from netferry.errors import NONSENSE, MalformedFile, quoted
from netferry.schemas.ir import ir
from netferry.schemas.layers import layer_of

REMOVED_BECOMES = 11
"""the opset that the rules for removed operators write"""


class Journey:
    """One graph on its way from opset to opset."""

    def __init__(self, root: ir.Graph | ir.Function) -> None:
        self.root = root
        self.names = Names.of(root)
        self.origin: dict[ir.Node, tuple[str, str]] = {}
        self.failures: list[tuple[str, str, str, int]] = []
        """(name, operator, why, least opset) of what cannot be said"""

    def carry(self, nodes: list[ir.Node], source: int, target: int) -> list[ir.Node]:
        """Take nodes that are valid at ``source`` to ``target``; returns those that stand for them there."""
        nodes = [n for n in nodes if n.domain in ("", "ai.onnx")]
        for node in nodes:
            self.origin.setdefault(node, (layer_of(node)[0], node.op_type))
        if source >= RUNS_FROM and all(level_of(node, source) == source for node in nodes):
            return self._across(nodes, source, target)
        # Old operators: inference knows little of them. Node by node the graph becomes one whose types are known.
        first, ahead, rewritten = max(source, RUNS_FROM), [], []
        for node in nodes:
            node.attributes.pop("consumed_inputs", None)
            level = level_of(node, source)
            made = self._from_removed(node) if level is None else self._across([node], level, first)
            for one in made:
                Rewriter(self.root, one, REMOVED_BECOMES if level is None else first, self.names).infer()
            (rewritten if level is None else ahead).extend(made)
        return [*self._across(ahead, first, target), *self._across(rewritten, REMOVED_BECOMES, target)]

    def without_deprecated(self, nodes: list[ir.Node], opset: int) -> list[ir.Node]:
        """Say nodes that an opset has only in a form it deprecates as the opset before that form would."""
        standing: list[ir.Node] = []
        for node in nodes:
            since = born_deprecated(node, opset)
            below = [node] if since is None else self._across([node], opset, since - 1)
            standing += below if since is None else self._across(below, since - 1, opset)
        return standing

    def _from_removed(self, node: ir.Node) -> list[ir.Node]:
        try:
            b = Rewriter(self.root, node, REMOVED_BECOMES, self.names)
            return self._settle(b, REMOVED[node.op_type](b))
        except (Cannot, MalformedFile, *NONSENSE) as error:
            self.failures.append((*self.origin[node], f"{node.op_type}: {_why(error)}", 0))
            return []

    def _across(self, nodes: list[ir.Node], source: int, target: int) -> list[ir.Node]:
        down = target < source
        for version in range(source, target, -1) if down else range(source + 1, target + 1):
            ahead: list[ir.Node] = []
            for node in nodes:
                if node.graph is None:  # a constant that is an attribute now
                    continue
                if not changed(node.op_type, version) or (not down and only_wider(node.op_type, version)):
                    ahead.append(node)
                    continue
                try:
                    ahead += self._step(node, version, down)
                except (Cannot, MalformedFile, *NONSENSE) as error:
                    least = version if down and isinstance(error, (Cannot, MalformedFile)) else 0
                    self.failures.append((*self.origin[node], f"{node.op_type}: {_why(error)}", least))
            nodes = ahead
        return nodes

    def _step(self, node: ir.Node, version: int, down: bool) -> list[ir.Node]:
        """Carry one node across one version: from ``version`` down, or up to it."""
        opset = version - 1 if down else version
        old = raw_schema(node.op_type, version if down else version - 1)
        new = schema_of(node.op_type, opset)
        b = Rewriter(self.root, node, opset, self.names)
        rule = (LOWER if down else LIFT).get((node.op_type, version))
        try:
            values = rule(b) if rule else None
            if values is None:
                if new is None:
                    raise Cannot("there is no such operator" if down else "the operator is gone")
                if old is not None:
                    carry_attributes(node, old, new)
                if (form := bad_form(node, new)) is not None:
                    raise Cannot(f"{form} cannot be said")
                if bad_types(node, new):
                    values = widened(b, new)
        except Cannot:
            body = body_version(old, opset) if old is not None else None
            if body is None or old is None:
                raise
            for one in reversed(b.made):
                self._forget(one)
            b = Rewriter(self.root, node, body, self.names)
            made = self._settle(b, write_out(b, old))
            return self.carry(made, body, opset)
        return self._settle(b, values)

    @staticmethod
    def _forget(node: ir.Node) -> None:
        if node.graph is not None and not any(v.uses() for v in node.outputs):
            node.graph.remove(node, safe=True)

    def _settle(self, b: Rewriter, values: ir.Value | Sequence[ir.Value | None] | None) -> list[ir.Node]:
        """Put a rule's values where the node's outputs were, and check what the rule wrote."""
        node = b.node
        if values is not None:
            _replace(b, [values] if isinstance(values, ir.Value) else list(values))
        standing = [n for n in b.made if n.graph is not None] + ([] if values is not None else [node])
        for one in standing:
            self.origin.setdefault(one, self.origin[node])
            schema = schema_of(one.op_type, b.opset)
            if one.domain != "" or schema is None:
                raise Cannot(f"its form there needs {one.op_type}")
            if (form := bad_form(one, schema)) is not None:
                raise Cannot(f"its form there needs {one.op_type} {form}")
            for text in bad_types(one, schema).values():
                raise Cannot(f"its form there needs {one.op_type} of {text}")
        return standing


def _why(error: Exception) -> str:
    if isinstance(error, MalformedFile):
        return error.reason
    return str(error) if isinstance(error, Cannot) else f"it contradicts its operator ({quoted(error)[1:-1]})"


@functools.lru_cache(4096)
def only_wider(op: str, version: int) -> bool:
    """Whether an operator only took more at a version than before: each node that was valid is, and says the same."""
    old, new = raw_schema(op, version - 1), schema_of(op, version)
    return (op, version) not in LIFT and old is not None and new is not None and covers(new, old)


def _replace(b: Rewriter, values: Sequence[ir.Value | None]) -> None:
    node = b.node
    ends: list[ir.Value | None] = []
    for value in values:
        inner = value is None or (value.producer() in b.made and value not in ends)
        ends.append(value if value is None or inner else b.op("Identity", value))
    same = next((n for n in reversed(b.made) if n.op_type == node.op_type), None)
    stands = same or next((v.producer() for v in ends if v is not None), None)
    for old, new in zip(node.outputs, ends, strict=True):
        if new is None:
            continue
        name, kind, shape = old.name, old.type, old.shape
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        if name:
            old.name = None
            new.name = name
        new.type = kind if kind is not None else new.type
        new.shape = shape if shape is not None else new.shape
        new.metadata_props.update(old.metadata_props)
        new.doc_string = old.doc_string
    dropped = [v for v in node.inputs if v is not None]
    name, owner = node.name, node.graph
    if owner is None or stands is None:
        raise AssertionError("the node was in a graph")
    owner.remove(node, safe=True)
    stands.name, stands.doc_string = name, node.doc_string
    for one in reversed(b.made):
        if not any(v.uses() or v.is_graph_output() for v in one.outputs):
            dropped += [v for v in one.inputs if v is not None]
            owner.remove(one, safe=True)
    for value in dropped:
        discard(value)
