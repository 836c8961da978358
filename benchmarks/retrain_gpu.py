"""bf16 fine-tuning on a GPU beside a bare torch loop: pictures per second.

``python -m benchmarks.retrain_gpu NET.onnx [--batch 64] [--iterations 60] [--out results.json]``; the network is
made ready like in ``netferry retrain --train all --amp``, the data lie in memory, both sides run in turn. ``--device
cpu`` with small numbers shows that it works.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import torch

from benchmarks.retrain_cost import CLASSES, _logits, examples
from netferry import api
from netferry.runtime.training.batches import Order
from netferry.runtime.training.fit import Stretch, fit
from netferry.runtime.training.network import learner
from netferry.runtime.training.objective import Objective
from netferry.runtime.training.options import TrainOptions
from netferry.runtime.training.state import RunFolder, Standing


def main() -> None:
    """Print pictures per second of both sides and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", type=Path)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--iterations", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--warm", type=int, default=10, help="iterations before the clock starts")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    model = api.load(given.network).with_head(CLASSES)
    data = examples(model, given.batch * 4)
    order = Order(len(data), given.batch, 0)
    epochs = max(1, given.iterations // order.per_epoch)
    total = epochs * order.per_epoch
    options = TrainOptions(batch_size=given.batch, epochs=epochs, optimizer="sgd", learning_rate=1e-4, precision="bf16",
                           validation_every=10**6, keep="last", device=given.device, workers=0)  # fmt: skip
    rates: dict[str, list[float]] = {"netferry": [], "bare": []}

    def wait() -> None:
        if given.device == "cuda":
            torch.cuda.synchronize()

    def ours() -> float:
        made = learner(_logits(model), api.to_torch, {})
        stretch = Stretch(made, None, data, None, Objective("classes", CLASSES, options, data.targets), order, total,
                          total, 0, 1e-4)  # fmt: skip
        marks: list[float] = []

        def tick(done: int) -> None:
            if done in (given.warm, total):
                wait()
                marks.append(time.perf_counter())

        fit(stretch, options, RunFolder(None), Standing(), tick=tick)
        return (total - given.warm) * given.batch / (marks[-1] - marks[0])

    def bare() -> float:
        network = learner(_logits(model), api.to_torch, {}).network.to(given.device)
        optimizer = torch.optim.SGD(network.parameters(), 1e-4, momentum=0.9)
        started = 0.0
        for i in range(total):
            if i == given.warm:
                wait()
                started = time.perf_counter()
            rows = order.rows(i).tolist()
            x = torch.from_numpy(data.inputs(rows)[0]).to(given.device).contiguous(memory_format=torch.channels_last)
            y = torch.from_numpy(data.targets[rows]).to(given.device)
            optimizer.zero_grad()
            with torch.autocast(given.device, torch.bfloat16):
                loss = torch.nn.functional.cross_entropy(network(x).flatten(1), y)
            loss.backward()
            optimizer.step()
        wait()
        return (total - given.warm) * given.batch / (time.perf_counter() - started)

    for _ in range(given.rounds):
        rates["netferry"].append(ours())
        rates["bare"].append(bare())
    median = {name: statistics.median(values) for name, values in rates.items()}
    result = {
        "device": torch.cuda.get_device_name() if given.device == "cuda" else "cpu",
        "torch": torch.__version__,
        "network": given.network.name,
        "batch": given.batch,
        "pictures_per_second": median,
        "ratio": median["netferry"] / median["bare"],
    }
    print(json.dumps(result, indent=2))
    if given.out:
        given.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
