"""Items through a network, the values of some layers out: pooled, in order, into parts that survive a crash."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from netferry.errors import UsageError, quoted
from netferry.runtime.data import Data, Item, Loaded, load_ahead
from netferry.runtime.features.parts import Parts, Row, check_same
from netferry.runtime.features.pool import check_pool, pooled
from netferry.runtime.feed import Feed, Tensors

Progress = Callable[[int], None]
"""Called with the number of items that were gone over since the last call."""


@dataclass(frozen=True)
class Layer:
    """A layer whose values are wanted: what to call it, the session's output that gives them, and how they lie."""

    name: str
    value: str
    channels_last: bool = False
    any_rank: bool = False
    """whether ``channels_last`` holds for values of any rank, not of rank 3 alone"""

    def last(self, rank: int) -> bool:
        """Whether the channels of a value of this rank are its last axis."""
        return self.channels_last and (rank == 3 or self.any_rank)


class Extractor:
    """A session on the part of a network up to some layers. May be shared between threads.

    Args:
        feed: what the session wants to be fed with.
        layers: the layers.
        pool: see :func:`netferry.runtime.features.pool.pooled`.
    """

    def __init__(self, feed: Feed, layers: Sequence[Layer], pool: str = "avg") -> None:
        self.feed, self.layers, self.pool = feed, tuple(layers), check_pool(pool)

    def __call__(self, values: Sequence[Tensors]) -> list[np.ndarray]:
        """Return an array (items, …) for each layer, rows in the order of the items.

        Raises:
            UsageError: a layer gives no row for each item, rows of different sizes, or no numbers.
            CheckFailed: the run failed.
        """
        found: list[list[tuple[list[int], np.ndarray]]] = [[] for _ in self.layers]
        wanted = list(dict.fromkeys(layer.value for layer in self.layers))
        for members, outputs in self.feed.run(values, wanted):
            for column, layer in zip(found, self.layers, strict=True):
                array = outputs[layer.value]
                if array.dtype.kind not in "biufc":
                    raise UsageError(f"layer {quoted(layer.name)} gives {array.dtype}, no numbers")
                column.append((members, pooled(array, self.pool, channels_last=layer.last(array.ndim))))
        return [self._in_order(column, layer, len(values)) for column, layer in zip(found, self.layers, strict=True)]

    def _in_order(self, groups: list[tuple[list[int], np.ndarray]], layer: Layer, count: int) -> np.ndarray:
        if len(groups) == 1:
            return groups[0][1]
        shapes = {array.shape[1:] for _, array in groups}
        if len(shapes) > 1:
            raise UsageError(
                f"layer {quoted(layer.name)} gives {' and '.join(str(list(s)) for s in sorted(shapes))}: "
                "the items have different sizes",
                hint="--pool avg or max gives rows of one size; or --size HEIGHT,WIDTH",
            )
        out = np.empty((count, *groups[0][1].shape[1:]), groups[0][1].dtype)
        for members, array in groups:
            out[members] = array
        return out


def extract(
    extractor: Extractor,
    data: Data,
    parts: Parts,
    batch: int,
    *,
    workers: int | None = None,
    on_error: str = "fail",
    progress: Progress | None = None,
) -> None:
    """Compute what is not in the parts yet and append it, chunk by chunk.

    Raises:
        NetferryError: an item cannot be read (``on_error="fail"``); what is done until then stays in the parts.
    """
    todo = remaining(data, parts, progress)
    for chunk in load_ahead(todo, extractor.feed, batch, workers=workers, on_error=on_error):
        values = [v for loaded in chunk if (v := loaded.value) is not None]
        parts.append([row_of(loaded) for loaded in chunk], extractor(values) if values else [])
        if progress is not None:
            progress(len(chunk))


def remaining(data: Data, parts: Parts, progress: Progress | None = None) -> Iterable[Item]:
    """Return the items that were not gone over yet.

    Raises:
        InputError: the data is not what it was.
    """
    items = iter(data)
    for row in parts.rows():
        item = next(items, None)
        check_same(parts, row, -1 if item is None else item.number, "nothing" if item is None else item.id)
    if progress is not None:
        progress(parts.done)
    return islice(items, None)


def row_of(loaded: Loaded[Tensors]) -> Row:
    """The row of an item in the file."""
    item, error = loaded.item, loaded.error
    return Row(item.number, item.id, item.label, None if error is None else error.reason)


def collect(
    extractor: Extractor, data: Data, batch: int, *, workers: int | None = None, on_error: str = "fail",
    progress: Progress | None = None,
) -> tuple[list[Row], list[np.ndarray]]:  # fmt: skip
    """Return the rows of all items, those left out included, and per layer the features of the others, in memory.

    Raises:
        NetferryError: an item cannot be read (``on_error="fail"``).
    """
    rows: list[Row] = []
    chunks: list[list[np.ndarray]] = []
    for chunk in load_ahead(data, extractor.feed, batch, workers=workers, on_error=on_error):
        rows += [row_of(loaded) for loaded in chunk]
        values = [v for loaded in chunk if (v := loaded.value) is not None]
        if values:
            chunks.append(extractor(values))
        if progress is not None:
            progress(len(chunk))
    return rows, [np.concatenate(column) for column in zip(*chunks, strict=True)]
