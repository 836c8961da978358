"""Unusual but valid files with what they are fed with and what an oracle expects; the cases register themselves here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from tests.attacks import unusual_keras, unusual_onnx

W, B, X, WANTED = unusual_onnx.W, unusual_onnx.B, unusual_onnx.X, unusual_onnx.WANTED
info = unusual_onnx.info
KX = unusual_keras.X


@dataclass
class Made:
    """Files as ``convert`` takes them, what the first input is fed with, and what the first output should be."""

    files: list[Path]
    wanted: np.ndarray
    x: np.ndarray
    tolerance: float = 1e-5


CASES: dict[str, Callable[[Path], Made]] = {}


def case(function: Callable[[Path], Made]) -> Callable[[Path], Made]:
    """Register a case under its function's name."""
    CASES[function.__name__.replace("_", "-")] = function
    return function


def onnx_case(change: Callable[[onnx.ModelProto, Path], np.ndarray | None]) -> Callable[..., Any]:
    """Register the linear network of unusual_onnx, changed."""

    def make(folder: Path) -> Made:
        model = unusual_onnx.linear()
        wanted = change(model, folder)
        path = folder / "net.onnx"
        if not path.exists():
            path.write_bytes(model.SerializeToString())
        # onnxruntime rounds what enters a product with four-bit weights
        return Made([path], WANTED if wanted is None else wanted, X, 2e-3 if "int4" in change.__name__ else 1e-5)

    CASES[f"onnx-{change.__name__.replace('_', '-')}"] = make
    return change


def renamed(name: str, make: Callable[[Path], tuple[list[Path], np.ndarray]], x: np.ndarray, *suffixes: str) -> None:
    def moved(folder: Path) -> Made:
        files, wanted = make(folder)
        return Made(
            [f.rename(folder / f"net-{i}{s}") for i, (f, s) in enumerate(zip(files, suffixes, strict=True))], wanted, x
        )

    CASES[name] = moved
