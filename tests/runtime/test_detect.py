"""Objects on pictures: boxes brought back through every kind of resizing, drawn, written."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

import netferry
from netferry.errors import CheckFailed, NetferryError, UnsupportedOption, UsageError
from netferry.runtime.annotate_boxes import annotate_boxes
from netferry.runtime.data import open_data
from netferry.runtime.detect import Detector, is_detector
from netferry.runtime.preprocess import on_picture, preprocess
from netferry.runtime.session import Session
from netferry.schemas.preprocessing import Preprocessing
from tests.netferry.test_cli import netferry as command_line
from tests.shared import shared

SIZE = (48, 64)
RECIPES = {
    "stretch": Preprocessing(),
    "letterbox": Preprocessing(resize="letterbox"),
    "darknet": Preprocessing(resize="letterbox", interpolation="aligned", size=SIZE),
    "shortest-crop": Preprocessing(resize="shortest", size=(80, 80), crop=SIZE),
    "stretch-crop": Preprocessing(size=(60, 90), crop=SIZE),
}


@pytest.mark.parametrize("shape", [(100, 200), (200, 100), (96, 128), (37, 53)], ids=str)
@pytest.mark.parametrize("name", RECIPES)
def test_boxes_come_back_to_where_they_are(name: str, shape: tuple[int, int]) -> None:
    """A bright rectangle in the middle is found on the network's input, and brought back."""
    high, wide = shape
    left, top, right, bottom = int(wide * 0.4), int(high * 0.4), int(wide * 0.6), int(high * 0.65)
    picture = np.zeros((high, wide, 3), np.uint8)
    picture[top:bottom, left:right] = 255
    seen = preprocess(picture, RECIPES[name], SIZE)[0] > 170
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    parts = np.array([[columns[0] / SIZE[1], rows[0] / SIZE[0], (columns[-1] + 1) / SIZE[1], (rows[-1] + 1) / SIZE[0]]])
    got = on_picture(parts, RECIPES[name], SIZE, shape)[0]
    pixel = 1.3 * max(1, max(shape) / min(SIZE))  # of the input, on the picture
    np.testing.assert_allclose(got, [left, top, right, bottom], atol=pixel)


def detector(path: Path, *, boxes: str = "4", recipe: Preprocessing | None = None) -> Path:
    """A network that finds in each picture two objects: class 1 as bright as the picture, class 0 half as bright."""
    text = f"""<ir_version: 8, opset_import: ["": 17]> g (float[N, 3, 48, 64] data)
        => (float[K, {boxes}] boxes, float[K] scores, int64[K] classes, int64[K] images)
        <float[4] first = {{0.25, 0.25, 0.75, 0.75}}, float[4] second = {{0.0, 0.5, 2.0, 1.0}}, int64[1] one = {{1}},
         float half = {{0.5}}, int64[1] zero = {{0}}, int64 start = {{0}}, int64 step = {{1}}>
        {{
        mean = ReduceMean<axes = [1, 2, 3], keepdims = 0>(data)
        n = Shape(mean)
        count = Squeeze(n)
        place = Range(start, count, step)
        images = Concat<axis = 0>(place, place)
        halved = Mul(mean, half)
        scores = Concat<axis = 0>(mean, halved)
        ones = Expand(one, n)
        zeros = Expand(zero, n)
        classes = Concat<axis = 0>(ones, zeros)
        four = Constant<value_ints = [4]>()
        wide = Concat<axis = 0>(n, four)
        firsts = Expand(first, wide)
        seconds = Expand(second, wide)
        boxes = Concat<axis = 0>(firsts, seconds)
        }}"""
    model = netferry.load(_saved(path.with_suffix(".source.onnx"), text))
    model.labels = {"classes": ["dog", "cat"]}
    model.preprocessing = {"data": recipe or Preprocessing(resize="letterbox", scale=(1 / 255,))}
    netferry.save(model, path)
    return path


def _saved(path: Path, text: str) -> Path:
    onnx.save(onnx.parser.parse_model(text), path)
    return path


def pictures(folder: Path) -> list[Path]:
    files = []
    for n, (width, height) in enumerate([(64, 48), (128, 48), (30, 90), (10, 10), (65, 47)]):
        files.append(folder / f"{n}.png")
        Image.new("RGB", (width, height), (50 * n,) * 3).save(files[-1])
    return files


def test_objects_belong_to_their_pictures(tmp_path: Path) -> None:
    net = detector(tmp_path / "d.onnx", recipe=Preprocessing(scale=(1 / 255,)))
    found = netferry.predict(net, pictures(tmp_path), batch_size=2)
    assert found["count"] == 5
    for n, row in enumerate(found["predictions"]):
        with Image.open(row["item"]) as image:
            width, height = image.size
        assert row["size"] == [height, width]
        assert [o["label"] for o in row["objects"]] == (["cat", "dog"] if n else ["dog", "cat"][::-1])
        assert row["objects"][0]["score"] == pytest.approx(50 * n / 255, abs=1e-3)
        assert row["objects"][0]["box"] == pytest.approx([0.25 * width, 0.25 * height, 0.75 * width, 0.75 * height])
        assert row["objects"][1]["box"] == pytest.approx([0, 0.5 * height, width, height])  # clipped to the picture


