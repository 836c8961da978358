"""The sink that weights go through: each way of copying, sources that change under it, arrays in any order."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from netferry.converters.onnx import stream
from netferry.converters.onnx.stream import Sink
from netferry.errors import CheckFailed, InputError, MalformedFile
from netferry.schemas.ir import ir
from netferry.schemas.tensors import computed_tensor, file_tensor

VALUES = np.random.default_rng(3).standard_normal((300, 1000)).astype(np.float32)
"""1.2 MB: more than is collected before it is written"""


@pytest.fixture
def target(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "target", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


def content(fd: int) -> bytes:
    return os.pread(fd, 1 << 26, 0)


def in_file(folder: Path, values: np.ndarray = VALUES) -> ir.TensorProtocol:
    (folder / "source").write_bytes(b"\0" * 5 + values.tobytes() + b"end")
    return file_tensor(folder / "source", 5, ir.DataType.FLOAT, values.shape)


def fails(number: int) -> Callable[..., int]:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.mark.parametrize("number", [errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP], ids=errno.errorcode.get)
@pytest.mark.parametrize("left", ["sendfile", "read-write"])
def test_a_way_that_the_system_lacks_is_replaced(
    tmp_path: Path, target: int, monkeypatch: pytest.MonkeyPatch, number: int, left: str
) -> None:
    monkeypatch.setattr(stream, "_copy_range", fails(number))
    if left == "read-write":
        monkeypatch.setattr(stream, "_send", fails(number))
    sink = Sink(target)
    sink.bytes(b"head")
    sink.tensor(in_file(tmp_path))
    sink.flush()
    sink.close()
    assert content(target) == b"head" + VALUES.tobytes()


def test_a_copy_of_nothing_is_tried_another_way(tmp_path: Path, target: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "_copy_range", lambda *_: 0)
    sink = Sink(target)
    sink.tensor(in_file(tmp_path))
    sink.close()
    assert content(target) == VALUES.tobytes()


def test_a_full_disk_is_no_missing_way(tmp_path: Path, target: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "_copy_range", fails(errno.ENOSPC))
    sink = Sink(target)
    with pytest.raises(OSError, match="No space"):
        sink.tensor(in_file(tmp_path))
    sink.close()


@pytest.mark.parametrize("size", [100, 400_000], ids=["collected", "copied"])
def test_a_source_that_became_shorter(tmp_path: Path, target: int, size: int) -> None:
    tensor = in_file(tmp_path, VALUES.reshape(-1)[:size])
    os.truncate(tmp_path / "source", 50)
    sink = Sink(target)
    with pytest.raises(MalformedFile, match="became shorter"):
        sink.tensor(tensor)
    sink.close()


def test_a_source_that_becomes_shorter_meanwhile(tmp_path: Path, target: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tensor = in_file(tmp_path)
    for name in ("_copy_range", "_send", "_read_write"):
        monkeypatch.setattr(stream, name, lambda *_: 0)
    sink = Sink(target)
    with pytest.raises(MalformedFile, match="became shorter"):
        sink.tensor(tensor)
    sink.close()


def test_a_source_that_is_gone(tmp_path: Path, target: int) -> None:
    tensor = in_file(tmp_path)
    (tmp_path / "source").unlink()
    sink = Sink(target)
    with pytest.raises(InputError, match="cannot be opened again"):
        sink.tensor(tensor)
    sink.close()


@pytest.mark.parametrize(
    "array",
    [
        pytest.param(np.asfortranarray(VALUES), id="fortran-order"),
        pytest.param(VALUES[::-1, ::3], id="reversed-and-strided"),
        pytest.param(np.moveaxis(np.resize(VALUES, (2, 1200, 1000)), 2, 1), id="rows-beyond-the-buffer"),
    ],
)
def test_arrays_in_any_order(target: int, array: np.ndarray) -> None:
    tensor = computed_tensor(lambda: array, ir.DataType.FLOAT, array.shape)
    sink = Sink(target)
    sink.tensor(tensor)
    sink.flush()
    assert content(target) == np.ascontiguousarray(array).tobytes()
    assert sink.written == array.nbytes


def test_more_bytes_than_the_shape_says(target: int) -> None:
    class Wrong(ir.Tensor):
        def numpy(self) -> np.ndarray:
            return np.zeros(7, np.float32)

        def tobytes(self) -> bytes:
            return bytes(28)

    with pytest.raises(CheckFailed, match="gave 28 bytes"):
        Sink(target).tensor(Wrong(np.zeros(4, np.float32), name="w"))


def test_what_is_written_starts_on_its_way_to_the_disk(
    tmp_path: Path, target: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(stream, "_AHEAD", 1 << 20)
    monkeypatch.setattr(stream.os, "fsync", synced.append)
    sink = Sink(target)
    sink.tensor(in_file(tmp_path))
    sink.close()
    assert synced == [target]


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.ENOSPC], ids=errno.errorcode.get)
def test_reserving(target: int, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """A file system that cannot reserve is let be; one that is full says so."""
    Sink(target).reserve(100)
    assert os.fstat(target).st_size == 0
    Sink(target).reserve(1 << 26)
    assert os.fstat(target).st_size == 1 << 26
    monkeypatch.setattr(stream.os, "posix_fallocate", fails(number))
    if number == errno.ENOSPC:
        with pytest.raises(OSError, match="No space"):
            Sink(target).reserve(1 << 26)
    else:
        Sink(target).reserve(1 << 26)
