"""Transposes through the operators between them."""

from __future__ import annotations

import pytest

from tests.converters.passes.optimized import graph, optimized

IN, OUT = "a = Transpose<perm=[0,3,1,2]>(x)", "y = Transpose<perm=[0,2,3,1]>(b)"


def _between(body: str, shape: str = "N,4,5,3", weights: str = "", constants: str = "") -> str:
    """x is channels-last, ``a`` and ``b`` are channels-first."""
    held = f"<{constants}>" if constants else ""
    return f"f (float[N,4,5,3] x{weights}) => (float[{shape}] y) {held} {{ {IN} {body} {OUT} }}"


GONE = {
    "relu": _between("b = Relu(a)"),
    "chain": _between("c = Sigmoid(a) d = Mul(a, c) b = Add(d, a)"),
    "add-channels": _between("b = Add(a, w_c)", weights=", float[3,1,1] w_c"),
    "add-rows": _between("b = Add(w_c, a)", weights=", float[4,1] w_c"),
    "prelu": _between("b = PRelu(a, w_c)", weights=", float[3,1,1] w_c"),
    "clip": _between("b = Clip(a, l, h)", constants="float l = {0.0}, float h = {6.0}"),
    "softmax": _between("b = Softmax<axis=1>(a)"),
    "log-softmax-last": _between("b = LogSoftmax(a)"),
    "concat": _between("c = Neg(a) b = Concat<axis=1>(a, c)", shape="N,4,5,6"),
    "split": _between("c, d = Split<axis=1,num_outputs=2>(a) b = Concat<axis=-3>(d, c)"),
    "pad": _between("b = Pad(a, p)", shape="N,5,7,3", constants="int64[8] p = {0,0,1,0,0,0,0,2}"),
    "pad-axes": _between(
        "b = Pad(a, p, , s)", shape="N,7,5,3", constants="int64[2] p = {1,2}, int64[1] s = {2}"
    ),
    "slice": _between(
        "b = Slice(a, s, e, t)",
        shape="N,4,5,2",
        constants="int64[1] s = {1}, int64[1] e = {3}, int64[1] t = {1}",
    ),
    "mean-kept": _between("c = ReduceMean(a, s) b = Mul(a, c)", constants="int64[2] s = {2,3}"),
    "max-negative": _between("b = ReduceMax(a, s)", shape="N,4,1,3", constants="int64[1] s = {-1}"),
    "where": _between("c = Less(a, z) b = Where(c, z, a)", constants="float z = {0.25}"),
    "nearest": _between("b = Resize(a, , s)", shape="N,8,10,3", constants="float[4] s = {1.0,1.0,2.0,2.0}"),
    "cast": _between("c = Cast<to=11>(a) b = Cast<to=1>(c)"),
    "expand": (
        "f (float[N,4,1,3] x) => (float[N,4,5,3] y) <int64[4] s = {1,3,4,5}> "
        f"{{ {IN} b = Expand(a, s) {OUT} }}"
    ),
    "two-inputs": (
        "f (float[N,4,5,3] x, float[N,4,5,3] z) => (float[N,4,5,3] y) "
        f"{{ {IN} c = Transpose<perm=[0,3,1,2]>(z) b = Add(a, c) {OUT} }}"
    ),
    "swallowed-by-mean": (
        "f (float[N,4,5,3] x) => (float[N,3] y) <int64[2] s = {2,3}> "
        f"{{ {IN} b = Relu(a) y = ReduceMean<keepdims=0>(b, s) }}"
    ),
    "in-a-row": (
        "f (float[N,4,5,3] x) => (float[N,4,5,3] y) "
        f"{{ {IN} c = Transpose<perm=[0,2,1,3]>(a) d = Transpose<perm=[0,2,1,3]>(c) b = Exp(d) {OUT} }}"
    ),
    "ones-only": (
        "f (float[N,1,1,3] x) => (float[N,3] y) <int64[2] s = {0,3}> { a = Transpose<perm=[0,3,1,2]>(x)"
        " y = Reshape(a, s) }"
    ),
}

LEFT = {
    "one-way": (f"f (float[N,4,5,3] x) => (float[N,3,4,5] y) {{ {IN} y = Relu(a) }}", 1),
    "layer-between": (
        "f (float[N,4,5,3] x, float[3,3,1,1] w_k) => (float[N,4,5,3] y) " f"{{ {IN} b = Conv(a, w_k) {OUT} }}",
        2,
    ),
    "through-a-fork": (
        "f (float[N,4,5,3] x) => (float[N,4,5,3] y, float[N,3,4,5] z) "
        f"{{ {IN} b = Relu(a) z = Neg(b) {OUT} }}",
        1,
    ),
    "other-permutation": (
        f"f (float[N,4,5,3] x) => (float[N,5,4,3] y) {{ {IN} b = Relu(a) y = Transpose<perm=[0,3,2,1]>(b) }}",
        1,
    ),
    "mean-in-other-order": (
        "f (float[N,4,5,3] x) => (float[N,3,4] y) <int64[1] s = {3}> "
        f"{{ {IN} y = ReduceMean<keepdims=0>(a, s) }}",
        1,
    ),
    "output-on-the-way": (
        "f (float[N,4,5,3] x) => (float[N,4,5,3] y, float[N,3,4,5] b) " f"{{ {IN} b = Relu(a) {OUT} }}",
        1,
    ),
}


@pytest.mark.parametrize("name", GONE)
def test_transposes_go(name: str) -> None:
    nodes, _ = optimized(graph(GONE[name]), tolerance=1e-6, disable=["onnxscript", "onnxsim"])
    assert nodes["Transpose"] == 0


@pytest.mark.parametrize("name", LEFT)
def test_transposes_left(name: str) -> None:
    text, count = LEFT[name]
    nodes, _ = optimized(graph(text), tolerance=1e-6, disable=["onnxscript", "onnxsim"])
    assert nodes["Transpose"] == count


def test_learnable_slope_keeps_name_and_role() -> None:
    from netferry.converters.passes.optimize import optimize
    from netferry.schemas.layers import Role
    from tests.converters.passes.optimized import as_model

    model = as_model(graph(GONE["prelu"]))
    optimize(model, "full")
    assert list(model.parameters(Role.LEARNABLE)) == ["w_c"]
