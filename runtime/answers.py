"""Predictions as a file, written while they are made: CSV, JSON lines or Parquet; it appears whole or not at all."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from netferry.errors import MissingExtra, UsageError, quoted
from netferry.runtime.predict import Prediction
from netferry.schemas.publish import whole

FORMATS = (".csv", ".tsv", ".jsonl", ".parquet", ".pq")
_ROWS = 4096


@contextmanager
def answers(output: Path, top: int) -> Iterator[Callable[[Prediction], None]]:
    """Give a function that writes a prediction.

    A table has a row for each item: ``item``, ``label``, ``score``, ``class``, the same with ``_2``, ``_3`` … for the
    further answers, and ``error`` where the item could not be read. JSON lines hold what ``--json`` prints of it.

    Raises:
        UsageError: no such format.
        MissingExtra: pyarrow is not installed.
        OutputError: the file cannot be written.
    """
    suffix = output.suffix.lower()
    if suffix not in FORMATS:
        raise UsageError(f"predictions are written as {', '.join(FORMATS)}, not {quoted(suffix)}", file=output)
    if suffix in (".parquet", ".pq"):
        with _parquet(output, top) as write:
            yield write
        return
    with whole(output) as scratch, scratch.open("w", encoding="utf-8", newline="") as file:
        if suffix == ".jsonl":
            yield lambda prediction: _line(file, prediction)
        else:
            table = csv.writer(file, delimiter="\t" if suffix == ".tsv" else ",", lineterminator="\n")
            table.writerow(["item", *_columns(top), "error"])
            yield lambda prediction: table.writerow(_row(prediction, top, "")) and None


def _line(file: TextIO, prediction: Prediction) -> None:
    file.write(json.dumps(prediction.as_dict(), ensure_ascii=True) + "\n")


def _columns(top: int) -> list[str]:
    return [f"{name}_{n}" if n > 1 else name for n in range(1, top + 1) for name in ("label", "score", "class")]


def _row(prediction: Prediction, top: int, missing: Any) -> list[Any]:
    row: list[Any] = [prediction.item]
    for answer in prediction.top[:top]:
        row += [answer.label, answer.score, answer.index]
    row += [missing] * (1 + 3 * top - len(row))
    return [*row, missing if prediction.error is None else prediction.error.reason]


@contextmanager
def _parquet(output: Path, top: int) -> Iterator[Callable[[Prediction], None]]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MissingExtra("pyarrow", "data", "writing a Parquet file") from None
    kinds = {"label": pyarrow.string(), "score": pyarrow.float64(), "class": pyarrow.int64()}
    fields = [pyarrow.field(name, kinds[name.partition("_")[0]]) for name in _columns(top)]
    text = pyarrow.string()
    schema = pyarrow.schema([pyarrow.field("item", text), *fields, pyarrow.field("error", text)])
    rows: list[list[Any]] = []
    with whole(output) as scratch, parquet.ParquetWriter(scratch, schema) as out:

        def flush() -> None:
            columns = list(zip(*rows, strict=True)) or [()] * len(schema)
            arrays = [pyarrow.array(c, field.type) for c, field in zip(columns, schema, strict=True)]
            out.write_table(pyarrow.table(arrays, schema=schema))
            rows.clear()

        def write(prediction: Prediction) -> None:
            rows.append(_row(prediction, top, None))
            if len(rows) == _ROWS:
                flush()

        yield write
        flush()
