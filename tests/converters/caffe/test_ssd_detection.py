"""DetectionOutput against NumPy loops, and against OpenCV's Caffe reader where it agrees.

The loops follow detection_output_layer.cpp and bbox_util.cpp of github.com/weiliu89/caffe (branch ssd). OpenCV orders
rows in its own way, fills up to keep_top_k with zeros and reads one image.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from netferry.errors import MalformedFile, NetferryError, UnsupportedError
from tests.converters.caffe.running import convert, declare, opencv, run

FLT_MAX = float(np.finfo(np.float32).max)


def boxes_and_scores(
    seed: int, batch: int, priors: int, classes: int, sets: int, *, spread: float = 1.0
) -> dict[str, np.ndarray]:
    """Random predictions around overlapping priors; scores are a softmax over classes, all different."""
    rng = np.random.default_rng(seed)
    centre = rng.uniform(0.25, 0.75, (priors, 2))
    half = rng.uniform(0.05, 0.25, (priors, 2))
    prior = np.stack(
        [np.concatenate([centre - half, centre + half], 1).reshape(-1), np.tile([0.1, 0.1, 0.2, 0.2], priors)]
    )
    logits = rng.normal(0, 2, (batch, priors, classes))
    scores = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    return {
        "loc": rng.normal(0, spread, (batch, priors * sets * 4)).astype(np.float32),
        "conf": scores.reshape(batch, -1).astype(np.float32),
        "prior": prior[None].astype(np.float32),
    }


def detection_net(settings: str, inputs: dict[str, np.ndarray]) -> str:
    return declare(inputs) + (
        'layer { name: "out" type: "DetectionOutput" bottom: "loc" bottom: "conf" bottom: "prior" top: "out" '
        f"detection_output_param {{ {settings} }} }}"
    )


def decode(code: str, prior: np.ndarray, variance: np.ndarray, loc: np.ndarray, encoded: bool) -> np.ndarray:
    """One box at a time, as DecodeBBox."""
    v = np.ones(4) if encoded else variance.astype(np.float64)
    p, t = prior.astype(np.float64), loc.astype(np.float64)
    w, h = p[2] - p[0], p[3] - p[1]
    if code == "CORNER":
        return p + v * t
    if code == "CORNER_SIZE":
        return p + v * t * [w, h, w, h]
    x, y = v[0] * t[0] * w + (p[0] + p[2]) / 2, v[1] * t[1] * h + (p[1] + p[3]) / 2
    w, h = math.exp(v[2] * t[2]) * w, math.exp(v[3] * t[3]) * h
    return np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2])


def jaccard(a: np.ndarray, c: np.ndarray) -> float:
    def size(box: list[float]) -> float:
        return 0.0 if box[2] < box[0] or box[3] < box[1] else (box[2] - box[0]) * (box[3] - box[1])

    if c[0] > a[2] or c[2] < a[0] or c[1] > a[3] or c[3] < a[1]:
        return 0.0
    both = size([max(a[0], c[0]), max(a[1], c[1]), min(a[2], c[2]), min(a[3], c[3])])
    return both / (size(list(a)) + size(list(c)) - both) if both > 0 else 0.0


def reference(
    inputs: dict[str, np.ndarray],
    classes: int,
    *,
    shared: bool = True,
    background: int = 0,
    code: str = "CORNER",
    encoded: bool = False,
    floor: float = -FLT_MAX,
    overlap: float = 0.3,
    eta: float = 1.0,
    top: int = -1,
    keep: int = -1,
) -> np.ndarray:
    """What detection_output_layer.cpp computes, in loops."""
    batch = len(inputs["loc"])
    prior, variance = inputs["prior"][0].reshape(2, -1, 4)
    loc = inputs["loc"].reshape(batch, len(prior), -1, 4)
    conf = inputs["conf"].reshape(batch, len(prior), classes)
    rows: list[list[float]] = []
    for n in range(batch):
        kept: list[tuple[float, int, int]] = []
        box_of: dict[tuple[int, int], np.ndarray] = {}
        for c in range(classes):
            if c == background:
                continue
            order = sorted((i for i in range(len(prior)) if conf[n, i, c] > floor), key=lambda i, c=c: -conf[n, i, c])
            chosen: list[int] = []
            threshold = overlap
            for i in order[: top if top > -1 else None]:
                box_of[c, i] = decode(code, prior[i], variance[i], loc[n, i, 0 if shared else c], encoded)
                if all(jaccard(box_of[c, i], box_of[c, j]) <= threshold for j in chosen):
                    chosen.append(i)
                    threshold *= eta if threshold > 0.5 else 1.0
            kept += [(float(conf[n, i, c]), c, i) for i in chosen]
        if -1 < keep < len(kept):
            kept = sorted(kept, key=lambda k: -k[0])[:keep]
        for score, c, i in sorted(kept, key=lambda k: (k[1], -k[0])):
            rows.append([n, c, score, *box_of[c, i]])
    if not rows:
        rows = [[n, -1, -1, -1, -1, -1, -1] for n in range(batch)]
    return np.array(rows)[None, None]


CV = "num_classes: 4 share_location: true background_label_id: 0"
NMS = "nms_param { nms_threshold: 0.45 top_k: 30 }"
CASES = [
    pytest.param(
        f"num_classes: 4 {NMS} code_type: CENTER_SIZE keep_top_k: 12 confidence_threshold: 0.05",
        {"classes": 4, "code": "CENTER_SIZE", "overlap": 0.45, "top": 30, "keep": 12, "floor": 0.05},
        id="ssd-deploy",
    ),
    pytest.param(
        "num_classes: 4 code_type: 2 nms_param { nms_threshold: 0.45 top_k: 5 }",
        {"classes": 4, "code": "CENTER_SIZE", "overlap": 0.45, "top": 5},
        id="top-k-before-suppression",
    ),
    pytest.param("num_classes: 3", {"classes": 3}, id="defaults"),
    pytest.param(
        "num_classes: 3 code_type: CORNER_SIZE confidence_threshold: 0.1",
        {"classes": 3, "code": "CORNER_SIZE", "floor": 0.1},
        id="corner-size",
    ),
    pytest.param(
        "num_classes: 3 share_location: false background_label_id: 1 code_type: CENTER_SIZE keep_top_k: 7",
        {"classes": 3, "shared": False, "background": 1, "code": "CENTER_SIZE", "keep": 7},
        id="own-locations-background-1",
    ),
    pytest.param(
        "num_classes: 3 share_location: false background_label_id: -1 keep_top_k: 200",
        {"classes": 3, "shared": False, "background": -1, "keep": 200},
        id="own-locations-no-background",
    ),
    pytest.param(
        "num_classes: 3 code_type: CENTER_SIZE variance_encoded_in_target: true "
        "nms_param { nms_threshold: 0.5 eta: 0.9 }",
        {"classes": 3, "code": "CENTER_SIZE", "encoded": True, "overlap": 0.5},
        id="variance-in-target-eta-without-effect",
    ),
    pytest.param(
        "num_classes: 3 code_type: CENTER_SIZE confidence_threshold: 0.1 "
        "nms_param { nms_threshold: 0.9 eta: 0.9 top_k: 20 }",
        {"classes": 3, "code": "CENTER_SIZE", "floor": 0.1, "overlap": 0.9, "eta": 0.9, "top": 20},
        id="falling-threshold",
    ),
    pytest.param(
        "num_classes: 3 share_location: false keep_top_k: 45 nms_param { nms_threshold: 0.8 eta: 0.8 }",
        {"classes": 3, "shared": False, "overlap": 0.8, "eta": 0.8, "keep": 45},
        id="falling-threshold-own-locations-corner",
    ),
    pytest.param(
        "num_classes: 2 code_type: CENTER_SIZE nms_param { nms_threshold: 1.5 }",
        {"classes": 2, "code": "CENTER_SIZE", "overlap": 1.5},
        id="no-suppression",
    ),
    pytest.param(
        "num_classes: 3 background_label_id: 2 confidence_threshold: 0.999999",
        {"classes": 3, "background": 2, "floor": 0.999999},
        id="nothing-found",
    ),
]


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize(("settings", "meaning"), CASES)
def test_detection_output(settings: str, meaning: dict[str, object], batch: int, tmp_path: Path) -> None:
    classes = int(str(meaning["classes"]))
    sets = classes if meaning.get("shared") is False else 1
    inputs = boxes_and_scores(7, 2, 40, classes, sets, spread=0.6)
    inputs |= {k: inputs[k][:batch] for k in ("loc", "conf")}
    one = {k: v[:1] for k, v in inputs.items()}
    got = run(convert(tmp_path, detection_net(settings, one)), inputs)["out"]  # the batch is dynamic
    expected = reference(inputs, **meaning)  # pyright: ignore[reportArgumentType]
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(f"{CV} {NMS} code_type: CENTER_SIZE keep_top_k: 12 confidence_threshold: 0.05", id="deploy"),
        pytest.param(f"{CV} {NMS} code_type: CORNER keep_top_k: 100 confidence_threshold: 0.2", id="corner"),
        pytest.param(f"{CV.replace('true', 'false')} {NMS} code_type: CENTER_SIZE keep_top_k: 9", id="own-locations"),
    ],
)
def test_detection_output_finds_what_opencv_finds(settings: str, tmp_path: Path) -> None:
    """The same rows; OpenCV's order among them is its own, and it fills up to keep_top_k with zeros."""
    inputs = boxes_and_scores(3, 1, 50, 4, 4 if "share_location: false" in settings else 1, spread=0.3)
    net = detection_net(settings, inputs)
    got, expected = run(convert(tmp_path, net), inputs)["out"][0, 0], opencv(tmp_path, net, inputs, "out")[0, 0]
    expected = expected[expected[:, 2] > 0]
    assert got.shape == expected.shape

    def ordered(rows: np.ndarray) -> np.ndarray:
        return rows[np.lexsort((-rows[:, 2], rows[:, 1]))]

    np.testing.assert_allclose(ordered(got), ordered(expected), rtol=1e-5, atol=2e-6)


