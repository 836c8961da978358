"""Rewritten ONNX models: another file of the same network converts, and computes what the original computes.

The oracle is onnxruntime on the original; see rewriting.py. More compositions than here:
``python -m tests.converters.onnx.rewriting_judge COUNT [FIRST_SEED]``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.parser import parse_model

import netferry
from netferry.converters.passes.outside import OUTSIDE
from netferry.errors import LimitExceeded
from tests.converters.onnx.rewriting import BYTES, DATA, GRAPH, Case
from tests.converters.onnx.rewriting_judge import TESTS_FROM, composition, further, judge, run, same
from tests.converters.onnx.rewriting_nets import NETS, normal, parsed


@pytest.mark.parametrize("seed", range(40))
def test_compositions(tmp_path: Path, seed: int) -> None:
    judge(*composition(seed), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("hundred", range(5))
def test_more_compositions(tmp_path: Path, hundred: int) -> None:
    for seed in range(10_000 + 100 * hundred, 10_100 + 100 * hundred):
        folder = tmp_path / str(seed)
        folder.mkdir()
        judge(*composition(seed), folder)


@pytest.mark.slow
@pytest.mark.parametrize("hundred", range(2))
def test_compositions_of_official_tests(tmp_path: Path, hundred: int) -> None:
    for seed in range(TESTS_FROM + 100 * hundred, TESTS_FROM + 100 * (hundred + 1)):
        folder = tmp_path / str(seed)
        folder.mkdir()
        judge(*composition(seed), folder)


@pytest.mark.slow
@pytest.mark.parametrize("step", [*GRAPH, *DATA, *BYTES])
def test_each_rewriting_of_each_network(tmp_path: Path, step: str) -> None:
    for seed, net in enumerate(NETS):
        folder = tmp_path / net
        folder.mkdir()
        judge(net, [(step, seed)], "scan", folder)


# what compositions found ---------------------------------------------------------------------------------------------


def _texts_along_constants() -> onnx.ModelProto:
    text = "(int64[N] i) => (string[M] y) { a = Unsqueeze(words, zero)  b = Squeeze(a, zero)  y = Gather(b, i) }"
    model = parsed(text, zero=np.array([0]))
    model.graph.initializer.append(
        helper.make_tensor("words", TensorProto.STRING, [2], np.array([b"a", "ü".encode()], object))
    )
    return model


def _texts_in_a_constant() -> onnx.ModelProto:
    model = parsed("(int64[N] i) => (string[M] y) { y = Gather(words, i) }")
    words = helper.make_tensor("words", TensorProto.STRING, [2], np.array([b"a", "ü".encode()], object))
    model.graph.node.insert(0, helper.make_node("Constant", [], ["words"], value=words))
    return model


def _an_output_left_out_by_name() -> onnx.ModelProto:
    model = parsed("(float[N, 3] x) => (float[N, 3] y) { y = Relu(x) }")
    model.graph.node[0].CopyFrom(helper.make_node("Dropout", ["x"], ["y", ""]))
    return model


def _no_shape_and_the_long_domain() -> onnx.ModelProto:
    model = parsed("(float[N, 3] x) => (float[N, 3] y) { h = Relu(x)  y = Neg(h) }")
    model.graph.output[0].type.tensor_type.ClearField("shape")
    model.graph.node[0].domain = "ai.onnx"
    return model


def _no_shape_of_a_loop() -> onnx.ModelProto:
    model = NETS["loop"]()[0]
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    return model


def _no_shape_and_large_weights() -> onnx.ModelProto:
    """Their values lie in the file, and stay there while the rank of the output is looked for."""
    model = NETS["loop"]()[0]
    model.graph.initializer.append(numpy_helper.from_array(normal(3, 300), "w"))
    model.graph.node.append(helper.make_node("MatMul", ["y", "w"], ["product"]))
    model.graph.output[0].name = "product"
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    return model


def _an_input_left_out_by_name() -> onnx.ModelProto:
    model = parsed("(float[N, 1] x) => (float[N] y) { y = Squeeze(x) }")
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    model.graph.node[0].input.append("")
    return model


def _no_shape_and_sparse_weights() -> onnx.ModelProto:
    model = _a_sparse_initializer()
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return model


def _a_function_of_the_long_domain() -> onnx.ModelProto:
    model = _function("own.f (a) => (c) { c = Relu(a) }", 17)
    model.functions[0].opset_import[0].domain = "ai.onnx"
    return model


def _function(body: str, opset: int, model_opset: int = 17) -> onnx.ModelProto:
    return parse_model(f"""<ir_version: 8, opset_import: ["": {model_opset}, "own": 1]>
        net (float[N, 3] x) => (float[M, 3] y) {{ y = own.f(x) }}
        <domain: "own", opset_import: ["": {opset}]> {body.removeprefix("own.")}""")


def _sparse(shape: list[int], at: int, name: str = "") -> onnx.SparseTensorProto:
    values = numpy_helper.from_array(np.array([2], np.float32), name)
    return helper.make_sparse_tensor(values, numpy_helper.from_array(np.array([at]), "at"), shape)


def _a_sparse_constant_of_a_function() -> onnx.ModelProto:
    """In the process that loads it onnxruntime 1.31 crashes."""
    model = _function("own.f (a) => (c) { c = Add(a, k) }", 17)
    model.functions[0].node.insert(0, helper.make_node("Constant", [], ["k"], sparse_value=_sparse([3], 1)))
    return model


def _a_sparse_initializer() -> onnx.ModelProto:
    model = parsed("(float[N, 3] x) => (float[N, 2] y) { h = MatMul(x, w)  y = Add(h, b) }", b=normal(2))
    model.graph.sparse_initializer.append(_sparse([3, 2], 3, "w"))
    return model


def _a_shape_that_was_never_true_and_sparse_weights() -> onnx.ModelProto:
    model = _a_sparse_initializer()
    model.graph.value_info.append(helper.make_tensor_value_info("h", TensorProto.FLOAT, [5, 7]))
    return model


def _an_identity_matrix_behind_an_unknown_type() -> onnx.ModelProto:
    """In the process that infers its shapes onnx 1.23 crashes."""
    model = parsed("(float[N, 3] x) => (double[N, 3] y) { t = com.microsoft.QuickGelu(x)  y = EyeLike<dtype = 11>(t) }")
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model


def _a_function_at_an_older_opset() -> onnx.ModelProto:
    """Its operators say the same at both opsets, so that onnxruntime runs it."""
    return _function("own.f (a) => (c) { t = Cast<to = 16>(a)  u = Cast<to = 1>(t)  c = Relu(u) }", 21, 22)


def _a_branch_that_reads_what_is_cut_off() -> onnx.ModelProto:
    return parsed("""(float[N, 3] x, bool c) => (float[M, 3] y) { h = Relu(x)  g = Neg(h)
        y = If (c) <then_branch = t () => (float[M, 3] a) { a = Mul(h, h) },
                    else_branch = e () => (float[M, 3] d) { d = Abs(g) }> }""")


BY_FORMULA: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "a function of the long domain": lambda x: np.maximum(x, 0),
    "an input left out by name": lambda x: x[:, 0],
    "a sparse constant of a function": lambda x: x + np.array([0, 2, 0], np.float32),
}
"""what those compute that onnxruntime does not run, though ONNX has them"""
FOUND: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "an output of a loop without a shape": (_no_shape_of_a_loop, "scan"),
    "an output without a shape, sparse weights": (_no_shape_and_sparse_weights, "scan"),
    "texts are folded by nobody": (_texts_along_constants, "full"),
    "texts in a constant compare": (_texts_in_a_constant, "full"),
    "an output of a loop without a shape, large weights": (_no_shape_and_large_weights, "scan"),
    "an input left out by name": (_an_input_left_out_by_name, "scan"),
    "an output left out by name": (_an_output_left_out_by_name, "inspect"),
    "an output without a shape, the long domain": (_no_shape_and_the_long_domain, "scan"),
    "a function of the long domain": (_a_function_of_the_long_domain, "scan"),
    "a sparse constant of a function": (_a_sparse_constant_of_a_function, "to_torch"),
    "a shape that was never true, sparse weights": (_a_shape_that_was_never_true_and_sparse_weights, "scan"),
    "an identity matrix behind an unknown type": (_an_identity_matrix_behind_an_unknown_type, "safe"),
    "a sparse initializer": (_a_sparse_initializer, "to_torch"),
    "a function at an older opset, as a module": (_a_function_at_an_older_opset, "to_torch"),
    "a branch that reads what is cut off": (_a_branch_that_reads_what_is_cut_off, "cut"),
}
"""a network, and what is done with it besides the conversion"""


@pytest.mark.parametrize("name", FOUND)
def test_what_compositions_found(tmp_path: Path, name: str) -> None:
    make, then = FOUND[name]
    model = make()
    feeds = {"x": normal(2, 3, seed=9), "i": np.array([1, 0, 1]), "c": np.array(True)}
    if "input left out" in name:
        feeds["x"] = feeds["x"][:, :1]
    case = Case(model, {v.name: feeds[v.name] for v in model.graph.input}, tmp_path)
    path, out = case.write(), tmp_path / "out.onnx"
    netferry.convert(path, out)
    wanted = [BY_FORMULA[name](feeds["x"])] if name in BY_FORMULA else run(path, case.feeds)
    same(run(out, case.feeds), wanted)
    further(then, path, case, wanted)


def test_a_function_at_an_older_opset_that_has_to_be_written_out(tmp_path: Path) -> None:
    """Below 17 a LayerNormalization is said in other operators, which asks for types that functions do not tell."""
    body = "own.f (a) => (c) { k = Constant<value_floats = [1.0, 2.0, 3.0]>()  c = LayerNormalization(a, k) }"
    path = Case(_function(body, 17, 18), {}, tmp_path).write()
    netferry.convert(path, tmp_path / "out.onnx", opset=15)
    feeds = {"x": normal(2, 3)}
    assert not onnx.load(tmp_path / "out.onnx").functions
    same(run(tmp_path / "out.onnx", feeds), run(path, feeds))


def test_a_function_at_an_older_opset_is_written_out_by_the_passes(tmp_path: Path) -> None:
    path = Case(_a_function_at_an_older_opset(), {}, tmp_path).write()
    netferry.convert(path, tmp_path / "out.onnx", optimize="full", disable=("functions", *OUTSIDE))
    assert onnx.load(tmp_path / "out.onnx").functions
    netferry.convert(path, tmp_path / "out.onnx", optimize="full", disable=tuple(OUTSIDE))
    assert not onnx.load(tmp_path / "out.onnx").functions


@pytest.mark.parametrize("opset", [15, 20, 24])
def test_a_loop_without_states_at_another_opset(tmp_path: Path, opset: int) -> None:
    """Its second input is there, but empty: the schema's least number of inputs counts it."""
    body = "b (int64 i, bool go) => (bool go2, float[N, 3] o) { go2 = Identity(go)  o = Relu(x) }"
    text = f"(float[N, 3] x) => (float[K, N, 3] y) {{ y = Loop(times) <body = {body}> }}"
    model = parsed(text, times=np.array(2))
    model.graph.node[0].input.append("")
    path = Case(model, {}, tmp_path).write()
    netferry.convert(path, tmp_path / "out.onnx", opset=opset)
    feeds = {"x": normal(2, 3)}
    same(run(tmp_path / "out.onnx", feeds), run(path, feeds))


def test_a_sparse_constant_of_a_function_that_would_be_huge(tmp_path: Path) -> None:
    model = _a_sparse_constant_of_a_function()
    model.functions[0].node[0].attribute[0].sparse_tensor.dims[:] = [1 << 40]
    path = Case(model, {}, tmp_path).write()
    with pytest.raises(LimitExceeded, match="dense"):
        netferry.convert(path, tmp_path / "out.onnx")
