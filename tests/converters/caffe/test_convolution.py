"""Convolution, deconvolution and im2col against sums over taps, and OpenCV where it reads them."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest

from netferry.converters.caffe.prototxt import parse
from netferry.converters.caffe.registry import Layer, NeedsFixedBatch
from netferry.errors import NetferryError
from netferry.schemas.layers import Role, role_of
from tests.converters.caffe.single import convert, opencv, outputs, read_alone, seeded


def patches(x: np.ndarray, kernel: list[int], stride: list[int], pad: list[int], dilation: list[int]) -> np.ndarray:
    """N x C x taps x positions, zeros outside, sizes by C's division (toward zero)."""
    n = len(kernel)
    extent = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    room = [s + 2 * p - e for s, p, e in zip(x.shape[2:], pad, extent, strict=True)]
    size = [int(r / s) + 1 for r, s in zip(room, stride, strict=True)]
    wide = np.pad(x, [(0, 0), (0, 0), *((p, p + e) for p, e in zip(pad, extent, strict=True))])
    taps = [
        wide[(..., *(slice(t[i] * dilation[i], t[i] * dilation[i] + size[i] * stride[i], stride[i]) for i in range(n)))]
        for t in product(*(range(k) for k in kernel))
    ]
    return np.stack(taps, 2)


def convolve(
    x: np.ndarray,
    w: np.ndarray,
    bias: np.ndarray | None,
    stride: list[int],
    pad: list[int],
    dilation: list[int],
    group: int,
) -> np.ndarray:
    columns = patches(x, list(w.shape[2:]), stride, pad, dilation)
    each, channels = w.shape[0] // group, w.shape[1]
    flat = w.reshape(w.shape[0], channels, -1)
    parts = [
        np.einsum("nct...,oct->no...", columns[:, g * channels : (g + 1) * channels], flat[g * each : (g + 1) * each])
        for g in range(group)
    ]
    y = np.concatenate(parts, 1)
    return y if bias is None else y + bias.reshape(-1, *[1] * len(stride))


def deconvolve(
    x: np.ndarray,
    w: np.ndarray,
    bias: np.ndarray | None,
    stride: list[int],
    pad: list[int],
    dilation: list[int],
    group: int,
) -> np.ndarray:
    """Every pixel spreads its kernel; the padding is cut off afterwards."""
    kernel, each = w.shape[2:], w.shape[1]
    extent = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    full = [s * (n - 1) + e for s, n, e in zip(stride, x.shape[2:], extent, strict=True)]
    y = np.zeros((x.shape[0], each * group, *full), np.float64)
    per = x.shape[1] // group
    for g in range(group):
        for t in product(*(range(k) for k in kernel)):
            spread = np.einsum(
                "nc...,co->no...", x[:, g * per : (g + 1) * per], w[(slice(g * per, (g + 1) * per), slice(None), *t)]
            )
            where = tuple(
                slice(t[i] * dilation[i], t[i] * dilation[i] + stride[i] * (x.shape[2 + i] - 1) + 1, stride[i])
                for i in range(len(kernel))
            )
            y[(slice(None), slice(g * each, (g + 1) * each), *where)] += spread
    y = y[(..., *(slice(p, n - p) for p, n in zip(pad, full, strict=True)))]
    return y if bias is None else y + bias.reshape(-1, *[1] * len(stride))


ROWS = [
    pytest.param([7, 6], [3, 2], [1, 1], [0, 0], [1, 1], 1, True, id="plain"),
    pytest.param([9, 8], [3, 3], [2, 3], [1, 2], [1, 1], 1, True, id="stride-pad"),
    pytest.param([9, 8], [3, 2], [1, 1], [2, 1], [2, 3], 1, False, id="dilated-no-bias"),
    pytest.param([7, 7], [3, 3], [2, 2], [1, 1], [2, 1], 2, True, id="group2-dilated"),
    pytest.param([5, 6], [2, 2], [2, 1], [0, 0], [1, 1], 4, True, id="group4"),
    pytest.param([4, 5], [2, 2], [1, 1], [3, 4], [1, 1], 1, True, id="pad-over-kernel"),
    pytest.param([9], [4], [2], [1], [2], 2, True, id="one-axis"),
    pytest.param([4, 5, 3], [2, 3, 1], [1, 2, 1], [1, 0, 1], [1, 1, 1], 1, True, id="three-axes"),
    pytest.param([3, 4, 3, 4], [2, 1, 2, 3], [1, 2, 1, 1], [0, 0, 1, 0], [1, 1, 1, 1], 1, True, id="four-axes"),
]  # fmt: skip


