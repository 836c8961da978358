"""Properties over many small networks: opsets lowered and raised, padding rules, layouts; NumPy and onnxruntime judge.

Hypothesis chooses the networks, always the same ones.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import netferry
from netferry.converters.passes.opset import to_opset
from netferry.errors import UnsupportedOpset
from netferry.schemas.ir import ir
from netferry.schemas.model import Model, Source

SAME = settings(
    max_examples=40, derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)


def run(proto: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, feeds)[0])


# opsets --------------------------------------------------------------------------------------------------------------

Step = Callable[["Graph", str], str]


class Graph:
    """An ONNX graph in the making; every step keeps the shape (2, 4, 6)."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> list[str]:
        made = [f"v{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, made, **attributes))
        return made

    def const(self, values: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.array(values, dtype), name))
        return name


def _reduced(kind: str) -> Step:
    return lambda g, x: g.op("Add", x, *g.op(kind, x, g.const([1], np.int64), keepdims=1))[0]


def _squeezed(g: Graph, x: str) -> str:
    axes = g.const([0, 2], np.int64)
    return g.op("Squeeze", *g.op("Unsqueeze", x, axes), axes)[0]


def _split(g: Graph, x: str) -> str:
    parts = g.op("Split", x, g.const([1, 3], np.int64), outputs=2, axis=1)
    return g.op("Concat", *reversed(parts), axis=1)[0]


def _padded(g: Graph, x: str) -> str:
    wide = g.op("Pad", x, g.const([0, 1, 0, 0, 0, 2], np.int64), g.const(0.5), mode="constant")
    starts, ends, axes = g.const([1, 0], np.int64), g.const([5, 6], np.int64), g.const([1, 2], np.int64)
    return g.op("Slice", *wide, starts, ends, axes)[0]


def _normalized(g: Graph, x: str) -> str:
    weights = [g.const(v) for v in ([1, 2, 0.5, 1], [0, 0.1, 0, 0], [0.1, 0, 0, 0], [1, 2, 3, 1])]
    return g.op("BatchNormalization", x, *weights)[0]


def _layer_normalized(g: Graph, x: str) -> str:
    return g.op("LayerNormalization", x, g.const(np.linspace(0.5, 1, 6)), g.const(np.zeros(6)), axis=-1)[0]


def _group_normalized(g: Graph, x: str) -> str:
    return g.op("GroupNormalization", x, g.const([1, 2, 1, 0.5]), g.const([0, 0, 1, 0]), num_groups=2)[0]


def _chosen(g: Graph, x: str) -> str:
    return g.op("Where", *g.op("GreaterOrEqual", x, g.const(0.1)), x, *g.op("Neg", x))[0]


STEPS: dict[str, Step] = {
    "relu": lambda g, x: g.op("Relu", x)[0],
    "clip": lambda g, x: g.op("Clip", x, g.const(-0.5), g.const(0.8))[0],
    "softmax": lambda g, x: g.op("Softmax", x, axis=1)[0],
    "log-softmax": lambda g, x: g.op("LogSoftmax", x, axis=-1)[0],
    "hard-swish": lambda g, x: g.op("HardSwish", x)[0],
    "mish": lambda g, x: g.op("Mish", x)[0],
    "gelu": lambda g, x: g.op("Gelu", x)[0],
    "reduce-sum": _reduced("ReduceSum"),
    "reduce-mean": _reduced("ReduceMean"),
    "reduce-max": _reduced("ReduceMax"),
    "squeeze": _squeezed,
    "split": _split,
    "pad": _padded,
    "batch-norm": _normalized,
    "layer-norm": _layer_normalized,
    "group-norm": _group_normalized,
    "where": _chosen,
    "dropout": lambda g, x: g.op("Dropout", x)[0],
    "cumsum": lambda g, x: g.op("CumSum", x, g.const(2, np.int64))[0],
    "transpose": lambda g, x: g.op("Transpose", *g.op("Transpose", x, perm=[2, 0, 1]), perm=[1, 2, 0])[0],
    "reshape": lambda g, x: g.op(
        "Reshape", *g.op("Reshape", x, g.const([0, -1], np.int64)), g.const([2, 4, 6], np.int64)
    )[0],
    "expand": lambda g, x: g.op(
        "Mul", x, *g.op("Expand", g.const([[2], [1], [0.5], [1]]), g.const([2, 4, 6], np.int64))
    )[0],
}


