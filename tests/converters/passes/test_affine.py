"""BatchNormalization, Mul and Add into the layer beside them: each against onnxruntime on the graph before."""

from __future__ import annotations

import pytest

from tests.converters.passes.optimized import as_model, graph, optimized

BN = "BatchNormalization"
STATS = "float[4] w_s, float[4] w_o, float[4] w_m, float[4] w_var"

ROWS = {
    "conv-bn": (
        f"f (float[N,3,7,7] x, float[4,3,3,3] w_k, {STATS}) => (float[N,4,5,5] y) "
        "{ h = Conv(x, w_k) y = BatchNormalization<epsilon=0.01>(h, w_s, w_o, w_m, w_var) }",
        {"Conv": 1},
    ),
    "grouped-conv-with-bias-bn": (
        f"f (float[N,2,7,7] x, float[4,1,3,3] w_k, float[4] w_b, {STATS}) => (float[N,4,4,4] y) "
        "{ h = Conv<group=2,strides=[2,2],pads=[1,1,1,1]>(x, w_k, w_b)"
        " y = BatchNormalization(h, w_s, w_o, w_m, w_var) }",
        {"Conv": 1},
    ),
    "conv1d-bn": (
        f"f (float[N,3,9] x, float[4,3,3] w_k, {STATS}) => (float[N,4,7] y) "
        "{ h = Conv(x, w_k) y = BatchNormalization(h, w_s, w_o, w_m, w_var) }",
        {"Conv": 1},
    ),
    "transposed-grouped-bn": (
        f"f (float[N,6,5,5] x, float[6,2,3,3] w_k, {STATS}) => (float[N,4,11,11] y) "
        "{ h = ConvTranspose<group=2,strides=[2,2]>(x, w_k) y = BatchNormalization(h, w_s, w_o, w_m, w_var) }",
        {"ConvTranspose": 1},
    ),
    "gemm-bn": (
        f"f (float[N,5] x, float[4,5] w_k, float[4] w_b, {STATS}) => (float[N,4] y) "
        "{ h = Gemm<transB=1,alpha=0.5,beta=2.0>(x, w_k, w_b) y = BatchNormalization(h, w_s, w_o, w_m, w_var) }",
        {"Gemm": 1},
    ),
    "matmul-add-bn": (
        f"f (float[N,5] x, float[5,4] w_k, float[4] w_b, {STATS}) => (float[N,4] y) "
        "{ h = MatMul(x, w_k) g = Add(h, w_b) y = BatchNormalization(g, w_s, w_o, w_m, w_var) }",
        {"Gemm": 1},
    ),
    "bn-conv-unpadded": (
        f"f (float[N,4,7,7] x, float[6,2,3,3] w_k, {STATS}) => (float[N,6,5,5] y) "
        "{ h = BatchNormalization(x, w_s, w_o, w_m, w_var) y = Conv<group=2>(h, w_k) }",
        {"Conv": 1},
    ),
    "bn-conv-padded-stays": (
        f"f (float[N,4,7,7] x, float[6,4,3,3] w_k, {STATS}) => (float[N,6,7,7] y) "
        "{ h = BatchNormalization(x, w_s, w_o, w_m, w_var) y = Conv<pads=[1,1,1,1]>(h, w_k) }",
        {"Conv": 1, BN: 1},
    ),
    "mul-conv-padded": (
        "f (float[N,4,7,7] x, float[6,4,3,3] w_k, float[4,1,1] w_s) => (float[N,6,7,7] y) "
        "{ h = Mul(x, w_s) y = Conv<pads=[1,1,1,1]>(h, w_k) }",
        {"Conv": 1},
    ),
    "mul-transposed": (
        "f (float[N,4,4,4] x, float[4,3,3,3] w_k, float[1,4,1,1] w_s) => (float[N,6,6,6] y) "
        "{ h = Mul(x, w_s) y = ConvTranspose<group=2>(h, w_k) }",
        {"ConvTranspose": 1},
    ),
    "add-transposed-stays": (
        "f (float[N,4,4,4] x, float[4,3,3,3] w_k, float[1,4,1,1] w_s) => (float[N,3,6,6] y) "
        "{ h = Add(x, w_s) y = ConvTranspose(h, w_k) }",
        {"ConvTranspose": 1, "Add": 1},
    ),
    "bn-gemm": (
        f"f (float[N,4] x, float[4,5] w_k, float[5] w_b, {STATS}) => (float[N,5] y) "
        "{ h = BatchNormalization(x, w_s, w_o, w_m, w_var) y = Gemm<alpha=0.5,beta=3.0>(h, w_k, w_b) }",
        {"Gemm": 1},
    ),
    "conv-mul-sub-div": (
        "f (float[N,3,5,5] x, float[4,3,1,1] w_k, float[4] w_b, float[4,1,1] w_s, float[1,4,1,1] w_var)"
        " => (float[N,4,5,5] y) "
        "{ h = Conv(x, w_k, w_b) a = Mul(w_s, h) b = Sub(w_var, a) y = Div(b, w_var) }",
        {"Conv": 1},
    ),
    "constant-over-data-stays": (
        "f (float[N,3,5,5] x, float[4,3,1,1] w_k, float[1,4,1,1] w_s) => (float[N,4,5,5] y) "
        "{ h = Conv(x, w_k) y = Div(w_s, h) }",
        {"Conv": 1, "Div": 1},
    ),
    "per-pixel-stays": (
        "f (float[N,3,5,5] x, float[5,3,1,1] w_k, float[5] w_s) => (float[N,5,5,5] y) "
        "{ h = Conv(x, w_k) y = Mul(h, w_s) }",
        {"Conv": 1, "Mul": 1},
    ),
    "growing-by-broadcast-stays": (
        "f (float[N,3,5,5] x, float[1,3,1,1] w_k, float[1,4,1,1] w_s) => (float[N,4,5,5] y) "
        "{ h = Conv(x, w_k) y = Mul(h, w_s) }",
        {"Conv": 1, "Mul": 1},
    ),
    "read-twice-stays": (
        f"f (float[N,3,7,7] x, float[4,3,3,3] w_k, {STATS}) => (float[N,4,5,5] y) "
        "{ h = Conv(x, w_k) g = BatchNormalization(h, w_s, w_o, w_m, w_var) y = Add(g, h) }",
        {"Conv": 1, BN: 1, "Add": 1},
    ),
    "shared-kernel-stays": (
        f"f (float[N,4,7,7] x, float[4,4,1,1] w_k, {STATS}) => (float[N,4,7,7] y) "
        "{ h = Conv(x, w_k) g = BatchNormalization(h, w_s, w_o, w_m, w_var) r = Relu(g) y = Conv(r, w_k) }",
        {"Conv": 2, BN: 1, "Relu": 1},
    ),
    "bias-of-a-matrix-stays": (
        "f (float[3,5] x, float[5,4] w_k, float[3,4] w_b, float[1,4] w_s) => (float[3,4] y) "
        "{ h = Gemm(x, w_k, w_b) y = Mul(h, w_s) }",
        {"Gemm": 1, "Mul": 1},
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_folds(name: str) -> None:
    text, expected = ROWS[name]
    nodes, _ = optimized(graph(text))
    assert nodes == expected


def test_safe_keeps_every_weight() -> None:
    proto = graph(ROWS["conv-bn"][0])
    nodes, _ = optimized(proto, "safe", tolerance=0)
    assert nodes == {"Conv": 1, BN: 1}


def test_says_why() -> None:
    _, report = optimized(graph(ROWS["shared-kernel-stays"][0]))
    assert any(r.name == "affine-after" and "shared" in r.why for r in report.reasons)


def test_a_weight_that_would_overflow_stays() -> None:
    from netferry.converters.passes.optimize import optimize
    from netferry.schemas.ir import ir

    text = (
        "f (float16[N,1,2,2] x, float16[1,1,1,1] w_k, float16[1,1,1,1] w_s) => (float16[N,1,2,2] y) "
        "{ h = Conv(x, w_k) y = Mul(h, w_s) }"
    )
    proto = graph(text)
    for tensor in proto.graph.initializer:
        tensor.raw_data = b"\x00\x7b"  # 57344
    model = as_model(proto)
    report = optimize(model, "full")
    assert [n.op_type for n in ir.to_proto(model.ir).graph.node] == ["Conv", "Mul"]
    assert any("finite" in r.why for r in report.reasons)
