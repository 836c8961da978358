"""A net from a prototxt's text, through the importer, on onnxruntime and in OpenCV."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime

from netferry.converters.caffe.read import read
from netferry.converters.options import ReadOptions
from netferry.schemas.ir import ir
from netferry.schemas.model import Model

Arrays = Mapping[str, np.ndarray]


def declare(inputs: Arrays) -> str:
    """Input layers for the arrays."""
    return declare_shapes({name: value.shape for name, value in inputs.items()})


def declare_shapes(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Input layers of these shapes, which need not be possible."""
    return "".join(
        f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ '
        + " ".join(f"dim: {d}" for d in shape)
        + " } } }\n"
        for name, shape in shapes.items()
    )


def layer(kind: str, bottoms: str, settings: str, tops: str = "out") -> str:
    """A layer called ``out`` with bottoms and tops by their names, apart by spaces."""
    names = "".join(f'bottom: "{n}" ' for n in bottoms.split()) + "".join(f'top: "{n}" ' for n in tops.split())
    return f'layer {{ name: "out" type: "{kind}" {names} {settings} }}'


def convert(folder: Path, prototxt: str, weights: bytes | None = None) -> Model:
    """Read a net from text (and a caffemodel's bytes)."""
    path, stored = folder / "net.prototxt", folder / "net.caffemodel"
    path.write_text(prototxt)
    if weights is not None:
        stored.write_bytes(weights)
    return read(path, ReadOptions(weights=stored if weights is not None else None))


def run(model: Model, inputs: Arrays) -> dict[str, np.ndarray]:
    """Check the ONNX form fully and run it on onnxruntime: outputs by name."""
    ir.external_data.load_to_model(model.ir)
    proto = ir.to_proto(model.ir)
    onnx.checker.check_model(proto, full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    used = {i.name for i in session.get_inputs()}
    results = session.run(None, {k: v.astype(np.float32) for k, v in inputs.items() if k in used})
    return {o.name: np.asarray(r) for o, r in zip(session.get_outputs(), results, strict=True)}


def opencv(folder: Path, prototxt: str, inputs: Arrays, output: str, weights: bytes | None = None) -> np.ndarray:
    """Run the net in OpenCV's Caffe reader: the blob ``output``."""
    path, stored = folder / "cv.prototxt", folder / "cv.caffemodel"
    path.write_text(prototxt)
    if weights is not None:
        stored.write_bytes(weights)
    net = cv2.dnn.readNetFromCaffe(*map(str, [path] if weights is None else [path, stored]))
    for name, value in inputs.items():
        net.setInput(np.ascontiguousarray(value, np.float32), name)
    return np.array(net.forward(output))
