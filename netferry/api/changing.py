"""Changes of a whole model on request: optimization and precision, each checked by running it before and after."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from netferry.errors import CheckFailed, NetferryError, UsageError
from netferry.schemas.model import Model, Note
from netferry.schemas.publish import temporary_folder

if TYPE_CHECKING:
    from netferry.runtime.session import Port

TOLERANCE = {"none": 1e-4, "fp16": 2e-2, "bf16": 1e-1}
"""largest difference allowed, over the largest value, by precision"""


def change(
    model: Model,
    save: Callable[[Model, Path], Any],
    *,
    optimize: str = "none",
    precision: str | None = None,
    half_io: bool = False,
    keep_layers: Sequence[str] = (),
    disable: Sequence[str] = (),
    check: bool = True,
) -> dict[str, Any]:
    """Optimize a model and turn its precision, in place.

    Args:
        save: writes a model to a path (for the runs before and after).
        optimize: none, safe or full.
        precision: fp16, bf16, or None to leave it.
        half_io: inputs and outputs become half precision too.
        keep_layers: layers that stay float32.
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

            found = to_precision(model, precision, keep_io=not half_io, keep_layers=keep_layers)
            report["precision"] = found.as_dict()
            if compare is not None:
                wrong = _Judge(partial(compare, rounded=True), TOLERANCE[precision])(model)
                if wrong is not None:
                    raise CheckFailed(
                        f"in {precision} the model disagrees with itself: {wrong}",
                        hint="layers that need float32 can keep it (--keep-layer); --check structure does not compare",
                    )
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
) -> Callable[..., dict[str, dict[str, Any]]] | None:
    """Run the original now; the returned function runs a changed model on the same inputs and compares."""
    from importlib.util import find_spec

    if find_spec("onnxruntime") is None or model.placeholders() or model.uninitialised:
        return None
    from netferry.runtime.session import Session
    from netferry.runtime.verify import compare, seeded_inputs

    save(model, folder / "before.onnx")
    session = Session(folder / "before.onnx", "cpu", once=True)
    if any(port.numpy is None for port in session.inputs):
        return None  # a sequence or a map: no values are made for it
    feeds = [_pictures(model, session.inputs, seeded_inputs(session.inputs, batch, 0)) for batch in (1, 2)]
    wanted = [session.run(feed) for feed in feeds]

    def apart(changed: Model, *, rounded: bool = False) -> dict[str, dict[str, Any]]:
        save(changed, folder / "after.onnx")
        run = _rounded(folder / "after.onnx") if rounded else Session(folder / "after.onnx", "cpu", once=True).run
        worst: dict[str, dict[str, Any]] = {}
        for feed, want in zip(feeds, wanted, strict=True):
            for name, row in compare(run(feed), want).items():
                if name not in worst or not row["max_rel"] <= worst[name]["max_rel"]:
                    worst[name] = row
        return worst

    return apart


def _rounded(path: Path) -> Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]:
    """Run a half-precision file with its roundings, which onnxruntime's processor alone leaves out."""
    import onnx

    from netferry.runtime.emulate import run_rounded

    proto = onnx.load(path)
    return lambda feed: run_rounded(proto, feed)


def _pictures(model: Model, ports: Sequence[Port], feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Values of inputs that take pictures, as their recipe makes them of random ones: in the range of real data."""
    from netferry.runtime.preprocess import preprocess
    from netferry.schemas.preprocessing import COLORS

    for port in ports:
        recipe = model.preprocessing.get(port.name)
        values = feed[port.name]
        if recipe is None or values.ndim != 4 or values.dtype.kind != "f":
            continue
        height, width = values.shape[1:3] if recipe.layout == "NHWC" else values.shape[2:4]
        shape = (height, width) if COLORS[recipe.color] == 1 else (height, width, 3)
        rng = np.random.default_rng(0)
        try:
            made = [
                preprocess(rng.integers(0, 256, shape, dtype=np.uint8), recipe, (height, width))
                for _ in range(len(values))
            ]
        except NetferryError:
            continue  # a recipe that fits other pictures
        if made[0].shape == values.shape[1:]:
            feed[port.name] = np.stack(made).astype(values.dtype)
    return feed
