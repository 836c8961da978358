"""Unusual but valid Keras files; each computes relu(x @ W + b) of a batch of three numbers, unless it says otherwise."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np

RNG = np.random.default_rng(11)
W, B = RNG.standard_normal((3, 4)).astype(np.float32), RNG.standard_normal(4).astype(np.float32)
X = RNG.standard_normal((2, 3)).astype(np.float32)
WANTED = np.maximum(X @ W + B, 0)
Make = Callable[[Path], tuple[list[Path], np.ndarray]]
CASES: dict[str, Make] = {}
"""name -> writes the files into a folder; returns their paths as ``convert`` takes them, and the expected output"""


def case(function: Make) -> Make:
    """Register a case under its function's name."""
    CASES[function.__name__.replace("_", "-")] = function
    return function


def dense(**changes: Any) -> dict[str, Any]:
    config = {"name": "d", "trainable": True, "dtype": "float32", "units": 4, "activation": "relu", "use_bias": True}
    return {"class_name": "Dense", "config": {**config, "batch_input_shape": [None, 3], **changes}}


def sequential(*layers: dict[str, Any], **changes: Any) -> dict[str, Any]:
    config = {"name": "m", "layers": list(layers or (dense(),))}
    return {"class_name": "Sequential", "config": config, "keras_version": "2.11.0", "backend": "tensorflow", **changes}


def hdf5(
    path: Path,
    model: Any = None,
    *,
    layer: str = "d",
    arrays: tuple[np.ndarray, ...] = (W, B),
    text: Any = None,
    names: Callable[[str], Any] = str.encode,
    file: dict[str, Any] | None = None,
    **stored: Any,
) -> Path:
    """A model as Keras 2 stores it; ``file`` goes to h5py.File, ``stored`` to each array."""
    with h5py.File(path, "w", **(file or {})) as out:
        out.attrs["model_config"] = json.dumps(model or sequential()) if text is None else text
        out.attrs["keras_version"], out.attrs["backend"] = "2.11.0", "tensorflow"
        top = out.create_group("model_weights")
        top.attrs["layer_names"] = [names(layer)]
        group = top.create_group(layer)
        weights = [f"{layer}/kernel:0", f"{layer}/bias:0"]
        group.attrs["weight_names"] = [names(n) for n in weights]
        for name, array in zip(weights, arrays, strict=True):
            group.create_dataset(name, data=array, **stored)
    return path


def as_case(name: str, wanted: np.ndarray = WANTED, **options: Any) -> None:
    """A model in an .h5 file."""
    CASES[name] = lambda folder: ([hdf5(folder / "net.h5", **options)], wanted)


def as_json(name: str, text: str | bytes, wanted: np.ndarray = WANTED) -> None:
    """An architecture in JSON, its weights in HDF5."""

    def make(folder: Path) -> tuple[list[Path], np.ndarray]:
        (folder / "net.json").write_bytes(text.encode() if isinstance(text, str) else text)
        return [folder / "net.json", hdf5(folder / "w.h5")], wanted

    CASES[name] = make


def weights_h5(**stored: Any) -> bytes:
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for i, array in enumerate((W, B)):
            file.create_dataset(f"layers/dense/vars/{i}", data=array, **stored)
    return content.getvalue()


def archive(
    path: Path, change: Callable[[zipfile.ZipFile], None] | None = None, method: int = zipfile.ZIP_STORED
) -> Path:
    """A .keras file; ``change`` may add members."""
    with zipfile.ZipFile(path, "w", method) as out:
        if change is not None:
            change(out)
        out.writestr("metadata.json", json.dumps({"keras_version": "3.3.3", "date_saved": "2024-05-01@10:00:00"}))
        out.writestr("config.json", json.dumps(sequential()))
        out.writestr("model.weights.h5", weights_h5())
    return path


# the HDF5 file -------------------------------------------------------------------------------------------------------