def network(names: list[str]) -> onnx.ModelProto:
    graph, at = Graph(), "x"
    for name in names:
        at = STEPS[name](graph, at)
    graph.nodes.append(helper.make_node("Identity", [at], ["y"]))
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [2, 4, 6]) for n in "xy"]
    made = helper.make_graph(graph.nodes, "g", info[:1], info[1:], graph.weights)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@SAME
@given(st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=6), st.integers(11, 20))
def test_opsets_lowered_and_raised_again(names: list[str], target: int) -> None:
    proto = network(names)
    x = np.random.default_rng(0).standard_normal((2, 4, 6)).astype(np.float32)
    wanted = run(proto, {"x": x})
    model = Model(ir.from_proto(proto), source=Source("onnx"))
    for opset in (target, 21):
        to_opset(model, opset)
        assert model.opset == opset
        changed = ir.to_proto(model.ir)
        onnx.checker.check_model(changed, full_check=True)
        np.testing.assert_allclose(run(changed, {"x": x}), wanted, rtol=1e-4, atol=1e-5)


def test_what_an_opset_cannot_say_is_an_error() -> None:
    graph = Graph()
    graph.nodes.append(helper.make_node("StringConcat", ["x", "x"], ["y"]))
    info = [helper.make_tensor_value_info(n, TensorProto.STRING, [2]) for n in "xy"]
    made = helper.make_graph(graph.nodes, "g", info[:1], info[1:])
    proto = helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    with pytest.raises(UnsupportedOpset):
        to_opset(Model(ir.from_proto(proto), source=Source("onnx")), 17)


# padding and layouts of Keras ----------------------------------------------------------------------------------------


def keras(
    shape: tuple[int, ...], layers: list[dict[str, Any]], weights: dict[str, list[np.ndarray]]
) -> onnx.ModelProto:
    """Write a Sequential as Keras 2 does, read it, and return it as ONNX."""
    first = {
        "class_name": "InputLayer",
        "config": {"name": "x", "batch_input_shape": [None, *shape], "dtype": "float32"},
    }
    config = {"class_name": "Sequential", "config": {"name": "m", "layers": [first, *layers]}}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.h5"
        with h5py.File(path, "w") as file:
            file.attrs["model_config"], file.attrs["keras_version"] = json.dumps(config), "2.11.0"
            top = file.create_group("model_weights")
            top.attrs["layer_names"] = [n.encode() for n in weights]
            for name, arrays in weights.items():
                group = top.create_group(name)
                group.attrs["weight_names"] = [f"w{i}".encode() for i in range(len(arrays))]
                for i, array in enumerate(arrays):
                    group[f"w{i}"] = array
        netferry.convert(path, Path(folder) / "net.onnx", check="structure")
        return onnx.load(Path(folder) / "net.onnx")


def layer(kind: str, name: str = "", **config: Any) -> dict[str, Any]:
    return {"class_name": kind, "config": {"name": name or kind.lower(), "dtype": "float32", **config}}


