"""More unusual but valid Keras files: arrays, sharing, archives."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tests.attacks import unusual_keras, unusual_onnx
from tests.attacks.unusual_made import CASES, KX, Made

W, B, X, WANTED = unusual_onnx.W, unusual_onnx.B, unusual_onnx.X, unusual_onnx.WANTED
info = unusual_onnx.info


def keras_case(make: Callable[[Path], tuple[list[Path], np.ndarray]]) -> Callable[..., Any]:
    CASES[f"keras-{make.__name__.replace('_', '-')}"] = lambda folder: Made(*make(folder), KX)
    return make


KW, KB = unusual_keras.W, unusual_keras.B


def _changed(folder: Path, change: Callable[[h5py.Group], object]) -> list[Path]:
    path = unusual_keras.hdf5(folder / "net.h5")
    with h5py.File(path, "r+") as file:
        group = file["model_weights/d/d"]
        assert isinstance(group, h5py.Group)
        change(group)
    return [path]


@keras_case
def weights_in_long_doubles(folder: Path) -> tuple[list[Path], np.ndarray]:
    def change(group: h5py.Group) -> None:
        del group["kernel:0"]
        group["kernel:0"] = KW.astype(np.longdouble)

    return _changed(folder, change), unusual_keras.WANTED


@keras_case
def big_endian_gzip_shuffle_checksum(folder: Path) -> tuple[list[Path], np.ndarray]:
    def change(group: h5py.Group) -> None:
        del group["kernel:0"]
        group.create_dataset(
            "kernel:0", data=KW.astype(">f8"), chunks=(2, 3), compression="gzip", shuffle=True, fletcher32=True
        )

    return _changed(folder, change), unusual_keras.WANTED


@keras_case
def chunks_larger_than_the_array(folder: Path) -> tuple[list[Path], np.ndarray]:
    def change(group: h5py.Group) -> None:
        del group["kernel:0"]
        group.create_dataset("kernel:0", data=KW, chunks=(64, 64), maxshape=(None, None), compression="gzip")

    return _changed(folder, change), unusual_keras.WANTED


@keras_case
def layers_without_weights_beside(folder: Path) -> tuple[list[Path], np.ndarray]:
    """Groups with an empty weight_names, as Keras writes for Dropout and Flatten; layer_names in another order."""
    drop = {"class_name": "Dropout", "config": {"name": "drop", "rate": 0.5}}
    path = unusual_keras.hdf5(folder / "net.h5", unusual_keras.sequential(unusual_keras.dense(), drop))
    with h5py.File(path, "r+") as file:
        top = file["model_weights"]
        top.attrs["layer_names"] = [b"drop", b"d"]
        group = file.create_group("model_weights/drop")
        group.attrs["weight_names"] = np.array([], "S1")
    return [path], unusual_keras.WANTED


@keras_case
def one_layer_called_three_times(folder: Path) -> tuple[list[Path], np.ndarray]:
    """A square layer shared with itself: d(d(d(x))), of nodes 0, 1 and 2."""
    square = np.round(np.eye(3, dtype=np.float32) + 0.5, 1)
    zero = np.zeros(3, np.float32)
    calls = [[["a", 0, 0, {}]], [["d", 0, 0, {}]], [["d", 1, 0, {}]]]
    layer = {**unusual_keras.dense(units=3, activation="linear"), "name": "d", "inbound_nodes": calls}
    model = unusual_keras._functional([unusual_keras._input("a"), layer], [["a", 0, 0]], [["d", 2, 0]])
    path = unusual_keras.hdf5(folder / "net.h5", {**model, "keras_version": "2.11.0"}, arrays=(square, zero))
    return [path], KX @ square @ square @ square


@keras_case
def one_model_called_twice(folder: Path) -> tuple[list[Path], np.ndarray]:
    inner = unusual_keras._functional(
        [unusual_keras._input("in"), {**unusual_keras.dense(), "name": "d", "inbound_nodes": [[["in", 0, 0, {}]]]}],
        [["in", 0, 0]], [["d", 0, 0]], "inner",
    )  # fmt: skip
    nested = {**inner, "name": "inner", "inbound_nodes": [[["a", 0, 0, {}]], [["n", 0, 0, {}]]]}
    negate = {
        "class_name": "Activation",
        "name": "n",
        "config": {"name": "n", "activation": "relu"},
        "inbound_nodes": [[["a", 0, 0, {}]]],
    }
    subtract = {
        "class_name": "Subtract",
        "name": "s",
        "config": {"name": "s"},
        "inbound_nodes": [[["inner", 1, 0, {}], ["inner", 2, 0, {}]]],
    }
    model = unusual_keras._functional(
        [unusual_keras._input("a"), negate, nested, subtract], [["a", 0, 0]], [["s", 0, 0]]
    )
    path = folder / "net.h5"
    with h5py.File(path, "w") as file:
        file.attrs["model_config"], file.attrs["keras_version"] = json.dumps(model), "2.11.0"
        top = file.create_group("model_weights")
        top.attrs["layer_names"] = [b"inner"]
        group = top.create_group("inner")
        group.attrs["weight_names"] = [b"d/kernel:0", b"d/bias:0"]
        group["d/kernel:0"], group["d/bias:0"] = KW, KB
    dense = lambda x: np.maximum(x @ KW + KB, 0)  # noqa: E731
    return [path], dense(KX) - dense(np.maximum(KX, 0))


@keras_case
def archive_of_another_folder_s_names(folder: Path) -> tuple[list[Path], np.ndarray]:
    """Members with attributes of links and of Windows do not matter: nothing is extracted."""
    path = folder / "net.keras"
    with zipfile.ZipFile(path, "w") as out:
        for name, content in (("metadata.json", b'{"keras_version": "3.3.3"}'), ("config.json", json.dumps(unusual_keras.sequential()).encode()),
                              ("model.weights.h5", unusual_keras.weights_h5()), ("../outside.txt", b"x"), ("/etc/passwd", b"x"), ("a\\b", b"x")):  # fmt: skip
            out.writestr(name, content)
    return [path], unusual_keras.WANTED


@keras_case
def archive_with_weights_in_two_shards(folder: Path) -> tuple[list[Path], np.ndarray]:
    shards = []
    for i, array in enumerate((KW, KB)):
        content = io.BytesIO()
        with h5py.File(content, "w") as file:
            file[f"layers/dense/vars/{i}"] = array
        shards.append(content.getvalue())
    path = folder / "net.keras"
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("metadata.json", '{"keras_version": "3.10.0"}')
        out.writestr("config.json", json.dumps(unusual_keras.sequential()))
        index = {
            "metadata": {"total_size": 64},
            "weight_map": {"/layers/dense/vars": ["model_00000.weights.h5", "model_00001.weights.h5"]},
        }
        out.writestr("model.weights.json", json.dumps(index))
        for i, content in enumerate(shards):
            out.writestr(f"model_{i:05d}.weights.h5", content)
    return [path], unusual_keras.WANTED


@keras_case
def config_with_a_byte_order_mark_in_an_archive(folder: Path) -> tuple[list[Path], np.ndarray]:
    path = folder / "net.keras"
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("metadata.json", b'\xef\xbb\xbf{"keras_version": "3.3.3"}\r\n')
        out.writestr(
            "config.json",
            b"\xef\xbb\xbf" + json.dumps(unusual_keras.sequential(), indent="\t").replace("\n", "\r\n").encode(),
        )
        out.writestr("model.weights.h5", unusual_keras.weights_h5(chunks=True, fletcher32=True))
    return [path], unusual_keras.WANTED


def _called(name: str, node: int = 0) -> dict[str, Any]:
    """A call by Keras 3's way of writing: the argument is output 0 of call ``node`` of ``name``."""
    tensor = {"shape": [None, 3], "dtype": "float32", "keras_history": [name, node, 0]}
    return {"args": [{"class_name": "__keras_tensor__", "config": tensor}], "kwargs": {}}


