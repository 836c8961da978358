"""Where HDF5 content lies, and its arrays: read when they are asked for, by no filter plug-in and not without end."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from netferry.converters.hdf5_library import h5py
from netferry.errors import MalformedFile, quoted
from netferry.schemas.ir import ir
from netferry.schemas.tensors import computed_tensor, file_tensor
from netferry.schemas.watch import bounded

SECONDS, UNPACKED = 0.5, 10_000_000
"""processor time that one call of the library may take, and bytes that it unpacks in a second at least"""


class Window(io.RawIOBase):
    """A stretch of a file as a read-only file of its own: a stored member of a zip archive."""

    def __init__(self, path: Path, start: int, size: int) -> None:
        self._file = path.open("rb")
        self._start, self._size, self._at = start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = max(0, offset + (0, self._at, self._size)[whence])
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        wanted = max(0, min(len(buffer), self._size - self._at))
        self._file.seek(self._start + self._at)
        got = self._file.readinto(memoryview(buffer)[:wanted])  # pyright: ignore[reportAttributeAccessIssue]
        self._at += got
        return got

    def close(self) -> None:
        self._file.close()
        super().close()


@dataclass(frozen=True)
class Place:
    """Where HDF5 content lies: a file, a stretch of one (``start``, ``size``), or memory (``content``)."""

    path: Path
    start: int = 0
    size: int | None = None
    content: bytes | None = field(default=None, repr=False)

    def open(self) -> h5py.File:
        """Open the content for reading."""
        if self.content is not None:
            return h5py.File(io.BytesIO(self.content), "r")
        if self.size is not None:
            return h5py.File(Window(self.path, self.start, self.size), "r")
        return h5py.File(self.path, "r")


@dataclass(frozen=True)
class Array:
    """One stored array: its shape and how to get at its values."""

    place: Place
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int | None
    """place in the file of contiguous little-endian values, else None"""

    @property
    def path(self) -> Path:
        """The file."""
        return self.place.path

    def values(self) -> np.ndarray:
        """Return the values in the stored type."""
        try:
            if self.offset is not None:
                count = int(np.prod(self.shape, dtype=np.int64))
                stored = np.dtype("V2") if self.dtype == ml_dtypes.bfloat16 else self.dtype
                flat = np.fromfile(self.path, stored, count, offset=self.offset)
                return flat.view(self.dtype).reshape(self.shape)
            size = math.prod(self.shape) * self.dtype.itemsize
            values = bounded(self._unpacked, SECONDS + size / UNPACKED)
            return values.view(self.dtype) if values.dtype.kind == "V" else values
        except (OSError, KeyError, RuntimeError, ValueError) as error:
            raise MalformedFile(f"array {quoted(self.name)} cannot be read: {error}", file=self.path) from None

    def _unpacked(self) -> np.ndarray:
        with self.place.open() as file:
            return np.asarray(file[self.name][()])  # pyright: ignore[reportIndexIssue]

    def read(self) -> np.ndarray:
        """Return the values as float32 (integers and halves are converted)."""
        with np.errstate(over="ignore", invalid="ignore"):  # doubles beyond float32 become infinite
            return np.ascontiguousarray(self.values(), np.float32)

    def tensor(self, shape: tuple[int, ...]) -> ir.TensorProtocol:
        """Return the values as a float32 tensor of ``shape`` (of equal element count), read when asked for."""
        if self.offset is not None and self.dtype == np.dtype("<f4"):
            return file_tensor(self.path, self.offset, ir.DataType.FLOAT, shape)
        return computed_tensor(lambda: self.read().reshape(shape), ir.DataType.FLOAT, shape)
