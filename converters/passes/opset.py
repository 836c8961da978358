"""Raising and lowering a graph's opset, one version at a time.

Every operator that changed between two neighbouring opsets is carried across by, in this order: its rule (the
``opset_down_*`` and ``opset_up_*`` modules), its two schemas where they agree on the node, a wider element type with
Casts around it, and the function body that ONNX defines for it. What none of them can say is refused, all of it at
once. Names of nodes and values, metadata and provenance survive; onnx's own converter drops them.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Sequence

from netferry.converters import passes
from netferry.converters.passes.opset_function import body_version, write_out
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
from netferry.converters.passes.opset_types import annotate
from netferry.errors import MalformedFile, UnsupportedError, UnsupportedOpset, UsageError, quoted
from netferry.schemas.copying import copied
from netferry.schemas.inlining import write_out_functions
from netferry.schemas.ir import ir
from netferry.schemas.layers import layer_of
from netferry.schemas.model import Model, Note
from netferry.schemas.walk import nodes_of

LOWEST, HIGHEST, LOWEST_TARGET = 1, 28, 11
RUNS_FROM = 7
"""the least opset that runtimes of today read"""
_FREE_INITIALIZERS, _LISTED_UP_TO = 4, 8
"""the IR version from which initializers need not be inputs, and the last opset whose files have an older one"""
REMOVED_BECOMES = 11
"""the opset that the rules for removed operators write"""

for _module in pkgutil.iter_modules(passes.__path__):
    if _module.name.startswith(("opset_down_", "opset_up_")):
        importlib.import_module(f"{passes.__name__}.{_module.name}")


def to_opset(model: Model, target: int, *, restore: bool = True) -> list[Note]:
    """Say the model at another opset, in place; subgraphs and functions included.

    On failure the model is as it was (an equal copy of its graph is put back).

    Args:
        model: a model at opset 1 to 28.
        target: 11 to 28; onnxruntime 1.31 reads up to 26.
        restore: False leaves a model that cannot be said there half done: for a copy that is thrown away then.

    Returns:
        What a user may want to know.

    Raises:
        UsageError: the target is out of range.
        UnsupportedOpset: operators that cannot be said there, all of them, with the least opset that can; or the
            model's own opset is out of range.
    """
    if not LOWEST_TARGET <= target <= HIGHEST:
        raise UsageError(f"opset {target} is out of range ({LOWEST_TARGET} to {HIGHEST})")
    source = model.opset
    if source == 0 and all(node.domain not in ("", "ai.onnx") for node in nodes_of(model.graph)):
        return []  # other domains only: nothing is said in standard operators
    if not LOWEST <= source <= HIGHEST:
        raise UnsupportedOpset(f"the model's opset {source} is out of range ({LOWEST} to {HIGHEST})", file=_file(model))
    same = source == target and all(_version(f) == target for f in model.ir.functions.values())
    if same and unreadable(model) is None:
        return []
    kept = copied(model.ir) if restore or model.ir.functions else model.ir
    failures = _convert(model.ir, target)
    notes: list[Note] = []
    if failures and model.ir.functions:
        # inside a function no type is known; written out where it is called, all are
        model.ir, kept = kept, copied(kept) if restore else kept
        try:
            align_functions(model)
            write_out_functions(model.ir)
        except UnsupportedError:
            model.ir = kept
            raise _refusal(failures, target, model) from None
        failures = _convert(model.ir, target)
        notes.append(Note("folded", f"functions were written out where they are called, to say them at opset {target}"))
    if failures:
        model.ir = kept
        raise _refusal(failures, target, model)
    return notes


def functions_apart(model: Model) -> list[ir.Function]:
    """Return the functions of another opset than the graph's that have an operator which changed between the two."""
    apart: list[ir.Function] = []
    for function in model.ir.functions.values():
        own = _version(function)
        steps = range(min(own, model.opset) + 1, max(own, model.opset) + 1)
        kinds = {n.op_type for n in nodes_of(function) if n.domain in ("", "ai.onnx")}
        if own and any(changed(kind, version) for kind in kinds for version in steps):
            apart.append(function)
    return apart


def align_functions(model: Model) -> None:
    """Say functions in the model's own opset, in place: so they can be written out where they are called.

    Raises:
        UnsupportedOpset: what a function says cannot be said there; functions are as they were.
    """
    opset, failures = model.opset, []
    functions = model.ir.functions
    apart = {key: function for key, function in functions.items() if _version(function) not in (0, opset)}
    for key, function in apart.items():
        functions[key] = function.clone()
        journey = _Journey(functions[key])
        journey.carry(list(nodes_of(functions[key])), _version(function), opset)
        failures += journey.failures
        functions[key].opset_imports[""] = opset
    if failures:
        functions.update(apart)
        raise _refusal(failures, opset, model)


