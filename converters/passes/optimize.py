"""Making a graph smaller without changing what it computes: the passes in their order, until nothing changes.

``safe`` keeps every weight as it is: constants and shape arithmetic are computed, what does nothing is taken out.
``full`` also folds weights into each other, moves transposes, and lets onnxscript's optimizer and onnxsim, where it is
installed, try what is left; their result is taken only where it is smaller and has the same inputs and outputs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from netferry.converters.passes import (  # noqa: F401  (each registers its passes)
    affine,
    fold,
    gemm,
    merges,
    padding,
    pooling,
    remove,
    reshapes,
    shapes,
    transposes,
)
from netferry.converters.passes.editing import PASSES, Budget, Edit, Level, Reason
from netferry.converters.passes.opset import HIGHEST, LOWEST, LOWEST_TARGET, to_opset
from netferry.converters.passes.opset_types import annotate
from netferry.converters.passes.outside import OUTSIDE
from netferry.converters.passes.remove import merge_constants
from netferry.errors import CheckFailed, NetferryError, UnsupportedOpset, UsageError, quoted
from netferry.schemas.copying import copied
from netferry.schemas.graph import CANONICAL_OPSET
from netferry.schemas.ir import ir
from netferry.schemas.model import Model, Note
from netferry.schemas.tensors import content_of

ORDER = (
    *("listed-weights", "functions", "constants", "identity", "branches", "dead"),
    *(
        "shape-constants",
        "folding",
        "reshape-constants",
        "no-ops",
        "merges",
        "duplicates",
        "shape-chains",
        "reshapes",
        "reshape-pairs",
    ),
    *("transposes", "moved-ones", "unbind", "activations", "gemm-transposes", "gemm", "affine-after", "affine-before"),
    *("padding", "pool-strides", "global-pools", "dead"),
)
"""the order of one round"""

Verify = Callable[[Model], str | None]
"""Runs the model and compares with the original; why they disagree, or None. The api makes it from
:func:`netferry.runtime.verify.compare`."""


@dataclass
class PassReport:
    """What one pass did."""

    name: str
    about: str
    changed: bool = False
    before: Counter[str] = field(default_factory=Counter)
    """nodes by operator before its first change"""
    after: Counter[str] = field(default_factory=Counter)
    """the change that it made, summed over all rounds: nodes by operator, negative where there are fewer"""
    refused: str | None = None
    """why its result was not taken"""

    def as_dict(self) -> dict[str, Any]:
        """JSON form."""
        change = {k: v for k, v in sorted(self.after.items()) if v}
        out: dict[str, Any] = {"pass": self.name, "about": self.about, "changed": self.changed, "nodes": change}
        return out if self.refused is None else {**out, "refused": self.refused}


@dataclass
class OptimizeReport:
    """What the passes did, in order; ``reasons`` tell what they left alone in the last round."""

    level: Level
    before: Counter[str]
    after: Counter[str] = field(default_factory=Counter)
    passes: list[PassReport] = field(default_factory=list)
    reasons: list[Reason] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        """Whether anything was changed."""
        return any(p.changed for p in self.passes)

    def as_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "level": self.level,
            "nodes_before": dict(sorted(self.before.items())),
            "nodes_after": dict(sorted(self.after.items())),
            "passes": [p.as_dict() for p in self.passes if p.changed or p.refused],
        }


def pass_names() -> list[str]:
    """Names that ``disable`` takes."""
    return [*dict.fromkeys(ORDER), *OUTSIDE]


def optimize(
    model: Model,
    level: Level = "safe",
    *,
    disable: Sequence[str] = (),
    budget: Budget | None = None,
    verify: Verify | None = None,
) -> OptimizeReport:
    """Make the graph smaller, in place, at the opset that it has; a second run changes nothing.

    Args:
        model: the model; its inputs and outputs keep names, types and dynamic dimensions.
        level: ``none``, ``safe`` or ``full``.
        disable: passes to leave out, see :func:`pass_names`.
        budget: bounds on what may be made.
        verify: called when all is done; where it tells a difference, the passes are run again one by one, each
            verified, and what changes the result is left out and reported.

    Raises:
        UsageError: no such level or pass.
        CheckFailed: the model disagrees with itself even where no pass has run.
    """
    if level not in ("none", "safe", "full"):
        raise UsageError(f"optimize is none, safe or full, not {quoted(level)}")
    unknown = [name for name in disable if name not in pass_names()]
    if unknown:
        raise UsageError(f"no pass {quoted(unknown[0])}; there are {', '.join(pass_names())}")
    report = OptimizeReport(level, census(model))
    report.after = Counter(report.before)
    if level == "none":
        return report
    kept = copied(model.ir) if verify is not None else None
    _run(model, level, set(disable), budget or Budget(), report, None)
    if verify is not None and kept is not None and report.changed and (wrong := verify(model)) is not None:
        model.ir = kept
        report = OptimizeReport(level, report.before)
        report.notes.append(Note("warning", f"optimizing changed the result ({wrong}); each pass was checked alone"))
        if (wrong := verify(model)) is not None:
            raise CheckFailed(f"the model disagrees with itself before anything is optimized: {wrong}")
        _run(model, level, set(disable), budget or Budget(), report, verify)
    report.after = census(model)
    return report


def census(model: Model) -> Counter[str]:
    """Nodes by operator, those of subgraphs included."""
    return Counter(n.op_type if n.domain in ("", "ai.onnx") else f"{n.domain}.{n.op_type}" for n in model.nodes())


def _run(
    model: Model, level: Level, disable: set[str], budget: Budget, report: OptimizeReport, verify: Verify | None
) -> None:
    source = model.opset
    if not LOWEST <= source <= HIGHEST:
        report.notes.append(Note("warning", f"opset {source} is out of the optimizer's range; nothing was changed"))
        return
    target = max(source, LOWEST_TARGET)
    original = model.ir
    if source < CANONICAL_OPSET:
        model.ir = copied(model.ir)
        try:
            to_opset(model, CANONICAL_OPSET)
        except UnsupportedOpset as error:
            model.ir = original
            report.notes.append(Note("warning", f"nothing was optimized: {error.reason}"))
            return
    annotate(model.ir)
    runner = _Runner(model, Edit(model, level, budget, target), report, disable, verify)
    runner.until_stable()
    if level == "full":
        runner.outside()
    if target != model.opset:
        try:
            to_opset(model, target)
            if "duplicates" not in disable:
                merge_constants(runner.edit)  # each operator's older form brought its own
        except UnsupportedOpset as error:
            report.notes.append(Note("warning", f"the optimized graph stays at opset {model.opset}: {error.reason}"))
    if not report.changed or (model.ir is not original and _alike(model.ir, original)):
        model.ir = original
        for row in report.passes:  # what raising the opset had added is gone again
            row.changed = False


def _alike(a: ir.Model, b: ir.Model) -> bool:
    """Whether two models have the same nodes, names and constants."""
    return _signature(a) == _signature(b)


def _signature(model: ir.Model) -> list[object]:
    out: list[object] = [sorted(model.opset_imports.items())]
    for graph in [model.graph, *model.graph.subgraphs()]:
        out.append([(v.name, str(v.type), str(v.shape)) for v in (*graph.inputs, *graph.outputs)])
        out.extend((name, id(value.const_value)) for name, value in graph.initializers.items())
        for node in graph:
            flat = {k: a for k, a in node.attributes.items() if a.is_ref() or a.type not in _GRAPHS}
            attributes = sorted((k, a.ref_attr_name if a.is_ref() else _plain(a)) for k, a in flat.items())
            names = [[v.name if v is not None else None for v in side] for side in (node.inputs, node.outputs)]
            out.append((node.domain, node.op_type, node.name, names, attributes))
    return out


_GRAPHS = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)


def _plain(attribute: ir.Attr) -> object:
    """A value that compares: tensors by type, shape and bytes."""
    if attribute.type == ir.AttributeType.TENSOR:
        tensor = attribute.as_tensor()
        return str(tensor.dtype), str(tensor.shape), content_of(tensor)
    return str(attribute.value)


class _Runner:
    def __init__(
        self, model: Model, edit: Edit, report: OptimizeReport, disable: set[str], verify: Verify | None
    ) -> None:
        self.model, self.edit, self.report, self.disable, self.verify = model, edit, report, disable, verify
        wanted = ("safe",) if edit.level == "safe" else ("safe", "full")
        self.passes = [PASSES[name] for name in ORDER if PASSES[name].level in wanted]
        self.rows: dict[str, PassReport] = {}

    def until_stable(self) -> bool:
        """Run all passes again and again until none changes anything; returns whether one did."""
        any_change = False
        for _ in range(self.edit.budget.rounds):
            self.edit.reasons.clear()
            changed = False
            for one in self.passes:
                if one.name not in self.disable:
                    changed |= self._one(one.name, one.about, lambda run=one.run: run(self.edit))
            any_change |= changed
            if not changed:
                break
        else:
            self.report.notes.append(Note("warning", "the passes stopped at their last round with work left"))
        self.report.reasons = list(self.edit.reasons)
        return any_change

    def outside(self) -> None:
        """Let others try; what is smaller goes through our passes again."""
        for _ in range(4):
            changed = False
            for name, step in OUTSIDE.items():
                if name in self.disable:
                    continue
                before = sum(census(self.model).values())
                kept = self.model.ir
                if not self._one(name, step.about, lambda run=step.run: run(self.edit)):
                    continue
                self.until_stable()
                if sum(census(self.model).values()) < before:
                    changed = True
                else:
                    self.model.ir = kept
                    self.edit.fresh()
            if not changed:
                return

    def _one(self, name: str, about: str, run: Callable[[], bool]) -> bool:
        row = self.rows.get(name)
        if row is None:
            row = self.rows[name] = PassReport(name, about)
            self.report.passes.append(row)
        kept = copied(self.model.ir) if self.verify is not None else None
        before = census(self.model)
        self.edit.current = name
        try:
            changed = run()
        except NetferryError:
            raise
        finally:
            self.edit.fresh()
        if not changed:
            return False
        if self.verify is not None and kept is not None and (wrong := self.verify(self.model)) is not None:
            self.model.ir = kept
            self.disable.add(name)
            row.refused = wrong
            return False
        if not row.changed:
            row.before = before
        row.changed = True
        after = census(self.model)
        row.after.update(after)
        row.after.subtract(before)
        return True
