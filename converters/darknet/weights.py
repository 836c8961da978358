"""Reading of ``.weights`` files: a header, then the numbers of all layers one after the other, without names or sizes.

What the cfg asks for decides what a number means, so every claim is checked against the file's size before a tensor is
made, and what is left over at the end is an error. The values are read only when they are written out.

Rules: load_weights_upto of pjreddie/darknet's parser.c. The header is major, minor, revision (int32 each) and the
count of pictures seen: 8 bytes from version 0.2 on, 4 before. A major or minor above 1000 marks connected layers stored
input by output. AlexeyAB's fork writes revision 5; it stores recurrent gates in another order.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from netferry.errors import InputError, MalformedFile, WeightsError
from netferry.schemas.ir import ir
from netferry.schemas.opening import open_regular
from netferry.schemas.tensors import computed_tensor, file_tensor

_FLOAT = 4


@dataclass(frozen=True)
class Header:
    """The first bytes of a weights file."""

    major: int
    minor: int
    revision: int
    seen: int
    size: int

    @property
    def transposed(self) -> bool:
        """Whether connected layers are stored input by output."""
        return self.major > 1000 or self.minor > 1000

    @property
    def fork(self) -> bool:
        """Whether AlexeyAB's fork wrote the file."""
        return (self.major, self.minor, self.revision) == (0, 2, 5)

    @property
    def version(self) -> str:
        """``major.minor.revision``."""
        return f"{self.major}.{self.minor}.{self.revision}"


class WeightsFile:
    """A cursor over a weights file.

    Args:
        path: the file.

    Raises:
        InputError: it cannot be opened.
        MalformedFile: its header is cut off, or no header of Darknet's.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with open_regular(path) as file:
                head = file.read(20)
            self.size = path.stat().st_size
        except OSError as error:
            raise InputError(f"cannot be opened: {error.strerror}", file=path) from None
        self.header = _header(head, path)
        self.at = self.header.size

    @property
    def left(self) -> int:
        """Bytes not taken yet."""
        return self.size - self.at

    def take(self, shape: Sequence[int], what: str, layer: str) -> ir.TensorProtocol:
        """Return the next ``shape`` numbers as a tensor.

        Raises:
            WeightsError: the file ends before.
        """
        return file_tensor(self.path, self._advance(shape, what, layer), ir.DataType.FLOAT, shape)

    def take_transposed(
        self, rows: int, columns: int, shape: Sequence[int], what: str, layer: str
    ) -> ir.TensorProtocol:
        """Return the next ``rows * columns`` numbers, a matrix stored row by row, transposed and in ``shape``.

        Raises:
            WeightsError: the file ends before.
        """
        start = self._advance((rows, columns), what, layer)
        path = self.path

        def values() -> np.ndarray:
            return np.fromfile(path, "<f4", rows * columns, offset=start).reshape(rows, columns).T

        return computed_tensor(values, ir.DataType.FLOAT, tuple(shape))

    def _advance(self, shape: Sequence[int], what: str, layer: str) -> int:
        start, wanted = self.at, math.prod(shape) * _FLOAT
        if wanted > self.left:
            raise WeightsError(
                f"its {what} of shape {tuple(shape)} need {wanted} bytes at byte {start}, the weights file ends "
                f"{max(self.left, 0)} bytes later",
                layer=layer,
                hint="the weights are truncated, or belong to another cfg",
            )
        self.at += wanted
        return start


def _header(head: bytes, path: Path) -> Header:
    if len(head) < 16:
        raise MalformedFile("too short for the header of a weights file", file=path)
    major, minor, revision = struct.unpack_from("<3i", head)
    if min(major, minor, revision) < 0 or max(major, minor, revision) > 1_000_000:
        raise MalformedFile(f"version {major}.{minor}.{revision} is none of Darknet's", file=path)
    wide = major * 10 + minor >= 2 and major < 1000 and minor < 1000
    if wide and len(head) < 20:
        raise MalformedFile("too short for the header of a weights file", file=path)
    seen = struct.unpack_from("<Q" if wide else "<I", head, 12)[0]
    return Header(major, minor, revision, seen, 20 if wide else 16)
