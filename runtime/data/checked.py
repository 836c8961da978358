"""Which files of a data set can be read: tried before training, not met in the middle of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from netferry.errors import InputError, NetferryError, quoted
from netferry.runtime.data.ahead import load_ahead
from netferry.runtime.data.folder import Pictures
from netferry.runtime.data.item import Item
from netferry.runtime.decoding import load_picture

Reader = Callable[[Path], Any]


def readable(
    pictures: Pictures, on_error: str = "fail", *, read: Reader = load_picture, workers: int | None = None
) -> tuple[Pictures, list[dict[str, str]]]:
    """Read every file once, what it holds is dropped; return the set of those that can be read, and the others.

    Args:
        pictures: the data set.
        on_error: ``fail`` at the first file that cannot be read, or ``skip`` it.
        read: reads one file.
        workers: reading threads.

    Returns:
        The set without the unreadable files (the very same where there are none), and ``file`` and ``reason`` of each
        of those.

    Raises:
        UsageError: ``on_error`` is neither.
        InputError: a file cannot be read (``fail``); all files of a class cannot (``skip``).
    """

    def tried(item: Item) -> bool:
        file = pictures.files[item.number]
        try:
            read(file)
        except NetferryError as error:
            raise error.at(file=file) from error.__cause__
        return True

    items = (Item(os.fspath(file), file, number=i) for i, file in enumerate(pictures.files))
    bad: dict[int, str] = {}
    for chunk in load_ahead(items, tried, 16, workers=workers, on_error=on_error):
        bad.update({one.item.number: one.error.reason for one in chunk if one.error is not None})
    return without(pictures, bad), [{"file": str(pictures.files[i]), "reason": bad[i]} for i in bad]


def without(pictures: Pictures, bad: Mapping[int, str]) -> Pictures:
    """The set without the files that cannot be read, given by number with the reason; the very same where none are.

    Raises:
        InputError: all files of a class are such.
    """
    if not bad:
        return pictures
    kept = pictures.subset([i for i in range(len(pictures)) if i not in bad])
    lost = [name for name, count in kept.counts().items() if not count and pictures.counts()[name]]
    if lost or not len(kept):
        named = f"no file of class {quoted(lost[0])}" if lost and pictures.task == "classes" else "no file"
        first = next(iter(bad))
        raise InputError(f"{named} can be read: {bad[first]}", file=pictures.files[first])
    return kept


def all_readable(
    sets: Sequence[Pictures], on_error: str, *, read: Reader = load_picture
) -> tuple[tuple[Pictures, ...], list[dict[str, str]]]:
    """:func:`readable` for several sets."""
    found = [readable(part, on_error, read=read) for part in sets]
    return tuple(part for part, _ in found), [row for _, rows in found for row in rows]
