"""``predict``: pictures labelled with a network of any format."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netferry.api.reading import StrPath, label_names, load
from netferry.api.remote import Transfers
from netferry.api.saving import save
from netferry.errors import UsageError
from netferry.schemas.publish import temporary_folder

if TYPE_CHECKING:
    import numpy as np

    from netferry.runtime.data import Data, Loaded
    from netferry.runtime.data.sources import Spec
    from netferry.runtime.features.parts import Row
    from netferry.runtime.predict import Classifier, Prediction
    from netferry.runtime.session import Session
    from netferry.schemas.model import Model


def predict(
    source: StrPath | Model,
    pictures: Spec | Iterable[Spec] | Data,
    *,
    weights: StrPath | None = None,
    output: StrPath | None = None,
    out_raw: StrPath | None = None,
    top: int = 5,
    labels: StrPath | Sequence[str] | None = None,
    annotate: StrPath | None = None,
    device: str = "auto",
    batch_size: int = 16,
    threads: int | None = None,
    workers: int | None = None,
    scores: str | None = None,
    on_error: str = "fail",
    shard: str | None = None,
    data_options: Mapping[str, Any] | None = None,
    progress: Callable[[int], None] | None = None,
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
        pictures: what :func:`netferry.open_data` takes, or gives: files, folders, patterns, indexes, tars, arrays,
            ``-`` (stdin); like the other files here they may be URLs (s3, gs, http, file).
        output: write the predictions here, while they are made: .csv, .tsv, .jsonl or .parquet.
        out_raw: write the network's own scores of all classes here: .npz, .npy, .parquet or .h5.
        top: how many labels per picture.
        labels: class names, where the model carries none.
        annotate: write the pictures with label and score here; of a sound its spectrogram and the scores over time.
        device: auto, cpu, cuda …
        threads: of one run of the network on the processor; onnxruntime's choice where None.
        workers: threads that decode.
        scores: the output with the scores, where there are several.
        on_error: ``fail`` at a corrupt picture, or ``skip`` it.
        shard: ``i/n``: only this part of the items.
        data_options: further arguments of :func:`netferry.open_data`.
        progress: called with the number of items done since the last call.
        mean, mean_file, scale, channel_order, resize, size, crop: changes to the model's preprocessing.

    Returns:
        ``task`` (classes; labels: several may be there; values: ``score`` is the predicted number, all in order),
        ``predictions`` (item, softmax: whether netferry applied one, top: label, class, score; with ``output`` they are
        in the file only), ``count``, ``skipped``, ``device``, ``provider``, ``preprocessing`` and whose it is,
        ``notes``; for sounds ``timelines``: every patch's answers. Of a network that gives boxes ``predictions`` have
        item, size (height, width) and ``objects``: label, class, score, box (left, top, right, bottom in pixels of the
        picture); all that are above the network's threshold.
    """
    from netferry.api.detecting import detect
    from netferry.api.features import opened
    from netferry.runtime.data.item import Shard
    from netferry.runtime.detect import is_detector
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
        part = Shard.parse(shard)
        specs = files.inputs(pictures)
        labels, sheet = files.input(labels), files.output(annotate)
        with as_onnx(files.input(source), files.input(weights), files.options(reading)) as path:
            session = Session(path, device, threads, spin=False)
            if is_detector(session):
                if out_raw is not None or scores is not None:
                    raise UsageError("a network that gives boxes has no scores of all classes", file=session.file)
                told = detect(
                    session, opened(specs, session.inputs, data_options).part(part), labels=label_names(labels),
                    changes=changes, output=files.output(output), annotate=sheet, batch_size=batch_size,
                    workers=workers, on_error=on_error, progress=progress,
                )  # fmt: skip
                result = {**_where(source, session), **told, **({} if output is None else {"output": str(output)})}
                return files.named(result)
            classifier = Classifier(session, labels=label_names(labels), output=scores, changes=changes)
            items = opened(specs, session.inputs, data_options).part(part)
            run = _Run(classifier, top, files.output(output), files.output(out_raw))
            run.keeps = annotate is not None or classifier.feed.sound is not None
            found = run(items, batch_size, on_error, workers, progress)
        timeline: dict[str, Any] = {}
        if classifier.feed.sound is not None:
            from netferry.api.sounds import timelines

            timeline["timelines"] = timelines(classifier, found, run.patches, top, sheet)
        elif annotate is not None:
            from netferry.runtime.annotate import annotate as draw

            draw(found, sheet)
    result = {
        **_where(source, session),
        "preprocessing": classifier.recipe.as_dict(),
        "preprocessing_from": classifier.recipe_from,
        "task": classifier.task,
        "predictions": [p.as_dict() for p in found if p.error is None] if output is None else [],
        "count": run.count,
        "skipped": run.skipped,
        **{name: str(file) for name, file in (("output", output), ("out_raw", out_raw)) if file is not None},
        "notes": classifier.feed.notes,
        **timeline,
    }
    return files.named(result)


