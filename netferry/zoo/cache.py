"""The cache of published weights: one folder per network, a file appears in it only when it is whole and right.

``<cache>/zoo/<name>/<file>`` with ``<file>.json`` beside it (size, SHA-256, where it came from, what vouched for it);
``<file>.part`` is a download that goes on next time. A lock file lets several processes pull at once.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from netferry.errors import CheckFailed, DownloadFailed, InputError, NetferryError, OutputError
from netferry.schemas.publish import write_whole
from netferry.zoo.catalogue import Entry
from netferry.zoo.digests import digest
from netferry.zoo.download import Got, Progress, Wanted, download

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
        refresh: bool = False,
    ) -> dict[str, Any]:
        """Return what is known of a network's weights in the cache, after bringing them there where they are not.

        Weights without a published checksum must stay what they were when they came first: their SHA-256 is kept, also
        where the file is gone or damaged, and another file is refused.

        Args:
            refresh: fetch them anew, and take another file than that of the first time.

        Raises:
            DownloadFailed: they cannot be had.
            CheckFailed: a file given by hand is not right.
            OutputError: the cache cannot be written.
        """
        from filelock import FileLock

        urls = [*(_file_address(m, entry) for m in mirrors), *entry.addresses]
        place = self._place(entry)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"the cache cannot be written: {error.strerror}", file=place.parent) from None
        named = {"name": entry.name, "variant": entry.variant}
        with FileLock(place.with_name(f".{place.name}.lock")):
            known = _record(place)
            if file is None and not refresh:
                found = _intact(place, known, entry)
                if found is not None:
                    return found | named | {"from_cache": True}
            first = None if refresh or entry.checksum is not None or known is None else known["sha256"]
            part = place.with_name(f"{place.name}.part")
            if file is not None:
                got = _copied(Path(file), part, entry, first, check)
            elif not urls:
                raise DownloadFailed(f"no address serves the weights of {entry.name}", hint=entry.way_by_hand)
            else:
                most = entry.bytes or entry.parameters * 8 + _SLACK
                wanted = Wanted(entry.bytes, entry.checksum, most, first, check)
                got = _fetched(urls, part, wanted, progress, self.settings)
            return _settle(part, place, got) | named | {"from_cache": False}

    def find(self, entry: Entry) -> dict[str, Any] | None:
        """Return the record of a network's weights, where the cache has them; the file is not read."""
        place = self._place(entry)
        known = _record(place)
        if known is None or not os.path.isfile(place):
            return None
        return known | {"file": str(place), "name": entry.name, "variant": entry.variant}

    def _place(self, entry: Entry) -> Path:
        return self.root / entry.name / entry.file_name


def _file_address(mirror: str, entry: Entry) -> str:
    """A mirror that ends in / is a folder that holds the file under its official name."""
    return mirror + entry.file_name if mirror.endswith("/") else mirror


def _record(place: Path) -> dict[str, Any] | None:
    """What was noted when a file came into the cache."""
    try:
        record = json.loads(place.with_name(f"{place.name}.json").read_text("utf-8"))
        return record if isinstance(record["bytes"], int) and len(record["sha256"]) == 64 else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _intact(place: Path, known: dict[str, Any] | None, entry: Entry) -> dict[str, Any] | None:
    """The record of a file that is there, still is what it was, and is what the catalogue now knows of it."""
    try:
        if known is not None and place.stat().st_size == known["bytes"]:
            published = dict([entry.checksum.split(":")]) if entry.checksum else {}
            wanted = {"sha256": known["sha256"], **published}
            if all(digest(place, algorithm) == hexes for algorithm, hexes in wanted.items()):
                return known | {"file": str(place)}
    except OSError:
        pass
    place.unlink(missing_ok=True)
    return None


_OTHER = "take the other file with --refresh, where you know why it changed"


def _fetched(
    urls: Sequence[str], part: Path, wanted: Wanted, progress: Progress | None, settings: dict[str, Any]
) -> Got:
    try:
        return download(urls, part, wanted, progress=progress, **settings)
    except DownloadFailed as error:
        if wanted.first is not None and "the first download's" in error.reason:
            raise DownloadFailed(error.reason, hint=_OTHER) from None
        raise


def _copied(given: Path, part: Path, entry: Entry, first: str | None, check: Callable[[Path], None] | None) -> Got:
    """Bring a file given by hand to ``part``, where it is right."""
    if not os.path.isfile(given):
        raise InputError("no such file", file=given)
    vouched = "given by hand"
    if entry.checksum is not None:
        algorithm, _, hexes = entry.checksum.partition(":")
        if digest(given, algorithm) != hexes:
            hint = f"netferry zoo build {entry.name} --weights FILE takes any weights that fit the network"
            raise CheckFailed(
                f"does not have the published {algorithm} of {entry.name}'s weights", file=given, hint=hint
            )
        vouched += f", published {algorithm}"
    elif first is not None and digest(given, "sha256") != first:
        raise CheckFailed("is another file than the one that was pulled first", file=given, hint=_OTHER)
    if check is not None:
        try:
            check(given)
        except NetferryError as error:
            raise error.at(file=given) from None
    try:
        shutil.copyfile(given, part)
    except OSError as error:
        raise OutputError(f"the cache cannot be written: {error.strerror}", file=part) from None
    return Got(str(given), vouched, entry.checksum)


def _settle(part: Path, place: Path, got: Got) -> dict[str, Any]:
    """Move a right file to its place; the record follows, so that a file without one counts as not there."""
    record = {
        "bytes": part.stat().st_size,
        "sha256": digest(part, "sha256"),
        "source": got.url,
        "checked_by": got.vouched,
        "checksum": got.checksum,
    }
    try:
        os.replace(part, place)
        write_whole(place.with_name(f"{place.name}.json"), json.dumps(record, indent=2) + "\n")
        part.with_name(f"{part.name}.json").unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"the cache cannot be written: {error.strerror}", file=place) from None
    return record | {"file": str(place)}
