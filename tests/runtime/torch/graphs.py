"""Small graphs for the tests of the torch backend, as ONNX text, with seeded weights."""

from __future__ import annotations

import numpy as np
import onnx

from netferry.schemas.ir import ir
from netferry.schemas.layers import LAYER, LAYER_TYPE
from netferry.schemas.model import Model, Source

HEADER = '<ir_version: 10, opset_import: ["" : 21]>\n'


def model_of(text: str, weights: dict[str, tuple[int, ...]], layers: dict[str, str] | None = None) -> Model:
    """A model from ONNX text; ``weights`` are initializers with seeded values, ``layers`` name nodes by output."""
    proto = onnx.parser.parse_model(HEADER + text)
    rng = np.random.default_rng(7)
    for name, shape in weights.items():
        values = rng.normal(0, 0.5, shape).astype(np.float32)
        if "var" in name:
            values = np.abs(values) + 0.5
        proto.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    onnx.checker.check_model(proto, full_check=True)
    model = Model(ir.from_proto(onnx.shape_inference.infer_shapes(proto)), source=Source("onnx"))
    for node in model.graph:
        layer = (layers or {}).get(node.outputs[0].name or "")
        if layer:
            node.metadata_props[LAYER], node.metadata_props[LAYER_TYPE] = layer, node.op_type
    return model


def by_onnxruntime(model: Model, *inputs: np.ndarray) -> list[np.ndarray]:
    """Outputs by onnxruntime."""
    import onnxruntime as ort

    proto = ir.to_proto(model.ir)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {i.name: x for i, x in zip(session.get_inputs(), inputs, strict=True)}))  # type: ignore[arg-type]


CONVNET = """g (float[N, 3, 12, 12] x) => (float[N, 5] y) {
  a = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, conv1_w, conv1_b)
  b = BatchNormalization <epsilon = 0.001, momentum = 0.9> (a, bn_scale, bn_bias, bn_mean, bn_var)
  c = Relu (b)
  d = Conv <kernel_shape = [3, 3], strides = [2, 2], auto_pad = "SAME_UPPER", group = 2> (c, conv2_w)
  e = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (d)
  f = GlobalAveragePool (e)
  h = Flatten (f)
  k = MatMul (h, dense_w)
  y = Add (k, dense_b)
}"""
CONVNET_WEIGHTS = {
    "conv1_w": (4, 3, 3, 3), "conv1_b": (4,), "bn_scale": (4,), "bn_bias": (4,), "bn_mean": (4,), "bn_var": (4,),
    "conv2_w": (6, 2, 3, 3), "dense_w": (6, 5), "dense_b": (5,),
}  # fmt: skip
CONVNET_LAYERS = {
    "a": "block/conv1", "b": "block/bn", "c": "relu", "d": "conv2", "e": "pool", "f": "gap", "h": "flat",
    "k": "dense", "y": "dense",
}  # fmt: skip


def convnet() -> Model:
    """Convolutions, batch norm, pooling and a dense layer, stamped with layers."""
    return model_of(CONVNET, CONVNET_WEIGHTS, CONVNET_LAYERS)
