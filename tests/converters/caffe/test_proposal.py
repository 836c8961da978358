"""Proposals against NumPy loops, and against OpenCV's Caffe reader where it agrees.

The loops follow proposal_layer.cpp of the PVANet and Intel forks: OpenCV reads one image, does not compare proposals
with min_size, and has no second top and no scale of four numbers.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from netferry.converters.caffe.layers.proposal import Settings, anchors_of, read_param_str
from netferry.converters.caffe.registry import Declined
from netferry.errors import LimitExceeded, MalformedFile, NetferryError
from netferry.schemas.model import PLACEHOLDER_DOMAIN
from tests.converters.caffe.running import convert, declare, declare_shapes, layer, opencv, run


def rpn(seed: int, batch: int, anchors: int, info: list[float]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "score": rng.uniform(0, 1, (batch, 2 * anchors, 5, 6)).astype(np.float32),
        "delta": rng.normal(0, 0.3, (batch, 4 * anchors, 5, 6)).astype(np.float32),
        "info": np.array([info], np.float32).repeat(batch, 0),
    }


def test_anchors_are_those_of_the_paper() -> None:
    """The table at the head of py-faster-rcnn's generate_anchors.py (MATLAB's, less one)."""
    table = [
        [-84, -40, 99, 55], [-176, -88, 191, 103], [-360, -184, 375, 199],
        [-56, -56, 71, 71], [-120, -120, 135, 135], [-248, -248, 263, 263],
        [-36, -80, 51, 95], [-80, -168, 95, 183], [-168, -344, 183, 359],
    ]  # fmt: skip
    for python in (False, True):
        np.testing.assert_array_equal(anchors_of(Settings(drop_small=python), "rpn"), np.array(table, np.float32))


def propose(inputs: dict[str, np.ndarray], s: Settings) -> tuple[np.ndarray, np.ndarray]:
    """proposal_layer.cpp in loops, each image of the batch by itself; py-faster-rcnn's where it drops small boxes."""
    anchors = anchors_of(s, "rpn")
    A = len(anchors)
    rois, found = [], []
    for n in range(len(inputs["score"])):
        score, delta = inputs["score"][n], inputs["delta"][n]
        info = inputs["info"][n % len(inputs["info"])]
        height, width, scale_h, scale_w = (*info[:3], info[3] if len(info) > 3 else info[2])
        boxes = []
        for h in range(score.shape[1]):
            for w in range(score.shape[2]):
                for k in range(A):
                    a = anchors[k].astype(np.float64) + np.array([w, h, w, h]) * s.stride
                    size = a[2:] - a[:2] + 1
                    d = delta[4 * k : 4 * k + 4, h, w].astype(np.float64)
                    centre, reach = d[:2] * size + a[:2] + size / 2, np.exp(d[2:]) * size / 2
                    most = np.array([width - 1, height - 1])
                    low, high = (np.clip(v, 0, most) for v in (centre - reach, centre + reach))
                    large = bool(np.all(high - low + 1 >= s.least * np.array([scale_w, scale_h])))
                    if large or not s.drop_small:
                        boxes.append([*low, *high, float(score[A + k, h, w]) * large])
        boxes.sort(key=lambda box: -box[4])
        kept: list[list[float]] = []
        for box in boxes[: s.before]:
            if len(kept) < s.after and all(iou(box, other) <= s.overlap for other in kept):
                kept.append(box)
        rois += [[n, *box[:4]] for box in kept]
        found += [box[4] for box in kept]
    return np.array(rois).reshape(-1, 5), np.array(found)


def iou(a: list[float], c: list[float]) -> float:
    both = [min(a[i + 2], c[i + 2]) - max(a[i], c[i]) + 1 for i in (0, 1)]
    if min(both) <= 0:
        return 0.0
    areas = [(v[2] - v[0] + 1) * (v[3] - v[1] + 1) for v in (a, c)]
    return both[0] * both[1] / (sum(areas) - both[0] * both[1])


PROPOSALS = [
    pytest.param("", Settings(), [80, 96, 1], id="defaults"),
    pytest.param(
        "feat_stride: 8 base_size: 8 ratio: 0.5 ratio: 1 scale: 2 scale: 4 min_size: 4 "
        "pre_nms_topn: 60 post_nms_topn: 20 nms_thresh: 0.5",
        Settings(8, 8, 4.0, (0.5, 1.0), (2.0, 4.0), 60, 20, 0.5),
        [40, 48, 1.5, 2.0],
        id="pvanet-four-numbers",
    ),
    pytest.param(
        "ratio: 0.667 scale: 3 base_size: 15 min_size: 0 nms_thresh: 0.3",
        Settings(base=15, least=0.0, ratios=(0.667,), scales=(3.0,), overlap=0.3),
        [80, 96, 1],
        id="one-anchor",
    ),
]


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize(("settings", "meaning", "info"), PROPOSALS)
def test_proposal(settings: str, meaning: Settings, info: list[float], batch: int, tmp_path: Path) -> None:
    inputs = rpn(4, batch, len(meaning.ratios) * len(meaning.scales), info)
    one = {k: v[:1] for k, v in inputs.items()}
    net = declare(one) + layer("Proposal", "score delta info", f"proposal_param {{ {settings} }}", "rois scores")
    got = run(convert(tmp_path, net), inputs)
    rois, scores = propose(inputs, meaning)
    big = scores > 0  # Caffe sorts boxes of score 0 (too small) as they come
    assert got["rois"].shape[1] == 5
    np.testing.assert_allclose(got["rois"][got["scores"] > 0], rois[big], rtol=1e-5, atol=2e-4)
    np.testing.assert_allclose(got["scores"][got["scores"] > 0], scores[big], rtol=1e-6)
    assert len(got["rois"]) <= batch * meaning.after


