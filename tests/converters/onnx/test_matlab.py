"""Files as MATLAB's exportONNXNetwork writes them; MATLAB is not at hand, so they are built by its published rules.

Those (Deep Learning Toolbox Converter for ONNX Model Format): nodes and values are called like layers; parameters
``layer_W``, ``layer_B``, ``layer_scale``, ``layer_mean``, ``layer_var``, ``layer_R``, listed as inputs too in older
releases; an input layer that subtracts its mean is ``input_Sub`` with ``input_Mean`` (``input_AvgImg`` before); a fully
connected layer is ``layer_Flatten`` and a Gemm with transB; the batch is 1 or ``BatchSize``; opset 6 to 14.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.reference
import pytest
from onnx import TensorProto, helper, numpy_helper

import netferry
from netferry.runtime.session import Session
from netferry.schemas.layers import Role

PRODUCER = "MATLAB Deep Learning Toolbox Converter for ONNX Model Format"


class Written:
    """A network in the making."""

    def __init__(self, opset: int) -> None:
        self.opset, self.rng = opset, np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []

    def parameter(self, name: str, shape: tuple[int, ...], *, least: float | None = None) -> str:
        values = self.rng.normal(size=shape) * 0.4
        values = values if least is None else np.abs(values) + least
        self.tensors.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def node(self, operator: str, name: str, *inputs: str, **settings: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **settings))
        return name

    def save(self, path: Path, ends: list[onnx.ValueInfoProto], listed: bool) -> Path:
        told = [helper.make_tensor_value_info(t.name, TensorProto.FLOAT, t.dims) for t in self.tensors if listed]
        graph = helper.make_graph(self.nodes, "Network", [*told, ends[0]], ends[1:], self.tensors)
        opsets = [helper.make_opsetid("", self.opset)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=3 if listed else 7, producer_name=PRODUCER)
        model.domain = "ai.mathworks"
        onnx.save(model, path)
        return path


def pictures(path: Path, opset: int) -> Path:
    w, old = Written(opset), opset < 7
    listed = opset < 9
    batch = 1 if listed else "BatchSize"
    mean = w.parameter("imageinput_AvgImg" if old else "imageinput_Mean", (3, 8, 8) if old else (1, 3, 8, 8))
    sides = {"broadcast": 1, "axis": 1} if old else {}
    x = w.node("Sub", "imageinput_Sub", "imageinput", mean, **sides)
    for i, channels in ((1, 3), (2, 6)):
        conv, norm = f"conv_{i}", f"batchnorm_{i}"
        weights = w.parameter(f"{conv}_W", (6, channels, 3, 3)), w.parameter(f"{conv}_B", (6,))
        x = w.node("Conv", conv, x, *weights, kernel_shape=[3, 3], pads=[1] * 4, strides=[1, 1], dilations=[1, 1])
        more = [
            w.parameter(f"{norm}_{k}", (6,), least=0.5 if k == "var" else None) for k in ("scale", "B", "mean", "var")
        ]
        x = w.node("BatchNormalization", norm, x, *more, epsilon=1e-5, **({"is_test": 1} if old else {}))
        x = w.node("Relu", f"relu_{i}", x)
    x = w.node("MaxPool", "maxpool", x, kernel_shape=[2, 2], strides=[2, 2], pads=[0] * 4)
    x = w.node("Flatten", "fc_Flatten", x, axis=1)
    weights = w.parameter("fc_W", (5, 96)), w.parameter("fc_B", (5,))
    x = w.node("Gemm", "fc", x, *weights, alpha=1.0, beta=1.0, transA=0, transB=1, **({"broadcast": 1} if old else {}))
    w.node("Softmax", "softmax", x, axis=1)
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, *dims])
        for name, dims in (("imageinput", (3, 8, 8)), ("softmax", (5,)))
    ]
    return w.save(path, ends, listed)


LAYERS = [
    "imageinput", "imageinput_Sub", "conv_1", "batchnorm_1", "relu_1", "conv_2", "batchnorm_2", "relu_2", "maxpool",
    "fc", "softmax",
]  # fmt: skip


@pytest.mark.parametrize("opset", [6, 7, 8, 9, 13])
def test_layers_roles_and_values(opset: int, tmp_path: Path) -> None:
    path = pictures(tmp_path / "net.onnx", opset)
    model = netferry.load(path)
    rows = {row.name: row for row in model.layers}
    assert list(rows) == LAYERS
    assert (rows["fc"].type, rows["conv_2"].type) == ("Gemm", "Conv")
    learnable = {f"{a}_{b}" for a in ("conv_1", "conv_2", "fc") for b in "WB"}
    learnable |= {f"batchnorm_{i}_{k}" for i in (1, 2) for k in ("scale", "B")}
    assert set(model.parameters(Role.LEARNABLE)) == learnable
    assert set(model.parameters(Role.STATE)) == {f"batchnorm_{i}_{k}" for i in (1, 2) for k in ("mean", "var")}
    assert [port.name for port in model.inputs] == ["imageinput"]
    netferry.convert(path, tmp_path / "out.onnx", opset=max(opset, 11))
    x = np.random.default_rng(1).normal(size=(1, 3, 8, 8)).astype(np.float32)
    (got,) = Session(tmp_path / "out.onnx", "cpu").run({"imageinput": x}).values()
    kernels = {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    assert np.abs(got - _by_hand(x, kernels)).max() <= 1e-6


def _by_hand(x: np.ndarray, p: dict[str, np.ndarray]) -> np.ndarray:
    y = x - (p["imageinput_Mean"] if "imageinput_Mean" in p else p["imageinput_AvgImg"])
    for i in (1, 2):
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(y, ((0, 0), (0, 0), (1, 1), (1, 1))), (3, 3), (2, 3))
        y = np.einsum("nchwij,ocij->nohw", windows, p[f"conv_{i}_W"]) + p[f"conv_{i}_B"].reshape(1, -1, 1, 1)
        scale, b, mean, var = (p[f"batchnorm_{i}_{k}"].reshape(1, -1, 1, 1) for k in ("scale", "B", "mean", "var"))
        y = np.maximum((y - mean) / np.sqrt(var + 1e-5) * scale + b, 0)
    y = y.reshape(1, 6, 4, 2, 4, 2).max((3, 5)).reshape(1, -1) @ p["fc_W"].T + p["fc_B"]
    powers = np.exp(y - y.max())
    return powers / powers.sum()


def test_a_baked_in_batch_becomes_dynamic(tmp_path: Path) -> None:
    path = pictures(tmp_path / "net.onnx", 8)
    netferry.rebatch(path, tmp_path / "free.onnx")
    free = netferry.load(tmp_path / "free.onnx")
    assert (free.inputs[0].shape or [None])[0] == "batch"
    assert [row.name for row in free.layers] == LAYERS


@pytest.mark.parametrize("opset", [8, 13])
def test_a_recurrent_layer(opset: int, tmp_path: Path) -> None:
    """``lstm`` gives (steps, 1, batch, units); ``lstm_Squeeze`` takes the directions away and belongs to it."""
    w = Written(opset)
    weights = w.parameter("lstm_W", (1, 16, 3)), w.parameter("lstm_R", (1, 16, 4)), w.parameter("lstm_B", (1, 32))
    states = w.parameter("lstm_initial_h", (1, 1, 4)), w.parameter("lstm_initial_c", (1, 1, 4))
    w.node("LSTM", "lstm", "sequenceinput", *weights, "", *states, hidden_size=4, direction="forward")
    if opset < 13:
        w.node("Squeeze", "lstm_Squeeze", "lstm", axes=[1])
    else:
        w.tensors.append(numpy_helper.from_array(np.array([1]), "lstm_Squeeze_axes"))
        w.node("Squeeze", "lstm_Squeeze", "lstm", "lstm_Squeeze_axes")
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["SequenceLength", 1, size])
        for name, size in (("sequenceinput", 3), ("lstm_Squeeze", 4))
    ]
    path = w.save(tmp_path / "net.onnx", ends, listed=False)
    model = netferry.load(path)
    assert [(row.name, row.type) for row in model.layers] == [("sequenceinput", "Input"), ("lstm", "LSTM")]
    assert set(model.parameters(Role.LEARNABLE)) == {"lstm_W", "lstm_R", "lstm_B"}
    netferry.convert(path, tmp_path / "out.onnx", opset=21)
    x = np.random.default_rng(1).normal(size=(5, 1, 3)).astype(np.float32)
    (got,) = Session(tmp_path / "out.onnx", "cpu").run({"sequenceinput": x}).values()
    (want,) = onnx.reference.ReferenceEvaluator(onnx.load(path)).run(None, {"sequenceinput": x})
    assert np.abs(got - want).max() <= 1e-6
