"""The report of a run as a page: one file, nothing loaded from elsewhere."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from netferry.errors import NetferryError, quoted
from netferry.runtime.decoding import load_picture
from netferry.runtime.plots import confusion_chart, figure_bytes
from netferry.runtime.training.plots import training_progress
from netferry.runtime.training.state import Row

_THUMBNAIL = 240
_NAMES = {"accuracy": "test accuracy", "map": "test mean average precision", "rmse": "test RMSE"}


def html(report: Mapping[str, Any], history: Sequence[Row], classes: Sequence[str]) -> str:
    """Return the page of a report (what ``netferry.retrain`` returns), with curves, confusion chart and mistakes."""
    from jinja2 import Environment, PackageLoader
    from markupsafe import Markup

    training, test = report["training"], report["test"]
    metric = training["metric"]
    progress = training_progress(history, metric, training["iterations_per_epoch"], best=training["kept_iteration"])
    confusion = None
    if test.get("confusion"):
        confusion = Markup(_svg(confusion_chart(np.array(test["confusion"]), classes)))  # noqa: S704 our own drawing
    environment = Environment(loader=PackageLoader("netferry.runtime.training", "."), autoescape=True)
    return environment.get_template("report.html.j2").render(
        title=f"{Path(report['file']).name}: {report['data']['name']}",
        subtitle=f"retrained by netferry {report['versions']['netferry']} on "
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC from {', '.join(Path(f).name for f in report['model']['files'])}",
        facts=_facts(report, metric),
        progress=Markup(_svg(progress)),  # noqa: S704 our own drawing
        confusion=confusion,
        per_class=[{k: _shown(v) for k, v in row.items()} for row in test.get("per_class", [])],
        mistakes=[{**m, "picture": _thumbnail(m["item"]), "name": Path(m["item"]).name} for m in report["mistakes"]],
        split=list(report["data"]["split"]),
        counts=_counts(report["data"]["split"]),
        options=[(k, _shown(v)) for k, v in _options(report)],
        learning=[
            {**p, "shape": " × ".join(map(str, p["shape"])), "rate": f"{p['rate']:g}" if p["rate"] else ""}
            for p in report["learning"]
        ],
        notes=[*report["notes"], *(f"left out: {r['file']}: {r['reason']}" for r in report["data"]["skipped"])],
        origins=_origins(report),
    )


def _svg(figure: Any) -> str:
    text = figure_bytes(figure, "svg").decode()
    return text[text.index("<svg") :]


def _facts(report: Mapping[str, Any], metric: str) -> list[tuple[str, str]]:
    training, test = report["training"], report["test"]
    value = test.get(metric)
    facts = [] if value is None else [(_NAMES[metric], f"{value:.4g}" if metric == "rmse" else f"{value:.1%}")]
    facts += [
        ("test examples", str(test["count"])),
        ("iterations", f"{training['iterations']} of {training['iterations_wanted']}"),
        (f"kept weights ({training['kept']})", f"iteration {training['kept_iteration']}"),
        (f"seconds on {training['device']}", f"{training['seconds']:.0f}"),
        ("the frozen part ran", training["trunk"]),
    ]
    return facts


def _counts(split: Mapping[str, Mapping[str, int]]) -> list[list[object]]:
    names = list(next(iter(split.values())))
    rows: list[list[object]] = [[name, *(part[name] for part in split.values())] for name in names]
    return [*rows, ["all", *(sum(part.values()) for part in split.values())]] if len(rows) > 1 else rows


def _options(report: Mapping[str, Any]) -> list[tuple[str, Any]]:
    head = [(f"head: {k}", v) for k, v in report["head"].items()]
    augment = report["augment"]
    more = [("augmentation", "none")] if augment is None else [(f"augmentation: {k}", v) for k, v in augment.items()]
    return [*head, *report["options"].items(), *more, ("preprocessing", _recipe(report["preprocessing"]))]


def _recipe(recipe: Mapping[str, Any] | None) -> Any:
    """The preprocessing in short: of a mean image its shape alone."""
    if recipe is None:
        return "none"
    return {k: v["shape"] if k == "mean_image" and isinstance(v, Mapping) else v for k, v in recipe.items()}


def _origins(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [(f"sha256 of {Path(f).name}", h) for f, h in report["hashes"].items()]
    return [*rows, *((k, str(v)) for k, v in report["versions"].items())]


def _shown(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_shown(v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_shown(v) for v in value)
    return quoted(value, 400)[1:-1]


def _thumbnail(item: str) -> str | None:
    """A picture as a small JPEG inside the page; None where it is none."""
    try:
        band = load_picture(item)[0]
    except NetferryError:
        return None
    image = band if band.mode != "F" else Image.fromarray(np.clip(np.asarray(band), 0, 255).astype(np.uint8))
    image = image.convert("RGB")
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    out = BytesIO()
    image.save(out, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
