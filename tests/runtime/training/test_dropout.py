"""The quicker dropout drops as torch's own does: shares, scale, gradients, order of memory, seeds."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from netferry.runtime.training.dropout import QuickDropout, with_quick_dropouts  # noqa: E402

SHAPES = {"row": (3, 1001), "pictures": (4, 6, 31, 17), "one": (1,), "nothing": (0, 5)}


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_share_and_scale(p: float) -> None:
    torch.manual_seed(0)
    x = torch.rand(200, 5000) + 1
    y = QuickDropout(p).train()(x)
    dropped = y == 0
    assert float(dropped.float().mean()) == pytest.approx(p, abs=1.5e-3)  # 3 standard deviations of 10^6 are 1.5e-3
    torch.testing.assert_close(y[~dropped], x[~dropped] / (1 - p), rtol=2e-4, atol=0)
    rows = dropped.float().mean(1)  # as spread as independent draws are
    assert float(rows.std()) == pytest.approx((p * (1 - p) / 5000) ** 0.5, rel=0.2)
    pairs = (dropped[:, 1:] & dropped[:, :-1]).float().mean()
    assert float(pairs) == pytest.approx(p * p, abs=3e-3)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_gradient_is_what_was_kept(shape: tuple[int, ...]) -> None:
    x = torch.rand(shape, requires_grad=True)
    y = QuickDropout(0.5).train()(x)
    y.sum().backward()
    assert y.shape == x.shape
    torch.testing.assert_close(x.grad * x.detach(), y.detach(), rtol=1e-6, atol=0)


def test_memory_order_stays() -> None:
    x = torch.rand(2, 8, 5, 5).contiguous(memory_format=torch.channels_last)
    assert QuickDropout(0.5).train()(x).is_contiguous(memory_format=torch.channels_last)
    y = QuickDropout(0.5).train()(x.permute(0, 2, 3, 1)[:, ::2])  # neither order
    assert y.shape == (2, 3, 5, 8)


def test_seeds_and_evaluation() -> None:
    module, x = QuickDropout(0.5).train(), torch.rand(40, 40)
    torch.manual_seed(3)
    first = module(x)
    torch.manual_seed(3)
    assert torch.equal(first, module(x))
    assert not torch.equal(first, module(x))
    assert module.eval()(x) is x


def test_half_precision_keeps_its_type() -> None:
    y = QuickDropout(0.25).train()(torch.ones(1000, dtype=torch.bfloat16))
    assert y.dtype == torch.bfloat16
    assert set(y.tolist()) == {0.0, 1.3359375}  # 4 / 3 in bfloat16


def test_takes_the_places_of_torchs_own() -> None:
    nn: Any = torch.nn
    network = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Dropout(0.3)), nn.Dropout2d(0.2), nn.AlphaDropout(0.1))
    with_quick_dropouts(network)
    assert [type(m).__name__ for m in network.modules()][-3:] == ["QuickDropout", "Dropout2d", "AlphaDropout"]
    assert network[1][0].p == 0.3
