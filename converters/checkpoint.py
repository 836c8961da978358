"""TensorFlow 1 checkpoints of one file (format V1, like ``vggish_model.ckpt``): names, shapes, where values lie.

A table of LevelDB's form (a footer, an index block, data blocks; entries with shared key beginnings) whose values are
messages ``SavedTensorSlices``: https://github.com/google/leveldb/blob/main/doc/table_format.md and TensorFlow's
saved_tensor_slice.proto. Nothing is evaluated: a checkpoint of this form holds numbers alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from netferry.converters.options import Limits
from netferry.converters.protobuf import BYTES, VARINT, ProtoFile
from netferry.errors import InputError, MalformedFile, UnsupportedOption, WeightsError, quoted
from netferry.schemas.opening import open_regular

_MAGIC = 0xDB4775248B80FB57
_FOOTER, _TRAILER = 48, 5
_FLOAT = 1
_MOST_RANK, _MOST_NAME = 8, 4096


@dataclass(frozen=True)
class Variable:
    """A float32 variable of a checkpoint."""

    path: Path
    shape: tuple[int, ...]
    offset: int

    def read(self) -> np.ndarray:
        """Its values."""
        count = math.prod(self.shape)
        return np.fromfile(self.path, "<f4", count, offset=self.offset).reshape(self.shape)


def is_checkpoint(path: Path) -> bool:
    """Whether a file ends like a checkpoint of this form."""
    try:
        size = path.stat().st_size
        with open_regular(path) as file:
            file.seek(max(size - 8, 0))
            return int.from_bytes(file.read(8), "little") == _MAGIC
    except OSError as error:
        raise InputError(f"cannot be opened: {error.strerror}", file=path) from None


def read_checkpoint(path: Path, limits: Limits) -> dict[str, Variable]:
    """Return the float32 variables of a checkpoint by name; their values stay in the file until they are read.

    Raises:
        InputError: the file cannot be opened.
        MalformedFile: it is no checkpoint of this form, or cut off.
        UnsupportedOption: it is compressed, or a variable lies in parts.
    """
    with ProtoFile(path, limits) as file:
        shapes: dict[str, tuple[int, ...]] = {}
        values: dict[str, tuple[int, int]] = {}
        for start, end in _messages(file):
            for field in file.fields(start, end):
                if field.number == 1 and field.kind == BYTES:
                    for inner in file.fields(field.start, field.end):
                        if inner.number == 1 and inner.kind == BYTES:
                            name, shape = _described(file, inner.start, inner.end)
                            if shape is not None:
                                shapes[name] = shape
                elif field.number == 2 and field.kind == BYTES:
                    name, found = _slice(file, field.start, field.end)
                    if found is not None:
                        if name in values:
                            raise UnsupportedOption(f"the variable {quoted(name)} lies in parts", file=path)
                        values[name] = found
        out: dict[str, Variable] = {}
        for name, shape in shapes.items():
            start, end = values.get(name, (0, 0))  # one without elements has no values
            if end - start != 4 * math.prod(shape):
                raise MalformedFile(f"the variable {quoted(name)} of shape {list(shape)} is not whole", file=path)
            out[name] = Variable(path, shape, start)
        return out


def _messages(file: ProtoFile) -> Iterator[tuple[int, int]]:
    """Where the values of all entries lie, in the order of the table."""
    if file.size < _FOOTER:
        raise file.fail("too short for a checkpoint", 0)
    footer = file.size - _FOOTER
    if int.from_bytes(file.read(file.size - 8, 8), "little") != _MAGIC:
        raise file.fail("is no TensorFlow checkpoint of one file", file.size - 8)
    _, _, at = _handle(file, footer, file.size - 8)  # the meta index, which is empty
    index, length, _ = _handle(file, at, file.size - 8)
    for start, end in _entries(file, index, length):
        block, size, _ = _handle(file, start, end)
        yield from _entries(file, block, size)


def _handle(file: ProtoFile, at: int, end: int) -> tuple[int, int, int]:
    """Offset and size of a block, and where the next handle begins."""
    offset, at = file.varint(at, end)
    size, at = file.varint(at, end)
    if offset + size + _TRAILER > file.size:
        raise file.fail(f"a block of {size} bytes at {offset} does not lie in the file", at)
    return offset, size, at


def _entries(file: ProtoFile, start: int, size: int) -> Iterator[tuple[int, int]]:
    """Where the values of a block's entries lie."""
    if file.read(start + size, 1) != b"\0":
        raise UnsupportedOption("the checkpoint is compressed", file=file.path)
    if size < 4:
        raise file.fail("a block without an end", start)
    restarts = int.from_bytes(file.read(start + size - 4, 4), "little")
    end = start + size - 4 - 4 * restarts
    if end < start:
        raise file.fail(f"a block of {size} bytes with {restarts} restarts", start)
    at = start
    while at < end:
        _, at = file.varint(at, end)
        key, at = file.varint(at, end)
        length, at = file.varint(at, end)
        if key + length > end - at:
            raise file.fail("an entry runs past the end of its block", at)
        at += key
        yield at, at + length
        at += length


