"""The cache of published weights: one folder per network, a file appears in it only when it is whole and right.

``<cache>/zoo/<name>/<file>`` with ``<file>.json`` beside it (size, SHA-256, where it came from); ``<file>.part`` is a
download that goes on next time. A lock file lets several processes pull at once.
"""

from __future__ import annotations

import json
import os
import shutil
import urllib.parse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from netferry.errors import CheckFailed, DownloadFailed, InputError, NetferryError, OutputError
from netferry.schemas.publish import write_whole
from netferry.zoo.catalogue import Entry
from netferry.zoo.download import Progress, Wanted, digest, download

ENVIRONMENT = "NETFERRY_CACHE"
_SLACK = 64 << 20


def cache_folder(given: str | os.PathLike[str] | None = None) -> Path:
    """Return the cache: as given, else ``NETFERRY_CACHE``, else the platform's folder for caches."""
    if given is not None:
        return Path(given)
    if os.environ.get(ENVIRONMENT):
        return Path(os.environ[ENVIRONMENT])
    import platformdirs

    return Path(platformdirs.user_cache_dir("netferry", appauthor=False))


class Cache:
    """Published weights on this machine.

    Args:
        folder: see :func:`cache_folder`.
        tries, pause, timeout: see :func:`netferry.zoo.download.download`.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | None = None,
        *,
        tries: int = 5,
        pause: float = 0.5,
        timeout: float = 30.0,
    ) -> None:
        self.root = cache_folder(folder) / "zoo"
        self.settings = {"tries": tries, "pause": pause, "timeout": timeout}

    def bring(
        self,
        entry: Entry,
        *,
        mirrors: Sequence[str] = (),
        file: str | os.PathLike[str] | None = None,
        check: Callable[[Path], None] | None = None,
        progress: Progress | None = None,
    ) -> dict[str, Any]:
        """Return what is known of a network's weights in the cache, after bringing them there where they are not.

        Raises:
            DownloadFailed: they cannot be had.
            CheckFailed: a file given by hand is not right.
            OutputError: the cache cannot be written.
        """
        from filelock import FileLock

        urls = [_file_address(m, entry) for m in mirrors] + ([entry.url] if entry.url else [])
        name = _file_name(entry, urls, file)
        place = self.root / entry.name / name
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"the cache cannot be written: {error.strerror}", file=place.parent) from None
        with FileLock(place.with_name(f".{name}.lock")):
            found = _cached(place) if file is None else None
            if found is not None:
                return found | {"name": entry.name, "from_cache": True}
            part = place.with_name(f"{name}.part")
            if file is not None:
                source, vouched = _copied(Path(file), part, entry, check), "given by hand"
            else:
                if not urls:
                    raise DownloadFailed(
                        f"no address serves the weights of {entry.name}",
                        hint=entry.way_by_hand,
                    )
                most = entry.bytes or entry.parameters * 8 + _SLACK
                got = download(
                    urls, part, Wanted(entry.bytes, entry.checksum, most, check), progress=progress, **self.settings
                )
                source, vouched = got.url, got.vouched
            return _settle(part, place, source, vouched) | {"name": entry.name, "from_cache": False}


def _file_address(mirror: str, entry: Entry) -> str:
    """A mirror that ends in / is a folder that holds the file under its official name."""
    if mirror.endswith("/") and entry.url:
        return mirror + entry.url.rsplit("/", 1)[-1]
    return mirror


def _file_name(entry: Entry, urls: Sequence[str], file: str | os.PathLike[str] | None) -> str:
    if file is not None:
        return Path(file).name
    address = entry.url or (urls[0] if urls else f"{entry.name}.weights")
    name = Path(urllib.parse.urlsplit(address).path).name
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in name).lstrip(".") or "weights"


def _cached(place: Path) -> dict[str, Any] | None:
    """The record of a file in the cache, where both are there and the file still is what it was."""
    try:
        record = json.loads(place.with_name(f"{place.name}.json").read_text("utf-8"))
        if place.stat().st_size == record["bytes"] and digest(place, "sha256") == record["sha256"]:
            return record | {"file": str(place)}
    except (OSError, ValueError, KeyError, TypeError):
        pass
    place.unlink(missing_ok=True)
    return None


def _copied(given: Path, part: Path, entry: Entry, check: Callable[[Path], None] | None) -> str:
    if not given.is_file():
        raise InputError("no such file", file=given)
    if entry.checksum is not None:
        algorithm, _, hexes = entry.checksum.partition(":")
        if digest(given, algorithm) != hexes:
            raise CheckFailed(f"does not have the published {algorithm} of {entry.name}'s weights", file=given)
    if check is not None:
        try:
            check(given)
        except NetferryError as error:
            raise error.at(file=given) from None
    try:
        shutil.copyfile(given, part)
    except OSError as error:
        raise OutputError(f"the cache cannot be written: {error.strerror}", file=part) from None
    return str(given)


def _settle(part: Path, place: Path, source: str, vouched: str) -> dict[str, Any]:
    """Move a right file to its place; the record follows, so that a file without one counts as not there."""
    record = {
        "bytes": part.stat().st_size,
        "sha256": digest(part, "sha256"),
        "source": source,
        "checked_by": vouched,
    }
    try:
        os.replace(part, place)
        write_whole(place.with_name(f"{place.name}.json"), json.dumps(record, indent=2) + "\n")
        part.with_name(f"{part.name}.json").unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"the cache cannot be written: {error.strerror}", file=place) from None
    return record | {"file": str(place)}
