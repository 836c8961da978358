"""Unusual but valid ONNX files: fields, domains, functions, order, old operators."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.attacks.unusual_linear import WANTED, B, W, case, info


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
