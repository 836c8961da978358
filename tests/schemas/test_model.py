"""The model: what callers ask it for, and layers that nobody could read put right by a caller."""

from __future__ import annotations

import numpy as np
import onnx.reference
import pytest

from netferry.errors import CheckFailed, MalformedFile, UsageError
from netferry.schemas.graph import Builder
from netferry.schemas.ir import ir, own_errors
from netferry.schemas.model import PLACEHOLDER_DOMAIN, Model, Source
from netferry.schemas.tensors import array_tensor


def unread() -> Model:
    """y = relu(Cube(x)), where nobody knows Cube."""
    b = Builder("net")
    x = b.input("x", ["batch", 3])
    with b.layer("cube", "Cube"):
        made = b.op("Cube", x, domain=PLACEHOLDER_DOMAIN, types=[(ir.DataType.FLOAT, ("batch", 3))], settings="{}")
    assert isinstance(made, ir.Value)
    with b.layer("relu", "ReLU"):
        b.output(b.op("Relu", made), "y")
    b.finish()
    return Model(ir.Model(b.graph, ir_version=10), source=Source("caffe"))


def test_a_placeholder_is_replaced() -> None:
    model = unread()
    assert [n.op_type for n in model.placeholders()] == ["Cube"]
    model.replace("cube", lambda b, node: b.op("Pow", node.inputs[0], b.const(3.0)))
    assert model.placeholders() == []
    assert [row.name for row in model.layers] == ["x", "cube", "relu"]
    x = np.array([[-2, 0.5, 3]], np.float32)
    (y,) = onnx.reference.ReferenceEvaluator(ir.to_proto(model.ir)).run(None, {"x": x})
    np.testing.assert_allclose(np.asarray(y), np.maximum(x**3, 0), rtol=1e-6)


def test_only_placeholders_are_replaced_and_all_of_their_outputs() -> None:
    model = unread()
    with pytest.raises(UsageError, match="no placeholder of layer 'relu'"):
        model.replace("relu", lambda b, node: b.op("Relu", node.inputs[0]))
    with pytest.raises(UsageError, match="has 1 outputs, 2 were given"):
        model.replace("cube", lambda b, node: tuple(b.op("Relu", node.inputs[0]) for _ in "ab"))


def test_it_says_what_it_is() -> None:
    assert repr(unread()) == "<Model 'net' from caffe: 2 nodes>"


def _raises(error: Exception, cause: Exception | None = None) -> None:
    raise error from cause


def test_errors_of_ours_come_out_of_onnx_ir_as_they_are() -> None:
    ours = MalformedFile("the weights are damaged", file="net.h5")
    with pytest.raises(MalformedFile, match="damaged"), own_errors():
        raise ours
    with pytest.raises(MalformedFile, match="damaged"), own_errors():
        _raises(RuntimeError("pass failed"), ours)
    with pytest.raises(CheckFailed, match="cannot be written as ONNX: no name"), own_errors():
        _raises(RuntimeError("pass failed"), ValueError("no name"))


@pytest.mark.parametrize("text", ["ü", b"\xff", ""])
def test_tensors_of_text_hold_bytes(text: str | bytes) -> None:
    tensor = array_tensor(np.array([text, "b"], object), "words")
    assert tensor.dtype == ir.DataType.STRING
    assert list(tensor.numpy()) == [text.encode() if isinstance(text, str) else text, b"b"]
