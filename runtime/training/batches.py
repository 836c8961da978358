"""Which examples make which iteration: a function of (seed, iteration) alone, so that a run can go on anywhere."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from netferry.runtime.training.examples import Examples


@dataclass(frozen=True)
class Order:
    """The order of ``count`` examples: each epoch a new permutation, cut into iterations of ``size``.

    The last iteration of an epoch may be smaller; a single example left over joins the iteration in front of it,
    because a batch norm cannot learn from one.
    """

    count: int
    size: int
    seed: int

    @property
    def per_epoch(self) -> int:
        """Iterations in one epoch."""
        return max(1, -(-(self.count - (self.count > 1)) // self.size))

    def rows(self, iteration: int) -> np.ndarray:
        """Numbers of the examples of an iteration, from 0."""
        epoch, place = divmod(iteration, self.per_epoch)
        order = _permutation(self.count, self.seed, epoch)
        end = self.count if place == self.per_epoch - 1 else (place + 1) * self.size
        return order[place * self.size : end]


@lru_cache(maxsize=4)
def _permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, 1, epoch]).permutation(count)


class Batches(Dataset):
    """Maps a batch's number to the batch; an iteration is ``accumulate`` batches.

    Each holds ``iteration``, whether it is the ``last`` of its iteration, the ``inputs`` and ``targets`` of this
    device, and ``total``: by what the sum of losses is to be divided, for the whole iteration on all devices.
    """

    def __init__(
        self,
        examples: Examples,
        order: Order,
        *,
        accumulate: int = 1,
        weights: np.ndarray | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.examples, self.order, self.accumulate, self.weights = examples, order, accumulate, weights
        self.rank, self.world = rank, world

    def __getitem__(self, number: int) -> dict[str, Any]:
        iteration, part = divmod(number, self.accumulate)
        rows = self.order.rows(iteration)
        total = float(len(rows)) if self.weights is None else float(self.weights[self.examples.targets[rows]].sum())
        rows = np.array_split(rows, self.accumulate)[part]
        mine = rows[self.rank :: self.world]
        if len(rows) and not len(mine):  # fewer examples than devices: none may wait for ever
            mine = rows[:1]
        arrays: list[np.ndarray] = []
        if len(mine):
            arrays = self.examples.inputs(mine.tolist(), [iteration // self.order.per_epoch] * len(mine))
        return {
            "iteration": iteration,
            "last": part == self.accumulate - 1,
            "inputs": [torch.from_numpy(a) for a in arrays],
            "targets": torch.from_numpy(np.ascontiguousarray(self.examples.targets[mine])),
            "total": total,
        }


def loader(data: Batches, start: int, stop: int, workers: int, pin: bool) -> DataLoader | Ahead:
    """Batches of the iterations from ``start`` to below ``stop``, read ahead by processes or by a thread."""
    numbers = range(start * data.accumulate, stop * data.accumulate)
    if not workers:
        return Ahead(data, numbers)
    return DataLoader(
        data, batch_size=None, sampler=numbers, num_workers=workers, pin_memory=pin, prefetch_factor=4,
        multiprocessing_context="spawn",
    )  # fmt: skip


class Ahead:
    """An iterable that makes the next two items in a thread while the current one is used."""

    def __init__(self, data: Batches, numbers: range) -> None:
        self.data, self.numbers = data, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        waiting: queue.Queue[Any] = queue.Queue(2)
        stopped = threading.Event()

        def work() -> None:
            try:
                for number in self.numbers:
                    if stopped.is_set():
                        return
                    _put(waiting, self.data[number], stopped)
                _put(waiting, None, stopped)
            except BaseException as error:
                _put(waiting, error, stopped)

        thread = threading.Thread(target=work, name="batches", daemon=True)
        thread.start()
        try:
            while (item := waiting.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            stopped.set()
            thread.join()


def _put(waiting: queue.Queue[Any], item: Any, stopped: threading.Event) -> None:
    while not stopped.is_set():
        try:
            waiting.put(item, timeout=0.1)
        except queue.Full:
            continue
        return
