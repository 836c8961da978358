"""Constants computed once, within the budget; branches chosen."""

from __future__ import annotations

import onnx
import pytest

from netferry.converters.passes.editing import Budget
from netferry.converters.passes.optimize import optimize
from netferry.schemas.ir import ir
from netferry.schemas.layers import ROLE, Role
from tests.converters.passes.optimized import as_model, graph, optimized

ROWS = {
    "arithmetic": (
        "f (float[N,3] x) => (float[N,3] y) <float[3] a = {1.0,2.0,3.0}, float[3] b = {2.0,2.0,2.0}> "
        "{ c = Mul(a, b) d = Sqrt(c) e = Sub(d, b) y = Add(x, e) }",
        {"Add": 1},
    ),
    "constant-nodes": (
        "f (float[N,3] x) => (float[N,3] y) { a = Constant<value_floats=[1.0,2.0,3.0]>()"
        " b = Constant<value_float=2.0>() c = Mul(a, b) y = Add(x, c) }",
        {"Add": 1},
    ),
    "several-outputs": (
        "f (float[N,2] x) => (float[N,2] y) <float[4] a = {1.0,2.0,3.0,4.0}> "
        "{ b, c = Split<num_outputs=2>(a) d = Add(x, b) y = Mul(d, c) }",
        {"Add": 1, "Mul": 1},
    ),
    "filled": (
        "f (float[N,2] x) => (float[N,2] y) <int64[1] s = {2}> { a = ConstantOfShape(s) b = Exp(a) y = Sub(x, b) }",
        {"Sub": 1},
    ),
    "random-stays": (
        "f (float[N,2] x) => (float[N,2] y) <float[2] p = {0.0,1.0}> { a = Bernoulli<seed=1.0>(p) y = Add(x, a) }",
        {"Bernoulli": 1, "Add": 1},
    ),
    "quantized-weight-stays": (
        "f (float[N,2] x) => (float[N,2] y) <int8[2] q = {3,-4}, float s = {0.5}, int8 z = {0}> "
        "{ a = DequantizeLinear(q, s, z) y = Add(x, a) }",
        {"DequantizeLinear": 1, "Add": 1},
    ),
}


@pytest.mark.parametrize("level", ["safe", "full"])
@pytest.mark.parametrize("name", ROWS)
def test_folding(name: str, level: str) -> None:
    text, expected = ROWS[name]
    nodes, _ = optimized(graph(text), level, tolerance=1e-6)
    assert nodes == expected


@pytest.mark.parametrize(
    ("count", "folded"), [pytest.param(1000, True, id="small"), pytest.param(2**37, False, id="a-terabyte-of-floats")]
)
def test_nothing_large_is_made_from_little(count: int, folded: bool) -> None:
    proto = graph(
        f"f (float[N,1] x) => (float[N,M] y) <int64[1] s = {{{count}}}> {{ a = ConstantOfShape(s) y = Add(x, a) }}"
    )
    model = as_model(proto)
    report = optimize(model, "full")
    assert (report.after["ConstantOfShape"] == 0) == folded
    if not folded:
        assert any("budget" in r.why for r in report.reasons)


def test_the_whole_of_a_model_has_a_budget_too() -> None:
    body = " ".join(f"a{i} = ConstantOfShape(s) x{i + 1} = Add(x{i}, a{i}) s{i} = Expand(a{i}, s)" for i in range(3))
    proto = graph(f"f (float[N,1] x0) => (float[N,M] x3) <int64[1] s = {{1000}}> {{ {body} }}")
    model = as_model(proto)
    report = optimize(model, "safe", budget=Budget(total_bytes=5000), disable=["duplicates"])
    assert report.after["ConstantOfShape"] == 2


def test_weights_are_folded_at_full_only_and_stay_learnable() -> None:
    text = "f (float[N,3] x, float[4,3] w_k) => (float[N,4] y) { t = Transpose(w_k) y = MatMul(x, t) }"
    nodes, report = optimized(graph(text), "safe")
    assert nodes["Transpose"] == 1
    assert any(r.why == "reads a weight" for r in report.reasons)
    proto = graph(text)
    model = as_model(proto)
    model.graph.initializers["w_k"].metadata_props[ROLE] = Role.LEARNABLE.value
    optimize(model, "full")
    assert [n.op_type for n in model.graph] == ["MatMul"]
    assert len(model.parameters(Role.LEARNABLE)) == 1


def test_a_weight_with_other_readers_is_not_doubled() -> None:
    text = (
        "f (float[N,3] x, float[3,3] w_k) => (float[N,3] y) "
        "{ t = Transpose(w_k) a = MatMul(x, t) y = MatMul(a, w_k) }"
    )
    nodes, report = optimized(graph(text), tolerance=1e-5)
    assert nodes["Transpose"] == 1
    assert any("others read" in r.why for r in report.reasons)


def test_a_known_condition_chooses_its_branch() -> None:
    text = """f (float[N,3] x) => (float[N,3] y) <bool c = {1}> {
        z = If(c) <then_branch = a () => (float[N,3] p) { q = Relu(x) p = Neg(q) },
                   else_branch = b () => (float[N,3] p) { p = Exp(x) }>
        y = Abs(z) }"""
    nodes, _ = optimized(graph(text), "safe")
    assert nodes == {"Relu": 1, "Neg": 1, "Abs": 1}


def test_nodes_of_branches_are_folded_and_names_stay_apart() -> None:
    text = """f (float[N,3] x, bool c) => (float[N,3] y) {
        y = If(c) <then_branch = a () => (float[N,3] p) { k = Constant<value_float=2.0>() p = Mul(x, k) },
                   else_branch = b () => (float[N,3] r) { k = Constant<value_float=3.0>() r = Mul(x, k) }> }"""
    model = as_model(graph(text))
    report = optimize(model, "safe")
    proto = ir.to_proto(model.ir)
    onnx.checker.check_model(proto, full_check=True)
    assert report.after == {"If": 1, "Mul": 2}
    assert len(proto.graph.initializer) == 2


def test_an_overridable_input_is_no_constant() -> None:
    proto = graph("f (float[N,3] x, float[3] k) => (float[N,3] y) { a = Neg(k) y = Add(x, a) }")
    proto.graph.initializer.append(onnx.helper.make_tensor("k", 1, [3], [1.0, 2.0, 3.0]))
    nodes, _ = optimized(proto, "full")
    assert nodes == {"Neg": 1, "Add": 1}
