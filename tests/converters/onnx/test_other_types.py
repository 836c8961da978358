"""Maps, sequences, optionals and sparse tensors, of which onnx_ir knows little, through the verbs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import onnxruntime as ort
import pytest
from onnx import parser

import netferry
from netferry import api
from netferry.schemas.copying import copied

LABELS = """<ir_version: 8, opset_import: ["": 15, "ai.onnx.ml": 3]>
    g (float[N,3] x) => (int64[N] label, seq(map(int64,float)) scores) {
        [scores] s = Softmax(x)  [best] label = ArgMax<axis=1,keepdims=0>(s)
        [zip] scores = ai.onnx.ml.ZipMap<classlabels_int64s=[3,5,8]>(s) }"""
MAP_IN = """<ir_version: 8, opset_import: ["": 15, "ai.onnx.ml": 3]>
    g (map(int64,float) m, string[N] t) => (float[K,L] y, int64[N] c) {
        y = ai.onnx.ml.CastMap<cast_to="TO_FLOAT",map_form="SPARSE",max_map=4>(m)
        c = ai.onnx.ml.LabelEncoder<keys_strings=["a","b"],values_int64s=[1,2]>(t) }"""
SEQUENCE = """<ir_version: 10, opset_import: ["": 21]>
    g (float[N,4] x, seq(float[A,B]) s, optional(float[C]) o) => (seq(float[A,B]) t, bool b) {
        r = Relu(x)  t = SequenceInsert(s, r)  b = OptionalHasElement(o) }"""


def saved(text: str, path: Path) -> Path:
    onnx.save(parser.parse_model(text), path)
    return path


def types(path: Path) -> dict[str, bytes]:
    graph = onnx.load(path).graph
    return {v.name: v.type.SerializeToString() for v in (*graph.input, *graph.output)}


@pytest.mark.parametrize("text", [LABELS, MAP_IN, SEQUENCE], ids=["map-out", "map-in", "sequence-and-optional"])
def test_types_survive_and_a_second_pass_changes_nothing(text: str, tmp_path: Path) -> None:
    source = saved(text, tmp_path / "a.onnx")
    netferry.convert(source, tmp_path / "b.onnx")
    netferry.convert(tmp_path / "b.onnx", tmp_path / "c.onnx")
    assert types(source) == types(tmp_path / "b.onnx")
    assert (tmp_path / "b.onnx").read_bytes() == (tmp_path / "c.onnx").read_bytes()
    assert api.diff(source, tmp_path / "b.onnx", ignore=["metadata"])["same"]
    ort.InferenceSession(tmp_path / "b.onnx", providers=["CPUExecutionProvider"])


def test_what_gives_maps_at_other_opsets_and_optimized(tmp_path: Path) -> None:
    source = saved(LABELS, tmp_path / "a.onnx")
    x = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    wanted: Any = ort.InferenceSession(source, providers=["CPUExecutionProvider"]).run(None, {"x": x})
    ways: list[dict[str, Any]] = [{"opset": 11}, {"opset": 21}, {"optimize": "full"}]
    for options in ways:
        target = tmp_path / "b.onnx"
        netferry.convert(source, target, **options)
        got: Any = ort.InferenceSession(target, providers=["CPUExecutionProvider"]).run(None, {"x": x})
        assert (got[0] == wanted[0]).all()
        for mine, its in zip(got[1], wanted[1], strict=True):
            assert mine == pytest.approx(its, rel=1e-5)
        assert netferry.verify(source, target, bisect=True)["agrees"]
    rows = api.inspect(source)
    assert [o["dtype"] for o in rows["outputs"]] == ["int64", "seq(map(int64,tensor(float)))"]
    api.inspect(source, html=tmp_path / "page.html")


def test_a_wrong_score_in_a_map_is_seen(tmp_path: Path) -> None:
    source = saved(LABELS, tmp_path / "a.onnx")
    bad = saved(LABELS.replace("s = Softmax(x)", "h = Mul(x, x)  s = Softmax(h)"), tmp_path / "b.onnx")
    assert not netferry.verify(source, bad)["agrees"]


def test_the_default_classifier_of_scikit_learn(tmp_path: Path) -> None:
    skl2onnx = pytest.importorskip("skl2onnx", reason="needs skl2onnx")
    linear = pytest.importorskip("sklearn.linear_model", reason="needs scikit-learn")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 4)).astype(np.float32), np.array(["a", "b", "c"])[rng.integers(0, 3, 40)]
    for options in ({}, {"zipmap": False}):  # without, skl2onnx imports one operator set twice
        model = linear.LogisticRegression().fit(x, y)
        proto = skl2onnx.to_onnx(model, x[:1], options={id(model): options} if options else None)
        (tmp_path / "a.onnx").write_bytes(proto.SerializeToString())
        netferry.convert(tmp_path / "a.onnx", tmp_path / "b.onnx")
        assert netferry.verify(tmp_path / "a.onnx", tmp_path / "b.onnx")["agrees"]


def test_two_versions_of_one_operator_set_are_refused(tmp_path: Path) -> None:
    proto = parser.parse_model(LABELS)
    proto.opset_import.append(onnx.helper.make_opsetid("", 16))
    onnx.save(proto, tmp_path / "a.onnx")
    with pytest.raises(netferry.errors.MalformedFile, match="there 2 times"):
        netferry.load(tmp_path / "a.onnx")


def sparse(path: Path) -> Path:
    proto = parser.parse_model(
        '<ir_version: 10, opset_import: ["": 17]> g (float[N,4] x) => (float[N,3] y) { a = MatMul(x, w)  y = Relu(a) }'
    )
    values = onnx.numpy_helper.from_array(np.array([1.0, 2.0, 3.0], np.float32), "w")
    places = onnx.numpy_helper.from_array(np.array([0, 5, 11]), "w_places")
    proto.graph.sparse_initializer.append(onnx.helper.make_sparse_tensor(values, places, [4, 3]))
    onnx.save(proto, path)
    return path


@pytest.mark.parametrize("options", [{"opset": 13}, {"opset": 21}, {"optimize": "full"}], ids=str)
def test_a_graph_with_a_sparse_initializer_can_be_changed(options: dict[str, Any], tmp_path: Path) -> None:
    source, target = sparse(tmp_path / "a.onnx"), tmp_path / "b.onnx"
    netferry.convert(source, target, **options)
    assert len(onnx.load(target).graph.sparse_initializer) == 1
    assert netferry.verify(source, target)["agrees"]


def test_a_copy_shares_no_value(tmp_path: Path) -> None:
    model = netferry.load(sparse(tmp_path / "a.onnx")).ir
    copy = copied(model)
    mine, its = ({v for n in m.graph for v in (*n.inputs, *n.outputs)} for m in (model, copy))
    assert not mine & its
