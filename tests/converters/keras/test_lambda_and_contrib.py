"""Files with classes that no installed Keras has: the Lambda of InceptionResNetV2, contrib and addons layers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from netferry.converters.keras.read import read
from netferry.converters.options import ReadOptions
from netferry.errors import UnsupportedOption
from netferry.schemas.model import Model
from tests.converters.keras.oracle import in_memory, session


def saved(
    folder: Path, layers: list[dict[str, Any]], weights: dict[str, list[np.ndarray]], name: str = "model"
) -> Path:
    """Write a functional Keras 2 file by hand: layers in order, the last one's output."""
    config = {
        "name": name,
        "layers": layers,
        "input_layers": [["x", 0, 0]],
        "output_layers": [[layers[-1]["name"], 0, 0]],
    }
    path = folder / "model.h5"
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Functional", "config": config})
        file.attrs["keras_version"] = "2.4.3"
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [layer["name"].encode() for layer in layers]
        for layer in layers:
            inner = group.create_group(layer["name"])
            arrays = weights.get(layer["name"], [])
            inner.attrs["weight_names"] = [f"w{i}".encode() for i in range(len(arrays))]
            for i, array in enumerate(arrays):
                inner.create_dataset(f"w{i}", data=array)
    return path


def one(name: str, kind: str, config: dict[str, Any], *inputs: Any) -> dict[str, Any]:
    """A layer object."""
    nodes = [[[i, 0, 0, {}] if isinstance(i, str) else i for i in inputs]] if inputs else []
    return {"name": name, "class_name": kind, "config": {"name": name, **config}, "inbound_nodes": nodes}


def picture(*shape: int) -> dict[str, Any]:
    """The input layer."""
    return one("x", "InputLayer", {"batch_input_shape": [None, *shape], "dtype": "float32"})


def run(model: Model, x: np.ndarray) -> np.ndarray:
    """The model's output."""
    runner = session(in_memory(model))
    return np.asarray(runner.run(None, {runner.get_inputs()[0].name: x})[0])


def scale_lambda(name: str) -> dict[str, Any]:
    settings = {"function": ["4wIAAAA=", None, None], "function_type": "lambda", "arguments": {"scale": 0.17}}
    return one(name, "Lambda", settings, "x", "double")


DOUBLE = one("double", "Activation", {"activation": "relu"}, "x")
X = np.random.default_rng(3).normal(size=(3, 4, 5, 2)).astype(np.float32)


def test_lambda_of_inception_resnet(tmp_path: Path) -> None:
    path = saved(tmp_path, [picture(4, 5, 2), DOUBLE, scale_lambda("block35_1")], {}, "inception_resnet_v2")
    model = read(path, ReadOptions())
    assert not model.placeholders()
    assert any(n.layer == "block35_1" and n.kind == "assumed" for n in model.notes)
    np.testing.assert_allclose(run(model, X), X + 0.17 * np.maximum(X, 0), rtol=1e-6)


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        pytest.param("block35_1", "my_model", id="another-model"),
        pytest.param("scale_1", "inception_resnet_v2", id="another-layer"),
    ],
)
def test_other_lambdas_are_placeholders(tmp_path: Path, layer: str, name: str) -> None:
    path = saved(tmp_path, [picture(4, 5, 2), DOUBLE, scale_lambda(layer)], {}, name)
    model = read(path, ReadOptions())
    assert [n.op_type for n in model.placeholders()] == ["Lambda"]


@pytest.mark.parametrize(
    ("config", "shape"),
    [
        pytest.param({"axis": -1, "epsilon": 0.01, "groups": -1}, (2,), id="addons"),
        pytest.param({"axis": -1, "epsilon": 0.01}, (2,), id="contrib"),
        pytest.param({"axis": None, "epsilon": 0.01}, (1,), id="contrib-no-axis"),
    ],
)
def test_instance_normalization(tmp_path: Path, config: dict[str, Any], shape: tuple[int, ...]) -> None:
    """Against the published formulas in NumPy."""
    rng = np.random.default_rng(5)
    gamma, beta = (rng.normal(size=shape).astype(np.float32) for _ in range(2))
    path = saved(tmp_path, [picture(4, 5, 2), one("n", "InstanceNormalization", config, "x")], {"n": [gamma, beta]})
    axes = (1, 2) if config["axis"] == -1 else (1, 2, 3)
    mean, var = X.mean(axes, keepdims=True), X.var(axes, keepdims=True)
    spread = np.sqrt(var + 0.01) if "groups" in config else np.sqrt(var) + 0.01
    np.testing.assert_allclose(run(read(path, ReadOptions()), X), (X - mean) / spread * gamma + beta, atol=2e-6)


def raw(name: str, op: str, attributes: dict[str, Any], constants: dict[str, Any], *inputs: str) -> dict[str, Any]:
    """A TensorFlowOpLayer."""
    node = json.dumps({"name": name, "op": op, "attr": attributes})
    return one(name, "TensorFlowOpLayer", {"node_def": node, "constants": constants}, *inputs)


