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


def _changed(old: str, new: str) -> Proto:
    assert old in NET
    return net(NET.replace(old, new))


def test_an_operator_under_the_same_name(tmp_path: Path) -> None:
    other = _changed("Relu(c)", "Sigmoid(c)")
    other.graph.node[1].name = "Relu_1"
    found = compared(tmp_path, net(), other)
    assert {"what": "type", "a": "Relu", "b": "Sigmoid"} in found["layers"][0]["changes"]


def test_an_element_type_inside(tmp_path: Path) -> None:
    cast = "r = Relu(c) r2 = Cast<to={}>(r) r3 = Cast<to=1>(r2)"
    a, b = (_changed("r = Relu(c)", cast.format(kind)) for kind in (10, 11))
    for proto in (a, b):
        proto.graph.node[4].input[0] = "r3"
    found = compared(tmp_path, a, b)
    changes = [c for node in found["nodes"] for c in node["changes"]]
    assert {"what": "output type", "name": "0", "a": "FLOAT16", "b": "DOUBLE"} in changes


@pytest.mark.parametrize(("size", "shown"), [(2, "[1.0, 1.0]"), (100, "float [100] ")])
def test_a_tensor_among_the_settings(tmp_path: Path, size: int, shown: str) -> None:
    """Few values are shown, of many the type, the shape and a digest."""
    made = []
    for value in (1.0, 2.0):
        proto = net()
        held = onnx.numpy_helper.from_array(np.full(size, value, np.float32))
        proto.graph.node.append(onnx.helper.make_node("Constant", [], ["k2"], "held", value=held))
        proto.graph.node.append(onnx.helper.make_node("ReduceSum", ["k2"], ["z"], "summed"))
        proto.graph.output.append(onnx.helper.make_tensor_value_info("z", 1, [1]))
        made.append(proto)
    found = compared(tmp_path, *made)
    told = str(found["nodes"] or found["weights"])
    assert "held" in str(found)
    assert shown in told or "max_abs" in told


def test_weights_that_come_and_go_and_change_their_type(tmp_path: Path) -> None:
    a, b = net(), _changed("y = Gemm<transB=1>(f, w)", "g = Gemm<transB=1>(f, w) y = Mul(g, s)")
    b.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(5, np.float32), "s"))
    assert [w["name"] for w in compared(tmp_path, a, b)["weights"]] == ["s"]
    assert [w["change"] for w in compared(tmp_path, a, b)["weights"]] == ["added"]
    assert [w["change"] for w in compared(tmp_path, b, a)["weights"]] == ["removed"]


def test_words_among_the_weights(tmp_path: Path) -> None:
    text = """g (int64[N] i) => (string[N] y) <string[3] w = {{"a", "b", "{last}"}}> {{ y = Gather(w, i) }}"""
    a, b = (onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 21]> {text.format(last=x)}') for x in "cd")
    assert compared(tmp_path, a, a)["same"]
    assert [w["differing"] for w in compared(tmp_path, a, b)["weights"]] == [1]


def test_an_output_that_another_node_makes(tmp_path: Path) -> None:
    text = "g (float[N,3] x) => (float[N,3] y) {{ {body} }}"
    header = '<ir_version: 10, opset_import: ["": 21]> '
    bodies = ("y = Relu(x) z = Sigmoid(y)", "z = Relu(x) y = Sigmoid(z)")
    a, b = (onnx.parser.parse_model(header + text.format(body=body)) for body in bodies)
    for proto in (a, b):
        for node in proto.graph.node:
            node.name = node.op_type
    assert not compared(tmp_path, a, b)["same"]


def test_preprocessing_and_many_labels() -> None:
    """What stands before the network and after it are facts of it, too."""
    from netferry.schemas.difference import difference
    from netferry.schemas.preprocessing import Preprocessing

    models = []
    for mean, last in ((1.0, "z"), (2.0, "y")):
        model = api.load(FIXTURES / "digits.prototxt", FIXTURES / "digits.caffemodel")
        model.preprocessing["data"] = Preprocessing(mean=(mean,))
        model.labels[model.outputs[0].name] = [*(str(i) for i in range(99)), last]
        models.append(model)
    found = difference(*models)
    assert [m["name"] for m in found.metadata] == [f"labels of {model.outputs[0].name}", "preprocessing of data: mean"]


def test_weights_of_no_elements(tmp_path: Path) -> None:
    """Equal weights are looked for; two without elements are no pair."""
    proto = net()
    for name in ("e", "f2"):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros((0, 4), np.float32), name))
        proto.graph.node.append(onnx.helper.make_node("Gemm", ["f", name], [f"{name}_y"], name, transB=1))
        proto.graph.output.append(onnx.helper.make_tensor_value_info(f"{name}_y", 1, ["N", 0]))
    onnx.save(proto, tmp_path / "a.onnx")
    assert api.inspect(tmp_path / "a.onnx")
    assert compared(tmp_path, proto, proto)["same"]