def test_turned_boxes_overlap_nothing(tmp_path: Path) -> None:
    """A CORNER box with its corners swapped has no size in Caffe; NonMaxSuppression alone would turn it round."""
    prior = np.array([[[0.2, 0.2, 0.6, 0.6] * 3, [1.0] * 12]], np.float32)
    loc = np.array([[0, 0, 0, 0, 0.4, 0.4, -0.4, -0.4, 0.01, 0, 0, 0]], np.float32)
    inputs = {"loc": loc, "conf": np.array([[0.1, 0.9, 0.2, 0.8, 0.3, 0.7]], np.float32), "prior": prior}
    net = detection_net("num_classes: 2", inputs)
    got = run(convert(tmp_path, net), inputs)["out"]
    np.testing.assert_allclose(got, reference(inputs, 2), rtol=1e-6)
    assert got.shape[2] == 2


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        pytest.param("share_location: true", MalformedFile, id="no-classes"),
        pytest.param("num_classes: 5", MalformedFile, id="classes-do-not-fit"),
        pytest.param("num_classes: 4 nms_param { nms_threshold: -1 }", MalformedFile, id="negative-threshold"),
        pytest.param("num_classes: 4 nms_param { eta: 2 }", MalformedFile, id="eta-above-1"),
        pytest.param("num_classes: 4 code_type: SQUARE", UnsupportedError, id="unknown-code"),
        pytest.param("num_classes: 2147483647", MalformedFile, id="absurd-classes"),
    ],
)
def test_detection_output_refuses(settings: str, error: type[NetferryError], tmp_path: Path) -> None:
    with pytest.raises(error):
        convert(tmp_path, detection_net(settings, boxes_and_scores(1, 1, 6, 4, 1)))
