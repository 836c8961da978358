"""Multiply-adds against counts by hand, and the memory that is alive at a time."""

from __future__ import annotations

import pytest

from netferry.converters.passes.opset_types import annotate
from netferry.converters.passes.sizes import sizes_at
from netferry.schemas.costs import multiply_adds, peak_bytes, value_bytes, weight_bytes
from netferry.schemas.ir import ir
from netferry.schemas.model import Model, Source


def model_of(text: str, opset: int = 21) -> Model:
    return Model(ir.from_onnx_text(f'<ir_version: 10, opset_import: ["": {opset}]> {text}'), source=Source("onnx"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "g (float[1,3,8,8] x, float[4,3,3,3] w) => (float[1,4,6,6] y) { y = Conv(x, w) }",
            (4 * 6 * 6) * (3 * 3 * 3), id="conv",
        ),
        pytest.param(
            "g (float[2,6,8,8] x, float[4,3,3,3] w) => (y) { y = Conv<group=2, strides=[2,2], pads=[1,1,1,1]>(x, w) }",
            2 * (4 * 4 * 4) * (3 * 3 * 3), id="conv-grouped-strided-batch-2",
        ),
        pytest.param(
            "g (float[1,6,8,8] x, float[6,1,3,3] w) => (y) { y = Conv<group=6>(x, w) }",
            (6 * 6 * 6) * 9, id="conv-depthwise",
        ),
        pytest.param(
            "g (float[1,3,5,5] x, float[3,2,3,3] w) => (y) { y = ConvTranspose<strides=[2,2]>(x, w) }",
            (5 * 5) * (3 * 2 * 3 * 3), id="conv-transpose",
        ),
        pytest.param("g (float[2,7] x, float[5,7] w) => (y) { y = Gemm<transB=1>(x, w) }", 2 * 7 * 5, id="gemm"),
        pytest.param("g (float[7,2] x, float[7,5] w) => (y) { y = Gemm<transA=1>(x, w) }", 2 * 7 * 5, id="gemm-transA"),
        pytest.param("g (float[3,4,7] x, float[7,5] w) => (y) { y = MatMul(x, w) }", 3 * 4 * 7 * 5, id="matmul"),
        pytest.param("g (float[7] x, float[7] w) => (y) { y = MatMul(x, w) }", 7, id="dot"),
        pytest.param(
            'g (float[2,3,4] x, float[2,4,5] w) => (y) { y = Einsum<equation="bij,bjk->bik">(x, w) }',
            2 * 3 * 4 * 5, id="einsum",
        ),
        pytest.param(
            "g (float[6,2,3] x, float[1,16,3] w, float[1,16,4] r) => (y) { y = LSTM<hidden_size=4>(x, w, r) }",
            6 * 2 * 4 * (3 * 4 + 4 * 4), id="lstm",
        ),
        pytest.param(
            """g (float[6,2,3] x, float[2,12,3] w, float[2,12,4] r) => (y)
            { y = GRU<hidden_size=4, direction="bidirectional">(x, w, r) }""",
            2 * 6 * 2 * 3 * (3 * 4 + 4 * 4), id="gru-bidirectional",
        ),
        pytest.param(
            """g (bool c, float[2,3] x, float[3,4] w, float[3,5] v) => (y) { y = If(c) <
            then_branch = a () => (p) { p = MatMul(x, w) }, else_branch = b () => (q) { q = MatMul(x, v) }> }""",
            2 * 3 * 5, id="if-the-dearer-branch",
        ),
        pytest.param(
            """g (float[2,3] h, float[9,2,3] x, float[3,3] w) => (k, y) { k, y = Scan<num_scan_inputs=1, body = b
            (float[2,3] s, float[2,3] t) => (u, v) { m = MatMul(t, w) u = Add(s, m) v = Identity(u) }>(h, x) }""",
            9 * (2 * 3 * 3), id="scan",
        ),
        pytest.param(
            """g (bool c, float[2,3] x, float[3,3] w) => (y) <int64 n = {5}> { y = Loop<body = b
            (int64 i, bool c1, float[2,3] s) => (c2, t) { t = MatMul(s, w) c2 = Identity(c1) }>(n, c, x) }""",
            5 * (2 * 3 * 3), id="loop",
        ),
        pytest.param(
            """g (int64 n, bool c, float[2,3] x, float[3,3] w) => (y) { y = Loop<body = b
            (int64 i, bool c1, float[2,3] s) => (c2, t) { t = MatMul(s, w) c2 = Identity(c1) }>(n, c, x) }""",
            None, id="loop-of-unknown-length",
        ),
        pytest.param(
            'g (float[2,3,4] x) => (y) { y = Einsum<equation="bij->bji">(x) }', 0, id="einsum-that-only-moves"
        ),
        pytest.param(
            'g (float[2,3,4] x, float[4,5] w) => (y) { y = Einsum<equation="...i,ij->...j">(x, w) }',
            None, id="einsum-with-dots",
        ),
        pytest.param("g (float[2,3] x) => (y) { y = Relu(x) }", 0, id="elementwise"),
        pytest.param("g (float[N,M] x, float[7,5] w) => (y) { y = MatMul(x, w) }", None, id="unknown-size"),
    ],
)  # fmt: skip
def test_multiply_adds(text: str, expected: int | None) -> None:
    model = model_of(text)
    shapes, _ = sizes_at(model, {})
    assert [multiply_adds(node, shapes.get) for node in model.graph] == [expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "(float[2,3,5,4] q, float[2,3,7,4] k, float[2,3,7,6] v) => (y) { y = Attention(q, k, v) }",
            2 * 3 * (5 * 7 * 4 + 5 * 7 * 6), id="attention",
        ),
        pytest.param(
            """(float[2,5,12] q, float[2,7,12] k, float[2,7,18] v) => (y)
            { y = Attention<q_num_heads=3, kv_num_heads=3>(q, k, v) }""",
            2 * 3 * (5 * 7 * 4 + 5 * 7 * 6), id="attention-of-packed-heads",
        ),
        pytest.param(
            """(float[2,5,24] q, float[2,7,12] k, float[2,7,18] v) => (y)
            { y = Attention<q_num_heads=6, kv_num_heads=3>(q, k, v) }""",
            2 * 6 * (5 * 7 * 4 + 5 * 7 * 6), id="attention-of-grouped-queries",
        ),
    ],
)  # fmt: skip
def test_multiply_adds_of_attention(text: str, expected: int) -> None:
    (node,) = model_of(f"g {text}", 23).graph
    assert multiply_adds(node, lambda value: None if value.shape is None else tuple(value.shape)) == expected


