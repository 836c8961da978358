"""Layers of files that other programs wrote: graphs with the names that these programs give."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

import netferry
from netferry.schemas.model import Model
from netferry.schemas.ties import shared_parameters
from tests.converters.onnx.models import load, stored


def _layers(model: Model) -> dict[str, tuple[str, list[str]]]:
    return {r.name: (r.type, [n.op_type for n in r.nodes]) for r in model.layers if r.type != "Input"}


def _named(text: str, names: list[str], weights: dict[str, tuple[int, ...]], opset: int = 17) -> onnx.ModelProto:
    proto = parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]> net {text}')
    for node, name in zip(proto.graph.node, names, strict=True):
        node.name = name
    rng = np.random.default_rng(0)
    for name, shape in weights.items():
        proto.graph.initializer.append(numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name))
    return proto


BLOCK = """(float[N,3,8,8] x) => (float[N,M] y) {
    a = Conv(x, w)  b = BatchNormalization(a, s, t, m, v)  c = Relu(b)
    d = Shape(c)  k = Constant<value_int = 0>()  e = Gather(d, k)  f = Unsqueeze(e, zero)  g = Concat<axis = 0>(f, rest)
    y = Reshape(c, g) }"""
SHAPES: dict[str, tuple[int, ...]] = {"w": (4, 3, 1, 1), "s": (4,), "t": (4,), "m": (4,), "v": (4,)}


def _block(names: list[str], renamed: dict[str, str]) -> onnx.ModelProto:
    proto = _named(BLOCK, names, SHAPES)
    for array, name in ((np.array([0]), "zero"), (np.array([-1]), "rest")):
        proto.graph.initializer.append(numpy_helper.from_array(array.astype(np.int64), name))
    for old, new in renamed.items():
        for tensor in proto.graph.initializer:
            tensor.name = new if tensor.name == old else tensor.name
        for node in proto.graph.node:
            for i, name in enumerate(node.input):
                node.input[i] = new if name == old else name
    return proto


def test_torchscript_paths(tmp_path: Path) -> None:
    names = ["/layer1/layer1.0/conv1/Conv", "/layer1/layer1.0/bn1/BatchNormalization", "/layer1/layer1.0/relu/Relu",
             "/Shape", "/Constant", "/Gather", "/Unsqueeze", "/Concat", "/Reshape"]  # fmt: skip
    model = load(stored(tmp_path / "net.onnx", _block(names, {})))
    assert _layers(model) == {
        "layer1.0.conv1": ("Conv", ["Conv"]),
        "layer1.0.bn1": ("BatchNormalization", ["BatchNormalization"]),
        "layer1.0.relu": ("Relu", ["Relu"]),
        "Reshape": ("Reshape", ["Shape", "Constant", "Gather", "Unsqueeze", "Concat", "Reshape"]),
    }


def test_flat_names_of_older_torch_take_the_names_of_parameters(tmp_path: Path) -> None:
    names = [f"{node.op_type}_{i}" for i, node in enumerate(_block([""] * 9, {}).graph.node)]
    renamed = {"w": "features.0.weight", "s": "features.1.weight", "t": "features.1.bias",
               "m": "features.1.running_mean", "v": "features.1.running_var"}  # fmt: skip
    layers = _layers(load(stored(tmp_path / "net.onnx", _block(names, renamed))))
    assert list(layers) == ["features.0", "features.1", "Relu_2", "Reshape_8"]
    assert layers["Reshape_8"][1] == ["Shape", "Constant", "Gather", "Unsqueeze", "Concat", "Reshape"]


def test_own_names_stay(tmp_path: Path) -> None:
    """MATLAB and MXNet call nodes like their layers."""
    names = ["conv_1", "batchnorm_1", "relu_1", "s", "k", "g", "u", "c", "flatten"]
    layers = _layers(load(stored(tmp_path / "net.onnx", _block(names, {"w": "conv_1_W"}))))
    assert list(layers) == ["conv_1", "batchnorm_1", "relu_1", "flatten"]


def test_nameless_nodes_have_their_values_names(tmp_path: Path) -> None:
    layers = _layers(load(stored(tmp_path / "net.onnx", _block([""] * 9, {}))))
    assert list(layers) == ["a", "b", "c", "y"]


def test_paths_of_tensorflow(tmp_path: Path) -> None:
    top = "StatefulPartitionedCall/model"
    names = [f"{top}/conv1/Conv2D__6", f"{top}/bn1/FusedBatchNormV3", f"{top}/bn1/Relu", f"{top}/flat/Shape",
             "const__1", f"{top}/flat/Gather", f"{top}/flat/Unsqueeze__3", f"{top}/flat/stack",
             f"{top}/flat/Reshape"]  # fmt: skip
    layers = _layers(load(stored(tmp_path / "net.onnx", _block(names, {}))))
    assert layers["conv1"] == ("Conv", ["Conv"])
    assert layers["bn1"][1] == ["BatchNormalization", "Relu"]
    assert layers["flat"] == ("Reshape", ["Shape", "Constant", "Gather", "Unsqueeze", "Concat", "Reshape"])


def test_submodels_and_blocks_inside_a_layer_of_tensorflow(tmp_path: Path) -> None:
    text = """(float[N,4] x) => (float[N,4] y) {
        a = MatMul(x, w)  b = Relu(a)  c = MatMul(b, v)  d = Add(c, b)  e = MatMul(d, u)  y = Add(e, t) }"""
    names = ["model/inner/dense/MatMul", "model/inner/dense/Relu", "model/inner/dense_1/MatMul", "model/inner/add/add",
             "model/out/MatMul", "model/out/BiasAdd"]  # fmt: skip
    proto = _named(text, names, {"w": (4, 4), "v": (4, 4), "u": (4, 4), "t": (4,)})
    layers = _layers(load(stored(tmp_path / "net.onnx", proto)))
    assert list(layers) == ["inner/dense", "inner/dense_1", "inner/add", "out"]
    assert layers["out"] == ("MatMul", ["MatMul", "Add"])


def test_module_called_twice_is_two_layers(tmp_path: Path) -> None:
    text = "(float[N,4] x) => (float[N,4] y) { a = Relu(x)  b = MatMul(a, w)  y = Relu(b) }"
    proto = _named(text, ["n0", "n1", "n2"], {"w": (4, 4)})
    for node, module in zip(proto.graph.node, ("act", "fc", "act"), strict=True):
        node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=f"['', '{module}', 'f']")
        node.metadata_props.add(key="pkg.torch.onnx.class_hierarchy", value="['a.Net', 'torch.nn.ReLU', 'aten.f']")
    assert list(_layers(load(stored(tmp_path / "net.onnx", proto)))) == ["act", "fc", "act_1"]


def test_text_that_only_looks_like_a_list_is_not_evaluated(tmp_path: Path) -> None:
    proto = _named("(float[N,4] x) => (float[N,4] y) { y = Relu(x) }", ["n"], {})
    proto.graph.node[0].metadata_props.add(key="pkg.torch.onnx.name_scopes", value="[__import__('os').getpid()]" * 3)
    assert len(_layers(load(stored(tmp_path / "net.onnx", proto)))) == 1


def test_grouping_is_done_once(tmp_path: Path) -> None:
    source = stored(tmp_path / "a.onnx", _block(["/c/Conv", "/b/B", "/Relu", *(f"/f/{i}" for i in range(6))], {}))
    netferry.convert(source, tmp_path / "b.onnx", check="structure")
    netferry.convert(tmp_path / "b.onnx", tmp_path / "c.onnx", check="structure")
    assert (tmp_path / "b.onnx").read_bytes() == (tmp_path / "c.onnx").read_bytes()
    assert _layers(load(tmp_path / "b.onnx")) == _layers(load(source))


def _sharing(names: tuple[str, str, str], values: np.ndarray) -> onnx.ModelProto:
    text = f"""(float[N,4] x) => (float[N,4] y) {{
        v = Identity(w)  a = MatMul(x, w)  b = Relu(a)  c = MatMul(b, v)  y = Add(c, {names[2]}) }}"""
    proto = _named(text, ["i", "p", "r", "q", "s"], {"bias": (4,)})
    proto.graph.initializer.append(numpy_helper.from_array(values, "w"))
    for node in proto.graph.node:
        for field in (node.input, node.output):
            for i, name in enumerate(field):
                field[i] = {"w": names[0], "v": names[1]}.get(name, name)
    proto.graph.initializer[1].name = names[0]
    return proto


RANDOM = np.random.default_rng(1).standard_normal((4, 4)).astype(np.float32)


@pytest.mark.parametrize(
    ("names", "values", "tied"),
    [
        pytest.param(("onnx::MatMul_1", "onnx::MatMul_2", "bias"), RANDOM, True, id="transposed-weight-of-a-tie"),
        pytest.param(("onnx::MatMul_1", "onnx::MatMul_2", "bias"), np.ones_like(RANDOM), False, id="values-all-alike"),
        pytest.param(("a.weight", "b.weight", "bias"), RANDOM, False, id="named-parameters-are-copies"),
    ],
)
def test_ties_and_equal_copies(names: tuple[str, str, str], values: np.ndarray, tied: bool, tmp_path: Path) -> None:
    model = load(stored(tmp_path / "net.onnx", _sharing(names, values)))
    assert [s.tied for s in shared_parameters(model.graph)] == [tied]
    words = "tied to the parameter" if tied else "equal copies"
    assert [words in note.message for note in model.notes if note.kind == "assumed"] == [True]


def test_parameters_that_several_layers_read_are_told(tmp_path: Path) -> None:
    text = "(float[N,4] x) => (float[N,4] y) { a = MatMul(x, w)  b = Relu(a)  y = MatMul(b, w) }"
    model = load(stored(tmp_path / "net.onnx", _named(text, ["p", "r", "q"], {"w": (4, 4)})))
    assert [n.message for n in model.notes] == ["read by several layers and taken for tied: 'w'"]


@pytest.mark.slow
@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
def test_exports_of_torch(dynamo: bool, tmp_path: Path) -> None:
    """The layers of a real export are the leaf modules that have parameters, under their names in torch."""
    torch = pytest.importorskip("torch")
    from benchmarks.simplifier_graphs import NETS, export

    path = export("attention", tmp_path, dynamo=dynamo)
    leaves = {n for n, m in NETS["attention"]().named_modules()
              if not list(m.children()) and list(m.parameters(recurse=False)) and n}  # fmt: skip
    assert torch is not None
    rows = {r.name: r for r in netferry.load(path).layers}
    assert leaves <= set(rows)
    assert all(rows[name].learnables for name in leaves)


@pytest.mark.slow
def test_export_of_sklearn(tmp_path: Path) -> None:
    skl2onnx = pytest.importorskip("skl2onnx")
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(0)
    x: Any = rng.standard_normal((50, 4)).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, (x[:, 0] > 0).astype(int))
        proto = skl2onnx.to_onnx(pipe, x[:1])
    types = [row.type for row in load(stored(tmp_path / "net.onnx", proto)).layers]
    assert types[:3] == ["Input", "Scaler", "LinearClassifier"]
    netferry.convert(tmp_path / "net.onnx", tmp_path / "out.onnx")
    assert "ai.onnx.ml" in {o.domain for o in onnx.load(tmp_path / "out.onnx").opset_import}
