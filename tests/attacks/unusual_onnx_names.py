"""Unusual but valid ONNX files: names, inputs and outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tests.attacks.unusual_linear import WANTED, B, W, X, case, info, rename

# names ----------------------------------------------------------------------------------------------------------------


@case
def names_of_all_kinds(m: onnx.ModelProto, _: Path) -> None:
    for old, new in (("h", "a/b:0"), ("s", "leer zeichen"), ("w", "重み"), ("b", "β\n\t"), ("y", "out.put-1;ü")):
        rename(m, old, new)
    m.graph.node[0].name = "/model/0/MatMul"
    m.graph.node[1].name = "\x1b[31mred"


@case
def names_of_60_kilobytes(m: onnx.ModelProto, _: Path) -> None:
    rename(m, "h", "h" * 60_000)
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
    rename(m, "h", "S")


@case
def graph_without_a_name(m: onnx.ModelProto, folder: Path) -> None:
    m.graph.ClearField("name")
    m.ClearField("producer_name")


@case
def names_like_ours(m: onnx.ModelProto, _: Path) -> None:
    rename(m, "h", "netferry.h")
    m.metadata_props.add(key="netferry.unheard", value="{not json")


# inputs and outputs ---------------------------------------------------------------------------------------------------


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
