"""Node counts and largest difference of netferry's optimizer beside onnxsim, onnxslim and onnxscript.optimizer.

    python benchmarks/simplifier_graphs.py GRAPHS [--tensorflow PYTHON]
    python benchmarks/simplifiers.py GRAPHS --peers PYTHON

GRAPHS is a folder of .onnx files; PYTHON an interpreter that has onnxsim, onnxslim and onnxscript (they need not be
installed beside netferry). The exit code is 1 where netferry leaves more nodes than the best of them on a graph,
its outputs differ by more than 1e-4, or it made a dynamic dimension a fixed one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from netferry.api import load, save
from netferry.converters.passes.optimize import optimize
from netferry.runtime.session import Session
from netferry.runtime.verify import compare, seeded_inputs

_PEERS = """
import json, sys, onnx
def count(graph):
    inner = [a.g for n in graph.node for a in n.attribute if a.HasField("g")]
    return len(graph.node) + sum(count(g) for g in inner)
def onnxsim(model):
    import onnxsim
    return onnxsim.simplify(model)[0]
def onnxslim(model):
    import onnxslim
    return onnxslim.slim(model)
def onnxscript(model):
    import onnxscript.optimizer
    return onnxscript.optimizer.optimize(model)
found = {}
for simplify in (onnxsim, onnxslim, onnxscript):
    try:
        found[simplify.__name__] = count(simplify(onnx.load(sys.argv[1])).graph)
    except Exception as error:
        found[simplify.__name__] = type(error).__name__
print(json.dumps(found))
"""


def peers(python: str, path: Path) -> dict[str, Any]:
    """Nodes that each of the others leaves, or the name of the error that it ends with."""
    done = subprocess.run([python, "-c", _PEERS, str(path)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def ours(path: Path, folder: Path) -> dict[str, Any]:
    """Nodes before and after, seconds, the largest relative difference at two batches, whether dimensions stay."""
    model = load(path)
    started = time.perf_counter()
    report = optimize(model, "full")
    seconds = time.perf_counter() - started
    out = folder / "ours.onnx"
    save(model, out, check="structure")
    before, after = Session(path, "cpu"), Session(out, "cpu")
    worst = 0.0
    for batch in (1, 3):
        feeds = seeded_inputs(before.inputs, batch, batch)
        found = compare(after.run(feeds), before.run(feeds))
        worst = max([worst, *(float(d["max_rel"]) for d in found.values())])
    return {
        "before": sum(report.before.values()),
        "after": sum(report.after.values()),
        "seconds": seconds,
        "difference": worst,
        "dynamic": before.inputs == after.inputs and before.outputs == after.outputs,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("graphs", type=Path)
    parser.add_argument("--peers", default=sys.executable)
    given = parser.parse_args()
    failed = False
    heads = f"{'graph':36} {'before':>6} {'onnxsim':>8} {'onnxslim':>8} {'onnxscript':>10}"
    print(f"{heads} {'netferry':>8}   time  difference")
    with tempfile.TemporaryDirectory() as folder:
        for path in sorted(given.graphs.glob("*.onnx")):
            theirs, mine = peers(given.peers, path), ours(path, Path(folder))
            best = min((n for n in theirs.values() if isinstance(n, int)), default=mine["before"])
            good = mine["after"] <= best and mine["difference"] <= 1e-4 and mine["dynamic"]
            failed |= not good
            print(
                f"{path.stem:36} {mine['before']:6} {theirs['onnxsim']!s:>8} {theirs['onnxslim']!s:>8}"
                f" {theirs['onnxscript']!s:>10} {mine['after']:8} {mine['seconds']:5.1f}s  {mine['difference']:.1e}"
                f"{'' if good else '   <-- not good'}",
                flush=True,
            )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
