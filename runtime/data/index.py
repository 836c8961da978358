"""Indexes: text lists, CSV, JSON lines and Parquet files that name pictures (or hold them) with their labels.

A path in an index is looked for beside the index, then from the working folder; ``root`` names another place.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netferry.errors import InputError, LimitExceeded, MalformedFile, MissingExtra, UsageError, quoted
from netferry.runtime.data.files import is_picture
from netferry.runtime.data.item import Item
from netferry.schemas.opening import open_regular, open_text
from netferry.schemas.remote import Remote, RemoteFolder, is_url

PATH_NAMES = (
    "path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "img", "picture", "item",
    "uri", "x",
)  # fmt: skip
"""Names of the column with the picture, in order of preference; case does not count."""
LABEL_NAMES = ("label", "class", "class_name", "target", "category", "labels", "y", "annotation")
MAX_LINE = 1 << 20
"""Longest line of a text index, in characters."""
_PICTURE_BYTES = 1 << 28


@dataclass(frozen=True)
class Columns:
    """Which columns hold the picture and its label, where the names are not usual ones; and where paths start."""

    path: str | None = None
    label: str | None = None
    root: Path | RemoteFolder | None = None

    def find(self, names: Sequence[str], file: object) -> tuple[str, str | None]:
        """Return the two columns.

        Raises:
            UsageError: no such column; none has a usual name.
        """
        plain = {name.strip().lower(): name for name in reversed(names)}
        for wanted in (self.path, self.label):
            if wanted is not None and wanted not in names:
                raise UsageError(f"no column {quoted(wanted)} (there are {_listed(names)})", file=file)
        path = self.path or next((plain[n] for n in PATH_NAMES if n in plain), None)
        if path is None:
            raise UsageError(
                f"no column is called path, file, image … (there are {_listed(names)})",
                file=file,
                hint="name it: --path-column NAME, and --label-column NAME for the labels",
            )
        return path, self.label or next((plain[n] for n in LABEL_NAMES if n in plain and plain[n] != path), None)

    def place(self, text: str, index: Path | None) -> Path | Remote:
        """Return where a path of an index lies."""
        if self.root is not None:
            return self.root / text
        beside = Path(text) if index is None else index.parent / text
        if is_url(text):
            raise InputError(f"{quoted(text)} is a URL", file=index, hint="--root URL allows its place")
        return Path(text) if not os.path.lexists(beside) and os.path.lexists(text) else beside


def lines_of(file: Path) -> Iterator[str]:
    """Yield the lines of a UTF-8 text file without their ends.

    Raises:
        InputError: it cannot be opened.
        MalformedFile: not UTF-8 text.
        LimitExceeded: a line longer than MAX_LINE.
    """
    try:
        with open_text(file) as text:
            yield from split_lines(text, file)
    except (OSError, ValueError) as error:
        raise _unreadable(error, file) from None


def split_lines(text: io.TextIOBase | io.TextIOWrapper, file: object) -> Iterator[str]:
    """Yield the lines of an open text; errors as :func:`lines_of`."""
    try:
        while line := text.readline(MAX_LINE + 1):
            if len(line) > MAX_LINE:
                raise LimitExceeded(f"a line has more than {MAX_LINE:,} characters", file=file)
            yield line.rstrip("\r\n")
    except UnicodeDecodeError:
        raise MalformedFile("the list is not UTF-8 text", file=file) from None


def text_list(lines: Iterable[str], columns: Columns, index: Path | None) -> Iterator[Item]:
    """Yield the items of a list: a path per line, behind it perhaps a label (``cat.jpg 281``, Caffe's form), separated
    by a tab or by the last blank."""
    for line in lines:
        if not line.strip():
            continue
        if "\t" in line:
            text, _, label = line.partition("\t")
        else:
            text, label = line, ""
            head, _, tail = line.rstrip().rpartition(" ")
            if head and not is_picture(tail) and not _exists(columns.place(line, index)):
                text, label = head, tail
        yield _item(text.strip(), label.strip() or None, columns, index)


def csv_index(lines: Iterable[str], columns: Columns, index: Path | None) -> Iterator[Item]:
    """Yield the rows of a table with commas, semicolons or tabs between; with or without a line of names.

    Raises:
        MalformedFile: a row is broken or has no path.
        UsageError: no column is the picture.
    """
    source = iter(lines)
    first = next((line for line in source if line.strip()), None)
    if first is None:
        raise MalformedFile("the table is empty", file=index)
    delimiter = max((",", ";", "\t"), key=first.count)
    rows = csv.reader(_again(first, source), delimiter=delimiter, strict=True)
    names: list[str] | None = None
    at = (0, 1)
    try:
        for row in rows:
            if names is None:
                names = row
                if not is_picture(row[0] if row else "") or columns.path or columns.label:
                    path, label = columns.find(row, index)
                    at = (row.index(path), len(row) if label is None else row.index(label))
                    continue
            if not row:
                continue
            if len(row) <= at[0] or not row[at[0]]:
                raise MalformedFile("the row has no path", file=index, line=rows.line_num, column=1)
            yield _item(row[at[0]], (row[at[1]] or None) if at[1] < len(row) else None, columns, index)
    except csv.Error as error:
        raise MalformedFile(f"the table is broken: {error}", file=index, line=rows.line_num, column=1) from None


def json_lines(lines: Iterable[str], columns: Columns, index: Path | None) -> Iterator[Item]:
    """Yield the objects of a file with one JSON object a line.

    Raises:
        MalformedFile: a line is no object or has no path.
    """
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise MalformedFile("the line is no JSON object", file=index, line=number, column=1)
        path, label = columns.find(list(row), index)
        if not isinstance(row[path], str):
            raise MalformedFile(f"{quoted(path)} is no text", file=index, line=number, column=1)
        yield _item(row[path], _label(row.get(label) if label else None), columns, index)


def parquet_index(file: Path, columns: Columns) -> Iterator[Item]:
    """Yield the rows of a Parquet file: a path, the encoded picture, or ``{bytes, path}`` as Hugging Face has it.

    Raises:
        MissingExtra: pyarrow is not installed.
        InputError, MalformedFile: it cannot be read.
    """
    try:
        from pyarrow import parquet
    except ImportError:
        raise MissingExtra("pyarrow", "data", "reading a Parquet file") from None
    try:
        with open_regular(file) as opened:
            table = parquet.ParquetFile(opened)
            path, label = columns.find(table.schema_arrow.names, file)
            wanted = [path] if label is None else [path, label]
            number = 0
            for batch in table.iter_batches(64, columns=wanted):
                for row in batch.to_pylist():
                    yield _parquet_row(row[path], _label(row.get(label) if label else None), number, columns, file)
                    number += 1
    except OSError as error:
        if error.strerror:
            raise _unreadable(error, file) from None
        raise MalformedFile(f"the Parquet file cannot be read: {quoted(error)[1:-1]}", file=file) from None
    except ValueError as error:  # pyarrow's errors are ValueErrors
        raise MalformedFile(f"the Parquet file cannot be read: {quoted(error)[1:-1]}", file=file) from None


def _parquet_row(value: Any, label: str | None, number: int, columns: Columns, file: Path) -> Item:
    name = f"{file}#{number}"
    if isinstance(value, dict):
        known = value.get("path")
        name = f"{file}/{known}" if isinstance(known, str) and known else name
        value = value.get("bytes") or known
    if isinstance(value, str):
        return _item(value, label, columns, file)
    if not isinstance(value, bytes):
        raise MalformedFile(f"row {number} holds neither a path nor a picture", file=file)
    if len(value) > _PICTURE_BYTES:
        raise LimitExceeded(f"the picture of row {number} has {len(value):,} bytes", file=file)
    return Item(name, value, label)


def _item(text: str, label: str | None, columns: Columns, index: Path | None) -> Item:
    place = columns.place(text, index)
    return Item(str(place), place, label)


def _exists(place: Path | Remote) -> bool:
    return isinstance(place, Path) and os.path.lexists(place)


def _label(value: Any) -> str | None:
    return None if value is None else str(value)


def _again(first: str, rest: Iterator[str]) -> Iterator[str]:
    # csv wants to see line ends: a quoted field may span lines
    yield first + "\n"
    for line in rest:
        yield line + "\n"


def _unreadable(error: Exception, file: object) -> InputError:
    return InputError(getattr(error, "strerror", None) or str(error), file=file)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(quoted(n) for n in names[:12]) + (" …" if len(names) > 12 else "")
