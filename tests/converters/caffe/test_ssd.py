"""PriorBox, and a small SSD as a whole, against OpenCV's Caffe reader.

OpenCV keeps fractions of min_size and max_size where Caffe (prior_box_layer.cpp of github.com/weiliu89/caffe, branch
ssd) cuts them; it wants flip, clip and variance written out.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from netferry.converters.caffe.registry import registry
from netferry.errors import LimitExceeded, MalformedFile
from tests.converters.caffe.caffemodel_writer import caffemodel
from tests.converters.caffe.running import convert, declare, declare_shapes, opencv, run

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


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param('PriorBox" bottom: "d" bottom: "d" top: "p" prior_box_param { min_size: 3 }', id="priors"),
        pytest.param(
            'PriorBox" bottom: "s" bottom: "s" top: "p" prior_box_param { '
            + "min_size: 3 " * 200
            + "".join(f"aspect_ratio: {i} " for i in range(2, 100))
            + "}",
            id="kinds",
        ),
        pytest.param(
            'DetectionOutput" bottom: "l" bottom: "c" bottom: "s" top: "p" '
            "detection_output_param { num_classes: 2147483647 }",
            id="classes",
        ),
    ],
)
def test_absurd_sizes_allocate_nothing(settings: str, tmp_path: Path) -> None:
    most = 2**31 - 1
    shapes = {"d": (1, 1, most, most), "s": (1, 2, 4, 1), "l": (1, 4), "c": (1, most)}
    with pytest.raises(LimitExceeded):
        convert(tmp_path, declare_shapes(shapes) + f'layer {{ name: "p" type: "{settings} }}')


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
