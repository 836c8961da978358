"""``netferry verify`` of Caffe and Darknet networks: OpenCV's readers run the source."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
import pytest

import netferry
from netferry.errors import MissingExtra, UnsupportedError, UsageError
from tests.netferry.test_verify import DIGITS, damaged
from tests.shared import shared


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    pytest.importorskip("cv2", reason="needs OpenCV 4")
    target = tmp_path / "digits.onnx"
    netferry.convert(DIGITS[0], target, DIGITS[1])
    return target


def test_caffe_agrees_with_opencv(digits: Path) -> None:
    result = netferry.verify(DIGITS[0], digits, DIGITS[1], bisect=True, rtol=1e-5)
    assert result["agrees"]
    assert result["source"]["run_by"].startswith("OpenCV 4")
    assert result["bisect"]["not_compared"] == 0
    assert {case["batch"] for case in result["cases"]} == {1, 3}
    assert netferry.verify(DIGITS[1], digits, DIGITS[0], seeds=1)["agrees"]  # either way round


def test_caffe_names_the_damaged_layer(digits: Path, tmp_path: Path) -> None:
    bad = damaged(digits, tmp_path / "bad.onnx", "conv2.weight")
    found = netferry.verify(DIGITS[0], bad, DIGITS[1], bisect=True)["bisect"]
    assert (found["layer"], found["type"], found["last_agreeing"]) == ("conv2", "Convolution", "pool1")


@pytest.mark.parametrize(
    ("folder", "prototxt", "caffemodel"),
    [
        pytest.param("lenet", "lenet.prototxt", "lenet_iter_10000.caffemodel", id="lenet"),
        pytest.param("squeezenet_v1.1", "deploy.prototxt", "squeezenet_v1.1.caffemodel", id="squeezenet"),
    ],
)
def test_real_caffe_nets(folder: str, prototxt: str, caffemodel: str, tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="needs OpenCV 4")
    files = shared("data", folder, prototxt), shared("data", folder, caffemodel)
    report = netferry.convert(files[0], tmp_path / "net.onnx", files[1], verify=True)
    check = report["checks"][-1]
    assert (check["name"], check["outcome"]) == ("verify", "passed")
    assert all(row["max_rel"] <= 1e-4 for row in check["detail"]["worst"])


# Darknet, in OpenCV --------------------------------------------------------------------------------------------

CFG = """[net]
width=16
height=12
channels=3
[convolutional]
batch_normalize=1
filters=6
size=3
stride=2
pad=1
activation=leaky
[convolutional]
filters=18
size=1
{}
"""
YOLO = "activation=linear\n[yolo]\nmask=0,1\nanchors=1,2, 3,1.5\nclasses=4\nnum=2\n"


def darknet_net(folder: Path, rest: str) -> tuple[Path, Path, Path]:
    """A small net with small variances, where the place of the epsilon shows; and its ONNX form."""
    cfg, weights, target = folder / "n.cfg", folder / "n.weights", folder / "n.onnx"
    cfg.write_text(CFG.format(rest))
    rng = np.random.default_rng(1)
    parts = [rng.normal(size=6), rng.uniform(0.5, 1.5, 6), rng.normal(size=6) * 0.1, rng.uniform(1e-4, 1e-2, 6)]
    parts += [rng.normal(size=162) * 0.02, rng.normal(size=18), rng.normal(size=108)]
    weights.write_bytes(struct.pack("<3iQ", 0, 2, 0, 1) + np.concatenate(parts).astype("<f4").tobytes())
    netferry.convert(cfg, target, weights)
    return cfg, weights, target


@pytest.mark.parametrize(
    "rest",
    [
        pytest.param("activation=relu", id="scores"),
        pytest.param("", id="the-default-activation"),
        pytest.param(YOLO, id="yolo"),
        pytest.param(YOLO + "scale_x_y=1.2\nthresh=0.7", id="yolo-stretched"),
        pytest.param(YOLO.replace("linear", "logistic") + "new_coords=1", id="yolo-new-coords"),
        pytest.param(YOLO.replace("yolo", "region").replace("mask=0,1", "softmax=1\ncoords=4"), id="region"),
    ],
)
def test_darknet_agrees_with_opencv(tmp_path: Path, rest: str) -> None:
    pytest.importorskip("cv2", reason="needs OpenCV 4")
    cfg, weights, target = darknet_net(tmp_path, rest)
    result = netferry.verify(cfg, target, weights, bisect=True, rtol=2e-6)
    assert result["agrees"]
    assert result["source"]["run_by"].startswith("OpenCV 4")
    assert {case["batch"] for case in result["cases"]} == {1, 3}
    assert (result["bisect"]["layer"], result["bisect"]["not_compared"]) == (None, 0)
    assert netferry.verify(weights, target, cfg, seeds=1)["agrees"]  # either way round


def test_darknet_names_the_damaged_layer(tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="needs OpenCV 4")
    cfg, weights, target = darknet_net(tmp_path, YOLO)
    bad = damaged(target, tmp_path / "bad.onnx", "layer_1.weights")
    found = netferry.verify(cfg, bad, weights, bisect=True)["bisect"]
    assert (found["layer"], found["type"], found["last_agreeing"]) == ("layer_1", "convolutional", "layer_0")


def test_darknet_settings_that_opencv_passes_over_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="needs OpenCV 4")
    cfg, weights, target = darknet_net(tmp_path, "activation=linear\n[softmax]\ntemperature=2")
    with pytest.raises(UnsupportedError, match=r"OpenCV does not read temperature=2 of layer_2"):
        netferry.verify(cfg, target, weights)
    cfg, weights, target = darknet_net(tmp_path, YOLO)
    boxes = tmp_path / "boxes.onnx"
    netferry.convert(cfg, boxes, weights, decode_boxes=True)
    with pytest.raises(UsageError, match="not boxes") as error:
        netferry.verify(cfg, boxes, weights)
    assert "--decode-boxes" in (error.value.hint or "")


def test_darknet_sections_that_opencv_does_not_know(tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="needs OpenCV 4")
    cfg, weights, target = tmp_path / "n.cfg", tmp_path / "n.weights", tmp_path / "n.onnx"
    cfg.write_text("[net]\nbatch=1\ninputs=3\n\n[rnn]\noutput=2\nhidden=2\n\n[softmax]\n")
    values = np.random.default_rng(0).normal(size=2 * (3 + 1) + 2 * (2 + 1) * 2)
    weights.write_bytes(struct.pack("<3iQ", 0, 2, 0, 1) + values.astype("<f4").tobytes())
    netferry.convert(cfg, target, weights)
    with pytest.raises(UnsupportedError, match=r"OpenCV reads no section \[rnn\]") as error:
        netferry.verify(cfg, target, weights)
    assert "convolutional" in (error.value.hint or "")


def test_darknet_without_opencv(tmp_path: Path) -> None:
    cfg, weights, target = darknet_net(tmp_path, YOLO)
    python = tmp_path / "python"
    python.write_text(
        "#!/bin/sh\nscript=$1; shift\n"
        f'exec {sys.executable} -c \'import runpy, sys; sys.modules["cv2"] = None; sys.argv = sys.argv[1:]; '
        'runpy.run_path(sys.argv[0], run_name="__main__")\' "$script" "$@"\n'
    )
    python.chmod(0o755)
    with pytest.raises(MissingExtra, match="opencv-python-headless") as error:
        netferry.verify(cfg, target, weights, python=str(python))
    assert "netferry[opencv]" in (error.value.hint or "")


@pytest.mark.slow
def test_real_darknet_net(tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="needs OpenCV 4")
    folder = shared("data", "yolo-fastest")
    cfg, weights = (folder / f"yolo-fastest-1.1.{end}" for end in ("cfg", "weights"))
    report = netferry.convert(cfg, tmp_path / "net.onnx", weights, verify=True)
    check = report["checks"][-1]
    assert (check["name"], check["outcome"]) == ("verify", "passed")
    assert all(row["max_rel"] <= 1e-5 for row in check["detail"]["worst"])


# convert --verify ----------------------------------------------------------------------------------------------
