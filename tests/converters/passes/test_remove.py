"""What does nothing, what is there twice, what nobody reads; neighbours merged; matrix products; activations."""

from __future__ import annotations

import pytest

from tests.converters.passes.optimized import graph, optimized

SAFE = {
    "identity": ("f (float[N,3] x) => (float[N,3] y) { a = Identity(x) b = Relu(a) y = Identity(b) }", {"Relu": 1}),
    "identity-input-to-output": ("f (float[N,3] x) => (float[N,3] y) { y = Identity(x) }", {"Identity": 1}),
    "identity-two-outputs": (
        "f (float[N,3] x) => (float[N,3] y, float[N,3] z) { y = Relu(x) z = Identity(y) }",
        {"Relu": 1, "Identity": 1},
    ),
    "dropout": ("f (float[N,3] x) => (float[N,3] y) { a = Dropout(x) y = Relu(a) }", {"Relu": 1}),
    "dropout-mask-stays": (
        "f (float[N,3] x) => (float[N,3] y, bool[N,3] m) { a, m = Dropout(x) y = Relu(a) }",
        {"Dropout": 1, "Relu": 1},
    ),
    "cast-same": ("f (float[N,3] x) => (float[N,3] y) { a = Cast<to=1>(x) y = Relu(a) }", {"Relu": 1}),
    "mul-one-add-zero": (
        "f (float[N,3] x) => (float[N,3] y) <float o = {1.0}, float[3] z = {0.0,0.0,0.0}> "
        "{ a = Mul(x, o) b = Add(z, a) y = Relu(b) }",
        {"Relu": 1},
    ),
    "mul-one-that-broadcasts-stays": (
        "f (float[N,1] x) => (float[N,3] y) <float[3] o = {1.0,1.0,1.0}> { a = Mul(x, o) y = Relu(a) }",
        {"Mul": 1, "Relu": 1},
    ),
    "slice-all": (
        "f (float[N,3] x) => (float[N,3] y) <int64[1] s = {0}, int64[1] e = {3}, int64[1] a = {1}> "
        "{ b = Slice(x, s, e, a) y = Relu(b) }",
        {"Relu": 1},
    ),
    "pad-nothing": (
        "f (float[N,3] x) => (float[N,3] y) <int64[4] p = {0,0,0,0}> { a = Pad(x, p) y = Relu(a) }",
        {"Relu": 1},
    ),
    "twice-the-same": (
        "f (float[N,3] x) => (float[N,3] y) <float a = {2.0}, float b = {2.0}> "
        "{ c = Mul(x, a) d = Mul(x, b) e = Exp(c) g = Exp(d) y = Add(e, g) }",
        {"Mul": 1, "Exp": 1, "Add": 1},
    ),
    "twice-random-stays": (
        "f (float[3] x) => (float[3] y) { a = RandomUniform<shape=[3],seed=1.0>() b = RandomUniform<shape=[3],seed=1.0>()"
        " c = Sub(a, b) d = Mul(c, x) e = Mul(d, x) y = Sub(e, e) }",
        {"RandomUniform": 2, "Sub": 2, "Mul": 2},
    ),
    "unread": ("f (float[N,3] x) => (float[N,3] y) { a = Exp(x) b = Neg(a) y = Relu(x) }", {"Relu": 1}),
    "relu-relu": ("f (float[N,3] x) => (float[N,3] y) { a = Relu(x) b = Relu(a) y = Neg(b) }", {"Relu": 1, "Neg": 1}),
    "clip-clip": (
        "f (float[N,3] x) => (float[N,3] y) <float a = {-1.0}, float b = {2.0}, float c = {0.0}, float d = {6.0}> "
        "{ p = Clip(x, a, b) y = Clip(p, c, d) }",
        {"Clip": 1},
    ),
    "clip-apart": (
        "f (float[N,3] x) => (float[N,3] y) <float a = {-1.0}, float b = {0.5}, float c = {1.0}, float d = {6.0}> "
        "{ p = Clip(x, a, b) y = Clip(p, c, d) }",
        {"Clip": 1},
    ),
    "relu-clip": (
        "f (float[N,3] x) => (float[N,3] y) <float d = {1.5}> { p = Relu(x) y = Clip(p, , d) }",
        {"Clip": 1},
    ),
    "cast-widening": (
        "f (float[N,3] x) => (float[N,3] y) { a = Floor(x) b = Cast<to=11>(a) y = Cast<to=1>(b) }",
        {"Floor": 1},
    ),
    "cast-narrowing-stays": (
        "f (float[N,3] x) => (float[N,3] y) { a = Cast<to=7>(x) y = Cast<to=1>(a) }",
        {"Cast": 2},
    ),
}  # fmt: skip

