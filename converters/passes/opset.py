"""Raising and lowering a graph's opset, one version at a time.

Every operator that changed between two neighbouring opsets is carried across by, in this order: its rule (the
``opset_down_*`` and ``opset_up_*`` modules), its two schemas where they agree on the node, a wider element type with
Casts around it, and the function body that ONNX defines for it. What none of them can say is refused, all of it at
once. Names of nodes and values, metadata and provenance survive; onnx's own converter drops them.
"""

from __future__ import annotations

from collections.abc import Sequence

from netferry.converters.passes.opset_journey import Journey, only_wider
from netferry.converters.passes.opset_levels import RUNS_FROM, born_deprecated, level_of, unreadable
from netferry.converters.passes.opset_schema import changed
from netferry.converters.passes.opset_types import annotate
from netferry.errors import UnsupportedError, UnsupportedOpset, UsageError, quoted
from netferry.schemas.copying import copied
from netferry.schemas.inlining import write_out_functions
from netferry.schemas.ir import ir
from netferry.schemas.model import Model, Note
from netferry.schemas.walk import nodes_of

LOWEST, HIGHEST, LOWEST_TARGET = 1, 28, 11
_FREE_INITIALIZERS, _LISTED_UP_TO = 4, 8
"""the IR version from which initializers need not be inputs, and the last opset whose files have an older one"""


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
            inline_functions(model)
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
        journey = Journey(functions[key])
        journey.carry(list(nodes_of(functions[key])), _version(function), opset)
        failures += journey.failures
        functions[key].opset_imports[""] = opset
    if failures:
        functions.update(apart)
        raise _refusal(failures, opset, model)


def inline_functions(model: Model) -> bool:
    """Put the nodes of functions, of whatever opset, in the place of the calls; returns whether there was one.

    Raises:
        UnsupportedOpset: what a function says cannot be said in the model's opset; the model is as it was.
        UnsupportedError: as :func:`netferry.schemas.inlining.write_out_functions`.
    """
    align_functions(model)
    return write_out_functions(model.ir)


def _convert(model: ir.Model, target: int) -> list[tuple[str, str, str, int]]:
    failures = []
    roots = [model.graph, *model.functions.values()]
    journeys = [root for root in roots if not _holds(list(nodes_of(root)), _version(root), target)]
    if journeys:
        annotate(model)
    for root in roots:
        if root in journeys:
            journey = Journey(root)
            journey.without_deprecated(journey.carry(list(nodes_of(root)), _version(root), target), target)
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
    if any(born_deprecated(node, target) for node in nodes):
        return False
    steps = range(source + 1, target + 1)
    return not any(changed(op, v) and not only_wider(op, v) for op in {n.op_type for n in nodes} for v in steps)


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
