"""Which sizes of a module's inputs stay dynamic: the batch, wherever it is, or what ``dynamic_shapes`` names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import netferry
from netferry.errors import UnsupportedError, UsageError
from tests.runtime.torch.graphs import by_onnxruntime

pytestmark = pytest.mark.filterwarnings("ignore")


class Recurrent(nn.Module):
    """A recurrent layer of torch and a head; time first unless asked otherwise, as torch does."""

    def __init__(self, kind: Any, **settings: Any) -> None:
        super().__init__()
        self.rnn = kind(4, 5, **settings)
        self.head = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor, state: torch.Tensor | None = None) -> torch.Tensor:
        return self.head(self.rnn(x, state)[0])


class Pooled(nn.Module):
    """A convolution of pictures of any size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.conv(x).relu().mean((2, 3)))


class Masked(nn.Module):
    """Attention over padded words."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(50, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.layer(self.words(ids), src_key_padding_mask=mask)


def _random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def _agree(native: nn.Module, model: Any, *inputs: torch.Tensor) -> None:
    with torch.no_grad():
        want = native(*inputs)
        torch.testing.assert_close(model.to_torch().eval()(*inputs), want, rtol=1e-5, atol=1e-6)
    got = by_onnxruntime(model, *(x.numpy() for x in inputs))[0]
    np.testing.assert_allclose(got, want.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_recurrent_modules_take_time_first_and_any_batch(kind: Any) -> None:
    torch.manual_seed(0)
    native = Recurrent(kind).eval()
    model = netferry.load(native, example_inputs=_random(6, 1, 4))
    assert model.inputs[0].shape == (6, "batch", 4)
    if kind is not nn.RNN:  # of which torch's exporter writes every step
        assert type(model.to_torch().get_submodule("rnn")) is kind
    _agree(native, model, _random(6, 3, 4))


class Attention(nn.Module):
    """Attention that takes time first, which the module does or does not."""

    def __init__(self, inside: bool) -> None:
        super().__init__()
        self.inside, self.layer = inside, nn.TransformerEncoderLayer(6, 2, 12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.transpose(0, 1)).mean(0) if self.inside else self.layer(x)


@pytest.mark.parametrize("inside", [False, True], ids=["outside", "inside"])
def test_attention_that_takes_time_first(inside: bool) -> None:
    """Nothing tells which axis is the batch: both are dynamic."""
    torch.manual_seed(0)
    native = Attention(inside).eval()
    model = netferry.load(native, example_inputs=_random(5, 2, 6))
    assert model.inputs[0].shape == ("dim_0", "dim_1", 6)
    _agree(native, model, _random(3, 4, 6))


def test_a_state_has_its_batch_second_too() -> None:
    torch.manual_seed(0)
    native = Recurrent(nn.GRU).eval()
    model = netferry.load(native, example_inputs=(_random(6, 2, 4), _random(1, 2, 5)))
    assert [i.shape for i in model.inputs] == [(6, "batch", 4), (1, "batch", 5)]
    _agree(native, model, _random(6, 3, 4), _random(1, 3, 5))


def test_batches_on_different_axes_are_named() -> None:
    torch.manual_seed(0)
    native, example = Recurrent(nn.GRU, batch_first=True).eval(), (_random(2, 6, 4), _random(1, 2, 5))
    with pytest.raises(UnsupportedError) as caught:
        netferry.load(native, example_inputs=example)
    assert "dynamic_shapes" in str(caught.value.hint)
    model = netferry.load(native, example_inputs=example, dynamic_shapes=({0: "batch"}, {1: "batch"}))
    assert [i.shape for i in model.inputs] == [("batch", 6, 4), (1, "batch", 5)]
    _agree(native, model, _random(3, 6, 4), _random(1, 3, 5))


class Baked(nn.Module):
    """A convolution and a reshape that writes the batch down."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x).reshape(2, -1)


def test_a_batch_that_the_module_fixes_is_told() -> None:
    """torch's exporter names such a dimension "2"; it is of size 2."""
    torch.manual_seed(0)
    native = Baked().eval()
    model = netferry.load(native, example_inputs=_random(2, 3, 8, 8))
    assert model.inputs[0].shape == (2, 3, 8, 8)
    assert any("fixed the batch of x" in note.message for note in model.notes)
    _agree(native, model, _random(2, 3, 8, 8))


def test_pictures_of_any_size() -> None:
    torch.manual_seed(0)
    native = Pooled().eval()
    axes = {0: "batch", 2: "height", 3: "width"}
    model = netferry.load(native, example_inputs=_random(1, 3, 8, 8), dynamic_shapes=axes)
    assert model.inputs[0].shape == ("batch", 3, "height", "width")
    _agree(native, model, _random(2, 3, 11, 17))


@pytest.mark.parametrize("by_name", [True, False], ids=["by-name", "in-order"])
def test_texts_of_any_length(by_name: bool) -> None:
    """Sizes of one name are one size, whatever the order in which inputs are given."""
    torch.manual_seed(0)
    native, axes = Masked().eval(), {0: "batch", 1: "time"}
    ids, mask = torch.arange(14).reshape(2, 7), torch.arange(14).reshape(2, 7) > 11
    example: Any = {"mask": mask, "ids": ids} if by_name else (ids, mask)
    dynamic = {"mask": axes, "ids": axes} if by_name else (axes, axes)
    model = netferry.load(native, example_inputs=example, dynamic_shapes=dynamic)
    assert {i.name: i.shape for i in model.inputs} == {"ids": ("batch", "time"), "mask": ("batch", "time")}
    feeds = {"ids": torch.arange(36).reshape(3, 12), "mask": torch.arange(36).reshape(3, 12) > 30}
    with torch.no_grad():
        want = native(**feeds)
        torch.testing.assert_close(model.to_torch().eval()(**feeds), want, rtol=1e-5, atol=1e-6)
    got = by_onnxruntime(model, *(feeds[i.name].numpy() for i in model.inputs))[0]
    np.testing.assert_allclose(got, want.numpy(), rtol=1e-5, atol=1e-6)


class Positions(nn.Module):
    """Texts of no more words than there are positions."""

    def __init__(self) -> None:
        super().__init__()
        self.positions = nn.Embedding(12, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.positions.weight[: x.shape[1]]


def test_sizes_with_bounds() -> None:
    torch.manual_seed(0)
    native, time = Positions().eval(), torch.export.Dim("time", max=11)
    model = netferry.load(native, example_inputs=_random(2, 5, 8), dynamic_shapes={0: "batch", 1: time})
    assert model.inputs[0].shape == ("batch", "time", 8)
    _agree(native, model, _random(3, 7, 8))


@pytest.mark.parametrize(
    ("axes", "error", "words"),
    [
        ({0: "batch", 1: "channels"}, UnsupportedError, "channels"),
        ({0: "batch", 9: "depth"}, UsageError, "axis 9"),
        ({0: "no name"}, UsageError, "no name"),
        (({0: "batch"}, {0: "batch"}), UsageError, "entry for each input"),
    ],
    ids=["fixed", "beyond", "unnamed", "too-many"],
)
def test_dynamic_shapes_that_cannot_be(axes: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        netferry.load(Pooled(), example_inputs=_random(1, 3, 8, 8), dynamic_shapes=axes)


def test_what_the_exporter_cannot_write_is_told() -> None:
    native = nn.Sequential(nn.Conv3d(1, 2, 3), nn.AdaptiveAvgPool3d((2, 3, 3)))
    with pytest.raises(UnsupportedError, match="adaptive_avg_pool3d"):
        netferry.load(native, example_inputs=_random(2, 1, 9, 9, 9))