def test_other_domains_are_unknown() -> None:
    text = '<ir_version: 10, opset_import: ["": 21, "own": 1]> g (float[2] x) => (float[2] y) { y = own.Thing(x) }'
    (node,) = ir.from_onnx_text(text).graph
    assert multiply_adds(node, lambda value: (2,)) is None


def test_the_most_that_is_alive() -> None:
    model = model_of("""g (float[1,10] x, float[10,20] w, float[20,10] v) => (float[1,10] y)
        { a = MatMul(x, w) b = Relu(a) c = Add(a, b) d = Neg(c) y = MatMul(d, v) }""")
    annotate(model.ir)
    shapes, _ = sizes_at(model, {})
    most, _ = peak_bytes(model.graph, shapes.get)
    assert most == (40 + 800 + 800) + (80 + 80 + 80)  # inputs stay; a and b are alive while c is made


def test_bytes_of_packed_types() -> None:
    value = ir.Value(name="x", type=ir.TensorType(ir.DataType.INT4), shape=ir.Shape([3]))
    assert value_bytes(value, lambda v: (3,)) == 2
    assert value_bytes(value, lambda v: None) is None


def test_weights_of_subgraphs_and_constants_count() -> None:
    model = model_of("""g (bool c) => (y) <float[4] w = {1,2,3,4}> { y = If(c) <
        then_branch = a () => (p) { p = Constant<value = float[2] {1,2}>() },
        else_branch = b () => (q) <float[3] v = {1,2,3}> { q = Add(v, v) }> }""")
    assert weight_bytes(model.graph) == 16 + 8 + 12
