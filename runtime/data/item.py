"""What every source of data gives: items with a name, a content and perhaps a label."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from netferry.errors import UsageError, quoted
from netferry.runtime.decoding import Picture


@dataclass(frozen=True, slots=True)
class Item:
    """One row of data, not decoded yet."""

    id: str
    """what to call it in tables: the path, ``shard.tar/key``, ``x.npy#3``, ``picture 0``"""
    source: Picture | dict[str, np.ndarray]
    """a picture (path, encoded bytes, Pillow image, array), or an array per input of the network"""
    label: str | None = None
    """name of the class, or its number as text"""
    ready: bool = False
    """the array is the network's input as it is: no preprocessing"""
    number: int = 0
    """position in the whole data, before sharding"""


@dataclass(frozen=True, slots=True)
class Shard:
    """Part ``index`` (from 1) of ``count`` parts: the items at positions index-1, index-1+count, …"""

    index: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise UsageError(
                f"there is no shard {self.index}/{self.count}", hint="shards count from 1: --shard 1/2 and --shard 2/2"
            )

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def holds(self, number: int) -> bool:
        """Whether the item at this position belongs to the shard."""
        return number % self.count == self.index - 1

    @classmethod
    def parse(cls, text: str | None) -> Shard:
        """Read ``i/n``; None is the whole.

        Raises:
            UsageError: not of that form, or no such shard.
        """
        if text is None:
            return cls()
        found = re.fullmatch(r"\s*(\d{1,9})\s*/\s*(\d{1,9})\s*", text, re.ASCII)
        if found is None:
            raise UsageError(f"a shard is i/n, like 1/4, not {quoted(text)}")
        return cls(int(found[1]), int(found[2]))
