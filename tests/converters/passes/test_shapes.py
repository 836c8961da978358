"""Shape arithmetic, Reshape and its neighbours, with dynamic dimensions that stay dynamic."""

from __future__ import annotations

import pytest

from netferry.converters.passes.polynomials import number, product, symbol
from tests.converters.passes.optimized import graph, optimized

ROWS = {
    "flatten-by-hand": (
        "f (float[N,3,4] x) => (float[N,M] y) <int64 i = {0}, int64[1] u = {0}, int64[1] m = {-1}> "
        "{ s = Shape(x) g = Gather(s, i) h = Unsqueeze(g, u) t = Concat<axis=0>(h, m) y = Reshape(x, t) }",
        {"Reshape": 1},
    ),
    "split-heads": (
        "f (float[N,T,8] x) => (float[N,2,T,4] y) <int64[2] p = {2,4}> "
        "{ a = Shape<start=0,end=1>(x) b = Shape<start=1,end=2>(x) t = Concat<axis=0>(a, b, p)"
        " r = Reshape(x, t) y = Transpose<perm=[0,2,1,3]>(r) }",
        {"Reshape": 1, "Transpose": 1},
    ),
    "halved-channels": (
        "f (float[N,6,4] x) => (float[N,3,2,4] y) <int64 i = {1}, int64 two = {2}, int64[1] u = {0}, int64[1] m = {2}>"
        "{ s = Shape(x) n = Shape<start=0,end=1>(x) l = Shape<start=2>(x) c = Gather(s, i) h = Div(c, two)"
        " hu = Unsqueeze(h, u) t = Concat<axis=0>(n, hu, m, l) y = Reshape(x, t) }",
        {"Reshape": 1},
    ),
    "both-dynamic-merged": (
        "f (float[N,T,8] x) => (float[M,8] y) <int64[1] e = {8}> "
        "{ a = Shape<start=0,end=1>(x) b = Shape<start=1,end=2>(x) n = Mul(a, b) t = Concat<axis=0>(n, e)"
        " y = Reshape(x, t) }",
        {"Reshape": 1},
    ),
    "two-new-dynamic-sizes-stay": (
        "f (float[M,8] x, float[N,T] z) => (float[N,T,8] y) <int64[1] e = {8}> "
        "{ s = Shape(z) t = Concat<axis=0>(s, e) y = Reshape(x, t) }",
        {"Shape": 1, "Concat": 1, "Reshape": 1},
    ),
    "chain-shortened": (
        "f (float[N,T,8] x) => (float[N,T,3] y) <int64 i = {0}, int64 j = {1}, int64[1] u = {0}, int64[1] e = {3},"
        " float[1,1,3] k = {1.0,2.0,3.0}> { s = Shape(x) a = Gather(s, i) b = Gather(s, j) c = Unsqueeze(a, u)"
        " d = Unsqueeze(b, u) t = Concat<axis=0>(c, d, e) y = Expand(k, t) }",
        {"Shape": 1, "Concat": 1, "Expand": 1},
    ),
    "expand-guard": (
        "f (float[N,3] x) => (float[N,3] y) <int64[1] m = {-1}, int64[1] three = {3}, int64[2] one = {1,1}> "
        "{ n = Shape<start=0,end=1>(x) t = Concat<axis=0>(n, three) q = Equal(t, m) w = Where(q, one, t)"
        " y = Expand(x, w) }",
        {"Identity": 1},
    ),
    "reshape-pair": (
        "f (float[N,3,4] x) => (float[N,2,6] y) <int64[2] a = {0,12}, int64[3] b = {-1,2,6}> "
        "{ t = Reshape(x, a) y = Reshape(t, b) }",
        {"Reshape": 1},
    ),
    "squeeze-unsqueeze": (
        "f (float[N,3] x) => (float[N,3] y) <int64[1] a = {1}> { t = Unsqueeze(x, a) r = Squeeze(t, a) y = Relu(r) }",
        {"Relu": 1},
    ),
    "reshape-relu-back": (
        "f (float[N,3,4] x) => (float[N,3,4] y) <int64[2] a = {0,12}, int64[3] b = {0,3,4}> "
        "{ t = Reshape(x, a) r = Relu(t) y = Reshape(r, b) }",
        {"Relu": 1},
    ),
    "reshape-softmax-back": (
        "f (float[N,3,4] x) => (float[N,3,4] y) <int64[2] a = {-1,4}, int64[3] b = {-1,3,4}> "
        "{ t = Reshape(x, a) r = Softmax<axis=1>(t) y = Reshape(r, b) }",
        {"Softmax": 1},
    ),
    "reshape-softmax-over-more-stays": (
        "f (float[N,3,4] x) => (float[N,3,4] y) <int64[2] a = {-1,12}, int64[3] b = {-1,3,4}> "
        "{ t = Reshape(x, a) r = Softmax<axis=1>(t) y = Reshape(r, b) }",
        {"Reshape": 2, "Softmax": 1},
    ),
    "pooled-reshape": (
        "f (float[N,3,4,4] x) => (float[N,3,1,1] y) <int64[4] b = {-1,3,1,1}> "
        "{ t = GlobalAveragePool(x) r = Reshape(t, b) y = Relu(r) }",
        {"GlobalAveragePool": 1, "Relu": 1},
    ),
    "unbind": (
        "f (float[3,N,4] x) => (float[N,4] y) <int64[1] a = {0}, int64[1] b = {1}, int64[1] c = {2}, int64[1] d = {3}>"
        "{ s0 = Slice(x, a, b, a) s1 = Slice(x, b, c, a) s2 = Slice(x, c, d, a) q = Squeeze(s0, a)"
        " k = Squeeze(s1, a) v = Squeeze(s2, a) m = Mul(q, k) y = Add(m, v) }",
        {"Gather": 3, "Mul": 1, "Add": 1},
    ),
    "unbind-split": (
        "f (float[2,N,4] x) => (float[N,4] y) <int64[1] a = {0}> "
        "{ p, q = Split<axis=0,num_outputs=2>(x) r = Squeeze(p, a) s = Squeeze(q, a) y = Mul(r, s) }",
        {"Gather": 2, "Mul": 1},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_shapes(name: str) -> None:
    text, expected = ROWS[name]
    nodes, _ = optimized(graph(text), tolerance=1e-6, sizes=SIZES.get(name))
    if name == "expand-guard":  # y is x: only an Identity can say so, which the passes do not make
        assert nodes["Expand"] <= 1
        assert sum(nodes.values()) <= 3
    else:
        assert nodes == expected


SIZES = {"two-new-dynamic-sizes-stay": {"M": 6, "N": 2, "T": 3}}


def test_declared_sizes_inside_the_graph_are_not_believed() -> None:
    """Exporters write the sizes of the run that they traced: 7 here, for a dynamic batch."""
    text = (
        "f (float[N,4] x) => (float[N,4] y) <float[7,4] r> "
        "{ r = Relu(x) s = Shape(r) k = ConstantOfShape(s) y = Add(r, k) }"
    )
    proto = graph(text.replace(" <float[7,4] r>", ""))
    import onnx

    proto.graph.value_info.append(onnx.helper.make_tensor_value_info("r", 1, ["Z", 4]))
    nodes, _ = optimized(proto, disable=["onnxscript", "onnxsim"])
    assert nodes["Shape"] == 1


def test_polynomials() -> None:
    n, h = symbol("n"), symbol("h")
    assert (n + n) * h == number(2) * h * n
    assert (n * h * number(6)).over(number(2) * n) == number(3) * h
    assert (n + number(1)).over(n) is None
    assert (n * number(3)).over(number(2)) is None
    assert (n - n).number == 0
    assert product([]).number == 1
    assert not (n - number(1)).natural
