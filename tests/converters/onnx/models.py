"""Small ONNX models for the tests of the reader and the writer, built by onnx itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.parser import parse_model

from netferry.converters.onnx.read import read
from netferry.converters.onnx.write import write
from netferry.converters.options import ReadOptions
from netferry.schemas.model import Model


def load(path: Path, **options: object) -> Model:
    return read(path, ReadOptions(**options))  # pyright: ignore[reportArgumentType]


def save(model: Model, path: Path, **options: object) -> dict[str, object]:
    return write(model, path, producer_version="0.1.0", **options)  # pyright: ignore[reportArgumentType]


def stored(path: Path, proto: onnx.ModelProto) -> Path:
    path.write_bytes(proto.SerializeToString())
    return path


def weights(*shape: int, dtype: str = "float32", seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def linear(ir_version: int = 10, opset: int = 21) -> onnx.ModelProto:
    """y = relu(x W + b), W of 4 KB, b of 128 bytes."""
    model = parse_model(f"""<ir_version: {ir_version}, opset_import: ["": {opset}]>
        net (float[N, 32] x) => (float[N, 32] y) {{ h = MatMul(x, w)  s = Add(h, b)  y = Relu(s) }}""")
    model.graph.initializer.extend(
        [numpy_helper.from_array(weights(32, 32), "w"), numpy_helper.from_array(weights(32), "b")]
    )
    for i, node in enumerate(model.graph.node):
        node.name = f"n{i}"
    return model


def branches() -> onnx.ModelProto:
    """Weights of one name and different shapes in both branches of an If, and in a Constant."""
    model = parse_model("""<ir_version: 8, opset_import: ["": 17]>
        net (float[N, 32] x, bool c) => (float[N, M] y) {
            y = If (c) <then_branch = t () => (float[N, M] a) { a = MatMul(x, w) },
                        else_branch = e () => (float[N, M] d) { k = Constant<value = float[1] {1.0}>()
                                                                d = Add(x, k) }> }""")
    then, other = (a.g for a in model.graph.node[0].attribute)
    then.initializer.append(numpy_helper.from_array(weights(32, 40), "w"))
    other.node[0].attribute[0].t.CopyFrom(numpy_helper.from_array(weights(32, 1)[:1].repeat(300, 0)[:1]))
    big = numpy_helper.from_array(np.tile(weights(1, 32), (50, 1)))
    other.node.insert(0, helper.make_node("Constant", [], ["big"], value=big))
    other.node.append(helper.make_node("ReduceMax", ["big"], ["m"], axes=[0], keepdims=1))
    other.node.append(helper.make_node("Add", ["d", "m"], ["d2"]))
    other.output[0].name = "d2"
    return model


def functions() -> onnx.ModelProto:
    return parse_model("""<ir_version: 10, opset_import: ["": 21, "own": 1]>
        net (float[N, 4] x) => (float[N, 4] y) { h = own.twice(x)  y = own.twice(h) }
        <domain: "own", opset_import: ["": 21]> twice (a) => (b) { two = Constant<value = float {2.0}>()
                                                                  b = Mul(a, two) }""")


def strings() -> onnx.ModelProto:
    words = helper.make_tensor("words", TensorProto.STRING, [3], [b"one", "zwö".encode(), b"three" * 500])
    graph = parse_model("""<ir_version: 10, opset_import: ["": 21]>
        net (int64[N] i) => (string[N] y) { y = Gather(words, i) }""")
    graph.graph.initializer.append(words)
    return graph


def types() -> onnx.ModelProto:
    """Element types below a byte and beyond numpy, large and small."""
    graph = helper.make_graph([], "net", [], [])
    for i, (kind, count) in enumerate(
        [(TensorProto.INT4, 5001), (TensorProto.UINT4, 7), (TensorProto.BFLOAT16, 900),
         (TensorProto.FLOAT8E4M3FN, 1500), (TensorProto.FLOAT4E2M1, 4000), (TensorProto.INT2, 9001)]
    ):  # fmt: skip
        values = np.arange(count) % 2
        graph.initializer.append(helper.make_tensor(f"t{i}", kind, [count], values))
        graph.node.append(helper.make_node("Identity", [f"t{i}"], [f"y{i}"], name=f"id{i}"))
        graph.output.append(helper.make_tensor_value_info(f"y{i}", kind, [count]))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 25)], ir_version=13)


def typed() -> onnx.ModelProto:
    """Values in float_data, double_data and int64_data rather than raw."""
    model = linear()
    del model.graph.initializer[:]
    model.graph.initializer.append(helper.make_tensor("w", TensorProto.FLOAT, [32, 32], weights(32, 32).ravel()))
    model.graph.initializer.append(helper.make_tensor("b", TensorProto.FLOAT, [32], weights(32)))
    return model


def odd_shapes() -> onnx.ModelProto:
    model = parse_model("""<ir_version: 10, opset_import: ["": 21]>
        net (float[N, 0] x) => (float[N, 0] y, float s) { y = Add(x, empty)  s = Identity(one) }""")
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((1, 0), np.float32), "empty"))
    model.graph.initializer.append(numpy_helper.from_array(np.array(3, np.float32), "one"))
    return model


def labelled() -> onnx.ModelProto:
    """Metadata of others at every level, documentation, a quantisation annotation."""
    model = linear()
    model.doc_string, model.domain, model.model_version = "about", "org.example", 7
    for message in (model, model.graph, model.graph.node[0], model.graph.initializer[0], model.graph.initializer[1],
                    model.graph.input[0], model.graph.output[0]):  # fmt: skip
        message.metadata_props.add(key="theirs", value="kept")
    model.graph.initializer[0].doc_string = model.graph.initializer[1].doc_string = "weights"
    note = model.graph.quantization_annotation.add(tensor_name="w")
    note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="b")
    return model


def sparse() -> onnx.ModelProto:
    """A sparse initializer and a Constant with a sparse value."""
    model = linear()
    del model.graph.initializer[0]
    values = numpy_helper.from_array(np.array([1, 2], np.float32), "w")
    indices = numpy_helper.from_array(np.array([3, 40]), "w_at")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [32, 32]))
    other = helper.make_sparse_tensor(
        numpy_helper.from_array(np.array([5], np.float32), "v"), indices=indices_of(7), dims=[32]
    )
    model.graph.node.insert(0, helper.make_node("Constant", [], ["b2"], name="k", sparse_value=other))
    model.graph.node[2].input[1] = "b2"
    return model


def indices_of(*at: int) -> TensorProto:
    return numpy_helper.from_array(np.array(at), "at")


def nested_sparse() -> onnx.ModelProto:
    """Sparse initializers in a branch of an If."""
    model = branches()
    then = model.graph.node[0].attribute[0].g
    del then.initializer[:]
    values = numpy_helper.from_array(np.array([1, 2], np.float32), "w")
    then.sparse_initializer.append(helper.make_sparse_tensor(values, indices_of(3, 40), [32, 40]))
    return model


def training() -> onnx.ModelProto:
    """Training information with a binding, an algorithm and its own initializer."""
    model = linear()
    info = model.training_info.add()
    info.algorithm.CopyFrom(
        parse_model("""<ir_version: 10, opset_import: ["": 21]>
        step (float[32] g) => (float[32] new) { d = Mul(g, rate)  new = Sub(b, d) }""").graph
    )
    info.algorithm.initializer.append(numpy_helper.from_array(np.float32(0.1).reshape(()), "rate"))
    info.algorithm.initializer.append(numpy_helper.from_array(weights(3000), "large"))
    info.update_binding.add(key="b", value="new")
    return model


def untyped() -> onnx.ModelProto:
    """IR version 1: attributes that do not say their type."""
    model = parse_model("""<ir_version: 3, opset_import: ["": 8]>
        net (float[N, 32] x) => (float[M, K] y) { t = Transpose<perm = [1, 0]>(x)  c = Clip<min = -1.0>(t)
                                                  y = Softmax<axis = 1>(c) }""")
    for node in model.graph.node:
        for attribute in node.attribute:
            attribute.ClearField("type")
    return model


def chain(count: int) -> onnx.ModelProto:
    nodes = [helper.make_node("Neg", [f"v{i}"], [f"v{i + 1}"], name=f"n{i}") for i in range(count)]
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N"]) for n in ("v0", f"v{count}")]
    graph = helper.make_graph(nodes, "chain", info[:1], info[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


ALL: dict[str, Callable[[], onnx.ModelProto]] = {
    "linear": linear, "ir3": lambda: _with_inputs(linear(3, 8)), "opset13": lambda: linear(7, 13),
    "branches": branches, "functions": functions, "strings": strings, "types": types, "typed-data": typed,
    "odd-shapes": odd_shapes, "labelled": labelled, "sparse": sparse, "training": training,
    "nameless-nodes": lambda: _nameless(linear()),
}  # fmt: skip


def _with_inputs(model: onnx.ModelProto) -> onnx.ModelProto:
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return model


def _nameless(model: onnx.ModelProto) -> onnx.ModelProto:
    for node in model.graph.node:
        node.ClearField("name")
    return model
