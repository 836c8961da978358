"""What netferry's modules cost beside the same networks in plain torch classes: forward and training step.

``python -m benchmarks.torch_cost [--rounds N] [--size S] [--batch B]``: one thread, both sides in turn, medians of
cpu seconds, and ratios. The first column is the time to build the module from the ONNX file (for the LSTM and the
transformer with the way through torch's own exporter).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from benchmarks.torch_natives import NATIVES, SEQUENCES, as_onnx
from netferry import api


def alternate(sides: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Seconds of cpu of each side, taken in turn after one round to warm up; the order turns every round."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for step in sides.values():
        step()
    for i in range(rounds):
        for name in sorted(sides, reverse=bool(i % 2)):
            started = time.process_time()
            sides[name]()
            times[name].append(time.process_time() - started)
    return times


def ratio(times: dict[str, list[float]]) -> float:
    """Median of the ratios of neighbouring runs: what the machine does besides cancels out."""
    return statistics.median(a / b for a, b in zip(times["netferry"], times["native"], strict=True))


def training_step(module: nn.Module, x: torch.Tensor, target: torch.Tensor) -> Callable[[], None]:
    """Loss, all gradients and an SGD update."""
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(x), target).backward()
        optimizer.step()

    return step


def forward(module: nn.Module, x: torch.Tensor) -> Callable[[], None]:
    """One forward pass without gradients."""

    def step() -> None:
        with torch.no_grad():
            module(x)

    return step


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--only", choices=sorted(NATIVES | SEQUENCES))
    given = parser.parse_args()
    torch.set_num_threads(1)
    heads = "".join(f" {head:>9} {'native':>9} {'ratio':>6}" for head in ("forward", "train"))
    print(f"{'network':14} {'build s':>8}{heads}")
    for name, make in (NATIVES | SEQUENCES).items():
        if given.only not in (None, name):
            continue
        torch.manual_seed(0)
        native = make()
        if name in SEQUENCES:
            x = torch.randn(given.batch, 64, 64)
            started = time.perf_counter()
            module = api.to_torch(api.load(native, example_inputs=x))
        else:
            x = torch.randn(given.batch, 3, given.size, given.size)
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "net.onnx"
                path.write_bytes(as_onnx(native))
                started = time.perf_counter()
                module = api.to_torch(api.load(path))
        built, target = time.perf_counter() - started, torch.arange(given.batch)
        row = [f"{name:14} {built:8.2f}"]
        for kind in ("forward", "train"):
            sides: dict[str, Callable[[], None]] = {}
            for label, side in (("netferry", module), ("native", native)):
                side.train(kind == "train")
                sides[label] = training_step(side, x, target) if kind == "train" else forward(side, x)
            times = alternate(sides, given.rounds)
            a, b = (statistics.median(times[label]) for label in ("netferry", "native"))
            row.append(f"{a:9.3f} {b:9.3f} {ratio(times):6.3f}")
        print(" ".join(row), flush=True)


if __name__ == "__main__":
    main()
