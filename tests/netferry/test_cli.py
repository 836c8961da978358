"""The command line as a user or a script calls it: outputs, exit codes, JSON, plug-ins."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "fixtures"
NET = ["fixtures/digits.prototxt", "fixtures/digits.caffemodel"]
PLUGIN = '''
from netferry.converters.caffe.registry import layer

@layer("Cube")
def cube(b, l, x):
    """scale * x^3."""
    return b.op("Mul", b.op("Pow", x, b.const(3.0)), b.const(l.param("cube_param").float("scale", 1.0)))
'''
CUBE = (
    'input: "data" input_dim: 1 input_dim: 2 input_dim: 1 input_dim: 1 '
    'layer { name: "c" type: "Cube" bottom: "data" top: "out" cube_param { scale: 0.5 } }'
)


def netferry(*arguments: object, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "netferry", *map(str, arguments)]
    env = {"PYTHONPATH": f"{ROOT}:{path}" if path else str(ROOT), "PATH": "/usr/bin:/bin", "NO_COLOR": "1"}
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=env)


def said(*arguments: object) -> Any:
    done = netferry(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_main_job(tmp_path: Path) -> None:
    target = tmp_path / "made" / "digits"
    labels = ["--labels", "fixtures/digits_labels.txt"]
    report = said("convert", *NET, "-o", target, *labels, "--report", tmp_path / "r.json")
    assert [c["outcome"] for c in report["checks"]] == ["passed", "passed"]
    assert json.loads((tmp_path / "r.json").read_text())["outputs"][0]["sha256"]
    pictures = sorted(FIXTURES.glob("digit_*.png"))
    found = said("predict", target, *pictures, "--top", 1, "--annotate", tmp_path / "sheet.png")
    names = (FIXTURES / "digits_labels.txt").read_text().split()
    assert [p["top"][0]["label"] for p in found["predictions"]] == [names[int(p.name.split("_")[1])] for p in pictures]
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")
    facts = said("inspect", target)
    assert facts["totals"]["learnables"] == 7034
    assert facts["labels"] == {"prob": 10}


def test_lists_come_from_the_registries() -> None:
    assert {row["format"] for row in said("formats")} >= {"caffe", "keras", "onnx", "tensorflow"}
    rows = said("layers", "caffe")
    assert {"Convolution", "LSTM", "DetectionOutput"} <= {row["type"] for row in rows}
    assert all(row["about"] for row in rows)
    assert {c["name"] for c in said("doctor")["checks"]} >= {"onnx", "onnxruntime"}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        pytest.param(["convert", "nothing.prototxt"], 3, "no such file", id="missing"),
        pytest.param(["convert", "README.md", "-o", "x.onnx"], 4, "no reader recognises", id="unknown"),
        pytest.param(["convert", *NET, "--batch", "some"], 2, "--batch", id="batch"),
        pytest.param(["convert", *NET, "--input-shape", "data"], 2, "--input-shape", id="shape"),
        pytest.param(["convert", *NET, "--limit", "size=3"], 2, "no such limit", id="limit"),
        pytest.param(["scan", *NET, "--limit", "size=3"], 2, "no such limit", id="scan-limit"),
        pytest.param(["convert", *NET, "--opset", "9", "-o", "x.onnx"], 2, "opset", id="opset"),
        pytest.param(["convert", NET[0], "-o", "x.onnx"], 8, "no values", id="no-weights"),
        pytest.param(["inspect"], 2, "Missing argument", id="no-argument"),
        pytest.param(["layers", "warp"], 4, "no format", id="no-format"),
    ],
)
def test_mistakes_end_in_one_message_and_a_code(arguments: list[str], code: int, message: str) -> None:
    done = netferry(*arguments)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not (ROOT / "x.onnx").exists()


def test_errors_as_json() -> None:
    done = netferry("convert", "nothing.prototxt", "--json")
    assert json.loads(done.stdout)["error"] == "InputError"
    assert done.returncode == 3


def test_a_plugin_file_reads_a_layer(tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text(CUBE)
    (tmp_path / "mine.py").write_text(PLUGIN)
    refused = netferry("convert", tmp_path / "net.prototxt", "-o", tmp_path / "net.onnx")
    assert refused.returncode == 7
    assert "Cube" in refused.stderr
    assert '"scale": "0.5"' in refused.stderr
    report = said("convert", tmp_path / "net.prototxt", "-o", tmp_path / "net.onnx", "--plugin", tmp_path / "mine.py")
    assert report["layers"] == {"Cube": 1, "Input": 1}


def test_an_installed_plugin_reads_a_layer(tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text(CUBE)
    (tmp_path / "cubes.py").write_text(PLUGIN)
    info = tmp_path / "cubes-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: cubes\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[netferry.plugins]\ncubes = cubes\n")
    done = netferry("convert", tmp_path / "net.prototxt", "-o", tmp_path / "net.onnx", path=tmp_path)
    assert done.returncode == 0, done.stderr


def test_unread_layers_are_kept_on_request(tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text(CUBE)
    said("convert", tmp_path / "net.prototxt", "-o", tmp_path / "net.onnx", "--allow-placeholders")
    facts = said("inspect", tmp_path / "net.onnx")
    assert "placeholders" in {warning["kind"] for warning in facts["warnings"]}


def test_the_doctor_knows_every_extra() -> None:
    import tomllib

    from netferry.api.diagnosis import _EXTRAS

    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    told = {extra for extra, _ in _EXTRAS.values()}
    assert told == set(declared) - {"gpu", "dev", "all", "browser"}
    for package, (extra, _) in _EXTRAS.items():
        assert extra == "remote" or package in " ".join(declared[extra]), package  # fsspec names its own
