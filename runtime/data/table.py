"""Targets that folders cannot say: several labels per picture, numbers to be predicted, from a CSV file or folders."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from netferry.errors import InputError, LimitExceeded, MalformedFile, UsageError, quoted
from netferry.runtime.data.folder import ImageFolder, Pictures
from netferry.schemas.opening import open_text

MAX_ROWS = 10_000_000
_FILE_COLUMNS = ("file", "filename", "path", "picture", "image")
_SEPARATORS = (";", "|")


def read_table(path: str | os.PathLike[str], task: str | None = None) -> Pictures:
    """Read pictures with their targets from a CSV file with a header.

    The first column, or one called file, filename, path, picture or image, names the picture, relative to the CSV's
    folder. What the others are:

    - one column ``label`` or ``class``: one class each;
    - one column ``labels`` (``cat;outdoors``): several labels each;
    - numbers, all 0 or 1, in two or more columns: labels that are set;
    - other numbers: values to be predicted.

    Args:
        path: the file.
        task: ``classes``, ``labels`` or ``values``, where the columns may be read in several ways.

    Raises:
        InputError: it cannot be opened, or a picture is missing.
        MalformedFile: no header, rows of other lengths, numbers that are none.
    """
    file = Path(path)
    header, rows = _rows(file)
    place = next((i for i, name in enumerate(header) if name.strip().lower() in _FILE_COLUMNS), 0)
    names = [name.strip() for i, name in enumerate(header) if i != place]
    if not names:
        raise MalformedFile("has no column beside the pictures", file=file)
    files = tuple(_picture(file, row[place], line) for line, row in rows)
    cells = [[c.strip() for i, c in enumerate(row) if i != place] for _, row in rows]
    single = [c[0] for c in cells]
    if len(names) == 1 and (task in ("classes", "labels") or (task is None and not _are_numbers(cells))):
        several = task == "labels" or (task is None and names[0].lower() == "labels")
        return _several(file, files, single) if several else _one_each(file, files, single)
    numbers = _numbers(file, cells, [line for line, _ in rows])
    zero_one = bool(np.isin(numbers, (0, 1)).all()) and len(names) > 1
    return Pictures(file.parent, files, numbers, tuple(names), task or ("labels" if zero_one else "values"))


def labels_from_folders(root: str | os.PathLike[str]) -> Pictures:
    """Pictures with several labels: one that lies, under the same name, in several sub-folders has all their names."""
    found = ImageFolder(root)
    groups: dict[str, list[int]] = {}
    for row, file in enumerate(found.files):
        groups.setdefault(file.name, []).append(row)
    targets = np.zeros((len(groups), found.num_classes), np.float32)
    for number, rows in enumerate(groups.values()):
        targets[number, found.targets[rows]] = 1
    files = tuple(found.files[rows[0]] for rows in groups.values())
    return Pictures(found.root, files, targets, found.classes, "labels")


def _rows(file: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    try:
        with open_text(file) as opened:
            reader = csv.reader(opened)
            header = next(reader, [])
            rows: list[tuple[int, list[str]]] = []
            for row in reader:
                if not row:
                    continue
                if len(row) != len(header):
                    raise MalformedFile(f"has {len(row)} cells, the header {len(header)}", file=file,
                                        line=reader.line_num, column=1)  # fmt: skip
                rows.append((reader.line_num, row))
                if len(rows) > MAX_ROWS:
                    raise LimitExceeded(f"more than {MAX_ROWS:,} rows", file=file)
    except (OSError, ValueError, csv.Error) as error:
        if isinstance(error, (UnicodeDecodeError, csv.Error)):
            raise MalformedFile(f"is no CSV file in UTF-8 ({quoted(error)[1:-1]})", file=file) from None
        raise InputError(getattr(error, "strerror", None) or str(error), file=file) from None
    if not rows:
        raise MalformedFile("has no rows under its header", file=file)
    return header, rows


def _picture(file: Path, cell: str, line: int) -> Path:
    place = file.parent / cell.strip()
    if not os.path.isfile(place):
        raise InputError(f"no such picture (line {line} of {file.name})", file=place)
    return place


def _are_numbers(cells: Sequence[Sequence[str]]) -> bool:
    try:
        return bool(np.isfinite([[float(v) for v in row] for row in cells]).all())
    except ValueError:
        return False


def _numbers(file: Path, cells: Sequence[Sequence[str]], lines: Sequence[int]) -> np.ndarray:
    out = np.zeros((len(cells), len(cells[0])), np.float32)
    for number, (row, line) in enumerate(zip(cells, lines, strict=True)):
        for column, cell in enumerate(row):
            try:
                out[number, column] = float(cell)
            except ValueError:
                raise MalformedFile(f"{quoted(cell)} is no number", file=file, line=line, column=1) from None
    if not np.isfinite(out).all():
        raise MalformedFile("holds numbers that are not finite", file=file)
    return out


def _one_each(file: Path, files: tuple[Path, ...], cells: Sequence[str]) -> Pictures:
    if "" in cells:
        raise UsageError("a picture has no class", file=file)
    classes = tuple(sorted(set(cells)))
    index = {name: i for i, name in enumerate(classes)}
    return Pictures(file.parent, files, np.array([index[c] for c in cells], np.int64), classes)


def _several(file: Path, files: tuple[Path, ...], cells: Sequence[str]) -> Pictures:
    separator = next((s for s in _SEPARATORS if any(s in c for c in cells)), _SEPARATORS[0])
    split = [[w.strip() for w in c.split(separator) if w.strip()] for c in cells]
    classes = tuple(sorted({w for words in split for w in words}))
    if not classes:
        raise UsageError("no picture has a label", file=file)
    index = {name: i for i, name in enumerate(classes)}
    targets = np.zeros((len(split), len(classes)), np.float32)
    for row, words in enumerate(split):
        for word in words:
            targets[row, index[word]] = 1
    return Pictures(file.parent, files, targets, classes, "labels")
