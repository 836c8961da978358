"""netferry retrain from end to end: what is written, other tasks, going on after kill -9, advice."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import netferry
from fixtures import shapes
from netferry.errors import InputError, MalformedFile, UsageError
from netferry.runtime.training.testing import accuracy, confusion_matrix, judged, scores_to_labels, worst
from netferry.schemas.tensors import array_of
from tests.netferry.retraining import NET, READING, ROOT, retrain

pytest.importorskip("torch", reason="needs the extra 'train'")
pytest.importorskip("lightning", reason="needs the extra 'train'")


def test_everything_is_written_and_agrees(drawn: Path, tmp_path: Path) -> None:
    report = retrain(drawn, tmp_path / "made" / "mine", train="all", epochs=15)
    target, run = tmp_path / "made" / "mine.onnx", tmp_path / "made" / "mine-run"
    assert (report["file"], report["run"]) == (str(target), str(run))
    assert all((run / name).stat().st_size for name in report["files"])
    assert {n: sum(c.values()) for n, c in report["data"]["split"].items()} == {
        "training": 70, "validation": 15, "test": 15}  # fmt: skip
    assert report["agreement"]["examples"] == 15
    assert report["agreement"]["max_difference"] <= 1e-4
    assert report["agreement"]["labels_equal"] is True
    assert report["test"]["accuracy"] >= 0.6
    assert json.loads((run / "report.json").read_text())["test"] == report["test"]
    page = (run / "report.html").read_text()
    assert "<svg" in page
    assert not any(f'{word}="http' in page for word in ("src", "href")), "nothing is loaded from elsewhere"
    with (run / "history.csv").open() as file:
        assert len(list(csv.DictReader(file))) == report["training"]["iterations"] == 45
    model = netferry.load(target)
    assert model.labels == {"prob": sorted(shapes.CLASSES)}
    source = netferry.load(*NET, **READING)
    assert [r.name for r in model.layers] == [r.name for r in source.layers]
    assert list(model.parameters()) == list(source.parameters())
    assert model.preprocessing["data"].as_dict() == source.preprocessing["data"].as_dict()
    pictures = sorted((drawn / "star").glob("*.png"))
    found = netferry.predict(target, pictures, top=1)["predictions"]
    assert accuracy([p["top"][0]["label"] for p in found], ["star"] * 20) >= 0.5


def test_the_head_alone_leaves_all_else_bit_identical(drawn: Path, tmp_path: Path) -> None:
    report = retrain(drawn, tmp_path / "mine.onnx", lr_factors={"ip2:bias": 2.0})
    assert report["training"]["trunk"] == "cached"
    assert report["training"]["changed"] == ["ip2.weight", "ip2.bias"]
    rates = {r["initializer"]: r["rate"] for r in report["learning"]}
    assert rates == {"conv1.weight": 0, "conv1.bias": 0, "conv2.weight": 0, "conv2.bias": 0, "ip1.weight": 0,
                     "ip1.bias": 0, "ip2.weight": 3e-3, "ip2.bias": 6e-3}  # fmt: skip
    source, made = netferry.load(*NET).parameters(), netferry.load(tmp_path / "mine.onnx").parameters()
    for name in source:
        assert np.array_equal(array_of(source[name]), array_of(made[name])) == (not name.startswith("ip2")), name


def test_several_labels_per_picture(drawn: Path, tmp_path: Path) -> None:
    rows = ["file,dark corner,has corners"]
    for path in sorted(drawn.rglob("*.png")):
        rows.append(f"{path},1,{int(path.parent.name != 'circle')}")
    rows[1] = rows[1].replace(",1,", ",0,", 1)
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    report = retrain(tmp_path / "labels.csv", tmp_path / "mine.onnx", train="all", epochs=8)
    assert report["data"]["task"] == "labels"
    assert report["test"]["map"] > 0.7
    model = netferry.load(tmp_path / "mine.onnx")
    assert next(reversed(list(model.graph))).op_type == "Sigmoid"
    assert model.labels == {"prob": ["dark corner", "has corners"]}
    assert model.tasks == {"prob": "labels"}
    found = netferry.predict(tmp_path / "mine.onnx", drawn / "star" / "star_00.png")
    scores = {row["label"]: row["score"] for row in found["predictions"][0]["top"]}
    assert found["task"] == "labels"
    assert min(scores.values()) > 0.5, "each has its own probability; a softmax would share one out"
    whole = netferry.evaluate(tmp_path / "mine.onnx", tmp_path / "labels.csv", out=tmp_path / "evaluation")
    assert whole["items"] == len(rows) - 1
    assert whole["map"] > 0.7
    assert (tmp_path / "evaluation" / "per_class.csv").read_text().startswith("class,count,average_precision")


@pytest.mark.slow
def test_values_keep_their_own_mean_and_spread(drawn: Path, tmp_path: Path) -> None:
    from PIL import Image

    rows = ["picture,brightness"]
    for path in sorted(drawn.rglob("*.png")):
        with Image.open(path) as image:
            rows.append(f"{path},{1000 + 5 * np.asarray(image).mean():.3f}")
    (tmp_path / "values.csv").write_text("\n".join(rows) + "\n")
    report = retrain(tmp_path / "values.csv", tmp_path / "mine.onnx", train="all", epochs=40)
    row = report["test"]["per_class"][0]
    assert report["data"]["task"] == "values"
    assert row["r2"] > 0.2  # predicting the mean gives 0
    assert report["test"]["rmse"] < 200
    found = netferry.predict(tmp_path / "mine.onnx", [drawn / "star" / "star_00.png"], top=1)
    assert found["task"] == "values"
    assert 900 < found["predictions"][0]["top"][0]["score"] < 2400, "the value itself, no share of a softmax"
    whole = netferry.evaluate(tmp_path / "mine.onnx", tmp_path / "values.csv")
    assert whole["rmse"] < 200
    with pytest.raises(UsageError, match="the network gives values: it is measured on one CSV file"):
        netferry.evaluate(tmp_path / "mine.onnx", drawn)


@pytest.mark.parametrize("width", [pytest.param(6, id="features"), pytest.param(None, id="series")])
def test_arrays(width: int | None, tmp_path: Path) -> None:
    from netferry.schemas.ir import ir
    from netferry.schemas.model import Model, Source

    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 150)
    shape = (150, 6) if width else (150, 5, 4)
    x = rng.normal(0, 0.5, shape).astype(np.float32)
    x[np.arange(150), ..., y] += 2
    np.savez(tmp_path / "data.npz", x=x, y=y, classes=np.array(["a", "b", "c"]))
    numbers = rng.normal(0, 0.3, 6 * 8 + 8 * 2 + 2 + 4 * 32 + 8 * 32)
    text = '<ir_version: 10, opset_import: ["": 21]> g '
    if width:
        text += (f"(float[N, 6] x) => (float[N, 2] y) <float[6, 8] a = {_list(numbers[:48])}, "
                 f"float[8, 2] b = {_list(numbers[48:64])}, float[2] c = {_list(numbers[64:66])}> "
                 "{ h = MatMul(x, a) r = Relu(h) z = Gemm(r, b, c) y = Softmax(z) }")  # fmt: skip
    else:
        text += (f"(float[N, 5, 4] x) => (float[N, 2] y) <float[1, 32, 4] w = {_list(numbers[:128])}, "
                 f"float[1, 32, 8] r = {_list(numbers[128:384])}, int64[1] zero = {{0}}, "
                 f"float[8, 2] b = {_list(numbers[:16])}, float[2] c = {_list(numbers[:2])}> "
                 "{ t = Transpose<perm = [1, 0, 2]>(x) s, h = LSTM<hidden_size = 8>(t, w, r) "
                 "q = Squeeze(h, zero) z = Gemm(q, b, c) y = Softmax(z) }")  # fmt: skip
    model = Model(ir.from_onnx_text(text), source=Source("onnx"))
    report = netferry.retrain(model, tmp_path / "data.npz", tmp_path / "mine.onnx", train="all", epochs=25,
                              learning_rate=0.02)  # fmt: skip
    assert report["test"]["accuracy"] >= 0.85
    assert report["data"]["classes"] == ["a", "b", "c"]


def _list(values: np.ndarray) -> str:
    return "{" + ", ".join(f"{v:.4f}" for v in values) + "}"


def test_a_sweep_keeps_the_best(drawn: Path, tmp_path: Path) -> None:
    report = retrain(drawn, tmp_path / "mine.onnx", sweep={"learning_rate": [1e-5, 1e-2]}, epochs=2)
    rows = report["sweep"]
    assert [r["learning_rate"] for r in rows] == [1e-5, 1e-2]
    best = min(rows, key=lambda r: r["validation_loss"])
    assert report["training"]["learning_rate"] == best["learning_rate"] == 1e-2
    assert report["training"]["validation_loss"] == pytest.approx(best["validation_loss"], abs=1e-6)


def test_a_fixed_batch_is_no_obstacle(drawn: Path, tmp_path: Path) -> None:
    netferry.convert(NET[0], tmp_path / "one.onnx", NET[1], batch=1)
    report = netferry.retrain(tmp_path / "one.onnx", drawn, tmp_path / "mine.onnx", epochs=1, augment=None)
    assert any("dynamic now" in note for note in report["notes"])
    assert netferry.load(tmp_path / "mine.onnx").inputs[0].shape == ("batch", 1, 20, 20)


@pytest.mark.slow
def test_kill_9_in_mid_epoch_and_resume(drawn: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "netferry", "retrain", NET[0], str(drawn), "-w", NET[1], "--train", "all",
               "--epochs", "30", "--batch-size", "16", "--seed", "4", "--json"]  # fmt: skip
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    made: dict[str, dict[str, Any]] = {}
    for name in ("straight", "killed"):
        out = ["-o", str(tmp_path / f"{name}.onnx")]
        if name == "killed":
            with subprocess.Popen([*command, *out], env=env, stdout=subprocess.DEVNULL) as process:
                checkpoint = tmp_path / "killed-run" / "checkpoints" / "last.pt"
                deadline = time.monotonic() + 120
                while not checkpoint.exists() and time.monotonic() < deadline:
                    time.sleep(0.02)
                time.sleep(0.15)
                process.send_signal(signal.SIGKILL)
            assert not (tmp_path / "killed.onnx").exists()
            out.append("--resume")
        done = subprocess.run([*command, *out], env=env, capture_output=True, text=True, check=True)
        made[name] = json.loads(done.stdout)
    assert made["straight"]["training"]["resumed_at"] is None
    assert 0 < made["killed"]["training"]["resumed_at"] < made["killed"]["training"]["iterations"]
    first, second = (netferry.load(tmp_path / f"{n}.onnx").parameters(None) for n in ("straight", "killed"))
    for name, value in first.items():
        assert np.array_equal(array_of(value), array_of(second[name])), name
    other = subprocess.run([*command, "-o", str(tmp_path / "killed.onnx"), "--resume", "--lr", "0.5"], env=env,
                           capture_output=True, text=True, check=False)  # fmt: skip
    assert other.returncode == 2
    assert "started with other options" in other.stderr


@pytest.mark.slow
def test_two_processes_by_torchrun(drawn: Path, tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    found = []
    for devices in (1, 2):
        command = [sys.executable, "-m", "netferry", "retrain", NET[0], str(drawn), "-w", NET[1], "--train", "all",
                   "--epochs", "25", "--lr", "3e-3", "--augment", "none", "--devices", str(devices), "--device", "cpu",
                   "-o", str(tmp_path / f"mine{devices}.onnx"), "--json"]  # fmt: skip
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout)["test"]["accuracy"])
    assert abs(found[0] - found[1]) <= 0.2  # 15 pictures; the bar of 3 points is measured in benchmarks/


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        pytest.param({"task": "ranks"}, UsageError, "classes, labels or values", id="task"),
        pytest.param({"head": "cubic"}, UsageError, "cubic", id="head"),
        pytest.param({"train": "conv7"}, UsageError, "no layer 'conv7'", id="layer"),
        pytest.param({"lr_factors": {"ip2:gamma": 2}}, UsageError, "gamma", id="factor"),
        pytest.param({"augment": "shear=1"}, UsageError, "shear", id="augment"),
        pytest.param({"split": (0.9, 0.2)}, UsageError, "at most 1", id="shares"),
    ],
)
def test_calls_that_cannot_be(
    drawn: Path, tmp_path: Path, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        retrain(drawn, tmp_path / "mine.onnx", **options)
    assert not (tmp_path / "mine.onnx").exists()


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        pytest.param("a.csv", b"file,label\nmissing.png,x\n", InputError, id="missing-picture"),
        pytest.param("a.csv", b"file,label\na.png\n", MalformedFile, id="short-row"),
        pytest.param("a.csv", b"", MalformedFile, id="empty"),
        pytest.param("a.csv", b"\xff\xfe\x00", MalformedFile, id="no-text"),
        pytest.param("a.npz", b"no zip", MalformedFile, id="no-npz"),
        pytest.param("a.npz", None, MalformedFile, id="objects-in-npz"),
    ],
)
def test_data_that_cannot_be(tmp_path: Path, name: str, content: bytes | None, error: type[Exception]) -> None:
    path = tmp_path / name
    if content is None:
        np.savez(path, x=np.array([{}], object), y=np.zeros(1, int))
    else:
        path.write_bytes(content)
    with pytest.raises(error):
        retrain(path, tmp_path / "mine.onnx")


def test_advice(drawn: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    shapes.write(few, 15)
    advice = netferry.advise(few, NET[0], weights=NET[1], **READING)
    assert "fewer than 20" in advice["advice"][0]["why"]
    assert "train-head" in advice["advice"][0]["command"]
    again = netferry.advise(drawn, NET[0], weights=NET[1], **READING)
    assert "train-head" not in again["advice"][0]["command"]
    assert again["chance"] == 0.2 < again["linear_accuracy"] <= 1
    (few / "star" / "double.png").write_bytes((few / "star" / "star_00.png").read_bytes())
    assert netferry.advise(few, NET[0], weights=NET[1], **READING)["equal_files"]


def test_figures_by_hand() -> None:
    scores = np.array([[0.2, 0.8], [0.5, 0.5], [0.9, 0.1], [0.3, 0.7]])
    targets = np.array([1, 1, 0, 0])
    assert scores_to_labels(scores, ["a", "b"]) == ["b", "a", "a", "b"], "the first of equal scores"
    assert accuracy(["a", "b"], ["a", "a"]) == 0.5
    assert confusion_matrix(np.array([1, 0, 0, 1]), targets, 2).tolist() == [[1, 1], [1, 1]]
    found = judged(scores, targets, ["a", "b"], "classes")
    assert found["accuracy"] == 0.5
    assert [m["item"] for m in worst(scores, targets, ["a", "b"], list("wxyz"))] == ["z", "x"]
    values = judged(np.array([[1.0], [3.0]]), np.array([[1.0], [1.0]]), ["v"], "values")
    assert values["rmse"] == pytest.approx(2**0.5)
