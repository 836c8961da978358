"""``netferry verify`` on inputs of every type, and on files of before opset 7; differences were put there by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import netferry
from tests.netferry.test_cli import netferry as command

HEAD = '<ir_version: 10, opset_import: ["": 21, "ai.onnx.ml": 3]> g '


def saved(path: Path, text: str, head: str = HEAD) -> Path:
    onnx.save(onnx.parser.parse_model(head + text), path)
    return path


def _vectorizer(key: int, vocabulary: list[Any]) -> onnx.NodeProto:
    node = helper.make_node("DictVectorizer", ["x"], ["d"], domain="ai.onnx.ml")
    name = "string_vocabulary" if key == TensorProto.STRING else "int64_vocabulary"
    node.attribute.append(helper.make_attribute(name, vocabulary))
    return node


def with_map(path: Path, key: int, vocabulary: list[Any], factor: float) -> Path:
    """A map's values by a DictVectorizer's vocabulary, times a factor."""
    held = helper.make_map_type_proto(key, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    graph = helper.make_graph(
        [
            _vectorizer(key, vocabulary),
            helper.make_node("Mul", ["d", "f"], ["y"]),
        ],
        "g",
        [helper.make_value_info("x", held)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, len(vocabulary)])],
        [helper.make_tensor("f", TensorProto.FLOAT, [], [factor])],
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 1)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8), path)
    return path


RIGHT_AND_WRONG = {  # by the factor 2 and 3; who runs it
    "sequence": ("(seq(float[N,3]) x) => (float[M,3] y) <float f = {%s}> "
                 "{ c = ConcatFromSequence<axis=0>(x) y = Mul(c, f) }", "onnxruntime"),
    "optional": ("(optional(float[N,3]) x) => (float[] y) <float f = {%s}> "
                 "{ h = OptionalHasElement(x) c = Cast<to=1>(h) y = Mul(c, f) }", "onnxruntime"),
    "optional-sequence": ("(optional(seq(float[N,3])) x) => (float[] y) <float f = {%s}> "
                          "{ s = OptionalGetElement(x) i = Constant<value_int=1>() a = SequenceAt(s, i) "
                          "r = ReduceSum<keepdims=0>(a) y = Mul(r, f) }", "onnxruntime"),
    "bfloat16": ("(bfloat16[N,3] x) => (float[N,3] y) <float f = {%s}> { c = Cast<to=1>(x) y = Mul(c, f) }",
                 "onnx.reference"),
    "bfloat16-out": ("(float[N,3] x) => (bfloat16[N,3] y) <float f = {%s}> { c = Mul(x, f) y = Cast<to=16>(c) }",
                     "onnx.reference"),
    "float8": ("(float8e4m3fn[N,3] x) => (float[N,3] y) <float f = {%s}> { c = Cast<to=1>(x) y = Mul(c, f) }",
               "onnx.reference"),
    "int4": ("(int4[N,3] x) => (float[N,3] y) <float f = {%s}> { c = Cast<to=1>(x) y = Mul(c, f) }",
             "onnx.reference"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "runner"), RIGHT_AND_WRONG.values(), ids=RIGHT_AND_WRONG)
def test_values_of_every_type(text: str, runner: str, tmp_path: Path) -> None:
    a, b = (saved(tmp_path / f"{n}.onnx", text % n) for n in ("2.0", "3.0"))
    same, other = netferry.verify(a, a, bisect=True), netferry.verify(a, b)
    assert same["agrees"]
    assert same["source"]["run_by"].startswith(runner)
    assert same["bisect"]["layer"] is None
    assert same["bisect"]["compared"] >= 1
    assert not other["agrees"]
    assert other["worst"][0]["max_rel"] == pytest.approx(0.5, rel=0.01)


@pytest.mark.parametrize(
    ("key", "vocabulary"),
    [
        pytest.param(TensorProto.STRING, ["cat", "dog"], id="strings"),
        pytest.param(TensorProto.INT64, [7, 9], id="ints"),
    ],
)
def test_maps_get_keys_that_the_model_knows(key: int, vocabulary: list[Any], tmp_path: Path) -> None:
    a, b = (with_map(tmp_path / f"{n}.onnx", key, vocabulary, n) for n in (2.0, 3.0))
    result = netferry.verify(a, a)
    assert result["agrees"]
    assert set(result["cases"][0]["inputs"]["x"]) == {str(v) for v in vocabulary}
    assert netferry.verify(a, b)["worst"][0]["max_rel"] == pytest.approx(0.5)


def test_optionals_are_there_and_left_out(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.onnx", RIGHT_AND_WRONG["optional"][0] % "2.0")
    result = netferry.verify(path, path, seeds=2)
    assert {repr(case["inputs"]["x"]) for case in result["cases"]} == {"[1, 3]", "[3, 3]", "None"}
    shown = command("verify", path, path)
    assert shown.returncode == 0, shown.stderr


OLD = '<ir_version: 3, opset_import: ["": %d]> g (float[N,3,4,4] x) => (float[N,3,4,4] y) <float[3] b = {%s}>'
OLD += "{ [shift] a = Add<broadcast=1, axis=1>(x, b) [rectify] y = Relu(a) }"


@pytest.mark.parametrize("opset", [1, 5, 6])
def test_sources_of_before_opset_7(opset: int, tmp_path: Path) -> None:
    old = saved(tmp_path / "old.onnx", OLD % (opset, "1.0, -2.0, 3.0"), "")
    bad = saved(tmp_path / "bad.onnx", OLD % (opset, "1.0, -2.0, 4.0"), "")
    netferry.convert(old, tmp_path / "new.onnx")
    result = netferry.verify(old, tmp_path / "new.onnx", bisect=True)
    assert result["agrees"]
    assert "raised from opset" in result["source"]["run_by"]
    assert result["bisect"]["compared"] == 2
    found = netferry.verify(bad, tmp_path / "new.onnx", bisect=True)
    assert not found["agrees"]
    assert found["bisect"]["layer"] == "shift"
    assert netferry.verify(old, old)["agrees"]
    # by hand: the vector lies along the channels
    case = result["cases"][0]
    assert case["outputs"][0]["shape"] == [1, 3, 4, 4]


def test_convert_verifies_an_old_source(tmp_path: Path) -> None:
    old = saved(tmp_path / "old.onnx", OLD % (1, "1.0, -2.0, 3.0"), "")
    report = netferry.convert(old, tmp_path / "new.onnx", verify=True)
    assert report["checks"][-1]["name"] == "verify"
    x = np.zeros((1, 3, 4, 4), np.float32)
    from netferry.runtime.session import Session

    got = Session(tmp_path / "new.onnx", "cpu").run({"x": x})["y"]
    assert [got[0, c].max() for c in range(3)] == [1.0, 0.0, 3.0]
