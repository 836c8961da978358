"""Unusual but valid ONNX files; each computes relu(x @ W + b) of a batch of three numbers, unless it says otherwise."""

from __future__ import annotations

from tests.attacks import (  # noqa: F401  their cases register themselves
    unusual_onnx_files,
    unusual_onnx_names,
    unusual_onnx_weights,
)
from tests.attacks.unusual_linear import CASES, WANTED, B, W, X, external, info, linear, write

__all__ = ["CASES", "WANTED", "B", "W", "X", "external", "info", "linear", "write"]