as_case("plain")
as_case("chunked", chunks=True)
as_case("gzip", compression="gzip", compression_opts=9)
as_case("gzip-shuffle-checksum", compression="gzip", shuffle=True, fletcher32=True)
as_case("big-endian", arrays=(W.astype(">f4"), B.astype(">f4")))
as_case("big-endian-chunked", arrays=(W.astype(">f4"), B.astype(">f4")), chunks=True)
as_case("double", arrays=(W.astype(np.float64), B.astype(np.float64)))
as_case("half", np.maximum(X @ W.astype(np.float16).astype(np.float32) + B, 0), arrays=(W.astype(np.float16), B))
_BRAIN = W.astype(ml_dtypes.bfloat16)
as_case("bfloat16", np.maximum(X @ _BRAIN.astype(np.float32) + B, 0), arrays=(_BRAIN, B))
as_case("bfloat16-gzip", np.maximum(X @ _BRAIN.astype(np.float32) + B, 0), arrays=(_BRAIN, B), compression="gzip")
as_case("integers", np.maximum(X @ np.round(W) + B, 0), arrays=(np.round(W).astype(np.int32), B))
as_case("resizable", maxshape=None, chunks=True)
as_case("attributes-on-arrays", track_times=True)
as_case("user-block", file={"userblock_size": 512})
as_case("large-user-block", file={"userblock_size": 4096})
as_case("newest-layout", file={"libver": "latest"})
as_case("oldest-layout", file={"libver": ("earliest", "v108")})
as_case("tracked-order", file={"track_order": True})
as_case("text-as-bytes", text=np.bytes_(json.dumps(sequential())))
as_case("text-of-variable-length", text=json.dumps(sequential()))
as_case("text-in-an-array", text=np.array([json.dumps(sequential())], dtype=object))
as_case("names-as-text", names=str)
as_case("layer-name-with-slashes", model=sequential(dense(name="block/d:0")), layer="block/d:0")
as_case("layer-name-of-unicode", model=sequential(dense(name="全结合 β")), layer="全结合 β")
as_case("layer-name-with-spaces", model=sequential(dense(name=" a b\t")), layer=" a b\t")
as_case("layer-name-of-2000-letters", model=sequential(dense(name="n" * 2000)), layer="n" * 2000)
as_case("nan-and-infinity", np.where(np.isnan([np.nan, 0, 0, 0]), np.nan, np.maximum(X @ W + np.array([0, np.inf, 0, 0]), 0)),
        arrays=(W, np.array([np.nan, np.inf, 0, 0], np.float32)))  # fmt: skip


@case
def compact_storage(folder: Path) -> tuple[list[Path], np.ndarray]:
    """Arrays inside the header of their object."""
    path = hdf5(folder / "net.h5")
    with h5py.File(path, "r+") as file:
        group = file["model_weights/d/d"]
        assert isinstance(group, h5py.Group)
        for name, array in (("kernel:0", W), ("bias:0", B)):
            del group[name]
            plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            plist.set_layout(h5py.h5d.COMPACT)
            space = h5py.h5s.create_simple(array.shape)
            made = h5py.h5d.create(group.id, name.encode(), h5py.h5t.IEEE_F32LE, space, plist)
            made.write(h5py.h5s.ALL, h5py.h5s.ALL, array)
    return [path], WANTED


@case
def never_written_means_zeros(folder: Path) -> tuple[list[Path], np.ndarray]:
    path = hdf5(folder / "net.h5")
    with h5py.File(path, "r+") as file:
        group = file["model_weights/d/d"]
        assert isinstance(group, h5py.Group)
        del group["bias:0"]
        group.create_dataset("bias:0", (4,), "f4")
    return [path], np.maximum(X @ W, 0)


@case
def fill_value_of_what_was_not_written(folder: Path) -> tuple[list[Path], np.ndarray]:
    path = hdf5(folder / "net.h5")
    with h5py.File(path, "r+") as file:
        group = file["model_weights/d/d"]
        assert isinstance(group, h5py.Group)
        del group["bias:0"]
        group.create_dataset("bias:0", (4,), "f4", chunks=(2,), fillvalue=0.5)
    return [path], np.maximum(X @ W + 0.5, 0)


