"""Depth, what leads nowhere, what no input reaches, equal weights."""

from __future__ import annotations

import numpy as np
import pytest

from netferry.schemas.ir import ir
from netferry.schemas.tensors import array_tensor
from netferry.schemas.topology import dangling, depth, equal_weights, unreachable


def graph_of(text: str, **weights: np.ndarray) -> ir.Graph:
    """A graph from text; inputs named in ``weights`` become initializers."""
    graph = ir.from_onnx_text(f'<ir_version: 10, opset_import: ["": 21]> {text}').graph
    for value in [v for v in graph.inputs if v.name in weights]:
        graph.inputs.remove(value)
        value.const_value = array_tensor(weights[value.name or ""], value.name)
        graph.register_initializer(value)
    return graph


K = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("g (float[1,3] x, float[3,3] k) => (y) { a = MatMul(x, k) y = MatMul(a, k) }", 2, id="chain"),
        pytest.param(
            "g (float[1,3] x, float[3,3] k) => (y) { a = MatMul(x, k) b = Relu(a) c = MatMul(b, k) y = Add(a, c) }",
            2, id="residual-takes-the-longer-way",
        ),
        pytest.param("g (float[1,3] x, float[3,3] k) => (y) { t = Transpose(k) y = MatMul(x, t) }", 1, id="moved"),
        pytest.param("g (float[3,3] x) => (y) { t = Transpose(x) y = MatMul(x, t) }", 0, id="attention-is-no-layer"),
        pytest.param(
            """g (bool c, float[1,3] x, float[3,3] k) => (y) { y = If(c) <
            then_branch = a () => (p) { p = MatMul(x, k) },
            else_branch = b () => (q) { r = MatMul(x, k) q = MatMul(r, k) }> }""",
            2, id="the-deeper-branch",
        ),
        pytest.param("g (float[1,3] x) => (y) { y = Relu(x) }", 0, id="none"),
    ],
)  # fmt: skip
def test_depth(text: str, expected: int) -> None:
    assert depth(graph_of(text, k=K)) == expected


def test_what_leads_nowhere() -> None:
    graph = graph_of(
        """g (float[1,3] x, float[3,3] k, float[3] u) => (y)
        { y = MatMul(x, k) dead1 = Relu(y) dead2 = Add(dead1, u) }""",
        k=K, u=K[0],
    )  # fmt: skip
    nodes, weights = dangling(graph)
    assert [n.outputs[0].name for n in nodes] == ["dead1", "dead2"]
    assert [v.name for v in weights] == ["u"]


def test_what_a_subgraph_reads_is_needed() -> None:
    graph = graph_of(
        """g (bool c, float[1,3] x, float[3,3] k) => (y) { h = Neg(x) y = If(c) <
        then_branch = a () => (p) { p = MatMul(h, k) }, else_branch = b () => (q) { q = Relu(h) }> }""",
        k=K,
    )  # fmt: skip
    assert dangling(graph) == ([], [])


def test_what_no_input_reaches() -> None:
    graph = graph_of("g (float[3,3] x, float[3,3] k) => (y, z) { y = Relu(x) t = Relu(k) z = Neg(t) }", k=K)
    assert [v.name for v in unreachable(graph)] == ["z"]


def test_equal_weights() -> None:
    large = np.random.default_rng(1).normal(size=(100, 100)).astype(np.float32)
    near = large.copy()
    near[50, 51] += 1  # between the samples that are looked at first
    zero = np.zeros((4, 4), np.float32)
    graph = graph_of(
        """g (float[N,100] x, float[100,100] a, float[100,100] b, float[100,100] c, float[4,4] z, float[4,4] o,
        float[N,4] v) => (y, w) { h = MatMul(x, a) i = MatMul(h, b) y = MatMul(i, c) j = MatMul(v, z)
        w = MatMul(j, o) }""",
        a=large, b=large.copy(), c=near, z=zero, o=zero.copy(),
    )  # fmt: skip
    assert [[v.name for v in group] for group in equal_weights(graph)] == [["a", "b"]]
