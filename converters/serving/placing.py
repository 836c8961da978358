"""Packages appear whole or not at all; the same contents again change nothing; others count the version up.

Each folder has a manifest, ``netferry.json``: its version, a fingerprint, and the hashes of netferry's files. What
others put beside those files stays; a file of netferry's that was edited since is not overwritten unless asked.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from netferry.converters.serving.contents import Unit, as_json
from netferry.errors import MalformedFile, OutputError, quoted

MANIFEST = "netferry.json"


def publish(
    units: list[Unit],
    out: Path,
    *,
    staging: Path,
    facts: dict[str, Any],
    overwrite: bool = False,
    elsewhere: frozenset[Path] = frozenset(),
) -> list[dict[str, Any]]:
    """Put the folders of a package under ``out``.

    Args:
        units: what goes there; their files are moved.
        out: the folder; made where missing.
        staging: a folder on the same disk where the new ones are put together.
        facts: entries of every manifest.
        overwrite: replace files of netferry's that were edited, and put files into a folder that it did not make.
        elsewhere: files under ``out`` that only stand in for those of a store; they count as unchanged.

    Returns:
        Per folder: ``folder``, ``version``, ``unchanged``, ``files``.

    Raises:
        OutputError: the folder is another's, or was edited; nothing is changed then.
    """
    jobs = [
        _Job(unit, out / unit.folder if unit.folder else out, staging, facts, overwrite, elsewhere) for unit in units
    ]
    for job in jobs:
        job.prepare()
    done: list[_Job] = []
    try:
        for job in jobs:
            done.append(job)
            job.swap()
    except BaseException as error:
        for job in reversed(done):
            job.undo()
        if isinstance(error, OSError):
            raise OutputError(f"cannot be written: {error.strerror or error}", file=out) from error
        raise
    for job in jobs:
        job.clean()
    return [job.result() for job in jobs]


class _Job:
    """One folder on its way to its place."""

    def __init__(
        self,
        unit: Unit,
        target: Path,
        staging: Path,
        facts: dict[str, Any],
        overwrite: bool,
        elsewhere: frozenset[Path],
    ) -> None:
        self.elsewhere = elsewhere
        self.unit, self.target, self.overwrite, self.facts = unit, target, overwrite, facts
        self.staged = staging / f"new-{secrets.token_hex(4)}"
        self.old = target.parent / f".netferry-{secrets.token_hex(8)}.old"
        self.hashes = {name: _hash(content) for name, content in unit.files.items()}
        self.versioned = {name: _hash(content) for name, content in unit.versioned.items()}
        self.fingerprint = hashlib.sha256(
            json.dumps([self.hashes, self.versioned], sort_keys=True).encode()
        ).hexdigest()
        self.known: dict[str, Any] = {}
        self.version, self.unchanged, self.swapped = 1, False, False

    def prepare(self) -> None:
        """Look at what is there, and put the new folder together."""
        if self.target.exists():
            self._look()
        if self.unchanged:
            return
        self.staged.mkdir(parents=True)
        for name, content in self._files().items():
            place = self.staged / name
            place.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, Path):
                os.replace(content, place)
            else:
                place.write_bytes(content)

    def _files(self) -> dict[str, bytes | Path]:
        versioned = {f"{self.version}/{name}": content for name, content in self.unit.versioned.items()}
        hashes = self.hashes | {f"{self.version}/{name}": h for name, h in self.versioned.items()}
        manifest = {
            **self.facts, **self.unit.facts, "version": self.version, "fingerprint": self.fingerprint,
            "files": dict(sorted(hashes.items())),
        }  # fmt: skip
        return {**self.unit.files, **versioned, MANIFEST: as_json(manifest)}

    def _look(self) -> None:
        if not self.target.is_dir():
            raise OutputError("is a file, not a folder", file=self.target)
        there = list(self.target.iterdir())
        path = self.target / MANIFEST
        if path.exists():
            self.known = _manifest(path)
            edited = [name for name, digest in self.known["files"].items() if self._edited(self.target / name, digest)]
            whole = all((self.target / name).is_file() for name in self.known["files"])
            if edited and not self.overwrite:
                raise OutputError(
                    f"{quoted(edited[0])} was changed after netferry wrote it", file=self.target,
                    hint="--overwrite replaces it; or choose another folder or name",
                )  # fmt: skip
            self.unchanged = whole and not edited and self.known["fingerprint"] == self.fingerprint
            self.version = self.known["version"] + (0 if self.unchanged else 1)
        elif there and not self.overwrite:
            raise OutputError(
                "the folder holds files that are not netferry's", file=self.target,
                hint="--overwrite puts the package among them; or choose another folder or name",
            )  # fmt: skip
        if self.unit.versioned and not self.unchanged:
            numbers = [int(p.name) for p in there if p.is_dir() and p.name.isascii() and p.name.isdigit()]
            self.version = max([self.version, *(n + 1 for n in numbers)])

    def _edited(self, file: Path, digest: str) -> bool:
        return file.is_file() and file not in self.elsewhere and _hash(file) != digest

    def swap(self) -> None:
        """Let the new folder take the old one's place, with what others put into that."""
        if self.unchanged:
            return
        self.target.parent.mkdir(parents=True, exist_ok=True)
        if self.target.exists():
            os.replace(self.target, self.old)
        self.swapped = True
        os.replace(self.staged, self.target)
        if self.old.exists():
            ours = {n for n in self.known.get("files", ()) if "/" not in n or not self.unit.versioned} | {MANIFEST}
            _take_over(self.old, self.target, ours)

    def undo(self) -> None:
        """Put everything back."""
        if not self.swapped:
            return
        if self.old.exists():
            with suppress(OSError):
                _take_over(self.target, self.old, set(self._files()))
            shutil.rmtree(self.target, ignore_errors=True)
            with suppress(OSError):
                os.replace(self.old, self.target)
        else:
            shutil.rmtree(self.target, ignore_errors=True)

    def clean(self) -> None:
        """Remove what was replaced."""
        shutil.rmtree(self.old, ignore_errors=True)

    def result(self) -> dict[str, Any]:
        """What happened, as plain data."""
        names = sorted(str(p.relative_to(self.target)) for p in self.target.rglob("*") if p.is_file())
        return {"folder": str(self.target), "version": self.version, "unchanged": self.unchanged, "files": names}


def _take_over(old: Path, new: Path, ours: set[str]) -> None:
    """Move files of ``old`` that are not ``ours``, and that ``new`` does not have, to ``new``."""
    for file in sorted(p for p in old.rglob("*") if p.is_file() or p.is_symlink()):
        name = file.relative_to(old).as_posix()
        place = new / name
        if name not in ours and not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, place)


def _hash(content: bytes | Path) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with content.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _manifest(path: Path) -> dict[str, Any]:
    try:
        raw = json.loads(path.read_bytes()[:10_000_000])
        files = raw["files"]
        good = type(raw["version"]) is int and raw["version"] > 0 and isinstance(raw["fingerprint"], str)
        if not good or not all(isinstance(v, str) and _inside(k) for k, v in files.items()):
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise MalformedFile("is no manifest that netferry wrote", file=path, hint="choose another folder") from None
    return raw


def _inside(name: str) -> bool:
    path = Path(name)
    return not path.is_absolute() and ".." not in path.parts and "\0" not in name
