"""Pictures (or sounds) in folders and behind patterns, in one order."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from pathlib import Path

from netferry.errors import InputError
from netferry.runtime.data.item import Item

SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm",
     ".pnm", ".jp2", ".avif", ".tga", ".pcx")
)  # fmt: skip
"""What counts as a picture inside a folder; a file named by itself is taken whatever its name."""
SOUNDS = frozenset((".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".w64"))
"""What counts as a sound, where there is no picture."""


def is_picture(name: str | os.PathLike[str]) -> bool:
    """Whether a file's name is a picture's."""
    return os.path.splitext(os.fspath(name))[1].lower() in SUFFIXES


def is_sound(name: str | os.PathLike[str]) -> bool:
    """Whether a file's name is a sound's."""
    return os.path.splitext(os.fspath(name))[1].lower() in SOUNDS


def in_folder(folder: Path) -> Iterator[Item]:
    """Yield the pictures of a folder, sorted by name, sub-folders included, hidden ones left out; or its sounds.

    The label is the name of the first sub-folder on the way, as everybody's folder-per-class sets have it. Links to
    folders are followed, but not back to a folder on the way.

    Raises:
        InputError: there are none.
    """
    found: list[Path] = []
    above: dict[str, set[tuple[int, int]]] = {}
    for root, folders, files in os.walk(folder, followlinks=True):
        here = os.stat(root)
        seen = above.pop(root, set()) | {(here.st_dev, here.st_ino)}
        folders[:] = [f for f in folders if not f.startswith(".") and _identity(root, f) not in seen]  # no way back
        above |= {os.path.join(root, f): seen for f in folders}
        found += [Path(root, f) for f in files if not f.startswith(".") and (is_picture(f) or is_sound(f))]
    found = [f for f in found if is_picture(f)] or found
    if not found:
        raise InputError(f"no pictures or sounds in this folder ({' '.join(sorted(SUFFIXES | SOUNDS))})", file=folder)
    for path in sorted(found, key=lambda p: p.parts):
        inside = path.relative_to(folder).parts
        yield Item(os.fspath(path), path, inside[0] if len(inside) > 1 else None)


def _identity(root: str, folder: str) -> tuple[int, int] | None:
    """What tells a folder from others, whatever it is called; None where it is gone."""
    try:
        found = os.stat(os.path.join(root, folder))
    except OSError:
        return None
    return found.st_dev, found.st_ino


def class_names(folder: Path) -> list[str]:
    """Return the names of the sub-folders that hold pictures, sorted: the classes of a folder-per-class set."""
    return sorted({item.label for item in in_folder(folder) if item.label is not None})


def matching(pattern: str) -> list[Path]:
    """Return the files that match a pattern (``*``, ``?``, ``[``; ``**`` for any depth), sorted; hidden ones left out.

    Raises:
        InputError: nothing matches.
    """
    found = [Path(p) for p in glob.iglob(pattern, recursive=True)]
    files = [p for p in found if os.path.isfile(p)]
    if not files:
        raise InputError(f"{len(found)} folders match, no file" if found else "nothing matches", file=pattern)
    return sorted(files, key=lambda p: p.parts)


def labelled(pattern: str, path: Path) -> str | None:
    """Its folder's name, where the pattern leaves the folder open (``*/*.jpg``), else None."""
    return path.parent.name if glob.has_magic(os.path.dirname(pattern)) else None
