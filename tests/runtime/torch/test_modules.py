"""Weights become ordinary modules with the source's names; ties, roles and training behave as they should."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from netferry.api import export, load, to_torch
from netferry.errors import UnsupportedLayer
from netferry.schemas.ir import ir
from netferry.schemas.layers import ROLE, Role
from tests.runtime.torch.alone import Alone
from tests.runtime.torch.graphs import by_onnxruntime, convnet, model_of

RNG = np.random.default_rng(3)


def _agrees(model, *inputs: np.ndarray, atol: float = 1e-5) -> torch.fx.GraphModule:
    module = to_torch(model).eval()
    with torch.no_grad():
        made = module(*(torch.from_numpy(x) for x in inputs))
    made = made if isinstance(made, tuple) else (made,)
    for got, want in zip(made, by_onnxruntime(model, *inputs), strict=True):
        np.testing.assert_allclose(got.numpy(), want, rtol=1e-5, atol=atol)
    return module


def _x(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("batch", [1, 3])
def test_convnet_agrees_and_is_named_by_layers(batch: int) -> None:
    module = _agrees(convnet(), _x(batch, 3, 12, 12))
    kinds = {name: type(m) for name, m in module.named_modules() if name and type(m) is not nn.Module}
    assert kinds == {
        "block.conv1": nn.Conv2d, "block.bn": nn.BatchNorm2d, "relu": nn.ReLU, "conv2": nn.Conv2d,
        "pool": nn.MaxPool2d, "gap": nn.AdaptiveAvgPool2d, "dense": nn.Linear,
    }  # fmt: skip
    assert set(dict(module.named_parameters())) == {
        "block.conv1.weight", "block.conv1.bias", "block.bn.weight", "block.bn.bias", "conv2.weight", "dense.weight",
        "dense.bias",
    }  # fmt: skip
    assert set(module.state_dict()) - set(dict(module.named_parameters())) == {
        "block.bn.running_mean", "block.bn.running_var", "block.bn.num_batches_tracked",
    }  # fmt: skip


def test_the_model_is_left_alone() -> None:
    from netferry.schemas.ir import ir

    model = convnet()
    before = ir.to_proto(model.ir).SerializeToString()
    to_torch(model)
    assert ir.to_proto(model.ir).SerializeToString() == before


@pytest.mark.parametrize(
    ("op", "kind", "layout", "biases"),
    [
        pytest.param("LSTM", nn.LSTM, 0, True, id="lstm"),
        pytest.param("LSTM", nn.LSTM, 0, False, id="lstm-no-bias"),
        pytest.param("GRU", nn.GRU, 0, True, id="gru"),
        pytest.param("RNN", nn.RNN, 0, True, id="rnn"),
    ],
)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_recurrent_layers_are_torchs_own(op: str, kind: type, layout: int, biases: bool, direction: str) -> None:
    d, n = (2 if direction == "bidirectional" else 1), {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    extra = ", linear_before_reset = 1" if op == "GRU" else ""
    last = ", c0" if op == "LSTM" else ""
    text = f"""g (float[T, N, 3] x, float[{d}, N, 5] h0{", float[" + str(d) + ", N, 5] c0" if op == "LSTM" else ""})
      => (float[T, {d}, N, 5] y, float[{d}, N, 5] yh) {{
      y, yh = {op} <hidden_size = 5, direction = "{direction}"{extra}> (x, w, r, {"b" if biases else ""}, , h0{last})
    }}"""
    weights = {"w": (d, n * 5, 3), "r": (d, n * 5, 5)} | ({"b": (d, 2 * n * 5)} if biases else {})
    model = model_of(text, weights, {"y": "rnn"})
    states = [_x(d, 2, 5)] * (2 if op == "LSTM" else 1)
    module = _agrees(model, _x(6, 2, 3), *states)
    assert type(module.rnn) is kind


@pytest.mark.parametrize(("op", "kind"), [("LSTM", nn.LSTM), ("RNN", nn.RNN)], ids=["lstm", "rnn"])
@pytest.mark.parametrize("direction", ["reverse", "bidirectional"])
def test_recurrent_layers_with_one_bias_are_torchs_own(
    op: str, kind: type, direction: str, alone: Alone, tmp_path: Path
) -> None:
    """As Keras's layers are read: the other bias is zeros, does not learn and stays out of the state, copies too."""
    d, n = (2 if direction == "bidirectional" else 1), {"LSTM": 4, "RNN": 1}[op]
    text = f"""g (float[T, N, 3] x) => (float[T, {d}, N, 5] y) {{
      both = Concat <axis = 1> (b, zeros)  y = {op} <hidden_size = 5, direction = "{direction}"> (x, w, r, both) }}"""
    model = model_of(text, {"w": (d, n * 5, 3), "r": (d, n * 5, 5), "b": (d, n * 5), "zeros": (d, n * 5)}, {"y": "rnn"})
    model.graph.initializers["zeros"].const_value = ir.tensor(np.zeros((d, n * 5), np.float32))
    model.graph.initializers["zeros"].metadata_props[ROLE] = Role.CONSTANT.value
    x = _x(6, 2, 3)
    module = _agrees(model, x)
    copied = copy.deepcopy(module)
    assert type(module.rnn) is kind
    assert sum(p.numel() for p in module.parameters()) == d * n * 5 * (3 + 5 + 1)
    export(model, tmp_path, to="torch-source")
    given = torch.from_numpy(x)
    for other in (copy.deepcopy(module), copy.deepcopy(module).double().float()):
        assert set(other.state_dict()) == set(dict(module.named_parameters()))
        torch.testing.assert_close(other(given), module(given))
    module.train()(given).square().sum().backward()
    torch.optim.SGD(module.parameters(), lr=0.1).step()
    assert sorted(model.update_from(module)) == ["b", "r", "w"]
    _agrees(model, x)
    assert f"self.rnn = nn.{op}(3, 5" in (tmp_path / "model.py").read_text()
    (found,) = alone.run(tmp_path, [[given]])[0]
    torch.testing.assert_close(found, copied(given), rtol=1e-5, atol=1e-6)