def _convert(model: ir.Model, target: int) -> list[tuple[str, str, str, int]]:
    failures = []
    roots = [model.graph, *model.functions.values()]
    journeys = [root for root in roots if not _holds(list(nodes_of(root)), _version(root), target)]
    if journeys:
        annotate(model)
    for root in roots:
        if root in journeys:
            journey = _Journey(root)
            journey.carry(list(nodes_of(root)), _version(root), target)
            failures += journey.failures
        root.opset_imports.pop("ai.onnx", None)
        root.opset_imports[""] = target
    if model.ir_version < _FREE_INITIALIZERS and target > _LISTED_UP_TO and not failures:
        for value in [v for v in model.graph.inputs if v.is_initializer()]:
            model.graph.inputs.remove(value)  # listed because the format demanded it, not for callers to set
    return failures


def _holds(nodes: Sequence[ir.Node], source: int, target: int) -> bool:
    """Whether nodes that are valid at ``source`` are valid at a higher ``target`` as they stand, and say the same."""
    nodes = [n for n in nodes if n.domain in ("", "ai.onnx")]
    if not RUNS_FROM <= source <= target or any(level_of(node, source) != source for node in nodes):
        return False
    steps = range(source + 1, target + 1)
    return not any(changed(op, v) and not _only_wider(op, v) for op in {n.op_type for n in nodes} for v in steps)


class _Journey:
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

    def _from_removed(self, node: ir.Node) -> list[ir.Node]:
        try:
            b = Rewriter(self.root, node, REMOVED_BECOMES, self.names)
            return self._settle(b, REMOVED[node.op_type](b))
        except (Cannot, MalformedFile) as error:
            reason = error.reason if isinstance(error, MalformedFile) else str(error)
            self.failures.append((*self.origin[node], f"{node.op_type}: {reason}", 0))
            return []

    def _across(self, nodes: list[ir.Node], source: int, target: int) -> list[ir.Node]:
        down = target < source
        for version in range(source, target, -1) if down else range(source + 1, target + 1):
            ahead: list[ir.Node] = []
            for node in nodes:
                if node.graph is None:  # a constant that is an attribute now
                    continue
                if not changed(node.op_type, version) or (not down and _only_wider(node.op_type, version)):
                    ahead.append(node)
                    continue
                try:
                    ahead += self._step(node, version, down)
                except (Cannot, MalformedFile) as error:
                    reason = error.reason if isinstance(error, MalformedFile) else str(error)
                    self.failures.append((*self.origin[node], f"{node.op_type}: {reason}", version if down else 0))
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


@functools.lru_cache(4096)
def _only_wider(op: str, version: int) -> bool:
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


def level_of(node: ir.Node, opset: int) -> int | None:
    """The opset whose form a node has: its graph's, or the nearest one below that knows the node's attributes.

    Files of 2017 to 2019 carry attributes that their opset had given up (``is_test``, ``broadcast``, ``spatial``).
    None stands for an experimental operator that is gone.
    """
    if node.domain not in ("", "ai.onnx"):
        return opset
    return _level(node.op_type, frozenset(node.attributes), len(node.inputs), opset)


@functools.lru_cache(4096)
def _level(op: str, attributes: frozenset[str], inputs: int, opset: int) -> int | None:
    schema = raw_schema(op, opset)
    if op in REMOVED and schema is None:
        return None
    unknown = [name for name in attributes if schema is not None and name not in schema.attributes]
    # inputs may be missing that were attributes before (all attributes of a Reshape 1 are its shape)
    if schema is None or not (unknown or inputs < schema.min_input) or unknown == ["consumed_inputs"]:
        return opset
    while schema is not None and schema.since_version > 1:
        older = schema.since_version - 1
        schema = raw_schema(op, older)
        if schema is not None and attributes <= {*schema.attributes, "consumed_inputs"}:
            return older
    return opset


def unreadable(model: Model) -> str | None:
    """Why runtimes of today do not read the model at its own opset, or None where they do."""
    opset = model.opset
    if not any(node.domain in ("", "ai.onnx") for node in nodes_of(model.graph)):
        return None
    if opset < RUNS_FROM:
        return f"opset {opset}"
    for node in nodes_of(model.graph):
        level = level_of(node, opset)
        if level is None:
            return f"the operator {node.op_type}, which is gone"
        if level != opset or "consumed_inputs" in node.attributes:
            return f"{node.op_type} in the form of opset {min(level, opset - 1)}"
        mode = node.attributes.get("mode")
        if node.op_type == "Upsample" and mode is not None and mode.value == "bilinear":
            return "Upsample with mode=bilinear"
    return None


def _version(root: ir.Graph | ir.Function) -> int:
    imports = root.opset_imports
    return imports.get("", imports.get("ai.onnx", 0))


def _file(model: Model) -> str | None:
    return model.source.files[0] if model.source.files else None


def _refusal(failures: list[tuple[str, str, str, int]], target: int, model: Model) -> UnsupportedOpset:
    rows = "".join(
        f"\n  {quoted(name)}  ({op})  {why}" + (f"; needs opset {least}" if least else "")
        for name, op, why, least in failures[:50]
    )
    more = f"\n  … and {len(failures) - 50} more" if len(failures) > 50 else ""
    least = max(f[3] for f in failures)
    n = len({f[0] for f in failures})
    return UnsupportedOpset(
        f"opset {target} cannot say {n} operator{'s' if n != 1 else ''}{rows}{more}",
        file=_file(model),
        hint=f"opset {least} or above can" if least else None,
    )
