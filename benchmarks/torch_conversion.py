"""What it costs to turn an ONNX file into a torch module, beside onnx2torch in an environment of its own.

``python -m benchmarks.torch_conversion --peer-python PYTHON [--rounds N] [--only NAME] [--trained]``: networks of
:mod:`benchmarks.torch_natives`, written by torch's TorchScript exporter at opset 17 (onnx2torch reads no newer one of
some operators), as torch draws them: the exporter keeps one tensor for all batch norms of one size. ``--trained`` gives
each batch norm values of its own, as training does. Each round starts one process per side; it converts once to warm
up and then several times; the median is the round's figure, the median of the rounds' ratios is printed. Seconds of
processor time, one thread.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

SIDES = ("netferry", "onnx2torch")


def side(name: str) -> Callable[[str], object]:
    """The conversion of one side: a path in, a module out."""
    import torch

    torch.set_num_threads(1)
    if name == "netferry":
        from netferry import api

        return lambda path: api.to_torch(api.load(path))
    sys.path.insert(0, str(Path(__file__).parent))
    import torchvision_stub  # pyright: ignore[reportMissingImports]

    torchvision_stub.install()
    import onnx2torch  # pyright: ignore[reportMissingImports]

    return onnx2torch.convert


def measured(name: str, path: str, times: int) -> float:
    """Median seconds of one conversion in this process."""
    convert, found = side(name), []
    convert(path)
    for _ in range(times):
        started = time.process_time()
        convert(path)
        found.append(time.process_time() - started)
    return statistics.median(found)


def trained(network: nn.Module) -> nn.Module:
    """The network with values in its batch norms that no two of them share (seed 0)."""
    import torch
    from torch import nn

    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None and module.running_var is not None:
            with torch.no_grad():
                for positive in (module.weight, module.running_var):
                    positive.uniform_(0.5, 1.5, generator=generator)
                for centred in (module.bias, module.running_mean):
                    centred.normal_(0, 0.1, generator=generator)
    return network


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer-python", help="the python of an environment with torch and onnx2torch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--times", type=int, default=5, help="conversions per process")
    parser.add_argument("--only", help="one network")
    parser.add_argument("--trained", action="store_true", help="batch norms have values of their own")
    parser.add_argument("--side", nargs=2, metavar=("NAME", "FILE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        name, path = given.side
        print(measured(name, path, given.times))
        return
    from benchmarks.torch_natives import NATIVES, as_onnx, densenet201

    sides = SIDES if given.peer_python else SIDES[:1]
    print(f"{'network':14}" + "".join(f" {s:>11}" for s in sides) + ("  ratio" if len(sides) > 1 else ""))
    with tempfile.TemporaryDirectory() as folder:
        for name, make in {**NATIVES, "densenet201": densenet201}.items():
            if given.only not in (None, name):
                continue
            path = Path(folder) / f"{name}.onnx"
            path.write_bytes(as_onnx(trained(make()) if given.trained else make()))
            rows = [[_in_process(s, path, given) for s in sides] for _ in range(given.rounds)]
            medians = [statistics.median(column) for column in zip(*rows, strict=True)]
            text = f"{name:14}" + "".join(f" {m:11.3f}" for m in medians)
            print(text + (f" {statistics.median(a / b for a, b in rows):6.2f}" if len(sides) > 1 else ""), flush=True)


def _in_process(name: str, path: Path, given: argparse.Namespace) -> float:
    python = sys.executable if name == "netferry" else given.peer_python
    command = [python, str(Path(__file__)), "--side", name, str(path), "--times", str(given.times)]
    hidden = {"PYTHONPATH"} if name != "netferry" else set()
    env = {k: v for k, v in os.environ.items() if k not in hidden} | {"OMP_NUM_THREADS": "1"}
    if name == "netferry":
        env["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[1]), env.get("PYTHONPATH", "")])
    done = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


if __name__ == "__main__":
    main()