def test_gru_that_resets_before_is_exact() -> None:
    text = """g (float[T, N, 3] x) => (float[T, 1, N, 5] y) { y = GRU <hidden_size = 5> (x, w, r, b) }"""
    module = _agrees(model_of(text, {"w": (1, 15, 3), "r": (1, 15, 5), "b": (1, 30)}), _x(6, 2, 3))
    assert sum(p.numel() for p in module.parameters()) == 15 * 3 + 15 * 5 + 30


def test_lengths_peepholes_and_clip_are_exact() -> None:
    text = """g (float[T, N, 3] x, int32[N] n) => (float[T, 1, N, 5] y, float[1, N, 5] h, float[1, N, 5] c) {
      y, h, c = LSTM <hidden_size = 5, clip = 0.8> (x, w, r, b, n, , , p) }"""
    model = model_of(text, {"w": (1, 20, 3), "r": (1, 20, 5), "b": (1, 40), "p": (1, 15)})
    _agrees(model, _x(6, 2, 3), np.array([6, 3], np.int32))


def test_shared_weights_are_one_parameter() -> None:
    text = """g (int64[N, T] i) => (float[N, T, 9] y) { e = Gather (table, i)  y = Gemm_free (e) }"""
    text = """g (int64[N] i) => (float[N, 9] y) { e = Gather (table, i)  y = Gemm <transB = 1> (e, table) }"""
    module = _agrees(model_of(text, {"table": (9, 4)}), np.array([1, -2, 5]))
    assert [p.shape for p in module.parameters()] == [torch.Size([9, 4])]
    assert {type(m) for m in module.modules()} >= {nn.Embedding, nn.Linear}


def test_weights_wanted_in_two_layouts_stay_one_parameter() -> None:
    text = """g (int64[N] i) => (float[N, 4] y) { e = Gather (table, i)  y = MatMul (e, table) }"""
    module = _agrees(model_of(text, {"table": (4, 4)}), np.array([1, 3]))
    assert [name for name, _ in module.named_parameters()] == ["table"]


