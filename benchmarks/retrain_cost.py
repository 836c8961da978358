"""What retraining costs: a step beside the same loop in bare torch, and an epoch with cached features beside one
through the frozen trunk.

``python -m benchmarks.retrain_cost [--rounds N] [--batch B] [--network FILE --weights FILE]``: one thread, both sides
in turn, cpu seconds, ratios. Without a network a small ResNet is built.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.torch_natives import NATIVES, as_onnx
from netferry import api
from netferry.runtime.training.batches import Order
from netferry.runtime.training.dropout import QuickDropout
from netferry.runtime.training.examples import ArrayExamples
from netferry.runtime.training.fit import Stretch, fit
from netferry.runtime.training.network import learner
from netferry.runtime.training.objective import Objective
from netferry.runtime.training.options import TrainOptions
from netferry.runtime.training.state import RunFolder, Standing
from netferry.runtime.training.train import train
from netferry.schemas.head import ending_of
from netferry.schemas.model import Model

CLASSES = 5


def examples(model: Model, count: int) -> ArrayExamples:
    """Random pictures as tensors, so that decoding is not measured."""
    rng = np.random.default_rng(0)
    shape = [d if isinstance(d, int) else 224 for d in (model.inputs[0].shape or ())[1:]]
    x = rng.standard_normal((count, *shape), np.float32)
    return ArrayExamples([x], rng.integers(0, CLASSES, count))


def step_ratio(model: Model, batch: int, iterations: int, rounds: int) -> float:
    """Cpu time of our loop over that of a bare one, all of the network trained, median of neighbouring rounds."""
    data = examples(model, batch * 2)
    options = TrainOptions(batch_size=batch, epochs=max(1, iterations // 2), optimizer="sgd", learning_rate=1e-4,
                           validation_every=10**6, keep="last")  # fmt: skip
    order = Order(len(data), batch, 0)
    total = order.per_epoch * options.epochs

    def ours() -> None:
        made = learner(_logits(model), api.to_torch, {})
        objective = Objective("classes", CLASSES, options, data.targets)
        stretch = Stretch(made, None, data, None, objective, order, total, total, 0, 1e-4)
        started.append(time.process_time())
        fit(stretch, options, RunFolder(None), Standing())

    def bare() -> None:
        network = _with_torch_dropouts(learner(_logits(model), api.to_torch, {}).network)
        optimizer = torch.optim.SGD(network.parameters(), 1e-4, momentum=0.9)
        started.append(time.process_time())
        network.train()
        for i in range(total):
            rows = order.rows(i).tolist()
            x = torch.from_numpy(data.inputs(rows)[0]).contiguous(memory_format=torch.channels_last)
            y = torch.from_numpy(data.targets[rows])
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(x).flatten(1), y).backward()
            optimizer.step()

    ratios: list[float] = []
    for number in range(rounds):
        spent: dict[Any, float] = {}
        for side in (ours, bare) if number % 2 else (bare, ours):
            started: list[float] = []
            side()
            spent[side] = time.process_time() - started[0]
        ratios.append(spent[ours] / spent[bare])
        print(f"  round {number}: netferry {spent[ours]:.2f} s, bare torch {spent[bare]:.2f} s", flush=True)
    return statistics.median(ratios)


def cached_ratio(model: Model, batch: int, count: int) -> tuple[float, float, float]:
    """Cpu time of an epoch through the trunk (onnxruntime; torch) over that of one on cached features."""
    model = model.copy()
    model.freeze()
    data = examples(model, count)
    engines = api_engines()
    spent: dict[str, float] = {}
    for how in ("cached", "no-grad", "plain"):
        times: list[float] = []
        more = 40 if how == "cached" else 2
        for epochs in (1, 1 + more):  # the difference leaves out building, the cache and the start
            options = TrainOptions(batch_size=batch, epochs=epochs, trunk=how, validation_every=10**6)
            started = time.process_time()
            train(model.copy(), data, None, options, engines)
            times.append(time.process_time() - started)
        spent[how] = (times[1] - times[0]) / more
        print(f"  {how}: {spent[how]:.3f} s of cpu per epoch of {count}", flush=True)
    return spent["no-grad"] / spent["cached"], spent["plain"] / spent["cached"], spent["cached"]


def api_engines() -> Any:
    """What ``netferry.retrain`` gives to the training room."""
    from netferry.api.retraining_job import engines

    return engines()


def _with_torch_dropouts(network: torch.nn.Module) -> torch.nn.Module:
    """The bare loop has torch's own, not our quicker ones."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, QuickDropout):
                setattr(module, name, torch.nn.Dropout(child.p))
    return network


def _logits(model: Model) -> Model:
    made = model.copy()
    wanted = ending_of(made).logits
    made.graph.outputs.clear()
    made.graph.outputs.append(wanted)
    return made


def main() -> None:
    """Print both ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--count", type=int, default=48)
    parser.add_argument("--network", type=Path)
    parser.add_argument("--weights", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path, weights = given.network, given.weights
        if path is None:
            path = Path(folder) / "net.onnx"
            torch.manual_seed(0)
            path.write_bytes(as_onnx(next(iter(NATIVES.values()))()))
        model = api.load(path, weights).with_head(CLASSES)
        print(f"training step, batch {given.batch}:")
        print(f"netferry / bare torch: {step_ratio(model, given.batch, given.iterations, given.rounds):.3f}")
        through, plain, _ = cached_ratio(model, given.batch, given.count)
        print(f"epoch of the head alone: trunk by onnxruntime / cached {through:.1f}, by torch / cached {plain:.1f}")


if __name__ == "__main__":
    main()
