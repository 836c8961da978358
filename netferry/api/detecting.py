"""``predict`` with a network that finds objects: boxes on the pictures, in a table, in JSON, drawn."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netferry.errors import UsageError, quoted

if TYPE_CHECKING:
    from netferry.runtime.data import Data
    from netferry.runtime.detect import Detection
    from netferry.runtime.session import Session

COLUMNS = ("item", "label", "score", "class", "left", "top", "right", "bottom", "error")


def detect(
    session: Session,
    items: Data,
    *,
    labels: Sequence[str] | None,
    changes: dict[str, Any],
    output: Path | None,
    annotate: Path | None,
    batch_size: int,
    workers: int | None,
    on_error: str,
    progress: Callable[[int], None] | None,
) -> dict[str, Any]:
    """Find the objects on pictures.

    Args:
        session: see :func:`netferry.runtime.detect.is_detector`.
        items: pictures.
        output: write the objects here while they are found: .csv or .tsv (a row for each), .jsonl (a line
            per picture).
        annotate: write the pictures with frames here (PNG).
        labels, changes, batch_size, workers, on_error, progress: see :func:`netferry.api.predict`.

    Returns:
        The part of ``predict``'s result that differs: ``predictions`` (item, size, objects: label, class, score, and
        box: left, top, right, bottom in pixels), ``count``, ``skipped``, ``preprocessing`` and whose it is.
    """
    from netferry.runtime.annotate import MAX_ON_SHEET
    from netferry.runtime.annotate_boxes import annotate_boxes
    from netferry.runtime.detect import Detector

    detector = Detector(session, labels, changes)
    found: list[Detection] = []
    skipped: list[dict[str, Any]] = []
    count = 0
    with ExitStack() as stack:
        write = None if output is None else stack.enter_context(_rows(output))
        for one in detector.detected(items, batch_size, on_error=on_error, workers=workers):
            count += one.error is None
            if one.error is not None:
                skipped.append(one.as_dict())
            if write is not None:
                write(one)
            if output is None or annotate is not None:
                wanted = annotate is not None and len(found) < MAX_ON_SHEET
                found.append(one if wanted else replace(one, source=None))
            if progress is not None:
                progress(1)
    if annotate is not None:
        annotate_boxes(found, annotate)
    return {
        "preprocessing": detector.feed.recipe.as_dict(),
        "preprocessing_from": detector.feed.recipe_from,
        "predictions": [d.as_dict() for d in found if d.error is None] if output is None else [],
        "count": count,
        "skipped": skipped,
        "notes": detector.feed.notes,
    }


@contextmanager
def _rows(output: Path) -> Iterator[Callable[[Detection], None]]:
    """Give a function that writes the objects of a picture; the file appears whole or not at all."""
    from netferry.schemas.publish import whole

    suffix = output.suffix.lower()
    if suffix not in (".csv", ".tsv", ".jsonl"):
        raise UsageError(f"objects are written as .csv, .tsv or .jsonl, not {quoted(suffix)}", file=output)
    with whole(output) as scratch, scratch.open("w", encoding="utf-8", newline="") as file:
        if suffix == ".jsonl":

            def line(one: Detection) -> None:
                file.write(json.dumps(one.as_dict(), ensure_ascii=True) + "\n")

            yield line
            return
        table = csv.writer(file, delimiter="\t" if suffix == ".tsv" else ",", lineterminator="\n")
        table.writerow(COLUMNS)

        def write(one: Detection) -> None:
            for row in one.objects:
                table.writerow([one.item, row.label, row.score, row.index, *row.box, ""])
            if one.error is not None:
                table.writerow([one.item, *[""] * 7, one.error.reason])

        yield write
