"""How a new head starts: its scale, no dead classes, alone at first."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

import netferry
from netferry import api
from netferry.runtime.data.folder import ImageFolder
from netferry.runtime.training.examples import ArrayExamples
from netferry.runtime.training.network import learner
from netferry.runtime.training.options import TrainOptions
from netferry.runtime.training.rates import head_weights, phases_of, rectified
from netferry.runtime.training.start import ALIVE, LAST, begin
from netferry.schemas.ir import ir
from netferry.schemas.model import Model, Source
from netferry.schemas.tensors import array_of

Make = Callable[..., Model]


def rectified_net(scale: float, bias: float) -> Model:
    """Channels, a 1x1 convolution into three classes, a rectifier, the mean over places: as SqueezeNet ends."""
    rng = np.random.default_rng(0)
    weight = ", ".join(f"{v:.5f}" for v in rng.normal(0, scale, 3 * 8))
    text = (
        '<ir_version: 10, opset_import: ["": 21]> g (float[N, 8, 4, 4] x) => (float[N, 3] y) '
        f"<float[3, 8, 1, 1] w = {{{weight}}}, float[3] b = {{{bias}, {bias}, {bias}}}> "
        "{ c = Conv(x, w, b) r = Relu(c) p = GlobalAveragePool(r) f = Flatten(p) y = Softmax(f) }"
    )
    return Model(ir.from_onnx_text(text), source=Source("onnx"))


def started(model: Model, x: np.ndarray) -> tuple[torch.nn.Module, dict[str, float]]:
    made = learner(model, api.to_torch, {})
    examples = ArrayExamples([x], np.zeros(len(x), np.int64))
    factors = begin(made, head_weights(model), examples, range(len(x)), rectified=rectified(model))
    return made.network, factors


def given(network: torch.nn.Module, x: np.ndarray) -> torch.Tensor:
    conv = next(m for m in network.modules() if isinstance(m, torch.nn.Conv2d))
    with torch.no_grad():
        return conv(torch.from_numpy(x))


def features(scale: float) -> np.ndarray:
    return np.abs(np.random.default_rng(1).normal(0, scale, (32, 8, 4, 4))).astype(np.float32)


def test_a_loud_head_is_made_quiet() -> None:
    x = features(100.0)
    network, factors = started(rectified_net(0.5, 0.0), x)
    (factor,) = factors.values()
    before = given(learner(rectified_net(0.5, 0.0), api.to_torch, {}).network, x)
    assert factor == pytest.approx(LAST / float(before.double().std()), rel=1e-6)
    assert float((given(network, x) - given(network, x).mean((0, 2, 3), keepdim=True)).std()) <= LAST


def test_a_quiet_head_keeps_its_scale() -> None:
    _, factors = started(rectified_net(0.01, 0.0), features(1.0))
    assert factors == {}


@pytest.mark.parametrize("bias", [0.0, -1e4], ids=["some", "all-dead"])
def test_no_class_starts_dead_in_front_of_a_rectifier(bias: float) -> None:
    x = features(100.0)
    network, _ = started(rectified_net(0.5, bias), x)
    made = given(network, x)
    np.testing.assert_allclose(made.mean((0, 2, 3)).numpy(), ALIVE, atol=1e-3)
    assert float((made > 0).float().mean()) > 0.99


def test_only_a_rectifier_asks_for_it(network: Make) -> None:
    assert rectified(network()) is None
    assert rectified(rectified_net(1.0, 0.0)) == "b"


def test_a_new_head_learns_alone_at_first(network: Make, pictures: ImageFolder) -> None:
    model = network(0.0).with_head(["across", "down", "none"], seed=3)
    before = {n: np.array(array_of(v)) for n, v in model.parameters(None).items()}
    options = TrainOptions(epochs=6, batch_size=16)
    first, second = phases_of(model, options, 3, 18, fresh_head=True)
    assert (first.start, first.stop, second.start, second.stop) == (0, 6, 6, 18)
    learnable = {v.name for row in model.layers for v in row.learnables}
    assert learnable - first.frozen == {"fc_w", "fc_b"}
    assert not second.frozen
    (only,) = phases_of(model, options, 3, 18)
    assert only.stop == 18, "a head that was there before does not go first"
    train, validation, _ = pictures.split(seed=1)
    netferry.fit(model, train, validation, augment=None, epochs=2, head_first=2, new_head=True)
    for name, value in model.parameters(None).items():
        same = before[name].tobytes() == np.asarray(array_of(value)).tobytes()
        assert same == (name not in ("fc_w", "fc_b")), name


def test_the_rate_rises_anew_where_layers_join() -> None:
    options = TrainOptions(schedule="constant")
    assert [options.rate(i, 100, 4, 8) for i in (8, 9, 11, 12)] == [0.25, 0.5, 1.0, 1.0]
    assert [options.rate(i, 100, 4) for i in (0, 8)] == [1.0, 1.0]
