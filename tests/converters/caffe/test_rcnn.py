"""Region pooling against NumPy loops and OpenCV's Caffe reader, which agree; OpenCV reads one image.

The loops follow roi_pooling_layer.cpp of Fast R-CNN and psroi_pooling_layer.cu of R-FCN.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from netferry.errors import LimitExceeded, MalformedFile, NetferryError
from tests.converters.caffe.running import convert, declare, declare_shapes, layer, opencv, run


def regions(seed: int, count: int, size: int, images: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(-4, size, (count, 2, 2))
    corner[::3] = np.round(corner[::3])
    corner[1::4, 0] = np.floor(corner[1::4, 0]) + 0.5  # halves: C rounds them away from zero
    low, high = corner.min(1), corner.max(1)
    return np.concatenate([rng.integers(0, images, (count, 1)), low, high], 1).astype(np.float32)


ROI = [
    pytest.param("pooled_h: 7 pooled_w: 7 spatial_scale: 0.0625", 0.0625, id="fast-rcnn"),
    pytest.param("pooled_h: 2 pooled_w: 3 spatial_scale: 0.5", 0.5, id="unequal"),
    pytest.param("pooled_h: 3 pooled_w: 1", 1.0, id="defaults"),
]


@pytest.mark.parametrize(("settings", "scale"), ROI)
@pytest.mark.parametrize("images", [1, 2])
def test_roi_pooling(settings: str, scale: float, images: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = rng.normal(0, 1, (images, 3, 9, 12)).astype(np.float32)
    rois = regions(5, 24, round(9 / scale), images)
    rois[:, 1:] = np.abs(rois[:, 1:])
    inputs = {"data": data, "rois": rois}
    net = declare(inputs) + layer("ROIPooling", "data rois", f"roi_pooling_param {{ {settings} }}")
    got = run(convert(tmp_path, net), inputs)["out"]
    sizes = [int(w) for w in settings.replace(":", "").split() if w.isdigit()]
    expected = np.zeros((len(rois), 3, sizes[0], sizes[1]), np.float32)
    for r, (image, *corners) in enumerate(rois):
        x1, y1, x2, y2 = (math.floor(float(np.float32(c) * np.float32(scale)) + 0.5) for c in corners)
        for i in range(sizes[0]):
            for j in range(sizes[1]):
                span = [
                    np.clip([math.floor(k * size) + low, math.ceil((k + 1) * size) + low], 0, most)
                    for k, size, low, most in (
                        (i, np.float32(max(y2 - y1 + 1, 1) / sizes[0]), y1, 9),
                        (j, np.float32(max(x2 - x1 + 1, 1) / sizes[1]), x1, 12),
                    )
                ]
                part = data[int(image), :, span[0][0] : span[0][1], span[1][0] : span[1][1]].reshape(3, -1)
                expected[r, :, i, j] = part.max(1) if part.size else 0
    np.testing.assert_allclose(got, expected, rtol=0, atol=0)


def test_roi_pooling_agrees_with_opencv(tmp_path: Path) -> None:
    inputs = {
        "data": np.random.default_rng(0).normal(0, 1, (1, 3, 9, 12)).astype(np.float32),
        "rois": np.abs(regions(3, 20, 9, 1)),
    }
    net = declare(inputs) + layer(
        "ROIPooling", "data rois", "roi_pooling_param { pooled_h: 3 pooled_w: 4 spatial_scale: 1 }"
    )
    got = run(convert(tmp_path, net), inputs)["out"]
    np.testing.assert_allclose(got, opencv(tmp_path, net, inputs, "out"), rtol=0, atol=0)


def away(x: float) -> float:
    return math.copysign(math.floor(abs(x) + 0.5), x)


def psroi(data: np.ndarray, rois: np.ndarray, scale: float, outputs: int, group: int) -> np.ndarray:
    """psroi_pooling_layer.cu, bin by bin, bounds in float32."""
    H, W = data.shape[2:]
    f = np.float32
    out = np.zeros((len(rois), outputs, group, group))
    for r, (image, x1, y1, x2, y2) in enumerate(rois):
        low = [f(f(away(v)) * f(scale)) for v in (y1, x1)]
        high = [f(f(away(v) + 1) * f(scale)) for v in (y2, x2)]
        size = [f(max(f(b - a), f(0.1)) / f(group)) for a, b in zip(low, high, strict=True)]
        for c in range(outputs):
            for i in range(group):
                for j in range(group):
                    span = []
                    for k, a, s, most in zip((i, j), low, size, (H, W), strict=True):
                        first, last = math.floor(f(f(k) * s) + a), math.ceil(f(f(k + 1) * s) + a)
                        span.append((min(max(first, 0), most), min(max(last, 0), most)))
                    part = data[
                        int(image), (c * group + i) * group + j, span[0][0] : span[0][1], span[1][0] : span[1][1]
                    ].astype(np.float64)
                    out[r, c, i, j] = part.mean() if part.size else 0.0
    return out


@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize(("outputs", "group", "scale"), [(2, 3, 0.0625), (1, 7, 0.5), (3, 2, 1.0)])
def test_psroi_pooling(outputs: int, group: int, scale: float, images: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    inputs = {
        "data": (rng.normal(0, 1, (images, outputs * group * group, 11, 13)) + 100).astype(np.float32),
        "rois": regions(2, 30, round(12 / scale), images),
    }
    settings = f"psroi_pooling_param {{ output_dim: {outputs} group_size: {group} spatial_scale: {scale} }}"
    net = declare(inputs) + layer("PSROIPooling", "data rois", settings)
    got = run(convert(tmp_path, net), inputs)["out"]
    expected = psroi(inputs["data"], inputs["rois"], scale, outputs, group)
    assert np.any(expected == 0)  # empty bins are among them
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)


def test_psroi_pooling_agrees_with_opencv(tmp_path: Path) -> None:
    inputs = {
        "data": np.random.default_rng(0).normal(0, 1, (1, 18, 11, 13)).astype(np.float32),
        "rois": np.abs(regions(2, 20, 24, 1)),
    }
    settings = "psroi_pooling_param { output_dim: 2 group_size: 3 spatial_scale: 0.5 }"
    net = declare(inputs) + layer("PSROIPooling", "data rois", settings)
    got = run(convert(tmp_path, net), inputs)["out"]
    np.testing.assert_allclose(got, opencv(tmp_path, net, inputs, "out"), rtol=0, atol=1e-6)


def test_psroi_pooling_with_four_axes_of_regions(tmp_path: Path) -> None:
    inputs = {"data": np.arange(4 * 36, dtype=np.float32).reshape(1, 4, 6, 6), "rois": regions(2, 5, 6, 1)}
    settings = "psroi_pooling_param { output_dim: 1 group_size: 2 spatial_scale: 1 }"
    flat = run(convert(tmp_path, declare(inputs) + layer("PSROIPooling", "data rois", settings)), inputs)["out"]
    inputs["rois"] = inputs["rois"].reshape(5, 5, 1, 1)
    four = run(convert(tmp_path, declare(inputs) + layer("PSROIPooling", "data rois", settings)), inputs)["out"]
    np.testing.assert_array_equal(flat, four)


def test_roi_align_averages_samples(tmp_path: Path) -> None:
    """On a plane every bilinear average is the plane at the bin's centre."""
    y, x = np.mgrid[0:10, 0:10].astype(np.float32)
    inputs = {"data": (2 * x + 3 * y)[None, None], "rois": np.array([[0, 4, 2, 12, 14]], np.float32)}
    settings = "roi_align_param { pooled_h: 3 pooled_w: 2 spatial_scale: 0.5 sampling_ratio: 2 }"
    got = run(convert(tmp_path, declare(inputs) + layer("ROIAlign", "data rois", settings)), inputs)["out"]
    rows, cols = 1 + (np.arange(3) + 0.5) * 2, 2 + (np.arange(2) + 0.5) * 2
    np.testing.assert_allclose(got[0, 0], 2 * cols[None] + 3 * rows[:, None], rtol=1e-6)


