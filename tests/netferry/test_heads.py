"""A classifier on features: the one ONNX file says on every item what scikit-learn says."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import netferry
from fixtures import digits as digit_pictures
from fixtures import make
from netferry.api import features, predict, train_head
from netferry.converters.onnx.cut import last_feature_layer
from netferry.errors import NetferryError, UsageError
from netferry.runtime.session import Session
from tests.shared import shared

pytest.importorskip("skl2onnx")
FIXTURES = Path(make.__file__).parent


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("net") / "digits.onnx"
    mean = FIXTURES / "digits_mean.binaryproto"
    model = netferry.load(
        FIXTURES / "digits.prototxt", FIXTURES / "digits.caffemodel", mean_file=mean, recipe={"scale": (1 / 256,)}
    )
    netferry.save(model, path, check="structure")
    return path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 of scikit-learn's digits, a folder per class."""
    folder = tmp_path_factory.mktemp("digits")
    values, truth = load_digits(return_X_y=True)
    for number in range(200):
        path = folder / f"d{truth[number]}" / f"{number:03d}.png"
        path.parent.mkdir(exist_ok=True)
        large = digit_pictures.enlarge(values[number : number + 1].reshape(1, 8, 8), 20, 20)[0]
        Image.fromarray(np.asarray(large, np.uint8)).save(path)
    return folder


