"""What learns in ONNX files that do not say so: told by what reads it, all of it trains, and finds its way back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from netferry.api import to_torch
from netferry.schemas.layers import ROLE, Role, role_of
from tests.runtime.torch.graphs import by_onnxruntime, model_of

X4 = (2, 3, 5, 6)
ROWS = [
    pytest.param(
        "(float[N, 3, H, W] x) => (float[N, 4, A, B] y) { c = Conv <kernel_shape = [3, 3]> (x, w)  y = Add (c, b) }",
        {"w": (4, 3, 3, 3), "b": (1, 4, 1, 1)}, X4, nn.Conv2d, id="convolution-as-tf2onnx-writes-it",
    ),
    pytest.param(
        """(float[N, 3, H, W] x) => (float[N, 4, A, B] y) {
             c = Conv <kernel_shape = [3, 3], auto_pad = "SAME_UPPER", strides = [2, 2]> (x, w)  y = Add (b, c) }""",
        {"w": (4, 3, 3, 3), "b": (4, 1, 1)}, X4, nn.Conv2d, id="bias-first",
    ),
    pytest.param(
        """(float[N, 4, H, W] x) => (float[N, 6, A, B] y) {
             c = ConvTranspose <kernel_shape = [2, 2], group = 2> (x, w)  y = Add (c, b) }""",
        {"w": (4, 3, 2, 2), "b": (1, 6, 1, 1)}, (2, 4, 3, 3), nn.ConvTranspose2d, id="transposed-convolution",
    ),
    pytest.param(
        "(float[N, 5] x) => (float[N, 7] y) { c = MatMul (x, w)  y = Add (c, b) }",
        {"w": (5, 7), "b": (1, 7)}, (3, 5), nn.Linear, id="product-with-a-row",
    ),
    pytest.param(
        "(float[N, T, 5] x) => (float[N, T, 7] y) { c = MatMul (x, w)  y = Add (c, b) }",
        {"w": (5, 7), "b": (1, 1, 7)}, (3, 2, 5), nn.Linear, id="product-of-sequences-with-a-row",
    ),
    pytest.param(
        "(float[N, 5] x) => (float[A, N, 7] y) { c = MatMul (x, w)  y = Add (c, b) }",
        {"w": (5, 7), "b": (1, 1, 7)}, (3, 5), None, id="row-that-gives-an-axis",
    ),
    pytest.param(
        "(float[N, 5, 4] x) => (float[N, 6, 4] y) { c = MatMul (w, x)  y = Add (c, b) }",
        {"w": (6, 5), "b": (6, 1)}, (3, 5, 4), None, id="weight-on-the-left",
    ),
    pytest.param(
        "(float[5, 4] x) => (float[6, 4] y) { y = Gemm (w, x, b) }", {"w": (6, 5), "b": (6, 1)}, (5, 4), None,
        id="gemm-of-a-weight-first",
    ),
    pytest.param(
        """(float[N, T, 4] x) => (float[N, T, 4] y) <float[1] one = {1}> {
             s = Add (one, w)  y = LayerNormalization <axis = -1> (x, s, b) }""",
        {"w": (4,), "b": (4,)}, (2, 3, 4), None, id="norm-whose-scale-is-computed",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("graph", "weights", "shape", "kind"), ROWS)
def test_all_of_it_learns(
    graph: str, weights: dict[str, tuple[int, ...]], shape: tuple[int, ...], kind: type[nn.Module] | None
) -> None:
    """``kind``: the module that holds weight and bias, where there is one that does."""
    model = model_of(f"g {graph}", weights)
    if "LayerNormalization" in graph:  # where torch's exporter wrote the file, it named its parameters
        model.graph.initializers["w"].metadata_props[ROLE] = Role.LEARNABLE.value
    x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    assert {n for n, v in model.graph.initializers.items() if role_of(v) is Role.LEARNABLE} == set(weights)
    module = to_torch(model)
    assert sum(p.numel() for p in module.parameters()) == sum(int(np.prod(s)) for s in weights.values())
    if kind is not None:
        (held,) = [m for m in module.modules() if type(m) is kind]
        assert set(dict(held.named_parameters())) == {"weight", "bias"}
    for _ in range(2):
        made = module(torch.from_numpy(x))
        np.testing.assert_allclose(made.detach().numpy(), by_onnxruntime(model, x)[0], rtol=1e-5, atol=1e-5)
        made.square().mean().backward()
        torch.optim.SGD(module.parameters(), lr=0.1).step()
        assert set(model.update_from(module)) == set(weights)


def test_what_stands_elsewhere_is_constant() -> None:
    """Grids and anchors of detectors, means that are taken off."""
    text = """g (float[N, 4, 3] x) => (float[N, 4, 3] y) <float[1, 4, 1] grid = {0, 1, 2, 3}> {
      a = Sub (x, grid)  c = Conv <kernel_shape = [1]> (a, w)  s = Sigmoid (c)
      t = Add (s, grid)  y = Mul (t, grid) }"""
    assert sum(p.numel() for p in to_torch(model_of(text, {"w": (4, 4, 1)})).parameters()) == 16
