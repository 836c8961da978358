"""A folder in an object store, worked on as a local one: what is small comes here, what is large stays there."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath
from typing import Any

from netferry.errors import InputError, LimitExceeded, OutputError, UsageError, quoted
from netferry.schemas.publish import temporary_folder
from netferry.schemas.remote import fetch_errors, file_system, shown

SMALL = 1 << 20
"""Files up to this size come here; larger ones (models) are stood in for by empty ones."""
MAX_FILES = 100_000


class RemoteFolder:
    """A local stand-in for a folder of a store. Use it as a context; :meth:`send` brings the changes there.

    Args:
        url: the folder.
        parts: names of the folders in it that matter; None for all.

    Attributes:
        local: the stand-in.
        elsewhere: files in it whose content is in the store only.

    Raises:
        UsageError: a store that cannot list (http).
    """

    def __init__(self, url: str, parts: tuple[str, ...] | None = None) -> None:
        if url.lower().startswith("http"):
            raise UsageError("a folder goes to a store that can list: s3, gs", file=shown(url))
        self.url, self.parts = url.rstrip("/"), parts
        self.elsewhere: frozenset[Path] = frozenset()
        self._there: dict[str, str | None] = {}

    def __enter__(self) -> RemoteFolder:
        self._scratch = temporary_folder()
        self.local = self._scratch.__enter__() / "folder"
        try:
            with fetch_errors(self.url, InputError):
                self._system, self._path = file_system(self.url)
                self._fetch()
        except BaseException:
            self._scratch.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._scratch.__exit__(None, None, None)

    def _fetch(self) -> None:
        found: dict[str, Any] = self._system.find(self._path, detail=True) if self._system.exists(self._path) else {}
        if len(found) > MAX_FILES:
            raise LimitExceeded(f"the folder has more than {MAX_FILES:,} files", file=shown(self.url))
        root = self._path.strip("/")
        large: set[Path] = set()
        for file, facts in sorted(found.items()):
            name = file.strip("/").removeprefix(root).strip("/")
            where = PurePosixPath(name).parts
            if not where or ".." in where:
                raise InputError(f"{quoted(name)} lies outside the folder", file=shown(self.url))
            if self.parts is not None and where[0] not in self.parts:
                continue
            place = self.local.joinpath(*where)
            place.parent.mkdir(parents=True, exist_ok=True)
            if (facts.get("size") or 0) > SMALL:
                place.touch()
                large.add(place)
                self._there[name] = None
            else:
                place.write_bytes(self._system.cat_file(file))
                self._there[name] = _hash(place)
        self.elsewhere = frozenset(large)

    def send(self) -> None:
        """Send what is new or changed, remove what is gone; what names other files comes after them.

        Raises:
            OutputError: it cannot be written there.
        """
        here = {p.relative_to(self.local).as_posix(): p for p in self.local.rglob("*") if p.is_file()}
        with fetch_errors(self.url, OutputError):
            for name in sorted(here, key=lambda n: (n.endswith("netferry.json"), -n.count("/"), n)):
                file = here[name]
                stands_in = self._there.get(name, "") is None and file.stat().st_size == 0
                if stands_in or self._there.get(name) == _hash(file):
                    continue
                place = f"{self._path.rstrip('/')}/{name}"
                self._system.makedirs(place.rpartition("/")[0], exist_ok=True)
                self._system.put_file(str(file), place)
            for name in self._there.keys() - here.keys():
                self._system.rm_file(f"{self._path.rstrip('/')}/{name}")


def _hash(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
