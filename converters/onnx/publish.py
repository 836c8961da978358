"""Files that appear whole or not at all."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from netferry.schemas.publish import announce, scratch_name

try:
    import fcntl
except ImportError:  # Windows: two conversions to one target are then on their own
    fcntl = None


class Scratch:
    """Hidden files in a target's folder that are gone when the block ends, unless they were moved to their place.

    Folders missing on the way to ``folder`` are made, and removed again where nothing came to be in them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: list[Path] = []
        self._made: list[Path] = []
        self._kept = False

    def __enter__(self) -> Scratch:
        try:
            for parent in reversed([self.folder, *self.folder.parents]):
                if not parent.is_dir():
                    parent.mkdir(exist_ok=True)
                    self._made.append(parent)
                    announce(parent)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            with suppress(OSError):
                file.unlink(missing_ok=True)
        if not self._kept:
            for folder in reversed(self._made):
                with suppress(OSError):
                    folder.rmdir()

    def path(self, name: str | None = None) -> Path:
        """Return a path for a hidden file; whatever is there is removed in the end."""
        file = self.folder / (name or scratch_name())
        self._files.append(file)
        announce(file)
        return file

    @contextmanager
    def writing(self, file: Path) -> Iterator[int]:
        """Make ``file`` and give its descriptor; :meth:`synced` brings its bytes to the disk."""
        fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o666)
        try:
            yield fd
        finally:
            os.close(fd)

    @contextmanager
    def synced(self, file: Path) -> Iterator[Path]:
        """Bring a file's bytes to the disk while the block, which is given it, runs; they are there when it ends."""
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(_sync, file)
            yield file
            done.result()

    def move(self, file: Path, target: Path, *, last: bool = True) -> None:
        """Put a finished file in its place, atomically; after the ``last`` one the folder is there to stay."""
        os.replace(file, target)
        self._kept = self._kept or last
        sync_folder(self.folder)


def _sync(file: Path) -> None:
    fd = os.open(file, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_folder(folder: Path) -> None:
    """Make a folder's entries durable; file systems that cannot are let be."""
    with suppress(OSError):
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let no other conversion put pairs of files into the folder meanwhile (advisory; where there are locks)."""
    if fcntl is None:
        yield
        return
    fd = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def data_name(target: Path, data: Path) -> tuple[str, bool]:
    """Return the name for the weights file beside ``target``, and whether it is there already with the same bytes.

    ``<target>.data`` where that is free or holds the same. Else its content's digest is part of the name: a file that
    an earlier model reads its weights from is never changed, so the earlier model stays whole until the moment in
    which the new one takes its place.
    """
    plain = f"{target.name}.data"
    if not os.path.lexists(target.parent / plain):
        return plain, False
    if _same(target.parent / plain, data):
        return plain, True
    with data.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:12]
    name = f"{target.name}.{digest}.data"
    return name, _same(target.parent / name, data)


def _same(one: Path, other: Path) -> bool:
    if one.is_symlink() or not one.is_file() or one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb") as a, other.open("rb") as b:
        while block := a.read(1 << 20):
            if block != b.read(1 << 20):
                return False
    return True
