"""Latency of our graphs on onnxruntime, one thread, against tf2onnx's graphs of the same networks.

    python -m benchmarks.keras_latency --tensorflow-python PYTHON [--folder DIR] [--rounds 30] [NETWORK ...]

Both graphs take the same picture in Keras's order of axes; where their outputs differ that is told. Bars: geometric
mean of the ratios <= 1.0, none above 1.05. The second ratio is that of the graph after netferry's own passes (level
full); onnxruntime's optimiser runs on all of them.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime

from benchmarks.keras_h5 import MAKE, PEER, QUIET
from benchmarks.measure import run
from netferry.api import load, save
from netferry.converters.passes.optimize import optimize

FAMILIES = (
    "MobileNet", "MobileNetV2", "ResNet50", "EfficientNetB0", "InceptionV3", "Xception", "DenseNet121", "NASNetMobile",
)  # fmt: skip


def session(file: Path) -> onnxruntime.InferenceSession:
    """A session with one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def latencies(sessions: list[onnxruntime.InferenceSession], rounds: int) -> list[float]:
    """Milliseconds of cpu time of one picture, for each session: the lowest decile of ``rounds`` alternating runs.

    Each round begins with another session, so that none always runs behind the same one.
    """
    shape = [d if isinstance(d, int) else 1 for d in sessions[0].get_inputs()[0].shape]
    x = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    outputs = [np.asarray(s.run(None, {s.get_inputs()[0].name: x})[0]) for s in sessions]
    apart = max(float(np.abs(other - outputs[0]).max() / np.abs(outputs[0]).max()) for other in outputs[1:])
    if apart > 1e-4:
        print(f"the outputs differ by {apart:.1e} of the largest")
    found: list[list[float]] = [[] for _ in sessions]
    for turn in range(rounds):
        for place in range(len(sessions)):
            number = (turn + place) % len(sessions)
            times, s = found[number], sessions[number]
            started = time.thread_time()
            s.run(None, {s.get_inputs()[0].name: x})
            times.append(1e3 * (time.thread_time() - started))
    return [statistics.quantiles(times, n=10)[0] for times in found]


def main() -> None:
    """Measure and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=FAMILIES)
    parser.add_argument("--tensorflow-python", required=True, help="an interpreter with tensorflow and tf2onnx")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--folder", type=Path, help="keep the networks here")
    given = parser.parse_args()
    ratios: dict[str, list[float]] = {"as read": [], "optimized": []}
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        print(f"{'':16} {'tf2onnx':>9} {'as read':>9} {'optimized':>9}   ratios")
        for network in given.networks:
            source, theirs = folder / f"{network}.h5", folder / f"{network}.tf2onnx.onnx"
            if not source.exists():
                run([given.tensorflow_python, "-c", MAKE, network, str(source)], env=QUIET)
            if not theirs.exists():
                run([given.tensorflow_python, "-c", PEER, str(source), str(theirs)], env=QUIET)
            ours, smaller = folder / f"{network}.onnx", folder / f"{network}.optimized.onnx"
            model = load(source)
            save(model, ours, check="structure")
            optimize(model, "full")
            save(model, smaller, check="structure")
            base, *times = latencies([session(f) for f in (theirs, ours, smaller)], given.rounds)
            shown = ""
            for kind, took in zip(ratios, times, strict=True):
                ratios[kind].append(took / base)
                shown += f" {took / base:5.2f}"
            print(f"{network:16} {base:7.2f}ms {times[0]:7.2f}ms {times[1]:7.2f}ms  {shown}", flush=True)
    for kind, values in ratios.items():
        mean = math.exp(statistics.fmean(math.log(v) for v in values))
        print(f"{kind}: geometric mean {mean:.3f}, highest {max(values):.3f}")


if __name__ == "__main__":
    main()
