"""SavedModel, frozen graph and TFLite: told by content; through tf2onnx where TensorFlow is installed."""

from __future__ import annotations

import importlib.util
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import netferry
from netferry.converters.formats import detect
from netferry.converters.options import Limits, ReadOptions
from netferry.converters.tensorflow import export as exporter
from netferry.converters.tensorflow.files import files_of, graph_ends, kind_of
from netferry.errors import (
    InputError,
    LimitExceeded,
    MalformedFile,
    MissingExtra,
    NetferryError,
    UnsupportedError,
    UnsupportedLayer,
    UsageError,
)

HERE = all(importlib.util.find_spec(p) for p in ("tensorflow", "tf2onnx"))
needs_tensorflow = pytest.mark.skipif(not HERE, reason="needs tensorflow and tf2onnx in this interpreter")
MAKE = """
import os, sys
os.environ["KERAS_BACKEND"] = "tensorflow"
import numpy as np, keras, tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2 as freeze
keras.utils.set_random_seed(3)
x = keras.Input((8, 8, 3), name="img")
y = keras.layers.Conv2D(4, 3, strides=2, padding="same", activation="relu")(x)
m = keras.Model(x, keras.layers.Dense(5, activation="softmax")(keras.layers.Flatten()(y)))
for w in m.weights:
    w.assign(np.random.default_rng(1).uniform(-1, 1, w.shape))
m.export("saved", verbose=False)
spec = tf.TensorSpec((None, 8, 8, 3), tf.float32, name="img")
frozen = freeze(tf.function(m).get_concrete_function(spec)).graph.as_graph_def()
open("frozen.pb", "wb").write(frozen.SerializeToString())
open("net.tflite", "wb").write(tf.lite.TFLiteConverter.from_saved_model("saved").convert())
given = np.random.default_rng(2).random((3, 8, 8, 3), np.float32)
np.savez("judge.npz", given=given, wanted=m(given, training=False))
"""


def text(number: int, value: bytes) -> bytes:
    return bytes([number << 3 | 2, len(value)]) + value


def node(name: str, op: str, *inputs: str) -> bytes:
    return text(1, text(1, name.encode()) + text(2, op.encode()) + b"".join(text(3, i.encode()) for i in inputs))


GRAPH = (
    node("x", "Placeholder") + node("k", "Const") + node("a/mul", "Mul", "x", "k:0") + node("y", "Relu", "a/mul:0")
    + node("z", "Neg", "x", "^y") + node("done", "NoOp", "^z")
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        pytest.param("net.pb", GRAPH, "frozen graph", id="graph"),
        pytest.param("net.pb", b"\x0a\x80\x01\x0a\x01x\x12\x04Relu" + bytes(120), "frozen graph", id="long-node"),
        pytest.param("net.bin", b"\x1c\0\0\0TFL3" + bytes(20), "TFLite", id="tflite"),
        pytest.param("saved_model.pb", b"\x08\x01\x12\x05\x0a\x03\x0a\x01a", "SavedModel", id="saved-model"),
        pytest.param("net.onnx", b"\x08\x01\x12\x05maker", None, id="onnx"),
        pytest.param("net.caffemodel", text(1, b"LeNet") + text(2, b"xx"), None, id="caffe"),
        pytest.param("empty", b"", None, id="empty"),
    ],
)
def test_told_by_content(tmp_path: Path, name: str, content: bytes, kind: str | None) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert kind_of(content, path) == kind
    if kind is not None:
        assert detect(path).name == "tensorflow"


def test_a_saved_model_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(NetferryError, match="not a regular file"):
        detect(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"\x08\x01\x12\x00")
    assert detect(tmp_path).name == "tensorflow"


def test_ends_of_a_graph(tmp_path: Path) -> None:
    path = tmp_path / "net.pb"
    path.write_bytes(GRAPH)
    ends = graph_ends(path, Limits())
    assert (ends.inputs, ends.outputs) == (["x:0"], ["y:0", "z:0"])


def test_what_else_a_graph_holds_is_stepped_over(tmp_path: Path) -> None:
    """Numbers of every width beside the nodes, and in them."""
    wide = b"\x19" + bytes(8) + b"\x25" + bytes(4) + b"\x18\x80\x01"
    path = tmp_path / "net.pb"
    path.write_bytes(wide + text(1, text(1, b"k") + wide.replace(b"\x18", b"\x20") + text(2, b"Relu")) + GRAPH)
    ends = graph_ends(path, Limits())
    assert (ends.inputs, ends.outputs) == (["x:0"], ["y:0", "z:0"])


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    for call in (lambda p: graph_ends(p, Limits()), lambda p: exporter.export(p, ReadOptions(), tmp_path)):
        with pytest.raises(InputError, match="cannot be opened"):
            call(tmp_path / "no.pb")
    (tmp_path / "text.pb").write_text("text")
    with pytest.raises(UsageError, match="neither a SavedModel"):
        exporter.export(tmp_path / "text.pb", ReadOptions(), tmp_path)