def _described(file: ProtoFile, start: int, end: int) -> tuple[str, tuple[int, ...] | None]:
    """A variable's name and shape; None where it holds no float32."""
    name, shape, kind = "", [], 0
    for field in file.fields(start, end):
        if field.number == 1 and field.kind == BYTES:
            name = _text(file, field.start, field.end)
        elif field.number == 2 and field.kind == BYTES:
            for dim in file.fields(field.start, field.end):
                if dim.number == 2 and dim.kind == BYTES:
                    sizes = [f.value for f in file.fields(dim.start, dim.end) if f.number == 1 and f.kind == VARINT]
                    shape.append(sizes[-1] if sizes else 0)
        elif field.number == 3 and field.kind == VARINT:
            kind = field.value
    if len(shape) > _MOST_RANK or math.prod(shape) * 4 > file.size:
        if kind == _FLOAT:
            raise file.fail(f"the variable {quoted(name)} claims shape {shape[:_MOST_RANK]}", start)
        return name, None
    return name, tuple(shape) if kind == _FLOAT else None


def _slice(file: ProtoFile, start: int, end: int) -> tuple[str, tuple[int, int] | None]:
    """A variable's name and where its float32 values lie."""
    name, found = "", None
    for field in file.fields(start, end):
        if field.number == 1 and field.kind == BYTES:
            name = _text(file, field.start, field.end)
        elif field.number == 3 and field.kind == BYTES:
            for inner in file.fields(field.start, field.end):
                if inner.kind == BYTES and inner.number == 5:  # float_val, packed
                    found = inner.start, inner.end
    return name, found


def _text(file: ProtoFile, start: int, end: int) -> str:
    if end - start > _MOST_NAME:
        raise file.fail(f"a name of {end - start} bytes", start)
    name = file.read(start, end - start).decode("utf-8", "backslashreplace")
    if "\0" in name or "." in name.split("/"):  # neither can be the name of a layer
        raise file.fail(f"a variable called {quoted(name)}", start)
    return name


def as_keras_weights(variables: dict[str, Variable], target: Path) -> None:
    """Write the variables as a Keras weights file (HDF5): ``a/conv1/weights`` is the kernel of layer ``conv1``.

    Raises:
        WeightsError: two variables would be the same weight.
    """
    from netferry.converters.hdf5_library import h5py

    layers: dict[str, dict[str, Variable]] = {}
    for name, variable in variables.items():
        *_, layer, kind = ("", *name.split("/"))
        wanted = {"weights": "kernel", "biases": "bias"}.get(kind)
        if wanted is not None and layer:
            if wanted in layers.setdefault(layer, {}):
                raise WeightsError(f"the checkpoint has two of layer {quoted(layer)}'s {kind}", file=variable.path)
            layers[layer][wanted] = variable
    with h5py.File(target, "w") as file:
        file.attrs["layer_names"] = [layer.encode() for layer in layers]
        file.attrs["backend"] = b"tensorflow"
        for layer, held in layers.items():
            group = file.create_group(layer)
            names = [f"{layer}/{kind}:0" for kind in ("kernel", "bias") if kind in held]
            group.attrs["weight_names"] = [n.encode() for n in names]
            for name in names:
                group.create_dataset(name, data=held[name.rpartition("/")[2].removesuffix(":0")].read())
