"""Unusual but valid files of every format: each converts, and computes what it should."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import netferry
from netferry.converters.passes.outside import OUTSIDE
from tests.attacks import unusual_caffe, unusual_darknet, unusual_keras, unusual_more, unusual_onnx


def outputs(path: Path, x: np.ndarray) -> np.ndarray:
    """The first output of a written file."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feeds = {i.name: x for i in session.get_inputs() if i.name not in ("idle", "bias")}
    feeds |= {i.name: np.zeros(1, np.float32) for i in session.get_inputs() if i.name == "idle"}
    return np.asarray(session.run(None, feeds)[0])


@pytest.mark.parametrize("name", unusual_onnx.CASES)
def test_onnx(tmp_path: Path, name: str) -> None:
    path, wanted = unusual_onnx.write(name, tmp_path)
    netferry.inspect(path)
    netferry.convert(path, tmp_path / "out.onnx")
    feeds = unusual_onnx.X
    got = outputs(tmp_path / "out.onnx", feeds)
    tolerance = 5e-3 if got.dtype == np.float16 or name == "quantized-weight" else 1e-5
    np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", unusual_caffe.CASES)
def test_caffe(tmp_path: Path, name: str) -> None:
    (source, *weights), wanted = unusual_caffe.write(name, tmp_path)
    netferry.convert(source, tmp_path / "out.onnx", *weights)
    x = unusual_caffe.X.reshape(2, 3, 1, 1) if name in ("four-input-dims", "v0-layers") else unusual_caffe.X
    got = outputs(tmp_path / "out.onnx", x)
    np.testing.assert_allclose(got.reshape(wanted.shape), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", unusual_darknet.CASES)
def test_darknet(tmp_path: Path, name: str) -> None:
    (source, *weights), wanted = unusual_darknet.write(name, tmp_path)
    netferry.convert(source, tmp_path / "out.onnx", *weights)
    got = outputs(tmp_path / "out.onnx", unusual_darknet.X)
    np.testing.assert_allclose(got.reshape(wanted.shape), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", unusual_keras.CASES)
def test_keras(tmp_path: Path, name: str) -> None:
    (source, *weights), wanted = unusual_keras.CASES[name](tmp_path)
    netferry.convert(source, tmp_path / "out.onnx", *weights)
    got = outputs(tmp_path / "out.onnx", unusual_keras.X)
    tolerance = 2e-2 if "int8" in name else 1e-5  # Keras rounds what enters a quantized layer, too
    np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", unusual_more.CASES)
def test_more(tmp_path: Path, name: str) -> None:
    made = unusual_more.CASES[name](tmp_path)
    source, *weights = made.files
    assert netferry.scan(source, *weights)["verdict"] != "dangerous"
    netferry.inspect(source, *weights)
    netferry.convert(source, tmp_path / "out.onnx", *weights)
    got = outputs(tmp_path / "out.onnx", made.x)
    np.testing.assert_allclose(got.reshape(made.wanted.shape), made.wanted, rtol=made.tolerance, atol=made.tolerance)


def test_sparse_constants_through_every_pass(tmp_path: Path) -> None:
    made = unusual_more.CASES["onnx-two-sparse-constants"](tmp_path)
    netferry.convert(made.files[0], tmp_path / "out.onnx", optimize="full", opset=15)
    np.testing.assert_allclose(outputs(tmp_path / "out.onnx", made.x), made.wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", unusual_onnx.CASES)
def test_onnx_through_every_pass(tmp_path: Path, name: str) -> None:
    path, wanted = unusual_onnx.write(name, tmp_path)
    netferry.convert(path, tmp_path / "out.onnx", optimize="full", opset=15, disable=tuple(OUTSIDE))
    got = outputs(tmp_path / "out.onnx", unusual_onnx.X)
    tolerance = 5e-3 if got.dtype == np.float16 or name == "quantized-weight" else 1e-5
    np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance)
    netferry.inspect(path, html=tmp_path / "out.html")
