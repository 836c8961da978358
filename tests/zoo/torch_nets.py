"""The zoo's networks once more, written plainly with torch's functions from their papers: the judge of our builds.

Each function takes the parameters by name (as arrays) and a batch, channels first, and returns the scores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

Weights = Mapping[str, np.ndarray]


class Net:
    """Looks parameters up by name."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights

    def get(self, name: str) -> Tensor:
        return torch.from_numpy(np.array(self.weights[name]))

    def maybe(self, name: str) -> Tensor | None:
        return self.get(name) if name in self.weights else None

    def conv(self, name: str, x: Tensor, stride: int = 1, pad: int = 0, groups: int = 1, dot: str = ".") -> Tensor:
        weight, bias = self.get(f"{name}{dot}weight"), self.maybe(f"{name}{dot}bias")
        return F.conv2d(x, weight, bias, stride, pad, groups=groups)

    def relu(self, *args: object, **settings: object) -> Tensor:
        return F.relu(self.conv(*args, **settings))  # type: ignore[arg-type]

    def fc(self, name: str, x: Tensor, dot: str = ".") -> Tensor:
        weight = self.get(f"{name}{dot}weight")
        if weight.shape[1] != x.shape[1]:
            weight = weight.T
        return F.linear(x, weight, self.get(f"{name}{dot}bias"))


def ceil_pool(x: Tensor, kernel: int, stride: int, pad: int = 0) -> Tensor:
    return F.max_pool2d(x, kernel, stride, pad, ceil_mode=True)


def lrn(x: Tensor) -> Tensor:
    return F.local_response_norm(x, 5, 1e-4, 0.75, 1.0)


def squeezenet(w: Weights, x: Tensor) -> Tensor:
    n = Net(w)
    x = ceil_pool(n.relu("conv1", x, 2), 3, 2)
    for i in range(2, 10):
        s = n.relu(f"fire{i}/squeeze1x1", x)
        x = torch.cat([n.relu(f"fire{i}/expand1x1", s), n.relu(f"fire{i}/expand3x3", s, 1, 1)], 1)
        if i in (3, 5):
            x = ceil_pool(x, 3, 2)
    return n.relu("conv10", x).mean((2, 3)).softmax(1)


def alexnet(w: Weights, x: Tensor) -> Tensor:
    n = Net(w)
    x = ceil_pool(lrn(n.relu("conv1", x, 4)), 3, 2)
    x = ceil_pool(lrn(n.relu("conv2", x, 1, 2, 2)), 3, 2)
    x = n.relu("conv3", x, 1, 1)
    x = n.relu("conv4", x, 1, 1, 2)
    x = ceil_pool(n.relu("conv5", x, 1, 1, 2), 3, 2).flatten(1)
    x = F.relu(n.fc("fc7", F.relu(n.fc("fc6", x))))
    return n.fc("fc8", x).softmax(1)


def googlenet(w: Weights, x: Tensor) -> Tensor:
    n = Net(w)
    x = lrn(ceil_pool(n.relu("conv1/7x7_s2", x, 2, 3), 3, 2))
    x = ceil_pool(lrn(n.relu("conv2/3x3", n.relu("conv2/3x3_reduce", x), 1, 1)), 3, 2)
    for key in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"):
        p = f"inception_{key}/"
        parts = [
            n.relu(f"{p}1x1", x),
            n.relu(f"{p}3x3", n.relu(f"{p}3x3_reduce", x), 1, 1),
            n.relu(f"{p}5x5", n.relu(f"{p}5x5_reduce", x), 1, 2),
            n.relu(f"{p}pool_proj", F.max_pool2d(x, 3, 1, 1)),
        ]
        x = torch.cat(parts, 1)
        if key in ("3b", "4e"):
            x = ceil_pool(x, 3, 2)
    return n.fc("loss3/classifier", x.mean((2, 3))).softmax(1)


def vgg(w: Weights, x: Tensor) -> Tensor:
    n = Net(w)
    for stage in range(1, 6):
        for i in range(1, 5):
            if f"conv{stage}_{i}.weight" in w:
                x = n.relu(f"conv{stage}_{i}", x, 1, 1)
        x = F.max_pool2d(x, 2, 2)
    x = F.relu(n.fc("fc7", F.relu(n.fc("fc6", x.flatten(1)))))
    return n.fc("fc8", x).softmax(1)


