"""How fast networks are beside one another, and how much memory each takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from netferry.errors import CheckFailed, UsageError, quoted
from netferry.runtime.session import Session
from netferry.runtime.verify import seeded_inputs

_CHILD = """
import json, sys
import numpy as np
from netferry.runtime.devices import runtime
from netferry.runtime.session import Session
from netferry.runtime.timing import feeds_of, resident
runtime()
before = resident(reset=True)
session = Session(sys.argv[1], sys.argv[2])
session.run(feeds_of(session, int(sys.argv[3]), json.loads(sys.argv[4])))
print(json.dumps(resident(peak=True) - before))
"""


def resident(*, peak: bool = False, reset: bool = False) -> int:
    """Return this process's resident memory in bytes, or its peak since the last ``reset``."""
    if not Path("/proc/self/clear_refs").exists():  # not Linux: the peak of the whole process is all there is
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    key = "VmHWM:" if peak else "VmRSS:"
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(key))


def feeds_of(session: Session, batch: int, size: Sequence[int] | None = None) -> dict[str, np.ndarray]:
    """Return seeded values for one batch; dynamic heights and widths are ``size``, or 224 x 224."""
    height, width = size or (224, 224)
    sizes: dict[str, int] = {}
    for port in session.inputs:
        if len(port.shape) == 4:
            last = isinstance(port.shape[3], int) and not isinstance(port.shape[1], int)
            axes = (1, 2) if last else (2, 3)
            for axis, side in zip(axes, (height, width), strict=True):
                name = port.shape[axis]
                if isinstance(name, str):
                    sizes[name] = side
    return seeded_inputs(session.inputs, batch, 0, sizes)


def time_side_by_side(
    sessions: Sequence[Session], batch: int, repeats: int = 20, warm_up: int = 3, size: Sequence[int] | None = None
) -> list[dict[str, Any]]:
    """Time networks in turns, so that what else the machine does meets all of them alike.

    Args:
        sessions: the networks.
        batch: items in one run, where the network does not fix another number.
        repeats: timed runs of each, after ``warm_up`` ones.
        size: height and width where a network takes pictures of any size.

    Returns:
        For each ``batch`` (its own), and per item in seconds: ``seconds`` (median), ``best``, ``spread`` (the
        middle half's width over the median).
    """
    if repeats < 1 or batch < 1:
        raise UsageError(f"repeats and batch are at least 1, not {repeats} and {batch}")
    feeds = [feeds_of(session, batch, size) for session in sessions]
    taken = np.zeros((len(sessions), repeats))
    for turn in range(-warm_up, repeats):
        for number, (session, feed) in enumerate(zip(sessions, feeds, strict=True)):
            started = time.perf_counter()
            session.run(feed)
            if turn >= 0:
                taken[number, turn] = time.perf_counter() - started
    rows: list[dict[str, Any]] = []
    for feed, times in zip(feeds, taken, strict=True):
        own = next((len(v) for v in feed.values() if v.ndim), 1)
        low, middle, high = np.percentile(times, (25, 50, 75))
        rows.append({"batch": own, "seconds": float(middle / own), "best": float(times.min() / own),
                     "spread": float((high - low) / middle)})  # fmt: skip
    return rows


def memory_of(model: Path, device: str, batch: int, size: Sequence[int] | None = None) -> int | None:
    """Return the bytes of memory that loading a network and one run add to a process at most, measured in a process of
    its own; None where the system does not tell.

    Raises:
        CheckFailed: the network does not run.
    """
    if sys.platform == "win32":
        return None
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, os.fspath(model), device, str(batch), json.dumps(size)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        raise CheckFailed(f"the network does not run in a process of its own: {quoted(last, 300)[1:-1]}", file=model)
    return int(json.loads(done.stdout))
