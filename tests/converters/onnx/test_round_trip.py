"""ONNX in, ONNX out: what onnx and onnxruntime see in the result is what they saw in the source."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

import netferry
from netferry.errors import CheckFailed
from netferry.schemas.ir import ir
from tests.converters.onnx import models
from tests.converters.onnx.models import load, save, stored
from tests.shared import shared

REAL = (
    "silero-vad/silero_vad.onnx", "silero-vad/silero_vad_16k_op15.onnx", "ultraface/RFB-320.onnx",
    "ultraface/RFB-320_postprocessing.onnx", "ultraface/slim-320.onnx",
)  # fmt: skip


def _graphs(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto | onnx.FunctionProto]:
    pending: list[onnx.GraphProto | onnx.FunctionProto] = [proto.graph, *proto.functions]
    while pending:
        graph = pending.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                pending += [attribute.g] if attribute.HasField("g") else attribute.graphs


def _same_content(before: onnx.ModelProto, after: onnx.ModelProto) -> None:
    """Nodes, names, weights and foreign metadata, by onnx's own reading of both files."""
    for one, other in zip(_graphs(before), _graphs(after), strict=True):
        assert [(n.op_type, n.domain, n.name, n.input, n.output) for n in one.node] == [
            (n.op_type, n.domain, n.name, n.input, n.output) for n in other.node
        ]
        for a, b in zip(one.node, other.node, strict=True):
            assert _foreign(a) == _foreign(b)
            assert [(x.name, x.type) for x in a.attribute] == [(x.name, x.type) for x in b.attribute]
            for x, y in zip(a.attribute, b.attribute, strict=True):
                if x.HasField("t"):
                    _same_tensor(x.t, y.t)
                elif not x.HasField("g"):
                    assert x.SerializeToString(deterministic=True) == y.SerializeToString(deterministic=True)
        if isinstance(one, onnx.GraphProto) and isinstance(other, onnx.GraphProto):
            for field in ("input", "output"):
                a, b = getattr(one, field), getattr(other, field)
                assert [(v.name, v.type, _foreign(v)) for v in a] == [(v.name, v.type, _foreign(v)) for v in b]
            assert list(one.sparse_initializer) == list(other.sparse_initializer)
            assert list(one.quantization_annotation) == list(other.quantization_annotation)
            assert [t.name for t in one.initializer] == [t.name for t in other.initializer]
            for a, b in zip(one.initializer, other.initializer, strict=True):
                _same_tensor(a, b)
    assert _foreign(before).items() <= _foreign(after).items()
    for field in ("doc_string", "domain", "model_version"):
        assert getattr(before, field) == getattr(after, field)
    assert [(o.domain, o.version) for o in before.opset_import] == [(o.domain, o.version) for o in after.opset_import]


def _same_tensor(one: onnx.TensorProto, other: onnx.TensorProto) -> None:
    assert (one.data_type, one.dims, one.doc_string) == (other.data_type, other.dims, other.doc_string)
    assert _foreign(one) == _foreign(other)
    a, b = numpy_helper.to_array(one), numpy_helper.to_array(other)
    assert a.tobytes() == b.tobytes() if a.dtype != object else (a == b).all()


def _foreign(message: onnx.ModelProto | onnx.NodeProto | onnx.TensorProto | onnx.ValueInfoProto) -> dict[str, str]:
    return {p.key: p.value for p in message.metadata_props if not p.key.startswith("netferry.")}


@pytest.mark.parametrize("external", [False, True], ids=["inside", "outside"])
@pytest.mark.parametrize("name", models.ALL)
def test_content_survives_and_a_second_pass_is_identical(name: str, external: bool, tmp_path: Path) -> None:
    source = models.ALL[name]()
    first, second = tmp_path / "one" / "net.onnx", tmp_path / "two" / "net.onnx"
    save(load(stored(tmp_path / "source.onnx", source)), first, external=external)
    save(load(first), second, external=external)
    _same_content(source, onnx.load(first))
    for file in first.parent.iterdir():
        assert file.read_bytes() == (second.parent / file.name).read_bytes()
    assert len(list(first.parent.iterdir())) == len(list(second.parent.iterdir()))


@pytest.mark.parametrize("name", models.ALL)
def test_bytes_are_those_of_protobuf(name: str, tmp_path: Path) -> None:
    save(load(stored(tmp_path / "source.onnx", models.ALL[name]())), tmp_path / "net.onnx")
    assert onnx.load(tmp_path / "net.onnx").SerializeToString() == (tmp_path / "net.onnx").read_bytes()


@pytest.mark.parametrize("name", [n for n in models.ALL if n not in ("types", "sparse")])
@pytest.mark.parametrize("external", [False, True], ids=["inside", "outside"])
def test_onnxruntime_computes_the_same(name: str, external: bool, tmp_path: Path) -> None:
    source = stored(tmp_path / "source.onnx", models.ALL[name]())
    save(load(source), tmp_path / "net.onnx", external=external)
    _agree(source, tmp_path / "net.onnx")


@pytest.mark.parametrize("name", REAL)
def test_real_models_survive(name: str, tmp_path: Path) -> None:
    source = shared("data", *name.split("/"))
    first, second = tmp_path / "one.onnx", tmp_path / "two.onnx"
    save(load(source), first)
    save(load(first), second)
    _same_content(onnx.load(source), onnx.load(first))
    assert first.read_bytes() == second.read_bytes()
    assert onnx.load(first).SerializeToString() == first.read_bytes()


