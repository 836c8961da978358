"""``rebatch``: a baked-in batch made dynamic, verified at two batch sizes before the file appears."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netferry.api.opsets import at_opset
from netferry.api.reading import StrPath, load
from netferry.api.saving import save
from netferry.errors import CheckFailed
from netferry.schemas.publish import temporary_folder

if TYPE_CHECKING:
    from netferry.converters.passes.rebatch import Mended

_SAMPLES = 3
"""runs of the original whose inputs together are the larger batch"""
_BOUND = 1e-4


def rebatch(
    source: StrPath,
    target: StrPath,
    *,
    weights: StrPath | None = None,
    axes: Mapping[str, int] | None = None,
    traced: int | None = None,
    name: str = "batch",
    report: StrPath | None = None,
    **reading: Any,
) -> dict[str, Any]:
    """Make a network's batch dynamic and write it as ONNX.

    The result is run by onnxruntime on the inputs of one run of the original, and on those of three runs at once:
    each must give what the original gave.

    Args:
        source, weights, reading: as :func:`netferry.load`.
        target: the file to write.
        axes: the batch's axis of each input that has one; by default axis 0 of the inputs that share its size.
        traced: the batch size that was baked in, where the inputs do not say.
        name: the name of the dynamic dimension.
        report: write the machine-readable report here.

    Returns:
        The report, with ``rebatch``: the size that was baked in, the changes by layer, and the checks.

    Raises:
        UnsupportedError: nodes mix samples or pin the batch; all of them, with the reason. Nothing is written.
        CheckFailed: the result computes something else. Nothing is written.
        UsageError: no input has a batch, or not the ones named.
        MissingExtra: no onnxruntime to verify with.
    """
    from netferry import __version__
    from netferry.converters.passes.naming import name_dims
    from netferry.converters.passes.rebatch import rebatch as mend
    from netferry.runtime.session import Session
    from netferry.schemas.model import Note
    from netferry.schemas.report import Report

    started = time.perf_counter()
    model = load(source, weights, **reading)
    at_opset(model, None)
    read = time.perf_counter()
    with temporary_folder() as folder:
        before = Path(folder) / "before.onnx"
        save(model.copy(), before, check="structure")
        original = Session(before, "cpu", once=True)
        mended = mend(model, axes, traced=traced, name=name)
        name_dims(model)
        checks: list[dict[str, Any]] = []

        def compared(file: Any, **where: Any) -> None:
            checks.extend(_verify(original, Session(file, "cpu", once=True, **where), mended))

        written = save(model, target, before_publishing=compared)
    done = {
        "batch": mended.size,
        "inputs": mended.axes,
        "outputs": mended.outputs,
        "changes": [{"layer": layer, "change": what} for layer, what in mended.changed],
        "checks": checks,
    }
    model.notes.extend(Note("folded", f"rebatch: {what}", layer) for layer, what in mended.changed)
    document = Report(model, netferry_version=__version__, options={"axes": dict(axes or {}), "traced": traced})
    document.timing("read", read - started)
    document.written(written)
    for check in checks:
        document.check("rebatch", "passed", check)
    return {**document.finish(report), "rebatch": done}


def _verify(original: Any, other: Any, mended: Mended) -> list[dict[str, Any]]:
    """Run both: at the batch that was baked in, and at several times that."""
    import numpy as np

    from netferry.runtime.verify import compare, seeded_inputs

    feeds = [seeded_inputs(original.inputs, mended.size, seed) for seed in range(_SAMPLES)]
    for feed in feeds[1:]:  # what has no batch is the same for all
        feed.update({name: value for name, value in feeds[0].items() if name not in mended.axes})
    wanted = [original.run(feed) for feed in feeds]
    together = {
        name: np.concatenate([f[name] for f in feeds], mended.axes[name]) if name in mended.axes else value
        for name, value in feeds[0].items()
    }
    joined = {
        name: value if (axis := mended.outputs.get(name)) is None else np.concatenate([w[name] for w in wanted], axis)
        for name, value in wanted[0].items()
    }
    found = []
    for size, feed, want in ((1, feeds[0], wanted[0]), (_SAMPLES, together, joined)):
        worst = 0.0
        for name, row in compare(other.run(feed), want).items():
            worst = max(worst, row["max_rel"])
            if not row["max_rel"] <= _BOUND:
                raise CheckFailed(
                    f"at batch {size * mended.size} the output {name!r} is off by {row['max_rel']:.2g} of its largest "
                    "value: samples influence one another, or a constant holds the batch in a way nobody can see"
                )
        found.append({"batch": size * mended.size, "max_rel": worst})
    return found