def test_files_of_a_saved_model(tmp_path: Path) -> None:
    (tmp_path / "variables").mkdir()
    named = [tmp_path / "saved_model.pb", tmp_path / "variables" / "variables.index"]
    for file in named:
        file.write_bytes(b"x")
    assert files_of(tmp_path) == files_of(tmp_path / "saved_model.pb") == named


@pytest.fixture
def tflite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A TFLite model of an empty subgraph and an empty buffer, with tf2onnx as good as installed."""
    monkeypatch.setattr(exporter.util, "find_spec", lambda name: name)
    path = tmp_path / "net.tflite"
    slots = struct.pack("<7H2x", 14, 12, 0, 0, 4, 0, 8)  # where the root's subgraphs and buffers stand
    root = struct.pack("<iII", 16, 8, 16)
    lists = struct.pack("<IIi", 1, 4, 0) * 2
    path.write_bytes(struct.pack("<I", 24) + b"TFL3" + slots + root + lists)
    return path


def test_operators_that_tf2onnx_does_not_know_are_listed(tflite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The words are tf2onnx's own (1.17, tfonnx.py)."""
    said = "".join(f"Tensorflow op [{name}: {op}] is not supported\n" for name, op in (("a/b", "Foo"), ("c", "V2>Bar")))
    monkeypatch.setattr(exporter, "run", lambda *_: said + said)
    with pytest.raises(UnsupportedLayer) as caught:
        exporter.export(tflite, ReadOptions(), tflite.parent)
    assert [(name, op) for name, op, _ in caught.value.layers] == [("a/b", "Foo"), ("c", "V2>Bar")]


def test_a_child_that_does_not_end_is_ended(tflite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "SECONDS", 0.01)
    with pytest.raises(UnsupportedError, match=r"ended after 0\.01 seconds"):
        exporter.export(tflite, ReadOptions(), tflite.parent)


def test_a_package_that_is_missing_is_named(tflite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra) as error:
        exporter.export(tflite, ReadOptions(), tflite.parent)
    assert error.value.hint == "pip install 'netferry[tensorflow]'"


@pytest.mark.parametrize(
    ("content", "limits", "error"),
    [
        pytest.param(GRAPH[:-3], Limits(), MalformedFile, id="truncated"),
        pytest.param(GRAPH + b"\x0a" + b"\xff" * 9 + b"\x7f", Limits(), MalformedFile, id="length-of-exabytes"),
        pytest.param(GRAPH + b"\x10" + b"\xff" * 10 + b"\x01", Limits(), MalformedFile, id="long-number"),
        pytest.param(GRAPH + b"\x0a\x80", Limits(), MalformedFile, id="cut-in-a-number"),
        pytest.param(GRAPH + b"\x0b", Limits(), MalformedFile, id="a-group"),
        pytest.param(text(1, text(1, b"x")), Limits(), MalformedFile, id="node-without-operator"),
        pytest.param(node("x", "Placeholder"), Limits(), MalformedFile, id="no-output"),
        pytest.param(GRAPH, Limits(nodes=3), LimitExceeded, id="nodes"),
        pytest.param(node("x" * 20, "Relu"), Limits(name_bytes=10), LimitExceeded, id="long-name"),
    ],
)
def test_hostile_graphs(tmp_path: Path, content: bytes, limits: Limits, error: type[NetferryError]) -> None:
    path = tmp_path / "net.pb"
    path.write_bytes(content)
    with pytest.raises(error):
        graph_ends(path, limits)


def test_no_second_file(tmp_path: Path) -> None:
    path = tmp_path / "net.pb"
    path.write_bytes(GRAPH)
    with pytest.raises(UsageError):
        netferry.load(path, path)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tensorflow")
    subprocess.run([sys.executable, "-c", MAKE], cwd=folder, check=True, capture_output=True)
    return folder


@needs_tensorflow
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        pytest.param("saved", "SavedModel", id="saved-model"),
        pytest.param("frozen.pb", "frozen graph", id="frozen-graph"),
        pytest.param("net.tflite", "TFLite", id="tflite"),
    ],
)
def test_through_tf2onnx(made: Path, tmp_path: Path, name: str, kind: str) -> None:
    import onnxruntime

    target = tmp_path / "net.onnx"
    report = netferry.convert(made / name, target, verify=True)
    assert report["source"]["format"] == "tensorflow"
    assert "through tf2onnx" in report["source"]["version"]
    assert [c["name"] for c in report["checks"]] == ["structure", "run", "verify"]
    judge = np.load(made / "judge.npz")
    session = onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])
    got = np.asarray(session.run(None, {session.get_inputs()[0].name: judge["given"]})[0])
    assert np.abs(got - judge["wanted"]).max() <= 1e-5
    assert netferry.load(target).source.details["origin"]["format"] == "tensorflow", kind


@needs_tensorflow
@pytest.mark.slow
def test_what_tf2onnx_cannot_read_is_said(tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(b"\x1c\0\0\0TFL3" + bytes(20))
    with pytest.raises(NetferryError, match="tf2onnx gives no model"):
        netferry.load(path)
