"""Parts of a network, by tensor and by layer; judged by onnxruntime on the whole network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import parser

import netferry
from netferry.errors import UsageError
from netferry.schemas.graph import Builder
from netferry.schemas.ir import ir
from netferry.schemas.model import Model, Source

TEXT = """<ir_version: 8, opset_import: ["": 17]> net (float[N,4] x, float[N,4] z) => (float[N,3] y, float[N,4] q)
    <float[4,4] w = {1.0,2.0,3.0,4.0,5.0,6.0,7.0,8.0,9.0,1.0,2.0,3.0,4.0,5.0,6.0,7.0},
     float[4,3] v = {1.0,2.0,3.0,4.0,5.0,6.0,7.0,8.0,9.0,1.0,2.0,3.0}>
    { a = MatMul(x, w)  b = Relu(a)  c = Add(b, z)  d, e = Split<axis=1>(c)  s = Sigmoid(d)
      f = Concat<axis=1>(s, e)  y = MatMul(f, v)  q = Tanh(z) }"""


@pytest.fixture
def net(tmp_path: Path) -> Path:
    proto = parser.parse_model(TEXT)
    for node, name in zip(proto.graph.node, ["one", "act", "sum", "split", "gate", "join", "two", "side"], strict=True):
        node.name = name
    (tmp_path / "net.onnx").write_bytes(proto.SerializeToString())
    return tmp_path / "net.onnx"


def _run(path: Path, feeds: dict[str, np.ndarray], outputs: list[str] | None = None) -> list[np.ndarray]:
    proto = onnx.load(path)
    for name in outputs or ():
        if name not in [v.name for v in proto.graph.output]:
            proto.graph.output.add().name = name
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return [np.asarray(v) for v in session.run(outputs, feeds)]


@pytest.mark.parametrize(
    ("inputs", "outputs", "taken", "given"),
    [
        pytest.param((), ("b",), ["x"], ["b"], id="to-a-tensor"),
        pytest.param((), ("act",), ["x"], ["b"], id="to-a-layer"),
        pytest.param(("b", "z"), ("y",), ["b", "z"], ["y"], id="between-tensors"),
        pytest.param(("sum",), ("two",), ["b", "z"], ["y"], id="between-layers"),
        pytest.param((), ("split",), ["x", "z"], ["d", "e"], id="a-layer-of-two-outputs"),
        pytest.param(("d", "x", "z"), ("y",), ["d", "x", "z"], ["y"], id="one-of-two-outputs-of-a-node"),
        pytest.param((), ("side",), ["z"], ["q"], id="unneeded-input-goes"),
        pytest.param((), ("q", "a"), ["x", "z"], ["q", "a"], id="order-of-outputs"),
    ],
)
def test_part_computes_what_the_whole_does(
    net: Path, tmp_path: Path, inputs: tuple[str, ...], outputs: tuple[str, ...], taken: list[str], given: list[str]
) -> None:
    part = tmp_path / "part.onnx"
    netferry.convert(net, part, inputs=inputs, outputs=outputs)
    rng = np.random.default_rng(0)
    feeds = {n: rng.standard_normal((3, 4)).astype(np.float32) for n in ("x", "z")}
    wanted_names = [t for t in taken if t not in feeds]
    inner = dict(zip(wanted_names, _run(net, feeds, wanted_names), strict=True)) if wanted_names else {}
    session = onnxruntime.InferenceSession(part, providers=["CPUExecutionProvider"])
    assert [v.name for v in session.get_inputs()] == taken
    assert [v.name for v in session.get_outputs()] == given
    found = session.run(None, {**{k: v for k, v in feeds.items() if k in taken}, **inner})
    for got, want in zip(found, _run(net, feeds, given), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        pytest.param((), ("nothing",), "no tensor or layer 'nothing'", id="unknown"),
        pytest.param(("b",), ("y",), "also need 'z'", id="needs-more"),
        pytest.param(("y",), ("q",), "also need 'z'", id="other-way"),
        pytest.param(("z", "b"), ("q",), "'b' leads to none", id="leads-nowhere"),
        pytest.param((), ("x",), "is an input", id="output-is-input"),
    ],
)
def test_impossible_parts_are_refused(
    net: Path, inputs: tuple[str, ...], outputs: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        netferry.load(net, inputs=inputs, outputs=outputs)


def test_weights_and_labels_of_what_is_gone_go_too(net: Path) -> None:
    model = netferry.load(net, outputs=("act",))
    assert list(model.graph.initializers) == ["w"]
    assert [n.name for n in model.graph] == ["one", "act"]
    assert any("x to b" in note.message for note in model.notes)


def _with_data(folder: Path) -> Path:
    b = Builder("net")
    x = b.input("x", ["N", 3, 8, 8])
    rng = np.random.default_rng(0)
    with b.layer("conv", "Conv"):
        y = b.op("Conv", x, b.param("weight", rng.standard_normal((16, 3, 3, 3)).astype(np.float32)),
                 b.param("bias", rng.standard_normal(16).astype(np.float32)))  # fmt: skip
    with b.layer("norm", "BatchNormalization"):
        y = b.op("BatchNormalization", y, *(b.param(n, np.full(16, 2.0, np.float32)) for n in "sbmv"))
    with b.layer("flat", "Reshape"):
        y = b.reshape(y, [0, -1])
    b.output(y, "y")
    b.finish()
    folder.mkdir()
    model = Model(ir.Model(b.graph, ir_version=10), source=Source("test"))
    netferry.save(model, folder / "big.onnx", external_data=True)
    return folder / "big.onnx"


def test_architecture_alone_needs_no_data_files(tmp_path: Path) -> None:
    path = _with_data(tmp_path / "big")
    (path.parent / "big.onnx.data").unlink()
    with pytest.raises(netferry.NetferryError, match="cannot be opened"):
        netferry.load(path)
    model = netferry.load(path, no_weights=True)
    assert sorted(model.uninitialised) == ["conv.bias", "conv.weight", "norm.b", "norm.m", "norm.s", "norm.v"]
    assert [r.name for r in model.layers] == ["x", "conv", "norm", "flat"]
    with pytest.raises(netferry.NetferryError, match="have no values"):
        netferry.save(model, tmp_path / "no.onnx")
    again = netferry.load(path, no_weights=True, init=0)
    netferry.save(again, tmp_path / "random.onnx")
    values = {n: v.const_value.numpy() for n, v in again.graph.initializers.items() if v.const_value is not None}
    assert (values["norm.s"] == 1).all()
    assert (values["norm.v"] == 1).all()
    assert (values["norm.m"] == 0).all()
    assert (values["conv.bias"] == 0).all()
    assert values["conv.weight"].std() > 0.1
