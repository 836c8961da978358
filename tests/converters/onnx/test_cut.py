"""The part of a network that computes asked-for layers, by layer, value or beginning of names, against the whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from netferry.converters.onnx.cut import cut, last_feature_layer
from netferry.errors import InputError, MalformedFile, UsageError

TEXT = """<ir_version: 10, opset_import: ["": 21]>
g (float[N,3,4,4] x, bool c) => (float[N,3,1,1] y) <float k = {2.0}> {
    a = Relu(x) b = Mul(a, k)
    d = If(c) <then_branch = t () => (float[N,3,4,4] p) { q = Neg(a) p = Mul(q, k) },
               else_branch = e () => (float[N,3,4,4] r) <float h = {3.0}> { r = Mul(b, h) }>
    y = GlobalAveragePool(d) }"""
NAMES = ["stage1/relu", "stage1/mul", "branch", "pool"]


def _stored(folder: Path, text: str = TEXT) -> Path:
    proto = onnx.parser.parse_model(text)
    for node, name in zip(proto.graph.node, NAMES, strict=False):
        node.name = name
    path = folder / "net.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


@pytest.mark.parametrize(
    ("asked", "value", "nodes"),
    [
        pytest.param("stage1/relu", "a", 1, id="layer"),
        pytest.param("b", "b", 2, id="value"),
        pytest.param("stage1", "b", 2, id="last-layer-of-a-stage"),
        pytest.param("branch", "d", 3, id="what-a-branch-reads-stays"),
        pytest.param("pool", "y", 4, id="everything"),
    ],
)
def test_a_part_computes_what_the_whole_does(asked: str, value: str, nodes: int, tmp_path: Path) -> None:
    path = _stored(tmp_path)
    part = cut(path, [asked])
    assert (part.nodes, part.of_nodes) == (nodes, 4)
    whole = onnx.load(path)
    del whole.graph.output[:]
    whole.graph.output.append(onnx.ValueInfoProto(name=value))
    feeds = {"x": np.random.default_rng(0).normal(size=(2, 3, 4, 4)).astype(np.float32), "c": np.array(False)}
    found = []
    for model in (part.model, whole.SerializeToString()):
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        found.append(session.run(None, {i.name: feeds[i.name] for i in session.get_inputs()})[0])
    np.testing.assert_array_equal(*found)


def test_names_that_are_none(tmp_path: Path) -> None:
    path = _stored(tmp_path)
    with pytest.raises(UsageError, match="no layer"):
        cut(path, ["stage1/rely"])
    with pytest.raises(InputError, match="no such file"):
        cut(tmp_path / "no.onnx", ["a"])
    with pytest.raises(InputError, match="not a regular file"):
        last_feature_layer(tmp_path)
    (tmp_path / "net.onnx").write_bytes(b"\x0a\xff\xff")
    with pytest.raises(MalformedFile):
        last_feature_layer(path)


def test_layers_that_read_no_input(tmp_path: Path) -> None:
    text = '<ir_version: 10, opset_import: ["": 21]> g (float[2] x) => (float[2] y) <float[2] k = {1.0,2.0}> '
    path = _stored(tmp_path, text + "{ a = Exp(k) y = Add(a, x) }")
    with pytest.raises(UsageError, match="read no input"):
        cut(path, ["a"])


def test_a_network_that_computes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    value = onnx.helper.make_tensor_value_info("x", 1, [1])
    graph = onnx.helper.make_graph([], "g", [value], [value])
    path.write_bytes(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)]).SerializeToString()
    )
    with pytest.raises(UsageError, match="computes nothing"):
        last_feature_layer(path)
