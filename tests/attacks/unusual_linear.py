"""A network of three nodes, relu(x @ W + b), that unusual ONNX files are made of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

RNG = np.random.default_rng(8)
W, B = RNG.standard_normal((3, 4)).astype(np.float32), RNG.standard_normal(4).astype(np.float32)
X = RNG.standard_normal((2, 3)).astype(np.float32)
WANTED = np.maximum(X @ W + B, 0)

Spoil = Callable[[onnx.ModelProto, Path], "np.ndarray | None"]
CASES: dict[str, Spoil] = {}
"""name -> changes the model (and writes what it needs beside it); returns another expected value, or None"""


def case(function: Spoil) -> Spoil:
    """Register a case under its function's name."""
    CASES[function.__name__.replace("_", "-")] = function
    return function


def info(name: str, shape: list[Any] | None, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def linear() -> onnx.ModelProto:
    """The plain form."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="mm"),
        helper.make_node("Add", ["h", "b"], ["s"], name="add"),
        helper.make_node("Relu", ["s"], ["y"], name="relu"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [info("x", ["N", 3])],
        [info("y", ["N", 4])],
        [numpy_helper.from_array(W, "w"), numpy_helper.from_array(B, "b")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def write(name: str, folder: Path) -> tuple[Path, np.ndarray]:
    """Make a case's files; returns the model's path and what its first output should be."""
    model = linear()
    wanted = CASES[name](model, folder)
    path = folder / "net.onnx"
    if not path.exists():
        path.write_bytes(model.SerializeToString())
    return path, WANTED if wanted is None else wanted


def external(model: onnx.ModelProto, index: int, **fields: object) -> None:
    tensor = model.graph.initializer[index]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in fields.items():
        tensor.external_data.add(key=key, value=str(value))


def rename(model: onnx.ModelProto, old: str, new: str) -> None:
    graph = model.graph
    for node in graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                if name == old:
                    names[i] = new
    for value in (*graph.input, *graph.output, *graph.initializer):
        if value.name == old:
            value.name = new


def weight_of_type(model: onnx.ModelProto, array: np.ndarray) -> np.ndarray:
    """Keep W in another type, cast in the graph."""
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(array, "w0"))
    model.graph.node.insert(0, helper.make_node("Cast", ["w0"], ["w"], to=TensorProto.FLOAT))
    return np.maximum(X @ array.astype(np.float32) + B, 0)