def layer(kind: str, kernel: list[int], stride: list[int], pad: list[int], dilation: list[int], rest: str) -> str:
    repeated = " ".join(
        f"{name}: {v}"
        for name, values in (("kernel_size", kernel), ("stride", stride), ("pad", pad), ("dilation", dilation))
        for v in values
    )
    return f'layer {{ name: "c" type: "{kind}" bottom: "x" top: "c" convolution_param {{ {repeated} {rest} }} }}'


@pytest.mark.parametrize(("size", "kernel", "stride", "pad", "dilation", "group", "bias"), ROWS)
@pytest.mark.parametrize("kind", ["Convolution", "Deconvolution"])
def test_against_sums(
    tmp_path: Path,
    kind: str,
    size: list[int],
    kernel: list[int],
    stride: list[int],
    pad: list[int],
    dilation: list[int],
    group: int,
    bias: bool,
) -> None:
    if kind == "Deconvolution" and max(pad) > 2:
        pad = [1 for _ in pad]
    x = seeded(2, 4, *size)
    shape = (6, 4 // group) if kind == "Convolution" else (4, 6 // group)
    if group == 4:
        shape = (8, 1) if kind == "Convolution" else (4, 2)
    outs = 8 if group == 4 else 6
    w, v = seeded(*shape, *kernel, seed=1), seeded(outs, seed=2)
    text = layer(
        kind, kernel, stride, pad, dilation, f"num_output: {outs} group: {group} bias_term: {str(bias).lower()}"
    )
    function = convolve if kind == "Convolution" else deconvolve
    want = function(x, w, v if bias else None, stride, pad, dilation, group)
    got = outputs(tmp_path, text, {"x": x}, {"c": [w, v] if bias else [w]})["c"]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "shape", "rest"),
    [
        pytest.param("Convolution", (6, 4, 3, 3), "num_output: 6 kernel_size: 3 pad: 1 stride: 2", id="conv"),
        pytest.param("Convolution", (4, 1, 3, 3), "num_output: 4 kernel_size: 3 group: 4", id="depthwise"),
        pytest.param("DepthwiseConvolution", (4, 1, 3, 3), "num_output: 4 kernel_size: 3 group: 4", id="fork"),
        pytest.param("Convolution", (6, 4, 2, 3), "num_output: 6 kernel_h: 2 kernel_w: 3 pad_w: 1 pad_h: 0", id="hw"),
        pytest.param("Deconvolution", (4, 6, 4, 4), "num_output: 6 kernel_size: 4 stride: 2 pad: 1", id="deconv"),
    ],
)
def test_opencv_agrees(tmp_path: Path, kind: str, shape: tuple[int, ...], rest: str) -> None:
    text = layer(kind, [], [], [], [], rest + " bias_term: false")
    feeds, blobs = {"x": seeded(2, 4, 9, 8)}, {"c": [seeded(*shape, seed=1)]}
    want = opencv(tmp_path, text.replace("DepthwiseConvolution", "Convolution"), feeds, blobs)
    np.testing.assert_allclose(outputs(tmp_path, text, feeds, blobs)["c"], want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["DepthwiseConvolution", "ConvolutionDepthwise", "DepthwiseConv"])
