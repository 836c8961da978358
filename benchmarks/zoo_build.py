"""The seven seconds test: ``zoo build resnet50`` then ``predict``, with an empty cache.

``python -m benchmarks.zoo_build [NAME ...]``

Prints wall time, cpu time and peak memory of each command, the median of some rounds; further networks may be named.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import Cost, run

PICTURE = Path(__file__).resolve().parents[1] / "fixtures" / "digit_0_04.png"
ROUNDS = 3


def main() -> None:
    """Measure."""
    names = sys.argv[1:] or ["resnet50"]
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            target = str(Path(folder) / "net.onnx")
            env = {"NETFERRY_CACHE": str(Path(folder) / "cache")}
            steps = {
                "build": ["zoo", "build", name, "--seed", "0", "-o", target],
                "predict": ["predict", target, str(PICTURE)],
            }
            costs: dict[str, list[Cost]] = {step: [] for step in steps}
            for _ in range(ROUNDS):
                for step, words in steps.items():
                    costs[step].append(run([sys.executable, "-m", "netferry", *words], env=env))
        total = 0.0
        for step, rows in costs.items():
            wall, cpu, peak = (statistics.median(getattr(r, f) for r in rows) for f in ("wall", "cpu", "peak"))
            total += wall
            print(f"{name:20s} {step:8s} {wall:6.2f} s wall {cpu:6.2f} s cpu {peak:7.0f} MiB")
        print(f"{name:20s} {'both':8s} {total:6.2f} s wall")


if __name__ == "__main__":
    main()
