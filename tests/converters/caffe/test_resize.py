"""Interp, Upsample and Resize against NumPy by the rules of their forks, and OpenCV."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from netferry.errors import NetferryError
from tests.converters.caffe.conformance import Runner
from tests.converters.caffe.single import convert, opencv, outputs, seeded
from tests.converters.caffe.test_elementwise import layer

X = seeded(2, 3, 7, 9)


def interp(x: np.ndarray, height: int, width: int) -> np.ndarray:
    """interp.cpp: the corners of both pictures are the same pixels."""

    def lerp(a: np.ndarray, new: int) -> np.ndarray:
        old = a.shape[-1]
        at = np.arange(new) * ((old - 1) / (new - 1) if new > 1 else 0.0)
        low = at.astype(int)
        high = np.minimum(low + 1, old - 1)
        part = at - low
        return a[..., low] * (1 - part) + a[..., high] * part

    return lerp(lerp(x.astype(np.float64), width).swapaxes(2, 3), height).swapaxes(2, 3)


@pytest.mark.parametrize(
    ("settings", "want"),
    [
        pytest.param("height: 13 width: 20", interp(X, 13, 20), id="larger"),
        pytest.param("height: 3 width: 4", interp(X, 3, 4), id="smaller"),
        pytest.param("height: 1 width: 1", interp(X, 1, 1), id="one-pixel"),
        pytest.param("height: 7 width: 9", X, id="same"),
        pytest.param("height: 7 width: 9 pad_beg: 0", X, id="same-no-pads"),
        pytest.param("zoom_factor: 3", interp(X, 19, 25), id="zoom"),
        pytest.param("shrink_factor: 2", interp(X, 4, 5), id="shrink"),
        pytest.param("shrink_factor: 2 zoom_factor: 4", interp(X, 13, 17), id="shrink-and-zoom"),
        pytest.param("zoom_factor: 2 height: 5 width: 5", interp(X, 13, 17), id="zoom-before-size"),
        pytest.param(
            "shrink_factor: 2 zoom_factor: 4 height: 5 width: 6", interp(X, 5, 6), id="size-before-both-factors"
        ),
        pytest.param("height: 8 width: 9 pad_beg: -1 pad_end: -2", interp(X[:, :, 1:5, 1:7], 8, 9), id="cut"),
        pytest.param("zoom_factor: 1 pad_beg: -1", X[:, :, 1:, 1:], id="cut-only"),
        pytest.param("zoom_factor: 2 pad_end: -1", interp(X[:, :, :-1, :-1], 11, 15), id="cut-and-zoom"),
    ],
)
def test_interp(tmp_path: Path, settings: str, want: np.ndarray) -> None:
    got = outputs(tmp_path, layer("Interp", f"interp_param {{ {settings} }}"), {"x": X})["y"]
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_interp_to_the_size_of_another(tmp_path: Path) -> None:
    got = outputs(tmp_path, layer("Interp", "", "x ref"), {"x": X, "ref": seeded(2, 1, 11, 6)})["y"]
    np.testing.assert_allclose(got, interp(X, 11, 6), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(13, 20), (3, 4)], ids=str)
def test_opencv_agrees(tmp_path: Path, size: tuple[int, int]) -> None:
    text = layer("Interp", f"interp_param {{ height: {size[0]} width: {size[1]} }}")
    got = outputs(tmp_path, text, {"x": X})["y"]
    np.testing.assert_allclose(got, opencv(tmp_path, text, {"x": X}), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "want"),
    [
        pytest.param("scale: 2", X.repeat(2, 2).repeat(2, 3), id="scale"),
        pytest.param("scale: 3", X.repeat(3, 2).repeat(3, 3), id="scale-3"),
        pytest.param("", X, id="default"),
        pytest.param("stride: 2", X.repeat(2, 2).repeat(2, 3), id="stride"),
        pytest.param("scale: 0.5 stride: 2", 0.5 * X.repeat(2, 2).repeat(2, 3), id="stride-and-gain"),
        pytest.param("stride_h: 1 stride_w: 3", X.repeat(3, 3), id="strides"),
    ],
)
def test_nearest_upsample(tmp_path: Path, settings: str, want: np.ndarray) -> None:
    got = outputs(tmp_path, layer("Upsample", f"upsample_param {{ {settings} }}"), {"x": X})["y"]
    np.testing.assert_allclose(got, want, rtol=1e-6)


def unpooled(x: np.ndarray, mask: np.ndarray, height: int, width: int) -> np.ndarray:
    N, C = x.shape[:2]
    out = np.zeros((N, C, height * width), np.float32)
    np.put_along_axis(out, mask.reshape(N, C, -1).astype(int), x.reshape(N, C, -1), 2)
    return out.reshape(N, C, height, width)


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        pytest.param("scale: 2", (8, 10), id="scale"),
        pytest.param("", (8, 10), id="default"),
        pytest.param("scale_h: 3 scale_w: 2", (12, 10), id="scales"),
        pytest.param("scale: 2 pad_out_h: true", (7, 10), id="odd-height"),
        pytest.param("scale: 2 pad_out_h: true pad_out_w: true", (7, 9), id="odd"),
        pytest.param("scale: 2 upsample_h: 7 upsample_w: 11", (7, 11), id="size"),
    ],
)
def test_upsample_by_a_mask(tmp_path: Path, settings: str, size: tuple[int, int]) -> None:
    x = seeded(2, 3, 4, 5)
    rng = np.random.default_rng(4)
    mask = np.stack([rng.permutation(size[0] * size[1])[:20] for _ in range(6)]).reshape(2, 3, 4, 5).astype(np.float32)
    text = layer("Upsample", f"upsample_param {{ {settings} }}", "x mask")
    np.testing.assert_array_equal(outputs(tmp_path, text, {"x": x, "mask": mask})["y"], unpooled(x, mask, *size))


def test_upsample_undoes_a_pooling(tmp_path: Path) -> None:
    pool = layer("Pooling", "pooling_param { kernel_size: 2 stride: 2 }", "x", "p m").replace('"y"', '"pool"', 1)
    text = pool + layer("Upsample", "upsample_param { upsample_h: 7 upsample_w: 9 }", "p m")
    got = outputs(tmp_path, text, {"x": X})["y"]
    kept = got != 0
    np.testing.assert_array_equal(got[kept], X[kept])
    assert kept.sum() == 2 * 3 * 4 * 5


def resized(x: np.ndarray, height: int, width: int) -> np.ndarray:
    """util_img.cpp of caffe-windows: the four neighbours by their weights, those outside left out."""
    N, C, H, W = x.shape
    padded = np.zeros((N, C, H + 1, W + 1))
    padded[:, :, :H, :W] = x
    out = np.zeros((N, C, height, width))
    for i in range(height):
        for j in range(width):
            y, v = np.float32(i) * np.float32(H / height), np.float32(j) * np.float32(W / width)
            a, b = int(y), int(v)
            p, q = y - a, v - b
            near = padded[:, :, a, b] * (1 - q) + padded[:, :, a, b + 1] * q
            far = padded[:, :, a + 1, b] * (1 - q) + padded[:, :, a + 1, b + 1] * q
            out[:, :, i, j] = near * (1 - p) + far * p
    return out


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        pytest.param("height: 13 width: 20", (13, 20), id="larger"),
        pytest.param("height: 3 width: 4", (3, 4), id="smaller"),
        pytest.param("is_pyramid_test: true out_height_scale: 1.5 out_width_scale: 0.5", (10, 4), id="scales"),
        pytest.param("is_pyramid_test: false height: 7 width: 9", (7, 9), id="same"),
    ],
)
def test_resize(tmp_path: Path, settings: str, size: tuple[int, int]) -> None:
    got = outputs(tmp_path, layer("Resize", f"resize_param {{ {settings} }}"), {"x": X})["y"]
    np.testing.assert_allclose(got, resized(X, *size), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "settings", ["", "resize_param { resize_ratio: 2 }", "resize_param { height: 3 type: NEAREST }"]
)
def test_resize_of_other_forks_is_a_placeholder(tmp_path: Path, settings: str) -> None:
    assert len(convert(tmp_path, layer("Resize", settings), {"x": X}).placeholders()) == 1


def test_interp_is_one_operator(tmp_path: Path) -> None:
    model = convert(tmp_path, layer("Interp", "interp_param { zoom_factor: 2 }"), {"x": X})
    assert [n.op_type for n in model.graph] == ["Resize"]
    assert Runner(model).dims == {"x": ["batch", 3, 7, 9]}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(layer("Interp"), id="nothing"),
        pytest.param(layer("Interp", "interp_param { height: 5 }"), id="height-only"),
        pytest.param(layer("Interp", "interp_param { height: 0 width: 5 }"), id="zero"),
        pytest.param(layer("Interp", "interp_param { zoom_factor: 0 }"), id="zero-zoom"),
        pytest.param(layer("Interp", "interp_param { zoom_factor: 2147483647 }"), id="vast-zoom"),
        pytest.param(layer("Interp", "interp_param { height: 2147483647 width: 2147483647 }"), id="vast"),
        pytest.param(layer("Interp", "interp_param { zoom_factor: 2 pad_beg: 1 }"), id="padding"),
        pytest.param(layer("Interp", "interp_param { zoom_factor: 2 pad_beg: -7 }"), id="nothing-left"),
        pytest.param(layer("Interp", "interp_param { zoom_factor: 2 }", "x x"), id="two-sizes"),
        pytest.param(layer("Upsample", "upsample_param { scale: 0 }"), id="zero-scale"),
        pytest.param(layer("Upsample", "upsample_param { scale: 1.5 }"), id="fraction"),
        pytest.param(layer("Upsample", "upsample_param { scale: 2147483647 }"), id="vast-scale"),
        pytest.param(layer("Upsample", "upsample_param { scale: inf }"), id="endless-scale"),
        pytest.param(layer("Upsample", "upsample_param { scale: 1 }", "x x"), id="mask-without-scale"),
        pytest.param(layer("Upsample", "upsample_param { scale: -2 }", "x x"), id="mask-negative-scale"),
        pytest.param(layer("Upsample", "", "x x x"), id="three-bottoms"),
        pytest.param(layer("Resize", "resize_param { height: 3 }"), id="resize-height-only"),
        pytest.param(layer("Resize", "resize_param { height: 300000 width: 2147483647 }"), id="resize-vast"),
        pytest.param(
            layer("Resize", "resize_param { is_pyramid_test: true out_height_scale: 0 out_width_scale: 1 }"),
            id="resize-to-nothing",
        ),
    ],
)
def test_refuses(tmp_path: Path, text: str) -> None:
    with pytest.raises(NetferryError) as caught:
        convert(tmp_path, text, {"x": X})
    assert caught.value.layer == "y"