@pytest.mark.parametrize("multiplier", [1, 2])
def test_depthwise_types_group_by_channel(tmp_path: Path, kind: str, multiplier: int) -> None:
    x, w = seeded(2, 3, 6, 5), seeded(3 * multiplier, 1, 3, 3, seed=1)
    text = layer(kind, [3], [1], [1], [1], f"num_output: {3 * multiplier} bias_term: false")
    want = convolve(x, w, None, [1, 1], [1, 1], [1, 1], 3)
    np.testing.assert_allclose(outputs(tmp_path, text, {"x": x}, {"c": [w]})["c"], want, rtol=1e-4, atol=1e-4)


def test_hole_is_a_dilation(tmp_path: Path) -> None:
    x, w = seeded(1, 2, 9, 9), seeded(2, 2, 3, 3, seed=1)
    text = layer("Convolution", [3], [1], [2], [], "num_output: 2 hole: 2 bias_term: false")
    want = convolve(x, w, None, [1, 1], [2, 2], [2, 2], 1)
    np.testing.assert_allclose(outputs(tmp_path, text, {"x": x}, {"c": [w]})["c"], want, rtol=1e-4, atol=1e-4)


def test_window_larger_than_its_input_gives_one_pixel(tmp_path: Path) -> None:
    """(4 - 5) / 2 + 1 is 1 in C, and the missing pixels are zeros."""
    x, w = seeded(2, 2, 4, 4), seeded(3, 2, 5, 5, seed=1)
    text = layer("Convolution", [5], [2], [], [], "num_output: 3 bias_term: false")
    want = convolve(x, w, None, [2, 2], [0, 0], [1, 1], 1)
    got = outputs(tmp_path, text, {"x": x}, {"c": [w]})["c"]
    assert got.shape == want.shape == (2, 3, 1, 1)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["Convolution", "Deconvolution"])
def test_channel_axis_elsewhere(tmp_path: Path, kind: str) -> None:
    x, w = seeded(2, 3, 4, 5, 6), seeded(4, 4, 3, 3, seed=1)
    text = layer(kind, [3], [2], [1], [], "num_output: 4 axis: -3 bias_term: false")
    function = convolve if kind == "Convolution" else deconvolve
    want = function(x.reshape(6, 4, 5, 6), w, None, [2, 2], [1, 1], [1, 1], 1)
    got = outputs(tmp_path, text, {"x": x}, {"c": [w]})["c"]
    np.testing.assert_allclose(got, want.reshape(2, 3, *want.shape[1:]), rtol=1e-4, atol=1e-4)


def test_no_batch_axis(tmp_path: Path) -> None:
    x, w = seeded(4, 5, 6), seeded(2, 4, 3, 3, seed=1)
    text = layer("Convolution", [3], [1], [], [], "num_output: 2 axis: 0 bias_term: false")
    want = convolve(x[None], w, None, [1, 1], [0, 0], [1, 1], 1)[0]
    np.testing.assert_allclose(outputs(tmp_path, text, {"x": x}, {"c": [w]})["c"], want, rtol=1e-4, atol=1e-4)


def test_no_spatial_axes(tmp_path: Path) -> None:
    x, w, v = seeded(3, 2, 4), seeded(6, 2, seed=1), seeded(6, seed=2)
    text = layer("Convolution", [1], [], [], [], "num_output: 6 axis: 2 group: 2")
    want = np.concatenate([x[..., :2] @ w[:3].T, x[..., 2:] @ w[3:].T], -1) + v
    np.testing.assert_allclose(outputs(tmp_path, text, {"x": x}, {"c": [w, v]})["c"], want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("size", "kernel", "stride", "pad", "dilation", "group", "bias"), ROWS)
def test_im2col(
    tmp_path: Path,
    size: list[int],
    kernel: list[int],
    stride: list[int],
    pad: list[int],
    dilation: list[int],
    group: int,
    bias: bool,
) -> None:
    x = seeded(2, 3, *size)
    want = patches(x, kernel, stride, pad, dilation)
    got = outputs(tmp_path, layer("Im2col", kernel, stride, pad, dilation, ""), {"x": x})["c"]
    np.testing.assert_array_equal(got, want.reshape(2, -1, *want.shape[3:]))


