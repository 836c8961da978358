"""Dense and activations against the real Keras, the meaning of which depends on the generation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from netferry.converters.keras.read import read
from netferry.converters.options import ReadOptions
from tests.converters.keras.oracle import Case, in_memory, session

BOTH = ["elu", "exponential", "gelu", "hard_sigmoid", "linear", "mish", "relu", "relu6", "selu", "sigmoid", "softmax",
        "softplus", "softsign", "swish", "tanh"]  # fmt: skip
ONLY_3 = ["celu", "glu", "hard_shrink", "hard_silu", "hard_tanh", "leaky_relu", "log_sigmoid", "log_softmax", "silu",
          "soft_shrink", "sparse_plus", "sparse_sigmoid", "sparsemax", "squareplus", "tanh_shrink"]  # fmt: skip
PICTURE = (5, 4, 6)


@pytest.mark.parametrize("name", BOTH)
def test_named(case: Case, name: str) -> None:
    case(f"L.Activation('{name}')", (7, 6), scale=5.0)


@pytest.mark.parametrize("name", ONLY_3)
def test_named_of_keras3(case3: Case, name: str) -> None:
    case3(f"L.Activation('{name}')", (7, 6), scale=5.0)


@pytest.mark.parametrize("name", ["softmax", "relu", "gelu"])
def test_after_convolution(case: Case, name: str) -> None:
    assert case(f"L.Conv2D(6, 3, activation='{name}')", PICTURE).operators.count("Transpose") <= 2


@pytest.mark.parametrize("name", ["glu", "sparsemax", "log_softmax"])
def test_after_convolution_of_keras3(case3: Case, name: str) -> None:
    case3(f"L.Activation('{name}')(L.Conv2D(6, 3)(x))", PICTURE)


@pytest.mark.parametrize(
    "model",
    [
        pytest.param("L.ReLU()", id="relu"),
        pytest.param("L.ReLU(6.0)", id="relu-max"),
        pytest.param("L.ReLU(negative_slope=0.2)", id="relu-slope"),
        pytest.param("L.ReLU(threshold=0.5)", id="relu-threshold"),
        pytest.param("L.ReLU(max_value=1.5, negative_slope=0.1, threshold=0.25)", id="relu-all"),
        pytest.param("L.LeakyReLU()", id="leaky"),
        pytest.param("L.LeakyReLU(0.05)", id="leaky-slope"),
        pytest.param("L.ELU(0.5)", id="elu"),
        pytest.param("L.PReLU()", id="prelu"),
        pytest.param("L.PReLU(shared_axes=[1, 2])", id="prelu-shared"),
        pytest.param("L.PReLU(shared_axes=[1])", id="prelu-shared-height"),
        pytest.param("L.PReLU()(L.Conv2D(4, 2)(x))", id="prelu-after-conv"),
        pytest.param("L.PReLU(shared_axes=[1, 2])(L.Conv2D(4, 2)(x))", id="prelu-shared-after-conv"),
        pytest.param("L.Softmax()", id="softmax"),
        pytest.param("L.Softmax(axis=1)", id="softmax-axis1"),
        pytest.param("L.Softmax(axis=1)(L.Conv2D(4, 2)(x))", id="softmax-axis1-after-conv"),
        pytest.param("L.Softmax(axis=[1, 2])", id="softmax-two-axes"),
        pytest.param("L.Dense(3, activation=L.LeakyReLU(0.1))", id="layer-as-activation"),
    ],
)
def test_layers(case: Case, model: str) -> None:
    case(model, PICTURE)


def test_thresholded_relu(case2: Case) -> None:
    case2("L.ThresholdedReLU(0.5)", PICTURE)


@pytest.mark.parametrize(
    ("model", "shape", "transposes"),
    [
        pytest.param("L.Dense(3)", (5,), 0, id="vector"),
        pytest.param("L.Dense(3, use_bias=False, activation='relu')", (5,), 0, id="no-bias"),
        pytest.param("L.Dense(3)", (4, 5), 0, id="series"),
        pytest.param("L.Dense(3)", (None, 5), 0, id="series-dynamic"),
        pytest.param("L.Dense(3)", PICTURE, 0, id="picture"),
        pytest.param("L.Dense(3)(L.Conv2D(4, 2)(x))", PICTURE, 2, id="after-conv"),
        pytest.param("L.Dense(3)(L.Flatten()(L.Conv2D(4, 2)(x)))", PICTURE, 1, id="flatten"),
        pytest.param("L.Dense(3)(L.Dropout(0.5)(L.ReLU()(L.Flatten()(L.Conv2D(4, 2)(x)))))", PICTURE, 1, id="flatten-relu"),
        pytest.param("L.Dense(3)(L.BatchNormalization()(L.Flatten()(L.Conv2D(4, 2)(x))))", PICTURE, 1, id="flatten-bn"),
        pytest.param("L.Dense(3)(L.PReLU()(L.Flatten()(L.Conv2D(4, 2)(x))))", PICTURE, 1, id="flatten-prelu"),
        pytest.param("L.Flatten()(L.Conv2D(4, 2)(x))", PICTURE, 2, id="flatten-as-output"),
        pytest.param("L.ReLU()(L.Flatten()(L.Conv2D(4, 2)(x)))", PICTURE, 2, id="flatten-relu-as-output"),
        pytest.param("L.Dense(3)(L.Flatten()(L.Conv1D(4, 2)(x)))", (6, 3), 1, id="flatten-1d"),
        pytest.param("L.Dense(3)(L.Flatten()(L.Conv3D(4, 2)(x)))", (4, 5, 3, 2), 1, id="flatten-3d"),
        pytest.param("(lambda f: L.Dense(3)(L.Add()([f, L.ReLU()(f)])))(L.Flatten()(L.Conv2D(4, 2)(x)))", PICTURE, 1,
                     id="flatten-residual"),
    ],
)  # fmt: skip
def test_dense(case: Case, model: str, shape: tuple[int | None, ...], transposes: int) -> None:
    assert case(model, shape).operators.count("Transpose") <= transposes


def test_hard_sigmoid_of_old_files(tmp_path: Path) -> None:
    """Keras 2: clip(0.2 x + 0.5), so 0.7 at 1; Keras 3 reads the same file as 0.667."""
    layers = [{"class_name": "Activation",
               "config": {"name": "a", "activation": "hard_sigmoid", "batch_input_shape": [None, 1]}}]  # fmt: skip
    for version, wanted in (("2.2.4", 0.7), ("1.2.2", 0.7), ("3.1.0", 2 / 3)):
        file = tmp_path / f"{version}.json"
        file.write_text(json.dumps({"class_name": "Sequential", "keras_version": version, "config": layers}))
        runner = session(in_memory(read(file, ReadOptions())))
        (made,) = runner.run(None, {runner.get_inputs()[0].name: np.ones((1, 1), np.float32)})
        assert np.asarray(made).item() == pytest.approx(wanted, abs=1e-6)
