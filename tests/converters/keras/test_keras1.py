"""Layers as Keras 1 wrote them: no Keras 1 runs today, so numpy says what its documentation says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from netferry.converters.keras.read import read
from netferry.converters.options import ReadOptions
from tests.converters.keras.oracle import in_memory, session

RNG = np.random.default_rng(5)


def values(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def run(
    tmp_path: Path, kind: str, config: dict[str, Any], weights: list[np.ndarray], inputs: list[np.ndarray], backend: str
) -> np.ndarray:
    """Convert and run one layer over ``inputs``, its file written as Keras 1.2 writes one."""
    layers: list[dict[str, Any]] = [
        {
            "class_name": "InputLayer",
            "name": f"in{i}",
            "config": {"name": f"in{i}", "batch_input_shape": [None, *x.shape[1:]], "input_dtype": "float32"},
            "inbound_nodes": [],
        }
        for i, x in enumerate(inputs)
    ]
    node = [[f"in{i}", 0, 0] for i in range(len(inputs))]
    layers.append({"class_name": kind, "name": "l", "config": {"name": "l", **config}, "inbound_nodes": [node]})
    model = {
        "class_name": "Model",
        "keras_version": "1.2.2",
        "config": {"name": "m", "layers": layers, "input_layers": node, "output_layers": [["l", 0, 0]]},
    }
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(model).encode()
        file.attrs["keras_version"], file.attrs["backend"] = b"1.2.2", backend.encode()
        top = file.create_group("model_weights")
        top.attrs["layer_names"] = [b"l"]
        group = top.create_group("l")
        group.attrs["weight_names"] = [f"l_{i}".encode() for i in range(len(weights))]
        for i, array in enumerate(weights):
            group[f"l_{i}"] = array
    runner = session(in_memory(read(path, ReadOptions())))
    return np.asarray(runner.run(None, {f"in{i}": x for i, x in enumerate(inputs)})[0])


def correlate(x: np.ndarray, kernel: np.ndarray, stride: int = 1, dilation: int = 1) -> np.ndarray:
    """Valid correlation of (N, H, W, C) with (h, w, C, F)."""
    h, w = ((k - 1) * dilation + 1 for k in kernel.shape[:2])
    rows, columns = (x.shape[1] - h) // stride + 1, (x.shape[2] - w) // stride + 1
    out = np.zeros((x.shape[0], rows, columns, kernel.shape[3]), np.float64)
    for i in range(kernel.shape[0]):
        for j in range(kernel.shape[1]):
            a, c = i * dilation, j * dilation
            part = x[:, a : a + stride * (rows - 1) + 1 : stride, c : c + stride * (columns - 1) + 1 : stride]
            out += part.astype(np.float64) @ kernel[i, j]
    return out


CONV = {"nb_filter": 5, "nb_row": 3, "nb_col": 2, "border_mode": "valid", "subsample": [2, 2], "bias": True,
        "activation": "linear"}  # fmt: skip


@pytest.mark.parametrize(
    ("ordering", "backend"),
    [
        pytest.param("tf", "tensorflow", id="tf"),
        pytest.param("tf", "theano", id="tf-turned"),
        pytest.param("th", "tensorflow", id="th"),
        pytest.param("th", "theano", id="th-turned"),
    ],
)
def test_convolution2d(tmp_path: Path, ordering: str, backend: str) -> None:
    x, kernel, bias = values(2, 7, 8, 3), values(3, 2, 3, 5), values(5)
    stored = kernel[::-1, ::-1] if backend == "theano" else kernel
    given = x
    if ordering == "th":
        stored, given = stored.transpose(3, 2, 0, 1), x.transpose(0, 3, 1, 2)
    made = run(tmp_path, "Convolution2D", CONV | {"dim_ordering": ordering}, [stored, bias], [given], backend)
    want = correlate(x, kernel, stride=2) + bias
    assert np.allclose(made, want.transpose(0, 3, 1, 2) if ordering == "th" else want, atol=1e-5)


def test_atrous_convolution2d(tmp_path: Path) -> None:
    x, kernel, bias = values(2, 9, 8, 3), values(3, 2, 3, 5), values(5)
    config = CONV | {"dim_ordering": "tf", "subsample": [1, 1], "atrous_rate": [2, 2]}
    made = run(tmp_path, "AtrousConvolution2D", config, [kernel, bias], [x], "tensorflow")
    assert np.allclose(made, correlate(x, kernel, dilation=2) + bias, atol=1e-5)


def test_convolution1d(tmp_path: Path) -> None:
    x, kernel, bias = values(2, 9, 3), values(4, 1, 3, 5), values(5)
    config = {"nb_filter": 5, "filter_length": 4, "border_mode": "valid", "subsample_length": 1, "bias": True}
    made = run(tmp_path, "Convolution1D", config, [kernel, bias], [x], "tensorflow")
    assert np.allclose(made, correlate(x[:, :, None], kernel)[:, :, 0] + bias, atol=1e-5)


def test_hard_sigmoid_dense(tmp_path: Path) -> None:
    x, kernel, bias = values(2, 4), values(4, 3), values(3)
    config = {"output_dim": 3, "input_dim": 4, "bias": True, "activation": "hard_sigmoid"}
    made = run(tmp_path, "Dense", config, [kernel, bias], [x], "tensorflow")
    assert np.allclose(made, np.clip(0.2 * (x @ kernel + bias) + 0.5, 0, 1), atol=1e-5)


def test_maxout_dense(tmp_path: Path) -> None:
    x, kernel, bias = values(2, 4), values(3, 4, 5), values(3, 5)
    config = {"output_dim": 5, "nb_feature": 3, "input_dim": 4, "bias": True}
    made = run(tmp_path, "MaxoutDense", config, [kernel, bias], [x], "theano")
    assert np.allclose(made, (np.einsum("ni,pio->npo", x, kernel) + bias).max(1), atol=1e-5)


def test_highway(tmp_path: Path) -> None:
    x, w, carry, bias, carry_bias = values(2, 4), values(4, 4), values(4, 4), values(4), values(4)
    config = {"bias": True, "activation": "tanh", "transform_bias": -2, "input_dim": 4}
    made = run(tmp_path, "Highway", config, [w, carry, bias, carry_bias], [x], "theano")
    gate = 1 / (1 + np.exp(-(x @ carry + carry_bias)))
    assert np.allclose(made, gate * np.tanh(x @ w + bias) + (1 - gate) * x, atol=1e-5)


def test_time_distributed_dense(tmp_path: Path) -> None:
    x, kernel, bias = values(2, 6, 4), values(4, 3), values(3)
    made = run(tmp_path, "TimeDistributedDense", {"output_dim": 3, "bias": True}, [kernel, bias], [x], "theano")
    assert np.allclose(made, x @ kernel + bias, atol=1e-5)


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        pytest.param({"mode": "sum"}, lambda x, y: x + y, id="sum"),
        pytest.param({"mode": "mul"}, lambda x, y: x * y, id="mul"),
        pytest.param({"mode": "ave"}, lambda x, y: (x + y) / 2, id="ave"),
        pytest.param({"mode": "max"}, np.maximum, id="max"),
        pytest.param({"mode": "concat", "concat_axis": -1}, lambda x, y: np.concatenate([x, y], -1), id="concat"),
        pytest.param({"mode": "dot", "dot_axes": [1, 1]}, lambda x, y: (x * y).sum(1, keepdims=True), id="dot"),
    ],
)
def test_merge(tmp_path: Path, config: dict[str, Any], wanted: Any) -> None:
    x, y = values(2, 5), values(2, 5)
    made = run(tmp_path, "Merge", config, [], [x, y], "theano")
    assert np.allclose(made, wanted(x, y), atol=1e-5)


def test_deconvolution2d(tmp_path: Path) -> None:
    x, kernel, bias = values(2, 4, 5, 3), values(3, 3, 2, 3), values(2)  # (h, w, out, in)
    config = {"nb_filter": 2, "nb_row": 3, "nb_col": 3, "output_shape": [None, 9, 11, 2], "subsample": [2, 2],
              "border_mode": "valid", "dim_ordering": "tf", "bias": True}  # fmt: skip
    made = run(tmp_path, "Deconvolution2D", config, [kernel, bias], [x], "tensorflow")
    want = np.zeros((2, 9, 11, 2))
    for i in range(4):
        for j in range(5):
            want[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3] += np.einsum("nc,hwoc->nhwo", x[:, i, j], kernel)
    assert np.allclose(made, want + bias, atol=1e-5)


def test_channels_first_flatten_keeps_its_order(tmp_path: Path) -> None:
    """Keras 1 flattens a channels-first picture as it is, channels first."""
    x = values(2, 3, 4, 5)
    assert np.allclose(run(tmp_path, "Flatten", {}, [], [x], "theano"), x.reshape(2, -1), atol=1e-6)


def test_batch_normalization_of_keras1_order(tmp_path: Path) -> None:
    x, gamma, beta, mean = values(2, 5), values(5), values(5), values(5)
    deviation = np.abs(values(5)) + 0.5
    config = {"mode": 0, "axis": -1, "epsilon": 1e-3, "momentum": 0.9, "beta_regularizer": None}
    made = run(tmp_path, "BatchNormalization", config, [gamma, beta, mean, deviation], [x], "tensorflow")
    assert np.allclose(made, (x - mean) / np.sqrt(deviation + 1e-3) * gamma + beta, atol=1e-5)