def _where(source: StrPath | Model, session: Session) -> dict[str, Any]:
    model = str(source) if isinstance(source, (str, Path)) else source.graph.name
    return {"model": model, "device": session.device, "provider": session.provider}


class _Run:
    """Items through a classifier into files, and into memory as far as they are still wanted there."""

    def __init__(self, classifier: Classifier, top: int, output: StrPath | None, raw: StrPath | None) -> None:
        self.classifier, self.top, self.output, self.raw = classifier, top, output, raw
        self.keeps = False
        self.patches: list[np.ndarray | None] = []
        self.count = 0
        self.skipped: list[dict[str, Any]] = []
        if top < 1:
            raise UsageError(f"top must be at least 1, not {top}")
        if classifier.task == "values" and classifier.labels is not None:
            self.top = len(classifier.labels)  # all of them, in order

    def __call__(
        self, items: Data, batch: int, on_error: str, workers: int | None, progress: Callable[[int], None] | None
    ) -> list[Prediction]:
        from netferry.runtime.annotate import MAX_ON_SHEET
        from netferry.runtime.answers import answers

        found: list[Prediction] = []
        with ExitStack() as stack:
            write = None if self.output is None else stack.enter_context(answers(Path(self.output), self.top))
            keep = None if self.raw is None else stack.enter_context(self._raw(Path(self.raw), batch))
            patches = {} if self.classifier.feed.sound is not None else None
            scored = self.classifier.scored(items, batch, on_error=on_error, workers=workers, patches=patches)
            for loaded, scores in scored:
                prediction = self.classifier.answer(loaded, scores, self.top)
                self.count += prediction.error is None
                if prediction.error is not None:
                    self.skipped.append(prediction.as_dict())
                if write is not None:
                    write(prediction)
                if keep is not None:
                    keep(loaded, scores)
                if self.output is None or self.keeps:
                    # pictures that nobody looks at any more are let go of
                    wanted = len(found) < MAX_ON_SHEET or self.classifier.feed.sound is not None
                    found.append(prediction if wanted else replace(prediction, source=None))
                    self.patches.append(patches.pop(loaded.item.number, None) if patches is not None else None)
                if progress is not None:
                    progress(1)
        return found

    @contextmanager
    def _raw(self, output: Path, batch: int) -> Iterator[Callable[[Loaded[Any], np.ndarray | None], None]]:
        """Raw scores as a file of features of one layer, the output."""
        import numpy as np

        from netferry.runtime.features.extract import row_of
        from netferry.runtime.features.parts import Parts, folder_of
        from netferry.runtime.features.write import check_output, write

        name = self.classifier.output.name
        check_output(output, [name])
        parts = Parts(folder_of(output), {}, [name], restart=True)
        rows: list[Row] = []
        values: list[np.ndarray] = []

        def flush() -> None:
            if rows:
                parts.append(rows, [np.asarray(values, np.float32)])
                rows.clear()
                values.clear()

        def keep(loaded: Loaded[Any], scores: np.ndarray | None) -> None:
            rows.append(row_of(loaded))
            if scores is not None:
                values.append(scores)
            if len(rows) >= 16 * batch:
                flush()

        try:
            yield keep
            flush()
            write(parts, output, {"scores": name, "labels": self.classifier.labels})
        finally:
            parts.remove()


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