FULL = {
    "gemm": (
        "f (float[N,5] x, float[5,4] w_k, float[4] w_b) => (float[N,4] y) { h = MatMul(x, w_k) y = Add(w_b, h) }",
        {"Gemm": 1},
    ),
    "gemm-rank-3-stays": (
        "f (float[N,2,5] x, float[5,4] w_k, float[4] w_b) => (float[N,2,4] y) { h = MatMul(x, w_k) y = Add(h, w_b) }",
        {"MatMul": 1, "Add": 1},
    ),
    "gemm-growing-stays": (
        "f (float[1,5] x, float[5,4] w_k, float[3,4] w_b) => (float[3,4] y) { h = MatMul(x, w_k) y = Add(h, w_b) }",
        {"MatMul": 1, "Add": 1},
    ),
    "gemm-transposed": (
        "f (float[5,N] x, float[5,4] w_k, float[4] w_b) => (float[N,4] y) "
        "{ t = Transpose(x) h = MatMul(t, w_k) y = Add(h, w_b) }",
        {"Gemm": 1},
    ),
    "hard-sigmoid": (
        "f (float[N,3] x) => (float[N,3] y) <float a = {3.0}, float l = {0.0}, float h = {6.0}, float s = {0.16666667}>"
        " { p = Add(x, a) q = Clip(p, l, h) y = Mul(q, s) }",
        {"HardSigmoid": 1},
    ),
    "hard-swish": (
        "f (float[N,3] x) => (float[N,3] y) <float a = {3.0}, float l = {0.0}, float h = {6.0}> "
        "{ p = Add(a, x) q = Clip(p, l, h) r = Div(q, h) y = Mul(r, x) }",
        {"HardSwish": 1},
    ),
    "not-hard-sigmoid": (
        "f (float[N,3] x) => (float[N,3] y) <float a = {3.0}, float l = {0.0}, float h = {6.0}, float s = {0.2}>"
        " { p = Add(x, a) q = Clip(p, l, h) y = Mul(q, s) }",
        {"Add": 1, "Clip": 1, "Mul": 1},
    ),
    "gelu": (
        "f (float[N,3] x) => (float[N,3] y) <float r = {1.4142135}, float o = {1.0}, float h = {0.5}> "
        "{ a = Div(x, r) b = Erf(a) c = Add(b, o) d = Mul(x, c) y = Mul(d, h) }",
        {"Gelu": 1},
    ),
    "gelu-half-first": (
        "f (float[N,3] x) => (float[N,3] y) <float r = {0.70710677}, float o = {1.0}, float h = {0.5}> "
        "{ g = Mul(h, x) a = Mul(x, r) b = Erf(a) c = Add(o, b) y = Mul(g, c) }",
        {"Gelu": 1},
    ),
}


@pytest.mark.parametrize("name", SAFE)
def test_safe(name: str) -> None:
    text, expected = SAFE[name]
    nodes, _ = optimized(graph(text), "safe", tolerance=0)
    assert nodes == expected


@pytest.mark.parametrize("name", FULL)
def test_full(name: str) -> None:
    text, expected = FULL[name]
    nodes, _ = optimized(graph(text), "full", tolerance=1e-6)
    assert nodes == expected


def test_no_operator_is_written_that_the_opset_lacks() -> None:
    """Gelu came with opset 20, HardSwish with 14."""
    for name, opset in (("gelu", 17), ("hard-swish", 13)):
        nodes, _ = optimized(graph(FULL[name][0], opset), tolerance=1e-6, disable=["onnxscript", "onnxsim"])
        assert nodes["Gelu"] == nodes["HardSwish"] == 0
