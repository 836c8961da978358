"""HDF5 files from strangers: groups and arrays only, nothing that leaves the file, sizes checked before use."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from netferry.converters.options import Limits
from netferry.errors import InputError, LimitExceeded, MalformedFile, UnsafeFile, UnsupportedError, quoted
from netferry.schemas.ir import ir
from netferry.schemas.tensors import computed_tensor, file_tensor

os.environ.setdefault("HDF5_PLUGIN_PRELOAD", "::")  # no filter plug-ins: they are code found by path
import h5py

_FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32"}
_RATIO, _RATIO_ABOVE = 1000, 16 << 20


@dataclass(frozen=True)
class Array:
    """One stored array: its shape and how to get at its values."""

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int | None
    """place in the file of contiguous little-endian values, else None"""

    def read(self) -> np.ndarray:
        """Return the values as float32 (integers and halves are converted)."""
        try:
            with h5py.File(self.path, "r") as file:
                values = file[self.name][()]  # pyright: ignore[reportIndexIssue]
        except (OSError, KeyError, RuntimeError, ValueError) as error:
            raise MalformedFile(f"array {quoted(self.name)} cannot be read: {error}", file=self.path) from None
        return np.ascontiguousarray(values, np.float32)

    def tensor(self, shape: tuple[int, ...]) -> ir.TensorProtocol:
        """Return the values as a float32 tensor of ``shape`` (of equal element count), read when asked for."""
        if self.offset is not None and self.dtype == np.dtype("<f4"):
            return file_tensor(self.path, self.offset, ir.DataType.FLOAT, shape)
        return computed_tensor(lambda: self.read().reshape(shape), ir.DataType.FLOAT, shape)


class Hdf5File:
    """Read-only view of an HDF5 file that refuses external and soft links, external and virtual storage."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self.path, self.limits = path, limits
        self._file = self._call(lambda: h5py.File(path, "r"))

    def __enter__(self) -> Hdf5File:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _call(self, function: Callable[[], Any]) -> Any:
        try:
            return function()
        except FileNotFoundError:
            raise InputError("no such file", file=self.path) from None
        except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
            raise MalformedFile(f"not a sound HDF5 file: {' '.join(str(error).split())}", file=self.path) from None

    def _children(self, group: str) -> dict[str, Any]:
        parent = self._call(lambda: self._file[group or "/"])
        if not isinstance(parent, h5py.Group):
            raise MalformedFile(f"{quoted(group)} is not a group", file=self.path)
        found: dict[str, Any] = {}
        for name in self._call(lambda: list(parent.keys())):
            link = self._call(lambda name=name: parent.get(name, getlink=True))
            if not isinstance(link, h5py.HardLink):
                raise UnsafeFile(f"{quoted(name)} is a link that leaves its group", file=self.path)
            found[name] = self._call(lambda name=name: parent[name])
            if len(found) > self.limits.layers:
                raise LimitExceeded(f"more than {self.limits.layers} entries (limit layers)", file=self.path)
        return found

    def groups(self, group: str) -> list[str]:
        """Names of the groups in a group (the root for "")."""
        return [n for n, v in self._children(group).items() if isinstance(v, h5py.Group)]

    def datasets(self, group: str) -> list[str]:
        """Names of the arrays in a group."""
        return [n for n, v in self._children(group).items() if isinstance(v, h5py.Dataset)]

    def dataset(self, name: str) -> Array:
        """Return an array after checking its storage.

        Raises:
            UnsafeFile: external or virtual storage, a filter other than gzip, shuffle, fletcher32.
            LimitExceeded: a size that the bytes stored cannot justify.
        """
        data = self._call(lambda: self._file[name])
        if not isinstance(data, h5py.Dataset):
            raise MalformedFile(f"{quoted(name)} is not an array", file=self.path)
        created = data.id.get_create_plist()
        if data.external or data.is_virtual:
            raise UnsafeFile(f"array {quoted(name)} keeps its values in other files", file=self.path)
        for i in range(created.get_nfilters()):
            if created.get_filter(i)[0] not in _FILTERS:
                raise UnsafeFile(f"array {quoted(name)} needs an HDF5 filter plug-in", file=self.path)
        if data.dtype.kind not in "fiu":
            raise UnsupportedError(f"array {quoted(name)} holds {data.dtype}, not numbers", file=self.path)
        declared = int(np.prod([int(d) for d in data.shape], dtype=object)) * data.dtype.itemsize
        stored = data.id.get_storage_size()
        if declared > _RATIO_ABOVE and declared > _RATIO * max(stored, 1):
            raise LimitExceeded(f"array {quoted(name)} declares {declared} bytes, {stored} are stored", file=self.path)
        offset = data.id.get_offset() if data.chunks is None else None
        if offset is not None and offset + declared > self.path.stat().st_size:
            raise MalformedFile(f"array {quoted(name)} runs past the end of the file", file=self.path)
        shape = tuple(int(d) for d in data.shape)
        return Array(self.path, name, shape, data.dtype, offset if declared else None)
