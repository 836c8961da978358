"""The official node tests of ONNX through netferry's torch backend, onnx2torch and onnx2pytorch, side by side.

``python -m benchmarks.torch_node_peers --peer-python PYTHON [NAME ...]``: the plain-tensor cases of ai.onnx. The peers
run in an environment of their own, whose interpreter PYTHON is (with torch, the same onnx, onnx2torch and
onnx2pytorch; torchvision is replaced by a stub where it is missing). ``unsupported`` counts refusals while
converting, ``error`` what fails otherwise, ``wrong`` answers that differ beyond the test's tolerance.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

SIDES = ("netferry", "onnx2torch", "onnx2pytorch")
KINDS = ("pass", "rounding", "random", "unsupported", "error", "wrong")
_SECONDS = 20
"""a case that takes longer is an error"""


def made_by(side: str, case: Any) -> Any:
    """The module that one peer makes of a case."""
    if side == "onnx2torch":
        import onnx2torch  # pyright: ignore[reportMissingImports]

        return onnx2torch.convert(case.model)
    import onnx2pytorch  # pyright: ignore[reportMissingImports]

    return onnx2pytorch.ConvertModel(case.model, experimental=True).eval()


def refused(error: BaseException) -> bool:
    """Whether a peer says that it does not support what the case asks for."""
    text = f"{type(error).__name__}: {error}".lower()
    return isinstance(error, NotImplementedError) or any(
        word in text for word in ("not implemented", "unsupported", "not supported")
    )


def outcome(side: str, case: Any) -> tuple[str, str]:
    """What one side makes of a case."""
    if side == "netferry":
        from benchmarks.torch_node_tests import outcome as ours

        return ours(case)
    from torch_node_judge import judged  # pyright: ignore[reportMissingImports]

    try:
        module = made_by(side, case).eval()
    except Exception as error:
        kind = "unsupported" if refused(error) else "error"
        return kind, f"build: {type(error).__name__}: {error}"[:200]
    kind, detail = judged(case, module)
    unsupported = kind == "error" and "NotImplementedError" in detail
    return ("unsupported" if unsupported else kind), detail


def run_side(side: str, names: list[str], skip: set[str], to: Path) -> None:
    """Write one line of JSON per case; a case that kills the process is the one announced last."""
    import torch

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if side == "netferry":
        from benchmarks.torch_node_judge import cases
    else:
        sys.path.insert(0, str(Path(__file__).parent))
        import torchvision_stub  # pyright: ignore[reportMissingImports]
        from torch_node_judge import cases  # pyright: ignore[reportMissingImports]

        torchvision_stub.install()

    def late(*_: Any) -> None:
        raise TimeoutError(f"over {_SECONDS} s")

    signal.signal(signal.SIGALRM, late)
    with to.open("a") as file:
        for name, case in cases().items():
            if name in skip or (names and not any(n in name for n in names)):
                continue
            print(json.dumps([name, "error", "the process died"]), file=file, flush=True)
            signal.alarm(_SECONDS)
            try:
                found = outcome(side, case)
            except BaseException as error:  # a peer may raise anything
                found = ("error", f"{type(error).__name__}: {error}"[:200])
            finally:
                signal.alarm(0)
            print(json.dumps([name, *found]), file=file, flush=True)


def outcomes(side: str, python: str, names: list[str]) -> dict[str, str]:
    """Kind of outcome by case, from a process of its own; started again behind a case that killed it."""
    root = Path(__file__).parents[1]
    env = dict(os.environ) | {"OMP_NUM_THREADS": "1"}
    env["PYTHONPATH"] = str(root) if side == "netferry" else ""
    with tempfile.TemporaryDirectory() as folder:
        to = Path(folder) / "outcomes.jsonl"
        to.touch()
        while True:
            done = {json.loads(line)[0]: json.loads(line)[1] for line in to.read_text().splitlines()}
            (Path(folder) / "skip.json").write_text(json.dumps(sorted(done)))
            command = [python, str(Path(__file__)), "--side", side, "--to", str(to), *names]
            status = subprocess.run(
                command, check=False, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
            )
            after = {json.loads(line)[0]: json.loads(line)[1] for line in to.read_text().splitlines()}
            if status.returncode == 0:
                return after
            if len(after) == len(done):
                raise RuntimeError(f"{side} cannot run: {status.stderr[-800:]}")


def main() -> None:
    """Print the three columns, and operators that pass wholly."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="only cases whose name contains one of these")
    parser.add_argument("--peer-python", help="interpreter of the peers' environment; without it netferry alone runs")
    parser.add_argument("--out", type=Path, help="write all outcomes as JSON")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--to", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        run_side(given.side, given.names, set(json.loads(given.to.with_name("skip.json").read_text())), given.to)
        return
    sides = SIDES if given.peer_python else SIDES[:1]
    found = {s: outcomes(s, sys.executable if s == "netferry" else given.peer_python, given.names) for s in sides}
    counts = {side: Counter(kinds.values()) for side, kinds in found.items()}
    total = max(len(kinds) for kinds in found.values())
    print(f"{'of ' + str(total):12}" + "".join(f"{side:>14}" for side in sides))
    for kind in KINDS:
        print(f"{kind:12}" + "".join(f"{counts[side][kind]:14}" for side in sides))
    good = {s: sum(counts[s][k] for k in ("pass", "rounding", "random")) for s in sides}
    print(f"{'passing':12}" + "".join(f"{100 * good[side] / max(total, 1):12.1f} %" for side in sides))
    if given.out:
        given.out.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
