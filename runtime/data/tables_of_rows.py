"""Arrays in HDF5 (block by block) and columns of Parquet (batch by batch), as rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np

from netferry.errors import InputError, LimitExceeded, MalformedFile, MissingExtra, UnsafeFile, quoted
from netferry.runtime.data.rows import Rows
from netferry.schemas.opening import keep_hdf5_plugins_out

_BLOCK = 1 << 22
"""bytes that are read at a time"""
_RATIO = 2000
"""of an array's size to what its HDF5 file keeps of it; deflate reaches 1032"""


@contextmanager
def hdf5_arrays(file: Path) -> Iterator[Mapping[str, Rows]]:
    """The datasets of an HDF5 file; links are not followed.

    Raises:
        InputError: there are none.
        UnsafeFile: one keeps its values in other files.
        LimitExceeded: one claims far more than the file holds.
    """
    keep_hdf5_plugins_out()
    import h5py

    with h5py.File(file, "r") as opened:
        arrays: dict[str, Rows] = {}

        def take(name: str, found: Any) -> None:  # visititems never follows soft or external links
            if isinstance(found, h5py.Dataset) and found.shape:
                if found.external or found.is_virtual:
                    raise UnsafeFile(f"{quoted(name)} keeps its values in other files", file=file)
                if found.nbytes > _BLOCK + _RATIO * found.id.get_storage_size():
                    raise LimitExceeded(f"{quoted(name)} claims {found.nbytes:,} bytes, most are not there", file=file)
                arrays[name] = Rows(found.shape, _plain(found), _blocks(found, file), file)

        opened.visititems(take)
        if not arrays:
            raise InputError("no arrays in this file", file=file)
        yield arrays


def parquet_columns(file: Path) -> Mapping[str, Rows]:
    """Columns of numbers, texts and lists of fixed size, whose field may tell a row's shape.

    Raises:
        MissingExtra: pyarrow is not installed.
        MalformedFile: it cannot be read.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MissingExtra("pyarrow", "data", "reading a Parquet file") from None
    try:
        table = parquet.ParquetFile(file)
        found: dict[str, Rows] = {}
        for field in table.schema_arrow:
            kind, shape = field.type, ()
            if pyarrow.types.is_fixed_size_list(kind):
                told = (field.metadata or {}).get(b"shape")
                shape = (kind.list_size,) if told is None else tuple(int(d) for d in json.loads(told))
                kind = kind.value_type
            text = pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)
            dtype = np.dtype("U1") if text else np.dtype(kind.to_pandas_dtype())
            rows = _parquet_rows(file, field.name, shape)
            found[field.name] = Rows((table.metadata.num_rows, *shape), dtype, rows, file)
        return found
    except (ValueError, TypeError, NotImplementedError, OSError) as error:
        raise MalformedFile(f"the Parquet file cannot be read: {quoted(error)[1:-1]}", file=file) from None


def _parquet_rows(file: Path, name: str, shape: Sequence[int]) -> Iterator[Any]:
    from pyarrow import parquet

    for batch in parquet.ParquetFile(file).iter_batches(256, columns=[name]):
        column = batch.column(0)
        if shape:
            yield from column.flatten().to_numpy(zero_copy_only=False).reshape(-1, *shape)
        else:
            yield from ("" if v is None else v for v in column.to_pylist())


def _plain(dataset: Any) -> np.dtype[Any]:
    import h5py

    return np.dtype("S1") if h5py.check_string_dtype(dataset.dtype) else cast(np.dtype[Any], dataset.dtype)


def _blocks(dataset: Any, file: object) -> Iterator[np.ndarray]:
    """The rows, read some megabytes at a time."""
    row = max(1, dataset.dtype.itemsize * int(np.prod([1, *dataset.shape[1:]], dtype=object)))
    step = max(1, _BLOCK // row)
    for start in range(0, dataset.shape[0], step):
        try:
            block = dataset[start : start + step]
        except (OSError, RuntimeError, ValueError) as error:
            raise MalformedFile(f"{quoted(dataset.name)} cannot be read: {quoted(error)[1:-1]}", file=file) from None
        for value in block:
            yield np.array(value)
