"""Files of features: .npz, .npy, .parquet and .h5, written from parts block by block; same rows, same bytes.

Every file holds the layers under their names, and ``numbers`` (position in the data), ``items`` and, where there are
any, ``labels``. A .npy holds one layer; its rows are told by ``OUT.npy.rows.csv``. ``OUT.json`` says what was computed.
"""

from __future__ import annotations

import csv
import json
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from netferry.errors import MissingExtra, UsageError, quoted
from netferry.runtime.features.parts import Column, Parts, Row, as_json
from netferry.schemas.publish import whole, write_whole

FORMATS = (".npz", ".npy", ".parquet", ".pq", ".h5", ".hdf5")
NUMBERS, ITEMS, LABELS = "numbers", "items", "labels"
_BLOCK = 1 << 22


def check_output(output: Path, layers: Sequence[str]) -> None:
    """Raise where features of these layers cannot be written to such a file.

    Raises:
        UsageError: no such format; several layers in a .npy; names that collide.
        MissingExtra: pyarrow is not installed.
    """
    suffix = output.suffix.lower()
    if suffix not in FORMATS:
        raise UsageError(f"features are written as {', '.join(FORMATS)}, not {quoted(suffix)}", file=output)
    if suffix == ".npy" and len(layers) > 1:
        raise UsageError(f"a .npy holds one layer, not {len(layers)}", file=output, hint="write a .npz")
    taken = {NUMBERS, ITEMS, LABELS} & set(layers)
    if taken:
        raise UsageError(f"a layer is called {quoted(taken.pop())}, as the file's own column is", file=output)
    if suffix in (".h5", ".hdf5"):
        for name in layers:
            if any(other.startswith(f"{name}/") for other in layers):
                raise UsageError(f"HDF5 cannot hold {quoted(name)} beside a layer inside it", hint="write a .npz")
    if suffix in (".parquet", ".pq"):
        _pyarrow()


def write(parts: Parts, output: Path, manifest: dict[str, Any]) -> int:
    """Write the finished parts to ``output`` and the manifest beside it; returns the number of rows.

    Raises:
        OutputError: the file cannot be written.
    """
    facts = _Facts(parts)
    suffix = output.suffix.lower()
    writer = {".npz": _npz, ".npy": _npy, ".h5": _hdf5, ".hdf5": _hdf5}.get(suffix, _parquet)
    with whole(output) as scratch, scratch.open("w+b") as file:  # HDF5 reads back what it writes
        writer(file, facts)
    if suffix == ".npy":
        with whole(f"{output}.rows.csv") as scratch, scratch.open("w", encoding="utf-8", newline="") as table:
            rows = csv.writer(table, lineterminator="\n")
            rows.writerow(["number", "item", "label"])
            rows.writerows((row.number, row.item, row.label or "") for row in facts.rows())
    layers = [{"name": c.name, "shape": list(c.shape), "dtype": c.dtype.name} for c in parts.columns]
    skipped = [{"number": r.number, "item": r.item, "error": r.error} for r in parts.rows() if r.error is not None]
    document = {**manifest, "layers": layers, "rows": facts.count, "skipped": skipped}
    write_whole(f"{output}.json", as_json(document))
    return facts.count


class _Facts:
    """What has to be known before the first byte is written."""

    def __init__(self, parts: Parts) -> None:
        self.parts, self.columns = parts, parts.columns
        self.count = self.longest_item = self.longest_label = 0
        self.labelled = False
        for row in self.rows():
            self.count += 1
            self.longest_item = max(self.longest_item, len(row.item))
            if row.label is not None:
                self.labelled = True
                self.longest_label = max(self.longest_label, len(row.label))

    def rows(self) -> Iterator[Row]:
        """The rows that have features."""
        return (row for row in self.parts.rows() if row.error is None)

    def chunks(self, size: int) -> Iterator[list[Row]]:
        """The same, some at a time."""
        chunk: list[Row] = []
        for row in self.rows():
            chunk.append(row)
            if len(chunk) == size:
                yield chunk
                chunk = []
        if chunk:
            yield chunk

    def arrays(self, index: int, size: int) -> Iterator[np.ndarray]:
        """The features of a layer, ``size`` rows at a time."""
        column = self.columns[index]
        for block in self.parts.blocks(index, max(1, size * column.bytes)):
            yield np.frombuffer(block, column.dtype).reshape(-1, *column.shape)


