"""The page's content: one file, nothing from elsewhere, nothing from the model that could run."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from netferry import api
from netferry.api.description import describe
from netferry.converters.html import sheets
from netferry.errors import LimitExceeded, OutputError
from netferry.schemas.ir import ir
from netferry.schemas.model import Model, Source
from netferry.schemas.statistics import statistics
from netferry.schemas.tensors import array_tensor

FIXTURES = Path(__file__).resolve().parents[3] / "fixtures"
HOSTILE = '</script><script>alert(1)</script><img src=x onerror=alert(2)> & "q" \u2028'


class Seen(HTMLParser):
    """Tags, addresses and inline handlers of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.extend(attrs)


def content(path: Path) -> dict[str, Any]:
    text = path.read_text("utf-8")
    found = re.search(r'<script type="application/json" id="model">(.*?)</script>', text, re.DOTALL)
    assert found
    return json.loads(found.group(1))


def net(path: Path, text: str, *, opset: int = 17, rename: bool = False) -> Path:
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]> {text}')
    if rename:
        proto.graph.name = HOSTILE
        for node in proto.graph.node:
            node.name = HOSTILE + node.op_type
        proto.graph.input[0].name = proto.graph.node[0].input[0] = HOSTILE
        proto.graph.doc_string = HOSTILE
        proto.producer_name = HOSTILE
        node = proto.graph.node[0]
        node.attribute.append(onnx.helper.make_attribute("activation", HOSTILE))
        node.domain = "own"
        proto.opset_import.append(onnx.helper.make_opsetid("own", 1))
    onnx.save(proto, path)
    return path


def test_one_file_without_anything_from_elsewhere(tmp_path: Path) -> None:
    page = tmp_path / "made" / "page.html"
    api.inspect(FIXTURES / "digits.prototxt", FIXTURES / "digits.caffemodel", html=page)
    text = page.read_text("utf-8")
    seen = Seen()
    seen.feed(text)
    assert {"link", "img", "iframe", "object", "embed", "base", "form"}.isdisjoint(seen.tags)
    assert {"src", "href", "srcset", "action"}.isdisjoint(name for name, _ in seen.attributes)
    outside = text.replace("http://www.w3.org/2000/svg", "")
    assert "http:" not in outside
    assert "https:" not in outside
    assert "@import" not in text
    assert "url(" not in text.replace("url(#tip)", "")
    policy = dict(seen.attributes)["content"] or ""
    assert "default-src 'none'" in next(v for n, v in seen.attributes if n == "content" and v and "default-src" in v)
    assert policy


def test_everything_is_there(tmp_path: Path) -> None:
    api.inspect(FIXTURES / "digits.prototxt", FIXTURES / "digits.caffemodel", html=tmp_path / "p.html")
    document = content(tmp_path / "p.html")
    (sheet,) = document["sheets"]
    layers = {layer["name"]: layer for layer in sheet["layers"] if layer["type"] != "Output"}
    assert list(layers) == ["data", "conv1", "pool1", "conv2", "pool2", "ip1", "relu1", "ip2", "prob"]
    conv = layers["conv1"]
    assert ["kernel_shape", "[5, 5]"] in conv["operators"][0]["settings"]
    assert [port["slot"] for port in conv["operators"][0]["reads"]] == ["X", "W", "B"]
    assert [w["role"] for w in conv["weights"]] == ["learnable", "learnable"]
    assert sum(conv["weights"][0]["statistics"]["histogram"]) == conv["weights"][0]["statistics"]["count"] == 200
    assert conv["facts"]["multiply_adds"] == 51_200
    drawn = sorted(i for box in sheet["boxes"] for i in box["layers"])
    assert drawn == list(range(len(sheet["layers"])))
    assert document["facts"]["totals"]["learnables"] == 7034


def test_hostile_names_are_text(tmp_path: Path) -> None:
    source = net(tmp_path / "m.onnx", "g (float[1] x) => (float[1] y) { h = Relu(x) y = Neg(h) }", rename=True)
    api.inspect(source, html=tmp_path / "p.html")
    text = (tmp_path / "p.html").read_text("utf-8")
    seen = Seen()
    seen.feed(text)
    assert seen.tags.count("script") == 2
    assert "img" not in seen.tags
    assert text.count("</script>") == 2
    assert "onerror" not in {name for name, _ in seen.attributes}
    assert content(tmp_path / "p.html")["facts"]["name"] == HOSTILE