def test_copies_through_identity_train_apart() -> None:
    text = """g (float[N, 2, 4, 4] x) => (float[N, 2, 4, 4] y) {
      other = Identity (scale)
      a = BatchNormalization (x, scale, bias, mean, var)
      y = BatchNormalization (a, other, bias, mean, var) }"""
    weights = {"scale": (2,), "bias": (2,), "mean": (2,), "var": (2,)}
    module = _agrees(model_of(text, weights), _x(2, 2, 4, 4))
    assert sum(isinstance(m, nn.BatchNorm2d) for m in module.modules()) == 2
    assert sum(p.numel() for p in module.parameters()) == 6


def test_constants_do_not_learn() -> None:
    text = """g (float[N, 4] x) => (float[N, 4] y) <float[4] mean = {1, 2, 3, 4}> { y = Sub (x, mean) }"""
    module = _agrees(model_of(text, {}), _x(2, 4))
    assert not list(module.parameters())
    assert not module.state_dict()


def test_batch_norm_trains_with_the_sources_momentum() -> None:
    module = to_torch(convnet()).train()
    x = torch.from_numpy(_x(8, 3, 12, 12))
    before = module.get_buffer("block.bn.running_mean").clone()
    module(x)
    a = module.get_submodule("block.conv1")(x)
    want = before * 0.9 + a.mean((0, 2, 3)) * 0.1
    torch.testing.assert_close(module.get_buffer("block.bn.running_mean"), want, rtol=1e-5, atol=1e-6)


def test_frozen_statistics_stay() -> None:
    module = to_torch(convnet(), frozen_statistics=True).train()
    before = copy.deepcopy(module.state_dict())
    x = torch.from_numpy(_x(8, 3, 12, 12))
    torch.testing.assert_close(module(x), copy.deepcopy(module).eval()(x))
    assert torch.equal(module.get_buffer("block.bn.running_mean"), before["block.bn.running_mean"])


def test_dropout_acts_in_training_only() -> None:
    text = """g (float[N, 400] x) => (float[N, 400] y) <float ratio = {0.25}> { y = Dropout (x, ratio) }"""
    module = to_torch(model_of(text, {}, {"y": "drop"}))
    torch.manual_seed(0)
    x = torch.ones(4, 400)
    assert module.drop.p == 0.25
    assert abs(float((module.train()(x) == 0).float().mean()) - 0.25) < 0.05
    assert torch.equal(module.eval()(x), x)


@pytest.mark.parametrize("axis", [1, 3])
def test_spatial_dropout_drops_whole_channels(axis: int) -> None:
    text = """g (float[N, A, B, C] x) => (float[N, A, B, C] y) <float ratio = {0.5}> { y = Dropout (x, ratio) }"""
    model = model_of(text, {}, {"y": "drop"})
    next(iter(model.graph)).metadata_props["netferry.spatial"] = str(axis)
    torch.manual_seed(0)
    x = torch.ones(4, 50, 4, 4).movedim(1, axis)
    assert torch.equal(to_torch(model).eval()(x), x)
    made = to_torch(model).train()(x).movedim(axis, 1).flatten(2)
    assert bool((made.amin(2) == made.amax(2)).all())
    assert 0.3 < float((made[..., 0] == 0).float().mean()) < 0.7


def test_shapes_stay_python_numbers() -> None:
    text = """g (float[N, 2, 6] x) => (float[N, T] y)
      <int64 zero = {0}, int64[1] at = {0}, int64[1] rest = {-1}> {
      s = Shape (x)  n = Gather (s, zero)  m = Unsqueeze (n, at)  t = Concat <axis = 0> (m, rest)
      y = Reshape (x, t) }"""
    module = _agrees(model_of(text, {}), _x(3, 2, 6))
    names = [n.target.__name__ for n in module.graph.nodes if n.op == "call_function"]  # type: ignore[union-attr]
    assert names == ["shape", "gather", "listed", "join", "Reshape"]


def test_all_refusals_at_once() -> None:
    text = """<ir_version: 10, opset_import: ["" : 21, "odd" : 1]> g (float[N] x) => (float[N] y) {
      a = odd.First (x)  b = odd.Second (x)  y = Add (a, b) }"""
    from netferry.schemas.ir import ir
    from netferry.schemas.model import Model, Source

    model = Model(ir.from_proto(onnx.parser.parse_model(text)), source=Source("onnx"))
    with pytest.raises(UnsupportedLayer) as caught:
        to_torch(model)
    assert [kind for _, kind, _ in caught.value.layers] == ["First", "Second"]


