"""Reader of protobuf's wire format over a file, for weights files and means.

Only names, types, bottoms, tops and blobs are looked at, by the field numbers that all forks share; the numbers of
their settings collide. Blob data is never read here: its place in the file is noted. Encoding:
https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from netferry.converters.caffe.blobs import Blob
from netferry.converters.options import Limits
from netferry.converters.protobuf import BYTES, VARINT, Field, ProtoFile
from netferry.errors import LimitExceeded, MalformedFile, quoted
from netferry.schemas.ir import ir
from netferry.schemas.tensors import array_tensor, computed_tensor, file_tensor


@dataclass
class StoredLayer:
    """A layer of a weights file: what the forks agree on."""

    name: str
    type: str
    blobs: list[Blob] = field(default_factory=list)
    bottoms: list[str] = field(default_factory=list)
    tops: list[str] = field(default_factory=list)


class WireFile(ProtoFile):
    """A file of Caffe's messages: protobuf with its strings and repeated integers."""

    def text(self, f: Field) -> str:
        """A string field."""
        if f.kind != BYTES:
            raise self.fail("a string is expected", f.start)
        if f.end - f.start > self.limits.name_bytes:
            raise LimitExceeded(f"a name of {f.end - f.start} bytes (limit name_bytes)", file=self.path)
        return self.read(f.start, f.end - f.start).decode("utf-8", "backslashreplace")

    def varints(self, f: Field) -> list[int]:
        """A repeated integer field, packed or not; values are signed 64-bit."""
        if f.kind == VARINT:
            return [_signed(f.value)]
        if f.kind != BYTES:
            raise self.fail("an integer is expected", f.start)
        values, at = [], f.start
        while at < f.end:
            value, at = self.varint(at, f.end)
            values.append(_signed(value))
            if len(values) > 4096:
                raise self.fail("more than 4096 integers in one field", f.start)
        return values


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


@dataclass(frozen=True)
class _Run:
    """``count`` numbers from ``start`` on, ``stride`` bytes apart (the unpacked form repeats the tag)."""

    start: int
    count: int
    stride: int
    dtype: str


_RAW_TYPES = {0: ("<f8", ir.DataType.DOUBLE), 1: ("<f4", ir.DataType.FLOAT), 2: ("<f2", ir.DataType.FLOAT16)}