def resnet101(w: Weights, x: Tensor) -> Tensor:
    n = Net(w)

    def unit(name: str, x: Tensor, stride: int = 1, pad: int = 0) -> Tensor:
        key = "_conv1" if name == "conv1" else name[3:]
        mean, variance = n.get(f"bn{key}.running_mean"), n.get(f"bn{key}.running_var")
        scale, bias = n.get(f"scale{key}.weight").flatten(), n.get(f"scale{key}.bias").flatten()
        return F.batch_norm(n.conv(name, x, stride, pad), mean, variance, scale, bias, eps=1e-5)

    x = ceil_pool(F.relu(unit("conv1", x, 2, 3)), 3, 2)
    for stage, count in ((2, 3), (3, 4), (4, 23), (5, 3)):
        for i in range(count):
            letter = "abc"[i] if stage in (2, 5) else ("a" if i == 0 else f"b{i}")
            p, stride = f"res{stage}{letter}_branch", 2 if i == 0 and stage > 2 else 1
            y = F.relu(unit(f"{p}2a", x, stride))
            y = unit(f"{p}2c", F.relu(unit(f"{p}2b", y, 1, 1)))
            x = F.relu(y + (unit(f"{p}1", x, stride) if i == 0 else x))
    return n.fc("fc1000", x.mean((2, 3))).softmax(1)


def _batch_norm(n: Net, name: str, x: Tensor, dot: str = "_", eps: float = 1e-5) -> Tensor:
    mean, variance = n.get(f"{name}{dot}running_mean"), n.get(f"{name}{dot}running_var")
    return F.batch_norm(x, mean, variance, n.maybe(f"{name}{dot}weight"), n.get(f"{name}{dot}bias"), eps=eps)


def resnet18(w: Weights, x: Tensor) -> Tensor:
    n = Net(w)
    x = F.max_pool2d(F.relu(_batch_norm(n, "bn1", n.conv("conv1", x, 2, 3, dot="_"))), 3, 2, 1)
    for stage in range(1, 5):
        for i in range(2):
            p, stride = f"layer{stage}_{i}", 2 if stage > 1 and i == 0 else 1
            y = F.relu(_batch_norm(n, f"{p}_bn1", n.conv(f"{p}_conv1", x, stride, 1, dot="_")))
            y = _batch_norm(n, f"{p}_bn2", n.conv(f"{p}_conv2", y, 1, 1, dot="_"))
            if stride == 2:
                x = _batch_norm(n, f"{p}_downsample_1", n.conv(f"{p}_downsample_0", x, 2, dot="_"))
            x = F.relu(x + y)
    return n.fc("fc", x.mean((2, 3)), dot="_")


def shufflenet(w: Weights, x: Tensor) -> Tensor:
    n = Net(w)
    x = F.max_pool2d(F.relu(_batch_norm(n, "bn1", n.conv("conv1", x, 2, 1, dot="_"))), 3, 2, 1)
    for stage, count in ((2, 4), (3, 8), (4, 4)):
        for i in range(count):
            p, stride = f"stage{stage}_{i}", 2 if i == 0 else 1
            y = n.conv(f"{p}_gconv1", x, groups=1 if (stage, i) == (2, 0) else 4, dot="_")
            y = F.channel_shuffle(F.relu(_batch_norm(n, f"{p}_bn1", y)), 4)
            y = _batch_norm(n, f"{p}_bn2", n.conv(f"{p}_depthwise", y, stride, 1, y.shape[1], dot="_"))
            y = _batch_norm(n, f"{p}_bn3", n.conv(f"{p}_gconv2", y, groups=4, dot="_"))
            side = F.avg_pool2d(x, 3, 2, 1, count_include_pad=False) if stride == 2 else x
            x = F.relu(torch.cat([side, y], 1) if stride == 2 else side + y)
    return n.fc("pred", x.mean((2, 3)), dot="_").softmax(1)


