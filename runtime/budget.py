"""Bounds on what one run of a network may take: bytes that it computes with, and seconds.

A file of one kilobyte may hold a loop without end, or a ConstantOfShape of gigabytes. onnxruntime's arena counts what
is computed (not the weights) exactly, and a run ends at the next operator once it is told to. An operator that comes
to no end itself ends the sandbox's child.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from netferry.errors import LimitExceeded, OutOfMemory
from netferry.schemas.watch import bounded

_LACKS = re.compile(r"smaller than requested bytes of (\d+)")
_REGISTERING = threading.Lock()
GRACE = 15.0
"""seconds that the operator at work has to end once the run is told to"""


@dataclass(frozen=True)
class Budget:
    """``bytes`` of values that are alive at a time, and ``seconds`` of one run (limits run_bytes, run_seconds)."""

    bytes: int = 4 << 30
    seconds: int = 60

    def opened(self, ort: ModuleType, options: Any, open_: Callable[[], Any]) -> Any:
        """Return the session that ``open_`` makes with ``options``, confined to an arena of its own."""
        info = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
        options.add_session_config_entry("session.use_env_allocators", "1")
        options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
        with _REGISTERING:  # the arena registered last is taken by sessions made after it, and goes with them
            ort.create_and_register_allocator(info, ort.OrtArenaCfg(self.bytes, -1, -1, -1))
            return bounded(open_, self._processor(4))  # constants are computed then, and weights arranged

    def run(self, ort: ModuleType, session: Any, outputs: list[str], feeds: dict[str, Any], file: str | None) -> Any:
        """Run a session that was opened within this budget.

        Raises:
            LimitExceeded: it takes more; names the limit.
            OutOfMemory: no memory of this machine's would do.
        """
        options, late = ort.RunOptions(), threading.Event()

        def end() -> None:
            late.set()
            options.terminate = True

        timer = threading.Timer(self.seconds, end)
        timer.daemon = True
        timer.start()
        try:
            return bounded(lambda: session.run(outputs, feeds, options), self._processor(1))
        except Exception as error:
            lacks = _LACKS.search(str(error))
            if late.is_set():
                reason = f"one run takes more than {self.seconds} s (limit run_seconds={self.seconds})"
            elif lacks is not None:
                more, all_ = int(lacks[1]), _memory()
                if all_ and more > all_:
                    raise OutOfMemory(
                        f"one run needs {more / 2**30:,.0f} GiB at once, more than there is", file=file
                    ) from None
                gib = f"{more / 2**30:,.1f} GiB"
                reason = f"one run needs another {gib}, of {self.bytes / 2**30:,.1f} GiB (limit run_bytes={self.bytes})"
            else:
                raise
            hint = "--limit run_bytes=… or run_seconds=… allows more; --check structure leaves the run out"
            raise LimitExceeded(reason, file=file, hint=hint) from None
        finally:
            timer.cancel()

    def _processor(self, times: int) -> float:
        """Seconds of processor time in which a run, or what takes a few times as long, has ended on all processors."""
        return times * (self.seconds + GRACE) * (os.cpu_count() or 1)


def _memory() -> int:
    """Bytes of this machine's memory, 0 where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0
