"""How well a retrained network does, over seeds: ``python -m benchmarks.retrain_accuracy PICTURES NET [WEIGHTS] …``.

Runs ``netferry retrain`` as a user would, head alone and (``--train all``) everything; labels ``--unseen`` pictures,
whose names begin with their class, through ``netferry predict``; prints a table. ``--devices 2`` does so by torchrun.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any


def netferry(*words: object) -> Any:
    """Run the command line and return its JSON."""
    command = [sys.executable, "-m", "netferry", *map(str, words), "--json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Print a row per run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("network", type=Path)
    parser.add_argument("weights", type=Path, nargs="?")
    parser.add_argument("--unseen", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--train", nargs="+", default=["head"])
    given, more = parser.parse_known_args()
    weights = ["--weights", given.weights] if given.weights else []
    print("train  seed  test accuracy  unseen  iterations  seconds  trunk")
    with tempfile.TemporaryDirectory() as folder:
        for what in given.train:
            for seed in range(given.seeds):
                target = Path(folder) / f"{what}{seed}.onnx"
                report = netferry("retrain", given.network, given.pictures, *weights, "-o", target, "--train", what,
                                  "--seed", seed, *more)  # fmt: skip
                unseen = "–"
                if given.unseen:
                    found = netferry("predict", target, given.unseen, "--top", 1)["predictions"]
                    right = sum(Path(p["item"]).name.startswith(p["top"][0]["label"]) for p in found)
                    unseen = f"{right}/{len(found)}"
                training = report["training"]
                print(
                    f"{what:6} {seed:4} {report['test']['accuracy']:13.1%} {unseen:>8} {training['iterations']:10} "
                    f"{training['seconds']:8.0f}  {training['trunk']}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
