"""Names of files that no system takes, and outputs in the place of what is read: typed errors, nothing changed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

import netferry
from netferry.errors import InputError, NetferryError, OutputError, UsageError
from tests.attacks import unusual_onnx

ROOT = Path(__file__).resolve().parents[2]
NET, WEIGHTS, LABELS, MEAN = (
    ROOT / "fixtures" / name
    for name in ("digits.prototxt", "digits.caffemodel", "digits_labels.txt", "digits_mean.binaryproto")
)
NAMES = {"long": "a" * 300, "deep": "a/" * 3000 + "a", "nul": "a\0b", "no-utf-8": "\ud800"}


def linear(folder: Path) -> Path:
    path = folder / "net.onnx"
    path.write_bytes(unusual_onnx.linear().SerializeToString())
    return path


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_names_that_no_system_takes(tmp_path: Path, name: str) -> None:
    net = linear(tmp_path)
    bad = tmp_path / name
    for verb in (netferry.inspect, netferry.scan, netferry.load):
        with pytest.raises(InputError):
            verb(bad)
    with pytest.raises(NetferryError):
        netferry.predict(bad, [tmp_path / "p.png"])
    with pytest.raises(InputError):
        netferry.convert(NET, tmp_path / "o.onnx", bad)
    if name != NAMES["deep"]:  # a deep one can be made
        with pytest.raises(OutputError):
            netferry.convert(net, bad)
        with pytest.raises(OutputError):
            netferry.convert(net, tmp_path / "o.onnx", report=bad)
        with pytest.raises(OutputError):
            netferry.inspect(net, html=bad)
    assert [p.name for p in tmp_path.iterdir()] == ["net.onnx"]


def test_a_name_too_long_in_a_prototxt(tmp_path: Path) -> None:
    head = f'layer {{ name: "d" type: "Data" top: "x" transform_param {{ mean_file: "{"a" * 300}" crop_size: 8 mean_value: 1 mean_value: 2 mean_value: 3 }} }}'
    (tmp_path / "n.prototxt").write_text(head + 'layer { name: "r" type: "ReLU" bottom: "x" top: "y" }')
    assert "is not there" in " ".join(n.message for n in netferry.load(tmp_path / "n.prototxt").notes)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may look into every folder")
def test_a_folder_that_nobody_may_look_into(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    shutil.copy(NET, tmp_path / "f")
    (tmp_path / "f").chmod(0)
    with pytest.raises(InputError, match="Permission"):
        netferry.inspect(tmp_path / "f" / NET.name)


@pytest.mark.parametrize(
    ("target", "options"),
    [
        pytest.param("labels.txt", {"labels": "labels.txt"}, id="labels"),
        pytest.param("mean.binaryproto", {"mean_file": "mean.binaryproto"}, id="mean"),
        pytest.param("net.caffemodel", {}, id="weights"),
        pytest.param("o.onnx", {"report": "net.prototxt"}, id="report-for-net"),
        pytest.param("o.onnx", {"report": "labels.txt", "labels": "labels.txt"}, id="report-for-labels"),
    ],
)
def test_nothing_that_is_read_is_written_over(tmp_path: Path, target: str, options: dict[str, Any]) -> None:
    for file, name in (
        (NET, "net.prototxt"),
        (WEIGHTS, "net.caffemodel"),
        (LABELS, "labels.txt"),
        (MEAN, "mean.binaryproto"),
    ):
        shutil.copy(file, tmp_path / name)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    given: dict[str, Any] = {key: tmp_path / value for key, value in options.items()}
    with pytest.raises(OutputError):
        netferry.convert(tmp_path / "net.prototxt", tmp_path / target, tmp_path / "net.caffemodel", **given)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize("outputs", ["{model: s.yaml}", "{model: o.onnx, report: s.yaml}"])
def test_a_step_does_not_write_over_itself(tmp_path: Path, outputs: str) -> None:
    linear(tmp_path)
    step = tmp_path / "s.yaml"
    step.write_text(text := f"netferry: 1\nsource: net.onnx\noutputs: {outputs}\n")
    with pytest.raises(OutputError):
        netferry.run(step)
    assert step.read_text() == text


def test_a_change_far_down_in_a_step(tmp_path: Path) -> None:
    step = tmp_path / "s.yaml"
    step.write_text("netferry: 1\nsource: net.onnx\noutputs: {model: o.onnx}\n")
    with pytest.raises(NetferryError):
        netferry.run(step, changes={"x." * 3000 + "y": "1"})


def test_a_python_layer_that_brings_the_data(tmp_path: Path) -> None:
    """Training nets of FCN and Faster R-CNN: their data layer becomes an input of the shape that the caller gives."""
    head = 'layer { name: "d" type: "Python" top: "x" top: "label" python_param { module: "os" layer: "system" } }'
    loss = 'layer { name: "l" type: "SoftmaxWithLoss" bottom: "y" bottom: "label" top: "loss" }'
    net = tmp_path / "n.prototxt"
    net.write_text(head + 'layer { name: "r" type: "ReLU" bottom: "x" top: "y" }' + loss)
    with pytest.raises(UsageError, match="shape of input 'x'"):
        netferry.load(net)
    model = netferry.load(net, input_shapes={"x": (1, 3, 8, 8)})
    assert [i.name for i in model.inputs] == ["x"]
    assert [o.name for o in model.outputs] == ["prob"]
