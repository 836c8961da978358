"""A run's folder: history, checkpoint, plot. What is in it is enough to go on after the process was killed."""

from __future__ import annotations

import csv
import io
import math
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from netferry.errors import MalformedFile, OutputError
from netferry.schemas.publish import whole, write_whole

COLUMNS = ("iteration", "epoch", "phase", "learning_rate", "training_loss", "training_figure", "validation_loss",
           "validation_figure", "seconds")  # fmt: skip
Row = dict[str, float | int | None]
_INTEGERS = {"iteration", "epoch", "phase"}


@dataclass
class Standing:
    """Where a run stands after an iteration; with the weights it is all that going on needs."""

    iteration: int = 0
    """iterations done"""
    best_loss: float = math.inf
    """the smallest so far, which patience waits for"""
    best_worth: tuple[float, ...] = ()
    """of the kept weights; the greater the better"""
    best_iteration: int = 0
    since_best: int = 0
    """validations in a row without a smaller loss"""
    stopped: bool = False
    """whether patience ended the run"""
    seconds: float = 0.0


@dataclass
class RunFolder:
    """The files of one run; a folder of None keeps the history in memory alone."""

    path: Path | None
    rows: list[Row] = field(default_factory=list)
    _written: int = 0
    _spent: dict[str, float] = field(default_factory=dict)
    _last: dict[str, float] = field(default_factory=dict)

    @property
    def checkpoint(self) -> Path | None:
        """The file from which a run goes on."""
        return None if self.path is None else self.path / "checkpoints" / "last.pt"

    @property
    def history(self) -> Path | None:
        """One line per iteration."""
        return None if self.path is None else self.path / "history.csv"

    def start(self) -> None:
        """Make the folder and empty it of an older run's files."""
        if self.path is None:
            return
        try:
            (self.path / "checkpoints").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(error.strerror or str(error), file=self.path) from None
        for old in [self.history, *(self.path / "checkpoints").glob("*.pt"), *self._leftovers()]:
            if old is not None:
                old.unlink(missing_ok=True)
        self.rows, self._written = [], 0

    def resume(self, iteration: int) -> None:
        """Take the history up to an iteration; what a killed process wrote beyond is dropped."""
        self.rows = [r for r in read_history(self.history) if int(r["iteration"] or 0) <= iteration]
        for leftover in self._leftovers():
            leftover.unlink(missing_ok=True)
        self._rewrite()

    def _leftovers(self) -> Iterable[Path]:
        if self.path is None:
            return []
        return [*self.path.glob(".netferry-*.tmp"), *(self.path / "checkpoints").glob(".netferry-*.tmp")]

    def flush(self) -> None:
        """Append new rows to the file."""
        if self.history is None or self._written == len(self.rows):
            return
        if not self._written:
            self._rewrite()
            return
        try:
            with self.history.open("a", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows(map(_cells, self.rows[self._written :]))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OutputError(error.strerror or str(error), file=self.history) from None
        self._written = len(self.rows)

    def _rewrite(self) -> None:
        if self.history is not None:
            text = io.StringIO(newline="")
            writer = csv.writer(text)
            writer.writerow(COLUMNS)
            writer.writerows(map(_cells, self.rows))
            write_whole(self.history, text.getvalue())
        self._written = len(self.rows)

    def save(self, document: dict[str, Any]) -> None:
        """Write the checkpoint, whole or not at all."""
        import torch

        if self.checkpoint is not None:
            with whole(self.checkpoint) as scratch:
                torch.save(document, scratch)

    def load(self) -> dict[str, Any] | None:
        """Read the checkpoint; None where there is none. Tensors and plain values alone are read, never objects.

        Raises:
            MalformedFile: it is damaged, or no checkpoint of ours.
        """
        import torch

        if self.checkpoint is None or not self.checkpoint.exists():
            return None
        try:
            found = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        except Exception as error:  # pickle's own errors and torch's are of many kinds
            reason = f"is no checkpoint ({type(error).__name__})"
            raise MalformedFile(reason, file=self.checkpoint, hint="start anew without --resume") from None
        if not isinstance(found, dict) or "standing" not in found:
            raise MalformedFile("is no checkpoint of netferry", file=self.checkpoint)
        return found

    def due(self, what: str, share: float = 0.05) -> bool:
        """Whether something costly may be done again: it shall take at most ``share`` of the time."""
        spent, last = self._spent.get(what), self._last.get(what, 0.0)
        return self.path is not None and (spent is None or time.monotonic() - last >= spent / share)

    def timed(self, what: str, seconds: float) -> None:
        """Remember what it took."""
        self._spent[what], self._last[what] = seconds, time.monotonic()


def read_history(path: Path | None) -> list[Row]:
    """Rows of a history file; a last line cut short is left out."""
    if path is None or not path.exists():
        return []
    rows: list[Row] = []
    with path.open(newline="", encoding="utf-8") as file:
        for raw in csv.DictReader(file):
            with suppress(ValueError, TypeError):
                rows.append({c: _number(c, raw[c]) for c in COLUMNS})
    return rows


def _number(column: str, text: str) -> float | int | None:
    if text == "":
        return None
    return int(text) if column in _INTEGERS else float(text)


def _cells(row: Row) -> list[str]:
    return ["" if row.get(c) is None else repr(row[c]) for c in COLUMNS]
