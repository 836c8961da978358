"""Class names that a ``.data`` file points to: ``names`` (detectors) or ``labels`` (classifiers)."""

from __future__ import annotations

import os
from pathlib import Path

from netferry.errors import InputError, MalformedFile, UnsafeFile, quoted
from netferry.schemas.labels import MAX_BYTES, read_labels
from netferry.schemas.model_folder import ModelFolder
from netferry.schemas.opening import read_bounded


def read_data(path: Path) -> list[str]:
    """Return the class names of a ``.data`` file.

    The path in the file is looked for from the file's folder on; Darknet's own lists say ``data/coco.names`` of the
    folder that it runs in, so the plain name beside the ``.data`` file counts too. No path leaves the folder.

    Raises:
        InputError: the file, or the names that it points to, cannot be opened.
        MalformedFile: it names no list.
        UnsafeFile: the list lies outside the folder.
    """
    raw = read_bounded(path, MAX_BYTES, "a .data file")
    settings: dict[str, str] = {}
    for line in raw.decode("utf-8", "replace").splitlines():
        key, equals, value = "".join(line.split()).partition("=")
        if equals and key and key[0] not in "#;":
            settings.setdefault(key, value)
    name = settings.get("names") or settings.get("labels")
    if not name:
        raise MalformedFile("names no list of classes (names=, labels=)", file=path)
    try:
        found = inside(ModelFolder(path), name, "list")
    except UnsafeFile as error:
        raise error.at(file=path) from None
    if found is None:
        raise InputError(f"names {quoted(name)}, which is not in its folder", file=path)
    return read_labels(found)


def inside(folder: ModelFolder, name: str, what: str) -> Path | None:
    """Return a file that a file of Darknet's names: from its folder on, or beside it; None where there is none.

    Raises:
        UnsafeFile: it lies outside the folder.
    """
    outside = UnsafeFile(f"the {what} lies outside its folder: {quoted(name)}")
    if "\0" in name or Path(name).is_absolute() or ".." in Path(name).parts:
        raise outside
    for candidate in (folder.path / name, folder.path / Path(name).name):
        if os.path.isfile(candidate):
            if not folder.holds(candidate):
                raise outside
            return candidate
    return None
