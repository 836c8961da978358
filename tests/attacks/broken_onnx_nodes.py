"""Broken ONNX files: functions, control flow, attributes, tensors and settings that contradict themselves or ask for too much."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.attacks import unusual_onnx
from tests.attacks.making import Make, model

CASES: dict[str, Make] = {}
"""name -> writes the files into a folder; returns their paths as ``convert`` takes them"""


def _function(*nodes: onnx.NodeProto, name: str = "f", attributes: tuple[str, ...] = ()) -> onnx.FunctionProto:
    own = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    return helper.make_function("own", name, ["a"], ["c"], list(nodes), own, list(attributes))


def _call(m: onnx.ModelProto, *functions: onnx.FunctionProto) -> None:
    m.functions.extend(functions)
    m.opset_import.append(helper.make_opsetid("own", 1))
    m.graph.node[2].CopyFrom(helper.make_node("f", ["s"], ["y"], domain="own"))


def _own(name: str, x: str, y: str) -> onnx.NodeProto:
    return helper.make_node(name, [x], [y], domain="own")


def _recursion(m: onnx.ModelProto) -> None:
    _call(m, _function(_own("f", "a", "c")))


def _mutual_recursion(m: onnx.ModelProto) -> None:
    _call(m, _function(_own("g", "a", "c")), _function(_own("f", "a", "c"), name="g"))


def _recursion_in_a_branch(m: onnx.ModelProto) -> None:
    then = helper.make_graph([_own("f", "a", "t")], "t", [], [unusual_onnx.info("t", None)])
    other = helper.make_graph([_own("f", "a", "e")], "e", [], [unusual_onnx.info("e", None)])
    yes = helper.make_node("Constant", [], ["yes"], value=numpy_helper.from_array(np.array(True)))
    _call(m, _function(yes, helper.make_node("If", ["yes"], ["c"], then_branch=then, else_branch=other)))


def _function_twice(m: onnx.ModelProto) -> None:
    relu = helper.make_node("Relu", ["a"], ["c"])
    _call(m, _function(relu), _function(relu))


def _function_that_lacks_its_output(m: onnx.ModelProto) -> None:
    _call(m, _function(helper.make_node("Relu", ["a"], ["other"])))


def _function_with_too_many_inputs(m: onnx.ModelProto) -> None:
    _call(m, _function(helper.make_node("Relu", ["a"], ["c"])))
    m.graph.node[2].input.append("s")


def _attribute_twice(m: onnx.ModelProto) -> None:
    node = helper.make_node("Softmax", ["s"], ["y"], axis=1)
    node.attribute.append(helper.make_attribute("axis", 0))
    m.graph.node[2].CopyFrom(node)


def _attribute_of_a_function_in_the_graph(m: onnx.ModelProto) -> None:
    node = helper.make_node("Softmax", ["s"], ["y"])
    node.attribute.add(name="axis", ref_attr_name="nobody", type=onnx.AttributeProto.INT)
    m.graph.node[2].CopyFrom(node)


def _output_made_twice(m: onnx.ModelProto) -> None:
    m.graph.node.append(helper.make_node("Neg", ["s"], ["y"]))


def _cycle_through_a_branch(m: onnx.ModelProto) -> None:
    then = helper.make_graph([helper.make_node("Relu", ["y"], ["t"])], "t", [], [unusual_onnx.info("t", None)])
    other = helper.make_graph([helper.make_node("Neg", ["s"], ["e"])], "e", [], [unusual_onnx.info("e", None)])
    m.graph.initializer.append(numpy_helper.from_array(np.array(True), "c"))
    m.graph.node[2].CopyFrom(helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other))


def _branch_without_output(m: onnx.ModelProto) -> None:
    then = helper.make_graph([], "t", [], [])
    m.graph.initializer.append(numpy_helper.from_array(np.array(True), "c"))
    m.graph.node[2].CopyFrom(helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=then))


def _two_kinds_of_data(m: onnx.ModelProto) -> None:
    m.graph.initializer[1].float_data.extend([1, 2, 3, 4])


def _wrong_field(m: onnx.ModelProto) -> None:
    tensor = m.graph.initializer[1]
    tensor.ClearField("raw_data")
    tensor.double_data.extend([1, 2, 3, 4])


def _type_that_is_none(m: onnx.ModelProto) -> None:
    m.graph.initializer[1].data_type = 99


def _undefined_type(m: onnx.ModelProto) -> None:
    m.graph.initializer[1].data_type = 0


def _complex(m: onnx.ModelProto) -> None:
    m.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.ones(4, np.complex64), "b"))


def _half_int4(m: onnx.ModelProto) -> None:
    tensor = m.graph.initializer[1]
    tensor.data_type, tensor.raw_data = TensorProto.INT4, b"\x11"


def _repeated(kind: str, *inputs: tuple[str, Any], **settings: Any) -> Make:
    """y goes through an operator whose constant asks for more than there is memory."""

    def change(m: onnx.ModelProto) -> None:
        m.graph.initializer.extend([numpy_helper.from_array(np.array(v), n) for n, v in inputs])
        m.graph.node.append(helper.make_node(kind, ["y", *[n for n, _ in inputs]], ["z"], **settings))
        m.graph.output[0].CopyFrom(unusual_onnx.info("z", ["N", "M"]))

    return model(change)


def _made(kind: str, *inputs: tuple[str, Any]) -> Make:
    """A huge constant is made of small ones, which constant folding must leave alone; its shape fits nothing."""

    def change(m: onnx.ModelProto) -> None:
        m.graph.initializer.extend([numpy_helper.from_array(np.array(v), n) for n, v in inputs])
        m.graph.node.append(helper.make_node(kind, [n for n, _ in inputs], ["big"]))
        m.graph.node.append(helper.make_node("Add", ["s", "big"], ["z"]))
        m.graph.output[0].CopyFrom(unusual_onnx.info("z", ["N", "M"]))

    return model(change)


def _sparse_out_of_range(m: onnx.ModelProto) -> None:
    del m.graph.initializer[0]
    values = numpy_helper.from_array(np.array([2, -1], np.float32), "w")
    at = numpy_helper.from_array(np.array([1, 6_000], np.int64), "w_at")
    m.graph.sparse_initializer.append(helper.make_sparse_tensor(values, at, [3, 4]))


def _sparse_of_type_65(m: onnx.ModelProto) -> None:
    _sparse_out_of_range(m)
    m.graph.sparse_initializer[0].values.data_type = 65


def _sparse_of_terabytes(m: onnx.ModelProto) -> None:
    del m.graph.initializer[0]
    values = numpy_helper.from_array(np.array([2], np.float32), "w")
    at = numpy_helper.from_array(np.array([1], np.int64), "w_at")
    m.graph.sparse_initializer.append(helper.make_sparse_tensor(values, at, [1 << 20, 1 << 20]))


def _no_type(m: onnx.ModelProto) -> None:
    m.graph.input[0].ClearField("type")


def _input_without_name(m: onnx.ModelProto) -> None:
    m.graph.input[0].name = ""


def _no_opset(m: onnx.ModelProto) -> None:
    del m.opset_import[:]


def _conv(shape: list[Any] | None = None, **settings: Any) -> Make:
    def change(m: onnx.ModelProto) -> None:
        del m.graph.node[:], m.graph.initializer[:]
        m.graph.initializer.append(numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "k"))
        m.graph.input[0].CopyFrom(unusual_onnx.info("x", ["N", 3, 8, 8]))
        m.graph.node.append(helper.make_node("Conv", ["x", "k"], ["y"], **settings))
        m.graph.output[0].CopyFrom(unusual_onnx.info("y", shape))

    return model(change)


def added(*arguments: Any, **settings: Any) -> Make:
    """The linear network with one more node."""
    return model(lambda m: m.graph.node.append(helper.make_node(*arguments, **settings)))


def instead(*arguments: Any, **settings: Any) -> Make:
    """The linear network with another node in the place of its Relu."""
    return model(lambda m: m.graph.node[2].CopyFrom(helper.make_node(*arguments, **settings)))


def _raw_and_elsewhere(m: onnx.ModelProto) -> None:
    tensor = m.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="net.onnx")


def _element_type(number: int) -> Callable[[onnx.ModelProto], None]:
    def change(m: onnx.ModelProto) -> None:
        m.graph.input[0].type.tensor_type.elem_type = number

    return change


def _attribute_type_lies(m: onnx.ModelProto) -> None:
    node = helper.make_node("Softmax", ["s"], ["y"], axis=1)
    node.attribute[0].type = onnx.AttributeProto.FLOATS
    m.graph.node[2].CopyFrom(node)


def _function_like_an_operator(m: onnx.ModelProto) -> None:
    body = [helper.make_node("Neg", ["a"], ["c"])]
    m.functions.append(helper.make_function("", "Relu", ["a"], ["c"], body, [helper.make_opsetid("", 17)]))


_BRANCH = helper.make_graph([helper.make_node("Relu", ["s"], ["t"])], "t", [], [unusual_onnx.info("t", None)])
CASES |= {
    "onnx-constant-of-nothing": added("Constant", [], ["k"]),
    "onnx-constant-of-two-values": added("Constant", [], ["k"], value_int=1, value_float=1.0),
    "onnx-values-here-and-elsewhere": model(_raw_and_elsewhere),
    "onnx-input-of-type-99": model(_element_type(99)),
    "onnx-input-of-type-undefined": model(_element_type(0)),
    "onnx-type-of-an-attribute-lies": model(_attribute_type_lies),
    "onnx-function-like-an-operator": model(_function_like_an_operator),
    "onnx-ir-version-negative": model(lambda m: setattr(m, "ir_version", -1)),
    "onnx-if-without-else": instead("If", ["b"], ["y"], then_branch=_BRANCH),
    "onnx-loop-without-body": instead("Loop", ["", ""], ["y"]),
    "onnx-loop-body-of-too-few": instead("Loop", ["", "", "s"], ["y"], body=_BRANCH),
    "onnx-scan-of-77-inputs": instead("Scan", ["s"], ["y"], body=_BRANCH, num_scan_inputs=77),
    "onnx-norm-of-order-7": instead("LpNormalization", ["s"], ["y"], p=7),
    "onnx-cast-to-nothing": instead("Cast", ["s"], ["y"]),
    "onnx-operator-without-name": instead("", ["s"], ["y"]),
    "onnx-node-without-outputs": added("Relu", ["y"], []),
    "onnx-output-twice": model(lambda m: m.graph.output.append(m.graph.output[0])),
    "onnx-output-of-nobody": model(lambda m: m.graph.output.append(unusual_onnx.info("nobody", [1]))),
    "onnx-input-twice": model(lambda m: m.graph.input.append(m.graph.input[0])),
    "onnx-input-that-is-made": model(lambda m: m.graph.input.append(unusual_onnx.info("h", ["N", 4]))),
    "onnx-einsum-of-10000-axes": instead("Einsum", ["s"], ["y"], equation="i" * 10_000 + "->i"),
    "onnx-function-calls-itself": model(_recursion),
    "onnx-functions-call-each-other": model(_mutual_recursion),
    "onnx-function-calls-itself-in-a-branch": model(_recursion_in_a_branch),
    "onnx-function-twice": model(_function_twice),
    "onnx-function-without-its-output": model(_function_that_lacks_its_output),
    "onnx-function-of-too-many-inputs": model(_function_with_too_many_inputs),
    "onnx-attribute-twice": model(_attribute_twice),
    "onnx-attribute-of-no-function": model(_attribute_of_a_function_in_the_graph),
    "onnx-output-made-twice": model(_output_made_twice),
    "onnx-cycle-through-a-branch": model(_cycle_through_a_branch),
    "onnx-branch-without-output": model(_branch_without_output),
    "onnx-two-kinds-of-data": model(_two_kinds_of_data),
    "onnx-data-in-the-field-of-another-type": model(_wrong_field),
    "onnx-type-99": model(_type_that_is_none),
    "onnx-type-undefined": model(_undefined_type),
    "onnx-complex": model(_complex),
    "onnx-half-the-int4": model(_half_int4),
    "onnx-sparse-beyond-the-end": model(_sparse_out_of_range),
    "onnx-sparse-of-type-65": model(_sparse_of_type_65),
    "onnx-sparse-of-terabytes": model(_sparse_of_terabytes),
    "onnx-input-without-type": model(_no_type),
    "onnx-input-without-name": model(_input_without_name),
    "onnx-no-opset": model(_no_opset),
    "onnx-range-of-terabytes": _made("Range", ("start", 0), ("limit", 1 << 50), ("step", 1)),
    "onnx-range-of-step-0": _made("Range", ("start", 0.0), ("limit", 1.0), ("step", 0.0)),
    "onnx-expand-to-terabytes-of-other-type": _made("Expand", ("one", 1.0), ("dims", [1 << 20, 1 << 20])),
    "onnx-reshape-to-what-does-not-fit": _repeated("Reshape", ("to", [-1, 7, -1])),
    "onnx-transpose-of-three-axes": _repeated("Transpose", perm=[0, 1, 2]),
    "onnx-transpose-of-one-axis-twice": _repeated("Transpose", perm=[0, 0]),
    "onnx-conv-stride-0": _conv(["N", 4, "H", "W"], strides=[0, 0]),
    "onnx-conv-stride-negative": _conv(["N", 4, "H", "W"], strides=[-1, 1]),
    "onnx-conv-group-0": _conv(["N", 4, "H", "W"], group=0),
    "onnx-conv-group-that-does-not-divide": _conv(["N", 4, "H", "W"], group=3),
    "onnx-conv-kernel-of-other-shape": _conv(["N", 4, "H", "W"], kernel_shape=[5, 5]),
    "onnx-conv-pads-of-three-numbers": _conv(["N", 4, "H", "W"], pads=[1, 1, 1]),
    "onnx-conv-larger-than-its-input": _conv(dilations=[9, 9]),
}  # fmt: skip


def _raw_texts(m: onnx.ModelProto) -> None:
    m.graph.initializer[1].data_type = TensorProto.STRING


def _sparse_of_nothing(m: onnx.ModelProto) -> None:
    m.graph.node.append(helper.make_node("Constant", [], ["k"], sparse_value=onnx.SparseTensorProto(dims=[2, 2])))


def _text_for_a_number(m: onnx.ModelProto) -> None:
    inner = helper.make_node("Softmax", ["a"], ["c"])
    inner.attribute.add(name="axis", ref_attr_name="axis", type=onnx.AttributeProto.INT)
    _call(m, _function(inner, attributes=("axis",)))
    m.graph.node[2].attribute.append(helper.make_attribute("axis", "first"))


def _function_of_the_future(m: onnx.ModelProto) -> None:
    _call(m, _function(helper.make_node("Relu", ["a"], ["c"])))
    m.functions[0].opset_import[0].version = 9999


def _function_of_opset_0(m: onnx.ModelProto) -> None:
    _call(m, _function(helper.make_node("Relu", ["a"], ["c"])))
    m.functions[0].opset_import[0].version = 0


def _repeated_beyond_memory(m: onnx.ModelProto) -> None:
    m.graph.initializer.append(numpy_helper.from_array(np.array([0, 0, 1 << 28, 1 << 28]), "pads"))
    m.graph.node.append(helper.make_node("Pad", ["y", "pads"], ["z"]))
    m.graph.output[0].CopyFrom(unusual_onnx.info("z", ["N2", "M"]))


def _reshape_to_nothing(m: onnx.ModelProto) -> None:
    m.graph.node.append(helper.make_node("Reshape", ["y"], ["z"]))  # which the first opset had, with an attribute
    m.graph.output[0].CopyFrom(unusual_onnx.info("z", ["N", "M"]))


def _dequantized_without_a_scale(m: onnx.ModelProto) -> None:
    m.graph.node.insert(0, helper.make_node("DequantizeLinear", ["b"], ["q"]))


def _dimension_of_minus_5(m: onnx.ModelProto) -> None:
    m.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -5


def _nothing_at_all(m: onnx.ModelProto) -> None:
    m.graph.node.append(onnx.NodeProto())


CASES |= {
    "onnx-dimension-of-minus-5": model(_dimension_of_minus_5),
    "onnx-node-without-an-operator": model(_nothing_at_all),
    "onnx-reshape-to-nothing": model(_reshape_to_nothing),
    "onnx-dequantized-without-a-scale": model(_dequantized_without_a_scale),
    "onnx-raw-texts": model(_raw_texts),
    "onnx-sparse-constant-of-nothing": model(_sparse_of_nothing),
    "onnx-text-for-the-number-of-a-function": model(_text_for_a_number),
    "onnx-function-of-a-future-opset": model(_function_of_the_future),
    "onnx-function-of-opset-0": model(_function_of_opset_0),
    "onnx-pads-beyond-all-memory": model(_repeated_beyond_memory),
}
