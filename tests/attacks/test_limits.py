"""Every documented limit at its edge: what is allowed passes, one more is an error that names the limit."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import netferry
from netferry.converters.options import Limits
from netferry.errors import LimitExceeded
from tests.attacks import unusual_caffe, unusual_darknet, unusual_keras, unusual_onnx
from tests.attacks.making import Make, net, stored
from tests.attacks.making import model as onnx_model


def keras_json(document: Any) -> Make:
    content = document if isinstance(document, str) else json.dumps(document)
    return stored("net.json", content.encode())


def darknet(folder: Path) -> list[Path]:
    return unusual_darknet.write("byte-order-mark", folder)[0]


def _own_functions(model: onnx.ModelProto) -> None:
    """Three nodes of the graph, one of which is a function of two."""
    body = [helper.make_node("Relu", ["a"], ["c"]), helper.make_node("Neg", ["c"], ["d"])]
    model.functions.append(helper.make_function("own", "f", ["a"], ["d"], body, [helper.make_opsetid("", 17)]))
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.graph.node[2].CopyFrom(helper.make_node("f", ["s"], ["y"], domain="own"))


def _axes(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((1,) * 5, np.float32), "five"))


def _packed(member: str) -> tuple[Make, int]:
    """An archive whose member unpacks to far more than it is stored in, and how many times more (rounded up)."""

    def make(folder: Path) -> list[Path]:
        path = unusual_keras.archive(folder / "net.keras", method=zipfile.ZIP_DEFLATED)
        with zipfile.ZipFile(path) as old:
            members = {m.filename: old.read(m) for m in old.infolist()}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
            for name, content in members.items():
                new.writestr(name, content + b" " * 20_000 if name == member else content)
        return [path]

    with TemporaryDirectory() as folder, zipfile.ZipFile(make(Path(folder))[0]) as archive:
        stored = archive.getinfo(member)
    return make, -(-stored.file_size // stored.compress_size)


def _deflated() -> tuple[Make, int]:
    """A .keras archive, and the size of its largest member."""

    def make(folder: Path) -> list[Path]:
        return [unusual_keras.archive(folder / "net.keras", method=zipfile.ZIP_DEFLATED)]

    with TemporaryDirectory() as folder, zipfile.ZipFile(make(Path(folder))[0]) as archive:
        return make, max(m.file_size for m in archive.infolist())


def sparse_hdf5(folder: Path) -> list[Path]:
    """A bias of which one chunk of four was written: 16 bytes are declared, 4 are stored."""
    path = unusual_keras.hdf5(folder / "net.h5")
    with h5py.File(path, "r+") as file:
        group = file["model_weights/d/d"]
        assert isinstance(group, h5py.Group)
        del group["bias:0"]
        group.create_dataset("bias:0", (4,), "f4", chunks=(1,))[0] = 1.0
    return [path]


NET = unusual_caffe.NET
PACKED, TIMES = _packed("config.json")
DEFLATED, LARGEST = _deflated()
NESTED = 'layer { name: "f" type: "ReLU" bottom: "y" top: "z" a { b { c { d: 1 } } } }\n'
DOCUMENT = unusual_keras.sequential(unusual_keras.dense(note=[[[[[[1]]]]]]))
CASES: dict[str, tuple[str, int, Make]] = {
    # name: (limit, the least value at which the file is read, maker)
    "caffe-nesting": ("nesting", 4, net(NET + NESTED)),
    "caffe-text": ("text_bytes", len(NET), net(NET)),
    "caffe-digits": ("digits", 7, net(NET.replace("num_output: 4", "num_output: 0000004"))),
    "caffe-name": ("name_bytes", len("inner_product_param"), net(NET)),
    "caffe-layers": ("layers", 3, net(NET)),
    "caffe-rank": ("rank", 2, net(NET)),
    "caffe-init": ("init_elements", 12, net(NET)),
    "keras-nesting": ("nesting", 3, keras_json(DOCUMENT)),
    "keras-text": ("text_bytes", len(json.dumps(DOCUMENT)), keras_json(DOCUMENT)),
    "keras-digits": ("digits", 6, keras_json(unusual_keras.sequential(unusual_keras.dense(note=123456)))),
    "keras-init": ("init_elements", 16, keras_json(unusual_keras.sequential())),
    "darknet-layers": ("layers", 2, darknet),
    "darknet-text": ("text_bytes", len(unusual_darknet.NET) + 3, darknet),
    "onnx-message": ("message_bytes", len(unusual_onnx.linear().SerializeToString()), onnx_model()),
    "onnx-rank": ("rank", 5, onnx_model(_axes)),
    "onnx-dim": ("dim", 4, onnx_model()),
    "onnx-nodes": ("nodes", 4, onnx_model(_own_functions)),
    "keras-zip-members": ("zip_members", 3, DEFLATED),
    "keras-zip-ratio": ("zip_ratio", TIMES, PACKED),
    "keras-zip-text": ("text_bytes", len(json.dumps(unusual_keras.sequential())), DEFLATED),
    "keras-hdf5-ratio": ("hdf5_ratio", 4, sparse_hdf5),
    "keras-zip-ratio-bytes": ("ratio_bytes", LARGEST, DEFLATED),
    "keras-hdf5-ratio-bytes": ("ratio_bytes", 16, sparse_hdf5),
}
OTHERS = {
    "keras-zip-ratio": {"ratio_bytes": 1000},
    "keras-hdf5-ratio": {"ratio_bytes": 1},
    "keras-zip-ratio-bytes": {"zip_ratio": 1},
    "keras-hdf5-ratio-bytes": {"hdf5_ratio": 3},
}
"""limits that must be low for the one under test to count"""


@pytest.mark.parametrize("name", CASES)
def test_both_sides_of_a_limit(tmp_path: Path, name: str) -> None:
    limit, least, make = CASES[name]
    source, *weights = make(tmp_path)
    others = OTHERS.get(name, {})
    for value in (least, least + 1):
        netferry.load(source, *weights, init=0, limits={limit: value, **others})
    with pytest.raises(LimitExceeded, match=rf"limit {limit}|{limit}={least - 1}"):
        netferry.load(source, *weights, init=0, limits={limit: least - 1, **others})


def _filled(m: onnx.ModelProto) -> None:
    """Values of 4 MiB on the way for each item."""
    m.graph.initializer.append(numpy_helper.from_array(np.array([1 << 18, 1, 4]), "dims"))
    m.graph.node[2].output[0] = "r"
    m.graph.node.append(helper.make_node("Expand", ["r", "dims"], ["big"]))
    m.graph.node.append(helper.make_node("ReduceMax", ["big"], ["y"], axes=[0], keepdims=0))


def _endless(m: onnx.ModelProto) -> None:
    info = unusual_onnx.info
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["v"], ["v2"])],
        "body",
        [info("i", [], onnx.TensorProto.INT64), info("go", [], onnx.TensorProto.BOOL), info("v", None)],
        [info("on", [], onnx.TensorProto.BOOL), info("v2", None)],
    )
    m.graph.initializer.append(numpy_helper.from_array(np.array(1 << 62), "times"))
    m.graph.node[2].output[0] = "r"
    m.graph.node.append(helper.make_node("Loop", ["times", "", "r"], ["y"], body=body))


RUNS = {"run_bytes": (_filled, 2 << 20, 64 << 20), "run_seconds": (_endless, 1, None)}
"""limit: (network, a value that does not do, one that does)"""


@pytest.mark.parametrize("limit", RUNS)
def test_a_run_that_takes_more_is_told_and_where_it_was_asked_for_refused(tmp_path: Path, limit: str) -> None:
    change, little, enough = RUNS[limit]
    (source,) = onnx_model(change)(tmp_path)
    done = netferry.convert(source, tmp_path / "out.onnx", limits={limit: little})
    (run,) = [c["detail"] for c in done["checks"] if c["name"] == "run"]
    assert run["runs"] == []
    assert f"limit {limit}={little}" in run["warnings"][0]
    stricter: list[dict[str, Any]] = [{"check": "run"}, {"optimize": "safe"}, {"precision": "fp16"}]
    for asked in stricter:
        with pytest.raises(LimitExceeded, match=f"limit {limit}={little}") as error:
            netferry.convert(source, tmp_path / "second.onnx", limits={limit: little}, **asked)
        assert error.value.file in (str(source), str(tmp_path / "second.onnx"))
    assert not (tmp_path / "second.onnx").exists()
    if enough is not None:
        netferry.convert(source, tmp_path / "second.onnx", limits={limit: enough}, check="run")


def test_every_limit_is_tested_documented_and_has_a_default() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "security.md").read_text("utf-8")
    for name, value in vars(Limits()).items():
        assert name in RUNS or any(limit == name for limit, _, _ in CASES.values()), name
        assert f"`{name}`" in text, name
        assert value > 0


def test_memory_that_does_not_suffice_is_a_typed_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What NumPy says where settings ask for a hundred gigabytes of zeros."""

    def beyond(*_: object) -> None:
        raise MemoryError("Unable to allocate 95.4 GiB")

    monkeypatch.setattr("netferry.converters.onnx.read._read", beyond)
    (tmp_path / "net.onnx").write_bytes(unusual_onnx.linear().SerializeToString())
    with pytest.raises(LimitExceeded, match="more memory than there is"):
        netferry.load(tmp_path / "net.onnx")
