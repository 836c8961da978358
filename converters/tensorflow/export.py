"""tf2onnx in a child process: a TensorFlow file becomes an ONNX file.

TensorFlow opens the file there, on the processor. A SavedModel or a graph is a program for TensorFlow: it can hold
operators that read and write files (https://github.com/tensorflow/tensorflow/blob/master/SECURITY.md), so this is
the one door of netferry for files that one trusts.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

from netferry.converters.options import ReadOptions
from netferry.converters.tensorflow.files import GRAPH, TFLITE, graph_ends, kind_of
from netferry.converters.tensorflow.sound import check_whole
from netferry.errors import InputError, MissingExtra, UnsupportedError, UnsupportedLayer, UsageError, quoted

OPSET = 18
"""the newest that tf2onnx 1.17 writes"""
SECONDS = 1800
"""the child is ended after that"""
_HEAD = 4096
_UNKNOWN = re.compile(r"[Tt]ensorflow op \[(.+?): ([\w>]+)\] is not supported")


@dataclass(frozen=True)
class Exported:
    """What tf2onnx made."""

    file: Path
    kind: str
    """SavedModel, frozen graph or TFLite"""
    tf2onnx: str
    tensorflow: str


def export(path: Path, options: ReadOptions, folder: Path) -> Exported:
    """Convert a TensorFlow file into an ONNX file in ``folder``.

    Args:
        path: the folder of a SavedModel (or the ``saved_model.pb`` in it), a frozen graph, a ``.tflite``.
        options: ``input_shapes`` and ``limits`` concern this reader.
        folder: a temporary one; the child works in it.

    Raises:
        MalformedFile: it is cut off, or not what it begins like.
        MissingExtra: tf2onnx or TensorFlow is not installed.
        UnsupportedLayer: operators that tf2onnx does not know, all of them.
        UnsupportedError: tf2onnx fails; the reason ends with its last words.
        UsageError: a second file was given.
    """
    if options.weights is not None:
        raise UsageError("a TensorFlow model holds its weights itself; no second file is needed", file=options.weights)
    path = Path(os.path.abspath(path))
    kind = kind_of(_head(path), path)
    if kind is None:
        raise UsageError("neither a SavedModel, nor a frozen graph, nor a TFLite model", file=path)
    check_whole(path, kind, options.limits)
    for package in ("tensorflow", "tf2onnx"):
        if util.find_spec(package) is None:
            raise MissingExtra(package, "tensorflow", f"reading a TensorFlow {kind}")
    target = folder / "model.onnx"
    asked = [*_source(path, kind, options), "--output", str(target), "--opset", str(OPSET)]
    done = run([sys.executable, "-P", "-m", "tf2onnx.convert", *asked], folder, path)
    if unknown := list(dict.fromkeys(_UNKNOWN.findall(done))):
        rows = [(name, op, "tf2onnx does not know this operator") for name, op in unknown]
        raise UnsupportedLayer(rows, file=path)
    if not target.is_file():
        raise UnsupportedError(f"tf2onnx gives no model: {last_words(done)}", file=path)
    return Exported(target, kind, metadata.version("tf2onnx"), _version("tensorflow"))


def _source(path: Path, kind: str, options: ReadOptions) -> list[str]:
    if kind == TFLITE:
        return ["--tflite", str(path)]
    if kind != GRAPH:
        return ["--saved-model", str(path if path.is_dir() else path.parent)]
    ends = graph_ends(path, options.limits)
    inputs = [_shaped(name, options.input_shapes) for name in ends.inputs]
    return ["--graphdef", str(path), "--inputs", ",".join(inputs), "--outputs", ",".join(ends.outputs)]


def _shaped(name: str, shapes: Mapping[str, Sequence[int]]) -> str:
    shape = shapes.get(name)
    return name if shape is None else f"{name}[{','.join(map(str, shape))}]"


def run(command: list[str], folder: Path, path: Path) -> str:
    """Run a child on the processor and return what it says; UnsupportedError where it takes too long."""
    log = folder / "log.txt"
    calm = {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONUNBUFFERED": "1"}
    with log.open("wb") as out:
        try:
            subprocess.run(
                command, cwd=folder, env=os.environ | calm, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                timeout=SECONDS, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise UnsupportedError(f"tf2onnx was ended after {SECONDS} seconds", file=path) from None
    return log.read_text("utf-8", "replace")


def last_words(said: str) -> str:
    """The last line that a child wrote, fit to print."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return quoted(lines[-1] if lines else "it says nothing", 600)[1:-1]


def _head(path: Path) -> bytes:
    if path.is_dir():
        return b""
    try:
        with path.open("rb") as file:
            return file.read(_HEAD)
    except OSError as error:
        raise InputError(f"cannot be opened: {error.strerror}", file=path) from None


def _version(package: str) -> str:
    for name in (package, f"{package}-cpu", f"{package}-intel"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "?"
