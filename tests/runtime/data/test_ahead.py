"""Decoding ahead: order, bounds, and what becomes of items that cannot be read."""

from __future__ import annotations

import threading
import time

import pytest

from netferry.errors import InputError, UsageError
from netferry.runtime.data import Item, load_ahead


def items(count: int) -> list[Item]:
    return [Item(str(n), "", number=n) for n in range(count)]


def test_order_and_chunks() -> None:
    def make(item: Item) -> int:
        time.sleep(0.002 * (item.number % 3))
        return item.number

    chunks = list(load_ahead(items(10), make, 4, workers=4))
    assert [[loaded.value for loaded in c] for c in chunks] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert list(load_ahead([], make, 4)) == []


def test_no_more_than_two_chunks_wait() -> None:
    started: set[int] = set()
    lock = threading.Lock()

    def make(item: Item) -> int:
        with lock:
            started.add(item.number)
        return item.number

    chunks = load_ahead(items(1000), make, 8, workers=2)
    next(chunks)
    time.sleep(0.05)
    assert len(started) <= 8 + 2 * 8 + 2
    chunks.close()


def test_errors() -> None:
    def make(item: Item) -> int:
        if item.number == 2:
            raise InputError("broken")
        return item.number

    with pytest.raises(InputError):
        list(load_ahead(items(5), make, 2))
    (chunk,) = load_ahead(items(5), make, 8, on_error="skip")
    assert [loaded.value for loaded in chunk] == [0, 1, None, 3, 4]
    assert [loaded.error is None for loaded in chunk] == [True, True, False, True, True]
    with pytest.raises(UsageError):
        list(load_ahead(items(1), make, 1, on_error="ignore"))

    def wrong(item: Item) -> int:
        raise UsageError("concerns all")

    with pytest.raises(UsageError):
        list(load_ahead(items(1), wrong, 1, on_error="skip"))