def test_letterboxed_boxes(tmp_path: Path) -> None:
    net = detector(tmp_path / "d.onnx")
    row = netferry.predict(net, pictures(tmp_path)[1])["predictions"][0]  # 128 x 48 becomes 64 x 24, 12 pixels down
    assert row["objects"][0]["box"] == pytest.approx([32, 0, 96, 48])
    assert row["objects"][1]["box"] == pytest.approx([0, 24, 128, 48])


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl"])
def test_written_and_skipped(tmp_path: Path, suffix: str) -> None:
    net, files = detector(tmp_path / "d.onnx"), pictures(tmp_path)
    files[2].write_bytes(b"no picture")
    with pytest.raises(NetferryError):
        netferry.predict(net, files, output=tmp_path / f"o.{suffix}")
    assert not (tmp_path / f"o.{suffix}").exists()
    found = netferry.predict(net, files, output=tmp_path / f"o.{suffix}", on_error="skip")
    assert (found["count"], len(found["skipped"]), found["predictions"]) == (4, 1, [])
    text = (tmp_path / f"o.{suffix}").read_text()
    if suffix == "jsonl":
        rows = [json.loads(line) for line in text.splitlines()]
        assert ["error" in row for row in rows] == [False, False, True, False, False]
        assert len(rows[0]["objects"]) == 2
    else:
        table = list(csv.DictReader(text.splitlines(), delimiter="\t" if suffix == "tsv" else ","))
        assert len(table) == 4 * 2 + 1
        assert float(table[0]["right"]) == 48.0
    with pytest.raises(UsageError, match="csv"):
        netferry.predict(net, files, output=tmp_path / "o.npz")


def test_drawn(tmp_path: Path) -> None:
    net, files = detector(tmp_path / "d.onnx"), pictures(tmp_path)
    done = command_line("predict", net, files[4], "--annotate", tmp_path / "one.png")
    assert done.returncode == 0, done.stderr
    assert "cat" in done.stdout
    with Image.open(tmp_path / "one.png") as image:
        assert len(set(image.convert("RGB").get_flattened_data())) > 10
    netferry.predict(net, files, annotate=tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.width > 700
    with pytest.raises(UsageError, match="PNG"):
        netferry.predict(net, files, annotate=tmp_path / "sheet.gif")
    with pytest.raises(UsageError):
        annotate_boxes([], tmp_path / "x.png")


def test_only_such_networks(tmp_path: Path) -> None:
    session = Session(detector(tmp_path / "d.onnx"), "cpu")
    assert is_detector(session)
    one = Detector(session, labels=["dog"]).detected(open_data(pictures(tmp_path)))
    with pytest.raises(UsageError, match="labels"):
        list(one)
    with pytest.raises(UsageError, match="all classes"):
        netferry.predict(tmp_path / "d.onnx", pictures(tmp_path), out_raw=tmp_path / "r.npz")


def test_boxes_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session(detector(tmp_path / "d.onnx"), "cpu")
    plain = session.run
    monkeypatch.setattr(session, "run", lambda *a: {**plain(*a), "boxes": plain(*a)["boxes"] * np.float32("nan")})
    with pytest.raises(CheckFailed):
        list(Detector(session).detected(open_data(pictures(tmp_path))))


def test_yolo_fastest_finds_the_dog_and_the_car(tmp_path: Path) -> None:
    """On the photograph, through the command line: where Darknet's boxes are."""
    folder = shared("data", "yolo-fastest")
    cfg, weights = folder / "yolo-fastest-1.1.cfg", folder / "yolo-fastest-1.1.weights"
    done = command_line(
        "predict", cfg, shared("data", "images") / "dog.jpg", "--weights", weights, "--decode-boxes",
        "--labels", folder / "coco.names", "--score-threshold", 0.6, "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    objects = json.loads(done.stdout)["predictions"][0]["objects"]
    assert [o["label"] for o in objects] == ["car", "dog"]
    assert objects[0]["box"] == pytest.approx([295, 50, 445, 118], abs=4)
    assert objects[1]["box"] == pytest.approx([80, 145, 239, 336], abs=4)
    assert objects[0]["score"] == pytest.approx(0.89, abs=0.01)


def test_a_letterbox_inside_the_graph_is_refused(tmp_path: Path) -> None:
    net = detector(tmp_path / "d.onnx")
    with pytest.raises(UnsupportedOption, match="boxes"):
        netferry.convert(net, tmp_path / "e.onnx", embed_preprocessing=True)
    netferry.convert(net, tmp_path / "e.onnx", embed_preprocessing=True, recipe={"resize": "stretch"})
    picture = pictures(tmp_path)[1]
    row = netferry.predict(tmp_path / "e.onnx", picture)["predictions"][0]
    assert row["objects"][0]["box"] == pytest.approx([32, 12, 96, 36])