@case
def hard_links_to_one_array(folder: Path) -> tuple[list[Path], np.ndarray]:
    path = hdf5(folder / "net.h5")
    with h5py.File(path, "r+") as file:
        file["also"] = file["model_weights/d/d/kernel:0"]
    return [path], WANTED


@case
def optimizer_and_more_beside(folder: Path) -> tuple[list[Path], np.ndarray]:
    path = hdf5(folder / "net.h5")
    with h5py.File(path, "r+") as file:
        file.attrs["training_config"] = json.dumps({"loss": "mse", "metrics": None, "optimizer_config": {}})
        file.create_group("optimizer_weights").attrs["weight_names"] = [b"iter:0"]
        file["optimizer_weights/iter:0"] = 7
        file["notes"] = "text of the user"
        file["table"] = np.zeros(3, [("a", "i4"), ("b", "S5")])
    return [path], WANTED


@case
def names_in_pieces(folder: Path) -> tuple[list[Path], np.ndarray]:
    path = hdf5(folder / "net.h5")
    with h5py.File(path, "r+") as file:
        top = file["model_weights"]
        del top.attrs["layer_names"]
        top.attrs["layer_names0"], top.attrs["layer_names1"] = [b"d"], np.array([], "S1")
    return [path], WANTED


# the JSON ------------------------------------------------------------------------------------------------------------

as_json("json-with-byte-order-mark", "\ufeff" + json.dumps(sequential()))
as_json("json-with-windows-line-ends", json.dumps(sequential(), indent=2).replace("\n", "\r\n"))
as_json("json-with-white-space-around", " \n\t" + json.dumps(sequential()) + "\n\n \t")
as_json("json-with-escapes", json.dumps(sequential()).replace('"Dense"', r'"\u0044ense"').replace('"d"', r'"\u0064"'))
as_json("json-of-json", json.dumps(json.dumps(sequential())))
as_json(
    "json-with-nan-in-a-setting",
    json.dumps(sequential(dense(kernel_initializer={"class_name": "Constant", "config": {"value": float("nan")}}))),
)
as_json(
    "json-with-infinity-in-a-setting",
    json.dumps(sequential(dense(bias_constraint={"class_name": "MaxNorm", "config": {"max_value": float("inf")}}))),
)
as_json("json-with-a-long-number", json.dumps(sequential(dense(seed=0.1234567890123456789))))
as_json("json-without-version", json.dumps({k: sequential()[k] for k in ("class_name", "config")}))
as_json("json-of-keras-1", json.dumps({
    "class_name": "Sequential", "keras_version": "1.2.2",
    "config": [{"class_name": "Dense", "config": {"name": "d", "output_dim": 4, "input_dim": 3, "batch_input_shape": [None, 3], "activation": "relu", "bias": True, "init": "glorot_uniform"}}],
}))  # fmt: skip
as_json("json-with-null-for-no", json.dumps(sequential(dense(use_bias=None, activation="linear"))), X @ W)
as_json("json-with-settings-that-nobody-knows", json.dumps(sequential(dense(org_example={"a": [1, None]}))))
as_json("json-with-a-registered-object", json.dumps(sequential({**dense(), "module": "keras.layers", "registered_name": None, "build_config": {"input_shape": [None, 3]}})))  # fmt: skip
as_json("json-as-functional", json.dumps({
    "class_name": "Functional", "keras_version": "2.11.0",
    "config": {
        "name": "m",
        "layers": [
            {"class_name": "InputLayer", "name": "i/n:0 ü", "config": {"name": "i/n:0 ü", "batch_input_shape": [None, 3], "dtype": "float32", "sparse": False}, "inbound_nodes": []},
            {"class_name": "Dense", "name": "d", "config": dense()["config"], "inbound_nodes": [[["i/n:0 ü", 0, 0, {}]]]},
        ],
        "input_layers": [["i/n:0 ü", 0, 0]], "output_layers": [["d", 0, 0]],
    },
}))  # fmt: skip