@keras_case
def outputs_that_count_calls_from_1_and_arguments_from_0(folder: Path) -> tuple[list[Path], np.ndarray]:
    """Keras 3's output_layers count the calls of a nested functional model from 1: its own making is call 0."""

    def layer(kind: str, name: str, *calls: dict[str, Any], **config: Any) -> dict[str, Any]:
        settings = {"name": name, "trainable": True, "dtype": "float32", **config}
        return {"module": "keras.layers", "class_name": kind, "config": settings, "registered_name": None, "name": name,
                "inbound_nodes": list(calls)}  # fmt: skip

    def inputs(name: str) -> dict[str, Any]:
        return layer("InputLayer", name, batch_shape=[None, 3], sparse=False)

    inner = [inputs("in"), layer("Dense", "d", _called("in"), units=4, activation="relu", use_bias=True)]
    nested = layer("Functional", "m", _called("a"), _called("n"), layers=inner, input_layers=[["in", 0, 0]], output_layers=[["d", 0, 0]])  # fmt: skip
    outer = [inputs("a"), layer("Activation", "n", _called("a"), activation="relu"), nested, layer("Activation", "r", _called("m", 1), activation="relu")]  # fmt: skip
    model = layer("Functional", "net", layers=outer, input_layers=[["a", 0, 0]], output_layers=[["m", 1, 0], ["r", 0, 0]])  # fmt: skip
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for i, array in enumerate((KW, KB)):
            file[f"layers/functional/layers/dense/vars/{i}"] = array
    path = folder / "net.keras"
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("metadata.json", '{"keras_version": "3.10.0"}')
        out.writestr("config.json", json.dumps(model))
        out.writestr("model.weights.h5", content.getvalue())
    return [path], unusual_keras.WANTED


def _sizes_whose_factor_rounds_down(folder: Path) -> Made:
    """9 times the float32 nearest to 25 / 9 is below 25 in double, where onnx's shape inference counts."""
    layers: list[dict[str, Any]] = [
        {"class_name": "InputLayer", "config": {"name": "x", "batch_input_shape": [None, 9, 6, 3], "dtype": "float32"}},
        {"class_name": "Resizing", "config": {"name": "r", "height": 25, "width": 5, "interpolation": "bilinear"}},
    ]
    model = {"class_name": "Sequential", "config": {"name": "m", "layers": layers}, "keras_version": "2.11.0"}
    (folder / "net.json").write_text(json.dumps(model))
    x = np.random.default_rng(7).standard_normal((2, 9, 6, 3)).astype(np.float32)
    wanted = x
    for axis, target in ((1, 25), (2, 5)):
        size = x.shape[axis]
        places = (np.arange(target) + 0.5) * size / target - 0.5  # np.interp holds the ends, as tensorflow does
        wanted = np.apply_along_axis(lambda row, at=places: np.interp(at, np.arange(row.size), row), axis, wanted)
    return Made([folder / "net.json"], wanted, x)


CASES["keras-sizes-whose-factor-rounds-down"] = _sizes_whose_factor_rounds_down
