"""Examples by number: pictures as the network takes them, arrays, cached features; any of them in any order."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from netferry.errors import LimitExceeded, MalformedFile, UsageError, quoted
from netferry.runtime.data.folder import Pictures
from netferry.runtime.preprocess import fitted, to_tensor
from netferry.runtime.training.augment import Augment, outside
from netferry.runtime.training.memory import Memory
from netferry.schemas.preprocessing import Preprocessing

MAX_ARRAY_BYTES = 16 * 1024**3


class Examples(Protocol):
    """Examples by number, with their targets."""

    targets: np.ndarray

    @property
    def augmented(self) -> bool:
        """Whether ``draws`` change them."""
        ...

    @property
    def read(self) -> bool:
        """Whether they are read from files, one by one, so that reading ahead in other processes pays."""
        ...

    def __len__(self) -> int: ...

    def inputs(self, rows: Sequence[int], draws: Sequence[int] | None = None) -> list[np.ndarray]:
        """Return one array per input of the network, batch first, for examples by number.

        ``draws`` gives the random changes of each, as a seed; without it the examples come as they are.
        """
        ...


class PictureExamples:
    """Pictures as the network takes them; the decoded and resized ones are kept while they fit into memory."""

    def __init__(
        self,
        pictures: Pictures,
        recipe: Preprocessing,
        size: tuple[int | None, int | None],
        *,
        augment: Augment | None = None,
        seed: int = 0,
        dtype: np.dtype | None = None,
    ) -> None:
        self.pictures, self.recipe, self.size = pictures, recipe, size
        self.augment = None if augment is None or augment.does_nothing else augment
        self.targets, self.seed = pictures.targets, seed
        self.dtype = np.dtype(np.float32) if dtype is None else dtype
        self._fill = outside(augment or Augment(), recipe)
        self._decoded = Memory[list[Image.Image]]()
        self._pool: ThreadPoolExecutor | None = None

    read = True

    @property
    def augmented(self) -> bool:
        """Whether pictures are changed at random."""
        return self.augment is not None

    def __len__(self) -> int:
        return len(self.pictures)

    def __getstate__(self) -> dict[str, object]:
        """For reading processes: each has its own threads and memory."""
        return {**self.__dict__, "_pool": None}

    def inputs(self, rows: Sequence[int], draws: Sequence[int] | None = None) -> list[np.ndarray]:
        """One array N x C x H x W (or N x H x W x C); see :class:`Examples`."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(4, "pictures")
        wanted = [None] * len(rows) if draws is None or self.augment is None else list(draws)
        arrays = list(self._pool.map(self._one, rows, wanted))
        shapes = {a.shape for a in arrays}
        if len(shapes) > 1:
            raise UsageError(
                f"the pictures differ in size ({', '.join(str(s) for s in sorted(shapes))}) and the network takes any",
                hint="--resize stretch --size 224,224 brings all to one size",
            )
        return [np.stack(arrays)]

    def _one(self, row: int, draw: int | None) -> np.ndarray:
        bands = self._bands(row)
        if draw is not None and self.augment is not None:
            rng = np.random.default_rng([self.seed, 2, draw, row])
            bands = self.augment.apply(bands, rng, self._fill)
        array = to_tensor(bands, self.recipe)
        if self.dtype == np.uint8:
            return np.clip(np.round(array), 0, 255).astype(np.uint8)
        return array.astype(self.dtype, copy=False)

    def _bands(self, row: int) -> list[Image.Image]:
        kept = self._decoded.get(row)
        if kept is not None:
            return kept
        bands = fitted(self.pictures.files[row], self.recipe, self.size)
        size = sum(b.width * b.height * (3 if b.mode == "RGB" else 4 if b.mode == "F" else 1) for b in bands)
        self._decoded.keep(row, bands, size)
        return bands


class ArrayExamples:
    """Examples in arrays, batch first: feature vectors, time series, cached features."""

    augmented = read = False

    def __init__(self, inputs: Sequence[np.ndarray], targets: np.ndarray) -> None:
        if not inputs or any(len(x) != len(targets) for x in inputs):
            raise UsageError(f"{[len(x) for x in inputs]} examples and {len(targets)} targets")
        self.arrays, self.targets = list(inputs), targets

    def __len__(self) -> int:
        return len(self.targets)

    def inputs(self, rows: Sequence[int], draws: Sequence[int] | None = None) -> list[np.ndarray]:
        """The rows of each array; see :class:`Examples`."""
        del draws
        index = np.asarray(rows, np.int64)
        return [np.ascontiguousarray(x[index]) for x in self.arrays]


def read_arrays(path: Path) -> tuple[np.ndarray, np.ndarray, tuple[str, ...] | None]:
    """Read ``x`` (examples first), ``y`` and, where it is there, ``classes`` from an .npz file.

    Raises:
        MalformedFile: no such arrays, or objects in them (they would be code).
        LimitExceeded: more than 16 GiB.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = set(archive.files)
            if not {"x", "y"} <= names or names - {"x", "y", "classes"}:
                listed = ", ".join(quoted(n) for n in sorted(names))
                raise MalformedFile(f"holds {listed}; wanted are x, y and perhaps classes", file=path)
            if sum(i.file_size for i in archive.zip.infolist()) > MAX_ARRAY_BYTES:
                raise LimitExceeded("the arrays take more than 16 GiB", file=path)
            x, y = archive["x"], archive["y"]
            classes = tuple(str(c) for c in archive["classes"].tolist()) if "classes" in names else None
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise MalformedFile(f"is no .npz file of plain arrays ({quoted(error)[1:-1]})", file=path) from None
    if x.ndim < 2 or len(x) != len(y) or not len(y):
        raise MalformedFile(f"x of shape {list(x.shape)} and y of shape {list(y.shape)} are no examples", file=path)
    if x.dtype.kind not in "fiu" or y.dtype.kind not in "fiub" or not np.isfinite(x).all() or not np.isfinite(y).all():
        raise MalformedFile("x and y are finite numbers", file=path)
    return x, y, classes