@pytest.mark.parametrize(
    ("layers", "wanted"),
    [
        pytest.param([raw("y", "AddV2", {"T": {"type": "DT_FLOAT"}}, {"1": 1.5}, "x")], X + 1.5, id="add"),
        pytest.param([raw("y", "Sub", {}, {"0": 1.0}, "x")], 1 - X, id="constant-first"),
        pytest.param(
            [raw("y", "Mean", {"keep_dims": {"b": True}}, {"1": [1, 2]}, "x")], X.mean((1, 2), keepdims=True), id="mean"
        ),
        pytest.param(
            [
                raw(
                    "y",
                    "StridedSlice",
                    {"begin_mask": {"i": "5"}, "end_mask": {"i": "5"}},
                    {"1": [0, 1, 0], "2": [0, 3, 0], "3": [1, 1, 2]},
                    "x",
                )
            ],
            X[:, 1:3, ::2],
            id="strided-slice",
        ),
        pytest.param([raw("y", "ConcatV2", {}, {"2": -1}, "x", "x")], np.concatenate([X, X], -1), id="concat"),
        pytest.param([raw("y", "Reshape", {}, {"1": [-1, 40]}, "x")], X.reshape(3, 40), id="reshape"),
        pytest.param(
            [
                raw(
                    "y",
                    "MaxPool",
                    {
                        "ksize": {"list": {"i": ["1", "2", "2", "1"]}},
                        "strides": {"list": {"i": ["1", "2", "2", "1"]}},
                        "padding": {"s": "VkFMSUQ="},
                    },
                    {},
                    "x",
                )
            ],
            X[:, :4, :4].reshape(3, 2, 2, 2, 2, 2).max((2, 4)),
            id="max-pool",
        ),
    ],
)
def test_tensorflow_op_layer(tmp_path: Path, layers: list[dict[str, Any]], wanted: np.ndarray) -> None:
    path = saved(tmp_path, [picture(4, 5, 2), *layers], {})
    np.testing.assert_allclose(run(read(path, ReadOptions()), X), wanted, atol=1e-6)


def test_unknown_operations_are_placeholders_by_name(tmp_path: Path) -> None:
    layers = [
        picture(4, 5, 2),
        one("y", "TFOpLambda", {"function": "signal.fft"}, ["x", 0, 0, {"name": None}]),
        one("z", "ClassMethod", {"cls_symbol": "RaggedTensor", "method_name": "from_tensor"}, "y"),
    ]
    model = read(saved(tmp_path, layers, {}), ReadOptions())
    assert [n.op_type for n in model.placeholders()] == ["tf_signal_fft", "tf_RaggedTensor_from_tensor"]


@pytest.mark.parametrize(
    ("origin", "operator"),
    [
        pytest.param({}, "Softmax", id="plain"),
        pytest.param({"module": "keras.layers", "registered_name": None}, "Softmax", id="keras"),
        pytest.param({"module": "tf_keras.src.layers", "registered_name": "Softmax"}, "Softmax", id="tf-keras"),
        pytest.param({"class_name": "Addons>Softmax"}, "Softmax", id="addons"),
        pytest.param({"class_name": "My>Softmax"}, "My_Softmax", id="package"),
        pytest.param({"module": None, "registered_name": "My>Softmax"}, "My_Softmax", id="registered"),
        pytest.param({"module": "my.layers", "registered_name": "Softmax"}, "my_layers_Softmax", id="module"),
    ],
)
def test_a_users_class_that_is_called_like_one_of_keras(tmp_path: Path, origin: dict[str, Any], operator: str) -> None:
    model = read(saved(tmp_path, [picture(4, 5, 2), one("y", "Softmax", {}, "x") | origin], {}), ReadOptions())
    assert [n.op_type for n in model.graph][-1] == operator
    assert bool(model.placeholders()) is (operator != "Softmax")


def test_a_users_activation_is_a_placeholder_behind_its_layer(tmp_path: Path) -> None:
    function = {"class_name": "function", "config": "Mine>doubled", "registered_name": "function"}
    dense = one("d", "Dense", {"units": 3, "activation": function}, "x")
    weights = {"d": [np.eye(2, 3, dtype=np.float32), np.zeros(3, np.float32)]}
    model = read(saved(tmp_path, [picture(4, 5, 2), dense], weights), ReadOptions())
    assert [n.op_type for n in model.graph] == ["MatMul", "Add", "doubled"]
    assert [n.op_type for n in model.placeholders()] == ["doubled"]


@pytest.mark.parametrize("name", ["Dense", "no name"])
def test_other_activations_are_refused(tmp_path: Path, name: str) -> None:
    layers = [picture(4, 5, 2), one("a", "Activation", {"activation": name}, "x")]
    with pytest.raises(UnsupportedOption):
        read(saved(tmp_path, layers, {}), ReadOptions())
