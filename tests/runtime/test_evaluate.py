"""Evaluation: hand-made cases against formulas, the digits against scikit-learn, ONNX models that answer as told."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

import netferry
from netferry.errors import InputError, UsageError
from netferry.runtime.data import Item
from netferry.runtime.evaluate import calibration, crop_changes, evaluate
from netferry.runtime.feed import Feed
from netferry.runtime.labelling import Labelling
from netferry.runtime.preprocess import preprocess
from netferry.runtime.session import Session
from tests.shared import REPOSITORY

pytest.importorskip("sklearn", reason="needs the extra 'evaluate'")
FIXTURES = REPOSITORY / "fixtures"


def echo(classes: int = 3, **metadata: Any) -> Session:
    """A network whose scores are its input."""
    graph = f"g (float[N, {classes}] x) => (float[N, {classes}] y) {{ y = Identity(x) }}"
    text = f'<ir_version: 10, opset_import: ["": 21]> {graph}'
    model = onnx.parser.parse_model(text)
    onnx.helper.set_model_props(model, {f"netferry.{k}": json.dumps(v) for k, v in metadata.items()})
    return Session(model.SerializeToString(), "cpu")


def rows(scores: Any, labels: list[str]) -> list[Item]:
    arrays = np.asarray(scores, np.float32)
    return [Item(f"row {i}", a, label, ready=True) for i, (a, label) in enumerate(zip(arrays, labels, strict=True))]


SCORES = [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.5, 0.3, 0.2], [0.2, 0.2, 0.6], [0.4, 0.4, 0.2]]
TRUTH = ["0", "1", "1", "0", "1"]


def test_a_case_by_hand() -> None:
    found = evaluate(echo(), rows(SCORES, TRUTH), tops=(1, 2))
    assert found.predicted.tolist() == [0, 1, 0, 2, 0]
    assert found.matrix.tolist() == [[1, 0, 1], [2, 1, 0], [0, 0, 0]]
    assert found.rank.tolist() == [0, 0, 1, 1, 1]  # of equal scores the class with the lower number comes first
    assert found.top == {1: 0.4, 2: 1.0}
    table = {row["class"]: row for row in found.per_class}
    assert table["class 0"] == {
        "class": "class 0",
        "precision": pytest.approx(1 / 3),
        "recall": 0.5,
        "f1": pytest.approx(0.4),
        "support": 2,
    }
    assert (table["class 2"]["precision"], table["class 2"]["support"]) == (0.0, 0)
    assert found.averages["recall"] == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert found.log_loss == pytest.approx(-np.log([0.7, 0.8, 0.3, 0.2, 0.4]).mean())
    assert [(m.item, round(m.confidence, 3)) for m in found.mistakes] == [
        ("row 3", 0.6),
        ("row 2", 0.5),
        ("row 4", 0.4),
    ]
    assert not found.softmax


def test_worst_mistakes_are_bounded() -> None:
    found = evaluate(echo(), rows(SCORES, TRUTH), worst=2)
    assert [m.item for m in found.mistakes] == ["row 3", "row 2"]
    assert evaluate(echo(), rows(SCORES, TRUTH), worst=0).mistakes == []


def test_calibration_by_hand() -> None:
    confidence = np.array([0.95, 0.95, 0.95, 0.55, 0.55, 1.0])
    correct = np.array([True, True, False, True, False, True])
    found = calibration(confidence, correct, bins=10)
    last, middle = found["bins"][9], found["bins"][5]
    assert (last["count"], last["accuracy"]) == (4, 0.75)
    assert (middle["count"], middle["accuracy"], middle["confidence"]) == (2, 0.5, pytest.approx(0.55))
    assert found["ece"] == pytest.approx(4 / 6 * abs(0.75 - 0.9625) + 2 / 6 * 0.05)
    assert found["mce"] == pytest.approx(0.2125)
    assert [b["count"] for b in found["bins"][:5]] == [0] * 5
    assert found["bins"][0]["accuracy"] is None


def test_logits_get_a_softmax() -> None:
    found = evaluate(echo(), rows([[3.0, -1.0, 0.0], [0.0, 5.0, 1.0]], ["0", "1"]))
    assert found.softmax
    expected = np.exp([3.0, -1, 0]) / np.exp([3.0, -1, 0]).sum()
    assert found.confidence[0] == pytest.approx(expected[0])


@pytest.mark.parametrize(
    ("names", "classes", "label", "number"),
    [
        pytest.param(["tench, Tinca tinca", "crane", "crane"], None, "tench, Tinca tinca", 0, id="exact"),
        pytest.param(["tench, Tinca tinca", "crane", "crane"], None, "crane", 1, id="first-of-two"),
        pytest.param(["tench, Tinca tinca", "gold fish"], None, "Gold_Fish", 1, id="case-and-underscore"),
        pytest.param(["tench, Tinca tinca", "gold fish"], None, "tench", 0, id="first-synonym"),
        pytest.param(["tench", "goldfish"], None, "n01440764 tench", 0, id="synset"),
        pytest.param(["cat", "dog"], None, "1", 1, id="number"),
        pytest.param(None, ["ant", "bee"], "bee", 1, id="folders"),
        pytest.param(None, ["3", "10"], "1", 1, id="numbers-are-no-names"),
    ],
)
def test_labels(names: list[str] | None, classes: list[str] | None, label: str, number: int) -> None:
    assert Labelling(names, classes, len(names or classes or ()))(label, "x") == number


@pytest.mark.parametrize(("label", "message"), [(None, "no label"), ("zebra", "no class"), ("7", "no class")])
def test_labels_that_are_none(label: str | None, message: str) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        Labelling(["cat", "dog"], None, 2)(label, "picture 3")
    assert raised.value.file == "picture 3"


def test_nothing_to_evaluate() -> None:
    with pytest.raises(UsageError, match="no items"):
        evaluate(echo(), iter(()))


# crops ---------------------------------------------------------------------------------------------------------


def picture_net(height: int, width: int) -> Session:
    text = f"""<ir_version: 10, opset_import: ["": 21]> g (float[N, 3, {height}, {width}] x) => (float[N, 3] y)
    <int64[2] a = {{2, 3}}> {{ y = ReduceMean<keepdims = 0>(x, a) }}"""
    return Session(onnx.parser.parse_model(text).SerializeToString(), "cpu")


def test_center_crop_is_the_single_crop_of_imagenet() -> None:
    feed = Feed(picture_net(224, 224), None, crop_changes("center", Feed(picture_net(224, 224))))
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 400, 3)).astype(np.uint8))
    got = feed(Item("p", picture))["x"]
    by_hand = picture.resize((400 * 256 // 300, 256), Image.Resampling.BILINEAR)
    left, top = (by_hand.width - 224) // 2, (256 - 224) // 2
    np.testing.assert_array_equal(
        got.transpose(1, 2, 0), np.asarray(by_hand.crop((left, top, left + 224, top + 224)), np.float32)
    )


def test_none_takes_the_whole_picture() -> None:
    feed = Feed(picture_net(32, 48), None, crop_changes("none", Feed(picture_net(32, 48))))
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 50, 3)).astype(np.uint8))
    got = feed(Item("p", picture))["x"]
    np.testing.assert_array_equal(
        got.transpose(1, 2, 0), np.asarray(picture.resize((48, 32), Image.Resampling.BILINEAR), np.float32)
    )


@pytest.mark.parametrize(("crop", "share"), [("ten", 0.875), ("center", 0.0), ("center", 1.5)])
def test_wrong_crops(crop: str, share: float) -> None:
    with pytest.raises(UsageError):
        crop_changes(crop, Feed(picture_net(8, 8)), share)


# the verb ------------------------------------------------------------------------------------------------------


def digits(folder: Path) -> Path:
    netferry.convert(
        FIXTURES / "digits.prototxt", folder / "digits.onnx", FIXTURES / "digits.caffemodel", check="structure",
        labels=FIXTURES / "digits_labels.txt", recipe={"scale": (1 / 256,)},
        mean_file=FIXTURES / "digits_mean.binaryproto",
    )  # fmt: skip
    return folder / "digits.onnx"


def test_files_of_the_verb(tmp_path: Path) -> None:
    model = digits(tmp_path)
    wrong = (FIXTURES / "digits.csv").read_text().replace("digit_7_09.png,seven", "digit_7_09.png,one")
    index = tmp_path / "wrong.csv"
    index.write_text("\n".join(str(FIXTURES / line) if ".png" in line else line for line in wrong.splitlines()))
    result = netferry.evaluate(model, index, out=tmp_path / "out")
    assert result["top1"] == pytest.approx(11 / 12)
    assert (result["crop"], result["device"], result["preprocessing_from"]) == ("model", "cpu", "model")
    assert [(m["true"], m["predicted"]) for m in result["mistakes"]] == [("one", "seven")]
    names = {Path(f).name for f in result["files"]}
    assert names == {
        "confusion.png",
        "confusion.csv",
        "per_class.csv",
        "calibration.png",
        "mistakes.png",
        "report.json",
    }
    assert json.loads((tmp_path / "out" / "report.json").read_text())["top1"] == result["top1"]
    table = list(csv.reader((tmp_path / "out" / "confusion.csv").read_text().splitlines()))
    counts = np.array([row[1:] for row in table[1:]], int)
    assert table[0][1:] == [row[0] for row in table[1:]] == result["confusion"]["classes"]
    assert (counts.sum(), np.trace(counts)) == (12, 11)
    assert counts.sum(1).tolist() == [row["support"] for row in result["per_class"]]
    for name in ("confusion.png", "calibration.png", "mistakes.png"):
        assert (tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG")


def test_equals_scikit_learn_on_the_digits(tmp_path: Path) -> None:
    from sklearn.metrics import accuracy_score, log_loss, precision_score

    session = Session(digits(tmp_path), "cpu")
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (20, 20)).astype(np.uint8) for _ in range(64)]
    truth = rng.integers(0, 10, 64)
    items = [Item(f"p{i}", p, str(t)) for i, (p, t) in enumerate(zip(pictures, truth, strict=True))]
    found = evaluate(session, items)
    feed = Feed(session)
    scores = session.run({"data": np.stack([preprocess(p, feed.recipe, feed.size) for p in pictures])})["prob"]
    wide = scores.astype(float)
    assert found.top[1] == accuracy_score(truth, scores.argmax(1))
    assert found.log_loss == pytest.approx(
        log_loss(truth, wide / wide.sum(1, keepdims=True), labels=range(10)), rel=1e-5
    )
    expected = precision_score(truth, scores.argmax(1), average="macro", zero_division=0)
    assert np.mean([row["precision"] for row in found.per_class]) == pytest.approx(expected)


def test_an_index_with_columns_of_its_own(tmp_path: Path) -> None:
    rows = [f"{p},{p.name.split('_')[1]}" for p in sorted(FIXTURES.glob("digit_*.png"))]
    (tmp_path / "in.csv").write_text("id,where,what\n" + "".join(f"0,{row}\n" for row in rows))
    columns = {"path_column": "where", "label_column": "what"}
    net = digits(tmp_path)
    assert netferry.evaluate(net, tmp_path / "in.csv", data_options=columns)["top1"] == 1.0
    compared = netferry.compare([net, net], data=tmp_path / "in.csv", data_options=columns, repeats=1)
    assert [row["top1"] for row in compared["models"]] == [1.0, 1.0]


def test_corrupt_pictures(tmp_path: Path) -> None:
    model = digits(tmp_path)
    (tmp_path / "data" / "seven").mkdir(parents=True)
    (tmp_path / "data" / "seven" / "a.png").write_bytes((FIXTURES / "digit_7_09.png").read_bytes())
    (tmp_path / "data" / "seven" / "b.png").write_bytes(b"broken")
    with pytest.raises(InputError):
        netferry.evaluate(model, tmp_path / "data")
    result = netferry.evaluate(model, tmp_path / "data", on_error="skip")
    assert (result["items"], [Path(s["item"]).name for s in result["skipped"]]) == (1, ["b.png"])
