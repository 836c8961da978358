"""Pictures per second of ``features`` and ``predict`` against a hand-written onnxruntime loop, decode included; memory.

    python -m benchmarks.features_throughput MODEL PICTURES/ [--count 500] [--rounds 3] [--memory 5000] [--device cuda]

All sides take the same ONNX file and the same pictures (those of the folder, in a circle), in processes of their own,
in turn. Bars: wall time of the hand-written loop over ours >= 0.95; peak memory at 5,000 pictures <= 1.2 times that at
500. The loop is what one writes after a look at the documentation: a pool of threads that decodes, resizes and
normalises with Pillow and NumPy ahead of ``session.run``, results in a list, saved at the end.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import alternate, run, table

LOOP = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
from collections import deque
import numpy as np, onnxruntime as ort
from PIL import Image

model, listed, out, kind, device, workers = sys.argv[1:]
names = open(listed).read().split("\\n")
options = ort.SessionOptions()
provider = "CUDAExecutionProvider" if device.startswith("cuda") else "CPUExecutionProvider"
session = ort.InferenceSession(model, options, providers=[provider])
recipe = json.loads(session.get_modelmeta().custom_metadata_map["netferry.preprocessing"])
(name, recipe), = recipe.items()
mean = np.float32(recipe.get("mean", 0))
scale = np.float32(recipe.get("scale", 1))
size = session.get_inputs()[0].shape[:1:-1]

def load(path):
    picture = Image.open(path).convert("RGB").resize(size, Image.Resampling.BILINEAR)
    array = np.asarray(picture, np.float32)[:, :, ::-1 if recipe["color"] == "BGR" else 1]
    return ((array - mean) * scale).transpose(2, 0, 1)

results, batch = [], []
with ThreadPoolExecutor(int(workers)) as pool:
    waiting, source = deque(), iter(names)
    for path in source:
        waiting.append(pool.submit(load, path))
        if len(waiting) < 48:
            continue
        batch.append(waiting.popleft().result())
        if len(batch) == 16:
            results.append(session.run(None, {name: np.stack(batch)})[0])
            batch = []
    for future in waiting:
        batch.append(future.result())
        if len(batch) == 16:
            results.append(session.run(None, {name: np.stack(batch)})[0])
            batch = []
    if batch:
        results.append(session.run(None, {name: np.stack(batch)})[0])
np.save(out, np.concatenate(results))
"""


def main() -> None:
    """Measure and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a picture classifier with preprocessing, as ONNX")
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3, help="of the timing; 0 for none")
    parser.add_argument("--memory", type=int, default=5000, help="pictures of the larger memory run; 0 for none")
    parser.add_argument("--layer", default="prob", help="the network's last layer, which the loop computes too")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    pictures = sorted(p for p in given.pictures.rglob("*") if p.suffix.lower() in (".jpg", ".png", ".jpeg"))
    workers = str(min(16, max(2, len(os.sched_getaffinity(0)))))
    ours = [sys.executable, "-m", "netferry"]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)

        def listed(count: int) -> str:
            path = folder / f"{count}.txt"
            path.write_text("\n".join(os.path.abspath(pictures[i % len(pictures)]) for i in range(count)))
            return str(path)

        def features(count: int) -> list[str]:
            tail = ["-l", given.layer, "-o", str(folder / "f.npz"), "--device", given.device]
            return [*ours, "features", str(given.model), listed(count), *tail]

        def predict(count: int) -> list[str]:
            return [
                *ours,
                "predict",
                str(given.model),
                listed(count),
                "-o",
                str(folder / "p.csv"),
                "--device",
                given.device,
            ]

        loop = [sys.executable, "-c", LOOP, str(given.model), listed(given.count), str(folder / "loop.npy"), "features"]
        commands = {
            "loop": [*loop, given.device, workers],
            "features": features(given.count),
            "predict": predict(given.count),
        }
        if given.rounds:
            costs = alternate(commands, given.rounds, fresh=[folder / "f.npz"])
            print(table(costs, "loop"))
            for name in ("features", "predict"):
                ratio, cpu = costs["loop"].wall / costs[name].wall, costs["loop"].cpu / costs[name].cpu
                rate = given.count / costs[name].wall
                print(f"{name}: {rate:.1f} pictures/s, {ratio:.2f} of the loop's (cpu {cpu:.2f})")
        if given.memory:
            for name, command in (("features", features), ("predict", predict)):
                small, large = run(command(given.count)).peak, run(command(given.memory)).peak
                growth = f"{large:.0f} MiB at {given.memory} pictures, {small:.0f} at {given.count}"
                print(f"{name}: peak {growth}: {large / small:.2f}")


if __name__ == "__main__":
    main()
