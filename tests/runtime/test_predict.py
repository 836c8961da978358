"""Predictions: the digits net through ONNX must say what OpenCV's Caffe reader says, and what the pictures show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from PIL import Image

from fixtures import make
from netferry.errors import CheckFailed, InputError, MalformedFile, NetferryError, UsageError
from netferry.runtime.predict import Classifier, predict
from netferry.runtime.preprocess import preprocess
from netferry.runtime.session import Session
from netferry.schemas.preprocessing import Preprocessing

FOLDER = Path(make.__file__).parent
PICTURES = sorted(FOLDER.glob("digit_*.png"))
NAMES = (FOLDER / "digits_labels.txt").read_text().split()
MEAN = np.frombuffer((FOLDER / "digits_mean.binaryproto").read_bytes()[-1600:], "<f4").reshape(1, 20, 20)
RECIPE = Preprocessing(color="GRAY", mean_image=MEAN, scale=(1 / 256,))
DIGITS = """<ir_version: 10, opset_import: ["": 21]>
g (float[%BATCH%, 1, 20, 20] data) => (float[%BATCH%, 10] prob) {
    c1 = Conv(data, conv1w, conv1b)  p1 = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(c1)
    c2 = Conv(p1, conv2w, conv2b)    p2 = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(c2)
    f = Flatten(p2)  i1 = Gemm<transB = 1>(f, ip1w, ip1b)  r = Relu(i1)
    i2 = Gemm<transB = 1>(r, ip2w, ip2b)  prob = %LAST%(i2)
}"""


def caffe_net() -> cv2.dnn.Net:
    return cv2.dnn.readNetFromCaffe(f"{FOLDER}/digits.prototxt", f"{FOLDER}/digits.caffemodel")


def digits(batch: str = "N", last: str = "Softmax", **metadata: Any) -> Session:
    """The digits net as ONNX, its weights as OpenCV reads them."""
    model = onnx.parser.parse_model(DIGITS.replace("%BATCH%", batch).replace("%LAST%", last))
    net = caffe_net()
    for layer in ("conv1", "conv2", "ip1", "ip2"):
        for index, kind in enumerate("wb"):
            value = net.getParam(layer, index)
            value = value.reshape(-1) if kind == "b" else value
            model.graph.initializer.append(onnx.numpy_helper.from_array(value, f"{layer}{kind}"))
    onnx.helper.set_model_props(model, {f"netferry.{k}": json.dumps(v) for k, v in metadata.items()})
    return Session(model.SerializeToString(), "cpu", threads=1)


CARRIED = {"preprocessing": {"data": RECIPE.as_dict()}, "labels": {"prob": NAMES}}


@pytest.mark.parametrize(
    ("batch", "last", "softmax"),
    [
        pytest.param("N", "Softmax", False, id="dynamic-batch"),
        pytest.param("1", "Softmax", False, id="batch-1"),
        pytest.param("5", "Softmax", False, id="batch-5-padded"),
        pytest.param("N", "Identity", True, id="logits"),
    ],
)
def test_digits(batch: str, last: str, softmax: bool) -> None:
    net = caffe_net()
    found = predict(digits(batch, last, **CARRIED), [FOLDER], top=3, batch=4)
    assert [Path(p.item) for p in found] == PICTURES
    for prediction, path in zip(found, PICTURES, strict=True):
        net.setInput(preprocess(path, RECIPE, (20, 20))[None])
        expected = np.asarray(net.forward()).reshape(-1)
        assert [c.index for c in prediction.top] == np.argsort(-expected)[:3].tolist()
        np.testing.assert_allclose([c.score for c in prediction.top], np.sort(expected)[::-1][:3], atol=1e-5)
        assert prediction.best is not None
        assert prediction.best.label == NAMES[int(path.name[6])]
        assert prediction.softmax is softmax


@pytest.mark.parametrize(
    ("last", "metadata", "whole", "softmax"),
    [
        pytest.param("Sigmoid", {}, False, False, id="sigmoid-scores-are-each-its-own"),
        pytest.param("Identity", {"tasks": {"prob": "labels"}}, False, False, id="labels"),
        pytest.param("Identity", {"tasks": {"prob": "values"}}, True, False, id="values-in-their-order"),
        pytest.param("Identity", {"tasks": {"other": "values"}}, False, True, id="task-of-another-output"),
        pytest.param("Identity", {"tasks": {"prob": ["values"]}}, False, True, id="no-task"),
    ],
)
def test_numbers_that_are_no_scores_of_one_class(
    last: str, metadata: dict[str, Any], whole: bool, softmax: bool
) -> None:
    session = digits(last=last, **CARRIED, **metadata)
    raw = session.run({"data": preprocess(PICTURES[0], RECIPE, (20, 20))[None]}, ["prob"])["prob"][0]
    found = predict(session, [PICTURES[0]], top=3)[0]
    assert found.softmax is softmax
    assert [c.index for c in found.top] == (list(range(10)) if whole else np.argsort(-raw)[:3].tolist())
    if not softmax:
        np.testing.assert_allclose([c.score for c in found.top], raw[[c.index for c in found.top]], rtol=1e-6)


def test_caller_overrides_what_the_model_carries() -> None:
    wrong = {"preprocessing": {"data": RECIPE.with_(scale=(0.0,)).as_dict()}, "labels": {"prob": NAMES[::-1]}}
    found = predict(digits(**wrong), PICTURES, RECIPE, NAMES, top=1)
    assert [p.top[0].label for p in found] == [NAMES[int(p.name[6])] for p in PICTURES]


def test_without_metadata_the_recipe_is_assumed_and_says_so() -> None:
    classifier = Classifier(digits())
    assert classifier.recipe_from == "assumed"
    assert classifier.recipe.color == "GRAY"
    best = next(classifier.predict(PICTURES[:1], top=1)).top[0]
    assert best.label == f"class {best.index}"
    assert Classifier(digits(**CARRIED)).recipe_from == "model"


def test_images_and_arrays_are_items_too() -> None:
    image = Image.open(PICTURES[0])
    found = predict(digits(**CARRIED), [image, np.asarray(image), PICTURES[0]], top=1)
    assert [p.item for p in found] == ["picture 0", "picture 1", str(PICTURES[0])]
    assert len({p.top for p in found}) == 1


def test_broken_pictures(tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    items = [PICTURES[0], broken, PICTURES[1]]
    with pytest.raises(InputError) as error:
        predict(digits(**CARRIED), items)
    assert error.value.file == str(broken)
    found = predict(digits(**CARRIED), items, on_error="skip")
    assert [p.item for p in found] == [str(i) for i in items]
    assert [p.error is None for p in found] == [True, False, True]
    assert found[1].as_dict()["error"] == {**(found[1].error or NetferryError("")).as_dict()}
    assert found[2].top == predict(digits(**CARRIED), items[2:])[0].top


@pytest.mark.parametrize(
    ("out", "dims"),
    [
        pytest.param("[N, 12]", "0, 12", id="N-C"),
        pytest.param("[N, 12, 1, 1]", "0, 12, 1, 1", id="N-C-1-1"),
        pytest.param("[N, 1, 1, 12]", "0, 1, 1, 12", id="N-1-1-C"),
        pytest.param("[N, C]", "0, 12", id="unknown-C"),
    ],
)
def test_output_shapes(out: str, dims: str) -> None:
    rank = dims.count(",") + 1
    text = f"""<ir_version: 10, opset_import: ["": 21]>
    g (float[N, 3, 1, 4] x) => (float{out} y) <int64[{rank}] s = {{{dims}}}> {{ y = Reshape(x, s) }}"""
    session = Session(onnx.parser.parse_model(text).SerializeToString(), "cpu")
    picture = np.arange(12, dtype=np.float32).reshape(1, 4, 3)
    expected = picture.transpose(2, 0, 1).reshape(-1).astype(np.float64)
    expected = np.exp(expected - 11) / np.exp(expected - 11).sum()
    (found,) = predict(session, [picture], top=12)
    np.testing.assert_allclose([c.score for c in found.top], np.sort(expected)[::-1], rtol=1e-6)
    assert found.softmax
    (raw,) = predict(session, [picture], top=1, softmax=False)
    assert (raw.top[0].score, raw.softmax) == (11, False)


@pytest.mark.parametrize(
    ("graph", "says"),
    [
        pytest.param("(float[N, 4] x) => (float[N, 4] y) { y = Relu(x) }", "is no picture", id="vectors"),
        pytest.param("(int64[N, 3, 4, 4] x) => (float[N, 3, 4, 4] y) { y = Cast<to = 1>(x) }", "is no picture",
                     id="int"),
        pytest.param("(float[N, 7, 4, 4] x) => (float[N, 112] y) { y = Flatten(x) }", "neither 1 nor 3", id="channels"),
        pytest.param(
            "(float[N, 3, 4, 4] x, float[N, 3] z) => (float[N, 48] y) { y = Flatten(x) w = Relu(z) }", "2 inputs",
            id="two",
        ),
        pytest.param("(float[N, 3, 4, 4] x) => (float[N, 3, 4, 4] y) { y = Relu(x) }", "none of its outputs",
                     id="maps"),
        pytest.param(
            "(float[N, 3, 4, 4] x) => (float[N, 48] y, float[N, 48] z) { y = Flatten(x) z = Relu(y) }",
            "2 of its outputs", id="two-outputs",
        ),
        pytest.param("(float[N, 3, H, W] x) => (float[N, 3, H, W] y) { y = Relu(x) }", "one score per class",
                     id="maps-of-any-size"),
    ],
)  # fmt: skip
def test_not_a_classifier(graph: str, says: str) -> None:
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 21]> g {graph}')
    with pytest.raises(UsageError, match=says):
        predict(Session(model.SerializeToString(), "cpu"), [np.zeros((4, 4, 3), np.uint8)])


@pytest.mark.parametrize(
    ("metadata", "error", "says"),
    [
        pytest.param({"labels": {"prob": NAMES[:9]}}, UsageError, "9 labels", id="too-few-labels"),
        pytest.param({"labels": {"prob": [1] * 10}}, MalformedFile, "no list of labels", id="labels-no-text"),
        pytest.param({"labels": [1]}, MalformedFile, "no JSON object", id="labels-no-object"),
        pytest.param({"preprocessing": {"data": {"color": "PINK"}}}, MalformedFile, "PINK", id="recipe"),
        pytest.param({"preprocessing": {"data": {"color": "RGB"}}}, UsageError, "has 1 channels", id="channels"),
    ],
)
def test_metadata_that_does_not_fit(metadata: dict[str, Any], error: type[NetferryError], says: str) -> None:
    with pytest.raises(error, match=says):
        predict(digits(**metadata), PICTURES[:1])


def test_scores_that_are_not_numbers() -> None:
    with pytest.raises(CheckFailed, match="not finite"):
        predict(digits(), [np.full((20, 20), 3e38, np.float32)])  # sums of which are beyond float32
