"""Graphs as exporters write them, for the benchmark and the tests of the passes: torch (both exporters) and tf2onnx.

    python benchmarks/simplifier_graphs.py FOLDER [--tensorflow PYTHON]

Weights are seeded, batch statistics random; the batch is dynamic. PYTHON is an interpreter that has tensorflow, keras
and tf2onnx.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

_MOBILENET = """
import sys, numpy as np, keras, tensorflow as tf, tf2onnx, tf2onnx.optimizer
keras.utils.set_random_seed(0)
for name, make in [("small", keras.applications.MobileNetV3Small), ("large", keras.applications.MobileNetV3Large)]:
    model = make(weights=None, input_shape=(96, 96, 3), include_preprocessing=True)
    rng = np.random.default_rng(0)
    for w in model.weights:
        if "moving_variance" in w.path: w.assign(rng.uniform(0.5, 1.5, w.shape))
        elif w.path.endswith(("moving_mean", "beta", "bias")): w.assign(rng.normal(size=w.shape) * 0.1)
        elif w.path.endswith("gamma"): w.assign(rng.uniform(0.5, 1.5, w.shape))
    f = tf.function(model, input_signature=[tf.TensorSpec([None, 96, 96, 3], tf.float32, name="x")])
    for kind in ("mobilenetv3", "raw-mobilenetv3"):
        cleaned = tf2onnx.optimizer.optimize_graph
        if kind.startswith("raw"):  # as tf2onnx leaves a graph where its own optimizer gives up
            tf2onnx.optimizer.optimize_graph = lambda g, *a, **k: g
        path = f"{sys.argv[1]}/tf2onnx-{kind}-{name}.onnx"
        tf2onnx.convert.from_function(f, f.input_signature, opset=17, output_path=path)
        tf2onnx.optimizer.optimize_graph = cleaned
"""


def _norm(channels: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels)
    with torch.no_grad():
        for tensor in (norm.weight, norm.running_var):
            assert tensor is not None
            tensor.uniform_(0.5, 1.5)
        for tensor in (norm.bias, norm.running_mean):
            assert tensor is not None
            tensor.normal_(0, 0.1)
    return norm


class _Residual(nn.Module):
    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inside, outside, 3, stride, 1, bias=False),
            _norm(outside),
            nn.ReLU(),
            nn.Conv2d(outside, outside, 3, 1, 1, bias=False),
            _norm(outside),
        )
        same = stride == 1 and inside == outside
        self.side = (
            nn.Identity() if same else nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), _norm(outside))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(x) + self.side(x))


class _Shuffle(nn.Module):
    """ShuffleNet V2's unit (Ma et al. 2018): split, transform one half, concatenate, shuffle the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.body = nn.Sequential(
            nn.Conv2d(half, half, 1, bias=False),
            _norm(half),
            nn.ReLU(),
            nn.Conv2d(half, half, 3, 1, 1, groups=half, bias=False),
            _norm(half),
            nn.Conv2d(half, half, 1, bias=False),
            _norm(half),
            nn.ReLU(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = x.chunk(2, 1)
        y = torch.cat((a, self.body(b)), 1)
        n, c, h, w = y.shape
        return y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


class _Attention(nn.Module):
    """A block of a vision transformer, its attention written out as timm writes it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, t, c = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(n, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        weights = (q * (c // self.heads) ** -0.5 @ k.transpose(-2, -1)).softmax(-1)
        x = x + self.out((weights @ v).transpose(1, 2).reshape(n, t, c))
        return x + self.down(nn.functional.gelu(self.up(self.norm2(x))))


class _Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 48, 8, 8)
        self.token = nn.Parameter(torch.randn(1, 1, 48))
        self.position = nn.Parameter(torch.randn(1, 17, 48) * 0.1)
        self.blocks = nn.Sequential(*(_Attention(48, 4) for _ in range(3)))
        self.norm, self.head = nn.LayerNorm(48), nn.Linear(48, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.token.expand(x.shape[0], -1, -1), x), 1) + self.position
        return self.head(self.norm(self.blocks(x))[:, 0])


def residual() -> nn.Module:
    """A small ResNet."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 7, 2, 3, bias=False),
        _norm(16),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
        _Residual(16, 16, 1),
        _Residual(16, 32, 2),
        _Residual(32, 32, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(32, 10),
    )


def shuffle() -> nn.Module:
    """A small ShuffleNet V2."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1, bias=False),
        _norm(16),
        nn.ReLU(),
        *(_Shuffle(16) for _ in range(3)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
    )


def attention() -> nn.Module:
    """A small vision transformer."""
    return _Transformer()


def encoder() -> nn.Module:
    """Torch's own transformer encoder, on pictures cut into columns."""

    class Columns(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer = nn.TransformerEncoderLayer(96, 4, 128, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            self.head = nn.Linear(96, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.encoder(x.permute(0, 3, 1, 2).flatten(2)).mean(1))

    return Columns()


NETS: dict[str, Callable[[], nn.Module]] = {
    "residual": residual,
    "shuffle": shuffle,
    "attention": attention,
    "encoder": encoder,
}


def export(name: str, folder: Path, *, dynamo: bool) -> Path:
    """Export one of :data:`NETS` by torch.onnx; returns the file."""
    torch.manual_seed(0)
    net = NETS[name]().eval()
    path = folder / f"torch-{'dynamo' if dynamo else 'script'}-{name}.onnx"
    picture = torch.randn(2, 3, 32, 32)
    options: dict[str, Any] = (
        {"dynamic_shapes": ({0: torch.export.Dim("batch")},), "dynamo": True, "verbose": False, "external_data": False}
        if dynamo
        else {"dynamic_axes": {"x": {0: "batch"}, "y": {0: "batch"}}, "dynamo": False, "opset_version": 17}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (picture,), str(path), input_names=["x"], output_names=["y"], **options)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tensorflow", help="an interpreter with tensorflow, keras and tf2onnx")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    for name in NETS:
        for dynamo in (False, True):
            print(export(name, given.folder, dynamo=dynamo))
    if given.tensorflow:
        quiet = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
        subprocess.run([given.tensorflow, "-c", _MOBILENET, str(given.folder)], check=True, env=quiet)


if __name__ == "__main__":
    main()
