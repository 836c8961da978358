"""Weights of element types that torch does not compute with: as modules they mean what onnx.reference computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import netferry
from netferry.errors import UnsupportedLayer
from tests.runtime.torch.alone import Alone

ROWS, COLUMNS, BLOCK = 640, 128, 32
"""more than is computed while a module is made"""
TYPES: dict[str, Any] = {
    name: getattr(ml_dtypes, name)
    for name in (
        "int4", "uint4", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float4_e2m1fn",
    )
}  # fmt: skip


def quantized(kind: str, *, blocked: bool, seed: int = 5) -> onnx.ModelProto:
    """A product with weights that DequantizeLinear gives, per column or in blocks along the rows."""
    rng = np.random.default_rng(seed)
    whole = "int" in kind
    weights = rng.integers(-8 * (kind == "int4"), 8, (ROWS, COLUMNS)) if whole else rng.standard_normal((ROWS, COLUMNS))
    shape = (ROWS // BLOCK, COLUMNS) if blocked else (COLUMNS,)
    tensors = {"w": weights.astype(TYPES[kind]), "s": (rng.random(shape) / ROWS).astype(np.float32)}
    if whole:
        tensors["z"] = rng.integers(0, 7, shape).astype(TYPES[kind])
    settings: dict[str, Any] = {"axis": 0, "block_size": BLOCK} if blocked else {"axis": 1}
    nodes = [
        helper.make_node("DequantizeLinear", list(tensors), ["f"], "dequantize", **settings),
        helper.make_node("MatMul", ["x", "f"], ["y"], "product"),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", ROWS])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", COLUMNS])],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)


X = np.random.default_rng(6).standard_normal((3, ROWS)).astype(np.float32)


@pytest.mark.parametrize("blocked", [pytest.param(False, id="by-column"), pytest.param(True, id="in-blocks")])
@pytest.mark.parametrize("kind", TYPES)
def test_dequantized(tmp_path: Path, kind: str, blocked: bool) -> None:
    proto = quantized(kind, blocked=blocked)
    onnx.save(proto, tmp_path / "net.onnx")
    (wanted,) = ReferenceEvaluator(proto).run(None, {"x": X})
    module = netferry.load(tmp_path / "net.onnx").to_torch()
    assert not list(module.parameters())
    found = module.eval()(torch.from_numpy(X)).numpy()
    assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_cast(tmp_path: Path) -> None:
    """Weights that are cast, not dequantized, and a type that a node would compute: refused by name."""
    proto = quantized("float8_e5m2", blocked=False)
    cast = helper.make_node("Cast", ["w"], ["f"], "cast", to=TensorProto.FLOAT)
    proto.graph.node[0].CopyFrom(cast)
    onnx.save(proto, tmp_path / "net.onnx")
    (wanted,) = ReferenceEvaluator(proto).run(None, {"x": X})
    found = netferry.load(tmp_path / "net.onnx").to_torch().eval()(torch.from_numpy(X)).numpy()
    assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()
    proto.graph.node.extend([
        helper.make_node("Cast", ["y"], ["small"], "down", to=TensorProto.FLOAT8E5M2),
        helper.make_node("Cast", ["small"], ["z2"], "up", to=TensorProto.FLOAT),
    ])  # fmt: skip
    proto.graph.output[0].name = "z2"
    onnx.save(proto, tmp_path / "net.onnx")
    with pytest.raises(UnsupportedLayer, match="float8e5m2"):
        netferry.load(tmp_path / "net.onnx").to_torch()


def test_as_source(tmp_path: Path, alone: Alone) -> None:
    proto = quantized("int4", blocked=True)
    onnx.save(proto, tmp_path / "net.onnx")
    (wanted,) = ReferenceEvaluator(proto).run(None, {"x": X})
    netferry.export(netferry.load(tmp_path / "net.onnx"), tmp_path / "out", to="torch-source")
    ((found,),) = alone.run(tmp_path / "out", [[torch.from_numpy(X)]])
    assert np.abs(found.numpy() - wanted).max() <= 1e-5 * np.abs(wanted).max()
