"""Every form of file gives the same network; files that are wrong or hostile are refused with the right error."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import netferry
from netferry.converters.formats import detect
from netferry.converters.keras.read import read
from netferry.converters.options import Limits, ReadOptions
from netferry.errors import (
    FormatError,
    InputError,
    LimitExceeded,
    MalformedFile,
    NetferryError,
    UnsafeFile,
    UnsupportedLayer,
    WeightsError,
)
from tests.converters.keras.oracle import in_memory, session
from tests.shared import REPOSITORY

RNG = np.random.default_rng(3)
KERNEL, BIAS = RNG.normal(size=(4, 3)).astype(np.float32), RNG.normal(size=3).astype(np.float32)


def architecture(**changes: Any) -> dict[str, Any]:
    """A Sequential of one Dense layer, as Keras 2 writes it."""
    dense = {
        "name": "d",
        "units": 3,
        "activation": "linear",
        "use_bias": True,
        "batch_input_shape": [None, 4],
    } | changes
    config = {"name": "m", "layers": [{"class_name": "Dense", "config": dense}]}
    return {"class_name": "Sequential", "config": config, "keras_version": "2.15.0", "backend": "tensorflow"}


def write_h5(path: Path, *, model: Any = None, chunked: bool = False, compression: str | None = None) -> Path:
    with h5py.File(path, "w") as file:
        if model is not None:
            file.attrs["model_config"] = json.dumps(model)
            file.attrs["keras_version"] = "2.15.0"
        top = file.create_group("model_weights")
        top.attrs["layer_names0" if chunked else "layer_names"] = [b"d"]
        group = top.create_group("d")
        if chunked:
            group.attrs["weight_names0"], group.attrs["weight_names1"] = [b"d/kernel:0"], [b"d/bias:0"]
        else:
            group.attrs["weight_names"] = [b"d/kernel:0", b"d/bias:0"]
        group.create_dataset("d/kernel:0", data=KERNEL, compression=compression)
        group.create_dataset("d/bias:0", data=BIAS)
    return path


def write_keras(path: Path, *, deflated: bool = False, member: str = "model.weights.h5") -> Path:
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file["layers/dense/vars/0"], file["layers/dense/vars/1"] = KERNEL, BIAS
    kind = zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", kind) as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "2.15.0"}))
        archive.writestr("config.json", json.dumps(architecture()))
        archive.writestr(member, content.getvalue())
    return path


def run(path: Path, **options: Any) -> np.ndarray:
    runner = session(in_memory(read(path, ReadOptions(**options))))
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    return np.asarray(runner.run(None, {runner.get_inputs()[0].name: x})[0])


WANTED = np.arange(8, dtype=np.float32).reshape(2, 4) @ KERNEL + BIAS


@pytest.mark.parametrize(
    "form",
    [
        "h5",
        "h5-chunked-names",
        "h5-gzip",
        "keras",
        "keras-deflated",
        "json-h5",
        "json-paths",
        "sharded",
        "swapped",
        "sharded-swapped",
    ],
)
def test_every_form(tmp_path: Path, form: str) -> None:
    text = tmp_path / "m.json"
    text.write_text(json.dumps(architecture()))
    options: dict[str, Any] = {}
    if form.startswith("h5"):
        path = write_h5(tmp_path / "m.h5", model=architecture(), chunked="chunked" in form,
                        compression="gzip" if "gzip" in form else None)  # fmt: skip
    elif form.startswith("keras"):
        path = write_keras(tmp_path / "m.keras", deflated="deflated" in form)
    elif form == "json-paths":
        with h5py.File(tmp_path / "m.weights.h5", "w") as file:
            file["layers/dense/vars/0"], file["layers/dense/vars/1"] = KERNEL, BIAS
        path, options["weights"] = text, tmp_path / "m.weights.h5"
    elif form.startswith("sharded"):
        for i, array in enumerate((KERNEL, BIAS)):
            with h5py.File(tmp_path / f"m_{i:05}.weights.h5", "w") as file:
                file[f"layers/dense/vars/{i}"] = array
        index = {"metadata": {}, "weight_map": {"/layers/dense/vars": ["m_00000.weights.h5", "m_00001.weights.h5"]}}
        (tmp_path / "m.weights.json").write_text(json.dumps(index))
        path, options["weights"] = text, tmp_path / "m.weights.json"
        if form == "sharded-swapped":
            path, options["weights"] = options["weights"], path
        assert detect(path).name == "keras"
    else:
        weights = write_h5(tmp_path / "w.h5")
        path, options["weights"] = (weights, text) if form == "swapped" else (text, weights)
    assert np.allclose(run(path, **options), WANTED, atol=1e-5)


def test_architecture_alone_has_no_values(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text(json.dumps(architecture()))
    model = read(path, ReadOptions())
    assert model.uninitialised == ["d.weight", "d.bias"] or sorted(model.uninitialised) == ["d.bias", "d.weight"]
    assert model.initialise(0)


def test_missing_weights_are_listed(tmp_path: Path) -> None:
    path = write_h5(tmp_path / "m.h5", model=architecture())
    with h5py.File(path, "r+") as file:
        file["model_weights/d"].attrs["weight_names"] = [b"d/kernel:0"]
    with pytest.raises(WeightsError, match="d/bias"):
        read(path, ReadOptions())
    assert read(path, ReadOptions(skip_missing=True)).uninitialised == ["d.bias"]


@pytest.mark.parametrize("text", ["{not json", "[" * 5000, '{"loss": NaN, "optimizer_config": {"lr": Infinity}}'])
def test_training_is_no_matter(tmp_path: Path, text: str) -> None:
    path = write_h5(tmp_path / "m.h5", model=architecture())
    with h5py.File(path, "r+") as file:
        file.attrs["training_config"] = text
        file.create_group("optimizer_weights")["a"] = h5py.ExternalLink("/etc/passwd", "/x")
    assert np.allclose(run(path), WANTED, atol=1e-5)


def test_wrong_shape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="shape"):
        read(write_h5(tmp_path / "m.h5", model=architecture(units=5)), ReadOptions())


def test_code_is_never_run(tmp_path: Path) -> None:
    model = architecture()
    code = {"name": "l", "function": ["4wEAAAA=", None, None], "function_type": "lambda"}
    model["config"]["layers"].append({"class_name": "Lambda", "config": code})
    path = tmp_path / "m.json"
    path.write_text(json.dumps(model))
    read_model = read(path, ReadOptions())
    assert [n.op_type for n in read_model.placeholders()] == ["Lambda"]


def test_subclassed_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text(json.dumps({"class_name": "MyModel", "config": {"a": 1}, "keras_version": "3.0.0"}))
    with pytest.raises(UnsupportedLayer):
        read(path, ReadOptions())


def hostile_h5(tmp_path: Path, kind: str) -> Path:
    path = write_h5(tmp_path / "m.h5", model=architecture())
    with h5py.File(path, "r+") as file:
        group = file["model_weights/d/d"]
        assert isinstance(group, h5py.Group)
        del group["bias:0"]
        if kind == "external-link":
            group["bias:0"] = h5py.ExternalLink("/etc/passwd", "/x")
        elif kind == "soft-link":
            group["bias:0"] = h5py.SoftLink("/model_weights/d/d/kernel:0")
        elif kind == "external-storage":
            group.create_dataset("bias:0", (3,), "<f4", external=[("/etc/passwd", 0, 12)])
        elif kind == "virtual":
            layout = h5py.VirtualLayout((3,), "<f4")
            layout[:] = h5py.VirtualSource("/etc/passwd", "x", (3,))
            group.create_virtual_dataset("bias:0", layout)
        elif kind == "filter":
            group.create_dataset("bias:0", data=BIAS, compression="lzf")
        elif kind == "bomb":
            group.create_dataset("bias:0", (1 << 30,), "<f4", chunks=(1 << 20,), compression="gzip")
    return path


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        pytest.param("external-link", UnsafeFile, id="external-link"),
        pytest.param("soft-link", UnsafeFile, id="soft-link"),
        pytest.param("external-storage", UnsafeFile, id="external-storage"),
        pytest.param("virtual", UnsafeFile, id="virtual-dataset"),
        pytest.param("filter", UnsafeFile, id="filter-plug-in"),
        pytest.param("bomb", LimitExceeded, id="declared-4-gb"),
    ],
)
def test_hostile_hdf5(tmp_path: Path, kind: str, error: type[NetferryError]) -> None:
    with pytest.raises(error):
        read(hostile_h5(tmp_path, kind), ReadOptions())


def test_groups_in_a_circle(tmp_path: Path) -> None:
    path = tmp_path / "w.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("layers")
        group["a"], group["b"] = group, group
    (tmp_path / "m.json").write_text(json.dumps(architecture()))
    with pytest.raises(LimitExceeded):
        read(tmp_path / "m.json", ReadOptions(weights=path, limits=Limits(layers=1000)))


def hostile_zip(tmp_path: Path, kind: str) -> Path:
    path = tmp_path / "m.keras"
    config = json.dumps(architecture())
    if kind == "npz":
        return write_keras(path, member="model.weights.npz")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2 if kind == "bzip2" else zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", config if kind != "bomb" else b" " * (20 << 20))
        if kind == "twice":
            archive._didModify = True
            archive.writestr("Config.json", config)
        for i in range(10_001 if kind == "many" else 0):
            archive.writestr(f"assets/{i}", b"")
    if kind == "twice":
        path.write_bytes(path.read_bytes().replace(b"Config.json", b"config.json"))
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:-30])
    return path


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        pytest.param("npz", UnsafeFile, id="pickled-weights"),
        pytest.param("bzip2", UnsafeFile, id="other-compression"),
        pytest.param("bomb", LimitExceeded, id="packed-too-well"),
        pytest.param("twice", MalformedFile, id="member-twice"),
        pytest.param("many", LimitExceeded, id="10001-members"),
        pytest.param("cut", MalformedFile, id="cut-short"),
    ],
)
def test_hostile_zip(tmp_path: Path, kind: str, error: type[NetferryError]) -> None:
    with pytest.raises(error):
        read(hostile_zip(tmp_path, kind), ReadOptions())


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("[" * 5000, LimitExceeded, id="deep"),
        pytest.param('{"class_name": 1, "class_name": 2}', MalformedFile, id="key-twice"),
        pytest.param('{"class_name": "Sequential"} x', MalformedFile, id="text-after"),
        pytest.param('{"a": ' + "9" * 5000 + "}", LimitExceeded, id="digits"),
        pytest.param('{"class_name": "Sequential", "config": {"layers": [3]}}', MalformedFile, id="no-layer"),
        pytest.param('{"class_name": "Sequential", "config": {"layers": []}}', MalformedFile, id="no-layers"),
        pytest.param("{", MalformedFile, id="cut"),
        pytest.param("3", MalformedFile, id="number"),
    ],
)
def test_hostile_json(tmp_path: Path, text: str, error: type[NetferryError]) -> None:
    path = tmp_path / "m.json"
    path.write_text(text)
    with pytest.raises(error):
        read(path, ReadOptions())


def test_text_limit(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text(json.dumps(architecture()))
    size = path.stat().st_size
    read(path, ReadOptions(limits=Limits(text_bytes=size)))
    with pytest.raises(LimitExceeded):
        read(path, ReadOptions(limits=Limits(text_bytes=size - 1)))


@pytest.mark.parametrize("name", ["../m.weights.h5", "/etc/passwd", "a/b.h5", "..", "m\0.h5"])
def test_shards_stay_in_their_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "m.json").write_text(json.dumps(architecture()))
    (tmp_path / "w.json").write_text(json.dumps({"weight_map": {"/layers/dense/vars": name}}))
    with pytest.raises(UnsafeFile):
        read(tmp_path / "m.json", ReadOptions(weights=tmp_path / "w.json"))


def test_a_shard_that_is_a_link_out_is_refused(tmp_path: Path) -> None:
    """Its name is plain, but it leads to a file of another folder; one that is not there is said to be missing."""
    folder = tmp_path / "model"
    folder.mkdir()
    write_h5(tmp_path / "outside.h5", model=architecture())
    (folder / "m.json").write_text(json.dumps(architecture()))
    (folder / "w.json").write_text(json.dumps({"weight_map": {"/layers/dense/vars": "shard.h5"}}))
    with pytest.raises(InputError, match="no such shard"):
        read(folder / "m.json", ReadOptions(weights=folder / "w.json"))
    (folder / "shard.h5").symlink_to(tmp_path / "outside.h5")
    with pytest.raises(UnsafeFile, match="outside the folder"):
        read(folder / "m.json", ReadOptions(weights=folder / "w.json"))


@pytest.mark.parametrize("name", [None, 7, "", [None]])
def test_shards_have_names(tmp_path: Path, name: object) -> None:
    (tmp_path / "m.json").write_text(json.dumps(architecture()))
    (tmp_path / "w.json").write_text(json.dumps({"weight_map": {"/layers/dense/vars": name}}))
    with pytest.raises(MalformedFile, match="no file"):
        read(tmp_path / "m.json", ReadOptions(weights=tmp_path / "w.json"))


def test_every_truncation_is_an_error_of_ours(tmp_path: Path) -> None:
    for whole in (write_h5(tmp_path / "m.h5", model=architecture()), write_keras(tmp_path / "m.keras")):
        content = whole.read_bytes()
        for end in range(1, len(content) - 1, max(1, len(content) // 150)):
            whole.write_bytes(content[:end])
            try:
                model = read(whole, ReadOptions())
                in_memory(model)
            except FormatError:
                continue


def test_needs_neither_keras_nor_tensorflow(tmp_path: Path) -> None:
    path = write_h5(tmp_path / "m.h5", model=architecture())
    code = (
        "import sys\n"
        "for name in ('tensorflow', 'keras', 'tf_keras', 'torch', 'onnxruntime'): sys.modules[name] = None\n"
        "from pathlib import Path\n"
        "from netferry.converters.keras.read import read\n"
        "from netferry.converters.options import ReadOptions\n"
        f"print(read(Path({str(path)!r}), ReadOptions()))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    assert "from keras" in done.stdout


def test_a_damaged_small_weight_is_named_wherever_it_is_first_read(tmp_path: Path) -> None:
    """onnx_ir, which copies graphs for shape inference, wraps errors; ours come out as they are."""
    path = write_h5(tmp_path / "net.h5", model=architecture(), compression="gzip")
    content = bytearray(path.read_bytes())
    packed = zlib.compress(KERNEL.tobytes(), 4)
    at = content.index(packed[:8])
    content[at + 2 : at + 8] = b"\xff" * 6
    path.write_bytes(content)
    for verb in (netferry.inspect, lambda file: netferry.convert(file, tmp_path / "net.onnx")):
        with pytest.raises(MalformedFile, match="kernel:0"):
            verb(path)
    assert not (tmp_path / "net.onnx").exists()


def test_a_name_that_is_not_utf8_is_told_by_inspect_too(tmp_path: Path) -> None:
    path = write_h5(tmp_path / "net.h5", model=architecture(name="d\udcff"))
    with h5py.File(path, "r+") as file:
        file["model_weights"].attrs["layer_names"] = [b"d\xff"]
        file.move("model_weights/d", b"model_weights/d\xff")
    for verb in (netferry.inspect, lambda file: netferry.convert(file, tmp_path / "net.onnx")):
        with pytest.raises(NetferryError):
            verb(path)
    assert not (tmp_path / "net.onnx").exists()