# the archive ---------------------------------------------------------------------------------------------------------


def as_archive(
    name: str, change: Callable[[zipfile.ZipFile], None] | None = None, method: int = zipfile.ZIP_STORED
) -> None:
    CASES[name] = lambda folder: ([archive(folder / "net.keras", change, method)], WANTED)


def _zip64(out: zipfile.ZipFile) -> None:
    with out.open("assets/large.txt", "w", force_zip64=True) as member:
        member.write(b"text")


as_archive("archive")
as_archive("archive-deflated", method=zipfile.ZIP_DEFLATED)
as_archive("archive-with-zip64-entry", _zip64)
as_archive("archive-with-folders", lambda z: z.mkdir("assets"))
as_archive("archive-with-a-comment", lambda z: setattr(z, "comment", "größe".encode()))
as_archive("archive-with-more-members", lambda z: z.writestr("README.md", "about"))
as_archive("archive-with-unicode-members", lambda z: z.writestr("assets/ü/β.txt", "about"))


@case
def archive_with_zip64_members(folder: Path) -> tuple[list[Path], np.ndarray]:
    """Every member with sizes of 64 bits, as streaming writers make them."""
    path = folder / "net.keras"
    with zipfile.ZipFile(path, "w") as out:
        for name, content in (
            ("metadata.json", b'{"keras_version": "3.3.3"}'),
            ("config.json", json.dumps(sequential()).encode()),
            ("model.weights.h5", weights_h5()),
        ):
            with out.open(name, "w", force_zip64=True) as member:
                member.write(content)
    return [path], WANTED


@case
def archive_written_as_a_stream(folder: Path) -> tuple[list[Path], np.ndarray]:
    """Sizes after the members (bit 3 of the flags)."""

    class Stream(io.RawIOBase):
        def __init__(self) -> None:
            self.content = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            self.content += bytes(data)
            return len(data)

    stream = Stream()
    with zipfile.ZipFile(stream, "w") as out:
        out.writestr("metadata.json", '{"keras_version": "3.3.3"}')
        out.writestr("config.json", json.dumps(sequential()))
        out.writestr("model.weights.h5", weights_h5())
    (folder / "net.keras").write_bytes(stream.content)
    return [folder / "net.keras"], WANTED


@case
def archive_after_other_bytes(folder: Path) -> tuple[list[Path], np.ndarray]:
    """Zip archives may have anything in front; readers count from their end."""
    path = archive(folder / "net.keras")
    path.write_bytes(b"#!/bin/sh\nexit\n" + path.read_bytes())
    return [path], WANTED


@case
def archive_of_another_name(folder: Path) -> tuple[list[Path], np.ndarray]:
    return [archive(folder / "net.zip")], WANTED


@case
def archive_quantized_to_int8(folder: Path) -> tuple[list[Path], np.ndarray]:
    """What ``model.quantize("int8")`` of Keras 3 leaves: integers, and a scale for each unit."""
    scale = (127 / np.abs(W).max(axis=0)).astype(np.float32)
    small = np.round(W * scale).astype(np.int8)
    policy = {"module": "keras.dtype_policies", "class_name": "QuantizedDTypePolicy", "registered_name": None,
              "config": {"mode": "int8", "source_name": "float32"}}  # fmt: skip
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for i, array in enumerate((small, B, scale)):
            file[f"layers/dense/vars/{i}"] = array
    path = folder / "net.keras"
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("metadata.json", '{"keras_version": "3.15.1"}')
        out.writestr("config.json", json.dumps(sequential(dense(dtype=policy))))
        out.writestr("model.weights.h5", content.getvalue())
    return [path], np.maximum(X @ (small / scale) + B, 0)


