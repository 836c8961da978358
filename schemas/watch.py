"""An end for libraries of C that a file sends round in circles (HDF5 does, in one of ten thousand bit flips).

No handler of Python runs while such a library loops, so the system ends the process: that is only done in the confined
child of netferry/sandbox.py, whose parent makes a typed error of it. Elsewhere nothing is watched.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
SECONDS, BYTES = 5.0, 20_000
"""processor time of what goes over a message once, for any, and bytes in a second beside it: far more than it takes"""
_process = {"confined": False}


def confined() -> None:
    """From here on the process may be ended: it is a child whose parent tells why."""
    _process["confined"] = hasattr(signal, "setitimer")


def bounded(function: Callable[[], T], seconds: float) -> T:
    """Call a function that may take ``seconds`` of processor time (SIGPROF ends the process then)."""
    if not _process["confined"]:
        return function()
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        return function()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def bounded_by_size(function: Callable[[], T], nbytes: int) -> T:
    """Call a function that goes over a message of ``nbytes`` bytes, in time that is in proportion."""
    return bounded(function, SECONDS + nbytes / BYTES)
