"""Features of Keras networks lie as Keras has them: every layer equals real Keras's own intermediate values."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import netferry
from tests.converters.keras.oracle import tensorflow_python

TOLERANCE = 2e-5  # relative to a layer's largest value
KERAS = """
import os, sys
os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
generation, folder = sys.argv[1:]
if generation == "2":
    import tf_keras as keras
else:
    import keras
import numpy as np
L = keras.layers
keras.utils.set_random_seed(7)
x = keras.Input((12, 10, 3), name="picture")
y = L.Conv2D(8, 3, padding="same", activation="relu", name="conv")(x)
y = L.BatchNormalization(name="norm")(y)
y = L.MaxPooling2D(2, name="pool")(y)
z = L.DepthwiseConv2D(3, padding="same", name="depthwise")(y)
y = L.Add(name="add")([y, z])
y = L.Activation("tanh", name="tanh")(y)
f = L.Flatten(name="flat")(y)
d = L.Dense(7, activation="relu", name="dense")(f)
s = L.Reshape((30, 8), name="steps")(y)
s = L.Conv1D(6, 3, name="conv1d")(s)
s = L.LSTM(5, return_sequences=True, name="lstm")(s)
g = L.GlobalAveragePooling1D(name="mean")(s)
out = L.Dense(4, activation="softmax", name="prob")(L.Concatenate(name="both")([d, g]))
model = keras.Model(x, out)
names = [l.name for l in model.layers if l.name != "picture"]
rng = np.random.default_rng(3)
for layer in model.layers:
    layer.set_weights([rng.normal(0, 0.3, w.shape) ** (2 if "variance" in v.name else 1) + 0.1 * ("variance" in v.name)
                       for v, w in zip(layer.weights, layer.get_weights())])
pictures = rng.normal(0, 1, (5, 12, 10, 3)).astype(np.float32)
whole = keras.Model(x, [model.get_layer(n).output for n in names])
values = dict(zip(names, whole.predict(pictures, verbose=0)))
model.save(os.path.join(folder, "net.h5" if generation == "2" else "net.keras"))
np.savez(os.path.join(folder, "values.npz"), pictures=pictures, **values)
"""


@pytest.fixture(scope="module", params=["2", "3"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    python = tensorflow_python()
    if python is None:
        pytest.skip("needs tensorflow with tf_keras and keras (here, or in NETFERRY_TF_PYTHON)")
    folder = tmp_path_factory.mktemp(f"keras{request.param}")
    subprocess.run([python, "-W", "ignore", "-c", KERAS, request.param, str(folder)], check=True, capture_output=True)
    np.save(folder / "x.npy", np.load(folder / "values.npz")["pictures"])
    return folder, dict(np.load(folder / "values.npz"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="as-read"),
        pytest.param({"optimize": "full"}, id="optimized"),
        pytest.param({"opset": 13, "ir_version": 8}, id="without-metadata-of-nodes"),
    ],
)
def test_every_layer_is_as_keras_has_it(
    options: dict[str, Any], made: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder, values = made
    (source,) = [p for p in folder.iterdir() if p.name.startswith("net.")]
    netferry.convert(source, tmp_path / "net.onnx", **options)
    names = [n for n in values if n != "pictures"]
    if options.get("optimize"):
        names.remove("norm")  # folded into the convolution in front of it
        names.remove("conv")
    for pool in ("none", "flatten", "avg"):
        out = tmp_path / f"{pool}.npz"
        netferry.features(tmp_path / "net.onnx", folder / "x.npy", out, layers=names, pool=pool, batch_size=2)
        found = np.load(out)
        for name in names:
            expected = values[name]
            if pool == "flatten":
                expected = expected.reshape(len(expected), -1)
            elif pool == "avg" and expected.ndim > 2:
                expected = expected.mean(tuple(range(1, expected.ndim - 1)))
            np.testing.assert_allclose(
                found[name], expected, rtol=0, atol=TOLERANCE * np.abs(expected).max(), err_msg=f"{name} {pool}"
            )


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["avg", "flatten"])
def test_a_classifier_reads_the_same_features(pool: str, made: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    """The pooling inside the merged file is that outside: scikit-learn and the file agree (train_head checks it on the
    features, this on the pictures)."""
    folder, values = made
    (source,) = [p for p in folder.iterdir() if p.name.startswith("net.")]
    np.savez(tmp_path / "data.npz", x=values["pictures"], y=np.array(["a", "b", "a", "b", "b"]))
    netferry.train_head(
        source, tmp_path / "data.npz", tmp_path / "head.onnx", layer="tanh", pool=pool, classifier="knn", neighbors=1,
        seeds=0, folds=0,
    )  # fmt: skip
    session = netferry.session(tmp_path / "head.onnx", device="cpu")
    assert session.run({"picture": values["pictures"]})["label"].tolist() == ["a", "b", "a", "b", "b"]


def test_a_file_by_hand_gives_pictures_and_vectors_in_its_own_order(tmp_path: Path) -> None:
    """A convolution that does nothing: its values, and those of Flatten behind it, are the input's in Keras's order."""
    from tests.converters.keras.test_lambda_and_contrib import one, picture, saved

    layers = [
        picture(3, 4, 2),
        one("conv", "Conv2D", {"filters": 2, "kernel_size": [1, 1], "use_bias": False}, "x"),
        one("flat", "Flatten", {}, "conv"),
        one("dense", "Dense", {"units": 3, "use_bias": False}, "flat"),
    ]
    rng = np.random.default_rng(5)
    kernel = rng.normal(size=(24, 3)).astype(np.float32)
    saved(tmp_path, layers, {"conv": [np.eye(2, dtype=np.float32).reshape(1, 1, 2, 2)], "dense": [kernel]})
    x = rng.normal(size=(4, 3, 4, 2)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    netferry.convert(tmp_path / "model.h5", tmp_path / "net.onnx")
    names = ["conv", "flat", "dense"]
    netferry.features(tmp_path / "net.onnx", tmp_path / "x.npy", tmp_path / "f.npz", layers=names, pool="none")
    found = np.load(tmp_path / "f.npz")
    np.testing.assert_array_equal(found["conv"], x)
    np.testing.assert_array_equal(found["flat"], x.reshape(4, 24))
    np.testing.assert_allclose(found["dense"], x.reshape(4, 24) @ kernel, rtol=1e-5, atol=1e-6)


def test_drawings_take_the_channels() -> None:
    """A mosaic shows channels, wherever they lie."""
    from netferry.runtime.visualize import as_channels

    values = np.arange(24).reshape(2, 3, 4)
    np.testing.assert_array_equal(as_channels(values, True)[1], values[:, :, 1])
    np.testing.assert_array_equal(as_channels(values, False)[1], values[1])
