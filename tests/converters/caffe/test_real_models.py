"""Published Caffe networks against BVLC Caffe's recorded outputs, and the labels of photographs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import netferry
from netferry.runtime.session import Session
from tests.shared import shared

CHEAP = {"check": "structure"}


def session_of(tmp_path: Path, folder: str, net: str, weights: str, **reading: object) -> Session:
    target = tmp_path / "net.onnx"
    netferry.convert(shared("data", folder, net), target, shared("data", folder, weights), **CHEAP, **reading)  # pyright: ignore[reportArgumentType]
    return Session(target)


def close(got: np.ndarray, want: np.ndarray, *, softmax: bool, name: str) -> None:
    """<= 1e-4 absolute for probabilities, <= 1e-5 of the largest value otherwise."""
    assert got.shape == want.shape, name
    bound = 1e-4 if softmax else 1e-5 * float(np.abs(want).max())
    assert float(np.abs(got - want).max()) <= bound, name


def test_squeezenet_agrees_inside_and_at_the_end(tmp_path: Path) -> None:
    model = netferry.load(
        shared("data", "squeezenet_v1.1", "deploy.prototxt"),
        shared("data", "squeezenet_v1.1", "squeezenet_v1.1.caffemodel"),
    )
    reference = np.load(shared("data", "squeezenet_v1.1", "reference.npz"))
    blobs = {name.replace("__", "/"): name for name in reference.files if name not in ("data", "prob")}
    for node in model.graph:
        for value in node.outputs:
            if value.name in blobs and not value.is_graph_output():
                model.graph.outputs.append(value)
    netferry.save(model, tmp_path / "inside.onnx", check="structure")
    got = Session(tmp_path / "inside.onnx").run({"data": reference["data"]})
    close(got["prob"], reference["prob"], softmax=True, name="prob")
    seen = [blob for blob in blobs if blob in got]
    for blob in seen:
        want = reference[blobs[blob]]
        close(got[blob][: len(want)], want, softmax=False, name=blob)
    assert len(seen) >= 3


def test_squeezenet_labels_every_photograph_as_caffe_did(tmp_path: Path) -> None:
    folder = shared("data", "squeezenet_v1.1")
    netferry.convert(
        folder / "deploy.prototxt",
        tmp_path / "net.onnx",
        folder / "squeezenet_v1.1.caffemodel",
        labels=folder / "labels.txt",
        recipe={"mean": (104.0, 117.0, 123.0)},
    )
    recorded = json.loads(shared("data", "images", "squeezenet_reference.json").read_text())
    pictures = [shared("data", "images", row["file"]) for row in recorded]
    found = netferry.predict(tmp_path / "net.onnx", pictures, top=1)["predictions"]
    assert len(found) >= 30
    for row, item in zip(recorded, found, strict=True):
        assert item["top"][0]["class"] == row["top1"], row["file"]
        assert item["top"][0]["score"] == pytest.approx(row["prob"], abs=2e-3), row["file"]


def test_lenet_knows_the_nine(tmp_path: Path) -> None:
    session = session_of(tmp_path, "lenet", "lenet.prototxt", "lenet_iter_10000.caffemodel")
    reference = np.load(shared("data", "lenet", "reference.npz"))
    got = session.run({"data": reference["data"]})["prob"]
    close(got, reference["prob"], softmax=True, name="prob")
    assert int(got[0].argmax()) == 9


@pytest.mark.parametrize("net", ["det1", "det2", "det3", "det4"])
def test_mtcnn(tmp_path: Path, net: str) -> None:
    reference = np.load(shared("data", "mtcnn", f"{net}_reference.npz"))
    feeds = {n[3:]: reference[n] for n in reference.files if n.startswith("in:")}
    shapes = {n: a.shape for n, a in feeds.items()}
    session = session_of(tmp_path, "mtcnn", f"{net}.prototxt", f"{net}.caffemodel", input_shapes=shapes)
    got = session.run(feeds)
    wanted = {n[4:]: reference[n] for n in reference.files if n.startswith("out:")}
    assert wanted
    for name, want in wanted.items():
        close(got[name], want, softmax="prob" in name, name=name)


@pytest.mark.parametrize("net", ["RFB-320", "slim-320"])
def test_face_detectors_agree_with_their_onnx_twins(tmp_path: Path, net: str) -> None:
    reference = np.load(shared("data", "ultraface", f"{net}_reference.npz"))
    session = session_of(tmp_path, "ultraface", f"{net}.prototxt", f"{net}.caffemodel")
    (feed,) = [p.name for p in session.inputs]
    got = session.run({feed: reference["input"]})
    for kind in ("scores", "boxes"):
        want = reference[f"onnx:{kind}"]
        (mine,) = [v for k, v in got.items() if k == kind or v.shape == want.shape]
        close(mine, want, softmax=kind == "scores", name=kind)
