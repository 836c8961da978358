"""``netferry scan``: a verdict on files of every format, from their structure alone."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import onnx
import pytest
from onnx import TensorProto, helper

import netferry
from tests.attacks.test_audit import CONFIGS, NETS, sequential
from tests.netferry.test_cli import netferry as command_line

ROOT = Path(__file__).resolve().parents[2]
HEAD = 'input: "data" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8 '


def prototxt(body: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / "net.prototxt"
        path.write_text(f'{HEAD} layer {{ name: "l" bottom: "data" top: "out" {body} }}')
        return path

    return make


def keras(config: dict[str, Any], kind: str = "json") -> Callable[[Path], Path]:
    text = json.dumps(sequential(config))

    def make(folder: Path) -> Path:
        path = folder / f"net.{kind}"
        if kind == "h5":
            with h5py.File(path, "w") as file:
                file.attrs["model_config"] = text
        elif kind == "keras":
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("config.json", text)
                archive.writestr("metadata.json", '{"keras_version": "3.0.0"}')
        else:
            path.write_text(text)
        return path

    return make


def onnx_file(
    domain: str = "", op: str = "Relu", location: str | None = None, dims: tuple[int, ...] = (2,)
) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        node = helper.make_node(op, ["x"], ["y"], domain=domain)
        x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [2]) for n in "xy")
        graph = helper.make_graph([node], "g", [x], [y])
        if location is not None:
            tensor = graph.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=dims)
            tensor.data_location = TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value=location)
            (folder / "w.bin").write_bytes(bytes(8))
        opsets = [helper.make_opsetid("", 21), *([helper.make_opsetid(domain, 1)] if domain else [])]
        path = folder / "net.onnx"
        path.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())
        return path

    return make


def onnx_graph(*nodes: onnx.NodeProto) -> Callable[[Path], Path]:
    """An ONNX model of these nodes, the last of which makes y."""

    def make(folder: Path) -> Path:
        x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [2]) for n in "xy")
        graph = helper.make_graph(list(nodes), "g", [x], [y])
        (folder / "net.onnx").write_bytes(
            helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10).SerializeToString()
        )
        (folder / "w.bin").write_bytes(bytes(8))
        return folder / "net.onnx"

    return make


def lying_outside(location: str) -> TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return tensor


def branch(node: onnx.NodeProto, depth: int = 1) -> onnx.NodeProto:
    """The node inside branches, ``depth`` of them in each other."""
    for _ in range(depth):
        graph = helper.make_graph([node], "b", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])])
        node = helper.make_node("If", ["x"], ["y"], then_branch=graph, else_branch=graph if depth == 1 else None)
    return node


def stored(content: bytes, name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def torch_zip(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "net.pt", "w") as archive:
        archive.writestr("net/data.pkl", pickle.dumps({}))
    return folder / "net.pt"


def with_bytes(make: Callable[[Path], Path], old: bytes) -> Callable[[Path], Path]:
    """A file in which a text is no UTF-8: protobuf gives bytes for it."""

    def changed(folder: Path) -> Path:
        path = make(folder)
        content = path.read_bytes()
        assert old in content
        path.write_bytes(content.replace(old, b"\xff" * len(old)))
        return path

    return changed


CASES: dict[str, tuple[Callable[[Path], Path], str, str | None]] = {
    # name: (maker, verdict, kind of the first finding)
    "caffe-plain": (prototxt('type: "ReLU"'), "clean", None),
    "caffe-python": (prototxt(NETS["python-layer"]), "dangerous", "code"),
    "caffe-source-outside": (prototxt(NETS["data-source"]), "dangerous", "outside"),
    "caffe-source-parent": (prototxt('type: "Data" data_param { source: "../db" }'), "dangerous", "outside"),
    "caffe-source-windows": (prototxt('type: "Data" data_param { source: "C:\\\\db" }'), "dangerous", "outside"),
    "caffe-source-inside": (prototxt('type: "ReLU" data_param { source: "db" }'), "suspicious", "reference"),
    "caffe-unknown": (prototxt('type: "Warp"'), "suspicious", "unknown"),
    "caffe-size": (prototxt('type: "ReLU" relu_param { junk: 2147483647 }'), "suspicious", "size"),
    "caffe-damaged": (stored(b"layer {", "net.prototxt"), "dangerous", "damaged"),
    "caffe-deep": (stored(b"layer {" * 5000, "net.prototxt"), "dangerous", "damaged"),
    "keras-plain": (keras({"class_name": "Activation", "config": {"name": "a", "activation": "relu"}}), "clean", None),
    "keras-h5-lambda": (keras(CONFIGS["lambda-marshalled"], "h5"), "dangerous", "code"),
    "keras-zip-lambda": (keras(CONFIGS["lambda-keras-3"], "keras"), "dangerous", "code"),
    **{f"keras-{name}": (keras(config), "dangerous", "code") for name, config in CONFIGS.items()},
    "keras-unknown": (keras({"class_name": "Warp", "config": {"name": "w"}}), "suspicious", "unknown"),
    "keras-address": (
        keras({"class_name": "Flatten", "config": {"name": "f"}, "shared_object_id": 140336113776272}), "clean", None,
    ),
    "keras-size": (keras({"class_name": "Dense", "config": {"name": "d", "units": 2**31 - 1}}), "suspicious", "size"),
    "keras-vocabulary": (
        keras({"class_name": "StringLookup", "config": {"name": "s", "vocabulary": "/etc/passwd"}}), "dangerous", "outside",
    ),
    "onnx-plain": (onnx_file(), "clean", None),
    "onnx-microsoft": (onnx_file("com.microsoft", "Gelu"), "clean", "domain"),
    "onnx-unknown-domain": (onnx_file("my.ops", "Warp"), "suspicious", "domain"),
    "onnx-python": (onnx_file("ai.onnx.contrib", "PyOp"), "dangerous", "code"),
    "onnx-data-inside": (onnx_file(location="w.bin"), "clean", "external-data"),
    "onnx-data-outside": (onnx_file(location="../w.bin"), "dangerous", "outside"),
    "onnx-data-absolute": (onnx_file(location="/etc/passwd"), "dangerous", "outside"),
    "onnx-huge": (onnx_file(location="w.bin", dims=(2**31, 4)), "dangerous", "damaged"),
    "onnx-size-of-a-setting": (
        onnx_graph(helper.make_node("Conv", ["x", "x"], ["y"], pads=[0, 1 << 30])), "suspicious", "size",
    ),
    "onnx-size-beyond-all": (
        onnx_graph(helper.make_node("Conv", ["x", "x"], ["y"], pads=[0, 1 << 40])), "dangerous", "damaged",
    ),
    "onnx-unknown-operator": (onnx_graph(helper.make_node("Warp", ["x"], ["y"])), "suspicious", "unknown"),
    "onnx-gone-operator": (onnx_graph(helper.make_node("ScaledTanh", ["x"], ["y"])), "clean", None),
    "onnx-python-in-a-branch": (
        onnx_graph(branch(helper.make_node("PyOp", ["x"], ["y"]))), "dangerous", "code",
    ),
    "onnx-data-outside-in-a-constant": (
        onnx_graph(helper.make_node("Constant", [], ["y"], value=lying_outside("../w.bin"))), "dangerous", "outside",
    ),
    "onnx-data-inside-in-a-branch": (
        onnx_graph(branch(helper.make_node("Constant", [], ["y"], value=lying_outside("w.bin")))),
        "clean", "external-data",
    ),
    "onnx-operator-that-is-no-utf-8": (with_bytes(onnx_file(), b"Relu"), "dangerous", "damaged"),
    "onnx-domain-that-is-no-utf-8": (with_bytes(onnx_file("odd.one", "Warp"), b"odd.one"), "dangerous", "damaged"),
    "onnx-data-at-what-is-no-utf-8": (with_bytes(onnx_file(location="w.bin"), b"w.bin"), "dangerous", "damaged"),
    "onnx-damaged": (stored(b"\x08\x0a\xff\xff\xff", "net.onnx"), "dangerous", "damaged"),
    "pickle": (stored(pickle.dumps({}), "net.pkl"), "dangerous", "code"),
    "torch-zip": (torch_zip, "dangerous", "code"),
    "tensorflow-pyfunc": (stored(b"\x0a\x10\x0a\x01x\x12\x06PyFunc" + bytes(20), "graph.pb"), "dangerous", "code"),
    "noise": (stored(bytes(range(256)), "noise.xyz"), "suspicious", "unknown"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_verdicts(tmp_path: Path, name: str) -> None:
    make, verdict, kind = CASES[name]
    found = netferry.scan(make(tmp_path))
    assert found["verdict"] == verdict, found
    assert (found["findings"][0]["kind"] if found["findings"] else None) == kind, found


@pytest.mark.parametrize(
    ("name", "strict", "code"),
    [
        pytest.param("onnx-plain", True, 0, id="clean"),
        pytest.param("onnx-unknown-domain", False, 0, id="suspicious"),
        pytest.param("onnx-unknown-domain", True, 7, id="suspicious-strict"),
        pytest.param("keras-h5-lambda", False, 6, id="dangerous"),
    ],
)
def test_exit_codes_for_gatekeepers(tmp_path: Path, name: str, strict: bool, code: int) -> None:
    path = CASES[name][0](tmp_path)
    done = command_line("scan", path, "--json", *(["--strict"] if strict else []))
    assert done.returncode == code, done.stderr
    assert json.loads(done.stdout)["verdict"] == CASES[name][1]


def test_names_cannot_paint_the_terminal(tmp_path: Path) -> None:
    path = onnx_file("\x1b[31m", "Warp")(tmp_path)
    done = command_line("scan", path)
    assert "\x1b" not in done.stdout
    assert onnx.load(path).graph.node[0].domain == "\x1b[31m"