def test_learnables_keep_their_role(tmp_path: Path) -> None:
    model = convert(tmp_path, layer("Convolution", [3], [], [], [], "num_output: 2"), {"x": seeded(1, 1, 5, 5)})
    assert {v.name: role_of(v) for v in model.graph.initializers.values()} == {
        "c.weight": Role.LEARNABLE,
        "c.bias": Role.LEARNABLE,
    }
    assert model.uninitialised == ["c.weight"]


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        pytest.param("Convolution", "num_output: 4 kernel_size: 3 stride: 0", id="no-stride"),
        pytest.param("Convolution", "num_output: 4", id="no-kernel"),
        pytest.param("Convolution", "kernel_size: 3", id="no-outputs"),
        pytest.param("Convolution", "num_output: 4 kernel_size: 9", id="larger-than-image"),
        pytest.param("Convolution", "num_output: 5 kernel_size: 3 group: 4", id="group"),
        pytest.param("Convolution", "num_output: 4 kernel_size: 3 group: 0", id="no-group"),
        pytest.param("Convolution", "num_output: 4 kernel_size: 3 axis: 7", id="axis"),
        pytest.param("Convolution", "num_output: 4 kernel_size: [3, 3, 3]", id="three-kernels"),
        pytest.param("Convolution", "num_output: 4 kernel_size: 3 dilation: 2147483647", id="vast-dilation"),
        pytest.param("Convolution", "num_output: 2147483647 kernel_size: 3", id="vast-outputs"),
        pytest.param("Convolution", "num_output: 4 kernel_size: 3 pad: 2147483647", id="vast-pad"),
        pytest.param("Convolution", "num_output: -4 kernel_size: 3", id="negative-outputs"),
        pytest.param("Convolution", "num_output: 4 kernel_h: 3 kernel_w: 3 kernel_size: 3", id="kernel-twice"),
        pytest.param("Deconvolution", "num_output: 4 kernel_size: 3 stride: 2147483647", id="vast-stride"),
        pytest.param("Deconvolution", "num_output: 4 kernel_size: 1 pad: 9", id="nothing-left"),
        pytest.param("Im2col", "kernel_size: 4 pad: 100000", id="vast-table"),
    ],
)
def test_refuses(tmp_path: Path, kind: str, settings: str) -> None:
    with pytest.raises(NetferryError) as caught:
        convert(tmp_path, layer(kind, [], [], [], [], settings), {"x": np.zeros((1, 4, 5, 5), np.float32)})
    assert not isinstance(caught.value, NeedsFixedBatch)
    assert caught.value.layer == "c"


@pytest.mark.parametrize("dims", [["time", "batch", 4, 5, 6], [3, "batch", 4, "height", "width"]], ids=str)
def test_dynamic_axes_in_front_and_behind(dims: list[str | int]) -> None:
    """Axes of a sequence in front of the channels stay dynamic; pictures may be of any size where no axis moves."""
    text = "num_output: 3 kernel_size: 3 axis: 2 bias_term: false weight_filler { type: 'constant' value: 0.5 }"
    l = Layer("c", "Convolution", parse(f"convolution_param {{ {text} }}"), ["x"], ["y"])
    if "height" in dims:
        with pytest.raises(NeedsFixedBatch):
            read_alone(l, dims)
        return
    x, w = seeded(2, 3, 4, 5, 6), np.full((3, 4, 3, 3), 0.5, np.float32)
    want = convolve(x.reshape(6, 4, 5, 6), w, None, [1, 1], [0, 0], [1, 1], 1).reshape(2, 3, 3, 3, 4)
    np.testing.assert_allclose(read_alone(l, dims).run({"x": x})["y"], want, rtol=1e-4, atol=1e-4)


def test_vast_bilinear_kernel_is_not_made_up_from_a_small_file(tmp_path: Path) -> None:
    text = layer(
        "Deconvolution", [8], [2], [], [], "num_output: 4096 bias_term: false weight_filler { type: 'bilinear' }"
    )
    model = convert(tmp_path, text, {"x": np.zeros((1, 4096, 2, 2), np.float32)})
    assert model.uninitialised == ["c.weight"]
