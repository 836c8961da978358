"""A sheet of some pictures (sounds as spectrograms) of a data set with their labels: a look before training."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from netferry.errors import NetferryError, UsageError, quoted
from netferry.runtime.annotate import drawable, sheet_of, viewed
from netferry.runtime.data.folder import Pictures
from netferry.schemas.publish import whole

MOST = 400
"""More pictures than this do not fit a sheet that anybody can look at."""


def preview(pictures: Pictures, out: str | os.PathLike[str], n: int = 16, *, seed: int = 0) -> list[tuple[str, str]]:
    """Write a PNG of ``n`` pictures chosen at random, with their labels; returns (path, label) of each, as shown.

    A picture that cannot be read has a grey field in its place. Fewer than ``n`` pictures are shown all.

    Args:
        pictures: the data set.
        out: the file to write, ``*.png``.
        n: how many, 1 to 400; 16 give a sheet of 4 x 4.
        seed: of the choice.

    Raises:
        UsageError: no such number, another suffix than .png, or no pictures.
        OutputError: the file cannot be written.
    """
    if not 1 <= n <= MOST:
        raise UsageError(f"a sheet shows 1 to {MOST} pictures, not {n}")
    if Path(out).suffix.lower() != ".png":
        raise UsageError(f"the sheet is a PNG file, not {quoted(Path(out).suffix)}", file=out)
    if not len(pictures):
        raise UsageError("there are no pictures to show")
    rows = np.sort(np.random.default_rng(seed).permutation(len(pictures))[:n])
    files = [pictures.files[i] for i in rows]
    labels = [caption(pictures, int(i)) for i in rows]
    captions = [drawable(label) if _readable(file) else None for file, label in zip(files, labels, strict=True)]
    with whole(out) as scratch:
        sheet_of(files, captions, [f.name for f in files]).save(scratch, "PNG")
    return [(str(file), label) for file, label in zip(files, labels, strict=True)]


def caption(pictures: Pictures, row: int) -> str:
    """The target of one picture as people read it: its class, its labels, or its values."""
    target = pictures.targets[row]
    if pictures.task == "classes":
        return pictures.classes[int(target)]
    if pictures.task == "labels":
        return ", ".join(c for c, on in zip(pictures.classes, target, strict=True) if on) or "(none)"
    return ", ".join(f"{name} {value:.4g}" for name, value in zip(pictures.classes, target, strict=True))


def _readable(file: Path) -> bool:
    try:
        viewed(file)
    except NetferryError:
        return False
    return True
