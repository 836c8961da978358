"""Python's cyclic garbage collector, held while a graph is made."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collection_paused() -> Iterator[None]:
    """Hold the cyclic garbage collector: a graph of many small objects is made, and all of them stay.

    Without it the collector walks all that is there, again and again, and finds nothing: a quarter of the time that
    a large network takes. The collector is one for all threads; where it is held already, it stays so.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
