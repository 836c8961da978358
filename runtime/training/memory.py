"""What was read once, kept while there is room: for examples whose decoding costs more than their memory."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar("T")
CACHE_BYTES = 512 * 1024 * 1024
"""Decoded pictures or sounds kept in memory, at most; the rest is decoded anew each time."""


class Memory(Generic[T]):
    """Values by number, shared by threads; a copy for another process begins empty, with what room is left here."""

    def __init__(self, room: int = CACHE_BYTES) -> None:
        self._room = room
        self._kept: dict[int, T] = {}
        self._lock = threading.Lock()

    def get(self, number: int) -> T | None:
        """Return what is kept."""
        return self._kept.get(number)

    def keep(self, number: int, value: T, size: int) -> None:
        """Keep a value of ``size`` bytes, where there is room and it is not kept already."""
        with self._lock:
            if size <= self._room and number not in self._kept:
                self._room -= size
                self._kept[number] = value

    def __getstate__(self) -> dict[str, object]:
        return {"_room": self._room, "_kept": {}, "_lock": None}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()
