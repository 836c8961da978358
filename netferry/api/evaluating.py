"""``evaluate``: how good a classifier is on labelled data."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netferry.api.evaluating_targets import of_targets
from netferry.api.predicting import as_onnx
from netferry.api.reading import StrPath, label_names
from netferry.api.remote import Transfers
from netferry.schemas.publish import whole, write_whole
from netferry.schemas.remote import plain_name

if TYPE_CHECKING:
    from netferry.runtime.evaluate import Evaluation
    from netferry.schemas.model import Model


def evaluate(
    source: StrPath | Model,
    data: StrPath | Sequence[StrPath],
    *,
    weights: StrPath | None = None,
    labels: StrPath | Sequence[str] | None = None,
    crop: str = "model",
    crop_share: float = 0.875,
    device: str = "auto",
    batch_size: int = 16,
    threads: int | None = None,
    output: str | None = None,
    worst: int = 25,
    out: StrPath | None = None,
    on_error: str = "fail",
    workers: int | None = None,
    data_options: Mapping[str, Any] | None = None,
    changes: dict[str, Any] | None = None,
    **reading: Any,
) -> dict[str, Any]:
    """Measure a classifier on labelled data.

    Args:
        source: an ONNX file, a file of another format (converted in memory), or a model.
        data: a folder with a sub-folder per class, an index (CSV, JSON lines, Parquet) with labels, a tar, arrays. A
            network that gives several labels or values (``retrain`` makes such) takes a CSV file as ``retrain`` does.
        labels: class names, where the model carries none.
        crop: ``model`` prepares pictures as the model says; ``center`` takes the centre crop of the resized picture,
            as ImageNet's single-crop accuracies are measured; ``none`` stretches the whole picture.
        crop_share: for ``center``: the crop's side over the resized picture's shorter side.
        threads: of one run of the network on the processor; onnxruntime's choice where None.
        worst: how many of the worst mistakes to list and draw.
        out: a folder for ``report.json``, ``confusion.png`` and ``.csv``, ``per_class.csv``, ``calibration.png`` and
            ``mistakes.png``; a file ``*.json`` for the report alone.
        on_error: ``fail`` at a corrupt picture, or ``skip`` it.
        workers: threads that decode.
        data_options: further arguments of :func:`netferry.open_data`.
        changes: fields of the preprocessing to change.

    Returns:
        ``top1``, ``top5``, ``macro`` and ``per_class`` precision, recall and F1, ``log_loss``, ``calibration`` (ece,
        mce, bins), ``confusion`` (classes that occur, matrix), ``mistakes``, ``skipped``; of labels ``map`` and
        ``labels_right``, of values ``rmse``, both ``per_class``; ``task``, and what was measured how:
        ``crop``, ``preprocessing``, ``device``, ``batch_size``.

    Raises:
        UsageError: an item without label, or with one that is no class of the network.
        MissingExtra: scikit-learn, or matplotlib for the plots, is not installed.
    """
    from netferry.api.features import opened
    from netferry.runtime.evaluate import crop_changes
    from netferry.runtime.evaluate import evaluate as measure
    from netferry.runtime.feed import Feed
    from netferry.runtime.plots import require_matplotlib
    from netferry.runtime.predict import Classifier
    from netferry.runtime.session import Session

    if out is not None and plain_name(out).suffix != ".json":
        require_matplotlib()
    many = [data] if isinstance(data, (str, Path)) else list(data)
    with Transfers() as files:
        local = files.inputs(many)
        names, place = label_names(files.input(labels)), files.output(out)
        with as_onnx(files.input(source), files.input(weights), files.options(reading)) as path:
            session = Session(path, device, threads)
            altered = {**(changes or {}), **crop_changes(crop, Feed(session), crop_share)}
            classifier = Classifier(session, labels=names, output=output, changes=altered)
            if classifier.task == "classes":
                found = measure(
                    session, opened(local, session.inputs, data_options), classifier=classifier, batch=batch_size,
                    worst=worst, on_error=on_error, workers=workers,
                )  # fmt: skip
                figures = {"task": "classes", **found.as_dict(), "confusion": _confusion(found)}
            else:
                found = None
                figures = of_targets(classifier, local, batch=batch_size, on_error=on_error, workers=workers)
        result = {
            "model": str(source) if isinstance(source, (str, Path)) else source.graph.name,
            "data": [str(d) for d in many],
            "crop": crop,
            **({"crop_share": crop_share} if crop == "center" else {}),
            "preprocessing": {k: v for k, v in classifier.recipe.as_dict().items() if k != "mean_image"},
            "preprocessing_from": classifier.recipe_from,
            "device": session.device,
            "provider": session.provider,
            "batch_size": classifier.feed.batch or batch_size,
            **figures,
            "notes": classifier.feed.notes,
        }
        result = files.named(result)
        if place is not None:
            result["files"] = files.named(_written(found, result, Path(place)))
    return result


def _confusion(found: Evaluation) -> dict[str, Any]:
    """The confusion matrix of the classes that occur."""
    rows = found.present
    return {"classes": [found.classes[n] for n in rows], "matrix": found.matrix[rows][:, rows].tolist()}


def _written(found: Evaluation | None, result: dict[str, Any], out: Path) -> list[str]:
    """Report, tables and, of one class out of several, the plots."""
    import json

    names: list[str] = []

    def place(name: str) -> Path:
        names.append(str(out / name))
        return out / name

    if out.suffix == ".json":
        report, names = out, [str(out)]
    else:
        if found is not None:
            _drawn(found, result["confusion"], Path(result["model"]).name, place)
        rows = result["per_class"]
        write_whole(place("per_class.csv"), table([list(rows[0]), *(list(row.values()) for row in rows)]))
        report = place("report.json")
    write_whole(report, json.dumps(result, indent=2) + "\n")
    return names


def _drawn(found: Evaluation, confusion: dict[str, Any], title: str, place: Callable[[str], Path]) -> None:
    from netferry.runtime.annotate import sheet_of
    from netferry.runtime.charts import reliability_diagram
    from netferry.runtime.plots import confusion_chart, write_figure

    write_figure(confusion_chart(found.matrix[found.present][:, found.present], confusion["classes"], title=title),
                 place("confusion.png"))  # fmt: skip
    write_whole(place("confusion.csv"), table([["true \\ predicted", *confusion["classes"]],
                *([c, *row] for c, row in zip(confusion["classes"], confusion["matrix"], strict=True))]))  # fmt: skip
    scale = found.calibration
    write_figure(reliability_diagram(scale["bins"], scale["ece"], title=title), place("calibration.png"))
    drawable = [m for m in found.mistakes if not isinstance(m.source, dict)]
    if drawable:
        names_of = [name.split(",")[0] for name in found.classes]  # one synonym is enough under a picture
        said = [f"{names_of[m.predicted]}, truly {names_of[m.truth]} ({m.confidence:.2f})" for m in drawable]
        sources: list[Any] = [m.source for m in drawable]
        with whole(place("mistakes.png")) as scratch:
            sheet_of(sources, said, [Path(m.item).name for m in drawable]).save(scratch, "PNG")


def table(rows: Sequence[Sequence[Any]]) -> str:
    """Rows as CSV."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()
