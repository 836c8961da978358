"""Items decoded by a pool of threads ahead of the network, a bounded number at a time, in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from netferry.errors import NetferryError, UsageError, quoted
from netferry.runtime.data.item import Item

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Loaded(Generic[T]):
    """An item with what was made of it, or why it could not be read."""

    item: Item
    value: T | None = None
    error: NetferryError | None = None


def workers_for(asked: int | None = None) -> int:
    """Return the number of decoding threads: as asked, else one per processor that this process may use, 2 to 16.

    Raises:
        UsageError: less than one.
    """
    if asked is not None and asked < 1:
        raise UsageError(f"there must be at least one worker, not {asked}")
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return asked or min(16, max(2, usable))


def load_ahead(
    items: Iterable[Item],
    make: Callable[[Item], T],
    size: int,
    *,
    workers: int | None = None,
    on_error: str = "fail",
) -> Generator[list[Loaded[T]]]:
    """Yield the items in chunks of ``size``, in order, each with what ``make`` (decode, resize) made of it.

    While a chunk is used, the next ones are decoded; at most two chunks and the threads' own wait. An item that cannot
    be read is raised (``fail``), or comes with its error (``skip``).

    Raises:
        UsageError: ``on_error`` is neither; what ``make`` raises of that kind concerns every item and is never skipped.
        NetferryError: an item cannot be read.
    """
    if on_error not in ("fail", "skip"):
        raise UsageError(f"on_error is fail or skip, not {quoted(on_error)}")
    threads = workers_for(workers)
    waiting: deque[tuple[Item, Future[T]]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="netferry-decode") as pool:
        try:
            source, chunk, more = iter(items), [], True
            while more or waiting:
                while more and len(waiting) < 2 * size + threads:
                    item = next(source, None)
                    if item is None:
                        more = False
                    else:
                        waiting.append((item, pool.submit(make, item)))
                if waiting:
                    chunk.append(_taken(*waiting.popleft(), on_error))
                if len(chunk) == size or (chunk and not waiting and not more):
                    yield chunk
                    chunk = []
        finally:
            for _, future in waiting:
                future.cancel()


def _taken(item: Item, future: Future[T], on_error: str) -> Loaded[T]:
    try:
        return Loaded(item, future.result())
    except NetferryError as error:
        if on_error != "skip" or isinstance(error, UsageError):
            raise
        return Loaded(item, error=error)