MOST = 2**31 - 1


def grid(height: int, width: int, more: str = "") -> str:
    return f"roi_pooling_param {{ pooled_h: {height} pooled_w: {width} {more} }}"


@pytest.mark.parametrize(
    ("kind", "bottoms", "settings", "error"),
    [
        pytest.param("ROIPooling", "score info", grid(2, 2), MalformedFile, id="rois"),
        pytest.param("ROIPooling", "score rois", grid(2, 0), MalformedFile, id="no-width"),
        pytest.param(
            "ROIPooling", "score rois", grid(2147483647, 2), MalformedFile, id="huge"
        ),
        pytest.param(
            "ROIPooling", "score rois", grid(2, 2, "spatial_scale: 0"), MalformedFile, id="scale"
        ),
        pytest.param(
            "PSROIPooling", "score rois", "psroi_pooling_param { output_dim: 3 group_size: 2 spatial_scale: 1 }",
            MalformedFile, id="channels",
        ),
        pytest.param(
            "PSROIPooling", "deep rois", f"psroi_pooling_param {{ output_dim: {MOST} group_size: 1 spatial_scale: 1 }}",
            LimitExceeded, id="deep-map",
        ),
    ],
)  # fmt: skip
def test_refuses(kind: str, bottoms: str, settings: str, error: type[NetferryError], tmp_path: Path) -> None:
    shapes = {"score": (1, 18, 5, 6), "info": (1, 3), "rois": (3, 5), "deep": (1, MOST, 1, 1)}
    net = declare_shapes(shapes)
    with pytest.raises(error):
        convert(tmp_path, net + layer(kind, bottoms, settings))
