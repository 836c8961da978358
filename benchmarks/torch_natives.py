"""ResNet50, MobileNetV2 and DenseNet121 in plain torch classes: what a person would write by hand."""

from __future__ import annotations

import io
from typing import Any

import torch
from torch import Tensor, nn


def _normed(inside: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(inside, out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(out)]


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 beside a shortcut."""

    def __init__(self, inside: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_normed(inside, width, 1), nn.ReLU(), *_normed(width, width, 3, stride), nn.ReLU(),
            *_normed(width, 4 * width, 1),
        )  # fmt: skip
        same = stride == 1 and inside == 4 * width
        self.shortcut = nn.Identity() if same else nn.Sequential(*_normed(inside, 4 * width, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


def resnet50(classes: int = 1000) -> nn.Module:
    """He et al. 2015, with the stride in the 3x3 convolution."""
    layers: list[nn.Module] = [*_normed(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    inside = 64
    for width, count, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for i in range(count):
            layers.append(Bottleneck(inside, width, stride if i == 0 else 1))
            inside = 4 * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inside, classes))


class Inverted(nn.Module):
    """Widen, depthwise, narrow; added to the input where the shape stays."""

    def __init__(self, inside: int, out: int, stride: int, widen: int) -> None:
        super().__init__()
        wide = inside * widen
        first = [*_normed(inside, wide, 1), nn.ReLU6()] if widen != 1 else []
        self.body = nn.Sequential(*first, *_normed(wide, wide, 3, stride, wide), nn.ReLU6(), *_normed(wide, out, 1))
        self.adds = stride == 1 and inside == out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.adds else self.body(x)


def mobilenet_v2(classes: int = 1000) -> nn.Module:
    """Sandler et al. 2018."""
    layers: list[nn.Module] = [*_normed(3, 32, 3, 2), nn.ReLU6()]
    inside = 32
    plan = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for widen, out, count, stride in plan:
        for i in range(count):
            layers.append(Inverted(inside, out, stride if i == 0 else 1, widen))
            inside = out
    layers += [*_normed(inside, 1280, 1), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(1280, classes))


class Dense(nn.Module):
    """A layer that appends its channels to its input's."""

    def __init__(self, inside: int, growth: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(inside), nn.ReLU(), *_normed(inside, 4 * growth, 1), nn.ReLU(),
            nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.body(x)], 1)


def densenet(counts: tuple[int, ...], classes: int = 1000) -> nn.Module:
    """Huang et al. 2016."""
    layers: list[nn.Module] = [*_normed(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    inside = 64
    for i, count in enumerate(counts):
        for _ in range(count):
            layers.append(Dense(inside, 32))
            inside += 32
        if i < len(counts) - 1:
            layers += [
                nn.BatchNorm2d(inside),
                nn.ReLU(),
                nn.Conv2d(inside, inside // 2, 1, bias=False),
                nn.AvgPool2d(2),
            ]
            inside //= 2
    layers += [nn.BatchNorm2d(inside), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(inside, classes))


def densenet121(classes: int = 1000) -> nn.Module:
    """DenseNet of 121 layers."""
    return densenet((6, 12, 24, 16), classes)


def densenet201(classes: int = 1000) -> nn.Module:
    """DenseNet of 201 layers."""
    return densenet((6, 12, 48, 32), classes)


NATIVES = {"resnet50": resnet50, "mobilenet_v2": mobilenet_v2, "densenet121": densenet121}


class Recurrent(nn.Module):
    """Two LSTM layers over 64 features, a head over the last step."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.first, self.second = nn.LSTM(64, 256, batch_first=True), nn.LSTM(256, 256, batch_first=True)
        self.head = nn.Linear(256, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.first(x)[0])[0][:, -1])


class Attention(nn.Module):
    """Self-attention of 4 heads, written out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (one(x).unflatten(-1, (4, -1)).transpose(1, 2) for one in (self.query, self.key, self.value))
        mixed = torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, -1) @ v
        return self.out(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """A transformer's layer, norms first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.attention, self.norm2 = nn.LayerNorm(width), Attention(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """Four layers over 64 features, a head over the mean."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.stem, self.blocks = nn.Linear(64, 256), nn.Sequential(*(Block(256) for _ in range(4)))
        self.norm, self.head = nn.LayerNorm(256), nn.Linear(256, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.stem(x))).mean(1))


SEQUENCES = {"lstm": Recurrent, "transformer": Transformer}
"""networks of batch x steps x 64"""


def as_onnx(module: nn.Module, size: int = 64) -> bytes:
    """The module as ONNX by torch's TorchScript exporter, batch norms kept."""
    import warnings

    buffer: Any = io.BytesIO()
    trains = module.training
    module.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, (torch.zeros(1, 3, size, size),), buffer, dynamo=False, opset_version=17, input_names=["x"],
            output_names=["y"], dynamic_axes={"x": {0: "N"}}, training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
        )  # fmt: skip
    module.train(trains)
    return buffer.getvalue()
