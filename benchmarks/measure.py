"""Running commands side by side: wall time, cpu and peak memory of a whole process, alternating."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cost:
    """What one process cost: seconds of wall time, seconds of cpu, peak resident memory in MiB."""

    wall: float
    cpu: float
    peak: float


def run(command: Sequence[str], *, env: dict[str, str] | None = None, log: Path | None = None) -> Cost:
    """Run a command to its end and return its cost; Python keeps its byte code, as an installed package does.

    Raises:
        RuntimeError: it failed; with the end of its output.
    """
    output = log.open("wb") if log else subprocess.PIPE
    inherited = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    started = time.perf_counter()
    process = subprocess.Popen(list(command), stdout=output, stderr=subprocess.STDOUT, env=inherited | (env or {}))
    text = process.stdout.read() if process.stdout else b""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - started
    if process.returncode:
        raise RuntimeError(f"{command[0]} … ended with {process.returncode}: {text[-2000:].decode(errors='replace')}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def alternate(
    commands: dict[str, Sequence[str]], rounds: int, *, fresh: Sequence[Path] = (), cold: Sequence[Path] = ()
) -> dict[str, Cost]:
    """Run all commands once to warm the caches, then ``rounds`` times in turn; return the median of each figure.

    ``fresh`` are outputs to remove before each round: to free a large old file takes time that is not the command's.
    ``cold`` are inputs to drop from the page cache before each command, as when a file was just downloaded elsewhere.
    """
    for command in commands.values():
        run(command)
    costs: dict[str, list[Cost]] = {name: [] for name in commands}
    for _ in range(rounds):
        for file in fresh:
            file.unlink(missing_ok=True)
        for name, command in commands.items():
            for file in cold:
                _drop(file)
            costs[name].append(run(command))
    return {
        name: Cost(*(statistics.median(getattr(c, field) for c in found) for field in ("wall", "cpu", "peak")))
        for name, found in costs.items()
    }


def _drop(file: Path) -> None:
    fd = os.open(file, os.O_RDONLY)
    try:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


def table(costs: dict[str, Cost], baseline: str) -> str:
    """Return the costs with their ratios to ``baseline``, as text."""
    base = costs[baseline]
    lines = [f"{'':32} {'wall':>8} {'cpu':>8} {'peak MiB':>9}   ratios to {baseline}"]
    for name, cost in costs.items():
        ratios = f"{cost.wall / base.wall:5.2f} {cost.cpu / base.cpu:5.2f} {cost.peak / base.peak:5.2f}"
        lines.append(f"{name:32} {cost.wall:7.2f}s {cost.cpu:7.2f}s {cost.peak:9.0f}   {ratios}")
    return "\n".join(lines)
