"""Broken and hostile ONNX files: the bytes, whole files, data elsewhere, and what the plain network must not say."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.attacks import unusual_onnx
from tests.attacks.making import Make, model, stored
from tests.converters.caffe.caffemodel_writer import message, text

CASES: dict[str, Make] = {}
"""name -> writes the files into a folder; returns their paths as ``convert`` takes them"""


def external(**entries: object) -> Make:
    def change(m: onnx.ModelProto) -> None:
        tensor = m.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in entries.items():
            tensor.external_data.add(key=key.rstrip("_"), value=str(value))

    def make(folder: Path) -> list[Path]:
        (folder / "w.bin").write_bytes(unusual_onnx.W.tobytes())
        return model(change)(folder)

    return make


def _node(*arguments: Any, at: int = 99, **settings: Any) -> Callable[[onnx.ModelProto], object]:
    return lambda m: m.graph.node.insert(min(at, len(m.graph.node)), helper.make_node(*arguments, **settings))


def _fill(m: onnx.ModelProto, dims: list[int]) -> None:
    """y = relu(…) + a constant of these dimensions, made by ConstantOfShape."""
    m.graph.initializer.append(numpy_helper.from_array(np.array(dims, np.int64), "dims"))
    m.graph.node.append(helper.make_node("ConstantOfShape", ["dims"], ["big"]))
    m.graph.node.append(helper.make_node("Add", ["s", "big"], ["z"]))


def _cycle(m: onnx.ModelProto) -> None:
    m.graph.node[0].input[0] = "y"


def _two_graphs(m: onnx.ModelProto) -> bytes:
    return m.SerializeToString() + onnx.ModelProto(graph=m.graph).SerializeToString()


def _shape_of_40_axes(m: onnx.ModelProto) -> None:
    m.graph.initializer[1].dims[:] = [1] * 39 + [4]


def _text(m: onnx.ModelProto) -> None:
    m.graph.initializer[1].CopyFrom(helper.make_tensor("b", TensorProto.STRING, [4], np.array(list("abcd"))))


def _segment(m: onnx.ModelProto) -> None:
    m.graph.initializer[0].segment.begin = 1


def _opset(version: int) -> Callable[[onnx.ModelProto], None]:
    def change(m: onnx.ModelProto) -> None:
        m.opset_import[0].version = version

    return change


def _input_shape(m: onnx.ModelProto) -> None:
    m.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 2**62


def _output_type(m: onnx.ModelProto) -> None:
    m.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64


def _no_output(m: onnx.ModelProto) -> None:
    del m.graph.output[:]


def _bad_utf8_name(m: bytes) -> bytes:
    return m.replace(b"relu", b"re\xff\xfe")


_PLAIN = unusual_onnx.linear().SerializeToString()
CASES |= {
    "onnx-cycle": model(_cycle),
    "onnx-two-graphs": stored("net.onnx", _two_graphs(unusual_onnx.linear())),
    "onnx-half": stored("net.onnx", _PLAIN[: len(_PLAIN) // 2]),
    "onnx-then-text": stored("net.onnx", _PLAIN + b"trailing text"),
    "onnx-doubled": stored("net.onnx", _PLAIN * 2),
    "onnx-name-of-bytes": stored("net.onnx", _bad_utf8_name(_PLAIN)),
    "onnx-zeros": stored("net.onnx", bytes(100_000)),
    "onnx-is-a-picture": stored("net.onnx", b"\x89PNG\r\n\x1a\n" + bytes(500)),
    "onnx-is-html": stored("net.onnx", b"<!DOCTYPE html><html><body>404</body></html>"),
    "onnx-is-a-git-lfs-pointer": stored("net.onnx", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"),
    "onnx-is-gzip": stored("net.onnx", b"\x1f\x8b\x08\x00" + bytes(60)),
    "onnx-unknown-operator": model(_node("Frobnicate", ["s"], ["z"])),
    "onnx-unknown-domain": model(_node("Foo", ["s"], ["z"], domain="org.nobody")),
    "onnx-too-many-inputs": model(_node("Relu", ["s", "s", "s"], ["z"])),
    "onnx-unknown-attribute": model(_node("Relu", ["s"], ["z"], warp=3)),
    "onnx-attribute-of-other-type": model(_node("Softmax", ["s"], ["z"], axis="first")),
    "onnx-axis-out-of-range": model(_node("Softmax", ["s"], ["z"], axis=77)),
    "onnx-shapes-do-not-fit": model(lambda m: m.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.ones(5, np.float32), "b"))),
    "onnx-types-do-not-fit": model(lambda m: m.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.ones(4), "b"))),
    "onnx-texts-for-numbers": model(_text),
    "onnx-40-axes": model(_shape_of_40_axes),
    "onnx-segment": model(_segment),
    "onnx-opset-0": model(_opset(0)),
    "onnx-opset-negative": model(_opset(-5)),
    "onnx-opset-of-the-future": model(_opset(9999)),
    "onnx-input-of-2-to-the-62": model(_input_shape),
    "onnx-output-of-other-type": model(_output_type),
    "onnx-no-output": model(_no_output),
    "onnx-external-outside": external(location="../../../../../../etc/passwd", offset=0, length=48),
    "onnx-external-absolute": external(location="/etc/passwd", offset=0, length=48),
    "onnx-external-device": external(location="/dev/zero", offset=0, length=48),
    "onnx-external-url": external(location="file:///etc/passwd", offset=0, length=48),
    "onnx-external-itself-missing": external(location="none.bin"),
    "onnx-external-beyond-the-end": external(location="w.bin", offset=8, length=48),
    "onnx-external-no-number": external(location="w.bin", offset="eight"),
    "onnx-external-huge-number": external(location="w.bin", offset="9" * 400),
    "onnx-external-fraction": external(location="w.bin", offset="8.0"),
    "onnx-external-arabic-digits": external(location="w.bin", offset="٨"),
    "onnx-external-negative": external(location="w.bin", offset=-48),
    "onnx-external-without-location": external(offset=0),
    "onnx-external-location-twice": external(location="w.bin", location_="w.bin"),
    "onnx-external-nul": external(location="w.bin\0.txt"),
    "onnx-external-long-name": external(location="w" * 5000),
}  # fmt: skip


def _nested(depth: int) -> bytes:
    """A graph in a graph: graphs hold nodes, nodes attributes, attributes graphs."""
    content = b""
    for _ in range(depth):
        content = message(1, message(5, text(1, "body") + message(6, content)))
    return content


_ONNX = _PLAIN
CASES |= {
    "onnx-varint-of-11-bytes": stored("net.onnx", b"\x08" + b"\xff" * 10 + b"\x01" + _ONNX[2:]),
    "onnx-field-0": stored("net.onnx", _ONNX + b"\x02\x01a"),
    "onnx-field-beyond-29-bits": stored("net.onnx", _ONNX + b"\xfa\xff\xff\xff\x7f\x01a"),
    "onnx-group-never-ended": stored("net.onnx", _ONNX + b"\xf3\x3f"),
    "onnx-end-of-no-group": stored("net.onnx", _ONNX + b"\xf4\x3f"),
    "onnx-wire-type-6": stored("net.onnx", _ONNX + b"\xf6\x3f"),
    "onnx-graph-as-a-number": stored("net.onnx", b"\x08\x08\x38\x05" + b"\x42\x04\x0a\x00\x10\x11"),
    "onnx-length-beyond-the-end": stored("net.onnx", _ONNX + b"\xf2\x3f\xff\xff\xff\xff\x07"),
    "onnx-gzipped": stored("net.onnx.gz", gzip.compress(_ONNX)),
    "onnx-as-text": stored("net.onnx", str(unusual_onnx.linear()).encode()),
    "onnx-as-json": stored("net.json", json.dumps({"irVersion": "8", "graph": {"node": []}}).encode()),
    "onnx-in-a-zip": stored("net.onnx", b"PK\x03\x04" + bytes(26) + _ONNX),
    "onnx-nested-300-deep": stored("net.onnx", b"\x08\x08" + message(7, _nested(300))),
}  # fmt: skip
