"""A command run by a small process that measures it: the peak of a child counts the memory of its parent."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_MEASURE = (
    "import json, resource, subprocess, sys; done = subprocess.run(sys.argv[1:], capture_output=True, text=True); "
    "used = resource.getrusage(resource.RUSAGE_CHILDREN); "
    "print(json.dumps([done.returncode, done.stderr, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024]))"
)


def measured(*command: str) -> tuple[int, str, float, int]:
    """Return a command's exit code, what it said on stderr, its processor time in seconds and its peak in bytes."""
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, *command], cwd=ROOT, capture_output=True, text=True, check=True
    )
    code, said, cpu, peak = json.loads(done.stdout)
    return code, said, cpu, peak
