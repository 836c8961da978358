"""Files of features read back, row by row or whole; and the shards of a run merged."""

from __future__ import annotations

import csv
import heapq
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from netferry.errors import InputError, MalformedFile, UsageError, quoted
from netferry.runtime.data.arrays import Choice, open_arrays
from netferry.runtime.features.parts import Parts, Row, folder_of
from netferry.runtime.features.write import ITEMS, LABELS, NUMBERS, check_output, write

Entry = tuple[Row, tuple[np.ndarray, ...]]
"""A row with the features of each layer."""
_CHUNK = 256


class FeatureFile:
    """A file of features.

    Raises:
        InputError, MalformedFile: it cannot be read.
        UsageError: it holds no features.

    Attributes:
        manifest: what ``OUT.json`` beside it says; empty where there is none.
        layers: names of the layers, in the file's order.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest = _manifest(path)
        with open_arrays(path, Choice()) as arrays:
            names = [n for n in arrays if n not in (NUMBERS, ITEMS, LABELS)]
        known = [layer["name"] for layer in self.manifest.get("layers", [])]
        if path.suffix.lower() == ".npy":
            names = known or ["features"]
        self.layers: list[str] = [n for n in known if n in names] + [n for n in names if n not in known]
        if not self.layers and self.manifest.get("rows") != 0:
            raise UsageError("the file holds no features", file=path)

    def __iter__(self) -> Iterator[Entry]:
        """Yield the rows in the file's order."""
        with open_arrays(self.path, Choice()) as arrays:
            names = [""] if self.path.suffix.lower() == ".npy" else self.layers
            values = zip(*(arrays[n].rows for n in names), strict=True)
            yield from zip(self._rows(arrays), values, strict=True)

    def _rows(self, arrays: Any) -> Iterator[Row]:
        if self.path.suffix.lower() == ".npy":
            yield from _rows_beside(self.path)
            return
        count = next(iter(arrays.values())).count
        numbers = iter(arrays[NUMBERS].rows) if NUMBERS in arrays else iter(range(count))
        items = iter(arrays[ITEMS].rows) if ITEMS in arrays else (f"{self.path}#{n}" for n in range(count))
        labels = iter(arrays[LABELS].rows) if LABELS in arrays else None
        for number, item in zip(numbers, items, strict=True):
            label = None if labels is None else _text(next(labels)) or None
            yield Row(int(number), _text(item), label)

    def whole(self) -> tuple[list[Row], dict[str, np.ndarray]]:
        """Return all rows, and an array (rows, …) for each layer."""
        rows: list[Row] = []
        columns: list[list[np.ndarray]] = [[] for _ in self.layers]
        for row, values in self:
            rows.append(row)
            for column, value in zip(columns, values, strict=True):
                column.append(value)
        return rows, {name: np.stack(column) for name, column in zip(self.layers, columns, strict=True)}


def _manifest(path: Path) -> dict[str, Any]:
    beside = Path(f"{path}.json")
    if not beside.exists():
        return {}
    try:
        found = json.loads(beside.read_text("utf-8"))
        named = [layer["name"] for layer in found.get("layers", [])]
        if not all(isinstance(n, str) for n in named):
            raise ValueError("layers have names")
        return found
    except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
        raise MalformedFile(f"the manifest cannot be read: {quoted(error)[1:-1]}", file=beside) from None


def _rows_beside(path: Path) -> Iterator[Row]:
    beside = Path(f"{path}.rows.csv")
    try:
        with beside.open(encoding="utf-8", newline="") as file:
            for line in csv.DictReader(file):
                yield Row(int(line["number"]), line["item"], line["label"] or None)
    except FileNotFoundError:
        raise InputError("the rows of a .npy are told by this file, which is not there", file=beside) from None
    except (ValueError, KeyError, csv.Error):
        raise MalformedFile("not the rows of a .npy of features", file=beside) from None


def _text(value: Any) -> str:
    plain = value.item() if isinstance(value, np.generic | np.ndarray) else value
    return plain.decode(errors="replace") if isinstance(plain, bytes) else str(plain)


def merge(files: Sequence[Path], output: Path) -> dict[str, Any]:
    """Write the shards of a run as the one file that a run without shards would have given; returns the manifest.

    Raises:
        UsageError: shards of different runs, one twice, or one missing.
        InputError, MalformedFile: a file cannot be read.
        OutputError: the output cannot be written.
    """
    shards = [FeatureFile(file) for file in files]
    if not shards:
        raise UsageError("there is nothing to merge")
    plan = _common_plan(shards)
    filled = [shard for shard in shards if shard.layers]  # more shards than items leave some empty
    layers = filled[0].layers if filled else []
    check_output(output, layers)
    for shard in filled:
        if shard.layers != layers:
            raise UsageError(f"its layers are {', '.join(shard.layers)}, not {', '.join(layers)}", file=shard.path)
    parts = Parts(folder_of(output, "merge"), {"merge": [str(f) for f in files]}, layers, restart=True)
    try:
        rows: list[Row] = []
        values: list[tuple[np.ndarray, ...]] = []
        before = -1
        for row, found in _in_order(shards, filled):
            if row.number == before:
                raise UsageError(f"item {row.number} ({quoted(row.item)}) is in two of the files")
            before = row.number
            rows.append(row)
            if row.error is None:
                values.append(found)
            if len(rows) == _CHUNK:
                _append(parts, rows, values)
                rows, values = [], []
        _append(parts, rows, values)
        write(parts, output, plan)
    finally:
        parts.remove()
    return _manifest(output)


def _append(parts: Parts, rows: Sequence[Row], values: Sequence[tuple[np.ndarray, ...]]) -> None:
    if rows:
        parts.append(rows, [np.stack(column) for column in zip(*values, strict=True)])


def _in_order(shards: Sequence[FeatureFile], filled: Sequence[FeatureFile]) -> Iterator[Entry]:
    """All rows by number, the skipped items among them."""

    def skipped(shard: FeatureFile) -> Iterator[Entry]:
        for raw in shard.manifest.get("skipped", []):
            yield Row(raw["number"], raw["item"], None, raw["error"]), ()

    streams: list[Iterator[Entry]] = [iter(s) for s in filled] + [skipped(s) for s in shards]
    return heapq.merge(*streams, key=lambda entry: entry[0].number)


def _common_plan(shards: Sequence[FeatureFile]) -> dict[str, Any]:
    """What all shards computed, without their shares; every share must be there once."""
    own = ("shard", "rows", "skipped", "layers")
    plans = [{k: v for k, v in shard.manifest.items() if k not in own} for shard in shards]
    for shard, plan in zip(shards, plans, strict=True):
        if plan != plans[0]:
            differing = [k for k in plan | plans[0] if plan.get(k) != plans[0].get(k)]
            raise UsageError(f"this is of another run: {', '.join(differing)} differ", file=shard.path)
    told = [shard.manifest["shard"] for shard in shards if shard.manifest.get("shard")]
    if told:
        count = int(str(told[0]).rpartition("/")[2])
        missing = [f"{i}/{count}" for i in range(1, count + 1) if f"{i}/{count}" not in told]
        if missing:
            raise UsageError(f"shard {', '.join(missing)} is missing")
    return {**plans[0], "shard": "1/1"}
