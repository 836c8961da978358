"""Modules made without their constructor's work hold what the constructor of torch gives them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from netferry.runtime.torch.plans import bare, recurrent_module

_PLACE = {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0), "dilation": (1, 2)}
ROWS = [
    pytest.param(nn.Conv2d, {**_PLACE, "bias": False}, {"in_channels": 6, "out_channels": 4, "groups": 2}, id="conv"),
    pytest.param(nn.Conv2d, {**_PLACE, "bias": True}, {"in_channels": 3, "out_channels": 5, "groups": 1}, id="bias"),
    pytest.param(
        nn.ConvTranspose2d, {**_PLACE, "output_padding": (1, 0), "bias": True},
        {"in_channels": 4, "out_channels": 6, "groups": 2}, id="transposed",
    ),
    pytest.param(nn.BatchNorm2d, {"eps": 1e-3, "momentum": 0.01}, {"num_features": 7}, id="batch-norm"),
    pytest.param(nn.InstanceNorm1d, {"eps": 1e-3, "affine": True}, {"num_features": 7}, id="instance-norm"),
    pytest.param(nn.GroupNorm, {"num_groups": 2, "num_channels": 4, "eps": 1e-3}, {}, id="group-norm"),
    pytest.param(nn.LayerNorm, {"normalized_shape": (3, 4), "eps": 1e-3, "bias": False}, {}, id="layer-norm"),
    pytest.param(nn.Linear, {"bias": True}, {"in_features": 3, "out_features": 2}, id="linear"),
    pytest.param(nn.Embedding, {"num_embeddings": 5, "embedding_dim": 2}, {}, id="embedding"),
    pytest.param(nn.PReLU, {}, {"num_parameters": 4}, id="prelu"),
]  # fmt: skip


def _told(module: nn.Module) -> dict[str, Any]:
    """All that a module holds, tensors by whether they are there."""
    return {
        name: {k: v is None for k, v in held.items()} if name in ("_parameters", "_buffers") else held
        for name, held in vars(module).items()
    }


@pytest.mark.parametrize(("kind", "settings", "sizes"), ROWS)
def test_holds_what_the_constructor_gives(kind: Any, settings: dict[str, Any], sizes: dict[str, int]) -> None:
    bare(kind, settings, **dict.fromkeys(sizes, 1))  # what the next one is a copy of
    made, want = bare(kind, settings, **sizes), kind(**settings, **sizes)
    assert type(made) is kind
    assert _told(made) == _told(want)
    assert repr(made) == repr(want)
    other = bare(kind, settings, **sizes)
    mutable = [k for k, v in vars(want).items() if isinstance(v, (dict, set, list))]
    assert all(vars(made)[k] is not vars(other)[k] for k in mutable)


def test_batches_are_counted_by_each_norm_alone() -> None:
    norms = [bare(nn.BatchNorm2d, {"eps": 1e-3}, num_features=2) for _ in range(2)]
    for norm in norms:
        counted = norm.get_buffer("num_batches_tracked")
        assert counted.device.type == "cpu"
        assert counted.dtype is torch.int64
        counted += 1
        assert int(counted) == 1


def _made(kind: Any, settings: Any, sizes: Any) -> nn.Module:
    return bare(kind, settings, **sizes)


def test_nothing_is_drawn() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    for row in ROWS:
        _made(*row.values)
    recurrent_module(nn.LSTM, {"input_size": 3, "hidden_size": 4})
    assert torch.equal(torch.get_rng_state(), before)
