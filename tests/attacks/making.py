"""How broken files are made: the plain network of each format, changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import onnx

from tests.attacks import unusual_darknet, unusual_keras, unusual_onnx

Make = Callable[[Path], list[Path]]


def stored(name: str, content: bytes) -> Make:
    def make(folder: Path) -> list[Path]:
        (folder / name).write_bytes(content)
        return [folder / name]

    return make


def model(change: Callable[[onnx.ModelProto], object] = lambda _: None) -> Make:
    """The linear network of unusual_onnx, changed."""

    def make(folder: Path) -> list[Path]:
        made = unusual_onnx.linear()
        change(made)
        (folder / "net.onnx").write_bytes(made.SerializeToString())
        return [folder / "net.onnx"]

    return make


def hdf5(change: Callable[[h5py.File], object] | None = None, **options: Any) -> Make:
    def make(folder: Path) -> list[Path]:
        path = unusual_keras.hdf5(folder / "net.h5", **options)
        if change is not None:
            with h5py.File(path, "r+") as file:
                change(file)
        return [path]

    return make


def config(**changes: Any) -> Make:
    return stored("net.json", json.dumps(unusual_keras.sequential(unusual_keras.dense(**changes))).encode())


def net(content: str | bytes, weights: bytes | None = None) -> Make:
    def make(folder: Path) -> list[Path]:
        (folder / "net.prototxt").write_bytes(content.encode() if isinstance(content, str) else content)
        if weights is None:
            return [folder / "net.prototxt"]
        (folder / "net.caffemodel").write_bytes(weights)
        return [folder / "net.prototxt", folder / "net.caffemodel"]

    return make


def darknet(content: str, weights: bytes | None = None) -> Make:
    def make(folder: Path) -> list[Path]:
        (folder / "net.cfg").write_text(content)
        (folder / "net.weights").write_bytes(unusual_darknet.stored() if weights is None else weights)
        return [folder / "net.cfg", folder / "net.weights"]

    return make