def kept(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The scikit-learn pipelines that are fitted, in order; the last is the one in the file."""
    from netferry.runtime import heads

    made: list[Any] = []
    plain: Callable[..., Any] = heads.fitted

    def fitted(*given: Any) -> Any:
        made.append(plain(*given))
        return made[-1]

    monkeypatch.setattr(heads, "fitted", fitted)
    return made


def test_a_model_behind_a_link(net: Path, pictures: Path, tmp_path: Path) -> None:
    """Model hubs keep links; the weights that lie in the file are read through one too."""
    link = tmp_path / "link.onnx"
    link.symlink_to(net)
    first = train_head(net, pictures, tmp_path / "a.onnx", layer="pool2", seeds=1, folds=0)
    second = train_head(link, pictures, tmp_path / "b.onnx", layer="pool2", seeds=1, folds=0)
    assert first["held_back"] == second["held_back"]
    assert (tmp_path / "a.onnx").stat().st_size == (tmp_path / "b.onnx").stat().st_size


@pytest.mark.parametrize("pool", ["avg", "max", "flatten"])
@pytest.mark.parametrize("classifier", ["svm", "logistic", "knn"])
def test_the_file_gives_scikit_learns_labels(
    net: Path, pictures: Path, tmp_path: Path, classifier: str, pool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = kept(monkeypatch)
    out = tmp_path / "head.onnx"
    report = train_head(net, pictures, out, layer="pool2", pool=pool, classifier=classifier, seeds=2, folds=3)
    features(net, pictures, tmp_path / "f.npz", layers=["pool2"], pool=pool)
    with np.load(tmp_path / "f.npz") as file:
        x, y, items = file["pool2"], file["labels"], file["items"]
    wanted = made[-1].predict(x)
    found = predict(out, [str(pictures)], top=1)["predictions"]
    assert [row["item"] for row in found] == items.tolist()
    assert [row["top"][0]["label"] for row in found] == wanted.tolist()
    assert (wanted == y).mean() > 0.8
    session = Session(out, "cpu")
    assert {p.name for p in session.outputs} == {"label", "scores"}
    from netferry.runtime.data import open_data
    from netferry.runtime.feed import Feed

    feed = Feed(session)
    assert feed.recipe_from == "model"
    batch = np.stack([feed(item)["data"] for item in open_data(pictures)])
    outputs = session.run({"data": batch})
    assert outputs["label"].tolist() == wanted.tolist()
    assert made[-1].classes_[outputs["scores"].argmax(1)].tolist() == wanted.tolist()
    assert report["held_back"]["mean"] > 0.6
    assert report["cross_validation"]["folds"] == 3
    assert sum(report["classes"].values()) == 200
    onnx.checker.check_model(onnx.load(out), full_check=True)


def test_features_from_a_file(net: Path, pictures: Path, tmp_path: Path) -> None:
    features(net, pictures, tmp_path / "f.npz", layers=["pool2", "ip1"])
    now = train_head(net, pictures, tmp_path / "a.onnx", layer="ip1", classifier="logistic")
    then = train_head(net, None, tmp_path / "b.onnx", on=tmp_path / "f.npz", layer="ip1", classifier="logistic")
    assert now["held_back"] == then["held_back"]
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    with pytest.raises(UsageError, match="holds 2 layers"):
        train_head(net, None, tmp_path / "c.onnx", on=tmp_path / "f.npz")
    with pytest.raises(UsageError, match="holds no layer"):
        train_head(net, None, tmp_path / "c.onnx", on=tmp_path / "f.npz", layer="conv1")
    model = netferry.load(net)
    model.parameters()["ip2.bias"].const_value = netferry.load(net).parameters()["ip2.bias"].const_value
    netferry.save(model, tmp_path / "other.onnx", opset=18, check="structure")
    with pytest.raises(UsageError, match="not computed by this network"):
        train_head(tmp_path / "other.onnx", None, tmp_path / "c.onnx", on=tmp_path / "f.npz", layer="ip1")


def test_the_layer_in_front_of_the_softmax_is_the_default(net: Path, pictures: Path, tmp_path: Path) -> None:
    assert last_feature_layer(net) == "ip2"
    assert train_head(net, pictures, tmp_path / "h.onnx", seeds=0, folds=0)["layer"] == "ip2"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"classifier": "forest"}, "classifier is"),
        ({"c": -1.0}, "C must be"),
        ({"neighbors": 500, "classifier": "knn", "seeds": 0, "folds": 0}, "cannot be fitted"),
        ({"pool": "none"}, "pool is"),
        ({"layer": "nothing"}, "no layer"),
        ({"test_size": 1.5}, "test_size"),
    ],
)
def test_wrong_calls(net: Path, pictures: Path, tmp_path: Path, change: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        train_head(net, pictures, tmp_path / "h.onnx", **change)
    assert not (tmp_path / "h.onnx").exists()


def test_data_that_cannot_be_learned_from(net: Path, pictures: Path, tmp_path: Path) -> None:
    for data, says in ((pictures / "d1", "have no label"), (None, "nothing to learn from")):
        with pytest.raises(UsageError, match=says):
            train_head(net, data, tmp_path / "h.onnx")
    (tmp_path / "one.txt").write_text("\n".join(f"{p} same" for p in sorted((pictures / "d1").iterdir())))
    with pytest.raises(UsageError, match="one class only"):
        train_head(net, tmp_path / "one.txt", tmp_path / "h.onnx")


def test_opsets(net: Path, pictures: Path, tmp_path: Path) -> None:
    """The trunk keeps the opset that its file has."""
    for opset in (13, 17, 18, 21, 22):
        netferry.convert(net, tmp_path / "net.onnx", opset=opset, check="structure")
        try:
            train_head(tmp_path / "net.onnx", pictures, tmp_path / "h.onnx", layer="pool2", seeds=0, folds=0)
        except NetferryError as error:
            assert opset > 21, error
            continue
        assert onnx.load(tmp_path / "h.onnx").opset_import[0].version == opset


def test_command_line(net: Path, tmp_path: Path) -> None:
    """The example of --help works on the fixtures."""
    command = [sys.executable, "-m", "netferry", "train-head", str(net), str(FIXTURES / "digits.csv")]
    command += ["--classifier", "knn", "--neighbors", "1", "-o", str(tmp_path / "mine.onnx"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["items"] == 12
    command = [
        sys.executable,
        "-m",
        "netferry",
        "predict",
        str(tmp_path / "mine.onnx"),
        str(FIXTURES / "digit_7_09.png"),
    ]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["predictions"][0]["top"][0]["label"] == "seven"


@pytest.mark.slow
def test_clothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SqueezeNet's features and an SVM on clothing: at least 85 % on held-back 30 %, mean of 5 seeds."""
    made = kept(monkeypatch)
    folder, data = shared("data", "squeezenet_v1.1"), shared("data", "clothing")
    model = netferry.load(
        folder / "deploy.prototxt", folder / "squeezenet_v1.1.caffemodel", recipe={"mean": (104.0, 117.0, 123.0)}
    )
    netferry.save(model, tmp_path / "net.onnx", check="structure")
    report = train_head(tmp_path / "net.onnx", data, tmp_path / "h.onnx")
    assert len(report["held_back"]["accuracies"]) == 5
    assert report["held_back"]["mean"] >= 0.85
    features(tmp_path / "net.onnx", data, tmp_path / "f.npz", layers=["pool10"])
    with np.load(tmp_path / "f.npz") as file:
        wanted = made[-1].predict(file["pool10"])
    found = predict(tmp_path / "h.onnx", [str(data)], top=1)["predictions"]
    assert [row["top"][0]["label"] for row in found] == wanted.tolist()
    assert len(found) == 300
