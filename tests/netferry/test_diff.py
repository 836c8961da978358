"""``diff``: every kind of change is found, and nothing where there is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from netferry import api
from netferry.errors import UsageError
from tests.netferry.test_cli import netferry
from tests.shared import shared

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
NET = """g (float[N,3,8,8] x) => (float[N,5] y) {
    c = Conv<pads=[1,1,1,1]>(x, k, b) r = Relu(c) p = GlobalAveragePool(r) f = Flatten(p) y = Gemm<transB=1>(f, w) }"""
Proto = onnx.ModelProto


def net(text: str = NET, seed: int = 0) -> Proto:
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 21]> {text}')
    rng = np.random.default_rng(seed)
    for name, shape in (("k", (4, 3, 3, 3)), ("b", (4,)), ("w", (5, 4))):
        array = rng.normal(size=shape).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    for i, node in enumerate(proto.graph.node):
        node.name = f"{node.op_type}_{i}"
    return proto


def compared(folder: Path, a: Proto, b: Proto, **options: Any) -> dict[str, Any]:
    onnx.save(a, folder / "a.onnx")
    onnx.save(b, folder / "b.onnx")
    return api.diff(folder / "a.onnx", folder / "b.onnx", **options)


def kernel(proto: Proto, change: Callable[[np.ndarray], np.ndarray]) -> None:
    tensor = proto.graph.initializer[0]
    tensor.CopyFrom(onnx.numpy_helper.from_array(change(onnx.numpy_helper.to_array(tensor)), "k"))


def test_a_network_is_the_same_as_itself(tmp_path: Path) -> None:
    found = compared(tmp_path, net(), net())
    assert found["same"]
    assert found["weights_equal"] == 3
    assert not any(found[k] for k in ("ports", "layers", "nodes", "weights", "renamed", "metadata"))


def test_a_conversion_is_the_same_network_but_for_its_file(tmp_path: Path) -> None:
    api.convert(FIXTURES / "digits.prototxt", tmp_path / "d.onnx", FIXTURES / "digits.caffemodel")
    found = api.diff(FIXTURES / "digits.prototxt", tmp_path / "d.onnx", weights=FIXTURES / "digits.caffemodel")
    assert found["same"], found
    assert found["weights_equal"] == 8


def test_an_attribute(tmp_path: Path) -> None:
    other = net(NET.replace("pads=[1,1,1,1]", "pads=[1,1,1,1], dilations=[1,1]"))
    (node,) = compared(tmp_path, net(), other)["nodes"]
    assert node["change"] == "changed"
    assert node["name"] == "Conv_0"
    assert node["changes"] == [{"what": "attribute", "name": "dilations", "a": None, "b": [1, 1]}]


def test_how_far_weights_are_apart(tmp_path: Path) -> None:
    other = net()
    kernel(other, lambda k: k + np.where(np.arange(k.size).reshape(k.shape) == 7, 0.5, 0).astype(np.float32))
    found = compared(tmp_path, net(), other)
    (change,) = found["weights"]
    values = onnx.numpy_helper.to_array(net().graph.initializer[0]).astype(np.float64)
    assert change["name"] == "k"
    assert change["max_abs"] == pytest.approx(0.5, rel=1e-6)
    assert change["max_rel"] == pytest.approx(0.5 / np.abs(values).max(), rel=1e-6)
    assert change["rms_rel"] == pytest.approx(0.5 / np.linalg.norm(values), rel=1e-6)
    assert change["differing"] == 1
    assert not found["nodes"]
    assert compared(tmp_path, net(), other, tolerance=0.5)["same"]
    assert compared(tmp_path, net(), other, ignore=["weights"])["same"]


@pytest.mark.parametrize(
    ("value", "differing", "worst"),
    [pytest.param(np.nan, 1, None, id="nan"), pytest.param(np.inf, 1, None, id="infinite")],
)
def test_values_that_are_not_finite(tmp_path: Path, value: float, differing: int, worst: float | None) -> None:
    other = net()
    kernel(other, lambda k: np.where(np.arange(k.size).reshape(k.shape) == 7, np.float32(value), k))
    (change,) = compared(tmp_path, net(), other)["weights"]
    assert change["differing"] == differing
    assert change["max_abs"] is worst
    assert compared(tmp_path, other, other)["same"]


def test_types_and_shapes_of_weights(tmp_path: Path) -> None:
    other = net(NET.replace("w) }", "w) }"))
    other.graph.initializer[2].CopyFrom(onnx.numpy_helper.from_array(np.ones((6, 4), np.float32), "w"))
    other.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 6
    found = compared(tmp_path, net(), other)
    assert found["weights"] == [{"change": "changed", "name": "w", "shape": [[5, 4], [6, 4]]}]
    assert [(p["kind"], p["name"], p["a"]["shape"], p["b"]["shape"]) for p in found["ports"]] == [
        ("output", "y", ["N", 5], ["N", 6])
    ]
    assert [layer["changes"] for layer in found["layers"]] == [[{"what": "learnable_count", "a": 20, "b": 24}]]


def test_a_layer_more(tmp_path: Path) -> None:
    other = net(NET.replace("p = GlobalAveragePool(r)", "m = Sigmoid(r) p = GlobalAveragePool(m)"))
    for node in other.graph.node:  # an exporter that does not number its nodes anew
        node.name = node.op_type
    mine = net()
    for node in mine.graph.node:
        node.name = node.op_type
    found = compared(tmp_path, mine, other)
    assert [(n["change"], n["operator"]) for n in found["nodes"]] == [
        ("changed", "GlobalAveragePool"),
        ("added", "Sigmoid"),
    ]
    assert found["nodes"][0]["changes"] == [{"what": "input", "name": "0", "a": "r", "b": "m"}]
    assert {(row["change"], row["name"]) for row in found["layers"]} == {
        ("changed", "GlobalAveragePool"), ("added", "Sigmoid"),
    }  # fmt: skip
    back = compared(tmp_path, other, mine)
    assert ("removed", "Sigmoid") in {(n["change"], n["operator"]) for n in back["nodes"]}


def test_other_names_are_no_other_network(tmp_path: Path) -> None:
    other = net(NET.replace("c ", "cc ").replace("(c)", "(cc)").replace(" r ", " rr ").replace("(r)", "(rr)"))
    for node in other.graph.node:
        node.name = f"layer/{node.op_type}"
    other.graph.initializer[1].name = "bias"
    other.graph.node[0].input[2] = "bias"
    found = compared(tmp_path, net(), other)
    assert not found["nodes"]
    assert not found["layers"]
    assert not found["weights"]
    assert found["weights_equal"] == 3
    assert {r["kind"] for r in found["renamed"]} == {"layer", "node", "weight"}
    assert not found["same"]
    assert compared(tmp_path, net(), other, ignore=["names"])["same"]


def test_swapped_inputs(tmp_path: Path) -> None:
    text = "g (float[N,3,8,8] x, float[N,3,8,8] z) => (y) { y = Sub(x, z) u = Conv(x, k, b) v = Gemm(w, w) }"
    found = compared(tmp_path, net(text), net(text.replace("Sub(x, z)", "Sub(z, x)")))
    assert [c["name"] for c in found["nodes"][0]["changes"]] == ["0", "1"]


def test_inside_a_branch(tmp_path: Path) -> None:
    text = """g (bool c, float[2] x) => (float[2] y) { y = If(c) <
        then_branch = a () => (float[2] p) { p = LeakyRelu<alpha=0.1>(x) },
        else_branch = e () => (float[2] q) <float[2] v = {1,2}> { q = Add(x, v) }> }"""
    mine, other = (onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 21]> {text}') for _ in range(2))
    branch = other.graph.node[0].attribute[0].g
    branch.node[0].attribute[0].f = 0.25
    held = other.graph.node[0].attribute[1].g.initializer[0]
    held.CopyFrom(onnx.numpy_helper.from_array(np.array([1, 5], np.float32), "v"))
    found = compared(tmp_path, mine, other)
    (node,) = found["nodes"]
    assert node["operator"] == "LeakyRelu"
    assert "then_branch" in node["name"]
    assert node["changes"][0]["b"] == pytest.approx(0.25)
    assert [(w["name"], w["max_abs"]) for w in found["weights"]] == [("v", 3.0)]


def test_metadata(tmp_path: Path) -> None:
    other = net()
    other.ir_version = 9
    other.metadata_props.add(key="author", value="me")
    found = compared(tmp_path, net(), other)
    assert {m["name"] for m in found["metadata"]} == {"IR version", "metadata author"}
    assert compared(tmp_path, net(), other, ignore=["metadata"])["same"]
    with pytest.raises(UsageError):
        compared(tmp_path, net(), other, ignore=["everything"])


def test_exit_codes_and_text(tmp_path: Path) -> None:
    other = net()
    kernel(other, lambda k: k * 2)
    other.graph.node[1].name = "\x1b[31m"
    onnx.save(net(), tmp_path / "a.onnx")
    onnx.save(other, tmp_path / "b.onnx")
    same = netferry("diff", tmp_path / "a.onnx", tmp_path / "a.onnx")
    assert (same.returncode, same.stdout.splitlines()[-1]) == (0, "same")
    differs = netferry("diff", tmp_path / "a.onnx", tmp_path / "b.onnx")
    assert differs.returncode == 9
    assert "~ k" in differs.stdout
    assert "relative 1.00e+00" in differs.stdout
    assert differs.stdout.splitlines()[-1] == "different"
    assert "\x1b" not in differs.stdout
    assert netferry("diff", tmp_path / "a.onnx", tmp_path / "none.onnx").returncode == 3


def test_real_nets_that_share_a_trunk() -> None:
    found = api.diff(
        shared("data", "ultraface", "RFB-320.onnx"), shared("data", "ultraface", "RFB-320_postprocessing.onnx")
    )
    assert {row["name"] for row in found["layers"] if row["change"] == "changed"} == {"boxes"}
    assert not [row for row in found["layers"] if row["change"] == "removed"]
    assert not [w for w in found["weights"] if w["change"] != "added"]
