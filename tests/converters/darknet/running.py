"""A net from a cfg's text and its numbers in file order, through the importer, on onnxruntime."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from netferry.converters.darknet.read import read
from netferry.converters.options import ReadOptions
from netferry.schemas.model import Model
from tests.converters.caffe.running import run

HEADER = (0, 2, 0)


def packed(arrays: Sequence[np.ndarray], header: tuple[int, int, int] = HEADER) -> bytes:
    """A weights file."""
    wide = header[0] * 10 + header[1] >= 2 and max(header[:2]) < 1000
    head = struct.pack("<3i", *header) + struct.pack("<Q" if wide else "<I", 32013312)
    return head + b"".join(np.asarray(a, "<f4").tobytes() for a in arrays)


def convert(
    folder: Path, cfg: str, arrays: Sequence[np.ndarray] | None = None, *, header: Any = HEADER, **options: Any
) -> Model:
    """Read a net."""
    (folder / "net.cfg").write_text(cfg)
    weights = None
    if arrays is not None:
        weights = folder / "net.weights"
        weights.write_bytes(packed(arrays, header))
    return read(folder / "net.cfg", ReadOptions(weights=weights, **options))


def result(model: Model, x: np.ndarray) -> np.ndarray:
    """The first output of the fully checked ONNX form."""
    return next(iter(run(model, {"data": x}).values()))
