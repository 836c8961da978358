"""The account of a run: report.json, report.html, the plots; what ``retrain`` returns."""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netferry.api.retraining_job import Job
    from netferry.runtime.training.train import Outcome
    from netferry.schemas.model import Model


def finish(job: Job, model: Model, outcome: Outcome, found: dict[str, Any], written: dict[str, Any]) -> dict[str, Any]:
    """Write report and plots into the run's folder and return the report."""
    import json

    import numpy as np

    from netferry.runtime.plots import confusion_chart, write_figure
    from netferry.runtime.training.plots import draw_progress
    from netferry.runtime.training.report import html
    from netferry.schemas.publish import write_whole

    report = document(job, model, outcome, found, written)
    folder, metric = job.folder, report["training"]["metric"]
    kept = report["training"]["kept_iteration"]
    title = f"{job.target.name}: {job.sets.name}"
    history: list[Any] = outcome.history
    draw_progress(history, folder / "progress.png", metric, outcome.per_epoch, best=kept, title=title)
    if report["test"].get("confusion"):
        chart = confusion_chart(np.array(report["test"]["confusion"]), job.sets.classes, title=title)
        write_figure(chart, folder / "confusion.png")
    write_whole(folder / "report.html", html(report, history, job.sets.classes))
    write_whole(folder / "report.json", json.dumps(report, indent=2, default=str) + "\n")
    return report


def document(
    job: Job, model: Model, outcome: Outcome, found: dict[str, Any], written: dict[str, Any]
) -> dict[str, Any]:
    """The report as plain data."""
    from netferry.runtime.training.objective import METRICS
    from netferry.schemas.learning import learning_table

    standing, sets = outcome.standing, job.sets
    kept = standing.iteration if outcome.kept == "last" else standing.best_iteration
    rows = learning_table(model)
    for row in rows:
        row["rate"] = outcome.rate * outcome.factors.get(str(row["initializer"]), 0.0)
    best = next((r for r in outcome.history if r["iteration"] == kept), None)
    files = ["history.csv", "progress.png", "report.json", "report.html", "checkpoints/last.pt"]
    files += ["confusion.png"] if found["test"].get("confusion") else []
    return {
        "file": str(job.target),
        "run": str(job.folder),
        "files": files,
        "model": {"format": job.model.source.format, "files": list(job.model.source.files),
                  "version": job.model.source.version},
        "data": {"name": sets.name, "task": sets.task, "classes": list(sets.classes), "split": sets.split(),
                 "fingerprint": sets.fingerprint(), "skipped": sets.skipped},
        "head": {"layer": model.head().layer, **job.head.__dict__},
        "options": job.options.as_dict(),
        "augment": None if job.augment is None else job.augment.as_dict(),
        "preprocessing": next((p.as_dict() for p in model.preprocessing.values()), None),
        "training": {
            "metric": METRICS[sets.task],
            "iterations": standing.iteration,
            "iterations_wanted": outcome.total,
            "iterations_per_epoch": outcome.per_epoch,
            "stopped_early": standing.stopped,
            "kept": outcome.kept,
            "kept_iteration": kept,
            "validation_loss": None if best is None else best["validation_loss"],
            "validation": None if best is None else best["validation_figure"],
            "learning_rate": outcome.rate,
            "label_smoothing": outcome.label_smoothing,
            "trunk": outcome.trunk,
            "device": outcome.device,
            "seconds": round(standing.seconds, 2),
            "resumed_at": outcome.resumed_at,
            "changed": outcome.changed,
        },
        "test": found["test"],
        "agreement": found["agreement"],
        "mistakes": found["mistakes"],
        "learning": rows,
        "checks": written.get("checks", []),
        "notes": [n.message if n.layer is None else f"{n.layer}: {n.message}" for n in model.notes] + job.notes,
        "hashes": {f: _sha256(Path(f)) for f in [*job.model.source.files, str(job.target)] if Path(f).is_file()},
        "versions": versions(),
    }  # fmt: skip


def _sha256(path: Path) -> str:
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def versions() -> dict[str, str]:
    """Versions of what took part."""
    from importlib.metadata import version

    from netferry import __version__

    names = ("torch", "lightning", "onnxruntime", "onnx", "numpy", "pillow")
    found: dict[str, str] = {"netferry": __version__, "python": platform.python_version()}
    for name in names:
        try:
            found[name] = version(name)
        except Exception:  # onnxruntime comes in several packages
            found[name] = str(getattr(sys.modules.get(name), "__version__", "?"))
    return {**found, "platform": platform.platform()}
