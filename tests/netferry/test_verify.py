"""``netferry verify`` against the real frameworks: what agrees agrees, damage is found where it was done."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import pytest

import netferry
from netferry.api.verification import verifier_of
from netferry.errors import CheckFailed, MissingExtra, UnsafeFile, UnsupportedError, UsageError
from netferry.runtime.frameworks.child import Framework
from tests.converters.keras.oracle import Keras, tensorflow_python
from tests.shared import REPOSITORY, shared

DIGITS = (REPOSITORY / "fixtures" / "digits.prototxt", REPOSITORY / "fixtures" / "digits.caffemodel")
SEQUENCE = """
    <ir_version: 10, opset_import: ["": 21]> g (float[batch, sequence, 4] x) => (float[batch, sequence, 3] y)
    <float[4, 8] first = {FIRST}, float[8, 3] second = {SECOND}>
    { [one] a = MatMul(x, first)  [two] b = Tanh(a)  [three] c = MatMul(b, second)  [four] y = Softmax(c) }
"""


def sequence_model(path: Path) -> Path:
    rng = np.random.default_rng(4)
    texts = {n: ", ".join(f"{v:.6f}" for v in rng.uniform(-1, 1, k)) for n, k in (("FIRST", 32), ("SECOND", 24))}
    onnx.save(
        onnx.parser.parse_model(SEQUENCE.replace("FIRST", texts["FIRST"]).replace("SECOND", texts["SECOND"])), path
    )
    return path


def damaged(source: Path, target: Path, weight: str, factor: float = 1.5) -> Path:
    """Write ``source`` with one initializer scaled."""
    proto = onnx.load(source)
    found = next(t for t in proto.graph.initializer if t.name == weight)
    array = onnx.numpy_helper.to_array(found) * np.float32(factor)
    found.CopyFrom(onnx.numpy_helper.from_array(array, weight))
    onnx.save(proto, target)
    return target


def command(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHONPATH": str(REPOSITORY)} | environment
    words = [sys.executable, "-m", "netferry", *map(str, arguments)]
    return subprocess.run(words, cwd=REPOSITORY, env=env, capture_output=True, text=True, check=False)


def test_equal_files_agree_at_two_batches_and_two_lengths(tmp_path: Path) -> None:
    path = sequence_model(tmp_path / "a.onnx")
    result = netferry.verify(path, path, seeds=2, bisect=True)
    assert result["agrees"]
    shapes = {tuple(case["inputs"]["x"]) for case in result["cases"]}
    assert shapes == {(1, 5, 4), (1, 8, 4), (3, 5, 4), (3, 8, 4)}
    assert len(result["cases"]) == 8
    assert result["bisect"]["layer"] is None
    assert result["bisect"]["compared"] == 4


@pytest.mark.parametrize(
    ("weight", "layer", "before"),
    [pytest.param("first", "one", None, id="first"), pytest.param("second", "three", "two", id="in-the-middle")],
)
def test_bisect_names_the_damaged_layer(tmp_path: Path, weight: str, layer: str, before: str | None) -> None:
    path = sequence_model(tmp_path / "a.onnx")
    bad = damaged(path, tmp_path / "b.onnx", weight)
    result = netferry.verify(path, bad, bisect=True)
    found = result["bisect"]
    assert not result["agrees"]
    assert (found["layer"], found["last_agreeing"]) == (layer, before)
    assert found["max_rel"] == pytest.approx(0.5, rel=1e-4)


def test_the_tolerance_decides(tmp_path: Path) -> None:
    path = sequence_model(tmp_path / "a.onnx")
    bad = damaged(path, tmp_path / "b.onnx", "second", 1.001)
    worst = netferry.verify(path, bad)["worst"][0]
    assert not worst["agrees"]
    assert netferry.verify(path, bad, atol=worst["max_abs"] * 1.01)["agrees"]
    assert not netferry.verify(path, bad, atol=worst["max_abs"] * 0.99, rtol=0)["agrees"]
    assert netferry.verify(path, bad, atol=0, rtol=worst["max_rel"] * 1.01)["agrees"]


def test_other_names_are_paired_by_place(tmp_path: Path) -> None:
    path = sequence_model(tmp_path / "a.onnx")
    proto = onnx.load(path)
    text = onnx.printer.to_text(proto)
    other = tmp_path / "b.onnx"
    for old, new in (("(x, first)", "(input, first)"), ("4] x)", "4] input)"), ("3] y)", "3] output)")):
        text = text.replace(old, new)
    onnx.save(onnx.parser.parse_model(text.replace("y = Softmax", "output = Softmax")), other)
    result = netferry.verify(path, other)
    assert result["agrees"]
    assert result["worst"][0]["name"] == "output"


def test_dimensions_can_be_fixed(tmp_path: Path) -> None:
    path = sequence_model(tmp_path / "a.onnx")
    result = netferry.verify(path, path, seeds=1, sizes={"sequence": 9})
    assert {tuple(case["inputs"]["x"]) for case in result["cases"]} == {(1, 9, 4), (3, 9, 4)}


def test_a_baked_in_batch_fails(tmp_path: Path) -> None:
    source = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 21]> g (float[batch, 4] x) => (float[batch, 2, 2] y)'
        "<int64[3] s = {-1, 2, 2}> { y = Reshape(x, s) }"
    )
    good, bad = tmp_path / "a.onnx", tmp_path / "b.onnx"
    onnx.save(source, good)
    source.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.array([1, 2, 2]), "s"))
    onnx.save(source, bad)
    with pytest.raises(CheckFailed, match=r"the ONNX model does not.*\[3, 4\]"):
        netferry.verify(good, bad)


def test_indices_reach_the_whole_table(tmp_path: Path) -> None:
    table = ", ".join(str(float(i)) for i in range(50))
    text = (
        '<ir_version: 10, opset_import: ["": 21]> g (float[batch, sequence] x) => (float[batch, sequence, 1] y)'
        f"<float[50, 1] t = {{{table}}}> {{ [cast] i = Cast<to = 7>(x) [gather] y = Gather(t, i) }}"
    )
    path = tmp_path / "a.onnx"
    onnx.save(onnx.parser.parse_model(text), path)
    bad = tmp_path / "b.onnx"
    onnx.save(onnx.parser.parse_model(text.replace(" 30.0,", " 31.0,").replace(" 20.0,", " 21.0,")), bad)
    result = netferry.verify(path, bad, seeds=8, bisect=True)
    assert not result["agrees"]
    assert result["bisect"]["layer"] == "gather"


def test_the_reference_stands_in_where_onnxruntime_refuses(tmp_path: Path) -> None:
    path = sequence_model(tmp_path / "a.onnx")
    proto = onnx.load(path)
    proto.ir_version = onnx.IR_VERSION
    proto.opset_import[0].version = onnx.defs.onnx_opset_version()
    newer = tmp_path / "b.onnx"
    onnx.save(proto, newer)
    result = netferry.verify(newer, path, bisect=True)
    assert result["agrees"]
    assert result["source"]["run_by"].startswith(("onnx.reference", "onnxruntime"))
    assert result["bisect"]["compared"] == 4


def test_without_onnxruntime_the_reference_runs_both(tmp_path: Path) -> None:
    """In a process where onnxruntime cannot be imported."""
    path = sequence_model(tmp_path / "a.onnx")
    bad = damaged(path, tmp_path / "b.onnx", "second")
    large = tmp_path / "c.onnx"
    netferry.convert(path, large, external_data=True)
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "sitecustomize.py").write_text("import sys\nsys.modules['onnxruntime'] = None\n")
    environment = {"PYTHONPATH": f"{tmp_path / 'none'}{os.pathsep}{REPOSITORY}"}
    result = json.loads(command("verify", path, large, "--json", **environment).stdout)
    assert result["agrees"]
    assert {result[side]["run_by"].split()[0] for side in ("source", "candidate")} == {"onnx.reference"}
    assert {tuple(case["inputs"]["x"]) for case in result["cases"]} == {(1, 5, 4), (1, 8, 4), (3, 5, 4), (3, 8, 4)}
    shown = command("verify", path, bad, "--bisect", **environment)
    assert shown.returncode == 9
    assert "first diverging layer three (MatMul)" in shown.stdout
    done = command("convert", path, "-o", tmp_path / "d.onnx", "--opset", "17", "--verify", **environment)
    assert done.returncode == 0, done.stderr
    assert "verify check  onnx.reference" in done.stdout


def test_command_line(tmp_path: Path) -> None:
    path = sequence_model(tmp_path / "a.onnx")
    bad = damaged(path, tmp_path / "b.onnx", "second")
    good = command("verify", path, path, "--json")
    assert good.returncode == 0, good.stderr
    assert json.loads(good.stdout)["agrees"]
    shown = command("verify", path, bad, "--bisect")
    assert shown.returncode == 9
    assert "first diverging layer three (MatMul)" in shown.stdout
    plain = command("verify", path, bad, "--json", "--bisect")
    assert plain.returncode == 9
    assert json.loads(plain.stdout)["bisect"]["layer"] == "three"
    assert command("verify", path, path, "--dim", "sequence=x").returncode == 2


# Caffe, in OpenCV ----------------------------------------------------------------------------------------------


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    pytest.importorskip("cv2", reason="needs OpenCV 4")
    target = tmp_path / "digits.onnx"
    netferry.convert(DIGITS[0], target, DIGITS[1])
    return target


def test_caffe_agrees_with_opencv(digits: Path) -> None:
    result = netferry.verify(DIGITS[0], digits, DIGITS[1], bisect=True, rtol=1e-5)
    assert result["agrees"]
    assert result["source"]["run_by"].startswith("OpenCV 4")
    assert result["bisect"]["not_compared"] == 0
    assert {case["batch"] for case in result["cases"]} == {1, 3}
    assert netferry.verify(DIGITS[1], digits, DIGITS[0], seeds=1)["agrees"]  # either way round


def test_caffe_names_the_damaged_layer(digits: Path, tmp_path: Path) -> None:
    bad = damaged(digits, tmp_path / "bad.onnx", "conv2.weight")
    found = netferry.verify(DIGITS[0], bad, DIGITS[1], bisect=True)["bisect"]
    assert (found["layer"], found["type"], found["last_agreeing"]) == ("conv2", "Convolution", "pool1")


@pytest.mark.parametrize(
    ("folder", "prototxt", "caffemodel"),
    [
        pytest.param("lenet", "lenet.prototxt", "lenet_iter_10000.caffemodel", id="lenet"),
        pytest.param("squeezenet_v1.1", "deploy.prototxt", "squeezenet_v1.1.caffemodel", id="squeezenet"),
    ],
)
def test_real_caffe_nets(folder: str, prototxt: str, caffemodel: str, tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="needs OpenCV 4")
    files = shared("data", folder, prototxt), shared("data", folder, caffemodel)
    report = netferry.convert(files[0], tmp_path / "net.onnx", files[1], verify=True)
    check = report["checks"][-1]
    assert (check["name"], check["outcome"]) == ("verify", "passed")
    assert all(row["max_rel"] <= 1e-4 for row in check["detail"]["worst"])


# Darknet, in OpenCV --------------------------------------------------------------------------------------------

CFG = """[net]
width=16
height=12
channels=3
[convolutional]
batch_normalize=1
filters=6
size=3
stride=2
pad=1
activation=leaky
[convolutional]
filters=18
size=1
{}
"""
YOLO = "activation=linear\n[yolo]\nmask=0,1\nanchors=1,2, 3,1.5\nclasses=4\nnum=2\n"


def darknet_net(folder: Path, rest: str) -> tuple[Path, Path, Path]:
    """A small net with small variances, where the place of the epsilon shows; and its ONNX form."""
    cfg, weights, target = folder / "n.cfg", folder / "n.weights", folder / "n.onnx"
    cfg.write_text(CFG.format(rest))
    rng = np.random.default_rng(1)
    parts = [rng.normal(size=6), rng.uniform(0.5, 1.5, 6), rng.normal(size=6) * 0.1, rng.uniform(1e-4, 1e-2, 6)]
    parts += [rng.normal(size=162) * 0.02, rng.normal(size=18), rng.normal(size=108)]
    weights.write_bytes(struct.pack("<3iQ", 0, 2, 0, 1) + np.concatenate(parts).astype("<f4").tobytes())
    netferry.convert(cfg, target, weights)
    return cfg, weights, target


@pytest.mark.parametrize(
    "rest",
    [
        pytest.param("activation=relu", id="scores"),
        pytest.param("", id="the-default-activation"),
        pytest.param(YOLO, id="yolo"),
        pytest.param(YOLO + "scale_x_y=1.2\nthresh=0.7", id="yolo-stretched"),
        pytest.param(YOLO.replace("linear", "logistic") + "new_coords=1", id="yolo-new-coords"),
        pytest.param(YOLO.replace("yolo", "region").replace("mask=0,1", "softmax=1\ncoords=4"), id="region"),
    ],
)
def test_darknet_agrees_with_opencv(tmp_path: Path, rest: str) -> None:
    pytest.importorskip("cv2", reason="needs OpenCV 4")
    cfg, weights, target = darknet_net(tmp_path, rest)
    result = netferry.verify(cfg, target, weights, bisect=True, rtol=2e-6)
    assert result["agrees"]
    assert result["source"]["run_by"].startswith("OpenCV 4")
    assert {case["batch"] for case in result["cases"]} == {1, 3}
    assert (result["bisect"]["layer"], result["bisect"]["not_compared"]) == (None, 0)
    assert netferry.verify(weights, target, cfg, seeds=1)["agrees"]  # either way round


def test_darknet_names_the_damaged_layer(tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="needs OpenCV 4")
    cfg, weights, target = darknet_net(tmp_path, YOLO)
    bad = damaged(target, tmp_path / "bad.onnx", "layer_1.weights")
    found = netferry.verify(cfg, bad, weights, bisect=True)["bisect"]
    assert (found["layer"], found["type"], found["last_agreeing"]) == ("layer_1", "convolutional", "layer_0")


def test_darknet_settings_that_opencv_passes_over_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="needs OpenCV 4")
    cfg, weights, target = darknet_net(tmp_path, "activation=linear\n[softmax]\ntemperature=2")
    with pytest.raises(UnsupportedError, match=r"OpenCV does not read temperature=2 of layer_2"):
        netferry.verify(cfg, target, weights)
    cfg, weights, target = darknet_net(tmp_path, YOLO)
    boxes = tmp_path / "boxes.onnx"
    netferry.convert(cfg, boxes, weights, decode_boxes=True)
    with pytest.raises(UsageError, match="not boxes") as error:
        netferry.verify(cfg, boxes, weights)
    assert "--decode-boxes" in (error.value.hint or "")


def test_darknet_sections_that_opencv_does_not_know(tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="needs OpenCV 4")
    cfg, weights, target = tmp_path / "n.cfg", tmp_path / "n.weights", tmp_path / "n.onnx"
    cfg.write_text("[net]\nbatch=1\ninputs=3\n\n[rnn]\noutput=2\nhidden=2\n\n[softmax]\n")
    values = np.random.default_rng(0).normal(size=2 * (3 + 1) + 2 * (2 + 1) * 2)
    weights.write_bytes(struct.pack("<3iQ", 0, 2, 0, 1) + values.astype("<f4").tobytes())
    netferry.convert(cfg, target, weights)
    with pytest.raises(UnsupportedError, match=r"OpenCV reads no section \[rnn\]") as error:
        netferry.verify(cfg, target, weights)
    assert "convolutional" in (error.value.hint or "")


def test_darknet_without_opencv(tmp_path: Path) -> None:
    cfg, weights, target = darknet_net(tmp_path, YOLO)
    python = tmp_path / "python"
    python.write_text(
        "#!/bin/sh\nscript=$1; shift\n"
        f'exec {sys.executable} -c \'import runpy, sys; sys.modules["cv2"] = None; sys.argv = sys.argv[1:]; '
        'runpy.run_path(sys.argv[0], run_name="__main__")\' "$script" "$@"\n'
    )
    python.chmod(0o755)
    with pytest.raises(MissingExtra, match="opencv-python-headless") as error:
        netferry.verify(cfg, target, weights, python=str(python))
    assert "netferry[opencv]" in (error.value.hint or "")


@pytest.mark.slow
def test_real_darknet_net(tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="needs OpenCV 4")
    folder = shared("data", "yolo-fastest")
    cfg, weights = (folder / f"yolo-fastest-1.1.{end}" for end in ("cfg", "weights"))
    report = netferry.convert(cfg, tmp_path / "net.onnx", weights, verify=True)
    check = report["checks"][-1]
    assert (check["name"], check["outcome"]) == ("verify", "passed")
    assert all(row["max_rel"] <= 1e-5 for row in check["detail"]["worst"])


# convert --verify ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("large", [False, True], ids=["as-file", "as-structure"])
@pytest.mark.parametrize("external", [False, True], ids=["one-file", "two-files"])
def test_a_wrong_result_does_not_appear(
    tmp_path: Path, external: bool, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cv2", reason="needs OpenCV 4")
    if large:
        monkeypatch.setattr("netferry.converters.onnx.write._LARGE", 0)
    target = tmp_path / "out" / "net.onnx"
    report = netferry.convert(DIGITS[0], target, DIGITS[1], verify=True, external_data=external)
    assert report["checks"][-1]["name"] == "verify"
    before = target.read_bytes()
    model = netferry.load(*DIGITS)
    weight = model.graph.initializers["conv2.weight"]
    assert weight.const_value is not None
    from netferry.schemas.tensors import array_tensor

    weight.const_value = array_tensor(np.array(weight.const_value.numpy()) * np.float32(1.5), weight.name)
    verifier = verifier_of([*DIGITS], model, {}, [])
    with pytest.raises(CheckFailed, match="does not agree with its source") as error:
        netferry.save(model, target, before_publishing=verifier, external_data=external)
    assert error.value.layer == "conv2"
    assert "conv2" in (error.value.hint or "")
    assert target.read_bytes() == before
    assert not list(target.parent.glob(".netferry*"))


def test_convert_verifies_onnx(tmp_path: Path) -> None:
    path = sequence_model(tmp_path / "a.onnx")
    done = command(
        "convert", path, "-o", tmp_path / "b.onnx", "--opset", "17", "--verify", "--report", tmp_path / "r.json"
    )
    assert done.returncode == 0, done.stderr
    assert "verify check" in done.stdout
    checks = json.loads((tmp_path / "r.json").read_text())["checks"]
    assert [c["name"] for c in checks] == ["structure", "run", "verify"]


def test_verify_needs_a_run(tmp_path: Path) -> None:
    path = sequence_model(tmp_path / "a.onnx")
    with pytest.raises(UsageError):
        netferry.convert(path, tmp_path / "b.onnx", verify=True, check="structure")


# Keras, in Keras -----------------------------------------------------------------------------------------------

NESTED = """keras.Model(x, L.Dense(4, activation='softmax', name='scores')(L.Flatten(name='flat')(
    keras.Sequential([L.Conv2D(6, 3, padding='same', activation='relu', name='inner_conv'),
                      L.BatchNormalization(name='inner_norm')], name='block')(
        L.Conv2D(5, 3, strides=2, padding='same', name='conv')(x)))))"""
RECURRENT = "keras.Model(x, L.Dense(3, name='scores')(L.LSTM(5, return_sequences=True, name='lstm')(x)))"
EMBEDDED = "keras.Model(x, L.Dense(3, name='scores')(L.GRU(5, name='gru')(L.Embedding(40, 6, name='words')(x))))"


@pytest.fixture(params=[pytest.param(2, id="keras2"), pytest.param(3, id="keras3")], scope="module")
def keras(request: pytest.FixtureRequest) -> Iterator[Keras]:
    child = Keras(request.param)
    yield child
    child.close()


def keras_model(keras: Keras, folder: Path, model: str, shape: tuple[int | None, ...], dtype: str = "float32") -> str:
    facts = keras.make(
        model=model, shapes=[shape], dtypes=[dtype], folder=str(folder), seed=7, length=6, scale=1.0, low=0, high=8,
        zeros=False, nested=False,
    )  # fmt: skip
    return str(facts["weights"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["h5", "keras", "json"])
def test_keras_agrees_in_every_file(keras: Keras, tmp_path: Path, kind: str) -> None:
    weights = keras_model(keras, tmp_path, RECURRENT, (None, 4))
    files = [tmp_path / f"model.{kind}", *([tmp_path / weights] if kind == "json" else [])]
    target = tmp_path / "net.onnx"
    netferry.convert(files[0], target, *files[1:])
    result = netferry.verify(files[0], target, *files[1:], python=tensorflow_python(), bisect=True, rtol=1e-5)
    assert result["agrees"]
    assert result["source"]["run_by"].startswith("tf_keras 2" if keras.generation == 2 else "keras 3")
    assert {tuple(c["inputs"]["in0"]) for c in result["cases"]} == {(1, 5, 4), (1, 8, 4), (3, 5, 4), (3, 8, 4)}
    assert result["bisect"]["layer"] is None
    assert result["bisect"]["compared"] >= 2
    if kind == "keras":  # the same, unpacked
        with zipfile.ZipFile(files[0]) as archive:
            archive.extractall(tmp_path / "folder")
        assert netferry.verify(tmp_path / "folder", target, python=tensorflow_python(), rtol=1e-5)["agrees"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "shape", "dtype", "weight", "layer"),
    [
        pytest.param(NESTED, (9, 9, 3), "float32", "block/inner_conv.kernel", "block/inner_conv", id="nested"),
        pytest.param(NESTED, (9, 9, 3), "float32", "scores.kernel", "scores", id="after-flatten"),
        pytest.param(RECURRENT, (None, 4), "float32", "lstm.kernel", "lstm", id="lstm"),
        pytest.param(EMBEDDED, (None,), "int32", "words.embeddings", "words", id="embedding"),
    ],
)
def test_keras_names_the_damaged_layer(
    keras: Keras, tmp_path: Path, model: str, shape: tuple[int | None, ...], dtype: str, weight: str, layer: str
) -> None:
    keras_model(keras, tmp_path, model, shape, dtype)
    target = tmp_path / "net.onnx"
    netferry.convert(tmp_path / "model.h5", target)
    names = [t.name for t in onnx.load(target).graph.initializer]
    chosen = next((n for n in names if n == weight), None) or next(n for n in names if n.startswith(f"{layer}."))
    bad = damaged(target, tmp_path / "bad.onnx", chosen)
    python = tensorflow_python()
    found = netferry.verify(tmp_path / "model.h5", bad, python=python, seeds=1, bisect=True)
    assert not found["agrees"]
    assert found["bisect"]["layer"] == layer


# what is refused -----------------------------------------------------------------------------------------------


def layer_json(kind: str, config: dict[str, Any]) -> str:
    return json.dumps({"class_name": "Sequential", "config": {"layers": [{"class_name": kind, "config": config}]}})


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(layer_json("Lambda", {"name": "l", "function": ["4wEA", None, None]}), id="lambda"),
        pytest.param(
            layer_json("TimeDistributed", {"layer": {"class_name": "Lambda", "config": {"function_type": "lambda"}}}),
            id="wrapped-lambda",
        ),
        pytest.param(
            layer_json("Dense", {"activation": {"class_name": "__lambda__", "config": {"value": "4wEA"}}}),
            id="keras-3-lambda",
        ),
        pytest.param(layer_json("TFOpLambda", {"function": "io.write_file"}), id="writes-a-file"),
        pytest.param(layer_json("TensorFlowOpLayer", {"node_def": '{"op": "ReadFile"}'}), id="reads-a-file"),
        pytest.param('{"module": "os", "class_name": "system", "config": {}}', id="another-module"),
    ],
)
def test_code_in_a_file_is_not_run(tmp_path: Path, text: str) -> None:
    path = tmp_path / "model.json"
    path.write_text(text)
    with pytest.raises(UnsafeFile):
        Framework("keras", {"files": [str(path)], "generation": 3}).run([])


def test_a_framework_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text(layer_json("Dense", {"units": 3}))
    request = {"files": [str(path)], "generation": 3}
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)
    with pytest.raises(UnsupportedError, match="numpy"):  # the child says what it lacks
        Framework("keras", request, str(bare / "bin" / "python")).run([])
    with pytest.raises(MissingExtra):
        Framework("keras", request, str(tmp_path / "no-python")).run([])


def test_a_child_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text("{}")
    with pytest.raises(UnsupportedError, match=r"ended after 0\.01 seconds"):
        Framework("keras", {"files": [str(path)], "generation": 3}, seconds=0.01).run([])
