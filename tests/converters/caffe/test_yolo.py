"""Region and the YOLO detection outputs against NumPy loops over the published layers.

References: region_layer.cpp of openvinotoolkit/training_toolbox_caffe and of caffe_yolo_v2; yolo_detection_output_layer
and yolov3_detection_output_layer.cpp of eric612/MobileNet-YOLO. Those write image 0 in every row and are meant for one
image; here each image of a batch counts by itself, so two images are compared with two runs.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from netferry.errors import MalformedFile
from netferry.schemas.model import PLACEHOLDER_DOMAIN
from tests.converters.caffe.running import Arrays, convert, declare, run


def net(kind: str, settings: str, inputs: Arrays) -> str:
    bottoms = "".join(f'bottom: "{name}" ' for name in inputs)
    one = {k: v[:1] for k, v in inputs.items()}
    return declare(one) + f'layer {{ name: "out" type: "{kind}" {bottoms} top: "out" {settings} }}'


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x.astype(np.float64)))


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    e = np.exp(x.astype(np.float64) - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


@pytest.mark.parametrize("coords", [2, 4, 5])
@pytest.mark.parametrize("batch", [1, 3])
def test_region_in_place(coords: int, batch: int, tmp_path: Path) -> None:
    """Intel's: sigmoid on the first two entries and the objectness, softmax over the classes."""
    x = np.random.default_rng(0).normal(0, 2, (batch, 3 * (coords + 1 + 4), 5, 6)).astype(np.float32)
    settings = f"region_param {{ classes: 4 coords: {coords} num: 3 }}"
    got = run(convert(tmp_path, net("Region", settings, {"x": x})), {"x": x})["out"]
    expected = x.reshape(batch, 3, coords + 5, 5, 6).astype(np.float64)
    expected[:, :, :2] = sigmoid(expected[:, :, :2])
    expected[:, :, coords] = sigmoid(expected[:, :, coords])
    expected[:, :, coords + 1 :] = softmax(expected[:, :, coords + 1 :], 2)
    np.testing.assert_allclose(got, expected.reshape(x.shape), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("classified", [True, False])
def test_region_flattened(classified: bool, tmp_path: Path) -> None:
    """caffe_yolo_v2's: memory by cell, box, entry; only the objectness and, if asked, the classes are activated."""
    x = np.random.default_rng(0).normal(0, 2, (2, 2 * 8, 3, 4)).astype(np.float32)
    settings = f"region_param {{ classes: 3 boxes_of_each_grid: 2 softmax: {str(classified).lower()} }}"
    got = run(convert(tmp_path, net("Region", settings, {"x": x})), {"x": x})["out"]
    expected = np.zeros((2, 12 * 2, 8))
    for n in range(2):
        for cell in range(12):
            for box in range(2):
                entry = x[n].reshape(16, 12)[box * 8 : box * 8 + 8, cell].astype(np.float64)
                entry[4] = sigmoid(entry[4:5])[0]
                if classified:
                    entry[5:] = softmax(entry[5:], 0)
                expected[n, cell * 2 + box] = entry
    np.testing.assert_allclose(got, expected.reshape(x.shape), rtol=1e-5, atol=1e-6)


def iou(a: list[float], c: list[float]) -> float:
    """Of centre boxes, as Darknet's box_iou."""
    side = [
        min(a[i] + a[i + 2] / 2, c[i] + c[i + 2] / 2) - max(a[i] - a[i + 2] / 2, c[i] - c[i + 2] / 2) for i in (0, 1)
    ]
    both = 0.0 if min(side) < 0 else side[0] * side[1]
    return both / (a[2] * a[3] + c[2] * c[3] - both)


def suppressed(found: list[tuple[float, int, list[float]]], overlap: float) -> np.ndarray:
    kept: list[tuple[float, int, list[float]]] = []
    for item in sorted(found, key=lambda f: -f[0]):
        if all(iou(item[2], other[2]) < overlap for other in kept):
            kept.append(item)
    rows = [[0, kind + 1, score, x - w / 2, y - h / 2, x + w / 2, y + h / 2] for score, kind, (x, y, w, h) in kept]
    return np.array(rows or [[0, -1, -1, -1, -1, -1, -1]])


def detect(
    maps: list[np.ndarray], anchors: list[np.ndarray], classes: int, floor: float, overlap: float, v3: bool
) -> np.ndarray:
    """One image: anchors are parts of the picture, one array per map."""
    found: list[tuple[float, int, list[float]]] = []
    for x, sizes in zip(maps, anchors, strict=True):
        _, H, W = x.shape
        for i in range(H):
            for j in range(W):
                for n, (w, h) in enumerate(sizes):
                    e = x[n * (5 + classes) : (n + 1) * (5 + classes), i, j].astype(np.float64)
                    cx, cy, sure = sigmoid(e[[0, 1, 4]])
                    box = [(j + cx) / W, (i + cy) / H, math.exp(e[2]) * w, math.exp(e[3]) * h]
                    if v3:
                        scores = sigmoid(e[5:]) * sure
                        found += [(s, c, box) for c, s in enumerate(scores) if s > floor]
                    else:
                        likely = softmax(e[5:], 0)
                        if likely.max() * sure >= floor:
                            found.append((likely.max() * sure, int(likely.argmax()), box))
    return suppressed(found, overlap)


def both_images(rows: list[np.ndarray]) -> np.ndarray:
    """Rows of several images; 'nothing' rows only where nothing was found in any."""
    for n, image in enumerate(rows):
        image[:, 0] = n
    something = [r for r in rows if r[0, 1] >= 0]
    return np.concatenate(something or rows)[None, None]


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("maps", [1, 2])
@pytest.mark.parametrize("floor", [0.3, 2.0])
def test_yolo_v2_output(maps: int, batch: int, floor: float, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    inputs = {f"m{i}": rng.normal(0, 1.5, (batch, 2 * 8, s, s)).astype(np.float32) for i, s in enumerate((5, 3)[:maps])}
    biases = np.array([[1.2, 1.4], [2.5, 2.1]])
    listed = " ".join(f"biases: {b}" for b in biases.reshape(-1))
    settings = (
        f"yolo_detection_output_param {{ num_classes: 3 num_box: 2 {listed} confidence_threshold: {floor} "
        "nms_threshold: 0.4 side: 13 coords: 4 }"
    )
    got = run(convert(tmp_path, net("YoloDetectionOutput", settings, inputs)), inputs)["out"]
    expected = both_images(
        [
            detect(
                [m[n] for m in inputs.values()], [biases / m.shape[3] for m in inputs.values()], 3, floor, 0.4, False
            )
            for n in range(batch)
        ]
    )
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 2])
def test_yolo_v3_output(batch: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    inputs = {f"m{i}": rng.normal(0, 1.5, (batch, 3 * 7, s, s)).astype(np.float32) for i, s in enumerate((3, 6))}
    biases = np.array([[10, 14], [23, 27], [37, 58], [81, 82], [135, 169], [344, 319]], float)
    listed = " ".join(f"biases: {b}" for b in biases.reshape(-1))
    settings = (
        f"yolov3_detection_output_param {{ num_classes: 2 num_box: 3 {listed} mask: 3 mask: 4 mask: 5 mask: 0 mask: 1 "
        "mask: 2 anchors_scale: 32 anchors_scale: 16 mask_group_num: 2 confidence_threshold: 0.35 nms_threshold: 0.45 }"
    )
    got = run(convert(tmp_path, net("Yolov3DetectionOutput", settings, inputs)), inputs)["out"]
    anchors = [biases[3:] / (3 * 32), biases[:3] / (6 * 16)]
    expected = both_images(
        [detect([m[n] for m in inputs.values()], anchors, 2, 0.35, 0.45, True) for n in range(batch)]
    )
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        pytest.param("Region", "region_param { classes: 4 num: 2 }", id="region-channels"),
        pytest.param("Region", "region_param { classes: 2147483647 num: 2 }", id="region-absurd"),
        pytest.param(
            "YoloDetectionOutput", "yolo_detection_output_param { num_box: 2 num_classes: 3 biases: 1 }", id="odd"
        ),
        pytest.param(
            "YoloDetectionOutput", "yolo_detection_output_param { num_box: 2 num_classes: 3 }", id="no-biases"
        ),
        pytest.param("Yolov3DetectionOutput", "yolov3_detection_output_param { biases: 1 biases: 2 }", id="no-masks"),
        pytest.param(
            "Yolov3DetectionOutput",
            "yolov3_detection_output_param { biases: 1 biases: 2 mask: 7 mask_group_num: 1 num_box: 1 "
            "anchors_scale: 32 }",
            id="mask-without-anchor",
        ),
    ],
)
def test_refuses(kind: str, settings: str, tmp_path: Path) -> None:
    with pytest.raises(MalformedFile):
        convert(tmp_path, net(kind, settings, {"x": np.zeros((1, 16, 3, 3), np.float32)}))


def test_region_without_a_sign_of_its_fork_is_a_placeholder(tmp_path: Path) -> None:
    model = convert(tmp_path, net("Region", "", {"x": np.zeros((1, 125, 3, 3), np.float32)}))
    assert [n.domain for n in model.ir.graph] == [PLACEHOLDER_DOMAIN]
