"""Unusual but valid ONNX files: loops, branches, functions, sequences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.attacks import unusual_onnx
from tests.attacks.unusual_made import onnx_case

W, B, X, WANTED = unusual_onnx.W, unusual_onnx.B, unusual_onnx.X, unusual_onnx.WANTED
info = unusual_onnx.info


@onnx_case
def a_loop(m: onnx.ModelProto, _: Path) -> np.ndarray:
    """relu(x @ W + b) is doubled three times by a Loop whose body names an outer value."""
    body = helper.make_graph(
        [helper.make_node("Add", ["v", "v"], ["v2"]), helper.make_node("Identity", ["more"], ["more2"])],
        "body",
        [info("i", [], TensorProto.INT64), info("more", [], TensorProto.BOOL), info("v", None)],
        [info("more2", [], TensorProto.BOOL), info("v2", None)],
    )
    m.graph.initializer.append(numpy_helper.from_array(np.array(3), "times"))
    m.graph.node.append(helper.make_node("Loop", ["times", "", "y"], ["z"], body=body))
    m.graph.output[0].CopyFrom(info("z", ["N", 4]))
    return 8 * WANTED


@onnx_case
def branches_within_branches(m: onnx.ModelProto, _: Path) -> None:
    node = helper.make_node("Relu", ["s"], ["r0"])
    for i in range(1, 6):
        then = helper.make_graph([node], f"t{i}", [], [info(f"r{i - 1}", None)])
        other = helper.make_graph([helper.make_node("Neg", ["s"], [f"n{i}"])], f"e{i}", [], [info(f"n{i}", None)])
        node = helper.make_node("If", ["c"], ["y" if i == 5 else f"r{i}"], then_branch=then, else_branch=other)
    m.graph.initializer.append(numpy_helper.from_array(np.array(True), "c"))
    m.graph.node[2].CopyFrom(node)


@onnx_case
def a_branch_with_weights_of_its_own(m: onnx.ModelProto, folder: Path) -> np.ndarray:
    """An initializer of a subgraph, in another file."""
    (folder / "w.bin").write_bytes(bytes(100) + (2 * B).tobytes())
    tensor = TensorProto(name="b2", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "w.bin"), ("offset", "100"), ("length", "16")):
        tensor.external_data.add(key=key, value=value)
    then = helper.make_graph([helper.make_node("Add", ["h", "b2"], ["t"])], "t", [], [info("t", None)], [tensor])
    other = helper.make_graph([helper.make_node("Neg", ["h"], ["e"])], "e", [], [info("e", None)])
    m.graph.input.append(info("idle", [1]))
    m.graph.node.insert(1, helper.make_node("Less", ["idle", "one"], ["c"]))
    m.graph.initializer.append(numpy_helper.from_array(np.ones(1, np.float32), "one"))
    m.graph.node[2].CopyFrom(helper.make_node("If", ["c"], ["s"], then_branch=then, else_branch=other))
    return np.maximum(X @ W + 2 * B, 0)


@onnx_case
def functions_with_settings(m: onnx.ModelProto, _: Path) -> np.ndarray:
    """A function with a given and a defaulted attribute, of another opset than the model's."""
    leaky = helper.make_node("LeakyRelu", ["a"], ["t"])
    leaky.attribute.add(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT)
    scaled = helper.make_node("Constant", [], ["k"])
    scaled.attribute.add(name="value_float", ref_attr_name="scale", type=onnx.AttributeProto.FLOAT)
    function = helper.make_function(
        "own", "f", ["a"], ["c"], [leaky, scaled, helper.make_node("Mul", ["t", "k"], ["c"])],
        [helper.make_opsetid("", 16)], ["slope"], [helper.make_attribute("scale", 2.0)],
    )  # fmt: skip
    m.functions.append(function)
    m.opset_import.append(helper.make_opsetid("own", 1))
    m.graph.node[2].CopyFrom(helper.make_node("f", ["s"], ["y"], domain="own", slope=0.5))
    s = X @ W + B
    return 2 * np.where(s > 0, s, 0.5 * s)


@onnx_case
def a_function_with_inputs_left_out(m: onnx.ModelProto, _: Path) -> np.ndarray:
    clip = helper.make_node("Clip", ["a", "low", "high"], ["c"])
    m.functions.append(
        helper.make_function("own", "f", ["a", "low", "high"], ["c"], [clip], [helper.make_opsetid("", 17)])
    )
    m.opset_import.append(helper.make_opsetid("own", 1))
    m.graph.initializer.append(numpy_helper.from_array(np.array(0, np.float32), "zero"))
    m.graph.node[2].CopyFrom(helper.make_node("f", ["s", "zero"], ["y"], domain="own"))
    return WANTED


@onnx_case
def a_sequence_on_the_way(m: onnx.ModelProto, _: Path) -> None:
    m.graph.node[2].output[0] = "r"
    m.graph.initializer.append(numpy_helper.from_array(np.array(-1), "last"))
    m.graph.node.append(helper.make_node("SequenceConstruct", ["s", "r"], ["both"]))
    m.graph.node.append(helper.make_node("SequenceAt", ["both", "last"], ["y"]))


@onnx_case
def operators_of_onnxruntime(m: onnx.ModelProto, _: Path) -> np.ndarray:
    m.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    m.graph.node[2].CopyFrom(helper.make_node("QuickGelu", ["s"], ["y"], domain="com.microsoft", alpha=1.5))
    s = X @ W + B
    return s / (1 + np.exp(-1.5 * s))


@onnx_case
def weights_that_nobody_multiplied(m: onnx.ModelProto, _: Path) -> np.ndarray:
    """Constants computed from constants: the weight is a transposed product."""
    q, r = np.linalg.qr(W.astype(np.float64))
    del m.graph.initializer[0]
    m.graph.initializer.extend(
        [numpy_helper.from_array(q.T.astype(np.float32), "q"), numpy_helper.from_array(r.astype(np.float32), "r")]
    )
    m.graph.node.insert(0, helper.make_node("Transpose", ["q"], ["qt"], perm=[1, 0]))
    m.graph.node.insert(1, helper.make_node("MatMul", ["qt", "r"], ["w"]))
    return WANTED


@onnx_case
def nodes_out_of_order_before_an_output_without_a_shape(m: onnx.ModelProto, _: Path) -> None:
    nodes = list(reversed(m.graph.node))
    del m.graph.node[:]
    m.graph.node.extend(nodes)
    m.graph.output[0].ClearField("type")


@onnx_case
def a_function_of_an_opset_in_which_its_operators_are_others(m: onnx.ModelProto, _: Path) -> None:
    """onnxruntime runs it, onnx's check refuses operators that changed between function and graph."""
    relu = helper.make_node("Relu", ["a"], ["c"])
    m.functions.append(helper.make_function("own", "f", ["a"], ["c"], [relu], [helper.make_opsetid("", 13)]))
    m.opset_import.append(helper.make_opsetid("own", 1))
    m.graph.node[2].CopyFrom(helper.make_node("f", ["s"], ["y"], domain="own"))