def _step(columns: Sequence[Column]) -> int:
    """Rows whose features take some megabytes."""
    return max(1, _BLOCK // max([64, *(c.bytes for c in columns)]))


def _head(file: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    fields = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, fields)


def _npy(file: BinaryIO, facts: _Facts) -> None:
    column = facts.columns[0] if facts.columns else Column("", (0,), np.dtype("<f4"))
    _head(file, column.dtype, (facts.count, *column.shape))
    if facts.columns:
        for block in facts.parts.blocks(0):
            file.write(block)


def _npz(file: BinaryIO, facts: _Facts) -> None:
    """As numpy.savez writes it; members have no date of their own."""
    texts = [(ITEMS, facts.longest_item)] + ([(LABELS, facts.longest_label)] if facts.labelled else [])
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for index, column in enumerate(facts.columns):
            with archive.open(zipfile.ZipInfo(f"{column.name}.npy"), "w", force_zip64=True) as member:
                _head(member, column.dtype, (facts.count, *column.shape))
                for block in facts.parts.blocks(index):
                    member.write(block)
        with archive.open(zipfile.ZipInfo(f"{NUMBERS}.npy"), "w", force_zip64=True) as member:
            _head(member, np.dtype("<i8"), (facts.count,))
            for chunk in facts.chunks(1 << 14):
                member.write(np.array([row.number for row in chunk], "<i8").tobytes())
        for name, longest in texts:
            dtype = np.dtype(f"<U{max(1, longest)}")
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                _head(member, dtype, (facts.count,))
                for chunk in facts.chunks(1 << 12):
                    values = [row.item if name == ITEMS else row.label or "" for row in chunk]
                    member.write(np.array(values, dtype).tobytes())


def _hdf5(file: BinaryIO, facts: _Facts) -> None:
    import h5py

    step = _step(facts.columns)
    with h5py.File(file, "w") as out:
        for index, column in enumerate(facts.columns):
            dataset = out.create_dataset(column.name, (facts.count, *column.shape), column.dtype)
            start = 0
            for array in facts.arrays(index, step):
                dataset[start : start + len(array)] = array
                start += len(array)
        number = out.create_dataset(NUMBERS, (facts.count,), "<i8")
        text = h5py.string_dtype()
        items = out.create_dataset(ITEMS, (facts.count,), text)
        labels = out.create_dataset(LABELS, (facts.count,), text) if facts.labelled else None
        start = 0
        for chunk in facts.chunks(1 << 12):
            place = slice(start, start + len(chunk))
            number[place] = [row.number for row in chunk]
            items[place] = [row.item for row in chunk]
            if labels is not None:
                labels[place] = [row.label or "" for row in chunk]
            start += len(chunk)


def _parquet(file: BinaryIO, facts: _Facts) -> None:
    """Layers are lists of fixed size; ``shape`` in a field's metadata tells how a row lies."""
    pyarrow, parquet = _pyarrow()
    fields = [pyarrow.field(NUMBERS, pyarrow.int64()), pyarrow.field(ITEMS, pyarrow.string())]
    if facts.labelled:
        fields.append(pyarrow.field(LABELS, pyarrow.string()))
    for column in facts.columns:
        size = column.bytes // column.dtype.itemsize
        kind = pyarrow.list_(pyarrow.from_numpy_dtype(column.dtype), size)
        fields.append(pyarrow.field(column.name, kind, metadata={"shape": json.dumps(list(column.shape))}))
    step = _step(facts.columns)
    streams = [facts.arrays(index, step) for index in range(len(facts.columns))]
    with parquet.ParquetWriter(file, pyarrow.schema(fields)) as out:
        for chunk in facts.chunks(step):
            made = [pyarrow.array([r.number for r in chunk]), pyarrow.array([r.item for r in chunk])]
            if facts.labelled:
                made.append(pyarrow.array([r.label for r in chunk], pyarrow.string()))
            for stream, field in zip(streams, fields[len(made) :], strict=True):
                flat = pyarrow.array(next(stream).reshape(-1))
                made.append(pyarrow.FixedSizeListArray.from_arrays(flat, type=field.type))
            out.write_table(pyarrow.table(made, schema=pyarrow.schema(fields)))


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MissingExtra("pyarrow", "data", "writing a Parquet file") from None
    return pyarrow, parquet
