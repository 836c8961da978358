"""Weights files whose layer names are those of another process or version: bound by position, as Keras does."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from netferry.converters.keras.read import read
from netferry.converters.options import ReadOptions
from netferry.errors import UnsupportedLayer, WeightsError
from netferry.schemas.tensors import array_of

RNG = np.random.default_rng(5)
ARRAYS = [(RNG.normal(size=(4, 4)).astype(np.float32), RNG.normal(size=4).astype(np.float32)) for _ in range(4)]


def files(folder: Path, ours: list[str], stored: list[str]) -> ReadOptions:
    """A chain of Dense layers of our names, and a file with arrays of other names in the same order."""
    layers = []
    for name in ours:
        dense = {"name": name, "units": 4, "activation": "linear", "use_bias": True, "batch_input_shape": [None, 4]}
        layers.append({"class_name": "Dense", "config": dense})
    config = {"name": "m", "layers": layers}
    model = {"class_name": "Sequential", "config": config, "keras_version": "2.15.0", "backend": "tensorflow"}
    (folder / "m.json").write_text(json.dumps(model))
    with h5py.File(folder / "w.h5", "w") as file:
        file.attrs["layer_names"] = [n.encode() for n in stored]
        file.attrs["backend"] = b"tensorflow"
        for name, (kernel, bias) in zip(stored, ARRAYS, strict=True):
            group = file.create_group(name)
            group.attrs["weight_names"] = [f"{name}/kernel:0".encode(), f"{name}/bias:0".encode()]
            group[f"{name}/kernel:0"], group[f"{name}/bias:0"] = kernel, bias
    return ReadOptions(weights=folder / "w.h5")


@pytest.mark.parametrize(
    ("ours", "stored"),
    [
        pytest.param(["dense", "dense_1", "dense_2", "p"], ["dense_1", "dense_2", "dense_3", "p"], id="counted-on"),
        pytest.param(["dense_5", "dense_6", "dense_7", "p"], ["dense", "dense_1", "dense_2", "p"], id="counted-back"),
        pytest.param(["c1_conv", "c2", "c3", "predictions"], ["c1/conv", "c2", "c3", "probs"], id="some-renamed"),
        pytest.param(["a", "b", "c", "d"], ["dense_1", "dense_2", "dense_3", "dense_4"], id="all-others"),
        pytest.param(["a", "b", "c", "d"], ["a", "b", "c", "d"], id="the-same"),
    ],
)
def test_by_position(tmp_path: Path, ours: list[str], stored: list[str]) -> None:
    model = read(tmp_path / "m.json", files(tmp_path, ours, stored))
    held = {k: array_of(v) for k, v in model.parameters().items()}
    for name, (kernel, bias) in zip(ours, ARRAYS, strict=True):
        np.testing.assert_array_equal(held[f"{name}.bias"], bias)
        weight = held[f"{name}.weight"]
        assert weight is not None
        assert np.array_equal(weight, kernel) or np.array_equal(weight, kernel.T)
    assert any("position" in n.message for n in model.notes) == (ours != stored)


def test_the_same_names_in_another_order_are_bound_by_name(tmp_path: Path) -> None:
    model = read(tmp_path / "m.json", files(tmp_path, ["a", "b", "c", "d"], ["d", "c", "b", "a"]))
    np.testing.assert_array_equal(array_of(model.parameters()["a.bias"]), ARRAYS[3][1])


@pytest.mark.parametrize(
    "stored",
    [
        pytest.param(["b", "a", "c", "x"], id="swapped-and-one-other"),
        pytest.param(["b", "c", "d", "e"], id="shifted-words"),
    ],
)
def test_names_that_contradict_the_order_are_refused(tmp_path: Path, stored: list[str]) -> None:
    with pytest.raises(WeightsError):
        read(tmp_path / "m.json", files(tmp_path, ["a", "b", "c", "d"], stored))


def test_layers_that_nobody_can_read_are_the_reason_for_shapes_that_do_not_fit(tmp_path: Path) -> None:
    """What follows a user's layer is given the shape in front of it, which need not be that of its weights."""
    options = files(tmp_path, ["a", "b", "c", "d"], ["a", "b", "c", "d"])
    model = json.loads((tmp_path / "m.json").read_text())
    mine = {"class_name": "Mine", "config": {"name": "mine"}}
    layers = model["config"]["layers"]
    layers[0]["config"]["batch_input_shape"] = [None, 7]
    del layers[1]["config"]["batch_input_shape"]
    model["config"]["layers"] = [
        {"class_name": "InputLayer", "config": {"name": "i", "batch_input_shape": [None, 7]}}, mine, *layers,
        {"class_name": "Other", "config": {"name": "other"}},
    ]  # fmt: skip
    (tmp_path / "m.json").write_text(json.dumps(model))
    with pytest.raises(UnsupportedLayer) as caught:
        read(tmp_path / "m.json", options)
    assert [row[:2] for row in caught.value.layers] == [("mine", "Mine"), ("other", "Other")]


@pytest.mark.parametrize(("stored", "told"), [(["a", "b", "c", "d"], False), (["a", "c", "b", "d"], True)])
def test_names_in_another_order_are_told(tmp_path: Path, stored: list[str], told: bool) -> None:
    """Keras would go by the order, the names say otherwise; no file that Keras wrote is like that."""
    model = read(tmp_path / "m.json", files(tmp_path, ["a", "b", "c", "d"], stored))
    assert any("in another order" in note.message for note in model.notes) == told
