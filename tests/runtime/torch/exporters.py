"""Small networks with what exporters of torch treat in ways of their own, and what is asked of them."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from netferry.schemas.model import Model
from tests.runtime.torch.graphs import by_onnxruntime


class Tokens(nn.Module):
    """Parameters and buffers that functions read, a scalar among them; a buffer that is called like a bias."""

    pe: Tensor
    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.randn(1, 1, 4))
        self.pos_embed = nn.Parameter(torch.randn(1, 6, 4))
        self.gamma = nn.Parameter(torch.rand(4))
        self.ls1, self.ls2 = nn.Parameter(torch.full((4,), 0.5)), nn.Parameter(torch.full((4,), 0.5))
        self.logit_scale = nn.Parameter(torch.tensor(1.3))
        self.register_buffer("pe", torch.randn(1, 6, 4))
        self.register_buffer("mean", torch.randn(4))
        self.inner = Masked()

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x - self.mean], 1) + self.pos_embed + self.pe
        return self.inner(x * self.ls1 * self.gamma * self.ls2 * self.logit_scale.exp())


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


class Loose(nn.Module):
    """A cell, a head tied to the embedding with a bias of the network's own, and a parameter called like an input."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.cell = nn.Embedding(9, 4), nn.LSTMCell(4, 4)
        self.head = nn.Linear(4, 9, bias=False)
        self.head.weight = self.embedding.weight
        self.bias, self.scale = nn.Parameter(torch.rand(9)), nn.Parameter(torch.rand(4))

    def forward(self, i: Tensor, scale: Tensor) -> Tensor:
        h, c = self.cell(self.embedding(i).mean(1), (scale, scale * self.scale))
        return self.head(h * c) + self.bias


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
        self.norm, self.drop = nn.LayerNorm(4, elementwise_affine=False), nn.Dropout(0.25)
        nn.init.zeros_(self.first.bias)

    def forward(self, i: Tensor) -> Tensor:
        x = self.words(i) + self.places(torch.arange(i.shape[1])) + self.token
        return self.head(self.drop(self.norm(nn.functional.gelu(self.first(x)) @ self.table)))


class Layers(nn.Module):
    """Two layers both ways, of which the last states and the sequence are read; learnt first states."""

    def __init__(self, kind: Any = nn.LSTM, *, both: bool = True, starts: bool = False) -> None:
        super().__init__()
        self.r = kind(3, 4, 2, batch_first=True, bidirectional=both)
        self.start = nn.Parameter(torch.rand(4 if both else 2, 1, 4)) if starts else None

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        if self.start is None:
            y, last = self.r(x)
        else:
            first = self.start.expand(-1, x.shape[0], -1).contiguous()
            y, last = self.r(x, (first, first) if isinstance(self.r, nn.LSTM) else first)
        hidden = last[0] if isinstance(last, tuple) else last
        return y.amax(1), torch.cat([hidden[-2], hidden[-1]], 1), hidden[0]


class Table(nn.Module):
    """Parameters of the network itself in products and in Gather: no nn.Linear, no nn.Embedding."""

    index: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.w, self.table = nn.Parameter(torch.rand(4, 3)), nn.Parameter(torch.rand(5, 3))
        self.register_buffer("index", torch.tensor([4, 0, 0, 2]))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.w + self.table[self.index].sum(0)


class Grouped(nn.Module):
    """Group norms, one of them called twice and one without weights, and a norm that has only statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.plain = (
            nn.Conv2d(2, 6, 3),
            nn.GroupNorm(3, 6, eps=1e-3),
            nn.GroupNorm(2, 6, affine=False),
        )
        self.last, self.bare = nn.GroupNorm(1, 6), nn.BatchNorm2d(6, affine=False)
        for one in (self.norm, self.last):
            nn.init.uniform_(one.weight)
            nn.init.uniform_(one.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.bare(self.last(self.plain(self.norm(torch.tanh(self.norm(self.conv(x)))))))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(9, 4), nn.Linear(4, 9, bias=False)
        self.head.weight = self.words.weight

    def forward(self, i: Tensor) -> Tensor:
        return self.head(torch.tanh(self.words(i)))


def seeded(kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return kind()


def written(native: nn.Module, x: Tensor, path: Path, *, fold: bool = False, opset: int = 17) -> Path:
    """The module as TorchScript's exporter writes it."""
    buffer: Any = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            native.eval(), (x,), buffer, dynamo=False, opset_version=opset, input_names=["x"],
            dynamic_axes={"x": {0: "N"}}, training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=fold,
        )  # fmt: skip
    path.write_bytes(buffer.getvalue())
    return path


def parameters_of(module: nn.Module) -> dict[str, torch.Size]:
    return {name: p.shape for name, p in module.named_parameters()}


def same_gradients(
    module: nn.Module, native: nn.Module, *inputs: Tensor, renamed: dict[str, str] | None = None
) -> None:
    """In float64, within 1e-6 of each tensor's largest; ``renamed``: names of the module by the native's."""
    sides = []
    for one in (module, native):
        one.double().train()
        y = one(*(x.double() if x.is_floating_point() else x for x in inputs))
        (y * torch.arange(y.numel(), dtype=torch.float64).reshape(y.shape).sin()).sum().backward()
        sides.append({name: p.grad for name, p in one.named_parameters()})
    for name, wanted in sides[1].items():
        assert wanted is not None
        found = sides[0][(renamed or {}).get(name, name)]
        assert found is not None, name
        assert (found - wanted).abs().max() <= 1e-6 * wanted.abs().max() + 1e-9, name


def comes_back(model: Model, module: nn.Module, native: nn.Module, x: Tensor) -> None:
    """Outputs are the native's (1e-5); with other parameters, written back, onnxruntime gives the module's."""
    with torch.no_grad():
        torch.testing.assert_close(module(x), native(x), rtol=1e-5, atol=1e-6)
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.rand_like(parameter))
        wanted = module(x)
    assert model.update_from(module)
    outputs = wanted if isinstance(wanted, tuple) else (wanted,)
    for got, want in zip(by_onnxruntime(model, x.numpy()), outputs, strict=True):
        torch.testing.assert_close(torch.from_numpy(got), want, rtol=1e-5, atol=1e-6)
