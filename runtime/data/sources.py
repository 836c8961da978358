"""``open_data``: whatever a user names, as one sequence of items."""

from __future__ import annotations

import glob
import io
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from netferry.errors import InputError, LimitExceeded, UsageError
from netferry.runtime.data.arrays import ARRAY_SUFFIXES, Choice, array_items, stream_items
from netferry.runtime.data.files import class_names, in_folder, is_picture, is_sound, labelled, matching
from netferry.runtime.data.index import Columns, csv_index, json_lines, lines_of, parquet_index, split_lines, text_list
from netferry.runtime.data.item import Item, Shard
from netferry.runtime.data.tars import TAR_SUFFIXES, tar_items
from netferry.runtime.decoding import Picture
from netferry.schemas.remote import Remote, RemoteFolder, RemoteIndex, is_url

Spec = Picture | Item
"""A path, folder, pattern, index, tar or array file, ``-`` for stdin; or an item, picture or array itself."""
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MAX_BRACES = 1_000_000
_PICTURE_HEADS = (b"\x89PNG", b"\xff\xd8\xff", b"BM", b"GIF8", b"II*\0", b"MM\0*", b"RIFF")
_PICTURE_BYTES = 1 << 28


class Data:
    """Items in one fixed order; may be iterated again (not from stdin). Nothing is decoded, little is in memory.

    Attributes:
        shard: which part of the items is given; ``Item.number`` counts in the whole.
    """

    def __init__(self, sources: list[Callable[[], Iterator[Item]]], specs: list[Spec], shard: Shard) -> None:
        self._sources, self._specs, self.shard = sources, specs, shard

    def __iter__(self) -> Iterator[Item]:
        number = 0
        for source in self._sources:
            for item in source():
                if self.shard.holds(number):
                    # a name of a file that is no UTF-8 is told as it can be written
                    yield replace(item, number=number, id=item.id.encode("utf-8", "backslashreplace").decode())
                number += 1

    def part(self, shard: Shard) -> Data:
        """Return a shard of the whole data."""
        return Data(self._sources, self._specs, shard)

    @property
    def names(self) -> list[str]:
        """What was asked for, as text: paths and patterns as given, and how many others."""
        named = [os.fspath(s) for s in self._specs if isinstance(s, str | os.PathLike)]
        others = len(self._specs) - len(named)
        return named + ([f"{others} pictures"] if others else [])

    @property
    def classes(self) -> list[str] | None:
        """Names of the classes, sorted, where the data is one folder with a sub-folder per class; else None."""
        if len(self._specs) != 1 or not isinstance(self._specs[0], str | os.PathLike):
            return None
        folder = Path(self._specs[0])
        return (class_names(folder) or None) if folder.is_dir() else None


def open_data(
    spec: Spec | Iterable[Spec],
    *,
    shard: Shard | str | None = None,
    root: str | os.PathLike[str] | None = None,
    path_column: str | None = None,
    label_column: str | None = None,
    array: str | None = None,
    arrays: str = "auto",
    inputs: Iterable[str] = (),
) -> Data:
    """Return the items that ``spec``, or each of several, names.

    A folder gives its pictures, labelled with the sub-folder; a pattern (``*``, ``?``, ``[``, ``**``; ``{000..009}``)
    its files; ``.txt``/``.lst`` lists, ``.csv``/``.tsv``, ``.jsonl`` and ``.parquet`` indexes their rows; ``.tar``
    (also compressed) webdataset samples; ``.npy``, ``.npz`` and HDF5 their rows. ``-`` is stdin: a picture, a tar,
    a .npy, or paths, one a line. Anything else is a picture.

    Args:
        shard: only part i of n (``"1/4"``).
        root: where the paths of an index start (it may be a URL); by default beside it.
        path_column, label_column: columns of an index, where the names are not the usual ones.
        array: which array of a .npz or HDF5 file.
        arrays: whether arrays are ``picture``, or ``tensor`` (the network's input as it is); ``auto`` goes by the type.
        inputs: names of the network's inputs, for files that hold an array for each.

    Raises:
        InputError: no such file, a folder or pattern without pictures.
        UsageError: columns or arrays that are not there.
        FormatError: while iterating: a file is damaged.
    """
    start = RemoteFolder(root) if isinstance(root, str) and is_url(root) else None if root is None else Path(root)
    columns = Columns(path_column, label_column, start)
    choice = Choice(arrays, array, tuple(inputs))
    sources: list[Callable[[], Iterator[Item]]] = []
    if isinstance(spec, Iterator):  # may be endless, or larger than memory
        stream = (i for n, one in enumerate(spec) for make in _sources(one, n, columns, choice) for i in make())
        return Data([_once(lambda: stream)], [], shard if isinstance(shard, Shard) else Shard.parse(shard))
    specs: list[Spec] = [spec] if isinstance(spec, _Single) else list(spec)
    for position, one in enumerate(specs):
        sources.extend(_sources(one, position, columns, choice))
    return Data(sources, specs, shard if isinstance(shard, Shard) else Shard.parse(shard))


