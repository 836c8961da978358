"""Files of PyTorch written by hand: what they are told for, and what the gate in front of torch refuses."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from netferry.converters.options import Limits, ReadOptions
from netferry.converters.pytorch import export as exporter
from netferry.converters.pytorch.files import CHECKPOINT, PROGRAM, SCRIPT, TENSORS, kind_of, refuse
from netferry.converters.pytorch.gate import check, passed
from netferry.errors import (
    LimitExceeded,
    MalformedFile,
    MissingExtra,
    NetferryError,
    UnsafeFile,
    UnsupportedError,
    UsageError,
)

NODE = {"target": "torch.ops.aten.relu.default", "inputs": [], "outputs": []}
PLAIN: dict[str, Any] = {"graph_module": {"graph": {"nodes": [NODE]}}, "guards_code": ["print(1)"]}


def archive(path: Path, *, names: tuple[str, ...] = (), packed: bool = False, **more: Any) -> Path:
    """A program with one operator and no weights; ``more`` goes into its document."""
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("p/archive_format", "pt2")
        made.writestr("p/models/model.json", json.dumps(PLAIN | more), zipfile.ZIP_DEFLATED if packed else None)
        for name in names:
            made.writestr(name, b"x")
    return path


@pytest.mark.parametrize(
    ("name", "members", "kind"),
    [
        pytest.param("net.pt2", ["p/models/model.json"], PROGRAM, id="program"),
        pytest.param("net.zip", ["p/archive_format"], PROGRAM, id="program-by-content"),
        pytest.param("net.pt", ["p/data.pkl", "p/data/0"], CHECKPOINT, id="checkpoint"),
        pytest.param("net.pt", ["p/data.pkl", "p/constants.pkl"], SCRIPT, id="script"),
        pytest.param("net.pt", ["p/version", "p/archive_format"], PROGRAM, id="program-of-another-name"),
        pytest.param("net.pt", ["p/readme"], None, id="another-zip"),
        pytest.param("net.zip", ["p/readme"], None, id="another-zip-of-another-name"),
    ],
)
def test_told_by_members(tmp_path: Path, name: str, members: list[str], kind: str | None) -> None:
    path = tmp_path / name
    with zipfile.ZipFile(path, "w") as made:
        for member in members:
            made.writestr(member, b"x")
    assert kind_of(path.read_bytes()[: 1 << 16], path) == kind


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        pytest.param("net.pt", b"PK\x03\x04/data.pkl", CHECKPOINT, id="a-zip-that-is-cut"),
        pytest.param("net.bin", b"\x80\x02}q\x00.", CHECKPOINT, id="an-old-checkpoint"),
        pytest.param("net.any", b"\x10\0\0\0\0\0\0\0" + b'{"a":{"data_offsets":[0,4]}}', TENSORS, id="safetensors"),
        pytest.param("net.onnx", b"\x80\x02", None, id="an-onnx-file"),
        pytest.param("net.txt", b"text", None, id="text"),
    ],
)
def test_told_by_first_bytes(tmp_path: Path, name: str, content: bytes, kind: str | None) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert kind_of(content, path) == kind


@pytest.mark.parametrize(
    ("kind", "error", "hint"),
    [
        pytest.param(CHECKPOINT, UnsafeFile, "weights_only=True", id="checkpoint"),
        pytest.param(SCRIPT, UnsafeFile, "torch.export", id="script"),
        pytest.param(TENSORS, UsageError, "--weights", id="safetensors"),
        pytest.param("", MalformedFile, "", id="none"),
    ],
)
def test_what_is_no_program_is_refused_with_the_way(kind: str, error: type[NetferryError], hint: str) -> None:
    with pytest.raises(error) as caught:
        refuse(kind, Path("net.pt"))
    assert hint in (caught.value.hint or "")


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("settings", "limits", "error"),
    [
        pytest.param({}, Limits(layers=1), LimitExceeded, id="members"),
        pytest.param({}, Limits(text_bytes=10), LimitExceeded, id="long-document"),
        pytest.param({"deep": _nested(60)}, Limits(nesting=50), LimitExceeded, id="nested"),
        pytest.param({"packed": True}, Limits(), MalformedFile, id="packed"),
        pytest.param({"config": {"use_pickle": True}}, Limits(), UnsafeFile, id="pickled-tensors"),
        pytest.param({"argument": {"as_custom_obj": {"name": "x"}}}, Limits(), UnsafeFile, id="custom-object"),
        pytest.param({"expr_str": 7}, Limits(), UnsafeFile, id="a-size-that-is-no-text"),
        pytest.param({"expr_str": "s0+" * 2000 + "1"}, Limits(), UnsafeFile, id="a-long-size"),
        pytest.param({"range_constraints": {"open('x')": {}}}, Limits(), UnsafeFile, id="a-range-of-code"),
        pytest.param({"names": ("q/archive_format",)}, Limits(), UnsafeFile, id="two-roots"),
        pytest.param({"names": ("p/extra/notes.txt",)}, Limits(), None, id="notes"),
        pytest.param({"expr_str": "Max(1, s0//2)"}, Limits(), None, id="a-size"),
    ],
)
def test_the_gate(tmp_path: Path, settings: dict[str, Any], limits: Limits, error: type[NetferryError] | None) -> None:
    path = archive(tmp_path / "net.pt2", **settings)
    if error is None:
        check(path, limits)
        return
    with pytest.raises(error):
        check(path, limits)


def test_a_file_that_is_no_zip(tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    path.write_bytes(b"PK\x03\x04" + bytes(40))
    with pytest.raises(MalformedFile, match=r"no archive of torch\.export"):
        check(path, Limits())


def test_the_copy_holds_no_code(tmp_path: Path) -> None:
    """Guards are Python in text; the copy that torch reads has none, and one root."""
    made = passed(archive(tmp_path / "net.pt2"), Limits(), tmp_path / "copy.pt2")
    with zipfile.ZipFile(made) as copy:
        assert set(copy.namelist()) == {"program/archive_format", "program/models/model.json"}
        assert json.loads(copy.read("program/models/model.json"))["guards_code"] == []


def test_the_door_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = archive(tmp_path / "net.pt2")
    with pytest.raises(UsageError, match="no second file"):
        exporter.export(path, ReadOptions(weights=path), tmp_path)
    monkeypatch.setattr(exporter.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra) as caught:
        exporter.export(path, ReadOptions(), tmp_path)
    assert caught.value.hint == "pip install 'netferry[train]'"


def test_an_exporter_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter.util, "find_spec", lambda name: name)
    monkeypatch.setattr(exporter, "SECONDS", 0.01)
    with pytest.raises(UnsupportedError, match=r"ended after 0\.01 seconds"):
        exporter.export(archive(tmp_path / "net.pt2"), ReadOptions(), tmp_path)
