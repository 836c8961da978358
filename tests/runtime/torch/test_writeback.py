"""Build, train, write back: the same graph with new weights, which onnxruntime runs to the same outputs."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch

from netferry.api import to_torch, update_from
from netferry.errors import UsageError, WeightsError
from netferry.schemas.ir import ir
from netferry.schemas.model import Model
from netferry.schemas.tensors import array_of
from tests.runtime.torch.graphs import by_onnxruntime, convnet, model_of


def _train(module: torch.nn.Module, *inputs: torch.Tensor) -> None:
    module.train()
    trainable = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trainable, lr=0.05)
    for _ in range(5):
        optimizer.zero_grad()
        made = module(*inputs)
        (made[0] if isinstance(made, tuple) else made).square().mean().backward()
        optimizer.step()
    module.eval()


def _structure(model: Model) -> list[tuple[object, ...]]:
    return [
        (
            n.name,
            n.op_type,
            [v.name if v else "" for v in n.inputs],
            [v.name for v in n.outputs],
            dict(n.metadata_props),
        )
        for n in model.graph
    ]


RECURRENT = """g (float[T, N, 3] x) => (float[T, 2, N, 5] y) {
  y = LSTM <hidden_size = 5, direction = "bidirectional"> (x, w, r, b) }"""


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        pytest.param(convnet(), (4, 3, 12, 12), id="convnet"),
        pytest.param(
            model_of(RECURRENT, {"w": (2, 20, 3), "r": (2, 20, 5), "b": (2, 40)}), (6, 2, 3), id="bidirectional-lstm"
        ),
        pytest.param(
            model_of(
                RECURRENT.replace("LSTM <", "GRU <linear_before_reset = 1, "),
                {"w": (2, 15, 3), "r": (2, 15, 5), "b": (2, 30)},
            ),
            (6, 2, 3),
            id="bidirectional-gru",
        ),
    ],
)
def test_round_trip(model: Model, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    module = to_torch(model)
    before = _structure(model)
    assert update_from(model, module) == []
    _train(module, torch.from_numpy(x))
    changed = update_from(model, module)
    idle = {"conv1_b"}  # a batch norm takes it away again: no gradient reaches it
    assert set(changed) | idle == set(model.graph.initializers) | idle
    assert _structure(model) == before
    with torch.no_grad():
        want = module(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(by_onnxruntime(model, x)[0], want, rtol=1e-5, atol=1e-5)


def test_frozen_parameters_stay_to_the_bit() -> None:
    model = convnet()
    kept = np.array(array_of(model.graph.initializers["conv1_w"]))
    module = to_torch(model, frozen_statistics=True)
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name.startswith("dense"))
    _train(module, torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(0)))
    assert sorted(update_from(model, module)) == ["dense_b", "dense_w"]
    assert np.array_equal(np.asarray(array_of(model.graph.initializers["conv1_w"])), kept)


def test_copies_that_trained_apart_get_initializers_of_their_own() -> None:
    text = """g (float[N, 2, 4, 4] x) => (float[N, 2, 4, 4] y) {
      other = Identity (scale)
      a = BatchNormalization (x, scale, bias, mean, var)
      y = BatchNormalization (a, other, bias, mean, var) }"""
    model = model_of(text, {"scale": (2,), "bias": (2,), "mean": (2,), "var": (2,)})
    module = to_torch(model)
    x = np.random.default_rng(1).normal(size=(4, 2, 4, 4)).astype(np.float32)
    _train(module, torch.from_numpy(x))
    update_from(model, module)
    assert "other" in model.graph.initializers
    with torch.no_grad():
        want = module(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(by_onnxruntime(model, x)[0], want, rtol=1e-5, atol=1e-5)


def test_deep_copies_and_wrappers_find_the_way_back() -> None:
    model = convnet()
    module = copy.deepcopy(to_torch(model))
    with torch.no_grad():
        module.get_parameter("dense.bias").add_(1.0)
    assert update_from(model, torch.nn.parallel.DataParallel(module)) == ["dense_b"]


def _turned() -> torch.nn.Module:
    module = to_torch(_square((3, 4)))
    module.get_submodule("dense").weight = torch.nn.Parameter(torch.ones(3, 4))
    return module


def _square(shape: tuple[int, int]) -> Model:
    text = f"g (float[N, {shape[0]}] x) => (float[N, {shape[1]}] y) {{ y = MatMul (x, w) }}"
    return model_of(text, {"w": shape}, {"y": "dense"})


@pytest.mark.parametrize(
    ("make", "why"),
    [
        pytest.param(_turned, r"'dense.weight' has shape \[3, 4\] in the module, \[4, 3\]", id="as-many-values"),
        pytest.param(lambda: to_torch(_square((4, 3))), r"has shape \[3, 4\], it was \[4, 3\]", id="another-network"),
        pytest.param(lambda: to_torch(_square((3, 4))).to("meta"), "no values", id="meta-device"),
    ],
)
def test_weights_that_do_not_fit_are_refused(make: Callable[[], torch.nn.Module], why: str) -> None:
    """Also where the number of values is right."""
    model = _square((3, 4))
    before = ir.to_proto(model.ir).SerializeToString()
    with pytest.raises(WeightsError, match=why):
        update_from(model, make())
    assert ir.to_proto(model.ir).SerializeToString() == before


def test_refusals_write_nothing() -> None:
    model = convnet()
    before = ir.to_proto(model.ir).SerializeToString()
    module = to_torch(model)
    with torch.no_grad():
        module.get_parameter("dense.weight").fill_(float("nan"))
        module.get_parameter("block.conv1.weight").zero_()
    with pytest.raises(WeightsError):
        update_from(model, module)
    assert ir.to_proto(model.ir).SerializeToString() == before
    with pytest.raises(UsageError):
        update_from(model, torch.nn.Linear(2, 2))
