"""An array seen as its rows, one item each, read one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from netferry.errors import LimitExceeded, MalformedFile, UnsafeFile, UsageError

MAX_ROW = 1 << 30
"""Largest single item, in bytes."""


class Rows:
    """An array seen as its rows, with what is known before they are read."""

    def __init__(self, shape: Sequence[int], dtype: np.dtype[Any], rows: Iterator[np.ndarray], file: object) -> None:
        if not len(shape):
            raise UsageError("a single number is no data", file=file)
        if dtype.hasobject:
            raise UnsafeFile("the array holds Python objects (pickle), which are never read", file=file)
        if min(shape) < 0:
            raise MalformedFile(f"an array of shape {list(shape)}", file=file)
        size = dtype.itemsize
        for dim in shape[1:]:
            size *= dim
        if size > MAX_ROW:
            raise LimitExceeded(f"an item of {list(shape[1:])} {dtype} has {size:,} bytes", file=file)
        self.count, self.shape, self.dtype = shape[0], tuple(shape[1:]), dtype
        self.rows = rows if size or not shape[0] else _nothing(file)


def _nothing(file: object) -> Iterator[np.ndarray]:
    raise UsageError("the items of the array have no elements", file=file)
    yield