def read_blob(wire: WireFile, start: int, end: int, where: str) -> Blob:
    """Read a BlobProto: dimensions and the place of its numbers.

    Raises:
        MalformedFile: the dimensions do not multiply to the count of numbers present.
        LimitExceeded: more axes or a larger axis than allowed.
    """
    dims: list[int] | None = None
    legacy: dict[int, int] = {}
    runs: list[_Run] = []
    raw: Field | None = None
    raw_type = 1
    at = start
    while at < end:
        run = _unpacked(wire, at, end)
        if run is not None:
            runs.append(run)
            at = run.start - 1 + run.count * run.stride
            continue
        f = wire.field(at, end)
        at = f.end
        if f.number == 7 and f.kind == BYTES:
            dims = [d for g in wire.fields(f.start, f.end) if g.number == 1 for d in wire.varints(g)]
        elif f.number in (1, 2, 3, 4) and f.kind == VARINT:
            legacy[f.number] = _signed(f.value)
        elif f.number in (5, 8) and f.kind == BYTES:
            size = 4 if f.number == 5 else 8
            if (f.end - f.start) % size:
                raise wire.fail(f"blob data of {f.end - f.start} bytes is no multiple of {size}", f.start)
            runs.append(_Run(f.start, (f.end - f.start) // size, size, f"<f{size}"))
        elif f.number == 10 and f.kind == VARINT:
            raw_type = f.value
        elif f.number == 12 and f.kind == BYTES:
            raw = f
    if raw is not None and not runs:
        if raw_type not in _RAW_TYPES:
            raise wire.fail(f"raw_data_type {raw_type} is not supported (double, float, float16)", raw.start)
        size = _RAW_TYPES[raw_type][1].itemsize
        if (raw.end - raw.start) % size:
            raise wire.fail(f"raw data of {raw.end - raw.start} bytes is no multiple of {size}", raw.start)
        runs = [_Run(raw.start, (raw.end - raw.start) // int(size), int(size), _RAW_TYPES[raw_type][0])]
    if len({run.dtype for run in runs}) > 1:
        raise wire.fail(f"layer {quoted(where)}: a blob with both float and double data", start)
    runs = [run for run in runs if run.count]
    count = sum(run.count for run in runs)
    if dims is None:
        dims = [legacy.get(i, 0) for i in (1, 2, 3, 4)] if legacy else [count]
    _check_dims(wire, dims, count, start, where)
    return Blob(tuple(dims), bool(legacy), _maker(wire.path, runs))


def _unpacked(wire: WireFile, at: int, end: int) -> _Run | None:
    """A run of unpacked floats (tag 0x2D) or doubles (tag 0x41) at ``at``, found without a step per number."""
    first = wire.read(at, 1)[0]
    size = {0x2D: 4, 0x41: 8}.get(first)
    if size is None:
        return None
    stride, count, position = size + 1, 0, at
    while end - position >= stride:
        rows = min((end - position) // stride, 1 << 20)
        tags = np.frombuffer(wire.read(position, rows * stride), np.uint8).reshape(rows, stride)[:, 0]
        other = np.flatnonzero(tags != first)
        good = rows if other.size == 0 else int(other[0])
        count += good
        position += good * stride
        if good < rows:
            break
    if count == 0:
        raise wire.fail("the file ends inside a number", at)
    return _Run(at + 1, count, stride, f"<f{size}")


def _check_dims(wire: WireFile, dims: list[int], count: int, at: int, where: str) -> None:
    if len(dims) > wire.limits.rank:
        raise LimitExceeded(f"a blob of {len(dims)} axes (limit rank={wire.limits.rank})", file=wire.path, layer=where)
    product = 1
    for dim in dims:
        if dim < 0:
            raise wire.fail(f"layer {quoted(where)}: a blob with dimension {dim}", at)
        if dim > wire.limits.dim:
            raise LimitExceeded(f"a dimension of {dim} (limit dim={wire.limits.dim})", file=wire.path, layer=where)
        product *= dim
    if product != count:
        raise wire.fail(f"layer {quoted(where)}: shape {dims} needs {product} numbers, the file has {count}", at)


def _maker(path: Path, runs: list[_Run]) -> Callable[[tuple[int, ...]], ir.TensorProtocol]:
    def numbers() -> np.ndarray:
        parts: list[np.ndarray] = []
        with path.open("rb") as file:
            for run in runs:
                data = os.pread(file.fileno(), (run.count - 1) * run.stride + int(run.dtype[2:]), run.start)
                strided = np.ndarray((run.count,), run.dtype, data, strides=(run.stride,)) if data else np.empty(0)
                parts.append(strided.astype(np.float32))
        return np.concatenate(parts) if parts else np.empty(0, np.float32)

    def make(shape: tuple[int, ...]) -> ir.TensorProtocol:
        if len(runs) == 1 and runs[0].stride == 4 and runs[0].dtype == "<f4":
            return file_tensor(path, runs[0].start, ir.DataType.FLOAT, shape)
        if sum(run.count for run in runs) <= 1024:
            return array_tensor(numbers().reshape(shape))
        return computed_tensor(lambda: numbers().reshape(shape), ir.DataType.FLOAT, shape)

    return make


def read_weights(path: Path, limits: Limits) -> tuple[str, list[StoredLayer]]:
    """Read a caffemodel of any version: (net name, layers in file order).

    Raises:
        MalformedFile: not a caffemodel, or damaged; with the byte offset.
    """
    with WireFile(path, limits) as wire:
        if wire.size == 0:
            raise MalformedFile("the file is empty", file=path)
        name, layers = "", []
        for f in wire.fields(0, wire.size):
            if f.number == 1 and f.kind == BYTES:
                name = wire.text(f)
            elif f.number == 100 and f.kind == BYTES:
                layers.append(_layer(wire, f, name=1, kind=2, bottom=3, top=4, blobs=7))
            elif f.number == 2 and f.kind == BYTES:
                layers.append(_v1_layer(wire, f))
            if len(layers) > limits.layers:
                raise LimitExceeded(f"more than {limits.layers} layers (limit layers)", file=path)
        return name, layers


def _layer(wire: WireFile, outer: Field, *, name: int, kind: int, bottom: int, top: int, blobs: int) -> StoredLayer:
    layer, stored = StoredLayer("", ""), []
    for f in wire.fields(outer.start, outer.end):
        if f.number == name:
            layer.name = wire.text(f)
        elif f.number == kind:
            layer.type = str(f.value) if f.kind == VARINT else wire.text(f)
        elif f.number == bottom and f.kind == BYTES:
            layer.bottoms.append(wire.text(f))
        elif f.number == top and f.kind == BYTES:
            layer.tops.append(wire.text(f))
        elif f.number == blobs and f.kind == BYTES:
            stored.append(f)
    layer.blobs = [read_blob(wire, f.start, f.end, layer.name) for f in stored]
    return layer


def _v1_layer(wire: WireFile, outer: Field) -> StoredLayer:
    """A V1 layer; its field 1 holds a V0 layer in the oldest files."""
    for f in wire.fields(outer.start, outer.end):
        if f.number == 1 and f.kind == BYTES:
            return _layer(wire, f, name=1, kind=2, bottom=0, top=0, blobs=50)
    return _layer(wire, outer, name=4, kind=5, bottom=2, top=3, blobs=6)


def read_mean(path: Path, limits: Limits) -> np.ndarray:
    """Read a ``.binaryproto`` mean image as float32 C x H x W (the leading axis of one dropped)."""
    with WireFile(path, limits) as wire:
        blob = read_blob(wire, 0, wire.size, "mean")
    mean = blob.array()
    if mean.ndim == 4 and mean.shape[0] == 1:
        mean = mean[0]
    if mean.ndim != 3 or mean.size == 0:
        raise MalformedFile(f"a mean image has shape 1 x C x H x W, this one {blob.shape}", file=path)
    return np.array(mean, np.float32)
