"""The folder of a model's file: what the file names must lie in it."""

from __future__ import annotations

import os
from pathlib import Path


class ModelFolder:
    """The folder that a file lies in, and that of the file it is a link to, where it is one: hubs store models so."""

    def __init__(self, file: Path) -> None:
        self.path = file.parent
        self._roots = {os.path.realpath(file.parent), os.path.dirname(os.path.realpath(file))}

    def holds(self, path: str | os.PathLike[str]) -> bool:
        """Whether a path, all links followed, leads to a place under the folder; nothing need be there."""
        real = os.path.realpath(path)
        return any(real.startswith(os.path.join(root, "")) for root in self._roots)
