"""Changes of a whole model on request: optimization and precision, each checked by running it before and after."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from netferry.errors import CheckFailed, UsageError
from netferry.schemas.model import Model, Note
from netferry.schemas.publish import temporary_folder

TOLERANCE = {"none": 1e-4, "fp16": 2e-2, "bf16": 1e-1}
"""largest difference allowed, over the largest value, by precision"""


def change(
    model: Model,
    save: Callable[[Model, Path], Any],
    *,
    optimize: str = "none",
    precision: str | None = None,
    disable: Sequence[str] = (),
    check: bool = True,
) -> dict[str, Any]:
    """Optimize a model and turn its precision, in place.

    Args:
        save: writes a model to a path (for the runs before and after).
        optimize: none, safe or full.
        precision: fp16, bf16, or None to leave it.
        disable: passes to leave out.
        check: run the model before and after, where an onnxruntime is installed.

    Returns:
        ``optimize`` and ``precision`` reports, for the conversion report.

    Raises:
        CheckFailed: the result differs by more than :data:`TOLERANCE` allows.
    """
    report: dict[str, Any] = {}
    if optimize == "none" and precision is None:
        return report
    if optimize not in ("none", "safe", "full"):
        raise UsageError(f"optimize is none, safe or full, not {optimize!r}")
    with temporary_folder() as folder:
        compare = _comparison(model, save, Path(folder)) if check else None
        if optimize in ("safe", "full"):
            from netferry.converters.passes.optimize import optimize as run_passes

            verify = None if compare is None else _Judge(compare, TOLERANCE["none"])
            done = run_passes(model, optimize, disable=disable, verify=verify)  # pyright: ignore[reportArgumentType]
            model.notes.extend(done.notes)
            report["optimize"] = done.as_dict()
        if precision is not None:
            if precision not in ("fp16", "bf16"):
                raise UsageError(f"precision is fp16 or bf16, not {precision!r}")
            from netferry.converters.passes.precision import to_precision

            report["precision"] = to_precision(model, precision).as_dict()
            # onnxruntime's processor has few operators in bfloat16: there the check is the format's own
            if compare is not None and precision == "fp16":
                wrong = _Judge(compare, TOLERANCE[precision])(model)
                if wrong is not None:
                    raise CheckFailed(f"in {precision} the model disagrees with itself: {wrong}")
    for name, found in report.items():
        model.notes.append(Note("folded", _summary(name, found)))
    return report


def _summary(name: str, found: dict[str, Any]) -> str:
    if name == "optimize":
        before, after = sum(found["nodes_before"].values()), sum(found["nodes_after"].values())
        return f"optimize {found['level']}: {before} nodes became {after}"
    return f"precision {found['precision']}: {sum(found['turned'].values())} nodes"


class _Judge:
    """Says why a model disagrees with the original, or None."""

    def __init__(self, compare: Callable[[Model], dict[str, dict[str, Any]]], bound: float) -> None:
        self.compare, self.bound = compare, bound

    def __call__(self, model: Model) -> str | None:
        for name, apart in self.compare(model).items():
            if not apart["max_rel"] <= self.bound:
                return f"output {name!r} is off by {apart['max_rel']:.2g} of its largest value"
        return None


def _comparison(
    model: Model, save: Callable[[Model, Path], Any], folder: Path
) -> Callable[[Model], dict[str, dict[str, Any]]] | None:
    """Run the original now; the returned function runs a changed model on the same inputs and compares."""
    from importlib.util import find_spec

    if find_spec("onnxruntime") is None or model.placeholders() or model.uninitialised:
        return None
    from netferry.runtime.session import Session
    from netferry.runtime.verify import compare, seeded_inputs

    save(model, folder / "before.onnx")
    session = Session(folder / "before.onnx", "cpu", once=True)
    feeds = [seeded_inputs(session.inputs, batch, 0) for batch in (1, 2)]
    wanted = [session.run(feed) for feed in feeds]

    def apart(changed: Model) -> dict[str, dict[str, Any]]:
        save(changed, folder / "after.onnx")
        other = Session(folder / "after.onnx", "cpu", once=True)
        worst: dict[str, dict[str, Any]] = {}
        for feed, want in zip(feeds, wanted, strict=True):
            for name, row in compare(want, other.run(feed)).items():
                if name not in worst or not row["max_rel"] <= worst[name]["max_rel"]:
                    worst[name] = row
        return worst

    return apart
