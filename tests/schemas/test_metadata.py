"""Facts of a model in metadata_props and back; hostile metadata never stops a model from being read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import pytest

from netferry.schemas import metadata
from netferry.schemas.graph import Builder
from netferry.schemas.ir import ir
from netferry.schemas.layers import Role
from netferry.schemas.model import Model, Source
from netferry.schemas.preprocessing import Preprocessing
from tests.converters.onnx.models import linear, load, save, stored

SCHEMA = json.loads((Path(metadata.__file__).parent / "metadata.schema.json").read_text())
MEAN = np.arange(12, dtype=np.float32).reshape(3, 2, 2)


def full_model(opset: int = 21) -> Model:
    """Two layers, a constant that looks learnable and a learnable that looks constant, labels, two recipes."""
    b = Builder("net")
    x = b.input("x", ["batch", 4])
    with b.layer("fc/1", "InnerProduct"):
        h = b.op("MatMul", x, b.param("weight", np.eye(4, dtype=np.float32)))
        h = b.op("Mul", h, b.param("scale", np.ones(4, np.float32)))
    with b.layer("prob", "Softmax"):
        h = b.op("MatMul", h, b.param("mix", np.eye(4, dtype=np.float32), role=Role.CONSTANT))
        h = b.op("Softmax", h)
    b.output(h, "y")
    b.finish()
    b.graph.opset_imports[""] = opset
    model = Model(
        ir.Model(b.graph, ir_version=10),
        source=Source("caffe", ("/secret/folder/net.prototxt", "/secret/net.caffemodel"), "1.0"),
        labels={"y": ["cat", "größer", "日本", "tench, Tinca"]},
        preprocessing={"x": Preprocessing(color="BGR", size=(8, 8), mean=(1.0, 2.5, 3.0), mean_image=MEAN)},
    )
    model.tasks["y"] = "labels"
    return model


@pytest.mark.parametrize("opset", [21, 17], ids=["node-metadata", "ir-below-10"])
def test_facts_survive(opset: int, tmp_path: Path) -> None:
    model = full_model(opset)
    save(model, tmp_path / "net.onnx")
    again = load(tmp_path / "net.onnx")
    assert again.notes == []
    assert again.labels == model.labels
    assert again.tasks == {"y": "labels"}
    assert again.preprocessing == model.preprocessing
    np.testing.assert_array_equal(again.preprocessing["x"].mean_image, MEAN)
    assert [(r.name, r.type, r.inputs) for r in again.layers] == [(r.name, r.type, r.inputs) for r in model.layers]
    for role in Role:
        assert list(again.parameters(role)) == list(model.parameters(role))
    assert not any(key.startswith("netferry.") for key in again.ir.metadata_props)
    save(again, tmp_path / "again.onnx")
    assert (tmp_path / "net.onnx").read_bytes() == (tmp_path / "again.onnx").read_bytes()


@pytest.mark.parametrize("opset", [21, 17])
def test_the_file_follows_the_schema_and_tells_no_folders(opset: int, tmp_path: Path) -> None:
    save(full_model(opset), tmp_path / "net.onnx")
    proto = onnx.load(tmp_path / "net.onnx")
    entries: dict[str, Any] = {p.key: p.value for p in proto.metadata_props}
    parsed = {k: v if k == metadata.VERSION else json.loads(v) for k, v in entries.items()}
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(parsed, SCHEMA, cls=jsonschema.Draft202012Validator)
    assert parsed["netferry.source"]["files"] == ["net.prototxt", "net.caffemodel"]
    assert b"/secret" not in (tmp_path / "net.onnx").read_bytes()
    stamped = [p.key for n in proto.graph.node for p in n.metadata_props]
    roles = {t.name: p.value for t in proto.graph.initializer for p in t.metadata_props}
    names = {"layers", "roles"}
    if opset == 21:
        assert len(stamped) == 2 * len(proto.graph.node)
        assert roles == {"fc/1.scale": "learnable", "prob.mix": "constant"}
        assert "netferry.names" not in parsed
    else:
        assert stamped == []
        assert roles == {}
        assert set(parsed["netferry.names"]) == names
        assert parsed["netferry.names"]["layers"]["fc/1"] == ["fc/1", "InnerProduct"]


BAD_JSON = [
    "",
    "{",
    "[]",
    "1",
    "null",
    '"x"',
    "{}{}",
    '{"a":1,"a":2}',
    "NaN",
    "[" * 100_000,
    '{"x":' + "9" * 9000 + "}",
    "\0",
]
BAD = {
    "netferry.source": [{"format": 1}, {}, {"format": "x", "files": [1]}, {"format": "x", "files": "a"}],
    "netferry.labels": [{"y": "cat"}, {"y": [1]}, {"y": {"0": "a"}}, {"other": ["a"]}],
    "netferry.tasks": [{"y": "classes"}, {"y": 1}, {"y": ["labels"]}],
    "netferry.preprocessing": [
        {"x": 1}, {"x": {"color": "pink"}}, {"x": {"color": []}}, {"x": {"size": [0, 1]}}, {"x": {"size": [1]}},
        {"x": {"size": [True, 2]}}, {"x": {"size": [1e9, 10**12]}}, {"x": {"mean": ["1", "2", "3"]}},
        {"x": {"mean": [1, 2]}}, {"x": {"mean": [1e999]}}, {"x": {"scale": 3}}, {"x": {"unknown": 1}},
        {"x": {"mean_image": {"shape": [3, 2, 2], "float32": "AAAA"}}}, {"x": {"mean_image": {"shape": 3}}},
        {"x": {"mean_image": {"shape": [3, 60000, 60000], "float32": ""}}}, {"x": {"mean_image": 7}}, {"z": {}},
    ],
    "netferry.names": [{"layers": []}, {"layers": {"n0": ["a"]}}, {"layers": {"n0": [1, 2]}}, {"roles": {"w": "boss"}},
                       {"roles": 3}, {"roles": {"w": []}}],
}  # fmt: skip
ROWS = [(key, text) for key in BAD for text in [*BAD_JSON, *map(json.dumps, BAD[key])]]


@pytest.mark.parametrize(("key", "text"), ROWS, ids=[f"{k}-{i}" for i, (k, _) in enumerate(ROWS)])
def test_hostile_metadata_is_a_warning(key: str, text: str, tmp_path: Path) -> None:
    proto = linear()
    proto.metadata_props.add(key=key, value=text)
    proto.metadata_props.add(key="theirs", value="kept")
    model = load(stored(tmp_path / "net.onnx", proto))
    assert [note.kind for note in model.notes] == ["warning"]
    assert (model.labels, model.tasks, model.preprocessing) == ({}, {}, {})
    assert model.ir.metadata_props == {"theirs": "kept"}
    assert all(len(note.message) < 600 and note.message.isprintable() for note in model.notes)


def test_unknown_role_of_a_tensor(tmp_path: Path) -> None:
    proto = linear()
    proto.graph.initializer[0].metadata_props.add(key="netferry.role", value="boss\x1b[2J")
    model = load(stored(tmp_path / "net.onnx", proto))
    assert [note.kind for note in model.notes] == ["warning"]
    assert model.notes[0].message.isprintable()
    assert list(model.parameters(Role.LEARNABLE)) == ["w", "b"]


def test_huge_metadata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "MAX_BYTES", 1000)
    proto = linear()
    proto.metadata_props.add(key="netferry.labels", value=json.dumps({"y": ["x" * 2000]}))
    assert "at most 1000" in load(stored(tmp_path / "net.onnx", proto)).notes[0].message


def test_names_that_are_not_utf8_are_escaped(tmp_path: Path) -> None:
    model = full_model()
    model.labels = {"y": ["caf\udce9"]}
    save(model, tmp_path / "net.onnx")
    assert load(tmp_path / "net.onnx").labels == model.labels
