"""Every documented limit at its edge: what is allowed passes, one more is an error that names the limit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import netferry
from netferry.converters.options import Limits
from netferry.errors import LimitExceeded
from tests.attacks import unusual_caffe, unusual_darknet, unusual_keras, unusual_onnx

Make = Callable[[Path], list[Path]]


def prototxt(text: str) -> Make:
    def make(folder: Path) -> list[Path]:
        (folder / "net.prototxt").write_text(text)
        return [folder / "net.prototxt"]

    return make


def keras_json(document: Any) -> Make:
    def make(folder: Path) -> list[Path]:
        (folder / "net.json").write_text(document if isinstance(document, str) else json.dumps(document))
        return [folder / "net.json"]

    return make


def onnx_model(change: Callable[[onnx.ModelProto], object] = lambda _: None) -> Make:
    def make(folder: Path) -> list[Path]:
        model = unusual_onnx.linear()
        change(model)
        (folder / "net.onnx").write_bytes(model.SerializeToString())
        return [folder / "net.onnx"]

    return make


def darknet(folder: Path) -> list[Path]:
    return unusual_darknet.write("byte-order-mark", folder)[0]


def _own_functions(model: onnx.ModelProto) -> None:
    """Three nodes of the graph, one of which is a function of two."""
    body = [helper.make_node("Relu", ["a"], ["c"]), helper.make_node("Neg", ["c"], ["d"])]
    model.functions.append(helper.make_function("own", "f", ["a"], ["d"], body, [helper.make_opsetid("", 17)]))
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.graph.node[2].CopyFrom(helper.make_node("f", ["s"], ["y"], domain="own"))


def _axes(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((1,) * 5, np.float32), "five"))


NET = unusual_caffe.NET
NESTED = 'layer { name: "f" type: "ReLU" bottom: "y" top: "z" a { b { c { d: 1 } } } }\n'
DOCUMENT = unusual_keras.sequential(unusual_keras.dense(note=[[[[[[1]]]]]]))
CASES: dict[str, tuple[str, int, Make]] = {
    # name: (limit, the least value at which the file is read, maker)
    "caffe-nesting": ("nesting", 4, prototxt(NET + NESTED)),
    "caffe-text": ("text_bytes", len(NET), prototxt(NET)),
    "caffe-digits": ("digits", 7, prototxt(NET.replace("num_output: 4", "num_output: 0000004"))),
    "caffe-name": ("name_bytes", len("inner_product_param"), prototxt(NET)),
    "caffe-layers": ("layers", 3, prototxt(NET)),
    "caffe-rank": ("rank", 2, prototxt(NET)),
    "caffe-init": ("init_elements", 12, prototxt(NET)),
    "keras-nesting": ("nesting", 3, keras_json(DOCUMENT)),
    "keras-text": ("text_bytes", len(json.dumps(DOCUMENT)), keras_json(DOCUMENT)),
    "keras-digits": ("digits", 6, keras_json(unusual_keras.sequential(unusual_keras.dense(note=123456)))),
    "keras-init": ("init_elements", 16, keras_json(unusual_keras.sequential())),
    "darknet-layers": ("layers", 2, darknet),
    "darknet-text": ("text_bytes", len(unusual_darknet.NET) + 3, darknet),
    "onnx-message": ("message_bytes", len(unusual_onnx.linear().SerializeToString()), onnx_model()),
    "onnx-rank": ("rank", 5, onnx_model(_axes)),
    "onnx-dim": ("dim", 4, onnx_model()),
    "onnx-nodes": ("nodes", 4, onnx_model(_own_functions)),
}


@pytest.mark.parametrize("name", CASES)
def test_both_sides_of_a_limit(tmp_path: Path, name: str) -> None:
    limit, least, make = CASES[name]
    source, *weights = make(tmp_path)
    for value in (least, least + 1):
        netferry.load(source, *weights, init=0, limits={limit: value})
    with pytest.raises(LimitExceeded, match=rf"limit {limit}|{limit}={least - 1}"):
        netferry.load(source, *weights, init=0, limits={limit: least - 1})


def test_every_limit_is_tested_documented_and_has_a_default() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "security.md").read_text("utf-8")
    for name, value in vars(Limits()).items():
        assert any(limit == name for limit, _, _ in CASES.values()), name
        assert f"`{name}`" in text, name
        assert value > 0
