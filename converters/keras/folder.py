"""The folder that Keras 3 writes with ``zipped=False``: a .keras archive that was never packed."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from netferry.converters.options import Limits
from netferry.errors import InputError, MalformedFile, UnsafeFile, quoted
from netferry.schemas.model_folder import ModelFolder
from netferry.schemas.opening import read_bounded

if TYPE_CHECKING:
    from netferry.converters.hdf5_data import Place

CONFIG, WEIGHTS, SHARDS = "config.json", "model.weights.h5", "model.weights.json"


def is_keras_folder(path: Path) -> bool:
    """Whether a folder holds what Keras writes: an architecture, and facts about it or weights beside it."""
    beside = ("metadata.json", WEIGHTS, SHARDS)
    return os.path.isfile(path / CONFIG) and any(os.path.isfile(path / name) for name in beside)


def files_of(path: Path) -> list[Path]:
    """The file of the architecture, and that of the weights (or their index) where there is one, of such a folder."""
    weights = [path / name for name in (WEIGHTS, SHARDS) if os.path.isfile(path / name)]
    return [path / CONFIG, *weights[:1]]


class Folder:
    """Read-only view of such a folder, with the members that an :class:`Archive` would have.

    A member must really lie under the folder, or beside the file which its config.json is a link to: model hubs store
    files so.
    """

    def __init__(self, path: Path, limits: Limits) -> None:
        self.path, self.limits = path, limits
        self.files: list[Path] = []
        """members that were read, in order"""
        self._folder = ModelFolder(path / CONFIG)

    def __contains__(self, name: str) -> bool:
        return _is_plain(name) and os.path.isfile(self.path / name)

    def _member(self, name: str) -> Path:
        if not _is_plain(name):
            raise UnsafeFile(f"{quoted(name)} is not inside the folder", file=self.path)
        try:
            real = os.path.realpath(self.path / name, strict=True)
            mode = os.stat(real).st_mode
        except FileNotFoundError:
            raise MalformedFile(f"the folder has no {quoted(name)}", file=self.path) from None
        except OSError as error:
            raise InputError(f"cannot be opened: {error.strerror}", file=self.path / name) from None
        if not self._folder.holds(real):
            raise UnsafeFile(f"{quoted(name)} is a link that leads out of the folder", file=self.path)
        if not stat.S_ISREG(mode):
            raise UnsafeFile(f"{quoted(name)} is no regular file", file=self.path)
        if self.path / name not in self.files:
            self.files.append(self.path / name)
        return Path(real)

    def text(self, name: str) -> bytes:
        """Return the content of a member that holds text."""
        return read_bounded(self._member(name), self.limits.text_bytes, f"{name} (limit text_bytes)")

    def place(self, name: str) -> Place:
        """Return where a member's bytes lie."""
        from netferry.converters.hdf5_data import Place  # by h5py, which the table of formats does without

        return Place(self._member(name))


def _is_plain(name: str) -> bool:
    """Whether a name leads down into the folder and nowhere else."""
    drive = os.name == "nt" and ":" in name
    return not (name.startswith("/") or "\\" in name or "\0" in name or drive or ".." in name.split("/"))