def test_graphs_inside_layers_are_sheets_of_their_own(tmp_path: Path) -> None:
    source = net(
        tmp_path / "m.onnx",
        """g (bool c, float[2] x) => (float[2] y) { h = Neg(x) y = If(c) <
        then_branch = a () => (float[2] p) { q = Relu(h) p = Exp(q) },
        else_branch = b () => (float[2] r) { r = If(c) <
            then_branch = d () => (float[2] s) { s = Abs(h) },
            else_branch = e () => (float[2] t) { t = Sin(h) }> }> }""",
    )
    api.inspect(source, html=tmp_path / "p.html")
    found = content(tmp_path / "p.html")["sheets"]
    assert [s["parent"] for s in found] == [None, 0, 0, 2, 2]
    assert [[layer["type"] for layer in s["layers"]] for s in found[1:]] == [
        ["Relu", "Exp", "Output"], ["If", "Output"], ["Abs", "Output"], ["Sin", "Output"],
    ]  # fmt: skip
    branch = next(layer for layer in found[0]["layers"] if layer["type"] == "If")
    assert branch["sheets"] == [["then_branch", 1], ["else_branch", 2]]


def test_constants_are_not_drawn() -> None:
    text = """<ir_version: 8, opset_import: ["": 17]> g (float[2] x) => (float[2] y)
        { a = Constant<value_float = 2.0>() b = Neg(a) y = Mul(x, b) }"""
    model = Model(ir.from_onnx_text(text), source=Source("onnx"))
    (sheet,) = sheets.sheets_of(model, describe(model))
    assert [layer["type"] for layer in sheet["layers"]] == ["Input", "Mul", "Output"]
    assert sheet["constants"] == 2


def test_too_many_layers_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheets, "MAX_LAYERS", 5)
    with pytest.raises(LimitExceeded, match="too many to draw"):
        api.inspect(FIXTURES / "digits.prototxt", FIXTURES / "digits.caffemodel", html=tmp_path / "p.html")
    assert not (tmp_path / "p.html").exists()


def test_the_network_is_not_overwritten(tmp_path: Path) -> None:
    source = net(tmp_path / "m.onnx", "g (float[1] x) => (float[1] y) { y = Relu(x) }")
    before = source.read_bytes()
    with pytest.raises(OutputError):
        api.inspect(source, html=source)
    assert source.read_bytes() == before


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        pytest.param(np.zeros(5, np.float32), {"zeros": 5, "min": 0.0, "max": 0.0, "histogram": [5]}, id="zeros"),
        pytest.param(np.array([1, np.nan, np.inf, 3], np.float32), {"not_finite": 2, "min": 1.0, "max": 3.0}, id="nan"),
        pytest.param(np.array([np.nan], np.float32), {"not_finite": 1, "count": 1}, id="only-nan"),
        pytest.param(np.arange(-4, 4, dtype=np.int8), {"min": -4.0, "max": 3.0, "mean": -0.5}, id="int8"),
        pytest.param(np.array([1e308, -1e308]), {"mean": 0.0, "std": None}, id="overflow"),
    ],
)
def test_statistics(array: np.ndarray, expected: dict[str, Any]) -> None:
    value = ir.Value(name="w", shape=ir.Shape(list(array.shape)))
    value.const_value = array_tensor(array, "w")
    found = statistics(value)
    assert found is not None
    assert {k: found[k] for k in expected} == expected
    json.dumps(found, allow_nan=False)


def test_statistics_of_a_large_tensor_are_of_a_sample() -> None:
    array = np.random.default_rng(0).normal(size=3 << 20).astype(np.float32)
    value = ir.Value(name="w", shape=ir.Shape([3 << 20]))
    value.const_value = array_tensor(array, "w")
    found = statistics(value)
    assert found is not None
    assert found["looked_at"] == 1 << 20
    assert found["mean"] == pytest.approx(0, abs=0.01)
