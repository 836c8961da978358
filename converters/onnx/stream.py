"""Weights to a file: copied from file to file by the kernel, or computed one at a time and let go."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

import numpy as np

from netferry.converters.onnx.wire import Gap
from netferry.errors import CheckFailed, InputError, MalformedFile
from netferry.schemas.ir import ir
from netferry.schemas.tensors import ComputedTensor, byte_size

_CHUNK = 1 << 24
_COLLECTED = 1 << 18
"""bytes from which on data is written at once, without being collected first"""
_PIECE = 1 << 22
"""bytes of a strided array that are put in order at a time"""
_AHEAD = 1 << 26
"""bytes after which what is written starts on its way to the disk"""
_COPY_UNSUPPORTED = {
    errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EPERM, errno.EBADF,
}  # fmt: skip


class Sink:
    """Appends to an open file; sources stay open between weights that come from the same file.

    Args:
        fd: descriptor of the file to write, open for writing at its end.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._pending = bytearray()
        self._buffer: np.ndarray | None = None
        self._source: tuple[str, int] | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._on_its_way: Future[None] | None = None
        self._since = 0
        self.written = 0

    def reserve(self, size: int) -> None:
        """Ask for the space of a large file at once: a third less work for the system, and a full disk shows now.

        Raises:
            OSError: there is no room; file systems that cannot reserve are let be.
        """
        if size < _AHEAD or not hasattr(os, "posix_fallocate"):
            return
        try:
            os.posix_fallocate(self._fd, 0, size)
        except OSError as error:
            if error.errno not in _COPY_UNSUPPORTED:
                raise

    def pieces(self, pieces: Sequence[bytes | memoryview | Gap], tensors: Sequence[ir.TensorProtocol]) -> None:
        """Write the pieces in order, gaps filled with the bytes of ``tensors``."""
        for piece in pieces:
            if isinstance(piece, Gap):
                self.tensor(tensors[piece.index])
            else:
                self.bytes(piece)

    def bytes(self, data: bytes | memoryview) -> None:
        """Write bytes; small ones are collected first."""
        if len(data) >= _COLLECTED:
            self.flush()
            self._all(memoryview(data))
        else:
            self._pending += data
            if len(self._pending) >= 1 << 20:
                self.flush()
        self.written += len(data)

    def align(self, boundary: int) -> None:
        """Fill up with zeros to a multiple of ``boundary``."""
        self.bytes(bytes(-self.written % boundary))

    def tensor(self, tensor: ir.TensorProtocol) -> None:
        """Write a tensor's little-endian bytes.

        Raises:
            MalformedFile: the file that it lies in became shorter.
            CheckFailed: it has another number of bytes than its shape says.
        """
        expected = byte_size(tensor.dtype, tensor.shape.numpy())
        if isinstance(tensor, ir.ExternalTensor):
            self._from_file(tensor.path, tensor.offset or 0, expected, tensor.name)
            self.written += expected
            return
        if isinstance(tensor, ComputedTensor) and tensor.dtype.bitwidth >= 8 and sys.byteorder == "little":
            array = tensor.elements()
            if array.dtype == tensor.dtype.numpy():
                self._array(array)
                return
        data = _memory(tensor, expected)
        if data.nbytes != expected:
            reason = f"gave {data.nbytes} bytes, its shape {list(tensor.shape.numpy())} takes {expected}"
            raise CheckFailed(reason, layer=tensor.name)
        self.bytes(data)

    def flush(self) -> None:
        """Write what was collected."""
        if self._pending:
            collected, self._pending = self._pending, bytearray()
            self._all(memoryview(collected))

    def close(self) -> None:
        """Close the source that is open, and wait for what is on its way to the disk."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
        if self._source is not None:
            os.close(self._source[1])
            self._source = None

    def _array(self, array: np.ndarray) -> None:
        """Write an array in C order; a strided one piece by piece through a small buffer."""
        if array.flags.c_contiguous:
            self.bytes(array.reshape(-1).view(np.uint8).data)
            return
        each = array[:1].nbytes
        if each > _PIECE and array.ndim > 1:
            for part in array:
                self._array(part)
            return
        if self._buffer is None:
            self._buffer = np.empty(_PIECE, np.uint8)
        step = _PIECE // max(1, each)
        for start in range(0, len(array), step):
            part = array[start : start + step]
            room = self._buffer[: part.nbytes]
            np.copyto(room.view(part.dtype).reshape(part.shape), part)
            self.bytes(room.data)

    def _all(self, data: memoryview) -> None:
        while data.nbytes:
            data = data[os.write(self._fd, data[:_CHUNK]) :]

    def _from_file(self, path: str, offset: int, count: int, name: str | None) -> None:
        if self._source is None or self._source[0] != path:
            if self._source is not None:
                os.close(self._source[1])
                self._source = None
            try:
                self._source = path, os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
            except OSError as error:
                raise InputError(f"cannot be opened again: {error.strerror}", file=path, layer=name) from None
        source = self._source[1]
        end = offset + count
        if os.fstat(source).st_size < end:
            raise _shrank(path, offset, count, name)
        if count < _COLLECTED:
            data = os.pread(source, count, offset)
            if len(data) != count:
                raise _shrank(path, offset, count, name)
            self._pending += data
            if len(self._pending) >= 1 << 20:
                self.flush()
            return
        self.flush()
        ways = [_read_write]
        if sys.platform == "linux":
            ways = [_copy_range, _send, _read_write]
        while offset < end:
            try:
                done = ways[0](source, self._fd, min(end - offset, _CHUNK), offset)
            except OSError as error:
                if len(ways) == 1 or error.errno not in _COPY_UNSUPPORTED:
                    raise
                ways = ways[1:]
                continue
            if done == 0:
                # some file systems answer 0 to copy_file_range where they mean "not here"
                if len(ways) == 1:
                    raise _shrank(path, offset, end - offset, name)
                ways = ways[-1:]
            offset += done
            self._start_on_its_way(done)

    def _start_on_its_way(self, count: int) -> None:
        """Let the disk work while further weights are copied; the final sync, which counts, then has little left."""
        self._since += count
        if self._since < _AHEAD or (self._on_its_way is not None and not self._on_its_way.done()):
            return
        self._since = 0
        self._pool = self._pool or ThreadPoolExecutor(1)
        self._on_its_way = self._pool.submit(_to_disk, self._fd)


def _to_disk(fd: int) -> None:
    with suppress(OSError):  # what is wrong shows again, and is reported, when the file is synced
        os.fsync(fd)


def _copy_range(source: int, target: int, count: int, offset: int) -> int:
    return os.copy_file_range(source, target, count, offset_src=offset)


def _send(source: int, target: int, count: int, offset: int) -> int:
    return os.sendfile(target, source, offset, count)


def _read_write(source: int, target: int, count: int, offset: int) -> int:
    data = memoryview(os.pread(source, min(count, 1 << 20), offset))
    done = data.nbytes
    while data.nbytes:
        data = data[os.write(target, data) :]
    return done


def _shrank(path: str, offset: int, count: int, name: str | None) -> MalformedFile:
    reason = f"the file became shorter since it was read: {count} bytes are missing there"
    return MalformedFile(reason, file=path, layer=name, offset=offset)


def _memory(tensor: ir.TensorProtocol, expected: int) -> memoryview:
    """A tensor's bytes without a copy where its array is stored as ONNX stores it."""
    if tensor.dtype.bitwidth >= 8 and sys.byteorder == "little":
        array = np.ascontiguousarray(tensor.numpy())
        if array.nbytes == expected and array.dtype.byteorder != ">":
            return array.reshape(-1).view(np.uint8).data
    return memoryview(tensor.tobytes())
