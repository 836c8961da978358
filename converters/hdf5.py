"""HDF5 files from strangers: groups and arrays only, nothing that leaves the file, sizes checked before use."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from netferry.converters.hdf5_data import SECONDS, Array, Place
from netferry.converters.hdf5_library import h5py
from netferry.converters.options import Limits
from netferry.errors import InputError, LimitExceeded, MalformedFile, UnsafeFile, UnsupportedError, quoted
from netferry.schemas.watch import bounded

h5l, h5o = h5py.h5l, h5py.h5o  # pyright: ignore[reportAttributeAccessIssue]
_FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32"}


class Hdf5File:
    """Read-only view of an HDF5 file that refuses external and soft links, external and virtual storage."""

    def __init__(self, path: Path | Place, limits: Limits) -> None:
        self.place = Place(path) if isinstance(path, Path) else path
        self.path, self.limits = self.place.path, limits
        self._file = self._call(self.place.open)
        self._root: Any = self._call(lambda: self._file["/"])
        self._groups: dict[str, h5py.Group] = {}
        place = self.place
        self._size = (
            len(place.content) if place.content is not None
            else self.path.stat().st_size if place.size is None
            else place.size
        )  # fmt: skip

    def __enter__(self) -> Hdf5File:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _call(self, function: Callable[[], Any]) -> Any:
        try:
            return bounded(function, SECONDS)
        except FileNotFoundError:
            raise InputError("no such file", file=self.path) from None
        except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
            raise MalformedFile(f"not a sound HDF5 file: {' '.join(str(error).split())}", file=self.path) from None

    def _children(self, group: str) -> dict[str, Any]:
        parent = self._group(group)
        found: dict[str, Any] = {}
        for name in self._call(lambda: list(parent.keys())):
            if not isinstance(name, str):
                raise MalformedFile(f"a name in {quoted(group)} is not UTF-8", file=self.path)
            if not self._call(lambda name=name: _is_hard(parent, name)):
                raise UnsafeFile(f"{quoted(name)} is a link that leaves its group", file=self.path)
            found[name] = self._call(lambda name=name: _opened(parent, name))
            if len(found) > self.limits.layers:
                raise LimitExceeded(f"more than {self.limits.layers} entries (limit layers)", file=self.path)
        return found

    def _group(self, path: str) -> h5py.Group:
        """The group at ``path``, each link on the way checked."""
        known = self._groups.get(path)
        if known is None:
            known = self._find(path)
            if not isinstance(known, h5py.Group):
                raise MalformedFile(f"{quoted(path)} is not a group", file=self.path)
            self._groups[path] = known
        return known

    def _find(self, path: str) -> Any:
        at: Any = self._root
        parts = [p for p in path.split("/") if p]
        if len(parts) > self.limits.nesting:
            raise LimitExceeded(f"groups nested deeper than {self.limits.nesting} (limit nesting)", file=self.path)
        for i, part in enumerate(parts):
            done = "/".join(parts[: i + 1])
            if done in self._groups:
                at = self._groups[done]
                continue
            parent = at
            hard = self._call(lambda p=parent, n=part: _is_hard(p, n)) if isinstance(at, h5py.Group) else None
            if hard is None:
                raise MalformedFile(f"no entry {quoted(path)}", file=self.path)
            if not hard:
                raise UnsafeFile(f"{quoted(done)} is a link that leaves its group", file=self.path)
            at = self._call(lambda p=parent, n=part: _opened(p, n))
            if isinstance(at, h5py.Group):
                self._groups[done] = at
        return at

    def has(self, path: str) -> bool:
        """Whether there is an entry (a group or an array) at ``path``."""
        try:
            self._find(path)
        except MalformedFile:
            return False
        return True

    def is_group(self, path: str) -> bool:
        """Whether there is a group at ``path``."""
        return self.has(path) and isinstance(self._find(path), h5py.Group)

    def attribute(self, path: str, name: str) -> Any:
        """Return a text, number or list-of-texts attribute of a group or array; None where there is none.

        Raises:
            MalformedFile: the attribute is of another kind.
        """
        entry = self._find(path)

        def get() -> Any:
            held = entry.attrs
            return held[name] if name in held else None  # noqa: SIM401 -- attrs.get differs in errors

        value = self._call(get)
        if value is None:
            return None
        if isinstance(value, np.ndarray):
            if value.size == 0:
                return []
            if value.dtype.kind in "SUO" and value.ndim == 1:
                return [self._text(v, name) for v in value]
            return value.tolist()
        if isinstance(value, (bytes, str)):
            return self._text(value, name)
        if isinstance(value, (np.integer, np.floating, np.bool_)):
            return value.item()
        raise MalformedFile(f"attribute {quoted(name)} is neither text nor a number", file=self.path)

    def _text(self, value: Any, name: str) -> str:
        if isinstance(value, str):
            return str(value)
        if not isinstance(value, bytes):
            raise MalformedFile(f"attribute {quoted(name)} is not text", file=self.path)
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value.decode("latin-1")

    def names(self, path: str, name: str) -> list[str] | None:
        """Return a list of names that may be cut into ``name0``, ``name1`` … (HDF5 attributes end at 64 KB)."""
        whole = self.attribute(path, name)
        if whole is None:
            whole = []
            while (part := self.attribute(path, f"{name}{len(whole)}")) is not None:
                whole.append(part)
            if not whole:
                return None
            if not all(isinstance(part, list) for part in whole):
                raise MalformedFile(f"attribute {quoted(name)} is not a list of names", file=self.path)
            whole = [item for part in whole for item in part]
        if not isinstance(whole, list) or not all(isinstance(item, str) for item in whole):
            raise MalformedFile(f"attribute {quoted(name)} is not a list of names", file=self.path)
        return whole

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
        data = self._find(name)
        if not isinstance(data, h5py.Dataset):
            raise MalformedFile(f"{quoted(name)} is not an array", file=self.path)
        return self._call(lambda: self._described(name, data))

    def _described(self, name: str, data: h5py.Dataset) -> Array:
        created = data.id.get_create_plist()
        layout = created.get_layout()
        if created.get_external_count() or layout == h5py.h5d.VIRTUAL:
            raise UnsafeFile(f"array {quoted(name)} keeps its values in other files", file=self.path)
        for i in range(created.get_nfilters()):
            if created.get_filter(i)[0] not in _FILTERS:
                raise UnsafeFile(
                    f"array {quoted(name)} is packed by a filter other than gzip, shuffle and fletcher32",
                    file=self.path,
                    hint="h5repack -f GZIP=4 IN.h5 OUT.h5 packs it anew",
                )
        if data.id.shape is None:  # a null dataspace
            raise MalformedFile(f"array {quoted(name)} has no values", file=self.path)
        dtype, shape = data.id.dtype, tuple(int(d) for d in data.id.shape)
        if dtype.kind == "V" and dtype.itemsize == 2 and dtype.names is None and dtype.subdtype is None:
            dtype = np.dtype(ml_dtypes.bfloat16)  # HDF5 has no such type: Keras writes two bytes that it does not name
        elif dtype.kind not in "fiub":
            raise UnsupportedError(f"array {quoted(name)} holds {dtype}, not numbers", file=self.path)
        declared = math.prod(shape) * dtype.itemsize
        stored = data.id.get_storage_size()
        limits = self.limits
        if declared > limits.ratio_bytes and declared > limits.hdf5_ratio * max(stored, 1):
            raise LimitExceeded(
                f"array {quoted(name)} declares {declared} bytes, {stored} are stored "
                f"(limit hdf5_ratio={limits.hdf5_ratio} above ratio_bytes={limits.ratio_bytes})",
                file=self.path,
            )
        offset = data.id.get_offset() if layout != h5py.h5d.CHUNKED else None
        if offset is not None and offset + declared > self._size:
            raise MalformedFile(f"array {quoted(name)} runs past the end of the file", file=self.path)
        if offset is not None:
            offset = offset + self.place.start if declared and self.place.content is None else None
        return Array(self.place, name, shape, dtype, offset)


def _opened(group: h5py.Group, name: str) -> Any:
    """An entry of a group; ``group[name]`` takes four times as long, as it opens the file's own object each time."""
    found = h5o.open(group.id, name.encode("utf-8", "surrogateescape"))
    if isinstance(found, h5py.h5g.GroupID):
        return h5py.Group(found)
    return h5py.Dataset(found, readonly=True) if isinstance(found, h5py.h5d.DatasetID) else found


def _is_hard(group: h5py.Group, name: str) -> bool | None:
    """Whether an entry of a group is a hard link; None where there is none of that name."""
    try:
        return group.id.links.get_info(name.encode("utf-8", "surrogateescape")).type == h5l.TYPE_HARD
    except KeyError:
        return None