def convolved(x: np.ndarray, kernel: np.ndarray, padding: str, stride: int, dilation: int) -> np.ndarray:
    """A convolution along axis 1 of (batch, steps, channels) by its definition (keras.io, tf.nn.convolution)."""
    reach, steps = (len(kernel) - 1) * dilation + 1, x.shape[1]
    if padding == "causal":
        before, after = reach - 1, 0
    elif padding == "same":
        total = max((-(-steps // stride) - 1) * stride + reach - steps, 0)
        before, after = total // 2, total - total // 2
    else:
        before = after = 0
    wide = np.pad(x, [(0, 0), (before, after), (0, 0)])
    places = range(0, wide.shape[1] - reach + 1, stride)
    return np.stack([sum(wide[:, p + i * dilation] @ k for i, k in enumerate(kernel)) for p in places], axis=1)


@SAME
@given(
    st.sampled_from(["same", "valid", "causal"]),
    st.integers(5, 12),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 2),
)
def test_padding_rules(padding: str, steps: int, size: int, stride: int, dilation: int) -> None:
    stride = 1 if dilation > 1 else stride  # Keras allows one of them
    rng = np.random.default_rng([steps, size])
    x, kernel = (rng.standard_normal(s).astype(np.float32) for s in ((2, steps, 3), (size, 3, 2)))
    if padding == "valid" and (size - 1) * dilation + 1 > steps:
        return
    settings_ = {"filters": 2, "kernel_size": [size], "strides": [stride], "dilation_rate": [dilation]}
    conv = layer("Conv1D", "c", padding=padding, activation="linear", use_bias=False, **settings_)
    got = run(keras((steps, 3), [conv], {"c": [kernel]}), {"x": x})
    np.testing.assert_allclose(got, convolved(x, kernel, padding, stride, dilation), rtol=1e-4, atol=1e-5)


Layout = tuple[dict[str, Any], Callable[[np.ndarray], np.ndarray]]


def _permuted(order: tuple[int, ...]) -> Layout:
    return layer("Permute", dims=list(order)), lambda x: x.transpose(0, *order)


LAYOUTS: dict[str, Layout] = {
    "permute-2-1-3": _permuted((2, 1, 3)),
    "permute-3-1-2": _permuted((3, 1, 2)),
    "permute-2-3-1": _permuted((2, 3, 1)),
    "crop": (layer("Cropping2D", cropping=[[1, 0], [0, 1]]), lambda x: x[:, 1:, :-1]),
    "zero-pad": (
        layer("ZeroPadding2D", padding=[[0, 2], [1, 0]]),
        lambda x: np.pad(x, [(0, 0), (0, 2), (1, 0), (0, 0)]),
    ),
    "up": (layer("UpSampling2D", size=[1, 2], interpolation="nearest"), lambda x: x.repeat(2, axis=2)),
    "relu": (layer("Activation", activation="relu"), lambda x: np.maximum(x, 0)),
    "reshape": (layer("Reshape", target_shape=[-1, 2, 1]), lambda x: x.reshape(len(x), -1, 2, 1)),
    "max-pool": (
        layer("MaxPooling2D", pool_size=[2, 1], strides=[1, 1], padding="valid"),
        lambda x: np.maximum(x[:, :-1], x[:, 1:]),
    ),
}


@SAME
@given(st.lists(st.sampled_from(sorted(LAYOUTS)), min_size=1, max_size=5), st.booleans())
def test_layouts(names: list[str], flat: bool) -> None:
    x = np.random.default_rng(len(names)).standard_normal((2, 4, 4, 4)).astype(np.float32)
    wanted, layers = x, []
    for i, name in enumerate(names):
        made, numpy = LAYOUTS[name]
        after = (
            numpy(wanted) if min(wanted.shape[1:3]) > 1 or name.startswith(("permute", "reshape", "relu")) else wanted
        )
        if after is wanted and not name.startswith("relu"):
            continue
        if name == "reshape" and wanted[0].size % 2:
            continue
        wanted = after
        layers.append({**made, "config": {**made["config"], "name": f"l{i}"}})
    if flat or not layers:
        layers.append(layer("Flatten"))
        wanted = wanted.reshape(len(wanted), -1)
    np.testing.assert_array_equal(run(keras((4, 4, 4), layers, {}), {"x": x}), wanted)