def _dark(n: Net, i: int, x: Tensor, stride: int = 1) -> Tensor:
    weight = n.get(f"layer_{i}.weights")
    y = F.conv2d(x, weight, None, stride, weight.shape[-1] // 2)
    mean, variance = n.get(f"layer_{i}.rolling_mean"), n.get(f"layer_{i}.rolling_variance")
    scale, bias = n.get(f"layer_{i}.scales"), n.get(f"layer_{i}.biases")
    return F.leaky_relu(F.batch_norm(y, mean, variance, scale, bias, eps=1e-12), 0.1)


def _dark_head(n: Net, i: int, x: Tensor) -> Tensor:
    return F.conv2d(x, n.get(f"layer_{i}.weights"), n.get(f"layer_{i}.biases"))


def darknet19(w: Weights, x: Tensor) -> Tensor:
    n, i = Net(w), 0
    for convolutions, pooled in ((1, True), (1, True), (3, True), (3, True), (5, True), (5, False)):
        for _ in range(convolutions):
            x, i = _dark(n, i, x), i + 1
        if pooled:
            x, i = F.max_pool2d(x, 2, 2), i + 1
    return _dark_head(n, i, x).mean((2, 3), keepdim=True).softmax(1)


def darknet53(w: Weights, x: Tensor) -> Tensor:
    n = Net(w)
    x, i = _dark(n, 0, x), 1
    for pairs in (1, 2, 8, 8, 4):
        x, i = _dark(n, i, x, 2), i + 1
        for _ in range(pairs):
            x, i = x + _dark(n, i + 1, _dark(n, i, x)), i + 3
    return _dark_head(n, i + 1, x.mean((2, 3), keepdim=True)).softmax(1)


def _same(x: Tensor, stride: int) -> Tensor:
    """TensorFlow's SAME padding for a kernel of 3: the odd pixel goes behind."""
    pads = [max((-(-d // stride) - 1) * stride + 3 - d, 0) for d in (x.shape[3], x.shape[2])]
    return F.pad(x, [pads[0] // 2, pads[0] - pads[0] // 2, pads[1] // 2, pads[1] - pads[1] // 2])


def yamnet(w: Weights, x: Tensor) -> Tensor:
    n = Net(w)

    def unit(name: str, x: Tensor, stride: int, groups: int, pad: bool = True) -> Tensor:
        y = n.conv(name, _same(x, stride) if pad else x, stride, 0, groups)
        return F.relu(_batch_norm(n, f"{name}_bn", y, ".", 1e-4))

    x = unit("layer1_conv", x[:, None], 2, 1)
    for i, stride in enumerate((1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1), 2):
        x = unit(f"layer{i}_depthwise_conv", x, stride, x.shape[1])
        x = unit(f"layer{i}_pointwise_conv", x, 1, 1, pad=False)
    return n.fc("logits", x.mean((2, 3))).sigmoid()


def vggish(w: Weights, x: Tensor) -> Tensor:
    n = Net(w)
    x = x.permute(0, 3, 1, 2)
    for names in (("conv1",), ("conv2",), ("conv3_1", "conv3_2"), ("conv4_1", "conv4_2")):
        for name in names:
            x = n.relu(name, x, 1, 1)
        x = F.max_pool2d(x, 2, 2)
    x = x.flatten(1)  # the reader has put the rows of fc1_1 into this order
    for name in ("fc1_1", "fc1_2", "fc2"):  # Keras keeps these matrices input by output
        x = x @ n.get(f"{name}.weight") + n.get(f"{name}.bias")
        x = x if name == "fc2" else F.relu(x)
    return x


NETS: dict[str, Callable[[Weights, Tensor], Tensor]] = {
    "squeezenet": squeezenet,
    "alexnet": alexnet,
    "googlenet": googlenet,
    "googlenet-places365": googlenet,
    "vgg16": vgg,
    "vgg19": vgg,
    "resnet101": resnet101,
    "resnet18": resnet18,
    "shufflenet": shufflenet,
    "darknet19": darknet19,
    "darknet53": darknet53,
    "yamnet": yamnet,
    "vggish": vggish,
}
