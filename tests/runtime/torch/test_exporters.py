"""What torch's two exporters write of plain modules: the same learnables, buffers, names and gradients come back."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import netferry
from netferry import api
from netferry.errors import UnsupportedError
from netferry.runtime.torch.source.write import read_source
from tests.runtime.torch.graphs import by_onnxruntime

pytestmark = pytest.mark.filterwarnings("ignore")


class Tokens(nn.Module):
    """Parameters and buffers that functions read, a scalar among them; a buffer that is called like a bias."""

    pe: Tensor
    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.randn(1, 1, 4))
        self.pos_embed = nn.Parameter(torch.randn(1, 6, 4))
        self.gamma = nn.Parameter(torch.rand(4))
        self.logit_scale = nn.Parameter(torch.tensor(1.3))
        self.register_buffer("pe", torch.randn(1, 6, 4))
        self.register_buffer("mean", torch.randn(4))
        self.inner = Masked()

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x - self.mean], 1) + self.pos_embed + self.pe
        return self.inner(x * self.gamma * self.logit_scale.exp())


class Masked(nn.Module):
    bias: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("bias", torch.tril(torch.ones(6, 6)))

    def forward(self, x: Tensor) -> Tensor:
        return (x @ x.transpose(1, 2)).masked_fill(self.bias.eq(0), -1e4).softmax(-1)


class Items(nn.Module):
    """Parameters in a list, scalars and a table that is used as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.scales = nn.ParameterList([nn.Parameter(torch.tensor(1.5)), nn.Parameter(torch.rand(4))])
        self.first = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.first(x * self.scales[0]) * self.scales[1]


class Attends(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = nn.ModuleDict({"attn": nn.MultiheadAttention(8, 2, batch_first=True)})
        self.norm = nn.LayerNorm(8, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.block["attn"](x, x, x, need_weights=False)[0])


class Twice(nn.Module):
    """One trunk for two inputs, as siamese networks have it."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.trunk(x) * self.trunk(x + 1)


class Zeros(nn.Module):
    """Biases that start at zero, an embedding of positions, tied weights; a norm that has none."""

    table: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(9, 4), nn.Embedding(5, 4)
        self.first, self.head = nn.Linear(4, 4), nn.Linear(4, 9, bias=False)
        self.head.weight = self.words.weight
        self.token = nn.Parameter(torch.rand(4))
        self.register_buffer("table", torch.randn(4, 4))
        self.norm = nn.LayerNorm(4, elementwise_affine=False)
        nn.init.zeros_(self.first.bias)

    def forward(self, i: Tensor) -> Tensor:
        x = self.words(i) + self.places(torch.arange(i.shape[1])) + self.token
        return self.head(self.norm(nn.functional.gelu(self.first(x)) @ self.table))


def _seeded(kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return kind()


def _written(native: nn.Module, x: Tensor, path: Path, **settings: Any) -> Path:
    """The module as TorchScript's exporter writes it."""
    buffer: Any = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            native.eval(), (x,), buffer, dynamo=False, opset_version=17, input_names=["x"],
            dynamic_axes={"x": {0: "N"}}, training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False,
            **settings,
        )  # fmt: skip
    path.write_bytes(buffer.getvalue())
    return path


def _parameters(module: nn.Module) -> dict[str, torch.Size]:
    return {name: p.shape for name, p in module.named_parameters()}


def _same_gradients(module: nn.Module, native: nn.Module, x: Tensor) -> None:
    """In float64, within 1e-6 of each tensor's largest."""
    sides = []
    for one in (module, native):
        one.double().train()
        y = one(x.double() if x.is_floating_point() else x)
        (y * torch.arange(y.numel(), dtype=torch.float64).reshape(y.shape).sin()).sum().backward()
        sides.append({name: p.grad for name, p in one.named_parameters()})
    for name, wanted in sides[1].items():
        assert wanted is not None
        assert sides[0][name] is not None, name
        assert (sides[0][name] - wanted).abs().max() <= 1e-6 * wanted.abs().max() + 1e-9, name


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        pytest.param(Tokens, (3, 5, 4), id="tokens-and-buffers"),
        pytest.param(Items, (3, 4), id="list-of-parameters"),
        pytest.param(Twice, (3, 4), id="module-called-twice"),
    ],
)
def test_what_learns_is_what_learnt(kind: type[nn.Module], shape: tuple[int, ...], tmp_path: Path) -> None:
    """Names and shapes of learnables, outputs (1e-5), gradients, the way back, and the written source."""
    native, x = _seeded(kind), torch.randn(shape, generator=torch.Generator().manual_seed(1))
    model = netferry.load(_written(native, x, tmp_path / "net.onnx"))
    module = model.to_torch().eval()
    assert _parameters(module) == _parameters(native)
    api.export(model, tmp_path / "source", to="torch-source")
    assert _parameters(read_source(tmp_path / "source")) == _parameters(native)
    with torch.no_grad():
        torch.testing.assert_close(module(x), native(x), rtol=1e-5, atol=1e-6)
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.rand_like(parameter))
        wanted = module(x)
    assert model.update_from(module)
    torch.testing.assert_close(torch.from_numpy(by_onnxruntime(model, x.numpy())[0]), wanted, rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        for name, parameter in native.named_parameters():
            parameter.copy_(module.get_parameter(name))
    _same_gradients(module, native, x)


def test_a_module_called_twice_is_one_module(tmp_path: Path) -> None:
    """Also after .double(), which gives each module buffers of its own: both calls move the same statistics."""
    native, x = _seeded(Twice), torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    module = netferry.load(_written(native, x, tmp_path / "net.onnx")).to_torch().double().train()
    assert set(module.state_dict()) == set(native.state_dict())
    module(x.double())
    native.double().train()(x.double())
    torch.testing.assert_close(module.state_dict(), native.state_dict())


def test_attention_keeps_its_names(tmp_path: Path) -> None:
    """``in_proj`` and ``out_proj`` lie inside the attention; a norm without a bias has none in the source either."""
    native, x = _seeded(Attends), torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(1))
    model = netferry.load(_written(native, x, tmp_path / "net.onnx"))
    names = {"block.attn.in_proj.weight", "block.attn.in_proj.bias", "norm.weight"}
    names |= {"block.attn.out_proj.weight", "block.attn.out_proj.bias"}
    assert set(_parameters(model.to_torch())) == names
    api.export(model, tmp_path / "source", to="torch-source")
    source = read_source(tmp_path / "source")
    assert set(_parameters(source)) == names
    assert set(source.state_dict()) == names


def test_what_is_zero_or_computed_from_parameters_stays() -> None:
    """torch's exporter may fold constants, but not parameters: not a zero bias, not an embedding of positions."""
    native, i = _seeded(Zeros), torch.tensor([[1, 4, 2, 2, 0], [8, 0, 3, 1, 7]])
    model = netferry.load(native, example_inputs=i)
    module = model.to_torch().eval()
    assert _parameters(module) == _parameters(native)
    with torch.no_grad():
        torch.testing.assert_close(module(i), native(i), rtol=1e-5, atol=1e-6)
    _same_gradients(module, native, i)


def test_projections_are_refused() -> None:
    """torch's exporter leaves an LSTM's projection out without a word."""
    native = nn.LSTM(4, 6, proj_size=3, batch_first=True)
    with pytest.raises(UnsupportedError, match="proj_size"):
        netferry.load(native, example_inputs=torch.zeros(2, 5, 4))