@pytest.mark.parametrize("name", ["ultraface/slim-320.onnx", "ultraface/RFB-320.onnx"])
def test_real_models_with_data_outside_load_in_onnxruntime(name: str, tmp_path: Path) -> None:
    save(load(shared("data", *name.split("/"))), tmp_path / "net.onnx", external=True)
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    assert session.get_outputs()
    assert (tmp_path / "net.onnx.data").stat().st_size > 10 * (tmp_path / "net.onnx").stat().st_size


def _agree(one: Path, other: Path) -> None:
    """Both files give bitwise equal outputs on seeded inputs."""
    rng = np.random.default_rng(0)
    sessions = [onnxruntime.InferenceSession(p, providers=["CPUExecutionProvider"]) for p in (one, other)]
    feeds: dict[str, np.ndarray] = {}
    for value in sessions[0].get_inputs():
        shape = [d if isinstance(d, int) else 3 for d in value.shape]
        feeds[value.name] = (
            rng.integers(0, 2, shape).astype({"tensor(bool)": bool, "tensor(int64)": np.int64}[value.type])
            if value.type != "tensor(float)"
            else rng.standard_normal(shape).astype(np.float32)
        )
    for a, b in zip(*(s.run(None, feeds) for s in sessions), strict=True):
        np.testing.assert_array_equal(a, b)


def test_weights_are_not_read_but_pointed_at(tmp_path: Path) -> None:
    model = load(stored(tmp_path / "net.onnx", models.linear()))
    tensor = model.graph.initializers["w"].const_value
    assert isinstance(tensor, ir.ExternalTensor)
    assert tensor.path == str(tmp_path / "net.onnx")
    np.testing.assert_array_equal(tensor.numpy(), models.weights(32, 32))


def test_producer_and_origin(tmp_path: Path) -> None:
    source = models.linear()
    source.producer_name, source.producer_version = "pytorch", "2.3"
    model = load(stored(tmp_path / "from.onnx", source))
    assert (model.source.format, model.source.version) == ("onnx", "pytorch 2.3")
    save(model, tmp_path / "net.onnx")
    again = load(tmp_path / "net.onnx")
    assert again.source.version == "netferry 0.1.0"
    assert again.source.files == (str(tmp_path / "net.onnx"),)
    assert again.source.details["origin"] == {"format": "onnx", "version": "pytorch 2.3", "files": ["from.onnx"]}


def test_training_information_goes_through(tmp_path: Path) -> None:
    source = models.training()
    save(load(stored(tmp_path / "from.onnx", source)), tmp_path / "net.onnx")
    assert list(onnx.load(tmp_path / "net.onnx").training_info) == list(source.training_info)


@pytest.mark.parametrize("change", ["opset", "gone"])
def test_training_information_that_no_longer_fits_is_dropped_and_told(change: str, tmp_path: Path) -> None:
    source = models.training()
    if change == "gone":
        source.training_info[0].update_binding[0].key = "elsewhere"
    model = load(stored(tmp_path / "from.onnx", source))
    netferry.save(model, tmp_path / "net.onnx", opset=17 if change == "opset" else None)
    assert not onnx.load(tmp_path / "net.onnx").training_info
    assert [n.message for n in model.notes if n.kind == "dropped"]


def test_sparse_initializers_of_a_branch_survive(tmp_path: Path) -> None:
    source = models.nested_sparse()
    save(load(stored(tmp_path / "from.onnx", source)), tmp_path / "net.onnx")
    save(load(tmp_path / "net.onnx"), tmp_path / "again.onnx")
    _same_content(source, onnx.load(tmp_path / "net.onnx"))
    assert (tmp_path / "net.onnx").read_bytes() == (tmp_path / "again.onnx").read_bytes()


def test_attributes_of_the_first_files_get_their_type(tmp_path: Path) -> None:
    save(load(stored(tmp_path / "from.onnx", models.untyped())), tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    x = models.weights(2, 32)
    clipped = np.maximum(x.T, -1)
    want = np.exp(clipped) / np.exp(clipped).sum(1, keepdims=True)
    np.testing.assert_allclose(np.asarray(session.run(None, {"x": x})[0]), want, rtol=1e-5)


def test_shapes_that_were_never_true_are_told_not_refused(tmp_path: Path) -> None:
    source = models.linear()
    source.graph.value_info.append(onnx.helper.make_tensor_value_info("h", onnx.TensorProto.FLOAT, ["N", 7]))
    report = netferry.convert(stored(tmp_path / "from.onnx", source), tmp_path / "net.onnx")
    check = next(c for c in report["checks"] if c["name"] == "structure")
    assert "fails on the source file too" in check["detail"]
    _agree(tmp_path / "from.onnx", tmp_path / "net.onnx")
    model = load(tmp_path / "from.onnx")
    model.graph.node("n0").outputs[0].shape = ir.Shape(["N", 8])
    with pytest.raises(CheckFailed, match="do not fit"):
        save(model, tmp_path / "other.onnx")


def test_what_no_runtime_runs_goes_through_with_a_warning(tmp_path: Path) -> None:
    source = models.linear()
    source.opset_import.add(domain="own", version=3)
    source.graph.node[2].domain, source.graph.node[2].op_type = "own", "Secret"
    path = stored(tmp_path / "from.onnx", source)
    report = netferry.convert(path, tmp_path / "net.onnx")
    assert any("does not run the source either" in note["message"] for note in report["notes"])
    _same_content(source, onnx.load(tmp_path / "net.onnx"))
    with pytest.raises(CheckFailed):
        netferry.convert(path, tmp_path / "other.onnx", check="run")
    assert not (tmp_path / "other.onnx").exists()


def test_newer_ir_version_is_told(tmp_path: Path) -> None:
    source = models.linear()
    source.ir_version = 99
    assert any("IR version 99" in note.message for note in load(stored(tmp_path / "net.onnx", source)).notes)
