"""Unusual but valid files of every format as torch modules: the values that they should have, or a refusal by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from netferry import api
from netferry.errors import UnsupportedLayer
from tests.attacks import unusual_caffe, unusual_darknet, unusual_keras, unusual_more, unusual_onnx

Case = tuple[list[Path], np.ndarray, np.ndarray, float]
"""files, the wanted first output, the input, how far apart"""
REFUSED = {
    "onnx-constants-of-every-attribute": "a constant of this form",
    "onnx-operators-of-onnxruntime": "domain com.microsoft",
    "onnx-texts-beside-numbers": "has no counterpart in torch",
}
"""texts, and operators of one runtime"""


def _onnx(name: str, folder: Path) -> Case:
    path, wanted = unusual_onnx.write(name, folder)
    rounded = name in ("quantized-weight", "half-precision-throughout")
    return [path], wanted, unusual_onnx.X, 5e-3 if rounded else 1e-5


def _caffe(name: str, folder: Path) -> Case:
    files, wanted = unusual_caffe.write(name, folder)
    x = unusual_caffe.X.reshape(2, 3, 1, 1) if name in ("four-input-dims", "v0-layers") else unusual_caffe.X
    return files, wanted, x, 1e-5


def _darknet(name: str, folder: Path) -> Case:
    return *unusual_darknet.write(name, folder), unusual_darknet.X, 1e-5


def _keras(name: str, folder: Path) -> Case:
    return *unusual_keras.CASES[name](folder), unusual_keras.X, 2e-2 if "int8" in name else 1e-5


def _more(name: str, folder: Path) -> Case:
    made = unusual_more.CASES[name](folder)
    return made.files, made.wanted, made.x, made.tolerance


_OF: dict[str, tuple[Callable[[str, Path], Any], Any]] = {
    "onnx": (_onnx, unusual_onnx.CASES),
    "caffe": (_caffe, unusual_caffe.CASES),
    "darknet": (_darknet, unusual_darknet.CASES),
    "keras": (_keras, unusual_keras.CASES),
    "more": (_more, unusual_more.CASES),
}
ROWS = {
    (name if kind == "more" else f"{kind}-{name}"): (make, name)
    for kind, (make, cases) in _OF.items()
    for name in cases
}


@pytest.mark.parametrize("row", ROWS)
def test_module(tmp_path: Path, row: str) -> None:
    make, name = ROWS[row]
    (source, *weights), wanted, x, tolerance = make(name, tmp_path)
    model = api.load(source, *weights)
    if row in REFUSED:
        with pytest.raises(UnsupportedLayer, match=REFUSED[row]):
            api.to_torch(model)
        return
    module = api.to_torch(model).eval()
    feeds = [np.zeros(1, np.float32) if i.name == "idle" else np.ascontiguousarray(x) for i in model.inputs]
    with torch.no_grad():
        made = module(*map(torch.from_numpy, feeds))
    first = made[0] if isinstance(made, tuple) else made
    got = first.float().numpy() if first.dtype is torch.bfloat16 else first.numpy()
    np.testing.assert_allclose(got.reshape(wanted.shape), wanted, rtol=tolerance, atol=tolerance)
