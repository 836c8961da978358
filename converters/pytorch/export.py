"""A .pt2 file becomes an ONNX file by torch's own exporter, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import util
from pathlib import Path
from typing import NamedTuple

from netferry.converters.options import ReadOptions
from netferry.converters.pytorch.files import kind_of, refuse
from netferry.converters.pytorch.gate import passed
from netferry.errors import MissingExtra, UnsupportedError, UsageError, quoted

SECONDS = 1800
"""the child is ended after that"""
_CHILD = "netferry.runtime.torch.onnx_program"
_HEAD = 1 << 16


class Exported(NamedTuple):
    """The ONNX file that torch's exporter made of a program."""

    file: Path
    torch: str
    """torch's version"""
    frozen: dict[str, str]
    """parameters that take no gradients, each with its module's name"""


def export(path: Path, options: ReadOptions, folder: Path) -> Exported:
    """Convert a program of torch.export into an ONNX file in ``folder``.

    Raises:
        UnsafeFile, MalformedFile, LimitExceeded, UnsupportedLayer: see :func:`netferry.converters.pytorch.gate.check`.
        MissingExtra: torch is not installed.
        UnsupportedError: torch cannot load or export it; the reason ends with its own words.
    """
    with path.open("rb") as file:
        kind = kind_of(file.read(_HEAD), path)
    refuse(kind or "", path)
    if options.weights is not None:
        raise UsageError("a .pt2 file holds its weights itself; no second file is needed", file=options.weights)
    for package in ("torch", "onnxscript"):
        if util.find_spec(package) is None:
            raise MissingExtra(package, "train", "reading a program of torch.export")
    program = passed(path, options.limits, folder / "program.pt2")
    target, log = folder / "model.onnx", folder / "log.txt"
    calm = {"CUDA_VISIBLE_DEVICES": "", "TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1"}
    with log.open("wb") as out:
        try:
            subprocess.run(
                [sys.executable, "-P", "-m", _CHILD, str(program), str(target)], cwd=folder,
                env=os.environ | calm, stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=SECONDS, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise UnsupportedError(f"torch's exporter was ended after {SECONDS} seconds", file=path) from None
    said = folder / "said.json"
    answer = json.loads(said.read_text()) if said.is_file() else {}
    if not target.is_file() or "error" in answer:
        lines = [line for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
        words = answer.get("error") or (lines[-1] if lines else "it says nothing")
        raise UnsupportedError(f"torch cannot export this program: {quoted(words, 600)[1:-1]}", file=path)
    return Exported(target, str(answer["torch"]), answer["frozen"])
