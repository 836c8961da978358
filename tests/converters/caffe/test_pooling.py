"""Pooling and the pyramid against loops written from Caffe's rule, for many sizes; hostile settings."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from netferry.converters.caffe.prototxt import parse
from netferry.converters.caffe.registry import Layer, NeedsFixedBatch
from netferry.errors import NetferryError
from tests.converters.caffe.single import convert, opencv, outputs, read_alone, seeded

LOWEST = np.finfo(np.float32).min


def reference(
    x: np.ndarray, method: str, kernel: tuple[int, int], stride: tuple[int, int], pad: tuple[int, int], up: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Pooling as pooling_layer.cpp's loops define it; (values, index of the maximum)."""
    sizes = x.shape[2:]
    counts: list[int] = []
    for axis in (0, 1):
        room = (sizes[axis] + 2 * pad[axis] - kernel[axis]) / stride[axis]
        counts.append((math.ceil(room) if up else math.floor(room)) + 1)
    if any(pad):
        for axis in (0, 1):
            if (counts[axis] - 1) * stride[axis] >= sizes[axis] + pad[axis]:
                counts[axis] -= 1
    y = np.zeros((*x.shape[:2], *counts), np.float32)
    mask = np.full(y.shape, -1.0, np.float32)
    for i, j in np.ndindex(*counts):
        h0, w0 = i * stride[0] - pad[0], j * stride[1] - pad[1]
        if method == "AVE":
            h1, w1 = min(h0 + kernel[0], sizes[0] + pad[0]), min(w0 + kernel[1], sizes[1] + pad[1])
        else:
            h1, w1 = min(h0 + kernel[0], sizes[0]), min(w0 + kernel[1], sizes[1])
        area = (h1 - h0) * (w1 - w0)
        h0, w0, h1, w1 = max(h0, 0), max(w0, 0), min(h1, sizes[0]), min(w1, sizes[1])
        window = x[:, :, h0:h1, w0:w1].reshape(*x.shape[:2], -1)
        if method == "AVE":
            y[:, :, i, j] = window.sum(-1) / area if area else np.nan
        elif method == "STOCHASTIC":
            sums = window.sum(-1)
            safe = np.where(sums > 0, sums, 1)
            y[:, :, i, j] = np.where(sums > 0, (window * window).sum(-1) / safe, 0)
        elif window.shape[-1] == 0:
            y[:, :, i, j] = LOWEST
        else:
            y[:, :, i, j] = window.max(-1)
            at = window.argmax(-1)
            mask[:, :, i, j] = (h0 + at // (w1 - w0)) * sizes[1] + w0 + at % (w1 - w0)
    return y, mask


def layer(method: str, kernel: tuple[int, int], stride: tuple[int, int], pad: tuple[int, int], up: bool = True) -> str:
    top = 'top: "mask"' if method == "MAX" else ""
    return f"""layer {{ name: "p" type: "Pooling" bottom: "x" top: "p" {top} pooling_param {{ pool: {method}
        kernel_h: {kernel[0]} kernel_w: {kernel[1]} stride_h: {stride[0]} stride_w: {stride[1]}
        pad_h: {pad[0]} pad_w: {pad[1]} {"" if up else "round_mode: FLOOR"} }} }}"""


def draws() -> list[object]:
    rng = np.random.default_rng(3)
    out: list[object] = []
    while len(out) < 120:
        method = ("MAX", "AVE", "STOCHASTIC")[len(out) % 3]
        size, kernel, stride, pad = (
            tuple(int(v) for v in rng.integers(low, high, 2)) for low, high in ((3, 12), (1, 6), (1, 6), (0, 4))
        )
        if method == "STOCHASTIC":
            pad = (0, 0)
        up = bool(rng.integers(0, 4))
        small = any(
            math.ceil((n + 2 * p - k) / s) + up < 1 for n, k, s, p in zip(size, kernel, stride, pad, strict=True)
        )
        if small or any(p >= k and p for p, k in zip(pad, kernel, strict=True)):
            continue
        name = f"{method}-{size}-k{kernel}-s{stride}-p{pad}-{'ceil' if up else 'floor'}".replace(" ", "")
        out.append(pytest.param(method, size, kernel, stride, pad, up, id=name))
    return out


@pytest.mark.parametrize(("method", "size", "kernel", "stride", "pad", "up"), draws())
def test_windows(
    tmp_path: Path,
    method: str,
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pad: tuple[int, int],
    up: bool,
) -> None:
    x = seeded(2, 3, *size)
    want, mask = reference(x, method, kernel, stride, pad, up)
    got = outputs(tmp_path, layer(method, kernel, stride, pad, up), {"x": x})
    np.testing.assert_allclose(got["p"], want, rtol=1e-4, atol=1e-5)
    if method == "MAX":
        np.testing.assert_array_equal(got["mask"], mask)


@pytest.mark.parametrize(
    ("size", "settings", "nodes"),
    [
        pytest.param((8, 8), "pool: MAX kernel_size: 2 stride: 2", ["MaxPool"], id="max"),
        pytest.param((9, 9), "pool: MAX kernel_size: 3 stride: 2 pad: 1", ["MaxPool"], id="max-pad"),
        pytest.param((9, 8), "pool: AVE kernel_size: 3 stride: 2", ["AveragePool"], id="average-overhang"),
        pytest.param((8, 8), "pool: AVE kernel_size: 3 stride: 1 pad: 1", ["AveragePool"], id="average-pad"),
        pytest.param((8, 8), "pool: AVE kernel_size: 3 stride: 2 pad: 1", ["Pad", "AveragePool"], id="both"),
        pytest.param((8, 6), "pool: AVE global_pooling: true", ["GlobalAveragePool"], id="global-average"),
        pytest.param((8, 6), "pool: 0 global_pooling: true", ["GlobalMaxPool"], id="global-max-by-number"),
    ],
)
def test_few_nodes_and_opencv_agrees(tmp_path: Path, size: tuple[int, int], settings: str, nodes: list[str]) -> None:
    text = f'layer {{ name: "p" type: "Pooling" bottom: "x" top: "p" pooling_param {{ {settings} }} }}'
    feeds = {"x": seeded(2, 3, *size)}
    model = convert(tmp_path, text, feeds)
    assert [n.op_type for n in model.graph] == nodes
    np.testing.assert_allclose(outputs(tmp_path, text, feeds)["p"], opencv(tmp_path, text, feeds), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(13, 11), (9, 9), (7, 16), (5, 4)], ids=str)
