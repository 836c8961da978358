"""Pictures per second of a Session on a device beside a hand-written loop with bound buffers; parity with the CPU.

    python -m benchmarks.session_device NET.onnx [--device cuda] [--batch 32] [--runs 50] [--rounds 5] [--out FILE]

Both sides take the same batches, prepared in memory, in one process and in turn, and hand the scores back as NumPy
arrays. The loop is what onnxruntime's documentation shows: an io_binding, the input's buffer on the device updated in
place, outputs bound to the device and copied back. The network is measured as it is and with its batch fixed, where the
session records CUDA graphs by itself. Bars: the device that was asked for is used; values within 1e-3 of the
processor's; ours >= 0.95 of the loop's. ``--device cpu`` shows that the script works where there is no GPU.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from netferry.runtime.devices import PROVIDERS, prepare
from netferry.runtime.session import Session

PARITY, LEAST = 1e-3, 0.95
RESULTS = Path(__file__).parent / "results"
Run = Callable[[np.ndarray], np.ndarray]


def main() -> None:
    """Measure, print, write the results; ends with 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", type=Path, help="a network with one input, as ONNX")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--runs", type=int, default=50, help="batches per round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    found = measure(given.network, given.device, given.batch, given.runs, given.rounds)
    out = given.out or RESULTS / f"session_{found['device'].replace(':', '')}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found, indent=2) + "\n")
    for row in found["rows"]:
        print(f"{row['batch']}: {row['ours']:.1f} pictures/s, loop {row['loop']:.1f}: {row['ratio']:.3f}; "
              f"furthest from the processor {row['parity']:.1e}; graphs {row['graphs']}")  # fmt: skip
    print(f"{out}: {'every bar is met' if found['passed'] else 'a bar is missed'}")
    raise SystemExit(0 if found["passed"] else 1)


def measure(network: Path, device: str, batch: int, runs: int, rounds: int) -> dict[str, Any]:
    """Return the rows: the network as it is, and with its batch fixed.

    Raises:
        DeviceError: the device is not used.
    """
    rows: list[dict[str, Any]] = []
    used = provider = ""
    with tempfile.TemporaryDirectory() as scratch:
        fixed = Path(scratch) / "fixed.onnx"
        _fix_batch(network, fixed, batch)
        for name, file in (("dynamic", network), ("fixed", fixed)):
            session = Session(file, device)
            used, provider = session.device, session.provider
            if provider != PROVIDERS[device.partition(":")[0]]:
                raise SystemExit(f"{provider} is used, not {device}")
            rows.append({"batch": name, "graphs": session.graphs} | _row(session, file, batch, runs, rounds))
    passed = all(row["ratio"] >= LEAST and row["parity"] <= PARITY for row in rows)
    return {
        "network": network.name, "device": used, "provider": provider, "batch": batch, "runs": runs, "rounds": rounds,
        "onnxruntime": onnxruntime.__version__, "machine": platform.processor() or platform.machine(),
        "bars": {"ratio": LEAST, "parity": PARITY}, "rows": rows, "passed": passed,
    }  # fmt: skip


def _row(session: Session, file: Path, batch: int, runs: int, rounds: int) -> dict[str, Any]:
    port, output = session.inputs[0], session.outputs[0].name
    dims = [batch, *(d if isinstance(d, int) else 224 for d in port.shape[1:])]
    rng = np.random.default_rng(0)
    assert port.numpy is not None
    batches = [rng.uniform(-128, 128, dims).astype(port.numpy) for _ in range(4)]
    sides: dict[str, Run] = {"ours": lambda x: session.run({port.name: x}, [output])[output]}
    sides["loop"] = _loop(file, session, port.name, output, batches[0])
    plain = Session(file, "cpu")
    parity = 0.0
    for side in sides.values():
        for x in batches[:2]:
            parity = max(parity, float(np.abs(side(x) - plain.run({port.name: x}, [output])[output]).max()))
    times: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in list(sides)[:: 1 if number % 2 else -1]:
            started = time.perf_counter()
            for n in range(runs):
                sides[name](batches[n % len(batches)])
            times[name].append(time.perf_counter() - started)
    rates = {name: batch * runs / statistics.median(t) for name, t in times.items()}
    return {**rates, "ratio": rates["ours"] / rates["loop"], "parity": parity}


def _loop(file: Path, session: Session, name: str, output: str, example: np.ndarray) -> Run:
    """The hand-written side."""
    kind, _, index = session.device.partition(":")
    place = (kind if kind == "cuda" else "cpu", int(index or 0))
    prepare(onnxruntime, kind)
    made = onnxruntime.InferenceSession(str(file), providers=[session.provider])
    binding = made.io_binding()
    value = onnxruntime.OrtValue.ortvalue_from_numpy(example, *place)
    binding.bind_ortvalue_input(name, value)
    binding.bind_output(output, *place)

    def run(x: np.ndarray) -> np.ndarray:
        value.update_inplace(x)
        made.run_with_iobinding(binding)
        return binding.copy_outputs_to_cpu()[0]

    return run


def _fix_batch(network: Path, target: Path, batch: int) -> None:
    proto = onnx.load(network)
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    del proto.graph.value_info[:]
    onnx.save(proto, target)


if __name__ == "__main__":
    main()
