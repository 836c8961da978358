"""Mixed precision: where all in half precision fails the gate, measured layers stay float32; by onnx.reference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator

from netferry import api
from netferry.converters.passes.precision import to_precision
from netferry.converters.passes.precision_mix import parts_of
from netferry.errors import CheckFailed, UsageError
from netferry.runtime.emulate import emulated
from netferry.runtime.session import Session
from netferry.runtime.switched import Switched
from netferry.schemas.tensors import array_of
from tests.netferry.test_cli import netferry

BIG, SMALL = 32, 8


def net(path: Path, *, offset: float = 1000.0, late: bool = False) -> Path:
    """Layers first, lifted, lowered, second, third: what is lifted to the offset loses its digits in half precision.

    ``late``: that happens behind the second layer instead of the first.
    """
    lift = "[lifted] b = Add({0}, o) [lowered] c = Sub(b, o)"
    steps = (
        "[first] a = MatMul(x, w1) [second] s = MatMul(a, w2) " + lift.format("s") + " [third] y = MatMul(c, w3)"
        if late
        else "[first] a = MatMul(x, w1) " + lift.format("a") + " [second] s = MatMul(c, w2) [third] y = MatMul(s, w3)"
    )
    proto = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["": 21]> g (float[N,{SMALL}] x) => (float[N,4] y) {{ {steps} }}'
    )
    rng = np.random.default_rng(3)
    for name, shape in (("w1", (SMALL, SMALL)), ("w2", (SMALL, BIG)), ("w3", (BIG, 4))):
        values = rng.normal(0, shape[0] ** -0.5, shape).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array(offset, np.float32), "o"))
    onnx.save(proto, path)
    return path


def error_by_reference(full: Path, half: Path, seed: int) -> float:
    """Largest relative difference in onnx.reference, whose float16 and bfloat16 are numpy's and ml_dtypes'."""
    x = np.random.default_rng(seed).random((5, SMALL), np.float32)
    runs: list[Any] = [ReferenceEvaluator(onnx.load(p)).run(None, {"x": x}) for p in (full, half)]
    wanted, got = (np.asarray(run[0]) for run in runs)
    assert np.isfinite(got).all()
    return float(np.abs(got - wanted).max() / np.abs(wanted).max())


def no_casts_back_to_back(path: Path) -> None:
    graph = onnx.load(path).graph
    casts = {o for n in graph.node if n.op_type == "Cast" for o in n.output}
    assert not [n.name for n in graph.node if n.op_type == "Cast" and n.input[0] in casts]


@pytest.mark.parametrize(
    ("precision", "gate", "late", "stay"),
    [
        pytest.param("fp16", 2e-3, False, {"first", "lifted", "lowered"}, id="fp16-early"),
        pytest.param("fp16", 2e-3, True, {"second", "lifted", "lowered"}, id="fp16-late"),
        pytest.param("bf16", 2e-2, False, {"first", "lifted", "lowered"}, id="bf16"),
    ],
)
def test_the_layers_that_lose_digits_stay(
    precision: str, gate: float, late: bool, stay: set[str], tmp_path: Path
) -> None:
    full = net(tmp_path / "m.onnx", late=late)
    api.convert(full, tmp_path / "all.onnx", precision=precision, check="structure")  # no gate
    assert error_by_reference(full, tmp_path / "all.onnx", 9) > gate
    report = api.convert(full, tmp_path / "half.onnx", precision=precision, report=tmp_path / "r.json")
    found = report["changes"]["precision"]
    assert stay <= set(found["kept"]) < {"first", "lifted", "lowered", "second", "third"}
    assert set(found["gate"]["float32_layers"]) == set(found["kept"])
    assert found["gate"]["allowed"] == gate
    assert found["gate"]["error"] <= gate < found["gate"]["error_without_float32"]
    assert all("rounding moves the outputs" in why for why in found["kept"].values())
    sizes = found["weight_bytes"]
    assert sizes["float32"] < sizes["after"] < sizes["before"]
    assert any("stay float32" in note["message"] for note in report["notes"])
    assert json.loads((tmp_path / "r.json").read_text())["changes"]["precision"]["gate"] == found["gate"]
    onnx.checker.check_model(onnx.load(tmp_path / "half.onnx"), full_check=True)
    no_casts_back_to_back(tmp_path / "half.onnx")
    assert error_by_reference(full, tmp_path / "half.onnx", 9) <= gate


def test_the_same_every_time(tmp_path: Path) -> None:
    full = net(tmp_path / "m.onnx")
    for name in ("a", "b"):
        api.convert(full, tmp_path / f"{name}.onnx", precision="fp16")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_runs_are_told_while_they_go_on(tmp_path: Path) -> None:
    told: list[int] = []
    found = api.convert(net(tmp_path / "m.onnx"), tmp_path / "a.onnx", precision="fp16", progress=told.append)
    assert sum(told) >= found["changes"]["precision"]["gate"]["runs"] > 3


def test_the_gate_is_the_users(tmp_path: Path) -> None:
    full = net(tmp_path / "m.onnx")
    loose = api.convert(full, tmp_path / "a.onnx", precision="fp16", max_error=10.0)["changes"]["precision"]
    assert not loose["kept"]
    assert loose["weight_bytes"]["float32"] == 0
    with pytest.raises(CheckFailed, match=r"no mix with layers in float32.*near enough") as caught:
        api.convert(full, tmp_path / "b.onnx", precision="fp16", max_error=1e-7)
    assert "--max-error" in (caught.value.hint or "")
    assert not (tmp_path / "b.onnx").exists()
    with pytest.raises(UsageError):
        api.convert(full, tmp_path / "b.onnx", precision="fp16", max_error=0.0)


def test_on_the_command_line(tmp_path: Path) -> None:
    full = net(tmp_path / "m.onnx")
    done = netferry("optimize", full, tmp_path / "a.onnx", "--level", "safe", "--precision", "fp16")
    assert done.returncode == 0, done.stderr
    assert "layers stay float32" in done.stdout
    assert "weights" in done.stdout
    done = netferry("convert", full, "-o", tmp_path / "b.onnx", "--precision", "fp16", "--max-error", "1e-7")
    assert done.returncode == 9
    done = netferry(
        "convert", full, "-o", tmp_path / "c.onnx", "--precision", "fp16", "--keep-float32", "Add", "--keep-layer",
        "lowered", "--keep-layer", "first", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    kept = json.loads(done.stdout)["changes"]["precision"]["kept"]
    assert kept == {"first": "MatMul: asked for", "lifted": "Add: asked for", "lowered": "Sub: asked for"}
    done = netferry("convert", full, "-o", tmp_path / "d.onnx", "--precision", "fp16", "--keep-layer", "nowhere")
    assert done.returncode == 2


# the graph that any mix is tried in ------------------------------------------------------------------------------


def switched(tmp_path: Path, precision: str) -> tuple[Switched, Any, Any, int]:
    model = api.load(net(tmp_path / "m.onnx"))
    weights = {name: np.asarray(array_of(value)) for name, value in model.graph.initializers.items()}
    report = to_precision(model, precision)  # type: ignore[arg-type]
    api.save(model, tmp_path / "half.onnx", check="structure")
    parts = parts_of(model, report)
    number = {name: n for n, part in enumerate(parts) for name in part.layers}
    values = {value: number[layer] for value, layer in report.halves.items()}
    half = onnx.load(tmp_path / "half.onnx")
    held = {name: weights[source] for name, source in report.made_of.items()}
    return Switched(half, held, values, report.inserted), half, Session(tmp_path / "m.onnx", "cpu"), len(parts)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_all_switched_is_the_half_graph_and_none_is_the_original(precision: str, tmp_path: Path) -> None:
    session, half, full, parts = switched(tmp_path, precision)
    assert parts == 3
    feeds = {"x": np.random.default_rng(1).random((4, SMALL), np.float32)}
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    rounded = onnxruntime.InferenceSession(
        emulated(half).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    np.testing.assert_array_equal(session.run(feeds, np.ones(3, bool))["y"], rounded.run(None, feeds)[0])
    np.testing.assert_allclose(session.run(feeds, np.zeros(3, bool))["y"], full.run(feeds)["y"], rtol=0, atol=1e-4)


def test_a_part_takes_rounded_values_from_one_in_float32(tmp_path: Path) -> None:
    """Only the third layer in half precision: its input, weight and result are rounded, nothing else."""
    session, _half, _full, _ = switched(tmp_path, "bf16")
    feeds = {"x": np.random.default_rng(2).random((4, SMALL), np.float32)}
    got = session.run(feeds, np.array([False, False, True]))["y"]
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(tmp_path / "m.onnx").graph.initializer}
    s = (feeds["x"] @ weights["w1"] + weights["o"] - weights["o"]) @ weights["w2"]

    def low(array: np.ndarray) -> np.ndarray:
        return array.astype(ml_dtypes.bfloat16).astype(np.float32)

    wanted = low(low(s) @ low(weights["w3"]))
    np.testing.assert_allclose(got, wanted, rtol=2**-8, atol=1e-6)
    exact = session.run(feeds, np.array([False, False, True]), rounding=False)["y"]
    np.testing.assert_allclose(exact, s @ low(weights["w3"]), rtol=1e-3, atol=1e-3)
