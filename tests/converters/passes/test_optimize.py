"""The optimizer as a whole: its report, its switches, its checks, and graphs as other exporters write them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from netferry import api
from netferry.converters.passes.optimize import OptimizeReport, optimize, pass_names
from netferry.errors import CheckFailed, UsageError
from netferry.runtime.session import Session
from netferry.runtime.verify import compare, seeded_inputs
from netferry.schemas.ir import ir
from netferry.schemas.layers import LAYER, LAYER_TYPE
from netferry.schemas.model import Model
from tests.converters.passes.optimized import as_model, graph
from tests.shared import shared

NET = """f (float[N,3,8,8] x, float[4,3,3,3] w_k, float[4] w_s, float[4] w_o, float[4] w_m, float[4] w_var)
    => (float[N,4,6,6] y) { i = Identity(x) c = Conv(i, w_k) b = BatchNormalization(c, w_s, w_o, w_m, w_var)
    r = Relu(b) d = Dropout(r) y = Identity(d) }"""


def test_the_report_counts_nodes_by_operator() -> None:
    report = optimize(as_model(graph(NET)), "full")
    assert report.after == {"Conv": 1, "Relu": 1}
    rows = {p.name: p for p in report.passes}
    assert rows["identity"].after["Identity"] == -2
    assert rows["affine-after"].after["BatchNormalization"] == -1
    assert json.loads(json.dumps(report.as_dict()))["nodes_before"]["Dropout"] == 1


def test_none_changes_nothing() -> None:
    proto = graph(NET)
    model = as_model(proto)
    before = ir.to_proto(model.ir).SerializeToString()
    assert not optimize(model, "none").changed
    assert ir.to_proto(model.ir).SerializeToString() == before


@pytest.mark.parametrize("name", ["identity", "affine-after"])
def test_each_pass_can_be_left_out(name: str) -> None:
    report = optimize(as_model(graph(NET)), "full", disable=[name, "onnxscript", "onnxsim"])
    assert not any(p.changed for p in report.passes if p.name == name)
    assert set(report.after) >= {"identity": {"Identity", "Dropout"}, "affine-after": {"BatchNormalization"}}[name]


def test_unknown_names_are_refused() -> None:
    model = as_model(graph(NET))
    with pytest.raises(UsageError, match="there are"):
        optimize(model, "full", disable=["nothing"])
    with pytest.raises(UsageError):
        optimize(model, "more")  # type: ignore[arg-type]
    assert len(pass_names()) == len(set(pass_names()))


def test_layers_and_names_stay() -> None:
    model = as_model(graph(NET))
    for node in model.graph:
        node.metadata_props.update({LAYER: f"layer_{node.op_type}", LAYER_TYPE: node.op_type})
    optimize(model, "full")
    assert [n.metadata_props[LAYER] for n in model.graph] == ["layer_Conv", "layer_Relu"]
    assert "w_k" in model.graph.initializers


def _opposed(model: Model, bad: str) -> str | None:
    """A check that fails wherever an operator is missing."""
    return None if any(n.op_type == bad for n in model.nodes()) else f"{bad} is gone"


def test_a_pass_that_changes_the_result_is_left_out() -> None:
    model = as_model(graph(NET))
    report: OptimizeReport = optimize(model, "full", verify=lambda m: _opposed(m, "BatchNormalization"))
    refused = {p.name for p in report.passes if p.refused}
    assert refused >= {"affine-after"}
    assert report.after == {"Conv": 1, "BatchNormalization": 1, "Relu": 1}
    assert report.notes


def test_a_check_that_always_fails_is_an_error() -> None:
    with pytest.raises(CheckFailed):
        optimize(as_model(graph(NET)), "full", verify=lambda m: "always")


def test_uninitialised_weights_stop_no_pass() -> None:
    from netferry.schemas.tensors import uninitialised_tensor

    model = as_model(graph(NET))
    value = model.graph.initializers["w_k"]
    value.const_value = uninitialised_tensor([4, 3, 3, 3])
    report = optimize(model, "full")
    assert report.after == {"Conv": 1, "BatchNormalization": 1, "Relu": 1}
    assert model.uninitialised == ["w_k"]


def _agree(before: Path, after: Path, tolerance: float = 1e-5) -> None:
    a, b = Session(before, "cpu"), Session(after, "cpu")
    assert (a.inputs, a.outputs) == (b.inputs, b.outputs)
    for batch in (1, 3):
        feeds = seeded_inputs(a.inputs, batch, batch)
        assert max(d["max_rel"] for d in compare(b.run(feeds), a.run(feeds)).values()) <= tolerance


def _through(path: Path, target: Path) -> OptimizeReport:
    """Optimize a file, compare, and do it again: the second file is the first."""
    model = api.load(path)
    report = optimize(model, "full")
    api.save(model, target, check="structure")
    again = api.load(target)
    assert not optimize(again, "full").changed
    second = target.with_suffix(".2.onnx")
    api.save(again, second, check="structure")
    assert second.read_bytes() == target.read_bytes()
    return report


@pytest.mark.slow
@pytest.mark.parametrize("name", ["RFB-320", "slim-320", "RFB-320_postprocessing"])
def test_real_face_detectors(name: str, tmp_path: Path) -> None:
    path = shared("data", "ultraface", f"{name}.onnx")
    report = _through(path, tmp_path / "out.onnx")
    _agree(path, tmp_path / "out.onnx")
    assert report.after["BatchNormalization"] == 0
    assert sum(report.after.values()) <= {"RFB-320": 110, "slim-320": 95, "RFB-320_postprocessing": 125}[name]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "most"), [("silero_vad", 116), ("silero_vad_16k_op15", 76)])
def test_real_voice_detector_with_branches(name: str, most: int, tmp_path: Path) -> None:
    path = shared("data", "silero-vad", f"{name}.onnx")
    report = _through(path, tmp_path / "out.onnx")
    assert sum(report.after.values()) <= most
    rng = np.random.default_rng(0)
    feeds = {
        "input": rng.normal(size=(1, 576), scale=0.1).astype(np.float32),
        "state": rng.normal(size=(2, 1, 128), scale=0.1).astype(np.float32),
        "sr": np.array(16000, np.int64),
    }
    got, want = (Session(p, "cpu").run(feeds) for p in (tmp_path / "out.onnx", path))
    assert max(d["max_rel"] for d in compare(got, want).values()) <= 1e-5


@pytest.mark.slow
def test_onnxsim_where_it_is_installed() -> None:
    pytest.importorskip("onnxsim")
    model = api.load(shared("data", "ultraface", "RFB-320.onnx"))  # its weights still lie in the file
    report = optimize(model, "full", disable=[n for n in pass_names() if n not in ("onnxsim", "listed-weights")])
    assert next(p for p in report.passes if p.name == "onnxsim").changed
    assert not [n for n in model.notes if "failed" in n.message]


@pytest.mark.slow
@pytest.mark.parametrize("dynamo", [False, True], ids=["script", "dynamo"])
@pytest.mark.parametrize("name", ["residual", "shuffle", "attention", "encoder"])
@pytest.mark.filterwarnings("ignore")
def test_what_torch_exports(name: str, dynamo: bool, tmp_path: Path) -> None:
    """No more nodes than onnxscript's optimizer leaves, nor than onnxsim and onnxslim left (November 2026)."""
    pytest.importorskip("torch")
    import onnxscript.optimizer

    from benchmarks.simplifier_graphs import export

    path = export(name, tmp_path, dynamo=dynamo)
    report = _through(path, tmp_path / "out.onnx")
    _agree(path, tmp_path / "out.onnx")
    theirs = len(onnxscript.optimizer.optimize(onnx.load(path)).graph.node)
    measured = {"residual": 22, "shuffle": 35 if dynamo else 38, "attention": 95 if dynamo else 105}
    assert sum(report.after.values()) <= min(theirs, measured.get(name, 80 if dynamo else 83))
