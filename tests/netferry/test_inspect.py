"""``inspect``: published figures, sizes of dynamic dimensions, warnings, names that a terminal must not obey."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from netferry import api, zoo
from netferry.errors import UsageError
from tests.netferry.test_cli import netferry
from tests.shared import shared

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"


def test_squeezenet_reads_as_published(tmp_path: Path) -> None:
    """68 layers, 75 connections, 52 learnable tensors, depth 18 (8.1 of the acceptance table).

    The published network ends in a Flatten, ``prob_flatten``, that the Caffe file leaves out.
    """
    text = shared("data", "squeezenet_v1.1", "deploy.prototxt").read_text()
    flatten = 'layer { name: "prob_flatten" type: "Flatten" bottom: "prob" top: "prob_flatten" }'
    (tmp_path / "deploy.prototxt").write_text(f"{text}\n{flatten}\n")
    found = api.inspect(tmp_path / "deploy.prototxt", shared("data", "squeezenet_v1.1", "squeezenet_v1.1.caffemodel"))
    totals = found["totals"]
    assert (totals["layers"], totals["connections"], totals["learnable_tensors"]) == (68, 75, 52)
    assert totals["learnables"] == 1_235_496
    assert totals["depth"] == 18
    assert [i["name"] for i in found["inputs"]] == ["data"]
    assert [o["name"] for o in found["outputs"]] == ["prob_flatten"]
    assert totals["multiply_adds"] == pytest.approx(387.75e6, rel=2e-3)  # as netscope counts it
    assert found["warnings"] == []


def test_squeezenet_of_the_zoo_reads_as_published() -> None:
    totals = api.inspect(zoo.load("squeezenet"))["totals"]
    assert (totals["layers"], totals["connections"], totals["learnable_tensors"]) == (68, 75, 52)
    assert (totals["learnables"], totals["depth"]) == (1_235_496, 18)


def test_the_file_of_squeezenet_itself() -> None:
    totals = api.inspect(
        shared("data", "squeezenet_v1.1", "deploy.prototxt"),
        shared("data", "squeezenet_v1.1", "squeezenet_v1.1.caffemodel"),
    )["totals"]
    assert (totals["layers"], totals["connections"], totals["learnable_tensors"]) == (67, 74, 52)


def test_every_row_and_the_totals_agree() -> None:
    found = api.inspect(FIXTURES / "digits.prototxt", FIXTURES / "digits.caffemodel")
    rows = {row["name"]: row for row in found["layers"]}
    assert rows["conv1"]["multiply_adds"] == 16 * 16 * 8 * 25
    assert rows["conv1"]["weight_bytes"] == 4 * rows["conv1"]["learnable_count"]
    assert rows["conv1"]["memory_bytes"] == rows["conv1"]["weight_bytes"] + 4 * 8 * 16 * 16
    assert found["totals"]["multiply_adds"] == sum(row["multiply_adds"] for row in found["layers"])
    assert found["totals"]["weight_bytes"] >= 4 * found["totals"]["learnables"]
    assert found["counted_at"] == {"batch": 1}


def model(text: str, path: Path, **weights: np.ndarray) -> Path:
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> {text}')
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(a, n) for n, a in weights.items())
    onnx.save(proto, path)
    return path


def test_sizes_of_dynamic_dimensions(tmp_path: Path) -> None:
    path = model(
        "g (float[N,2,height,width] x) => (float[N,4,h,w] y) { y = Conv(x, k) }", tmp_path / "m.onnx",
        k=np.ones((4, 2, 3, 3), np.float32),
    )  # fmt: skip
    assert api.inspect(path)["totals"]["multiply_adds_unknown"] == ["y"]
    found = api.inspect(path, sizes={"height": 10, "width": 12})
    assert found["totals"]["multiply_adds"] == 8 * 10 * 4 * 18
    assert found["totals"]["multiply_adds_unknown"] == []
    assert (
        api.inspect(path, sizes={"height": 10, "width": 12, "N": 3})["totals"]["multiply_adds"] == 3 * 8 * 10 * 4 * 18
    )
    with pytest.raises(UsageError, match="no dynamic dimension"):
        api.inspect(path, sizes={"depth": 3})


def test_warnings_name_what_is_wrong(tmp_path: Path) -> None:
    k = np.arange(25, dtype=np.float32).reshape(5, 5)
    path = model(
        """g (float[N,5] x, float[N] unused) => (float[N,5] y, float[5,5] z)
        { a = MatMul(x, k) y = MatMul(a, k2) lost = MatMul(y, k3) lost2 = Relu(lost) z = Neg(k) }""",
        tmp_path / "m.onnx", k=k, k2=k, k3=k + 1,
    )  # fmt: skip
    warnings = {w["kind"]: w["names"] for w in api.inspect(path)["warnings"]}
    assert warnings == {
        "unused input": ["unused"],
        "dangling": ["lost", "lost2"],
        "unreachable": ["z"],
        "unused weights": ["k3"],
        "duplicated weights": ["k", "k2"],
    }


def test_names_are_shown_and_not_obeyed(tmp_path: Path) -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[2] x) => (float[2] y) { y = Relu(x) }'
    )
    proto.graph.node[0].name = "\x1b[31m[bold]red[/bold]"
    onnx.save(proto, tmp_path / "m.onnx")
    done = netferry("inspect", tmp_path / "m.onnx")
    assert done.returncode == 0
    assert "\\x1b[31m[bold]red[/bold]" in done.stdout
    assert "\x1b" not in done.stdout


def test_the_table_tells_costs() -> None:
    done = netferry("inspect", "fixtures/digits.prototxt", "fixtures/digits.caffemodel")
    assert "multiply-adds" in done.stdout
    row = next(line for line in done.stdout.splitlines() if line.startswith("conv1"))
    assert row.split()[-4:] == ["208", "51,200", "9.02", "kB"]
