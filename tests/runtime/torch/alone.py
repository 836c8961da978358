"""A process that has torch and nothing of ours: it runs written ``model.py`` files and hands outputs back.

``NETFERRY_TORCH_PYTHON`` names an interpreter with torch alone; else this one serves, with the import of everything
that such an environment lacks forbidden.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

_CHILD = """
import importlib.util, os, sys, warnings
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ABSENT:
            raise ModuleNotFoundError(name)
ABSENT = {"netferry", "onnx", "onnx_ir", "onnxruntime", "safetensors", "numpy"}
sys.meta_path.insert(0, Absent())
warnings.simplefilter("ignore")
import torch
torch.set_num_threads(1)
for line in sys.stdin:
    folder = line.strip()
    try:
        spec = importlib.util.spec_from_file_location("model", os.path.join(folder, "model.py"))
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        network = module.load()
        runs = torch.load(os.path.join(folder, "feeds.pt"), weights_only=True)
        with torch.no_grad():
            made = [network(*feeds) for feeds in runs]
        torch.save([list(m) if isinstance(m, tuple) else [m] for m in made], os.path.join(folder, "made.pt"))
        said = "ok"
    except BaseException as error:
        said = f"{type(error).__name__}: {error}"
    print(" ".join(said.split()), file=answers, flush=True)
"""


class Alone:
    """The process; it stays for the session."""

    def __init__(self) -> None:
        python = os.environ.get("NETFERRY_TORCH_PYTHON", sys.executable)
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        self._child = subprocess.Popen(
            [python, "-P", "-B", "-c", _CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            stderr=subprocess.DEVNULL, env=environment, cwd="/",
        )  # fmt: skip

    def run(self, folder: Path, runs: list[list[torch.Tensor]]) -> list[list[torch.Tensor]]:
        """The outputs of the network in ``folder`` for each set of inputs."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        torch.save(runs, folder / "feeds.pt")
        self._child.stdin.write(f"{folder}\n")
        self._child.stdin.flush()
        said = self._child.stdout.readline().strip()
        assert said == "ok", said
        return torch.load(folder / "made.pt", weights_only=True)

    def close(self) -> None:
        """End the child."""
        self._child.communicate(timeout=60)
