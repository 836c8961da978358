"""URLs in place of files: fetched before a verb runs, put in their place after it ended well.

A verb sees local files only; pictures that an index names are fetched when their turn comes.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from netferry.errors import InputError, LimitExceeded, OutputError, quoted
from netferry.schemas.publish import temporary_folder
from netferry.schemas.remote import (
    RemoteFolder,
    RemoteIndex,
    fetch_errors,
    file_system,
    is_url,
    local_path,
    name_of,
    open_stream,
    shown,
)

INDEXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".txt", ".lst", ".parquet", ".pq")
"""Suffixes of data that names pictures lying beside it."""
MAX_BYTES = 64 << 30
"""Most that one call fetches."""
_CHUNK = 1 << 20


class Transfers:
    """The files of one call. Use it as a context: what was fetched is gone at its end, outputs are sent if it
    ends well.

    Args:
        limit: most bytes that are fetched in all.
    """

    def __init__(self, limit: int = MAX_BYTES) -> None:
        self.left = self.limit = limit
        self._stack = ExitStack()
        self._names: dict[str, str] = {}
        self._outputs: list[tuple[Path, str]] = []
        self._unfinished: list[Path] = []

    def __enter__(self) -> Transfers:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        with self._stack:
            if kind is None:
                for folder, url in self._outputs:
                    _send(folder, url)
                for folder in self._unfinished:
                    shutil.rmtree(folder, ignore_errors=True)

    def _name(self, local: Path, url: str) -> None:
        self._names |= {str(local): url, os.path.realpath(local): url}

    def _folder(self) -> Path:
        return self._stack.enter_context(temporary_folder())

    def input(self, location: Any, beside: Sequence[str] = ()) -> Any:
        """Return a local path with the content of a URL (a folder where it is one); anything else as it is.

        Weights that an ONNX file keeps in files beside it come along, as do files whose names go on with one of
        ``beside``, where there are any.

        Raises:
            InputError: there is no such file, or it cannot be fetched. LimitExceeded: more bytes than the limit.
            UsageError: a scheme that is not taken. MissingExtra: what speaks it is not installed.
        """
        if not is_url(location):
            return location
        local = local_path(location)
        if local is not None:
            return local
        with fetch_errors(location, InputError):
            system, path = file_system(location)
            target = self._folder() / name_of(location)
            if not location.startswith("http") and system.isdir(path):
                self._fetch_tree(system, path, target, location)
            else:
                self._fetch(system, path, target, location)
                for name in _weights_of(target):
                    self._fetch(system, _sibling(path, name), target.parent / name, location)
                for end in beside:
                    name = target.name + end
                    try:
                        self._fetch(system, _sibling(path, name), target.with_name(name), location)
                    except Exception as error:
                        # there is none; stores say "forbidden" of that to whoever may not list them
                        if not isinstance(error, FileNotFoundError | PermissionError) and _status(error) != 403:
                            raise
                        target.with_name(name).unlink(missing_ok=True)
        self._name(target, shown(location))
        return target

    def inputs(self, locations: Any, beside: Sequence[str] = ()) -> Any:
        """Return what :meth:`input` returns for each of several (or one), as a list.

        Patterns (``*``; ``{000..009}``) give all files that match. What names no files stays as it is.
        """
        if isinstance(locations, str):
            locations = [locations]
        if not isinstance(locations, list | tuple):
            return locations
        found: list[Any] = []
        for location in (one for given in locations for one in _numbered(given)):
            if is_url(location) and local_path(location) is None and any(c in urlsplit(location).path for c in "*["):
                with fetch_errors(location, InputError):
                    system, path = file_system(location)
                    matches = sorted(system.glob(path))
                    if not matches:
                        raise InputError("nothing matches", file=shown(location))
                    folder = self._folder()
                    for number, match in enumerate(matches):
                        target = folder / f"{number:06d}" / name_of(f"x://x/{match}")
                        target.parent.mkdir()
                        self._fetch(system, match, target, location)
                        scheme = shown(location).partition(":")[0]
                        self._name(target, match if is_url(match) else f"{scheme}://{match}")
                        found.append(target)
            else:
                local = self.input(location, beside)
                found.append(RemoteIndex(local, _folder_of(location)) if self._is_index(location, local) else local)
        return found

    @staticmethod
    def _is_index(location: Any, local: Any) -> bool:
        fetched = is_url(location) and local_path(location) is None
        return fetched and Path(local).suffix.lower() in INDEXES and Path(local).is_file()

    def options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return options of :func:`netferry.load`, those that name files as :meth:`input` returns them."""
        return {k: self.input(v) if k in ("labels", "mean_file", "postprocess") else v for k, v in options.items()}

    def output(self, location: Any, *, resumable: bool = False) -> Any:
        """Return a local path to write to; what lies there (a file, or a folder of them), and beside it, when all ended
        well is sent to the URL.

        Args:
            resumable: what was written stays here, in the cache, where the work ends otherwise: the next try finds it.
        """
        if not is_url(location):
            return location
        local = local_path(location)
        if local is not None:
            return local
        with fetch_errors(location, OutputError):
            file_system(location)  # before the work, not after it
        folder = self._folder()
        if resumable:
            folder = _unfinished(location)
            self._unfinished.append(folder)
        self._outputs.append((folder, location))
        self._name(folder / name_of(location), shown(location))
        self._name(folder, shown(location).rpartition("/")[0])
        return folder / name_of(location)

    def named(self, document: Any) -> Any:
        """Return a report with URLs in place of the local names."""
        if not self._names:
            return document
        if isinstance(document, dict):
            return {key: self.named(value) for key, value in document.items()}
        if isinstance(document, (list, tuple)):
            return [self.named(value) for value in document]
        if not isinstance(document, (str, Path)):
            return document
        text = str(document)
        for known, url in self._names.items():
            if text.startswith(known) and text[len(known) : len(known) + 1] in ("", "/", "."):
                return url + text[len(known) :]
        return document

    def _fetch_tree(self, system: Any, path: str, target: Path, url: str) -> None:
        root = path.rstrip("/")
        for file in sorted(system.find(path)):
            name = file[file.index(root) + len(root) :].lstrip("/") if root in file else file
            parts = PurePosixPath(name).parts
            if not parts or ".." in parts or PurePosixPath(name).is_absolute():
                raise InputError(f"{quoted(name)} lies outside the folder", file=shown(url))
            place = target.joinpath(*parts)
            place.parent.mkdir(parents=True, exist_ok=True)
            self._fetch(system, file, place, url)
        if not target.exists():
            raise InputError("the folder is empty", file=shown(url))

    def _fetch(self, system: Any, path: str, target: Path, url: str) -> None:
        with open_stream(system, path, url) as source, target.open("wb") as file:
            while chunk := source.read(_CHUNK):
                self.left -= len(chunk)
                if self.left < 0:
                    raise LimitExceeded(f"more than {self.limit:,} bytes would be fetched", file=shown(url))
                file.write(chunk)


