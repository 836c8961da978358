"""Nodes that contradict themselves are refused; what only looks like it is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.parser import parse_model

from netferry.errors import CheckFailed, MalformedFile, NetferryError, UsageError
from tests.converters.onnx.models import load, save, stored

HEAD = '<ir_version: 10, opset_import: ["": 21, "own": 1]>'
RELU = '<domain: "own", opset_import: ["": 21]> f (a) => (b) { b = Relu(a) }'


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(f"{HEAD} g (float[N,4] x) => (float[N,4] y) {{ y = own.f(x) }} {RELU}", id="function"),
        pytest.param(
            f"{HEAD} g (float[N,4] x) => (float[N,4] y) {{ y = own.f<k: int = 1>(x) }}"
            '<domain: "own", opset_import: ["": 21]> f <k> (a) => (b) { b = Softmax<axis: int = @k>(a) }',
            id="attribute-of-the-function",
        ),
        pytest.param(
            f"{HEAD} g (float[N,4] x) => (float[N,4] y) {{ y = own.f(x) }}"
            '<domain: "own", opset_import: ["": 21]> f <k: int = 1> (a) => (b) { b = Softmax<axis: int = @k>(a) }',
            id="attribute-by-default",
        ),
        pytest.param(
            f"{HEAD} g (float[N,6,8,8] x) => (float[N,4,6,6] y) <float[4,3,3,3] w> {{ y = Conv<group = 2>(x, w) }}",
            id="grouped-convolution-of-weights-that-are-given",
        ),
    ],
)
def test_read(tmp_path: Path, text: str) -> None:
    proto = parse_model(text)
    for held in proto.graph.value_info:
        shape = [d.dim_value for d in held.type.tensor_type.shape.dim]
        tensor = proto.graph.initializer.add(name=held.name, data_type=1, dims=shape)
        tensor.raw_data = np.ones(shape, np.float32).tobytes()
    del proto.graph.value_info[:]
    save(load(stored(tmp_path / "net.onnx", proto)), tmp_path / "out.onnx")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param(
            f"{HEAD} g (float[N,4] x) => (float[N,4] y) {{ y, z = own.f(x) }} {RELU}", "2 outputs", id="call"
        ),
        pytest.param(
            f"{HEAD} g (float[N,4] x) => (float[N,4] y) {{ y = own.f(x) }}"
            '<domain: "own", opset_import: ["": 21]> f <k> (a) => (b) { b = Softmax<axis: int = @other>(a) }',
            "'other', which no function", id="attribute-that-the-function-lacks",
        ),
        pytest.param(
            f"{HEAD} g (bool c, float[N,4] x) => (float[N,4] y) {{ y = If(c) <"
            "then_branch = t () => (p) { p = Relu(x) }, else_branch = e () => (q, r) { q = Neg(x)  r = Abs(x) }> }",
            "gives 2 values, the node 1", id="branch-that-gives-more",
        ),
    ],
)  # fmt: skip
def test_refused(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(MalformedFile, match=why):
        load(stored(tmp_path / "net.onnx", parse_model(text)))


def test_a_size_below_zero(tmp_path: Path) -> None:
    """onnx's inference gives a window far larger than its input a negative number of places."""
    proto = parse_model(f"{HEAD} g (float[N,3,8,8] x) => (float[N,3,H,W] y) {{ y = Identity(x) }}")
    proto.graph.node[0].CopyFrom(helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[20, 20]))
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    with pytest.raises(CheckFailed, match="'y' would have shape"):
        save(load(stored(tmp_path / "net.onnx", proto)), tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


TWO = f"{HEAD} g (float[N,4] x, float[N,4] z) => (float[N,4] y) {{ y = Add(x, z) }}"


def test_a_name_fixes_its_size_everywhere(tmp_path: Path) -> None:
    path = stored(tmp_path / "net.onnx", parse_model(TWO))
    model = load(path, input_shapes={"x": (5, 4)})
    assert [tuple(i.shape or ()) for i in model.inputs] == [(5, 4), (5, 4)]
    with pytest.raises(UsageError, match="would be both 5 and 6"):
        load(path, input_shapes={"x": (5, 4), "z": (6, 4)})


def test_an_input_without_a_rank_gets_the_shape_that_is_given(tmp_path: Path) -> None:
    proto = parse_model(TWO)
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    path = stored(tmp_path / "net.onnx", proto)
    assert load(path, input_shapes={"x": (5, 4)}).inputs[0].shape == (5, 4)
    with pytest.raises(NetferryError):
        load(path, input_shapes={"nobody": (5, 4)})


def test_operators_of_no_version_are_refused_at_reading(tmp_path: Path) -> None:
    """Nothing says what their attributes are: a Transpose with a perm of floats ended ``inspect`` in a TypeError."""
    proto = parse_model(f"{HEAD} g (float[N,4] x) => (float[4,N] y) {{ y = Transpose<perm=[1,0]>(x) }}")
    proto.opset_import[0].ClearField("version")
    proto.graph.node[0].attribute[0].type = onnx.AttributeProto.FLOATS
    with pytest.raises(MalformedFile, match="no version of ONNX's operators"):
        load(stored(tmp_path / "net.onnx", proto))


@pytest.mark.parametrize("domain", ["", "ai.onnx.ml", "own"])
def test_a_tensor_that_is_not_there(domain: str, tmp_path: Path) -> None:
    """Of an operator that nobody knows it ended ``save`` in a TypeError."""
    proto = parse_model(f"{HEAD} g (float[N,4] x) => (float[N,4] y) {{ y = Foo(x) }}")
    proto.graph.node[0].domain = domain
    proto.graph.node[0].attribute.add(name="weights", type=onnx.AttributeProto.TENSOR)
    with pytest.raises(MalformedFile, match="'weights' has no value"):
        load(stored(tmp_path / "net.onnx", proto))
