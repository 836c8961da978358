"""Tar files of pictures: webdataset shards, read as a stream and never unpacked to disk.

A sample is a run of members whose names agree up to the first dot of the last part (``0001.jpg``, ``0001.cls``): the
picture, and its label in ``.cls``, ``.json`` (label, class …) or ``.txt``; else the folder that holds it in the tar.
Layout: https://github.com/webdataset/webdataset (files of the same stem, in order).
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import IO

from netferry.errors import InputError, LimitExceeded, MalformedFile, quoted
from netferry.runtime.data.files import SUFFIXES
from netferry.runtime.data.index import LABEL_NAMES
from netferry.runtime.data.item import Item
from netferry.schemas.opening import open_regular

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
MAX_MEMBER = 1 << 28
"""Largest member that is read, in bytes."""
_TEXTS = (".cls", ".json", ".txt")


def tar_items(file: Path | IO[bytes], name: str) -> Iterator[Item]:
    """Yield the samples of a tar file or stream.

    Raises:
        InputError: it cannot be opened; it holds no pictures.
        MalformedFile: it is no tar, or cut short.
        LimitExceeded: a member above MAX_MEMBER.
    """
    empty = True
    for key, parts in _samples(file, name):
        picture = next((suffix for suffix in parts if suffix in SUFFIXES), None)
        if picture is not None:
            empty = False
            yield Item(f"{name}/{key}{picture}", parts[picture], _label(key, parts, name))
    if empty:
        raise InputError("no pictures in this tar file", file=name)


def _samples(file: Path | IO[bytes], name: str) -> Iterator[tuple[str, dict[str, bytes]]]:
    """(key, suffix -> content) of each sample; of a suffix the last dotted part counts."""
    current: str | None = None
    parts: dict[str, bytes] = {}
    try:
        with ExitStack() as stack:
            stream = stack.enter_context(open_regular(file)) if isinstance(file, Path) else file
            tar = stack.enter_context(tarfile.open(fileobj=stream, mode="r|*"))
            for member in tar:
                path = PurePosixPath(member.name)
                stem, _, rest = path.name.partition(".")
                suffix = f".{rest.rpartition('.')[2].lower()}"
                if not member.isfile() or not stem or (suffix not in SUFFIXES and suffix not in _TEXTS):
                    continue
                if member.size > MAX_MEMBER:
                    raise LimitExceeded(f"{quoted(member.name)} has {member.size:,} bytes", file=name)
                key = str(path.parent / stem) if path.parent.parts else stem
                if key != current and current is not None:
                    yield current, parts
                    parts = {}
                current = key
                opened = tar.extractfile(member)
                parts.setdefault(suffix, b"" if opened is None else opened.read())
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise MalformedFile(f"the tar file cannot be read: {quoted(error)[1:-1]}", file=name) from None
    except OSError as error:
        if error.errno is None:  # gzip and friends
            raise MalformedFile(f"the tar file cannot be read: {quoted(error)[1:-1]}", file=name) from None
        raise InputError(error.strerror or str(error), file=name) from None
    if current is not None:
        yield current, parts


def _label(key: str, parts: dict[str, bytes], name: str) -> str | None:
    try:
        if ".cls" in parts:
            return parts[".cls"].decode().strip()
        if ".json" in parts:
            row = json.loads(parts[".json"])
            found = next((row[n] for n in LABEL_NAMES if n in row), None) if isinstance(row, dict) else row
            if found is not None and not isinstance(found, dict | list):
                return str(found)
        if ".txt" in parts:
            return parts[".txt"].decode().strip()
    except (ValueError, RecursionError):
        raise MalformedFile(f"the label of {quoted(key)} is no text", file=name) from None
    return PurePosixPath(key).parent.name or None
