"""Open sizes of inputs that the weights decide: the runs of checks are fed with those, not with sizes of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.parser import parse_graph

import netferry
from netferry.runtime.told_sizes import told_sizes

CASES = {
    "product": ("float[N,D] x", "y = MatMul(x, w)", {"w": (4, 3)}, {"x": {1: 4}}),
    "product-from-the-left": ("float[D,N] x", "y = MatMul(w, x)", {"w": (4, 3)}, {"x": {0: 3}}),
    "no-names": ("float[?,?] x", "y = MatMul(x, w)", {"w": (4, 3)}, {"x": {1: 4}}),
    "gemm": ("float[D,N] x", "y = Gemm<transA=1, transB=1>(x, w)", {"w": (3, 4)}, {"x": {0: 4}}),
    "after-others": ("float[D,N] x", "r = Relu(x) t = Transpose(r) y = MatMul(t, w)", {"w": (4, 3)}, {"x": {0: 4}}),
    "convolution": ("float[N,C,H,W] x", "y = Conv<group=2>(x, w)", {"w": (4, 3, 3, 3)}, {"x": {1: 6}}),
    "deconvolution": ("float[N,C,H,W] x", "y = ConvTranspose(x, w)", {"w": (5, 3, 3, 3)}, {"x": {1: 5}}),
    "broadcast": ("float[N,S,D] x", "y = Add(x, w)", {"w": (1, 7, 4)}, {"x": {2: 4, 1: 7}}),
    "broadcast-to-a-higher-rank": (
        "float[D] x", "s = Add(x, w) y = MatMul(s, v)", {"w": (2, 1), "v": (6, 3)}, {"x": {0: 6}}
    ),
    "lstm": ("float[S,N,D] x", "y = LSTM<hidden_size=2>(x, w, r)", {"w": (1, 8, 5), "r": (1, 8, 2)}, {"x": {2: 5}}),
    "one-name-for-two": (
        "float[N,D] x, float[N,D] z", "s = Add(x, z) y = MatMul(s, w)", {"w": (4, 3)}, {"x": {1: 4}, "z": {1: 4}}
    ),
    "layer-normalization": ("float[N,D] x", "y = LayerNormalization(x, w)", {"w": (6,)}, {"x": {1: 6}}),
}  # fmt: skip


def written(folder: Path, inputs: str, nodes: str, weights: dict[str, tuple[int, ...]]) -> Path:
    graph = parse_graph(f"g ({inputs}) => (float y) {{ {nodes} }}")
    graph.output[0].type.tensor_type.ClearField("shape")
    rng = np.random.default_rng(0)
    for name, shape in weights.items():
        graph.initializer.append(numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name))
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8)
    (folder / "net.onnx").write_bytes(model.SerializeToString())
    return folder / "net.onnx"


@pytest.mark.parametrize("name", CASES)
def test_it_is_told(tmp_path: Path, name: str) -> None:
    *net, told = CASES[name]
    assert told_sizes(netferry.load(written(tmp_path, *net)).graph) == told


@pytest.mark.parametrize("name", CASES)
def test_it_runs(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, *CASES[name][:3])
    netferry.convert(path, tmp_path / "out.onnx", check="run", optimize="safe", verify=True)


def test_a_name_counts_for_all_inputs(tmp_path: Path) -> None:
    path = written(tmp_path, "float[N,D] x, float[M,D] z", "s = MatMul(x, w) y = Concat<axis=0>(x, z)", {"w": (4, 3)})
    netferry.convert(path, tmp_path / "out.onnx", check="run", optimize="safe")