def _status(error: Exception) -> int | None:
    """The status that a web server answered with, where that is what went wrong."""
    return getattr(error, "status", None)


def _numbered(location: Any) -> list[Any]:
    """A URL with numbers in braces as those that it means; anything else as it is."""
    if not is_url(location) or "{" not in location:
        return [location]
    from netferry.runtime.data.sources import braces

    return braces(location)


def _folder_of(url: str) -> RemoteFolder:
    parts = urlsplit(url)
    return RemoteFolder(urlunsplit((*parts[:2], parts.path.rpartition("/")[0], parts.query, "")))


def _unfinished(url: str) -> Path:
    """A folder of this machine's cache for work on an output; of this URL alone."""
    import hashlib

    from netferry.zoo.cache import cache_folder

    folder = cache_folder() / "unfinished" / hashlib.sha256(url.partition("?")[0].encode()).hexdigest()[:32]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"the cache cannot be written: {error.strerror}", file=folder) from None
    return folder


def _send(folder: Path, url: str) -> None:
    """Send what was written: the file itself last, as others name it only when it is whole; of a folder, reports."""
    main = folder / name_of(url)
    found = [p for p in folder.rglob("*") if p.is_file() and not p.relative_to(folder).parts[0].startswith(".")]
    with fetch_errors(url, OutputError):
        system, path = file_system(url)
        for file in sorted(found, key=lambda p: (p == main, main in p.parents and p.suffix == ".json", p)):
            name = file.relative_to(folder).as_posix()
            _put(system, file, path if file == main else _sibling(path, name), url)


def _put(system: Any, file: Path, place: str, url: str) -> None:
    if url.startswith("http"):
        system.put_file(str(file), place, method="put")
        return
    parent = place.rpartition("/")[0]
    if parent:
        system.makedirs(parent, exist_ok=True)
    system.put_file(str(file), place)


def _sibling(path: str, name: str) -> str:
    """The path of a file beside another; a query (signature) stays."""
    head, question, query = path.partition("?")
    return f"{head.rpartition('/')[0]}/{name}{question}{query}"


def _weights_of(file: Path) -> list[str]:
    """Names of the files in which an ONNX file keeps its weights, those beside it."""
    if file.suffix != ".onnx":
        return []
    import onnx
    from google.protobuf.message import DecodeError

    try:
        proto = onnx.load(file, load_external_data=False)
    except (DecodeError, ValueError):
        return []  # the reader says what is wrong with it
    names = {e.value for t in proto.graph.initializer for e in t.external_data if e.key == "location"}
    return sorted(n for n in names if n and PurePosixPath(n).name == n and n not in (".", "..", file.name))
