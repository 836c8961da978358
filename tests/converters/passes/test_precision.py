"""Half precision against float32 on onnxruntime (fp16) and onnx.reference (bf16)."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest

import netferry
from netferry.converters.passes.precision import to_precision
from netferry.converters.passes.rounding import kernels_of, rounded
from netferry.errors import UnsupportedOption, UsageError
from netferry.schemas.ir import ir
from netferry.schemas.layers import Role
from tests.converters.passes.optimized import apart, as_model, graph, run

NET = """f (float[N,3,8,8] x, float[4,3,3,3] w_k, float[4] w_b, float[4] w_s, float[4] w_o, float[4] w_m,
    float[4] w_var, float[5,4] w_d) => (float[N,5] y) <int64[2] a = {2,3}> {
    c = Conv<pads=[1,1,1,1]>(x, w_k, w_b) b = BatchNormalization(c, w_s, w_o, w_m, w_var) r = Relu(b)
    m = ReduceMean<keepdims=0>(r, a) g = Gemm<transB=1>(m, w_d) y = Softmax(g) }"""


def _half(proto: onnx.ModelProto, precision: str = "fp16", **options: object):
    model = as_model(proto)
    report = to_precision(model, precision, **options)  # type: ignore[arg-type]
    out = ir.to_proto(model.ir)
    onnx.checker.check_model(out, full_check=True)
    return model, report, out


def test_a_convolutional_net_in_fp16() -> None:
    proto = graph(NET)
    model, report, out = _half(proto)
    assert [(i.name, i.type.tensor_type.elem_type) for i in (*out.graph.input, *out.graph.output)] == [
        ("x", 1),
        ("y", 1),
    ]
    assert report.turned == {"Conv": 1, "BatchNormalization": 1, "Relu": 1, "Gemm": 1, "Softmax": 1}
    assert "ReduceMean" in next(iter(report.kept.values()))
    assert {v.dtype for v in model.parameters(Role.LEARNABLE).values()} == {ir.DataType.FLOAT16}
    for batch in (1, 3):
        assert apart(run(out, batch, batch), run(proto, batch, batch)) <= 2e-3


@pytest.mark.parametrize("kind", [np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)], ids=str)
@pytest.mark.parametrize(
    ("operator", "shape", "axes"),
    [
        pytest.param("Conv", (8, 6, 3, 3), (2, 3), id="kernels"),
        pytest.param("Conv", (8, 6, 5), (2,), id="one-dimension"),
        pytest.param("ConvTranspose", (6, 8, 3, 3), (2, 3), id="transposed"),
    ],
)
def test_kernels_keep_their_sums(kind: np.dtype, operator: str, shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    """The sum of a kernel's errors is smaller than of the nearest numbers, no weight is more than a step away."""
    weights = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    near = weights.astype(kind)
    made = rounded(weights, kind, kernels_of(operator, shape))
    assert (made.shape, made.dtype) == (shape, kind)

    def sums(values: np.ndarray) -> float:
        return float(np.abs((values.astype(np.float64) - weights).sum(axes)).mean())

    assert sums(made) <= 0.7 * sums(near)
    below, above = (np.nextafter(near, np.array(s * np.inf, kind)).astype(np.float32) for s in (-1, 1))
    assert ((below <= made.astype(np.float32)) & (made.astype(np.float32) <= above)).all()
    again = rounded(made.astype(np.float32), kind, kernels_of(operator, shape))
    assert (again == made).all()  # what the type holds stays


def test_a_convolution_behind_a_rectifier_is_nearer_than_by_nearest_numbers() -> None:
    rng = np.random.default_rng(0)
    pictures, kernel = np.abs(rng.normal(size=(4, 16, 9, 9))), rng.normal(size=(8, 16, 3, 3)).astype(np.float32)

    def means(k: np.ndarray) -> np.ndarray:  # of all maps, as a global average pool sees them
        windows = np.lib.stride_tricks.sliding_window_view(pictures, (3, 3), (2, 3))
        return np.einsum("nchwij,ocij->no", windows, k.astype(np.float64))

    kind = np.dtype(np.float16)
    ours, nearest = (np.abs(means(k) - means(kernel)).max() for k in (
        rounded(kernel, kind, kernels_of("Conv", kernel.shape)), kernel.astype(kind)
    ))  # fmt: skip
    assert ours <= nearest / 3


def test_inputs_and_outputs_too_where_asked() -> None:
    _, _, out = _half(graph(NET), keep_io=False)
    assert [i.type.tensor_type.elem_type for i in (*out.graph.input, *out.graph.output)] == [10, 10]
    assert run(out, 2)[0].dtype == np.float16


