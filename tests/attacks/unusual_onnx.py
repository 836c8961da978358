"""Unusual but valid ONNX files; each computes relu(x @ W + b) of a batch of three numbers, unless it says otherwise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
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


def _external(model: onnx.ModelProto, index: int, **fields: object) -> None:
    tensor = model.graph.initializer[index]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in fields.items():
        tensor.external_data.add(key=key, value=str(value))


def _rename(model: onnx.ModelProto, old: str, new: str) -> None:
    graph = model.graph
    for node in graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                if name == old:
                    names[i] = new
    for value in (*graph.input, *graph.output, *graph.initializer):
        if value.name == old:
            value.name = new


def _weight_of_type(model: onnx.ModelProto, array: np.ndarray) -> np.ndarray:
    """Keep W in another type, cast in the graph."""
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(array, "w0"))
    model.graph.node.insert(0, helper.make_node("Cast", ["w0"], ["w"], to=TensorProto.FLOAT))
    return np.maximum(X @ array.astype(np.float32) + B, 0)


# how numbers are kept ------------------------------------------------------------------------------------------------


@case
def typed_fields(m: onnx.ModelProto, _: Path) -> None:
    m.graph.initializer[0].CopyFrom(helper.make_tensor("w", TensorProto.FLOAT, W.shape, W.ravel()))


@case
def float16_in_int32_data(m: onnx.ModelProto, _: Path) -> np.ndarray:
    half = W.astype(np.float16)
    tensor = helper.make_tensor("w0", TensorProto.FLOAT16, W.shape, half.ravel())
    assert len(tensor.int32_data) == 12
    wanted = _weight_of_type(m, half)
    m.graph.initializer[0].CopyFrom(tensor)
    return wanted


@case
def float16_raw(m: onnx.ModelProto, _: Path) -> np.ndarray:
    return _weight_of_type(m, W.astype(np.float16))


@case
def bfloat16_raw(m: onnx.ModelProto, _: Path) -> np.ndarray:
    return _weight_of_type(m, W.astype(ml_dtypes.bfloat16))


@case
def double_raw(m: onnx.ModelProto, _: Path) -> np.ndarray:
    return _weight_of_type(m, W.astype(np.float64))


@case
def int8_raw(m: onnx.ModelProto, _: Path) -> np.ndarray:
    return _weight_of_type(m, (W * 10).astype(np.int8))


@case
def int8_in_int32_data(m: onnx.ModelProto, _: Path) -> np.ndarray:
    small = (W * 10).astype(np.int8)
    wanted = _weight_of_type(m, small)
    m.graph.initializer[0].CopyFrom(helper.make_tensor("w0", TensorProto.INT8, W.shape, small.ravel()))
    return wanted


@case
def bool_weights(m: onnx.ModelProto, _: Path) -> np.ndarray:
    return _weight_of_type(m, W > 0)


@case
def uint64_weights(m: onnx.ModelProto, _: Path) -> np.ndarray:
    return _weight_of_type(m, np.abs(W * 10).astype(np.uint64))


@case
def quantized_weight(m: onnx.ModelProto, _: Path) -> np.ndarray:
    small, scale = np.clip(np.round(W * 40), -127, 127).astype(np.int8), np.array(1 / 40, np.float32)
    m.graph.initializer[0].CopyFrom(numpy_helper.from_array(small, "w0"))
    m.graph.initializer.extend(
        [numpy_helper.from_array(scale, "scale"), numpy_helper.from_array(np.array(0, np.int8), "zero")]
    )
    m.graph.node.insert(0, helper.make_node("DequantizeLinear", ["w0", "scale", "zero"], ["w"]))
    return np.maximum(X @ (small * scale) + B, 0)


@case
def scalar_initializer(m: onnx.ModelProto, _: Path) -> np.ndarray:
    m.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.array(2, np.float32), "b"))
    return np.maximum(X @ W + 2, 0)


@case
def empty_raw_data_of_an_empty_tensor(m: onnx.ModelProto, _: Path) -> None:
    m.graph.initializer.append(numpy_helper.from_array(np.zeros((0, 4), np.float32), "none"))
    m.graph.node.insert(2, helper.make_node("Concat", ["s", "none"], ["s2"], axis=0))
    m.graph.node[3].input[0] = "s2"


@case
def constants_of_every_attribute(m: onnx.ModelProto, _: Path) -> None:
    del m.graph.initializer[:]
    nodes = [
        helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(W)),
        helper.make_node("Constant", [], ["b"], value_floats=B.tolist()),
        helper.make_node("Constant", [], ["one"], value_float=1.0),
        helper.make_node("Constant", [], ["i"], value_int=1),
        helper.make_node("Constant", [], ["is"], value_ints=[1, 2]),
        helper.make_node("Constant", [], ["text"], value_string="é"),
    ]
    for i, node in enumerate(nodes):
        m.graph.node.insert(i, node)


@case
def sparse_initializer(m: onnx.ModelProto, _: Path) -> np.ndarray:
    del m.graph.initializer[0]
    values = numpy_helper.from_array(np.array([2, -1], np.float32), "w")
    at = numpy_helper.from_array(np.array([1, 6], np.int64), "w_at")
    m.graph.sparse_initializer.append(helper.make_sparse_tensor(values, at, [3, 4]))
    dense = np.zeros(12, np.float32)
    dense[[1, 6]] = 2, -1
    return np.maximum(X @ dense.reshape(3, 4) + B, 0)


@case
def nan_and_infinity(m: onnx.ModelProto, _: Path) -> np.ndarray:
    bias = np.array([np.nan, np.inf, 0, 0], np.float32)
    m.graph.initializer[1].CopyFrom(numpy_helper.from_array(bias, "b"))
    return np.where(np.isnan(bias), np.nan, np.maximum(X @ W + bias, 0))


@case
def denormal_and_negative_zero(m: onnx.ModelProto, _: Path) -> np.ndarray:
    m.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.array([1e-42, -0.0, 0, 1], np.float32), "b"))
    return np.maximum(X @ W + np.array([0, 0, 0, 1], np.float32), 0)


# data in other files -------------------------------------------------------------------------------------------------


@case
def external_with_offset(m: onnx.ModelProto, folder: Path) -> None:
    (folder / "w.bin").write_bytes(b"\xff" * 4096 + W.tobytes() + B.tobytes())
    _external(m, 0, location="w.bin", offset=4096, length=W.nbytes)
    _external(m, 1, location="w.bin", offset=4096 + W.nbytes, length=B.nbytes)


@case
def external_up_to_the_end_without_length(m: onnx.ModelProto, folder: Path) -> None:
    (folder / "w.bin").write_bytes(bytes(7) + W.tobytes())
    _external(m, 0, location="w.bin", offset=7)


@case
def external_without_offset(m: onnx.ModelProto, folder: Path) -> None:
    (folder / "w.bin").write_bytes(W.tobytes())
    _external(m, 0, location="w.bin")


@case
def external_with_dot(m: onnx.ModelProto, folder: Path) -> None:
    (folder / "w.bin").write_bytes(W.tobytes())
    _external(m, 0, location="./w.bin", offset=0, length=W.nbytes)


@case
def external_in_folders(m: onnx.ModelProto, folder: Path) -> None:
    (folder / "sub" / "dir").mkdir(parents=True)
    (folder / "sub/dir/w.bin").write_bytes(W.tobytes())
    _external(m, 0, location="sub//dir/w.bin", offset=0, length=W.nbytes)


@case
def external_of_a_name_with_spaces(m: onnx.ModelProto, folder: Path) -> None:
    (folder / "gewichte für ü.bin").write_bytes(W.tobytes())
    _external(m, 0, location="gewichte für ü.bin")


@case
def external_with_checksum_and_more(m: onnx.ModelProto, folder: Path) -> None:
    (folder / "w.bin").write_bytes(W.tobytes())
    _external(m, 0, location="w.bin", checksum="0" * 40, basepath="", theirs="kept")


@case
def external_regions_shared(m: onnx.ModelProto, folder: Path) -> np.ndarray:
    (folder / "w.bin").write_bytes(W.tobytes())
    _external(m, 0, location="w.bin", offset=0, length=W.nbytes)
    _external(m, 1, location="w.bin", offset=0, length=16)
    return np.maximum(X @ W + W[0], 0)


@case
def external_and_empty(m: onnx.ModelProto, folder: Path) -> None:
    (folder / "w.bin").write_bytes(W.tobytes())
    empty_raw_data_of_an_empty_tensor(m, folder)
    _external(m, 0, location="w.bin")
    _external(m, 2, location="w.bin", offset=W.nbytes, length=0)


@case
def external_in_a_constant(m: onnx.ModelProto, folder: Path) -> None:
    (folder / "w.bin").write_bytes(W.tobytes())
    _external(m, 0, location="w.bin")
    tensor = TensorProto()
    tensor.CopyFrom(m.graph.initializer[0])
    del m.graph.initializer[0]
    m.graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=tensor))


# names ---------------------------------------------------------------------------------------------------------------


@case
def names_of_all_kinds(m: onnx.ModelProto, _: Path) -> None:
    for old, new in (("h", "a/b:0"), ("s", "leer zeichen"), ("w", "重み"), ("b", "β\n\t"), ("y", "out.put-1;ü")):
        _rename(m, old, new)
    m.graph.node[0].name = "/model/0/MatMul"
    m.graph.node[1].name = "\x1b[31mred"


@case
def names_of_60_kilobytes(m: onnx.ModelProto, _: Path) -> None:
    _rename(m, "h", "h" * 60_000)
    m.graph.node[1].name = "n" * 60_000


@case
def nodes_without_names(m: onnx.ModelProto, _: Path) -> None:
    for node in m.graph.node:
        node.ClearField("name")


@case
def nodes_of_one_name(m: onnx.ModelProto, _: Path) -> None:
    for node in m.graph.node:
        node.name = "same"


@case
def node_and_value_of_one_name(m: onnx.ModelProto, _: Path) -> None:
    for node in m.graph.node:
        node.name = node.output[0]


@case
def names_that_differ_in_case(m: onnx.ModelProto, _: Path) -> None:
    _rename(m, "h", "S")


@case
def graph_without_a_name(m: onnx.ModelProto, folder: Path) -> None:
    m.graph.ClearField("name")
    m.ClearField("producer_name")


@case
def names_like_ours(m: onnx.ModelProto, _: Path) -> None:
    _rename(m, "h", "netferry.h")
    m.metadata_props.add(key="netferry.unheard", value="{not json")


# inputs and outputs --------------------------------------------------------------------------------------------------


@case
def initializers_that_are_inputs(m: onnx.ModelProto, _: Path) -> None:
    m.ir_version = 3
    del m.opset_import[:]
    m.opset_import.append(helper.make_opsetid("", 8))
    m.graph.input.extend([info("w", [3, 4]), info("b", [4])])


@case
def initializers_before_the_input(m: onnx.ModelProto, _: Path) -> None:
    m.graph.input.insert(0, info("w", [3, 4]))


@case
def overridable_default(m: onnx.ModelProto, _: Path) -> None:
    m.graph.input.append(info("b", [4]))


@case
def output_that_is_an_input(m: onnx.ModelProto, _: Path) -> None:
    m.graph.output.append(info("x", ["N", 3]))


@case
def output_that_is_an_initializer(m: onnx.ModelProto, _: Path) -> None:
    m.graph.output.append(info("b", [4]))


@case
def output_in_the_middle(m: onnx.ModelProto, _: Path) -> None:
    m.graph.output.append(info("h", ["N", 4]))


@case
def output_without_shape(m: onnx.ModelProto, _: Path) -> None:
    m.graph.output[0].CopyFrom(info("y", None))


@case
def input_of_unknown_dimensions(m: onnx.ModelProto, _: Path) -> None:
    m.graph.input[0].type.tensor_type.shape.dim[0].Clear()


@case
def input_that_nobody_reads(m: onnx.ModelProto, _: Path) -> None:
    m.graph.input.append(info("idle", [1]))


@case
def unused_initializer(m: onnx.ModelProto, _: Path) -> None:
    m.graph.initializer.append(numpy_helper.from_array(np.ones(5, np.float32), "idle"))


@case
def node_whose_output_nobody_reads(m: onnx.ModelProto, _: Path) -> None:
    m.graph.node.append(helper.make_node("Neg", ["h"], ["idle"]))


@case
def dimension_names_of_all_kinds(m: onnx.ModelProto, _: Path) -> None:
    m.graph.input[0].CopyFrom(info("x", ["größe / 2 * (n+1)", 3]))
    m.graph.output[0].CopyFrom(info("y", ["größe / 2 * (n+1)", 4]))


@case
def value_info_for_all_and_more(m: onnx.ModelProto, _: Path) -> None:
    m.graph.value_info.extend([info("h", ["N", 4]), info("s", ["N", 4]), info("nobody", [7])])


@case
def optional_input_left_out(m: onnx.ModelProto, _: Path) -> np.ndarray:
    m.graph.initializer.append(numpy_helper.from_array(np.array(1, np.float32), "top"))
    m.graph.node[2].CopyFrom(helper.make_node("Clip", ["s", "", "top"], ["y"]))
    return np.minimum(X @ W + B, 1)


@case
def trailing_empty_inputs(m: onnx.ModelProto, _: Path) -> np.ndarray:
    m.graph.initializer.append(numpy_helper.from_array(np.array(0, np.float32), "low"))
    m.graph.node[2].CopyFrom(helper.make_node("Clip", ["s", "low", ""], ["y"]))
    return WANTED


@case
def only_an_identity(m: onnx.ModelProto, _: Path) -> np.ndarray:
    del m.graph.node[:], m.graph.initializer[:]
    m.graph.node.append(helper.make_node("Identity", ["x"], ["y"]))
    m.graph.output[0].CopyFrom(info("y", ["N", 3]))
    return X


@case
def graph_without_nodes(m: onnx.ModelProto, _: Path) -> np.ndarray:
    del m.graph.node[:], m.graph.initializer[:], m.graph.output[:]
    m.graph.output.append(info("x", ["N", 3]))
    return X


@case
def graph_without_inputs(m: onnx.ModelProto, _: Path) -> np.ndarray:
    del m.graph.input[:]
    m.graph.initializer.append(numpy_helper.from_array(X, "x"))
    m.graph.output[0].CopyFrom(info("y", [2, 4]))
    return WANTED


# the file itself -----------------------------------------------------------------------------------------------------


@case
def unknown_fields(m: onnx.ModelProto, folder: Path) -> None:
    (folder / "net.onnx").write_bytes(m.SerializeToString() + b"\xf2\x3f\x05later" + b"\xf8\x3f\x07")


@case
def unknown_groups(m: onnx.ModelProto, folder: Path) -> None:
    # fields 1022 and, in place of the graph, 7; each with a number, the second with a group inside
    groups = b"\xf3\x3f\x08\x07\xf4\x3f" + b"\x3b\x08\x07\x0b\x15abcd\x0c\x3c"
    (folder / "net.onnx").write_bytes(groups + m.SerializeToString() + groups)


@case
def fields_in_another_order(m: onnx.ModelProto, folder: Path) -> None:
    graph = onnx.ModelProto(graph=m.graph).SerializeToString()
    rest = onnx.ModelProto()
    rest.CopyFrom(m)
    rest.ClearField("graph")
    (folder / "net.onnx").write_bytes(graph + rest.SerializeToString())


@case
def documentation_everywhere(m: onnx.ModelProto, _: Path) -> None:
    m.doc_string = m.graph.doc_string = "日本語 \x00 " * 2000
    for value in (*m.graph.node, *m.graph.initializer, *m.graph.input):
        value.doc_string = "about"


@case
def metadata_of_one_megabyte(m: onnx.ModelProto, _: Path) -> None:
    m.metadata_props.add(key="notes", value="z" * (1 << 20))


@case
def bytes_in_a_text_attribute(m: onnx.ModelProto, _: Path) -> None:
    m.opset_import.append(helper.make_opsetid("org.example", 1))
    m.functions.append(
        helper.make_function(
            "org.example", "keep", ["a"], ["c"], [helper.make_node("Identity", ["a"], ["c"])],
            [helper.make_opsetid("", 17)], ["note"],
        )
    )  # fmt: skip
    m.graph.node.append(helper.make_node("keep", ["s"], ["k"], domain="org.example", note=b"\xff\xfe"))


@case
def attribute_of_100_000_numbers(m: onnx.ModelProto, _: Path) -> None:
    m.graph.node.append(helper.make_node("Constant", [], ["idle"], value_ints=list(range(100_000))))


@case
def domain_by_its_long_name(m: onnx.ModelProto, _: Path) -> None:
    m.opset_import[0].domain = "ai.onnx"
    for node in m.graph.node:
        node.domain = "ai.onnx"


@case
def domains_that_nobody_uses(m: onnx.ModelProto, _: Path) -> None:
    m.opset_import.extend([helper.make_opsetid("com.microsoft", 1), helper.make_opsetid("ai.onnx.ml", 3)])


@case
def functions_that_call_functions(m: onnx.ModelProto, _: Path) -> None:
    own = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    inner = helper.make_function("own", "f", ["a"], ["c"], [helper.make_node("Relu", ["a"], ["c"])], own)
    outer = helper.make_function("own", "g", ["a"], ["c"], [helper.make_node("f", ["a"], ["c"], domain="own")], own)
    m.functions.extend([outer, inner])
    m.opset_import.append(helper.make_opsetid("own", 1))
    m.graph.node[2].CopyFrom(helper.make_node("g", ["s"], ["y"], domain="own"))


@case
def a_thousand_layers(m: onnx.ModelProto, _: Path) -> None:
    m.graph.node[2].output[0] = "r0"
    for i in range(1000):
        m.graph.node.append(helper.make_node("Relu", [f"r{i}"], ["y" if i == 999 else f"r{i + 1}"]))


@case
def nodes_out_of_order(m: onnx.ModelProto, _: Path) -> None:
    """Against the letter of the format, but onnxruntime takes such files, and exporters write them."""
    nodes = [helper.make_node("Relu", ["s"], ["y"]), *m.graph.node[:2]]
    del m.graph.node[:]
    m.graph.node.extend(nodes)


@case
def a_branch_that_reads_what_comes_later(m: onnx.ModelProto, folder: Path) -> None:
    a_branch_that_names_an_outer_value(m, folder)
    m.graph.node.append(m.graph.node[1])
    del m.graph.node[1]


@case
def dimensions_of_minus_one(m: onnx.ModelProto, _: Path) -> None:
    m.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    m.graph.output[0].type.tensor_type.shape.dim[0].dim_value = -1


@case
def a_shape_that_was_never_true(m: onnx.ModelProto, _: Path) -> None:
    m.graph.value_info.append(info("h", ["M", 4]))


@case
def opset_of_a_domain_that_is_empty_twice_spelled(m: onnx.ModelProto, _: Path) -> None:
    m.opset_import.append(helper.make_opsetid("ai.onnx.ml", 2))
    m.opset_import.append(helper.make_opsetid("ai.onnx.training", 1))


@case
def a_branch_that_names_an_outer_value(m: onnx.ModelProto, _: Path) -> None:
    then = helper.make_graph([helper.make_node("Relu", ["s"], ["t"])], "t", [], [info("t", None)])
    other = helper.make_graph([helper.make_node("Neg", ["s"], ["t2"])], "e", [], [info("t2", None)])
    m.graph.initializer.append(numpy_helper.from_array(np.array(True), "c"))
    m.graph.node[2].CopyFrom(helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other))


@case
def old_operators(m: onnx.ModelProto, _: Path) -> None:
    m.ir_version, m.opset_import[0].version = 3, 6
    m.graph.input.extend([info("w", [3, 4]), info("b", [4])])
    m.graph.node[1].CopyFrom(helper.make_node("Add", ["h", "b"], ["s"], broadcast=1, axis=1))


@case
def half_precision_throughout(m: onnx.ModelProto, _: Path) -> np.ndarray:
    m.graph.initializer[0].CopyFrom(numpy_helper.from_array(W.astype(np.float16), "w0"))
    m.graph.initializer[1].CopyFrom(numpy_helper.from_array(B.astype(np.float16), "b0"))
    m.graph.node.insert(0, helper.make_node("Cast", ["x"], ["x0"], to=TensorProto.FLOAT16))
    m.graph.node[1].CopyFrom(helper.make_node("MatMul", ["x0", "w0"], ["h"]))
    m.graph.node[2].CopyFrom(helper.make_node("Add", ["h", "b0"], ["s"]))
    m.graph.output[0].CopyFrom(info("y", ["N", 4], TensorProto.FLOAT16))
    return WANTED.astype(np.float16)


@case
def training_information(m: onnx.ModelProto, _: Path) -> None:
    step = m.training_info.add()
    step.algorithm.CopyFrom(
        helper.make_graph([helper.make_node("Neg", ["b"], ["new"])], "step", [], [info("new", [4])])
    )
    step.update_binding.add(key="b", value="new")
