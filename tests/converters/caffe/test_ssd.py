"""PriorBox and DetectionOutput against OpenCV's Caffe reader, and against NumPy where OpenCV departs from SSD's Caffe.

OpenCV keeps fractions of min_size and max_size (Caffe cuts them), breaks ties and orders rows in its own way, and says
an empty result with zeros; the NumPy references below follow prior_box_layer.cpp and detection_output_layer.cpp of
github.com/weiliu89/caffe (branch ssd), box by box.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from netferry.converters.caffe.registry import registry
from netferry.errors import FormatError, MalformedFile, NetferryError, UnsupportedError
from tests.converters.caffe.caffemodel_writer import caffemodel
from tests.converters.caffe.running import convert, declare, opencv, run

FLT_MAX = float(np.finfo(np.float32).max)


def prior_net(settings: str, feature: tuple[int, ...], image: tuple[int, ...]) -> tuple[str, dict[str, np.ndarray]]:
    inputs = {"data": np.zeros(image, np.float32), "feature": np.zeros(feature, np.float32)}
    net = declare(inputs) + (
        'layer { name: "prior" type: "PriorBox" bottom: "feature" bottom: "data" top: "prior" '
        f"prior_box_param {{ {settings} }} }}"
    )
    return net, inputs


PRIORS = [
    pytest.param("min_size: 30 max_size: 60 aspect_ratio: 2 flip: true clip: false variance: 0.1", id="ssd-conv4"),
    pytest.param(
        "min_size: 60 max_size: 111 aspect_ratio: 2 aspect_ratio: 3 flip: true clip: true variance: 0.1",
        id="two-ratios",
    ),
    pytest.param("min_size: 20 aspect_ratio: 3 flip: false clip: false variance: 0.2", id="one-variance-no-flip"),
    pytest.param(
        "min_size: 20 flip: true clip: false variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2 "
        "step: 8 offset: 0.25",
        id="step-offset-four-variances",
    ),
    pytest.param(
        "min_size: 20 aspect_ratio: 1 flip: true step_h: 9 step_w: 7 clip: 1 variance: 0.3", id="step-h-w-ratio-1"
    ),
    pytest.param(
        "min_size: 16 min_size: 32 max_size: 24 max_size: 48 aspect_ratio: 2 flip: true clip: false variance: 0.1",
        id="pairs",
    ),
]


@pytest.mark.parametrize("settings", PRIORS)
def test_prior_box_agrees_with_opencv(settings: str, tmp_path: Path) -> None:
    net, inputs = prior_net(settings, (1, 4, 5, 7), (1, 3, 60, 90))
    got = run(convert(tmp_path, net), inputs)["prior"]
    expected = opencv(tmp_path, net, inputs, "prior")
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=0, atol=2e-6)


def test_prior_box_cuts_sizes_to_integers(tmp_path: Path) -> None:
    """Caffe puts min_size and max_size into ints; OpenCV does not."""
    cut, inputs = prior_net("min_size: 21.9 max_size: 45.6 aspect_ratio: 2", (1, 4, 3, 3), (1, 3, 60, 60))
    whole, _ = prior_net(
        "min_size: 21 max_size: 45 aspect_ratio: 2 flip: true clip: false variance: 0.1", (1, 4, 3, 3), (1, 3, 60, 60)
    )
    got = run(convert(tmp_path, cut), inputs)["prior"]
    np.testing.assert_allclose(got, opencv(tmp_path, whole, inputs, "prior"), rtol=0, atol=2e-6)
    corner = (0.5 * 20 - 21 * math.sqrt(2) / 2) / 60
    assert got[0, 0, 8] == pytest.approx(corner, abs=1e-6)


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param("aspect_ratio: 2", id="no-min-size"),
        pytest.param("min_size: 0", id="zero-size"),
        pytest.param("min_size: 30 max_size: 20", id="max-below-min"),
        pytest.param("min_size: 30 min_size: 40 max_size: 50", id="max-sizes-too-few"),
        pytest.param("min_size: 30 variance: 0.1 variance: 0.2", id="two-variances"),
        pytest.param("min_size: 30 step: 8 step_h: 8 step_w: 8", id="steps-twice"),
        pytest.param("min_size: 30 step: 0", id="zero-step"),
        pytest.param("min_size: 30 img_size: 9 img_h: 9 img_w: 9", id="image-size-twice"),
        pytest.param("min_size: 30 aspect_ratio: 0", id="zero-ratio"),
        pytest.param("min_size: 1e30", id="absurd-size"),
        pytest.param("min_size: 30 offset: 1e300", id="absurd-offset"),
        pytest.param("min_size: 30 variance: 1e300", id="absurd-variance"),
        pytest.param("min_size: 30 step: inf", id="endless-step"),
    ],
)
def test_prior_box_refuses(settings: str, tmp_path: Path) -> None:
    net, _ = prior_net(settings, (1, 4, 3, 3), (1, 3, 60, 60))
    with pytest.raises(MalformedFile):
        convert(tmp_path, net)


def test_prior_box_of_an_absurd_map_allocates_nothing(tmp_path: Path) -> None:
    text = (
        'layer { name: "d" type: "Input" top: "d" '
        "input_param { shape { dim: 1 dim: 1 dim: 2147483647 dim: 2147483647 } } }"
        'layer { name: "p" type: "PriorBox" bottom: "d" bottom: "d" top: "p" prior_box_param { min_size: 3 } }'
    )
    with pytest.raises(FormatError):
        convert(tmp_path, text)


# DetectionOutput ---------------------------------------------------------------------------------------------------


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
            for i in order[: top if top > -1 else None]:
                box_of[c, i] = decode(code, prior[i], variance[i], loc[n, i, 0 if shared else c], encoded)
                if all(jaccard(box_of[c, i], box_of[c, j]) <= overlap for j in chosen):
                    chosen.append(i)
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
        pytest.param("num_classes: 4 nms_param { nms_threshold: 0.7 eta: 0.5 }", UnsupportedError, id="adaptive"),
        pytest.param("num_classes: 4 code_type: SQUARE", UnsupportedError, id="unknown-code"),
        pytest.param("num_classes: 2147483647", MalformedFile, id="absurd-classes"),
    ],
)
def test_detection_output_refuses(settings: str, error: type[NetferryError], tmp_path: Path) -> None:
    with pytest.raises(error):
        convert(tmp_path, detection_net(settings, boxes_and_scores(1, 1, 6, 4, 1)))


# a whole detector ---------------------------------------------------------------------------------------------------

HEAD = """
layer {{ name: "{n}_{what}" type: "Convolution" bottom: "{n}" top: "{n}_{what}"
  convolution_param {{ num_output: {count} kernel_size: 3 pad: 1 }} }}
