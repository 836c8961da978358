"""Rows on their way into a file of features: appended to parts, committed to a journal, taken up again after a crash.

A folder beside the output holds ``manifest.json`` (what is computed), one binary file per layer, ``rows.jsonl``
(number, item and label of each row, or why it is left out) and ``journal``: a line of sizes after every chunk. What
lies behind the last whole line was never finished and is cut off when the run goes on, so no row is doubled or lost.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from netferry.errors import InputError, MalformedFile, OutputError, UsageError, quoted
from netferry.schemas.publish import write_whole

_SYNC_SECONDS = 5.0


@dataclass(frozen=True)
class Row:
    """One item that was gone over: with features, or with the reason why there are none."""

    number: int
    item: str
    label: str | None = None
    error: str | None = None

    def as_json(self) -> str:
        """One line."""
        fields = {"number": self.number, "item": self.item, "label": self.label, "error": self.error}
        return json.dumps({k: v for k, v in fields.items() if v is not None}, ensure_ascii=True)


@dataclass(frozen=True)
class Column:
    """The features of one layer: shape of a row and element type."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def bytes(self) -> int:
        """Bytes of a row."""
        return self.dtype.itemsize * int(np.prod([1, *self.shape], dtype=object))


class Parts:
    """The folder of a run, opened by one process at a time.

    Args:
        folder: where the parts are kept.
        plan: what is computed; a folder with another plan is not gone on with.
        restart: throw away what is there.

    Attributes:
        columns: one for each layer, known after the first chunk.
        done: how many items were gone over already.
    """

    def __init__(self, folder: Path, plan: Mapping[str, Any], names: Sequence[str], *, restart: bool = False) -> None:
        self.folder, self.names = folder, tuple(names)
        self.columns: list[Column] = []
        self.done = 0
        self._files: list[BinaryIO] = []
        self._open: list[BinaryIO] = []
        self._synced = time.monotonic()
        try:
            if restart:
                shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True, exist_ok=True)
            self._lock()
            known = folder / "manifest.json"
            if known.exists():
                self._same_plan(known, plan)
            else:
                write_whole(known, as_json(plan))
            self._take_up()
        except OSError as error:
            self.close()
            raise OutputError(error.strerror or str(error), file=folder) from None
        except BaseException:
            self.close()
            raise

    def _lock(self) -> None:
        handle = self._opened("lock", "wb")
        try:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:
            pass  # not on Windows
        except OSError:
            raise UsageError("another run is writing here", file=self.folder) from None

    def _same_plan(self, file: Path, plan: Mapping[str, Any]) -> None:
        try:
            known = json.loads(file.read_text("utf-8"))
        except (ValueError, OSError):
            known = None
        wanted = json.loads(json.dumps(plan, default=str))
        if known != wanted:
            changed = [k for k in wanted if not isinstance(known, dict) or known.get(k) != wanted[k]]
            raise UsageError(
                f"an unfinished run with other settings lies here ({', '.join(changed) or 'other fields'} differ)",
                file=self.folder,
                hint="--restart throws it away; or choose another output",
            )

    def _take_up(self) -> None:
        """Cut everything back to the last committed line."""
        sizes, columns = self._last_commit()
        self.columns = columns
        wanted = {"rows.jsonl": sizes["rows"]} | {f"{n}.bin": s for n, s in enumerate(sizes["layers"])}
        for name, size in wanted.items():
            path = self.folder / name
            with path.open("r+b" if path.exists() else "w+b") as file:
                file.seek(0, os.SEEK_END)
                if file.tell() < size:
                    raise MalformedFile(f"{name} is shorter than the journal says", file=self.folder)
                file.truncate(size)
        self.done = sizes["done"]
        self._files = [self._opened(f"{n}.bin", "ab") for n in range(len(self.names))]
        self._rows, self._journal = self._opened("rows.jsonl", "ab"), self._opened("journal", "ab")

    def _opened(self, name: str, mode: str) -> BinaryIO:
        file = cast(BinaryIO, (self.folder / name).open(mode))
        self._open.append(file)
        return file

    def _last_commit(self) -> tuple[dict[str, Any], list[Column]]:
        nothing: dict[str, Any] = {"done": 0, "rows": 0, "layers": [0] * len(self.names)}
        path = self.folder / "journal"
        if not path.exists():
            return nothing, []
        whole = path.read_bytes()
        end = whole.rfind(b"\n") + 1
        if end != len(whole):
            with path.open("r+b") as file:
                file.truncate(end)
        lines = whole[:end].splitlines()
        if not lines:
            return nothing, []
        try:
            sizes = json.loads(lines[-1])
            found = [Column(n, tuple(s), np.dtype(t)) for n, s, t in sizes.get("columns", [])]
            return sizes, found
        except (ValueError, TypeError, KeyError) as error:
            raise MalformedFile(f"the journal cannot be read: {quoted(error)[1:-1]}", file=self.folder) from None

    def rows(self) -> Iterator[Row]:
        """Yield what was gone over, in order."""
        with (self.folder / "rows.jsonl").open("rb") as file:
            for line in file:
                raw = json.loads(line)
                yield Row(raw["number"], raw["item"], raw.get("label"), raw.get("error"))

    def append(self, rows: Sequence[Row], values: Sequence[np.ndarray]) -> None:
        """Append a chunk: rows in order, and per layer the features (n, …) of those without an error; commit it.

        Raises:
            UsageError: rows of another shape than before.
            OutputError: no space.
        """
        try:
            if values and len(values[0]):
                self._check(values)
                for file, array in zip(self._files, values, strict=True):
                    file.write(np.ascontiguousarray(array).data)
            self._rows.write("".join(row.as_json() + "\n" for row in rows).encode())
            self.done += len(rows)
            for file in (*self._files, self._rows):
                file.flush()
            due = time.monotonic() - self._synced > _SYNC_SECONDS
            if due:  # a killed process loses nothing that was flushed; this is for a machine that goes down
                for file in (*self._files, self._rows):
                    os.fsync(file.fileno())
                self._synced = time.monotonic()
            self._journal.write(json.dumps(self._sizes()).encode() + b"\n")
            self._journal.flush()
        except OSError as error:
            raise OutputError(error.strerror or str(error), file=self.folder) from None

    def _sizes(self) -> dict[str, Any]:
        return {
            "done": self.done,
            "rows": self._rows.tell(),
            "layers": [file.tell() for file in self._files],
            "columns": [[c.name, list(c.shape), c.dtype.str] for c in self.columns],
        }

    def _check(self, values: Sequence[np.ndarray]) -> None:
        found = [Column(n, v.shape[1:], v.dtype.newbyteorder("<")) for n, v in zip(self.names, values, strict=True)]
        if not self.columns:
            self.columns = found
        for before, now in zip(self.columns, found, strict=True):
            if before != now:
                raise UsageError(
                    f"layer {quoted(now.name)} gives {list(now.shape)} {now.dtype}, before it was {list(before.shape)} "
                    f"{before.dtype}: the items have different sizes",
                    hint="--pool avg or max gives rows of one size; or --size HEIGHT,WIDTH",
                )

    def blocks(self, index: int, step: int = 1 << 22) -> Iterator[bytes]:
        """Yield the features of a layer as bytes, in order (C order, little-endian)."""
        with (self.folder / f"{index}.bin").open("rb") as file:
            while block := file.read(step):
                yield block

    def close(self) -> None:
        """Let go of the files; the folder stays."""
        for file in self._open:
            with contextlib.suppress(OSError):  # what could not be flushed was not committed
                file.close()

    def leave(self) -> None:
        """Let go of the files: what is done stays for the next try, and where nothing is done nothing stays."""
        if self.done:
            self.close()
        else:
            self.remove()

    def remove(self) -> None:
        """Delete the folder: everything is in the output."""
        self.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def as_json(document: Any) -> str:
    """JSON that any reader takes: ASCII, no NaN."""
    return json.dumps(document, indent=2, ensure_ascii=True, allow_nan=False, default=str) + "\n"


def folder_of(output: Path, shard: str = "") -> Path:
    """Return where the parts of an output lie; another shard has another folder."""
    return output.parent / f".{output.name}{'.' + shard if shard else ''}.parts"


def check_same(parts: Parts, row: Row, item_number: int, item_id: str) -> None:
    """Raise where the data is not what it was when the run began.

    Raises:
        InputError: another item stands in this place now.
    """
    if (row.number, row.item) != (item_number, item_id):
        raise InputError(
            f"the data changed since the run began: item {item_number} was {quoted(row.item)}, now it is "
            f"{quoted(item_id)}",
            file=parts.folder,
            hint="--restart begins anew",
        )
