"""Arrays: .npy (mapped), .npz and streams (row by row), HDF5 (block by block). The first axis counts the items.

Whole numbers in a picture's shape are pictures; floats, and whatever has no picture's shape, are the network's input as
it is. ``arrays="picture"`` or ``"tensor"`` decides otherwise.
"""

from __future__ import annotations

import lzma
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import IO, Any

import numpy as np

from netferry.errors import InputError, MalformedFile, UsageError, quoted
from netferry.runtime.data.item import Item
from netferry.runtime.data.rows import Rows
from netferry.runtime.data.tables_of_rows import hdf5_arrays, parquet_columns
from netferry.schemas.npy import read_npy_header
from netferry.schemas.opening import open_regular

ARRAY_SUFFIXES = (".npy", ".npz", ".h5", ".hdf5")
DATA_NAMES = ("x", "data", "images", "image", "inputs", "input", "x_test", "x_train", "features", "arr_0")
LABEL_NAMES = ("y", "labels", "label", "targets", "target", "y_test", "y_train", "classes")
_MOST_AXES = 32
_DAMAGE = (ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)
"""what reading an archive's member raises: RuntimeError where it is encrypted, or packed in a way that is not known"""


@dataclass(frozen=True)
class Choice:
    """What of a file of arrays is wanted."""

    arrays: str = "auto"
    """``picture``, ``tensor``, or ``auto`` by type and shape"""
    key: str | None = None
    """the array with the items"""
    inputs: Sequence[str] = ()
    """names of the network's inputs: where the file holds an array for each, an item is a value for each"""

    def __post_init__(self) -> None:
        if self.arrays not in ("auto", "picture", "tensor"):
            raise UsageError(f"arrays is auto, picture or tensor, not {quoted(self.arrays)}")

    def ready(self, dtype: np.dtype[Any], shape: Sequence[int]) -> bool:
        """Whether an item of this kind is the network's input as it is."""
        if self.arrays != "auto":
            return self.arrays == "tensor"
        picture = len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 2, 3, 4))
        return dtype.kind not in "biu" or not picture


@contextmanager
def open_arrays(file: Path, choice: Choice) -> Iterator[Mapping[str, Rows]]:
    """Give the arrays of a .npy (called ""), .npz, HDF5 or Parquet file, each to be read once, row by row.

    Raises:
        InputError: it cannot be opened.
        MalformedFile: not of that format, or cut short.
        UnsafeFile: pickled objects, HDF5 links out of the file.
        LimitExceeded: an item above MAX_ROW.
    """
    try:
        with open_regular(file) as opened:
            head = opened.read(8)
        if head.startswith(b"\x93NUMPY"):
            yield {"": _mapped(file)}
        elif head.startswith(b"PK"):
            with ExitStack() as stack:
                yield _members(stack, file)
        elif head.startswith(b"\x89HDF\r\n\x1a\n"):
            with hdf5_arrays(file) as arrays:
                yield arrays
        elif head.startswith(b"PAR1"):
            yield parquet_columns(file)
        else:
            raise MalformedFile("neither .npy, .npz, HDF5 nor Parquet", file=file)
    except OSError as error:
        raise InputError(error.strerror or quoted(error)[1:-1], file=file) from None


def array_items(file: Path, choice: Choice) -> Iterator[Item]:
    """Yield the items of a .npy, .npz or HDF5 file.

    Raises:
        UsageError: which of several arrays is meant is not clear.
        NetferryError: as :func:`open_arrays`.
    """
    with open_arrays(file, choice) as arrays:
        yield from _named(arrays, choice, file)


def stream_items(stream: IO[bytes], choice: Choice, name: str) -> Iterator[Item]:
    """Yield the items of a .npy stream; errors as :func:`array_items`."""
    return _named({"": _streamed(stream, name)}, choice, name)


def _named(arrays: Mapping[str, Rows], choice: Choice, file: Path | str) -> Iterator[Item]:
    """Pair the array with the items and the one with the labels."""
    labels = _labels(arrays, choice, file)
    if len(choice.inputs) > 1 and choice.key is None and all(n in arrays for n in choice.inputs):
        chosen = {n: arrays[n] for n in choice.inputs}
        _same_length([*chosen.values(), *([labels] if labels else [])], file)
        tags = _tags(labels)
        for number, (values, label) in enumerate(zip(zip(*(r.rows for r in chosen.values()), strict=True), tags)):  # noqa: B905 - tags may be endless
            yield Item(f"{file}#{number}", dict(zip(chosen, values, strict=True)), label, ready=True)
        return
    main = arrays[_main(arrays, choice, file)]
    _same_length([main, *([labels] if labels else [])], file)
    ready = choice.ready(main.dtype, main.shape)
    for number, (row, label) in enumerate(zip(main.rows, _tags(labels))):  # noqa: B905 - tags may be endless
        yield Item(f"{file}#{number}", row, label, ready)


def _main(arrays: Mapping[str, Rows], choice: Choice, file: object) -> str:
    if choice.key is not None:
        if choice.key not in arrays:
            raise UsageError(f"no array {quoted(choice.key)} (there are {_listed(arrays)})", file=file)
        return choice.key
    wanted = [n for n in arrays if n.lower() not in LABEL_NAMES] or list(arrays)
    if len(wanted) == 1:
        return wanted[0]
    known = next((n for name in (*choice.inputs, *DATA_NAMES) for n in wanted if n.lower() == name.lower()), None)
    if known is None:
        raise UsageError(
            f"which array holds the items is not clear (there are {_listed(arrays)})", file=file, hint="--array NAME"
        )
    return known


