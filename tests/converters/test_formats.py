"""A file's content tells its format, whatever its name says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from netferry.converters.formats import FORMATS, by_name, detect
from netferry.errors import InputError, UnknownFormat
from tests.fuzz.targets import CFG, TARGETS, keras_architecture

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"


def content(kind: str) -> bytes:
    """A small file of a kind."""
    if kind == "prototxt":
        return (FIXTURES / "digits.prototxt").read_bytes()
    if kind == "json":
        return json.dumps(keras_architecture()).encode()
    if kind == "cfg":
        return CFG
    return TARGETS[kind].seeds()[0]


CASES = [
    pytest.param("prototxt", "net.prototxt", "caffe", id="prototxt"),
    pytest.param("prototxt", "deploy.txt", "caffe", id="prototxt-called-txt"),
    pytest.param("prototxt", "net", "caffe", id="prototxt-without-suffix"),
    pytest.param("caffemodel", "net.caffemodel", "caffe", id="caffemodel"),
    pytest.param("caffemodel", "net.bin", "caffe", id="caffemodel-called-bin"),
    pytest.param("keras-hdf5", "net.h5", "keras", id="h5"),
    pytest.param("keras-hdf5", "weights.42-0.31", "keras", id="h5-of-a-checkpoint"),
    pytest.param("json", "net.json", "keras", id="json"),
    pytest.param("json", "net", "keras", id="json-without-suffix"),
    pytest.param("keras-zip", "net.keras", "keras", id="keras"),
    pytest.param("keras-zip", "net.zip", "keras", id="keras-called-zip"),
    pytest.param("onnx", "net.onnx", "onnx", id="onnx"),
    pytest.param("onnx", "model", "onnx", id="onnx-without-suffix"),
    pytest.param("cfg", "net.cfg", "darknet", id="cfg"),
    pytest.param("cfg", "net.txt", "darknet", id="cfg-called-txt"),
]


@pytest.mark.parametrize(("kind", "name", "wanted"), CASES)
def test_detect(tmp_path: Path, kind: str, name: str, wanted: str) -> None:
    (tmp_path / name).write_bytes(content(kind))
    assert detect(tmp_path / name).name == wanted


@pytest.mark.parametrize(
    "data",
    [b"", b"\0", b"hello", b"%PDF-1.4", b"\x89PNG\r\n\x1a\n", b"<html></html>", b"{}", b"import os\n"],
    ids=["empty", "nul", "text", "pdf", "png", "html", "no-keras", "python"],
)
def test_nothing_recognises_it(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "net.xyz").write_bytes(data)
    with pytest.raises(UnknownFormat):
        detect(tmp_path / "net.xyz")


def test_formats_by_name(tmp_path: Path) -> None:
    for format_ in FORMATS:
        assert by_name(format_.name) is format_
    with pytest.raises(UnknownFormat, match="caffe"):
        by_name("coffee")
    with pytest.raises(InputError):
        detect(tmp_path)
    with pytest.raises(InputError):
        detect(tmp_path / "gone.onnx")