def test_what_has_no_counterpart_is_refused_by_name(tmp_path: Path) -> None:
    """A node that gives nothing; a sparse tensor is none of these."""
    x, y = (onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [2, 2]) for n in "xy")
    nodes = [onnx.helper.make_node("MatMul", ["x", "w"], ["h"]), onnx.helper.make_node("Relu", ["h"], ["y"])]
    values = onnx.numpy_helper.from_array(np.ones(1, np.float32), "w")
    sparse = onnx.helper.make_sparse_tensor(values, onnx.numpy_helper.from_array(np.array([3]), "at"), [2, 2])
    graph = onnx.helper.make_graph(nodes, "g", [x], [y], sparse_initializer=[sparse])
    (tmp_path / "net.onnx").write_bytes(onnx.helper.make_model(graph, ir_version=10).SerializeToString())
    made = to_torch(load(tmp_path / "net.onnx"))(torch.ones(2, 2))  # the sparse tensor is a dense one here
    assert made.tolist() == [[0, 1], [0, 1]]
    del graph.sparse_initializer[:]
    graph.node.append(onnx.helper.make_node("Nothing", [], []))
    graph.initializer.append(onnx.numpy_helper.from_array(np.ones((2, 2), np.float32), "w"))
    (tmp_path / "net.onnx").write_bytes(onnx.helper.make_model(graph, ir_version=10).SerializeToString())
    with pytest.raises(UnsupportedLayer, match="Nothing"):
        to_torch(load(tmp_path / "net.onnx"))


@pytest.mark.parametrize(
    "names", [("None", "self"), ("a/b", "a.b"), ("lambda", "__class__"), ("torch", "operator")], ids=str
)
def test_inputs_called_like_words_of_python_or_alike(tmp_path: Path, names: tuple[str, str]) -> None:
    infos = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [2]) for n in (*names, "y")]
    node = onnx.helper.make_node("Sub", names, ["y"])
    graph = onnx.helper.make_graph([node], "g", infos[:2], infos[2:])
    (tmp_path / "net.onnx").write_bytes(onnx.helper.make_model(graph, ir_version=10).SerializeToString())
    module = to_torch(load(tmp_path / "net.onnx"))
    assert module(torch.tensor([3.0, 1.0]), torch.tensor([1.0, 1.0])).tolist() == [2, 0]


def test_constants_that_nobody_can_compute_stay_in_the_graph() -> None:
    """A Range without a step fails where it is run, as any other error of the values."""
    text = "g (float[N] x) => (float[M] y) <float a = {0}, float b = {1}> { y = Range (a, b, a) }"
    module = to_torch(model_of(text, {}))
    assert any(node.op == "call_function" for node in module.graph.nodes)


@pytest.mark.parametrize("kind", ["graph", "tensor"])
def test_objects_of_a_file_are_not_written_into_code(tmp_path: Path, kind: str) -> None:
    """fx runs the text of what ``repr`` says of settings: of a graph that is what stands in the file."""
    evil = f"0); open({str(tmp_path / 'run')!r}, 'w') #\n"
    x, y = (onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["N"]) for n in "xy")
    held = onnx.AttributeProto(
        name="end", type=onnx.AttributeProto.GRAPH if kind == "graph" else onnx.AttributeProto.TENSOR
    )
    if kind == "graph":
        held.g.CopyFrom(onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["q"], name=evil)], evil, [], [y]))
    else:
        held.t.CopyFrom(onnx.helper.make_tensor(evil, onnx.TensorProto.FLOAT, [1], [1.0]))
    shape = onnx.helper.make_node("Shape", ["x"], ["s"])  # which has no such attribute before opset 15
    shape.attribute.append(held)
    graph = onnx.helper.make_graph([shape, onnx.helper.make_node("Cast", ["s"], ["y"], to=1)], "g", [x], [y])
    made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    (tmp_path / "net.onnx").write_bytes(made.SerializeToString())
    with pytest.raises(UnsupportedLayer, match="no number or text"):
        to_torch(load(tmp_path / "net.onnx"))
    assert not (tmp_path / "run").exists()