def test_proposal_agrees_with_opencv(tmp_path: Path) -> None:
    """With min_size 1, which no clipped box is below, and more candidates than rows."""
    inputs = rpn(4, 1, 4, [40, 48, 1])
    settings = (
        "proposal_param { feat_stride: 8 base_size: 8 ratio: 0.5 ratio: 1 scale: 2 scale: 4 min_size: 1 "
        "pre_nms_topn: 60 post_nms_topn: 20 nms_thresh: 0.5 }"
    )
    net = declare(inputs) + layer("Proposal", "score delta info", settings, "rois")
    got = run(convert(tmp_path, net), inputs)["rois"]
    np.testing.assert_allclose(got, opencv(tmp_path, net, inputs, "out"), rtol=0, atol=1e-5)


def test_python_proposal_layer_is_read_not_run(tmp_path: Path) -> None:
    inputs = rpn(9, 1, 6, [80, 96, 0.5])
    settings = (
        'python_param { module: "rpn.proposal_layer" layer: "ProposalLayer" '
        "param_str: \"'feat_stride': 16\\n'scales': !!python/tuple [2, 4]\" }"
    )
    net = declare(inputs) + layer("Python", "score delta info", settings, "rois scores")
    got = run(convert(tmp_path, net), inputs)
    rois, scores = propose(inputs, Settings(scales=(2.0, 4.0), drop_small=True))
    np.testing.assert_allclose(got["rois"], rois, rtol=1e-5, atol=2e-4)
    np.testing.assert_allclose(got["scores"], scores[:, None], rtol=1e-6)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        pytest.param("Python", 'python_param { module: "os" layer: "system" param_str: "rm" }', id="other-module"),
        pytest.param(
            "Python",
            'python_param { module: "rpn.proposal_layer" layer: "ProposalLayer" param_str: "__import__(\'os\')" }',
            id="code-in-param-str",
        ),
        pytest.param(
            "Proposal", "proposal_param { anchor_base_size: 16 max_rois: 300 }", id="proposal-of-another-fork"
        ),
    ],
)
def test_what_is_not_known_becomes_a_placeholder(kind: str, settings: str, tmp_path: Path) -> None:
    inputs = rpn(9, 1, 9, [80, 96, 1])
    model = convert(tmp_path, declare(inputs) + layer(kind, "score delta info", settings))
    assert [n.domain for n in model.ir.graph] == [PLACEHOLDER_DOMAIN]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("'feat_stride': 16", {"feat_stride": (16.0,)}, id="py-faster-rcnn"),
        pytest.param(
            '{"feat_stride": 16, "scales": [4, 8.5]}', {"feat_stride": (16.0,), "scales": (4.0, 8.5)}, id="braces"
        ),
        pytest.param("feat_stride: 8\nscales: (1, 2,)\n", {"feat_stride": (8.0,), "scales": (1.0, 2.0)}, id="lines"),
        pytest.param("", {}, id="empty"),
    ],
)
def test_param_str(text: str, expected: dict[str, tuple[float, ...]]) -> None:
    assert read_param_str(text) == expected


@pytest.mark.parametrize(
    "text", ["16", "a: b", "a: 1 b: 2", "a: 1, a: 2", "a: [1", "a: 1e999", "a: " + "1" * 2000, "a: [[1]]"]
)
def test_param_str_declines(text: str) -> None:
    with pytest.raises(Declined):
        read_param_str(text)


MOST = 2**31 - 1


@pytest.mark.parametrize(
    ("kind", "bottoms", "settings", "error"),
    [
        pytest.param("Proposal", "delta score info", "", MalformedFile, id="swapped"),
        pytest.param("Proposal", "score delta two", "", MalformedFile, id="info-of-two"),
        pytest.param("Proposal", "score delta info", "proposal_param { ratio: -1 }", MalformedFile, id="ratio"),
        pytest.param("Proposal", "score delta", "", MalformedFile, id="two-bottoms"),
        pytest.param("Proposal", "huge huge2 info", "", LimitExceeded, id="huge-map"),
        pytest.param(
            "Proposal", "score delta info", f"proposal_param {{ {'ratio: 1 scale: 1 ' * 101} }}",
            LimitExceeded, id="many-anchors",
        ),
    ],
)  # fmt: skip
def test_refuses(kind: str, bottoms: str, settings: str, error: type[NetferryError], tmp_path: Path) -> None:
    shapes = {"score": (1, 18, 5, 6), "delta": (1, 36, 5, 6), "info": (1, 3), "two": (1, 2)}
    if "huge" in bottoms:
        shapes |= {"huge": (1, 18, MOST, MOST), "huge2": (1, 36, MOST, MOST)}
    net = declare_shapes(shapes)
    with pytest.raises(error):
        convert(tmp_path, net + layer(kind, bottoms, settings))
