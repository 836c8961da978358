"""Which pictures a command line means: files, folders and patterns, in one order."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from netferry.errors import InputError
from netferry.runtime.preprocess import Picture

SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm",
     ".pnm", ".jp2", ".avif", ".tga", ".pcx")
)  # fmt: skip
"""What counts as a picture inside a folder; a file named by itself is taken whatever its name."""


def expand(items: Iterable[Picture]) -> Iterator[Picture]:
    """Yield single pictures: folders become their pictures (sub-folders included, hidden ones left out), patterns
    with ``*``, ``?`` or ``[`` (``**`` for any depth) their matches, both sorted by name; the rest stays as it is.

    Raises:
        InputError: no such file, or a folder or pattern without pictures.
    """
    for item in items:
        if not isinstance(item, str | os.PathLike):
            yield item
            continue
        path = Path(item)
        try:
            if path.is_dir():
                yield from _in_folder(path)
            elif path.exists():
                yield path
            elif glob.has_magic(os.fspath(path)):
                yield from _matching(os.fspath(path))
            else:
                raise InputError("no such picture or folder", file=path)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            raise InputError(getattr(error, "strerror", None) or str(error), file=path) from None


def _in_folder(folder: Path) -> list[Path]:
    found: list[Path] = []
    for root, folders, files in os.walk(folder):
        folders[:] = [f for f in folders if not f.startswith(".")]
        found += [Path(root, f) for f in files if not f.startswith(".") and Path(f).suffix.lower() in SUFFIXES]
    if not found:
        raise InputError(f"no pictures in this folder ({' '.join(sorted(SUFFIXES))})", file=folder)
    return sorted(found, key=lambda p: p.parts)


def _matching(pattern: str) -> list[Path]:
    found = [Path(p) for p in glob.iglob(pattern, recursive=True)]
    pictures = [p for p in found if p.is_file() and p.suffix.lower() in SUFFIXES]
    if not pictures:
        raise InputError(f"{len(found)} files match, none is a picture" if found else "nothing matches", file=pattern)
    return sorted(pictures, key=lambda p: p.parts)


def named(item: Picture, number: int) -> str:
    """Return what to call a picture in tables: its path, or ``picture 3``."""
    return os.fspath(item) if isinstance(item, str | os.PathLike) else f"picture {number}"