layer {{ name: "{n}_{what}_perm" type: "Permute" bottom: "{n}_{what}" top: "{n}_{what}_perm"
  permute_param {{ order: 0 order: 2 order: 3 order: 1 }} }}
layer {{ name: "{n}_{what}_flat" type: "Flatten" bottom: "{n}_{what}_perm" top: "{n}_{what}_flat"
  flatten_param {{ axis: 1 }} }}
"""
STEM = """
layer {{ name: "{n}" type: "Convolution" bottom: "{below}" top: "{n}"
  convolution_param {{ num_output: 8 kernel_size: 3 stride: 2 pad: 1 }} }}
layer {{ name: "{n}_relu" type: "ReLU" bottom: "{n}" top: "{n}" }}
layer {{ name: "{n}_prior" type: "PriorBox" bottom: "{n}" bottom: "data" top: "{n}_prior"
  prior_box_param {{ min_size: {small} max_size: {large} aspect_ratio: 2 flip: true clip: false
    variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2 offset: 0.5 }} }}
"""
JOIN = """
layer {{ name: "{what}" type: "Concat" bottom: "c1_{what}{end}" bottom: "c2_{what}{end}" top: "{what}"
  concat_param {{ axis: {axis} }} }}
"""
TAIL = """
layer { name: "conf3" type: "Reshape" bottom: "conf" top: "conf3"
  reshape_param { shape { dim: 0 dim: -1 dim: 3 } } }
layer { name: "soft" type: "Softmax" bottom: "conf3" top: "soft" softmax_param { axis: 2 } }
layer { name: "conf2" type: "Flatten" bottom: "soft" top: "conf2" flatten_param { axis: 1 } }
layer { name: "out" type: "DetectionOutput" bottom: "loc" bottom: "conf2" bottom: "prior" top: "out"
  include { phase: TEST } detection_output_param { num_classes: 3 share_location: true background_label_id: 0
    nms_param { nms_threshold: 0.45 top_k: 100 } code_type: CENTER_SIZE keep_top_k: 15 confidence_threshold: 0.2 } }
"""


@pytest.mark.skipif(
    any(registry.get(kind) is None for kind in ("Permute", "Flatten", "Concat", "Reshape", "Softmax")),
    reason="needs the readers of the shape layers",
)
@pytest.mark.parametrize("batch", [1, 3])
def test_a_small_ssd(batch: int, tmp_path: Path) -> None:
    """Two feature maps, trained weights from a caffemodel, each image of a batch against OpenCV."""
    rng = np.random.default_rng(11)
    inputs = {"data": rng.normal(0, 1, (batch, 3, 32, 40)).astype(np.float32)}
    one = {"data": inputs["data"][:1]}
    net, weights = declare(one), {}
    for n, below, depth, small, large in (("c1", "data", 3, 6, 12), ("c2", "c1", 8, 14, 24)):
        net += STEM.format(n=n, below=below, small=small, large=large)
        heads = {n: (8, depth), f"{n}_loc": (16, 8), f"{n}_conf": (12, 8)}
        net += "".join(HEAD.format(n=n, what=w, count=c) for w, c in (("loc", 16), ("conf", 12)))
        for name, (out, channels) in heads.items():
            blobs = [rng.normal(0, 0.2, (out, channels, 3, 3)), rng.normal(0, 0.1, (out,))]
            weights[name] = ("Convolution", [b.astype(np.float32) for b in blobs])
    net += "".join(
        JOIN.format(what=w, end=e, axis=a) for w, e, a in (("loc", "_flat", 1), ("conf", "_flat", 1), ("prior", "", 2))
    )
    stored = caffemodel(weights)
    got = run(convert(tmp_path, net + TAIL, stored), inputs)["out"][0, 0]
    for n in range(batch):
        mine = got[got[:, 0] == n][:, 1:]
        image = {"data": inputs["data"][n : n + 1]}
        theirs = opencv(tmp_path, net + TAIL, image, "out", stored)[0, 0, :, 1:]
        theirs = theirs[theirs[:, 1] > 0]
        assert len(mine) == len(theirs) == 15
        mine, theirs = (rows[np.lexsort((-rows[:, 1], rows[:, 0]))] for rows in (mine, theirs))
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)
