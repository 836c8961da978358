"""The same on a Ray cluster: chunks of items go to workers with a session each, rows come back in order.

The parts are written here, in one process, so a run on a cluster is taken up again like any other, and its file is the
same. Workers open the paths themselves: the data must lie where they can reach it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import cycle, islice
from typing import Any

import numpy as np

from netferry import errors
from netferry.errors import DeviceError, MissingExtra, NetferryError, quoted
from netferry.runtime.data import Data, Item, load_ahead
from netferry.runtime.features.extract import Extractor, Layer, Progress, remaining, row_of
from netferry.runtime.features.parts import Parts, Row

_IN_FLIGHT = 2
"""chunks per worker: one is decoded while another runs"""
_Done = tuple[list[Row], list[np.ndarray], list[str]]


class Worker:
    """A session in a process of the cluster."""

    def __init__(self, model: bytes, layers: Sequence[Layer], pool: str, recipe: Any, device: str) -> None:
        from netferry.runtime.feed import Feed
        from netferry.runtime.session import Session

        session = Session(model, device, threads=1)  # Ray gives each worker one processor
        self._extractor = Extractor(Feed(session, recipe), layers, pool)

    def run(self, items: list[Item], on_error: str) -> _Done | dict[str, Any]:
        """Rows, features and notes of a chunk; or the error as plain data (exceptions lose fields on the way)."""
        feed = self._extractor.feed
        try:
            (chunk,) = load_ahead(items, feed, len(items), workers=2, on_error=on_error)
            values = [v for loaded in chunk if (v := loaded.value) is not None]
            return [row_of(loaded) for loaded in chunk], self._extractor(values) if values else [], list(feed.notes)
        except NetferryError as error:
            return error.as_dict()


def extract_on_ray(
    address: str,
    model: bytes,
    extractor: Extractor,
    data: Data,
    parts: Parts,
    batch: int,
    *,
    device: str = "auto",
    workers: int | None = None,
    on_error: str = "fail",
    progress: Progress | None = None,
) -> None:
    """As :func:`netferry.runtime.features.extract.extract`, on the workers of a cluster.

    Args:
        address: of the cluster (``ray://host:10001``, ``host:6379``, ``auto``); ``local`` starts one here.
        model: the network with its weights inside.
        extractor: what is computed; its own session is not used.
        workers: how many; by default one per GPU of the cluster, or one per processor.

    Raises:
        MissingExtra: ray is not installed.
        DeviceError: no cluster at the address; a worker died (the rows until then are kept).
        NetferryError: an item cannot be read (``on_error="fail"``).
    """
    ray, owned = _connected(address)
    try:
        _run(ray, model, extractor, data, parts, batch, device, workers, on_error, progress)
    finally:
        if owned:
            ray.shutdown()


def _connected(address: str) -> tuple[Any, bool]:
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise MissingExtra("ray", "ray", "a run on a cluster") from None
    if ray.is_initialized():
        return ray, False
    try:
        ray.init(
            address, include_dashboard=None if address != "local" else False, log_to_driver=False, logging_level=40
        )
    except Exception as error:  # ConnectionError, ValueError, RuntimeError …
        text = quoted(" ".join(str(error).split()), 300)[1:-1]
        raise DeviceError(
            f"no Ray cluster at {quoted(address)}: {text}", hint="--ray local starts one on this machine"
        ) from None
    return ray, True


def _run(
    ray: Any,
    model: bytes,
    extractor: Extractor,
    data: Data,
    parts: Parts,
    batch: int,
    device: str,
    workers: int | None,
    on_error: str,
    progress: Progress | None,
) -> None:
    resources = ray.cluster_resources()
    gpus = int(resources.get("GPU", 0)) if device != "cpu" else 0
    count = workers or gpus or max(1, int(resources.get("CPU", 1)))
    options = {"num_cpus": 1, "num_gpus": min(1.0, gpus / count) if gpus else 0, "max_concurrency": _IN_FLIGHT}
    made = ray.remote(Worker).options(**options)
    recipe = extractor.feed.recipe if extractor.feed.picture is not None else None
    shared = ray.put(model)
    pool = [made.remote(shared, extractor.layers, extractor.pool, recipe, device) for _ in range(count)]
    turns, waiting = cycle(pool), deque()
    items = iter(remaining(data, parts, progress))
    while True:
        while len(waiting) < _IN_FLIGHT * count and (chunk := list(islice(items, batch))):
            waiting.append(next(turns).run.remote(chunk, on_error))
        if not waiting:
            return
        done = _got(ray, waiting.popleft())
        parts.append(done[0], done[1])
        extractor.feed.notes += [note for note in done[2] if note not in extractor.feed.notes]
        if progress is not None:
            progress(len(done[0]))


def _got(ray: Any, reference: Any) -> _Done:
    try:
        done = ray.get(reference)
    except ray.exceptions.RayError as error:
        text = quoted(" ".join(str(error).split()), 400)[1:-1]
        raise DeviceError(f"a worker of the cluster failed: {text}", hint="start again: the run goes on") from None
    if isinstance(done, dict):
        kind = getattr(errors, str(done["error"]), NetferryError)
        plain = kind if issubclass(kind, NetferryError) and kind.__init__ is NetferryError.__init__ else NetferryError
        raise plain(done["reason"], file=done.get("file"), layer=done.get("layer"), hint=done.get("hint"))
    return done
