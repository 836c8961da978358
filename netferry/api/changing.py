"""Changes of a whole model on request: optimization and precision, each checked by running it before and after."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from netferry.api.rerun import Rerun, rerun_of
from netferry.api.run_budget import run_budget
from netferry.errors import UsageError
from netferry.schemas.ir import ir
from netferry.schemas.model import Model, Note
from netferry.schemas.publish import temporary_folder

TOLERANCE = 1e-4
"""largest difference that an optimization may make, over the largest value"""


def change(
    model: Model,
    save: Callable[[Model, Path], Any],
    *,
    optimize: str = "none",
    precision: str | None = None,
    half_io: bool = False,
    keep_layers: Sequence[str] = (),
    max_error: float | None = None,
    disable: Sequence[str] = (),
    progress: Callable[[int], None] | None = None,
    check: bool = True,
    limits: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Optimize a model and turn its precision, in place.

    Args:
        save: writes a model to a path (for the runs before and after).
        optimize: none, safe or full.
        precision: fp16, bf16, or None to leave it.
        half_io: inputs and outputs become half precision too.
        keep_layers: layers, or operators by type, that stay float32.
        max_error: largest difference that half precision may make, over the largest value; see
            :data:`netferry.api.mixing.GATE`.
        disable: passes to leave out.
        progress: see :func:`netferry.api.convert`.
        check: run the model before and after, where an onnxruntime is installed; a small one that it does not run runs
            in onnx.reference.
        limits: of these runs (``run_bytes``, ``run_seconds``), where not the defaults.

    Returns:
        ``optimize`` and ``precision`` reports, for the conversion report.

    Raises:
        CheckFailed: the result differs by more than :data:`TOLERANCE` or ``max_error`` allows, or nothing runs the
            model.
        LimitExceeded: a run takes more than the limits.
    """
    report: dict[str, Any] = {}
    if optimize == "none" and precision is None:
        return report
    if optimize not in ("none", "safe", "full"):
        raise UsageError(f"optimize is none, safe or full, not {optimize!r}")
    with temporary_folder() as folder:
        kind = {"fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}.get(precision or "") if half_io else None
        rerun = None
        if check:
            rerun = rerun_of(model, save, Path(folder), kind=kind, progress=progress, budget=run_budget(limits))
        if optimize in ("safe", "full"):
            from netferry.converters.passes.optimize import optimize as run_passes

            verify = None if rerun is None else _Judge(rerun)
            done = run_passes(model, optimize, disable=disable, verify=verify)  # pyright: ignore[reportArgumentType]
            model.notes.extend(done.notes)
            report["optimize"] = done.as_dict()
        if precision is not None:
            from netferry.api.mixing import to_half

            found = to_half(model, precision, rerun, half_io=half_io, keep_layers=keep_layers, max_error=max_error)
            report["precision"] = found.as_dict()
    if rerun is not None and rerun.by_reference:
        model.notes.append(Note("assumed", f"onnxruntime does not run the model, onnx.reference compared: {rerun.why}"))
    for name, found in report.items():
        model.notes.append(Note("folded", _summary(name, found)))
    return report


def _summary(name: str, found: dict[str, Any]) -> str:
    if name == "optimize":
        before, after = sum(found["nodes_before"].values()), sum(found["nodes_after"].values())
        return f"optimize {found['level']}: {before} nodes became {after}"
    return f"precision {found['precision']}: {sum(found['turned'].values())} nodes"


class _Judge:
    """Says why an optimized model disagrees with the original, or None."""

    def __init__(self, rerun: Rerun) -> None:
        self.rerun = rerun

    def __call__(self, model: Model) -> str | None:
        for name, apart in self.rerun.after(model).items():
            if not apart["max_rel"] <= TOLERANCE:
                return f"output {name!r} is off by {apart['max_rel']:.2g} of its largest value"
        return None
