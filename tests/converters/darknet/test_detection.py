"""Detection heads and their boxes against loops written from region_layer.c, detection_layer.c, yolo_layer.c, box.c."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import netferry
from netferry.errors import InputError, MalformedFile, UnsafeFile, UnsupportedOption
from netferry.schemas.model import Model
from tests.converters.caffe.running import run
from tests.converters.darknet.running import convert, result
from tests.shared import shared

Array = np.ndarray
W, H, CLASSES = 5, 4, 3


def logistic(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def map_of(boxes: int) -> Array:
    return np.random.default_rng(boxes).standard_normal((2, boxes * (5 + CLASSES), H, W)).astype(np.float32) * 2


def net(channels: int, head: str) -> str:
    return f"[net]\nwidth={W}\nheight={H}\nchannels={channels}\n{head}"


def kept(boxes: Array, scores: Array, least: float, overlap: float) -> set[tuple[int, int, int]]:
    """(image, class, box) that survive do_nms_sort."""
    out = set()
    for image in range(len(boxes)):
        for kind in range(scores.shape[2]):
            order = [i for i in np.argsort(-scores[image, :, kind]) if scores[image, i, kind] > least]
            for place, i in enumerate(order):
                if not any(
                    iou(boxes[image, i], boxes[image, j]) > overlap for j in order[:place] if (image, kind, j) in out
                ):
                    out.add((image, kind, int(i)))
    return out


def iou(a: Array, b: Array) -> float:
    """Of boxes as centre and size."""
    sides = [
        min(a[k] + a[k + 2] / 2, b[k] + b[k + 2] / 2) - max(a[k] - a[k + 2] / 2, b[k] - b[k + 2] / 2) for k in (0, 1)
    ]
    if min(sides) <= 0:
        return 0.0
    both = sides[0] * sides[1]
    return both / (a[2] * a[3] + b[2] * b[3] - both)


def compare(model: Model, x: Array, boxes: Array, scores: Array, least: float, overlap: float) -> None:
    got = run(model, {"data": x})
    want = kept(boxes, scores, least, overlap)
    found = set()
    for image, kind, score, corners in zip(got["images"], got["classes"], got["scores"], got["boxes"], strict=True):
        centre = np.array([corners[0] + corners[2], corners[1] + corners[3]]) / 2
        size = corners[2:] - corners[:2]
        i = int(np.argmin(np.abs(boxes[image] - np.concatenate([centre, size])).max(1)))
        np.testing.assert_allclose(boxes[image, i], np.concatenate([centre, size]), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(scores[image, i, kind], score, rtol=1e-4)
        found.add((int(image), int(kind), i))
    assert found == want
    assert len(want) > 5


def yolo_boxes(x: Array, anchors: Array, stretch: float = 1.0, plain: bool = False) -> tuple[Array, Array]:
    n = len(anchors)
    y = x.reshape(2, n, 5 + CLASSES, H, W).astype(np.float64)
    boxes, scores = np.zeros((2, n, H, W, 4)), np.zeros((2, n, H, W, CLASSES))
    same = (lambda v: v) if plain else logistic
    for a in range(n):
        for r in range(H):
            for c in range(W):
                t = y[:, a, :, r, c]
                place = same(t[:, :2]) * stretch - 0.5 * (stretch - 1)
                size = t[:, 2:4] ** 2 * 4 if plain else np.exp(t[:, 2:4])
                boxes[:, a, r, c] = np.concatenate([(place + np.array([c, r])) / [W, H], size * anchors[a] / [W, H]], 1)
                scores[:, a, r, c] = same(t[:, 4:5]) * same(t[:, 5:])
    return boxes.reshape(2, -1, 4), scores.reshape(2, -1, CLASSES)


@pytest.mark.parametrize(
    ("settings", "stretch", "plain"),
    [
        pytest.param("", 1.0, False, id="v3"),
        pytest.param("scale_x_y=1.1\n", 1.1, False, id="v4"),
        pytest.param("scale_x_y=2\nnew_coords=1\n", 2.0, True, id="new-coords"),
    ],
)
def test_yolo_boxes(tmp_path: Path, settings: str, stretch: float, plain: bool) -> None:
    anchors = np.array([[1.5, 2], [2.5, 1]])
    x = np.abs(map_of(2)) / 6 if plain else map_of(2)
    head = f"[yolo]\nmask=1,2\nanchors=9,9, 1.5,2, 2.5,1\nclasses={CLASSES}\nnum=3\n{settings}"
    model = convert(tmp_path, net(x.shape[1], head), decode_boxes=True, score_threshold=0.2, overlap=0.4)
    compare(model, x, *yolo_boxes(x, anchors, stretch, plain), 0.2, 0.4)


@pytest.mark.parametrize("softmax", [0, 1])
def test_region(tmp_path: Path, softmax: int) -> None:
    x, anchors = map_of(2), np.array([[1.0, 1.2], [2.0, 0.8]])
    head = f"[region]\nanchors=1,1.2, 2,.8\nclasses={CLASSES}\nnum=2\nsoftmax={softmax}\n"
    y = x.reshape(2, 2, 5 + CLASSES, H, W).astype(np.float64)
    kinds = np.exp(y[:, :, 5:]) / np.exp(y[:, :, 5:]).sum(2, keepdims=True) if softmax else logistic(y[:, :, 5:])
    want = np.concatenate([logistic(y[:, :, :2]), y[:, :, 2:4], logistic(y[:, :, 4:5]), kinds], 2)
    np.testing.assert_allclose(result(convert(tmp_path, net(16, head)), x), want.reshape(x.shape), rtol=1e-4, atol=1e-5)
    boxes, _ = yolo_boxes(x, anchors)
    scores = (want[:, :, 4:5] * want[:, :, 5:]).transpose(0, 1, 3, 4, 2).reshape(2, -1, CLASSES)
    model = convert(tmp_path, net(16, head), decode_boxes=True, score_threshold=0.1)
    compare(model, x, boxes, scores, 0.1, 0.45)


@pytest.mark.parametrize("root", [0, 1])
def test_detection(tmp_path: Path, root: int) -> None:
    side, num = 3, 2
    numbers = side * side * (CLASSES + num * 5)
    x = np.random.default_rng(5).random((2, numbers, 1, 1)).astype(np.float32)
    head = f"[detection]\nclasses={CLASSES}\ncoords=4\nside={side}\nnum={num}\nsqrt={root}\nsoftmax=0\n"
    cfg = f"[net]\nwidth=1\nheight=1\nchannels={numbers}\n{head}"
    np.testing.assert_array_equal(result(convert(tmp_path, cfg), x), x)
    flat = x.reshape(2, -1)
    boxes, scores = np.zeros((2, side * side * num, 4)), np.zeros((2, side * side * num, CLASSES))
    for i in range(side * side):
        for n in range(num):
            b = flat[:, side * side * (CLASSES + num) + (i * num + n) * 4 :][:, :4].astype(np.float64)
            size = b[:, 2:] ** 2 if root else b[:, 2:]
            boxes[:, i * num + n] = np.concatenate([(b[:, :2] + [i % side, i // side]) / side, size], 1)
            confidence = flat[:, side * side * CLASSES + i * num + n]
            scores[:, i * num + n] = confidence[:, None] * flat[:, i * CLASSES : (i + 1) * CLASSES]
    compare(convert(tmp_path, cfg, decode_boxes=True, score_threshold=0.2), x, boxes, scores, 0.2, 0.45)


def test_boxes_need_a_head(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedOption, match="detection section"):
        convert(tmp_path, net(3, "[avgpool]\n"), decode_boxes=True)


def test_yolo_fastest(tmp_path: Path) -> None:
    """Both heads as true Darknet computed them; boxes of a dog and a car with their names; all of it through a file."""
    folder = shared("data", "yolo-fastest")
    reference = dict(np.load(folder / "reference.npz"))
    files = (folder / "yolo-fastest-1.1.cfg", folder / "yolo-fastest-1.1.weights")
    got = run(netferry.load(*files), {"data": reference["data"]})
    for name in ("layer_121", "layer_130"):
        np.testing.assert_allclose(got[name], reference[name], rtol=1e-4, atol=2e-5)
    (tmp_path / "coco.data").write_text("classes = 80\nnames = data/coco.names\n")
    (tmp_path / "coco.names").write_bytes((folder / "coco.names").read_bytes())
    netferry.convert(
        *(files[0], tmp_path / "y.onnx", files[1]),
        labels=tmp_path / "coco.data",
        decode_boxes=True,
        score_threshold=0.5,
    )
    model = netferry.load(tmp_path / "y.onnx")
    found = run(model, {"data": reference["data"]})
    names = [model.labels["classes"][i] for i in found["classes"]]
    assert dict(zip(names, np.round(found["scores"], 2), strict=True)) == pytest.approx(
        {"car": 0.89, "cat": 0.61, "dog": 0.66}, abs=0.006
    )
    assert sorted(names) == ["car", "cat", "dog"]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("classes=2\n", MalformedFile, id="no-list"),
        pytest.param("names=../other/x.names\n", UnsafeFile, id="outside"),
        pytest.param("names=/etc/passwd\n", UnsafeFile, id="absolute"),
        pytest.param("names=link.names\n", UnsafeFile, id="link-outside"),
        pytest.param("names=missing.names\n", InputError, id="missing"),
    ],
)
def test_data_files(tmp_path: Path, text: str, error: type[Exception]) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "x.names").write_text("a\nb\n")
    (tmp_path / "in" / "link.names").symlink_to(tmp_path / "x.names")
    (tmp_path / "in" / "net.data").write_text(text)
    (tmp_path / "in" / "net.cfg").write_text(net(3, "[avgpool]\n"))
    with pytest.raises(error):
        netferry.load(tmp_path / "in" / "net.cfg", labels=tmp_path / "in" / "net.data")
