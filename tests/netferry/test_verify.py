"""``netferry verify`` against the real frameworks: what agrees agrees, damage is found where it was done."""

from __future__ import annotations

import json
import os
import subprocess
import sys
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
from tests.shared import REPOSITORY

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
