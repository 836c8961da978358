"""Rounding as half precision does, against numpy's float16 and ml_dtypes' bfloat16."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest

from netferry.runtime.emulate import emulated, run_rounded

HALF = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


def net(kind: str, opset: int = 21) -> onnx.ModelProto:
    """y = (x * w) * w in half precision between float32 inputs and outputs."""
    number = {"float16": 10, "bfloat16": 16}[kind]
    proto = onnx.parser.parse_model(f"""<ir_version: 10, opset_import: ["": {opset}]>
        g (float[N,3] x) => (float[N,3] y)
        {{ h = Cast<to={number}>(x) a = Mul(h, w) b = Mul(a, w) y = Cast<to=1>(b) }}""")
    tensor = onnx.helper.make_tensor("w", number, [3], [0.1, 3.0, 1e-3])
    proto.graph.initializer.append(tensor)
    return proto


@pytest.mark.parametrize("kind", HALF)
def test_every_operator_rounds(kind: str) -> None:
    x = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    half = HALF[kind]
    w = np.array([0.1, 3.0, 1e-3]).astype(half).astype(np.float32)
    wanted = x.astype(half).astype(np.float32)
    for _ in range(2):
        wanted = (wanted * w).astype(half).astype(np.float32)
    got = run_rounded(net(kind), {"x": x})
    np.testing.assert_array_equal(got["y"], wanted)


def test_what_vanishes_and_overflows_shows() -> None:
    x = np.array([[1e-7, 65000.0, 1e-4]], np.float32)
    got = run_rounded(net("float16"), {"x": x})["y"]
    assert got[0, 0] == 0
    assert np.isinf(got[0, 1])
    assert got[0, 2] == 0


def test_inputs_and_outputs_in_half_precision() -> None:
    proto = onnx.parser.parse_model("""<ir_version: 10, opset_import: ["": 21]>
        g (float16[N] x) => (float16[N] y) { y = Neg(x) }""")
    assert {v.type.tensor_type.elem_type for v in (*emulated(proto).graph.input, *emulated(proto).graph.output)} == {1}
    x = np.array([1.0009765625, 0.1], np.float16)
    np.testing.assert_array_equal(run_rounded(proto, {"x": x})["y"], -x.astype(np.float32))
