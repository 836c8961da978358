"""Rows of the passes' tests: a graph as ONNX text, optimized, and run by onnxruntime before and after."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import parser

from netferry.converters.passes.optimize import OptimizeReport, optimize
from netferry.schemas.ir import ir
from netferry.schemas.metadata import restore
from netferry.schemas.model import Model, Source

_TYPES = {1: np.float32, 6: np.int32, 7: np.int64, 9: np.bool_, 10: np.float16, 11: np.float64}


def graph(text: str, opset: int = 21, seed: int = 0) -> onnx.ModelProto:
    """A model from text; inputs called ``w_...`` become seeded weights (those with ``var`` in the name positive)."""
    proto = parser.parse_model(f'<ir_version: {8 if opset < 21 else 10}, opset_import: ["": {opset}]> {text}')
    rng = np.random.default_rng(seed)
    for info in list(proto.graph.input):
        if info.name.startswith("w_"):
            shape = [d.dim_value for d in info.type.tensor_type.shape.dim]
            array = rng.uniform(0.5, 1.5, shape) if "var" in info.name else rng.normal(size=shape)
            kind = _TYPES[info.type.tensor_type.elem_type]
            proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array, kind), info.name))
            proto.graph.input.remove(info)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def as_model(proto: onnx.ModelProto) -> Model:
    """The netferry model of a message."""
    model = Model(ir.from_proto(onnx.ModelProto.FromString(proto.SerializeToString())), source=Source("onnx"))
    restore(model)
    return model


def run(proto: onnx.ModelProto, batch: int, seed: int = 0, sizes: dict[str, int] | None = None) -> list[Any]:
    """Outputs on seeded inputs; every named dimension is the batch unless ``sizes`` says otherwise."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(seed)
    feeds = {}
    for info in proto.graph.input:
        shape = [
            d.dim_value if d.HasField("dim_value") else (sizes or {}).get(d.dim_param, batch)
            for d in info.type.tensor_type.shape.dim
        ]
        feeds[info.name] = np.asarray(rng.normal(size=shape) * 2, _TYPES[info.type.tensor_type.elem_type])
    return session.run(None, feeds)


def apart(a: list[Any], b: list[Any]) -> float:
    """Largest difference over the largest magnitude, over all outputs."""
    worst = 0.0
    for x, y in zip(a, b, strict=True):
        assert x.shape == y.shape
        assert x.dtype == y.dtype
        scale = max(float(np.abs(np.where(np.isfinite(y), y, 0)).max(initial=0)), 1e-12)
        same = (x == y) | ((x != x) & (y != y))
        worst = max(worst, float(np.abs(np.where(same, 0, x - y.astype(np.float64))).max(initial=0)) / scale)
    return worst


def optimized(
    proto: onnx.ModelProto,
    level: Any = "full",
    *,
    tolerance: float = 1e-5,
    sizes: dict[str, int] | None = None,
    **options: Any,
) -> tuple[Counter[str], OptimizeReport]:
    """Optimize, check the result (valid, same face, same numbers at two batches, stable); nodes by operator."""
    model = as_model(proto)
    report = optimize(model, level, **options)
    out = ir.to_proto(model.ir)
    onnx.checker.check_model(out, full_check=True)
    assert [_face(v) for v in out.graph.input] == [_face(v) for v in proto.graph.input]
    assert [_face(v) for v in out.graph.output] == [_face(v) for v in proto.graph.output]
    for batch in (1, 3):
        difference = apart(run(out, batch, batch, sizes), run(proto, batch, batch, sizes))
        assert difference <= tolerance, f"batch {batch}: {difference}"
    again = as_model(out)
    second = optimize(again, level, **options)
    assert not second.changed, [p.as_dict() for p in second.passes if p.changed]
    assert ir.to_proto(again.ir).SerializeToString(deterministic=True) == out.SerializeToString(deterministic=True)
    return Counter(n.op_type for n in out.graph.node), report


def _face(info: onnx.ValueInfoProto) -> str:
    return f"{info.name} {info.type}"
