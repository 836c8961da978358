"""Data sets as the command line sees them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from netferry.api.reading import StrPath

if TYPE_CHECKING:
    from netferry.runtime.data.folder import Pictures


def pictures_of(data: StrPath) -> Pictures:
    """Return the pictures of a folder with one sub-folder per class, of the training set where it holds sets, or those
    that a CSV file names.

    Raises:
        InputError: no such folder, or one without classes or pictures.
    """
    from netferry.runtime.data.folder import ImageFolder, ready_made
    from netferry.runtime.data.table import read_table

    if Path(data).suffix.lower() == ".csv":
        return read_table(data)
    made = ready_made(data)
    return ImageFolder(data) if made is None else made[0]


def preview(pictures: StrPath, target: StrPath = "preview.png", *, n: int = 16, seed: int = 0) -> dict[str, Any]:
    """Draw a sheet of ``n`` random pictures with their labels, from a folder with one sub-folder per class.

    Args:
        pictures: the folder; one with train, validation and test folders shows the training set; or a CSV file that
            names pictures and their classes.
        target: the PNG to write.
        n: how many pictures.
        seed: of the choice.

    Returns:
        ``file``, the ``classes`` with their number of pictures, and the pictures ``shown`` with their labels.

    Raises:
        InputError: no such folder, or one without classes or pictures.
        OutputError: the sheet cannot be written.
    """
    from netferry.runtime.data.preview import preview as draw

    found = pictures_of(pictures)
    shown = draw(found, target, n, seed=seed)
    rows = [{"item": item, "label": label} for item, label in shown]
    return {"file": str(target), "pictures": len(found), "classes": found.counts(), "shown": rows}
