"""Changes of models that onnxruntime does not run: compared by onnx.reference, or refused with a way out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from netferry import api
from netferry.api import rerun
from netferry.errors import CheckFailed
from netferry.schemas.ir import ir
from tests.netferry.test_cli import netferry

WITHOUT_KERNEL = """<ir_version: 10, opset_import: ["": 21]> g (float[N,8] x) => (float[N,4] y)
    { i = Identity(x) d = Cast<to=11>(i) e = Elu(d) f = Cast<to=1>(e) [dense] p = MatMul(f, w) y = Relu(p) }"""
"""onnxruntime 1.31 has no Elu of doubles"""
UNKNOWN = """<ir_version: 10, opset_import: ["": 21, "com.example": 1]> g (float[N,8] x) => (float[N,4] y)
    { i = Identity(x) u = com.example.Thing(i) p = MatMul(u, w) y = Relu(p) }"""


def saved(path: Path, text: str = WITHOUT_KERNEL, scale: float = 1.0) -> Path:
    proto = onnx.parser.parse_model(text)
    values = np.random.default_rng(0).uniform(0.5 * scale, scale, (8, 4)).astype(np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(values, "w"))
    onnx.save(proto, path)
    return path


@pytest.mark.parametrize("options", [{"optimize": "full"}, {"precision": "fp16"}, {"precision": "bf16"}], ids=str)
def test_the_reference_compares(options: dict[str, str], tmp_path: Path) -> None:
    full = saved(tmp_path / "a.onnx")
    report = api.convert(full, tmp_path / "b.onnx", **options)  # type: ignore[arg-type]
    assert any("onnx.reference compared" in note["message"] for note in report["notes"])
    x = np.random.default_rng(1).random((3, 8), np.float32)
    files = (full, tmp_path / "b.onnx")
    runs: list[Any] = [ReferenceEvaluator(onnx.load(p)).run(None, {"x": x}) for p in files]
    wanted, got = (np.asarray(run[0]) for run in runs)
    assert np.abs(got - wanted).max() <= 2e-2 * np.abs(wanted).max()
    if "precision" in options:
        assert 0 < report["changes"]["precision"]["gate"]["error"] <= 2e-2


def test_what_differs_is_refused_by_the_reference(tmp_path: Path) -> None:
    """Weights of 1e-9 vanish in half precision."""
    with pytest.raises(CheckFailed, match=r"disagrees with itself.*no mix with layers in float32"):
        api.convert(saved(tmp_path / "a.onnx", scale=1e-9), tmp_path / "b.onnx", precision="fp16")
    assert not (tmp_path / "b.onnx").exists()


def test_a_changed_weight_shows(tmp_path: Path) -> None:
    model = api.load(saved(tmp_path / "a.onnx"))
    before = rerun.rerun_of(model, lambda m, path: api.save(m, path, check="structure"), tmp_path)
    assert before is not None
    assert before.by_reference
    assert before.after(model)["y"]["max_rel"] == 0
    weight = model.graph.initializers["w"]
    assert weight.const_value is not None
    weight.const_value = ir.tensor(weight.const_value.numpy() * np.float32(1.25), name="w")
    assert before.after(model)["y"]["max_rel"] == pytest.approx(0.25, rel=1e-4)


def test_what_nothing_runs_is_refused_with_a_way_out(tmp_path: Path) -> None:
    net = saved(tmp_path / "a.onnx", UNKNOWN)
    done = netferry("optimize", net, tmp_path / "b.onnx")
    assert done.returncode == 9
    assert "cannot be run before it is changed" in done.stderr
    assert "--check structure" in done.stderr
    assert not (tmp_path / "b.onnx").exists()
    done = netferry("optimize", net, tmp_path / "b.onnx", "--check", "structure")
    assert done.returncode == 0, done.stderr
    assert [n.op_type for n in onnx.load(tmp_path / "b.onnx").graph.node] == ["Thing", "MatMul", "Relu"]


def test_large_models_are_not_left_to_the_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rerun, "_REFERENCE_WORK", 10)
    with pytest.raises(CheckFailed, match=r"too many for onnx\.reference") as caught:
        api.convert(saved(tmp_path / "a.onnx"), tmp_path / "b.onnx", optimize="safe")
    assert "--check structure" in (caught.value.hint or "")


def test_sequences_whose_made_up_values_do_not_fit_are_told(tmp_path: Path) -> None:
    """The sequence would need five items."""
    proto = onnx.parser.parse_model("""<ir_version: 10, opset_import: ["": 21]> g (seq(float[N,3]) x) => (float[N,3] y)
        { four = Constant<value_int=4>() c = SequenceAt(x, four) i = Identity(c) y = Relu(i) }""")
    onnx.save(proto, tmp_path / "a.onnx")
    report = api.convert(tmp_path / "a.onnx", tmp_path / "b.onnx", optimize="safe")
    assert any("not compared by runs" in note["message"] for note in report["notes"])


def test_sequences_are_compared_too(tmp_path: Path) -> None:
    proto = onnx.parser.parse_model("""<ir_version: 10, opset_import: ["": 21]> g (seq(float[N,3]) x) => (float[M,3] y)
        { c = ConcatFromSequence<axis=0>(x) i = Identity(c) y = Relu(i) }""")
    onnx.save(proto, tmp_path / "a.onnx")
    report = api.convert(tmp_path / "a.onnx", tmp_path / "b.onnx", optimize="safe")
    assert report["changes"]["optimize"]["nodes_after"] == {"ConcatFromSequence": 1, "Relu": 1}