def _labels(arrays: Mapping[str, Rows], choice: Choice, file: object) -> Rows | None:
    found = next((n for name in LABEL_NAMES for n in arrays if n.lower() == name and n != choice.key), None)
    if found is None or len(arrays) == 1:
        return None
    rows = arrays[found]
    if rows.shape not in ((), (1,)) or rows.dtype.kind not in "iubUS":
        return None  # one-hot or soft targets are no labels
    return rows


def _tags(labels: Rows | None) -> Iterator[str | None]:
    if labels is None:
        return repeat(None)
    return (_text(row) for row in labels.rows)


def _text(row: np.ndarray) -> str:
    value = np.asarray(row).reshape(-1)[0]
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _same_length(rows: Sequence[Rows], file: object) -> None:
    lengths = [r.count for r in rows]
    if len(set(lengths)) > 1:
        raise MalformedFile(f"the arrays have different lengths: {', '.join(map(str, lengths))}", file=file)


def _mapped(file: Path) -> Rows:
    with open_regular(file) as opened:
        shape, fortran, dtype = _read_header(opened, file)
        start, size = opened.tell(), os.fstat(opened.fileno()).st_size
    rows = Rows(shape, dtype, _mapped_rows(file, shape, dtype, start, "F" if fortran else "C"), file)
    if start + int(np.prod([dtype.itemsize, *shape], dtype=object)) > size:
        raise MalformedFile(f"an array of shape {list(shape)} and {dtype} is not whole", file=file)
    return rows


def _mapped_rows(
    file: Path, shape: Sequence[int], dtype: np.dtype[Any], start: int, order: Any
) -> Iterator[np.ndarray]:
    if 0 not in shape:  # nothing cannot be mapped
        yield from (np.array(row) for row in np.memmap(file, dtype, "r", start, tuple(shape), order))


def _members(stack: ExitStack, file: Path) -> dict[str, Rows]:
    try:
        archive = stack.enter_context(zipfile.ZipFile(file))
        found = _arrays_of(archive, stack, file)
    except _DAMAGE as error:
        raise MalformedFile(f"the .npz cannot be read: {quoted(error)[1:-1]}", file=file) from None
    if not found:
        raise InputError("no arrays in this file", file=file)
    return found


def _arrays_of(archive: zipfile.ZipFile, stack: ExitStack, file: Path) -> dict[str, Rows]:
    names = [n for n in archive.namelist() if n.endswith(".npy")]
    if len(set(names)) != len(names):
        raise MalformedFile("an array is in the file twice", file=file)
    found: dict[str, Rows] = {}
    for name in names:
        rows = _header(stack.enter_context(archive.open(name)), file, single=True)
        if rows is not None:
            found[name.removesuffix(".npy")] = rows
    return found


def _streamed(stream: IO[bytes], file: object) -> Rows:
    rows = _header(stream, file)
    assert rows is not None
    return rows


def _header(stream: IO[bytes], file: object, *, single: bool = False) -> Rows | None:
    """Read the header of a .npy stream; its rows follow on demand. None for a single number, where those are let by."""
    shape, fortran, dtype = _read_header(stream, file)
    if single and not shape:
        return None
    if fortran and len(shape) > 1:
        raise UsageError(
            "the array lies in Fortran order, which cannot be read row by row",
            file=file,
            hint="save it with numpy.ascontiguousarray, or as a .npy file of its own",
        )
    return Rows(shape, dtype, _read_rows(stream, shape, dtype, file), file)


def _read_header(stream: IO[bytes], file: object) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether in Fortran order, and element type."""
    try:
        shape, fortran, dtype = read_npy_header(stream)
    except _DAMAGE as error:
        said = "its header is too long" if "max_header_size" in str(error) else quoted(error)[1:-1]
        raise MalformedFile(f"the array cannot be read: {said}", file=file) from None
    if len(shape) > _MOST_AXES or not all(type(d) is int for d in shape) or dtype.subdtype or not dtype.itemsize:
        raise MalformedFile(f"an array of shape {quoted(shape, 80)[1:-1]} and {quoted(dtype, 80)[1:-1]}", file=file)
    return shape, fortran, dtype


def _read_rows(stream: IO[bytes], shape: Sequence[int], dtype: np.dtype[Any], file: object) -> Iterator[np.ndarray]:
    size = dtype.itemsize * int(np.prod([1, *shape[1:]], dtype=object))
    for number in range(shape[0]):
        try:
            data = stream.read(size)
        except _DAMAGE as error:
            raise MalformedFile(f"the array cannot be read: {quoted(error)[1:-1]}", file=file) from None
        if len(data) != size:
            raise MalformedFile(f"the array ends in item {number} of {shape[0]}", file=file)
        yield np.frombuffer(data, dtype).reshape(tuple(shape[1:]))


def _listed(arrays: Mapping[str, Rows]) -> str:
    return ", ".join(f"{quoted(n)} {[r.count, *r.shape]}" for n, r in list(arrays.items())[:12])