@pytest.mark.parametrize("method", ["MAX", "AVE"])
@pytest.mark.parametrize("height", [1, 2, 3])
def test_pyramid(tmp_path: Path, size: tuple[int, int], method: str, height: int) -> None:
    x = seeded(2, 3, *size)
    text = f"""layer {{ name: "s" type: "SPP" bottom: "x" top: "s"
        spp_param {{ pool: {method} pyramid_height: {height} }} }}"""
    parts: list[np.ndarray] = []
    for bins in (2**level for level in range(height)):
        k = tuple(-(-n // bins) for n in size)
        pad = tuple((a * bins - n + 1) // 2 for a, n in zip(k, size, strict=True))
        if any(p >= a for p, a in zip(pad, k, strict=True)):
            with pytest.raises(NetferryError, match="pyramid_height"):
                convert(tmp_path, text, {"x": x})
            return
        parts.append(reference(x, method, (k[0], k[1]), (k[0], k[1]), (pad[0], pad[1]))[0])
    want = parts[0] if height == 1 else np.concatenate([p.reshape(2, -1) for p in parts], 1)
    np.testing.assert_allclose(outputs(tmp_path, text, {"x": x})["s"], want, rtol=1e-4, atol=1e-5)


def test_mask_takes_the_first_of_equal_maxima(tmp_path: Path) -> None:
    x = np.zeros((2, 2, 6, 6), np.float32)
    got = outputs(tmp_path, layer("MAX", (2, 2), (2, 2), (0, 0)), {"x": x})
    np.testing.assert_array_equal(got["mask"], reference(x, "MAX", (2, 2), (2, 2), (0, 0))[1])


@pytest.mark.parametrize(
    ("shape", "settings"),
    [
        pytest.param((1, 1, 5, 5), "kernel_size: 3 stride: 0", id="no-stride"),
        pytest.param((1, 1, 5, 5), "kernel_size: 0", id="no-kernel"),
        pytest.param((1, 1, 5, 5), "stride: 2", id="kernel-missing"),
        pytest.param((1, 1, 5, 5), "kernel_size: 9 stride: 1", id="larger-than-image"),
        pytest.param((1, 1, 5, 5), "kernel_size: 3 pad: 3", id="pad-as-kernel"),
        pytest.param((1, 1, 5, 5), "kernel_size: 2147483647 pad: 2147483646", id="vast-pad"),
        pytest.param((1, 1, 5, 5), "kernel_size: 2 kernel_h: 2 kernel_w: 2", id="kernel-twice"),
        pytest.param((1, 1, 5, 5), "kernel_h: 2", id="half-a-kernel"),
        pytest.param((1, 1, 5, 5), "kernel_size: 2 pool: MEDIAN", id="method"),
        pytest.param((1, 1, 5, 5), "global_pooling: true pad: 1", id="global-pad"),
        pytest.param((1, 1, 5, 5), "pool: STOCHASTIC kernel_size: 2 pad: 1", id="stochastic-pad"),
        pytest.param((1, 5, 5), "kernel_size: 2", id="three-axes"),
    ],
)
def test_refuses(tmp_path: Path, shape: tuple[int, ...], settings: str) -> None:
    text = f'layer {{ name: "p" type: "Pooling" bottom: "x" top: "p" pooling_param {{ {settings} }} }}'
    with pytest.raises(NetferryError) as caught:
        convert(tmp_path, text, {"x": np.zeros(shape, np.float32)})
    assert not isinstance(caught.value, NeedsFixedBatch)
    assert caught.value.layer == "p"


@pytest.mark.parametrize("size", [(7, 6), (8, 9), (11, 4)], ids=str)
@pytest.mark.parametrize(
    ("method", "kernel", "stride", "pad", "up"),
    [
        pytest.param("MAX", 2, 2, 0, True, id="max"),
        pytest.param("MAX", 3, 2, 1, True, id="max-pad"),
        pytest.param("MAX", 3, 3, 1, True, id="max-clip"),
        pytest.param("MAX", 3, 2, 1, False, id="max-floor"),
        pytest.param("AVE", 3, 2, 0, True, id="average"),
        pytest.param("AVE", 3, 2, 1, False, id="average-floor-pad"),
    ],
)
def test_pictures_of_unknown_size(
    size: tuple[int, int], method: str, kernel: int, stride: int, pad: int, up: bool
) -> None:
    text = f"pool: {method} kernel_size: {kernel} stride: {stride} pad: {pad} round_mode: {'CEIL' if up else 'FLOOR'}"
    x = seeded(2, 3, *size)
    l = Layer("p", "Pooling", parse(f"pooling_param {{ {text} }}"), ["x"], ["y"])
    got = read_alone(l, ["batch", 3, "height", "width"]).run({"x": x})["y"]
    want = reference(x, method, (kernel, kernel), (stride, stride), (pad, pad), up)[0]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("settings", ["pool: AVE kernel_size: 3 stride: 2 pad: 1", "kernel_size: 2 stride: 3"])
def test_asks_for_a_size_where_the_rule_depends_on_it(settings: str) -> None:
    l = Layer("p", "Pooling", parse(f"pooling_param {{ {settings} }}"), ["x"], ["y"])
    with pytest.raises(NeedsFixedBatch):
        read_alone(l, ["batch", 3, "height", "width"])