@case
def archive_with_compressed_weights_inside(folder: Path) -> tuple[list[Path], np.ndarray]:
    path = folder / "net.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("metadata.json", '{"keras_version": "3.3.3"}')
        out.writestr("config.json", json.dumps(sequential()))
        out.writestr("model.weights.h5", weights_h5(compression="gzip"))
    return [path], WANTED


# networks ------------------------------------------------------------------------------------------------------------


def _functional(layers: list[dict[str, Any]], inputs: list[Any], outputs: list[Any], name: str = "m") -> dict[str, Any]:
    return {
        "class_name": "Functional",
        "config": {"name": name, "layers": layers, "input_layers": inputs, "output_layers": outputs},
    }


def _input(name: str) -> dict[str, Any]:
    config = {"name": name, "batch_input_shape": [None, 3], "dtype": "float32", "sparse": False, "ragged": False}
    return {"class_name": "InputLayer", "name": name, "config": config, "inbound_nodes": []}


@case
def layer_shared_by_two_inputs(folder: Path) -> tuple[list[Path], np.ndarray]:
    add = {
        "class_name": "Add",
        "name": "s",
        "config": {"name": "s"},
        "inbound_nodes": [[["d", 0, 0, {}], ["d", 1, 0, {}]]],
    }
    shared = {**dense(), "name": "d", "inbound_nodes": [[["a", 0, 0, {}]], [["b", 0, 0, {}]]]}
    model = _functional([_input("a"), _input("b"), shared, add], [["a", 0, 0], ["b", 0, 0]], [["s", 0, 0]])
    return [hdf5(folder / "net.h5", {**model, "keras_version": "2.11.0"})], 2 * WANTED


@case
def model_in_a_model(folder: Path) -> tuple[list[Path], np.ndarray]:
    inner = _functional(
        [_input("in"), {**dense(), "name": "d", "inbound_nodes": [[["in", 0, 0, {}]]]}],
        [["in", 0, 0]],
        [["d", 0, 0]],
        "inner/β",
    )
    nested = {**inner, "name": "inner/β", "inbound_nodes": [[["a", 0, 0, {}]]]}
    model = _functional([_input("a"), nested], [["a", 0, 0]], [["inner/β", 1, 0]])
    path = folder / "net.h5"
    with h5py.File(path, "w") as file:
        file.attrs["model_config"], file.attrs["keras_version"] = json.dumps(model), "2.11.0"
        top = file.create_group("model_weights")
        top.attrs["layer_names"] = ["inner/β".encode()]
        group = top.create_group("inner/β")
        group.attrs["weight_names"] = [b"d/kernel:0", b"d/bias:0"]
        group["d/kernel:0"], group["d/bias:0"] = W, B
    return [path], WANTED


@case
def a_hundred_layers(folder: Path) -> tuple[list[Path], np.ndarray]:
    more = [{"class_name": "Activation", "config": {"name": f"a{i}", "activation": "relu"}} for i in range(1000)]
    return [hdf5(folder / "net.h5", sequential(dense(), *more))], WANTED


@case
def no_layer_but_the_input(folder: Path) -> tuple[list[Path], np.ndarray]:
    (folder / "net.json").write_text(json.dumps(_functional([_input("a")], [["a", 0, 0]], [["a", 0, 0]])))
    return [folder / "net.json"], X


@case
def models_nested_twenty_deep(folder: Path) -> tuple[list[Path], np.ndarray]:
    model = sequential(dense())
    for i in range(20):
        model = {
            "class_name": "Sequential",
            "config": {"name": f"m{i}", "layers": [{**model, "config": model["config"]}]},
        }
    (folder / "net.json").write_text(json.dumps({**model, "keras_version": "2.11.0"}))
    path = folder / "w.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"], file.attrs["keras_version"] = [b"m18"], b"2.11.0"
        group = file.create_group("m18")
        group.attrs["weight_names"] = [b"d/kernel:0", b"d/bias:0"]
        group["d/kernel:0"], group["d/bias:0"] = W, B
    return [folder / "net.json", path], WANTED
