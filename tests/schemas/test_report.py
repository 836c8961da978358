"""The conversion report follows its schema and tells the truth about the files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from netferry.errors import OutputError
from netferry.schemas import report
from netferry.schemas.model import Note
from netferry.schemas.report import Report
from tests.converters.onnx.models import linear, load, save, stored

SCHEMA = json.loads((Path(report.__file__).parent / "report.schema.json").read_text())


def converted(folder: Path, **options: Any) -> tuple[Report, Path]:
    source = stored(folder / "source.onnx", linear())
    model = load(source)
    model.notes.append(Note("folded", "two into one", layer="n1"))
    document = Report(model, netferry_version="0.1.0", options={"opset": None, "mean": [1.0, 2.0]})
    document.timing("read", 0.25)
    document.written(save(model, folder / "out" / "net.onnx", **options))
    return document, source


@pytest.mark.parametrize("external", [False, True], ids=["inside", "outside"])
@pytest.mark.parametrize("ran", [False, True], ids=["structure", "ran"])
def test_follows_the_schema(external: bool, ran: bool, tmp_path: Path) -> None:
    check = (lambda path: {"batches": [1, 3]}) if ran else None
    document, source = converted(tmp_path, external=external, run_check=check)
    result = document.finish(tmp_path / "reports" / "r.json")
    assert json.loads((tmp_path / "reports" / "r.json").read_text()) == result
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(result, SCHEMA, cls=jsonschema.Draft202012Validator)
    assert result["source"]["files"] == [_facts(source)]
    assert [o["file"] for o in result["outputs"]] == [
        str(tmp_path / "out" / name) for name in ("net.onnx", "net.onnx.data")[: 1 + external]
    ]
    assert result["outputs"] == [_facts(Path(o["file"])) for o in result["outputs"]]
    assert [c["outcome"] for c in result["checks"]] == ["passed", "passed" if ran else "skipped"]
    assert ("onnxruntime" in result["versions"]) == ran
    assert result["layers"] == {"Input": 1, "MatMul": 1, "Add": 1, "Relu": 1}
    assert result["notes"] == [{"kind": "folded", "message": "two into one", "layer": "n1"}]
    assert (result["opset"], result["ir_version"], result["timings"]["read"]) == (21, 10, 0.25)


def test_tells_what_the_source_was_trained_for_and_its_classes(tmp_path: Path) -> None:
    document, _ = converted(tmp_path)
    model = document._model
    model.source.details.update(loss="mse", metrics=["accuracy"], backend="tensorflow")
    model.labels["y"] = ["cat", "dog"]
    result = document.finish()
    jsonschema.validate(result, SCHEMA, cls=jsonschema.Draft202012Validator)
    assert result["source"]["training"] == {"loss": "mse", "metrics": ["accuracy"]}
    assert result["labels"] == {"y": ["cat", "dog"]}


def _facts(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    return {"file": str(path), "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def test_without_a_file_nothing_is_hashed(tmp_path: Path) -> None:
    document, _ = converted(tmp_path)
    result = document.finish()
    jsonschema.validate(result, SCHEMA, cls=jsonschema.Draft202012Validator)
    assert "sha256" not in json.dumps(result)


@pytest.mark.parametrize("name", ["source.onnx", "out/net.onnx", "out"])
def test_never_replaces_a_file_of_the_conversion(name: str, tmp_path: Path) -> None:
    document, _ = converted(tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with pytest.raises(OutputError):
        document.finish(tmp_path / name)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
