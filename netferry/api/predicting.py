"""``predict``: pictures labelled with a network of any format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netferry.api.reading import StrPath, label_names, load
from netferry.api.remote import Transfers
from netferry.api.writing import save
from netferry.errors import UsageError
from netferry.schemas.publish import temporary_folder

if TYPE_CHECKING:
    from netferry.schemas.model import Model


def predict(
    source: StrPath | Model,
    pictures: Sequence[StrPath],
    *,
    weights: StrPath | None = None,
    top: int = 5,
    labels: StrPath | Sequence[str] | None = None,
    annotate: StrPath | None = None,
    device: str = "auto",
    batch_size: int = 16,
    output: str | None = None,
    on_error: str = "fail",
    mean: Sequence[float] | None = None,
    mean_file: StrPath | None = None,
    scale: Sequence[float] | None = None,
    channel_order: str | None = None,
    resize: str | None = None,
    size: tuple[int, int] | None = None,
    crop: tuple[int, int] | None = None,
    **reading: Any,
) -> dict[str, Any]:
    """Label pictures, or sounds, with a network of any format.

    Args:
        source: an ONNX file, a file of another format (converted in memory), or a model.
        pictures: files, folders, globs; like the other files here they may be URLs (s3, gs, http, file).
        top: how many labels per picture.
        labels: class names, where the model carries none.
        annotate: write the pictures with label and score here; of a sound its spectrogram and the scores over time.
        device: auto, cpu, cuda …
        output: the output with the scores, where there are several.
        on_error: ``fail`` at a corrupt picture, or ``skip`` it.
        mean, mean_file, scale, channel_order, resize, size, crop: changes to the model's preprocessing.

    Returns:
        ``predictions`` (item, softmax: whether netferry applied one, top: label, class, score), ``skipped``,
        ``device``, ``provider``, ``preprocessing`` and whose it is; for sounds ``timelines``: every patch's answers.
    """
    from netferry.runtime.data import open_data
    from netferry.runtime.predict import Classifier
    from netferry.runtime.session import Session

    changes = {
        "mean": None if mean is None else tuple(mean),
        "scale": None if scale is None else tuple(scale),
        "color": None if channel_order is None else channel_order.upper(),
        "resize": resize,
        "size": size,
        "crop": crop,
    }
    changes = {name: value for name, value in changes.items() if value is not None}
    if on_error not in ("fail", "skip"):
        raise UsageError(f"on_error is fail or skip, not {on_error!r}")
    if mean_file is not None:
        reading["mean_file"] = mean_file
    with Transfers() as files:
        items = open_data(files.inputs(pictures))
        labels, sheet = files.input(labels), files.output(annotate)
        if "mean_file" in reading:
            reading["mean_file"] = files.input(reading["mean_file"])
        with as_onnx(files.input(source), files.input(weights), reading) as path:
            session = Session(path, device=device)
            classifier = Classifier(session, labels=label_names(labels), output=output, changes=changes)
            found = list(classifier.predict(items, top, batch_size, on_error=on_error))
        timeline: dict[str, Any] = {}
        if classifier.feed.sound is not None:
            from netferry.api.sounds import timelines

            timeline["timelines"] = timelines(classifier, found, top, sheet)
        elif annotate is not None:
            from netferry.runtime.annotate import annotate as draw

            draw(found, sheet)
    result = {
        "model": str(source) if isinstance(source, (str, Path)) else source.graph.name,
        "device": session.device,
        "provider": session.provider,
        "preprocessing": classifier.recipe.as_dict(),
        "preprocessing_from": classifier.recipe_from,
        "predictions": [p.as_dict() for p in found if p.error is None],
        "skipped": [p.as_dict() for p in found if p.error is not None],
        **timeline,
    }
    return files.named(result) if files.used else result


@contextmanager
def as_onnx(source: StrPath | Model, weights: StrPath | None, reading: Mapping[str, Any]) -> Iterator[Path]:
    """Give the path of an ONNX file of ``source``: itself, or one converted into a temporary folder."""
    from netferry.converters.formats import by_name, detect

    if isinstance(source, (str, Path)):
        chosen = by_name(reading["format"]) if reading.get("format") else detect(Path(source))
        changed = any(v for k, v in reading.items() if k != "format")
        if chosen.name == "onnx" and weights is None and not changed:
            yield Path(source)
            return
        source = load(source, weights, **reading)
    with temporary_folder() as folder:
        path = Path(folder) / "model.onnx"
        save(source, path, check="structure")
        yield path