_Single = (str, os.PathLike, Image.Image, np.ndarray, bytes, Item, Remote)


def _sources(spec: Spec, position: int, columns: Columns, choice: Choice) -> Iterator[Callable[[], Iterator[Item]]]:
    if isinstance(spec, Item):
        yield lambda: iter((spec,))
        return
    if not isinstance(spec, str | os.PathLike):
        item = Item(f"picture {position}", spec)
        yield lambda: iter((item,))
        return
    if isinstance(spec, RemoteIndex):
        columns = columns if columns.root is not None else replace(columns, root=spec.folder)
        yield lambda: _file(spec.file, columns, choice)
        return
    text = os.fspath(spec)
    try:
        if text == "-":
            yield _once(lambda: _stdin(columns, choice))
        elif os.path.isdir(text):
            yield lambda: in_folder(Path(text))
        elif os.path.exists(text):
            yield lambda: _file(Path(text), columns, choice)
        elif _BRACES.search(text):
            for name in braces(text):
                yield from _sources(name, position, columns, choice)
        elif glob.has_magic(text):
            yield lambda: _pattern(text, columns, choice)
        else:
            raise InputError("no such picture or folder", file=text)
    except ValueError as error:  # a NUL in the name
        raise InputError(str(error), file=text) from None


def _file(path: Path, columns: Columns, choice: Choice, label: str | None = None) -> Iterator[Item]:
    """The items of one file, by its suffix."""
    suffix = path.suffix.lower()
    if suffix in (".txt", ".lst"):
        return text_list(lines_of(path), columns, path)
    if suffix in (".csv", ".tsv"):
        return csv_index(lines_of(path), columns, path)
    if suffix in (".jsonl", ".ndjson"):
        return json_lines(lines_of(path), columns, path)
    if suffix in (".parquet", ".pq"):
        return parquet_index(path, columns)
    if path.name.lower().endswith(TAR_SUFFIXES):
        return tar_items(path, os.fspath(path))
    if suffix in ARRAY_SUFFIXES:
        return array_items(path, choice)
    return iter((Item(os.fspath(path), path, label),))


def _pattern(pattern: str, columns: Columns, choice: Choice) -> Iterator[Item]:
    files = matching(pattern)
    kinds = (is_picture, is_sound, _is_data)
    data = next((chosen for kind in kinds if (chosen := [f for f in files if kind(f)])), None)
    if data is None:
        raise InputError(f"{len(files)} files match, none is a picture or a sound", file=pattern)
    for file in data:
        yield from _file(file, columns, choice, labelled(pattern, file))


def _is_data(file: Path) -> bool:
    return file.name.lower().endswith((*TAR_SUFFIXES, *ARRAY_SUFFIXES, ".parquet", ".csv", ".tsv", ".jsonl", ".txt"))


def braces(text: str) -> list[str]:
    """Return the names that ``shard-{000..009}.tar`` means; leading zeros are kept.

    Raises:
        LimitExceeded: more than a million.
    """
    found = _BRACES.search(text)
    if found is None:
        return [text]
    first, last = int(found[1]), int(found[2])
    if last - first >= _MAX_BRACES:
        raise LimitExceeded(f"{found[0]} means more than {_MAX_BRACES:,} files")
    names: list[str] = []
    for number in range(first, last + 1):
        names += braces(f"{text[: found.start()]}{number:0{len(found[1])}d}{text[found.end() :]}")
    return names


def _once(make: Callable[[], Iterator[Item]]) -> Callable[[], Iterator[Item]]:
    used = False

    def source() -> Iterator[Item]:
        nonlocal used
        if used:
            raise UsageError("this data comes in a stream, which can be read once only")
        used = True
        return make()

    return source


def _stdin(columns: Columns, choice: Choice) -> Iterator[Item]:
    """What comes on stdin: a picture, a tar, a .npy array, or a list of paths."""
    stream: Any = sys.stdin.buffer
    head = stream.peek(512) if hasattr(stream, "peek") else b""
    if head.startswith(b"\x93NUMPY"):
        return stream_items(stream, choice, "stdin")
    if head[257:262] == b"ustar" or head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ")):
        return tar_items(stream, "stdin")
    if head.startswith(_PICTURE_HEADS) or head[4:8] == b"ftyp":
        return iter((Item("stdin", _whole(stream)),))
    text = io.TextIOWrapper(stream, "utf-8-sig", newline="")
    return text_list(split_lines(text, "stdin"), columns, None)


def _whole(stream: IO[bytes]) -> bytes:
    data = stream.read(_PICTURE_BYTES + 1)
    if len(data) > _PICTURE_BYTES:
        raise LimitExceeded(f"the picture has more than {_PICTURE_BYTES:,} bytes", file="stdin")
    return data
