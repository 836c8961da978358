"""Random networks, judged by OpenCV's Caffe reader: a typed error where OpenCV refuses, else its numbers."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from netferry.errors import NetferryError
from tests.converters.caffe import running
from tests.converters.caffe.caffemodel_writer import caffemodel
from tests.converters.caffe.single import outputs, seeded

pytest.importorskip("cv2", reason="needs OpenCV, the judge")


class Net:
    """Layers one after the other, with the channels that they make and the blobs that they need."""

    def __init__(self, chance: random.Random) -> None:
        self.chance, self.channels, self.top = chance, 4, "x"
        self.layers: list[str] = []
        self.blobs: dict[str, list[np.ndarray]] = {}

    def add(self, kind: str, settings: str = "", *blobs: np.ndarray, in_place: bool = False, bottoms: str = "") -> None:
        """Append a layer; white space, comments and separators vary."""
        name = f"l{len(self.layers)}"
        top = self.top if in_place and self.top != "x" else name
        space, mark, end = self.chance.choice((" ", "\n\t", " # a { comment\n")), self.chance.choice(("", ":")), ";"
        below = bottoms or f'bottom: "{self.top}"'
        head = f"layer{mark}{space}{{{space}name: \"{name}\"{end} type: '{kind}'"
        self.layers.append(f'{head} {below}{space}top: "{top}" {settings} }}\n')
        if blobs:
            self.blobs[name] = list(blobs)
        self.top = top

    def values(self, *shape: int) -> np.ndarray:
        """Weights that keep the numbers' size."""
        drawn = seeded(*shape, seed=len(self.layers))
        return drawn / np.sqrt(max(np.prod(shape[1:]), 1)).astype(np.float32)


def convolution(net: Net) -> None:
    c = net.chance
    out, group, kernel, dilation = c.choice((2, 4, 6)), 1, (c.randint(1, 3), c.randint(1, 3)), 1
    if net.channels % 2 == 0 and c.random() < 0.4:
        group = 2
    if c.random() < 0.3:
        dilation = 2
    bias = c.random() < 0.7
    settings = (
        f"num_output: {out} kernel_h: {kernel[0]} kernel_w: {kernel[1]} stride: {c.randint(1, 2)} "
        f"pad: {c.randint(0, 2)} group: {group} dilation: {dilation} bias_term: {str(bias).lower()}"
    )
    weights = net.values(out, net.channels // group, *kernel)
    net.add("Convolution", f"convolution_param {{ {settings} }}", weights, *([net.values(out)] if bias else []))
    net.channels = out


def deconvolution(net: Net) -> None:
    c = net.chance
    out, kernel = c.choice((2, 4)), c.randint(2, 4)
    settings = f"num_output: {out}, kernel_size: {kernel}, stride: {c.randint(1, 2)}, pad: {c.randint(0, 1)}"
    net.add(
        "Deconvolution",
        f"convolution_param < {settings} >",
        net.values(net.channels, out, kernel, kernel),
        net.values(out),
    )
    net.channels = out


def pooling(net: Net) -> None:
    """Steps no longer than windows: beyond them Caffe, and with it netferry, has windows of nothing, OpenCV not."""
    c = net.chance
    kernel = c.randint(2, 3)
    settings = f"kernel_size: {kernel} stride: {c.randint(1, kernel)} pad: {c.randint(0, kernel - 1)}"
    net.add("Pooling", f"pooling_param {{ pool: {c.choice(('MAX', 'AVE'))} {settings} }}")


def pointwise(net: Net) -> None:
    c = net.chance
    kind, settings = c.choice(
        (
            ("ReLU", ""), ("ReLU", "relu_param { negative_slope: 0.125 }"), ("TanH", ""), ("Sigmoid", ""),
            ("ELU", "elu_param { alpha: 0.5 }"), ("Power", "power_param { scale: -2 shift: 3 power: 2 }"),
            ("BNLL", ""), ("AbsVal", ""), ("Dropout", "dropout_param { dropout_ratio: 0.25 }"),
        )
    )  # fmt: skip
    net.add(kind, settings, in_place=c.random() < 0.5)


def normalization(net: Net) -> None:
    c, n = net.chance, net.channels
    kind = c.choice(("LRN", "BatchNorm", "Scale", "PReLU", "Softmax"))
    if kind == "LRN":
        net.add(kind, f"lrn_param {{ local_size: {c.choice((3, 5))} alpha: 0.5 beta: 0.75 }}")
    elif kind == "BatchNorm":
        net.add(
            kind, "batch_norm_param { eps: 1e-3 }", net.values(n), np.abs(net.values(n)) + 1, np.full(1, 2, np.float32)
        )
    elif kind == "Scale":
        net.add(kind, "scale_param { bias_term: true }", net.values(n), net.values(n), in_place=c.random() < 0.5)
    elif kind == "PReLU":
        net.add(kind, "", net.values(n))
    else:
        net.add(kind)


def merging(net: Net) -> None:
    before = net.top
    net.add("ReLU")
    both = f'bottom: "{before}" bottom: "{net.top}"'
    if net.chance.random() < 0.5:
        net.add("Concat", "concat_param { axis: 1 }", bottoms=both)
        net.channels *= 2
    else:
        operation = net.chance.choice(("SUM coeff: 1 coeff: -2", "PROD", "MAX"))
        net.add("Eltwise", f"eltwise_param {{ operation: {operation} }}", bottoms=both)


PARTS = (convolution, convolution, deconvolution, pooling, pointwise, pointwise, normalization, merging)


@pytest.mark.parametrize("seed", range(24))
def test_random_networks(tmp_path: Path, seed: int) -> None:
    import cv2

    net = Net(random.Random(seed))
    for _ in range(net.chance.randint(2, 6)):
        net.chance.choice(PARTS)(net)
    if net.chance.random() < 0.4:
        net.add("Pooling", "pooling_param { pool: AVE global_pooling: true }")
        net.add("InnerProduct", "inner_product_param { num_output: 3 }", net.values(3, net.channels), net.values(3))
    text, feeds = "".join(net.layers), {"x": seeded(2, 4, 13, 15, seed=seed)}
    stored = caffemodel({name: ("", blobs) for name, blobs in net.blobs.items()})

    def judged() -> np.ndarray:  # by the layer's name: OpenCV does not see what is changed in place
        return running.opencv(tmp_path, running.declare(feeds) + text, feeds, f"l{len(net.layers) - 1}", stored)

    try:
        got = outputs(tmp_path, text, feeds, net.blobs or None)
    except NetferryError:
        with pytest.raises(cv2.error):
            judged()
        return
    wanted = judged()
    np.testing.assert_allclose(got[net.top].reshape(wanted.shape), wanted, rtol=1e-3, atol=1e-4)
