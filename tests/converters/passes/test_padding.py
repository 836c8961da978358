"""Pad into the layer after it, and the cases where the meaning of padding differs."""

from __future__ import annotations

import pytest

from tests.converters.passes.optimized import graph, optimized

P = "int64[8] p = {0,0,1,0,0,0,2,1}"
ROWS = {
    "conv": (
        f"f (float[N,3,6,6] x, float[4,3,3,3] w_k) => (float[N,4,9,7] y) <{P}> "
        "{ h = Pad(x, p) y = Conv<pads=[1,1,1,1]>(h, w_k) }",
        {"Conv": 1},
    ),
    "conv-auto-pad-stays": (
        f'f (float[N,3,6,6] x, float[4,3,3,3] w_k) => (float[N,4,9,7] y) <{P}> '
        '{ h = Pad(x, p) y = Conv<auto_pad="SAME_UPPER">(h, w_k) }',
        {"Pad": 1, "Conv": 1},
    ),
    "conv-other-value-stays": (
        f"f (float[N,3,6,6] x, float[4,3,3,3] w_k) => (float[N,4,7,5] y) <{P}, float v = {{1.0}}> "
        "{ h = Pad(x, p, v) y = Conv(h, w_k) }",
        {"Pad": 1, "Conv": 1},
    ),
    "conv-reflect-stays": (
        f'f (float[N,3,6,6] x, float[4,3,3,3] w_k) => (float[N,4,7,5] y) <{P}> '
        '{ h = Pad<mode="reflect">(x, p) y = Conv(h, w_k) }',
        {"Pad": 1, "Conv": 1},
    ),
    "conv-cut-stays": (
        "f (float[N,3,6,6] x, float[4,3,3,3] w_k) => (float[N,4,3,5] y) <int64[8] p = {0,0,-1,0,0,0,0,1}> "
        "{ h = Pad(x, p) y = Conv(h, w_k) }",
        {"Pad": 1, "Conv": 1},
    ),
    "conv-channels-stay": (
        "f (float[N,2,6,6] x, float[4,3,3,3] w_k) => (float[N,4,4,4] y) <int64[8] p = {0,1,0,0,0,0,0,0}> "
        "{ h = Pad(x, p) y = Conv(h, w_k) }",
        {"Pad": 1, "Conv": 1},
    ),
    "conv-axes": (
        "f (float[N,3,6,6] x, float[4,3,3,3] w_k) => (float[N,4,4,7] y) <int64[2] p = {1,2}, int64[1] a = {-1}>"
        " { h = Pad(x, p, , a) y = Conv(h, w_k) }",
        {"Conv": 1},
    ),
    "average": (
        f"f (float[N,3,6,6] x) => (float[N,3,7,5] y) <{P}> {{ h = Pad(x, p) y = AveragePool<kernel_shape=[3,3]>(h) }}",
        {"AveragePool": 1},
    ),
    "average-not-counting-stays": (
        f"f (float[N,3,6,6] x) => (float[N,3,9,7] y) <{P}> "
        "{ h = Pad(x, p) y = AveragePool<kernel_shape=[3,3],pads=[1,1,1,1]>(h) }",
        {"Pad": 1, "AveragePool": 1},
    ),
    "max-of-zeros-stays": (
        f"f (float[N,3,6,6] x) => (float[N,3,7,5] y) <{P}> {{ h = Pad(x, p) y = MaxPool<kernel_shape=[3,3]>(h) }}",
        {"Pad": 1, "MaxPool": 1},
    ),
    "max-of-zeros-after-relu": (
        f"f (float[N,3,6,6] x) => (float[N,3,7,5] y) <{P}> "
        "{ r = Relu(x) h = Pad(r, p) y = MaxPool<kernel_shape=[3,3]>(h) }",
        {"Relu": 1, "MaxPool": 1},
    ),
    "max-lowest": (
        f"f (float[N,3,6,6] x) => (float[N,3,7,5] y) <{P}, float v = {{-3.4028234663852886e+38}}> "
        "{ h = Pad(x, p, v) y = MaxPool<kernel_shape=[3,3]>(h) }",
        {"MaxPool": 1},
    ),
    "max-window-of-padding-stays": (
        f"f (float[N,3,6,6] x) => (float[N,3,8,6] y) <{P}, float v = {{-3.4028234663852886e+38}}> "
        "{ h = Pad(x, p, v) y = MaxPool<kernel_shape=[2,2]>(h) }",
        {"Pad": 1, "MaxPool": 1},
    ),
    "max-ceil-stays": (
        f"f (float[N,3,6,6] x) => (float[N,3,4,3] y) <{P}> "
        "{ r = Relu(x) h = Pad(r, p) y = MaxPool<kernel_shape=[3,3],strides=[2,2],ceil_mode=1>(h) }",
        {"Relu": 1, "Pad": 1, "MaxPool": 1},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_padding(name: str) -> None:
    text, expected = ROWS[name]
    nodes, _ = optimized(graph(text), tolerance=1e-6, disable=["onnxscript", "onnxsim"])
    assert nodes == expected
