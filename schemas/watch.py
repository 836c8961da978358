"""An end for libraries of C that a file sends round in circles (HDF5 does, in one of ten thousand bit flips).

No handler of Python runs while such a library loops, so the system ends the process: that is only done in the confined
child of netferry/sandbox.py, whose parent makes a typed error of it. Elsewhere nothing is watched.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
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