def test_a_weight_beyond_the_range_keeps_its_node() -> None:
    proto = graph(
        "f (float[N,3] x, float[3,3] w_k, float[3,3] w_j) => (float[N,3] y) { h = MatMul(x, w_k) y = MatMul(h, w_j) }"
    )
    big = next(t for t in proto.graph.initializer if t.name == "w_k")
    big.CopyFrom(onnx.numpy_helper.from_array(np.full((3, 3), 1e5, np.float32), "w_k"))
    _, report, out = _half(proto)
    assert report.overflowing == {"w_k": 1e5}
    assert [n.op_type for n in out.graph.node] == ["MatMul", "Cast", "MatMul", "Cast"]
    assert report.turned == {"MatMul": 1}


def test_values_that_vanish_are_counted() -> None:
    proto = graph("f (float[N,3] x, float[3,3] w_k) => (float[N,3] y) { y = MatMul(x, w_k) }")
    proto.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.full((3, 3), 1e-9, np.float32), "w_k"))
    _, report, _ = _half(proto)
    assert report.vanishing == {"w_k": 9}


def test_a_weight_of_both_kinds_of_node() -> None:
    text = """f (float[N,3] x, float[3] w_k) => (float[N,3] y) <int64[1] s = {1}>
        { a = Mul(x, w_k) b = ReduceSum(a, s) c = Pow(w_k, b) d = Relu(c) y = Mul(d, x) }"""
    proto = graph(text)
    for t in proto.graph.initializer:
        if t.name == "w_k":
            t.CopyFrom(onnx.numpy_helper.from_array(np.array([0.5, 1.0, 1.5], np.float32), "w_k"))
    _, _, out = _half(proto)
    assert apart(run(out, 2), run(proto, 2)) <= 5e-3


def test_branches_stay_in_float32() -> None:
    text = """f (float[N,3] x, bool c) => (float[N,3] y) {
        r = Relu(x)
        i = If(c) <then_branch = a () => (float[N,3] p) { p = Neg(r) },
                   else_branch = b () => (float[N,3] q) { q = Exp(r) }>
        y = Abs(i) }"""
    _, report, _ = _half(graph(text))
    assert report.turned == {"Relu": 1, "Abs": 1}


def test_resize_scales_and_casts_keep_their_meaning() -> None:
    text = """f (float[N,1,2,2] x) => (float[N,1,4,4] y) <float[4] s = {1.0,1.0,2.0,2.0}>
        { a = Cast<to=7>(x) b = Cast<to=1>(a) c = Add(b, x) y = Resize(c, , s) }"""
    proto = graph(text)
    _, _, out = _half(proto)
    assert apart(run(out, 2), run(proto, 2)) <= 2e-3


def test_bf16() -> None:
    proto = graph("f (float[N,4] x, float[4,4] w_k) => (float[N,4] y) { h = MatMul(x, w_k) y = Relu(h) }")
    _, report, out = _half(proto, "bf16")
    assert report.turned == {"MatMul": 1, "Relu": 1}
    assert {t.data_type for t in out.graph.initializer} == {onnx.TensorProto.BFLOAT16}


def test_a_constant_that_lies_in_the_file(tmp_path: Path) -> None:
    """Of 1 KiB and more only the place is read; the node becomes an initializer all the same."""
    proto = graph("f (float[N,32] x, float[32,32] w_d) => (float[N,32] y) { y = MatMul(x, w_d) }")
    proto.graph.node.insert(0, onnx.helper.make_node("Constant", [], ["w_d"], value=proto.graph.initializer[0]))
    del proto.graph.initializer[:]
    (tmp_path / "net.onnx").write_bytes(proto.SerializeToString())
    netferry.convert(tmp_path / "net.onnx", tmp_path / "out.onnx", precision="fp16")
    out = onnx.load(tmp_path / "out.onnx")
    assert [n.op_type for n in out.graph.node] == ["Cast", "MatMul", "Cast"]
    assert [t.data_type for t in out.graph.initializer] == [onnx.TensorProto.FLOAT16]
    assert apart(run(out, 2, 2), run(proto, 2, 2)) <= 2e-3


def test_refusals() -> None:
    with pytest.raises(UsageError):
        to_precision(as_model(graph(NET)), "fp8")  # type: ignore[arg-type]
    with pytest.raises(UsageError):
        to_precision(as_model(graph(NET)), "fp16", keep_layers=["nowhere"])
    with pytest.raises(UnsupportedOption):
        to_precision(as_model(graph("f (int64[N] x) => (int64[N] y) { y = Neg(x) }")), "fp16")
