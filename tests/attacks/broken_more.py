"""More broken files: sizes of layers that nothing justifies, archives and messages that lie, graphs in circles."""

from __future__ import annotations

import gzip
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.attacks import unusual_caffe, unusual_darknet, unusual_keras, unusual_onnx
from tests.attacks.broken import Make, config, darknet, hdf5, model, net, stored
from tests.converters.caffe.caffemodel_writer import message, text, varint

CASES: dict[str, Make] = {}
"""name -> writes the files into a folder; returns their paths as ``convert`` takes them; what has no weights is to be
filled (``init``), so that it is the structure which is refused"""
_ONNX = unusual_onnx.linear().SerializeToString()


def _nested(depth: int) -> bytes:
    """A graph in a graph: graphs hold nodes, nodes attributes, attributes graphs."""
    content = b""
    for _ in range(depth):
        content = message(1, message(5, text(1, "body") + message(6, content)))
    return content


# ONNX: the bytes -----------------------------------------------------------------------------------------------------

CASES |= {
    "onnx-varint-of-11-bytes": stored("net.onnx", b"\x08" + b"\xff" * 10 + b"\x01" + _ONNX[2:]),
    "onnx-field-0": stored("net.onnx", _ONNX + b"\x02\x01a"),
    "onnx-field-beyond-29-bits": stored("net.onnx", _ONNX + b"\xfa\xff\xff\xff\x7f\x01a"),
    "onnx-group-never-ended": stored("net.onnx", _ONNX + b"\xf3\x3f"),
    "onnx-end-of-no-group": stored("net.onnx", _ONNX + b"\xf4\x3f"),
    "onnx-wire-type-6": stored("net.onnx", _ONNX + b"\xf6\x3f"),
    "onnx-graph-as-a-number": stored("net.onnx", b"\x08\x08\x38\x05" + b"\x42\x04\x0a\x00\x10\x11"),
    "onnx-length-beyond-the-end": stored("net.onnx", _ONNX + b"\xf2\x3f\xff\xff\xff\xff\x07"),
    "onnx-gzipped": stored("net.onnx.gz", gzip.compress(_ONNX)),
    "onnx-as-text": stored("net.onnx", str(unusual_onnx.linear()).encode()),
    "onnx-as-json": stored("net.json", json.dumps({"irVersion": "8", "graph": {"node": []}}).encode()),
    "onnx-in-a-zip": stored("net.onnx", b"PK\x03\x04" + bytes(26) + _ONNX),
    "onnx-nested-300-deep": stored("net.onnx", b"\x08\x08" + message(7, _nested(300))),
}  # fmt: skip


# ONNX: what the messages say -----------------------------------------------------------------------------------------


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

# Keras: settings -----------------------------------------------------------------------------------------------------

_PICTURE = [None, 8, 8, 3]


def layer(kind: str, shape: list[Any] | None = None, **settings: Any) -> Make:
    """A network of one layer, in JSON."""
    given = {"name": "l", "batch_input_shape": shape or [None, 3], **settings}
    return stored("net.json", json.dumps(unusual_keras.sequential({"class_name": kind, "config": given})).encode())


def graph(*nodes: tuple[str, Any], outputs: Any = (("d", 0, 0),), inputs: Any = (("a", 0, 0),)) -> Make:
    """A functional network: layers of Dense with these inbound nodes."""
    layers = [unusual_keras._input("a")]
    layers += [{**unusual_keras.dense(name=n), "name": n, "inbound_nodes": inbound} for n, inbound in nodes]
    return stored("net.json", json.dumps(unusual_keras._functional(layers, list(inputs), list(outputs))).encode())


def _wrapped(depth: int) -> Make:
    inner = unusual_keras.dense()
    for i in range(depth):
        inner = {
            "class_name": "TimeDistributed",
            "config": {"name": f"t{i}", "layer": inner, "batch_input_shape": [None] * 3},
        }
    return stored("net.json", json.dumps(unusual_keras.sequential(inner)).encode())


CASES |= {
    "keras-units-0": config(units=0),
    "keras-config-missing": stored("net.json", b'{"class_name": "Sequential"}'),
    "keras-config-is-a-list-of-numbers": stored("net.json", b'{"class_name": "Sequential", "config": [1, 2]}'),
    "keras-layers-is-an-object": stored("net.json", b'{"class_name": "Sequential", "config": {"layers": {}}}'),
    "keras-class-is-a-list": stored("net.json", b'{"class_name": ["Sequential"], "config": {"layers": []}}'),
    "keras-json-utf-16": stored("net.json", json.dumps(unusual_keras.sequential()).encode("utf-16")),
    "keras-json-latin-1": stored("net.json", b'{"class_name": "S\xe9quential", "config": {}}'),
    "keras-json-comments": stored("net.json", b"// mine\n" + json.dumps(unusual_keras.sequential()).encode()),
    "keras-yaml": stored("net.yaml", b"class_name: Sequential\nconfig:\n  name: m\n  layers: []\n"),
    "keras-json-gzipped": stored("net.json.gz", gzip.compress(json.dumps(unusual_keras.sequential()).encode())),
    "keras-cycle": graph(("d", [[["e", 0, 0, {}]]]), ("e", [[["d", 0, 0, {}]]])),
    "keras-layer-reads-itself": graph(("d", [[["d", 0, 0, {}]]])),
    "keras-layer-name-twice": graph(("d", [[["a", 0, 0, {}]]]), ("d", [[["d", 0, 0, {}]]])),
    "keras-inbound-of-nobody": graph(("d", [[["nobody", 0, 0, {}]]])),
    "keras-inbound-node-9": graph(("d", [[["a", 9, 0, {}]]])),
    "keras-inbound-node-negative": graph(("d", [[["a", -1, 0, {}]]])),
    "keras-inbound-tensor-9": graph(("d", [[["a", 0, 9, {}]]])),
    "keras-inbound-is-a-number": graph(("d", [[7]])),
    "keras-inbound-is-an-object": graph(("d", {"args": 5})),
    "keras-inbound-args-is-a-number": graph(("d", [{"args": 5, "kwargs": {}}])),
    "keras-output-of-nobody": graph(("d", [[["a", 0, 0, {}]]]), outputs=(("z", 0, 0),)),
    "keras-output-is-a-number": graph(("d", [[["a", 0, 0, {}]]]), outputs=(1,)),
    "keras-input-of-nobody": graph(("d", [[["a", 0, 0, {}]]]), inputs=(("z", 0, 0),)),
    "keras-wrapped-200-times": _wrapped(200),
    "keras-conv-kernel-0": layer("Conv2D", _PICTURE, filters=2, kernel_size=[0, 0]),
    "keras-conv-stride-0": layer("Conv2D", _PICTURE, filters=2, kernel_size=[3, 3], strides=[0, 1]),
    "keras-conv-larger-than-its-input": layer("Conv2D", _PICTURE, filters=2, kernel_size=[9, 9], padding="valid"),
    "keras-conv-groups-that-do-not-divide": layer("Conv2D", _PICTURE, filters=2, kernel_size=[3, 3], groups=2),
    "keras-conv-padding-unknown": layer("Conv2D", _PICTURE, filters=2, kernel_size=[3, 3], padding="some"),
    "keras-conv-kernel-of-three": layer("Conv2D", _PICTURE, filters=2, kernel_size=[3, 3, 3]),
    "keras-conv-filters-huge": layer("Conv2D", _PICTURE, filters=1 << 40, kernel_size=[3, 3]),
    "keras-pool-larger-than-its-input": layer("MaxPooling2D", _PICTURE, pool_size=[9, 9], padding="valid"),
    "keras-pool-of-text": layer("MaxPooling2D", _PICTURE, pool_size="2x2"),
    "keras-reshape-of-two-unknowns": layer("Reshape", _PICTURE, target_shape=[-1, -1]),
    "keras-reshape-that-does-not-fit": layer("Reshape", _PICTURE, target_shape=[5]),
    "keras-reshape-of-an-object": layer("Reshape", _PICTURE, target_shape={"a": 1}),
    "keras-permute-of-one-axis-twice": layer("Permute", _PICTURE, dims=[1, 1, 2]),
    "keras-permute-of-axis-9": layer("Permute", _PICTURE, dims=[1, 2, 9]),
    "keras-cropping-of-everything": layer("Cropping2D", _PICTURE, cropping=[[4, 4], [4, 4]]),
    "keras-padding-negative": layer("ZeroPadding2D", _PICTURE, padding=[[-9, -9], [0, 0]]),
    "keras-embedding-of-terabytes": layer("Embedding", [None, 3], input_dim=1 << 40, output_dim=64),
    "keras-lstm-units-huge": layer("LSTM", [None, 4, 3], units=1 << 34),
    "keras-lstm-of-a-matrix": layer("LSTM", [None, 3], units=2),
    "keras-axis-9": layer("BatchNormalization", _PICTURE, axis=9),
    "keras-axis-of-text": layer("BatchNormalization", _PICTURE, axis="last"),
    "keras-activation-is-a-number": layer("Activation", activation=3),
    "keras-bidirectional-of-nothing": layer("Bidirectional", [None, 4, 3], layer=None),
    "keras-rnn-of-cells-that-are-none": layer("RNN", [None, 4, 3], cell={"class_name": "Dense", "config": {"units": 3}}),
}  # fmt: skip

# Keras: the HDF5 file ------------------------------------------------------------------------------------------------


def _filtered(**options: Any) -> Make:
    return hdf5(arrays=(np.zeros((3, 4), options.pop("dtype", "f4")), unusual_keras.B), **options)


def _linked(link: Any) -> Make:
    def change(file: h5py.File) -> None:
        del file["model_weights/d/d/kernel:0"]
        file["model_weights/d/d/kernel:0"] = link

    return hdf5(change)


def _references(file: h5py.File) -> None:
    del file["model_weights/d/d/kernel:0"]
    group = file["model_weights/d/d"]
    assert isinstance(group, h5py.Group)
    group.create_dataset("kernel:0", data=[group.ref] * 4, dtype=h5py.ref_dtype)


def _ragged(file: h5py.File) -> None:
    del file["model_weights/d/d/kernel:0"]
    group = file["model_weights/d/d"]
    assert isinstance(group, h5py.Group)
    made = group.create_dataset("kernel:0", (3,), h5py.vlen_dtype(np.float32))
    made[:] = [np.zeros(4, "f4")] * 3


def _empty_space(file: h5py.File) -> None:
    del file["model_weights/d/d/kernel:0"]
    file["model_weights/d/d/kernel:0"] = h5py.Empty("f4")


def _a_type_for_an_array(file: h5py.File) -> None:
    del file["model_weights/d/d/kernel:0"]
    file["model_weights/d/d/kernel:0"] = np.dtype("f4")


def _a_group_for_an_array(file: h5py.File) -> None:
    del file["model_weights/d/d/kernel:0"]
    file.create_group("model_weights/d/d/kernel:0")


def _external_file(file: h5py.File) -> None:
    del file["model_weights/d/d/kernel:0"]
    group = file["model_weights/d/d"]
    assert isinstance(group, h5py.Group)
    group.create_dataset("kernel:0", (3, 4), "f4", external=[("/etc/passwd", 0, 48)])


def _deep(file: h5py.File) -> None:
    group = file["model_weights/d"]
    assert isinstance(group, h5py.Group)
    group.create_dataset("a/" * 300 + "kernel:0", data=unusual_keras.W)
    group.attrs["weight_names"] = [("a/" * 300 + "kernel:0").encode(), b"d/bias:0"]


CASES |= {
    "keras-h5-lzf": _filtered(compression="lzf"),
    "keras-h5-scale-and-offset": _filtered(scaleoffset=4, dtype="i4"),
    "keras-h5-soft-link": _linked(h5py.SoftLink("/model_weights/d/d/bias:0")),
    "keras-h5-link-to-nothing": _linked(h5py.SoftLink("/nothing")),
    "keras-h5-link-to-another-file": _linked(h5py.ExternalLink("/etc/passwd", "/x")),
    "keras-h5-values-in-another-file": hdf5(_external_file),
    "keras-h5-references": hdf5(_references),
    "keras-h5-arrays-of-many-lengths": hdf5(_ragged),
    "keras-h5-no-space": hdf5(_empty_space),
    "keras-h5-a-type-for-an-array": hdf5(_a_type_for_an_array),
    "keras-h5-a-group-for-an-array": hdf5(_a_group_for_an_array),
    "keras-h5-300-groups-deep": hdf5(_deep),
    "keras-h5-model-of-invalid-utf-8": hdf5(text=np.bytes_(b'{"class_name": "\xff\xfe"}')),
    "keras-h5-model-in-an-array-of-two": hdf5(text=np.array(["{}", "{}"], dtype=object)),
    "keras-h5-models-of-100-megabytes-in-digits": hdf5(text='{"class_name": ' + "9" * 60_000 + "}"),
    "keras-h5-layer-names-twice": hdf5(lambda f: f["model_weights"].attrs.__setitem__("layer_names", [b"d", b"d"])),
    "keras-h5-gzipped": stored("net.h5.gz", gzip.compress(bytes(3000))),
    "keras-h5-behind-text": stored("net.h5", b"text\n" * 100 + b"\x89HDF\r\n\x1a\n"),
}  # fmt: skip

# Keras: the archive --------------------------------------------------------------------------------------------------


def altered(change: Callable[[bytearray], object], method: int = zipfile.ZIP_STORED) -> Make:
    """The plain archive with bytes changed."""

    def make(folder: Path) -> list[Path]:
        path = unusual_keras.archive(folder / "net.keras", method=method)
        content = bytearray(path.read_bytes())
        change(content)
        path.write_bytes(content)
        return [path]

    return make


def _central(content: bytearray, member: bytes = b"model.weights.h5") -> int:
    """Where the entry of a member in the central directory begins."""
    return content.rindex(member) - 46


def _put(content: bytearray, at: int, form: str, value: int) -> None:
    struct.pack_into(form, content, at, value)


def _method(number: int) -> Callable[[bytearray], None]:
    return lambda c: _put(c, _central(c) + 10, "<H", number)


def _encrypted(c: bytearray) -> None:
    _put(c, _central(c) + 8, "<H", 1)


def _larger(c: bytearray) -> None:
    _put(c, _central(c) + 20, "<I", 1 << 30)
    _put(c, _central(c) + 24, "<I", 1 << 30)


def _offset(c: bytearray) -> None:
    _put(c, _central(c) + 42, "<I", len(c) - 30)


def _overlapping(c: bytearray) -> None:
    (start,) = struct.unpack_from("<I", c, _central(c, b"config.json") + 42)
    _put(c, _central(c) + 42, "<I", start)


def _long_name_in_front(c: bytearray) -> None:
    (start,) = struct.unpack_from("<I", c, _central(c) + 42)
    _put(c, start + 26, "<H", 60_000)


def _directory_elsewhere(c: bytearray) -> None:
    _put(c, c.rindex(b"PK\5\6") + 16, "<I", 1 << 31)


def _checksum(c: bytearray) -> None:
    at = _central(c, b"config.json")
    _put(c, at + 16, "<I", 1)


def _damaged(c: bytearray) -> None:
    (start,) = struct.unpack_from("<I", c, _central(c, b"config.json") + 42)
    c[start + 60 : start + 70] = b"\xff" * 10


def members(*entries: tuple[str | zipfile.ZipInfo, bytes]) -> Make:
    def make(folder: Path) -> list[Path]:
        with zipfile.ZipFile(folder / "net.keras", "w") as out:
            for name, content in entries:
                out.writestr(name, content)
        return [folder / "net.keras"]

    return make


def _link(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.create_system, entry.external_attr = 3, 0o120777 << 16
    return entry


_CONFIG = json.dumps(unusual_keras.sequential()).encode()
_META = b'{"keras_version": "3.3.3"}'
CASES |= {
    "keras-zip-method-deflate64": altered(_method(9)),
    "keras-zip-method-lzma": altered(_method(14)),
    "keras-zip-method-of-nobody": altered(_method(77)),
    "keras-zip-encrypted": altered(_encrypted),
    "keras-zip-member-larger-than-the-archive": altered(_larger),
    "keras-zip-member-outside": altered(_offset),
    "keras-zip-members-overlap": altered(_overlapping),
    "keras-zip-name-in-front-longer": altered(_long_name_in_front),
    "keras-zip-directory-elsewhere": altered(_directory_elsewhere),
    "keras-zip-checksum": altered(_checksum),
    "keras-zip-damaged": altered(_damaged, zipfile.ZIP_DEFLATED),
    "keras-zip-config-is-a-link": members(("metadata.json", _META), (_link("config.json"), b"/etc/passwd")),
    "keras-zip-weights-are-a-link": members(
        ("metadata.json", _META), ("config.json", _CONFIG), (_link("model.weights.h5"), b"/etc/passwd")
    ),
    "keras-zip-names-absolute": members(("/metadata.json", _META), ("/config.json", _CONFIG)),
    "keras-zip-names-outside": members(("../metadata.json", _META), ("../config.json", _CONFIG)),
    "keras-zip-config-is-a-folder": members(("metadata.json", _META), ("config.json/", b"")),
    "keras-zip-shards-outside": members(
        ("metadata.json", _META), ("config.json", _CONFIG),
        ("model.weights.json", b'{"weight_map": {"/layers/dense/vars": "../../w.h5"}}'),
    ),
    "keras-zip-shards-missing": members(
        ("metadata.json", _META), ("config.json", _CONFIG),
        ("model.weights.json", b'{"weight_map": {"/layers/dense/vars": "w.h5"}}'),
    ),
    "keras-zip-shards-of-nothing": members(
        ("metadata.json", _META), ("config.json", _CONFIG), ("model.weights.json", b'{"weight_map": 3}')
    ),
}  # fmt: skip

# Caffe ---------------------------------------------------------------------------------------------------------------

_NET, _BLOBS = unusual_caffe.NET, unusual_caffe.stored()
_HEAD = _NET.partition("layer {")[0].replace("dim: 1 dim: 3", "dim: 1 dim: 3 dim: 8 dim: 8")


def _one(body: str, head: str = _HEAD) -> Make:
    """A network of one layer."""
    return net(head + f'layer {{ name: "l" bottom: "x" top: "y" {body} }}')


def _blob(*fields: bytes) -> Make:
    """Weights of the plain network whose first blob has these fields."""
    inner = b"".join(fields)
    bias = message(7, message(7, message(1, varint(4))) + message(5, bytes(16)))
    return net(_NET, message(100, text(1, "ip") + text(2, "InnerProduct") + message(7, inner) + bias))


_DIMS = message(7, message(1, varint(4) + varint(3)))
_FLOATS = message(5, bytes(48))
_NEGATIVE = varint((1 << 64) - 1)
CASES |= {
    "caffe-gzipped": net(gzip.compress(_NET.encode())),
    "caffe-type-missing": net(_NET.replace('type: "ReLU"', ""), _BLOBS),
    "caffe-type-empty": net(_NET.replace('"ReLU"', '""'), _BLOBS),
    "caffe-v1-type-unknown": net(_NET.replace("layer {", "layers {").replace('type: "ReLU"', "type: RELUX").replace('"InnerProduct"', "INNER_PRODUCT"), _BLOBS),
    "caffe-no-bottom": net(_NET.replace('bottom: "ip" ', ""), _BLOBS),
    "caffe-no-top": net(_NET.replace('top: "y"', ""), _BLOBS),
    "caffe-bottom-of-nobody": net(_NET.replace('bottom: "ip"', 'bottom: "nobody"'), _BLOBS),
    "caffe-bottom-empty": net(_NET.replace('bottom: "ip"', 'bottom: ""'), _BLOBS),
    "caffe-top-twice": net(_NET.replace('top: "y"', 'top: "y" top: "y"'), _BLOBS),
    "caffe-two-bottoms-for-one": net(_NET.replace('bottom: "ip"', 'bottom: "ip" bottom: "x"'), _BLOBS),
    "caffe-cycle": net(_NET.replace('bottom: "x" top: "ip"', 'bottom: "y" top: "ip"') + 'layer { name: "p" type: "ReLU" bottom: "x" top: "q" }', _BLOBS),
    "caffe-nothing-but-comments": net("# a net\n# of comments\nname: 'net'\n"),
    "caffe-dim-0": net(_NET.replace("dim: 3", "dim: 0"), _BLOBS),
    "caffe-dim-negative": net(_NET.replace("dim: 3", "dim: -3"), _BLOBS),
    "caffe-dim-huge": net(_NET.replace("dim: 3", "dim: 9223372036854775807"), _BLOBS),
    "caffe-num-output-float": net(_NET.replace("num_output: 4", "num_output: 1e1"), _BLOBS),
    "caffe-num-output-nan": net(_NET.replace("num_output: 4", "num_output: nan"), _BLOBS),
    "caffe-num-output-0": net(_NET.replace("num_output: 4", "num_output: 0"), _BLOBS),
    "caffe-num-output-huge": net(_NET.replace("num_output: 4", "num_output: 4294967295"), _BLOBS),
    "caffe-num-output-beyond-32-bits": net(_NET.replace("num_output: 4", "num_output: 4294967300"), _BLOBS),
    "caffe-conv-kernel-0": _one('type: "Convolution" convolution_param { num_output: 2 kernel_size: 0 }'),
    "caffe-conv-stride-0": _one('type: "Convolution" convolution_param { num_output: 2 kernel_size: 3 stride: 0 }'),
    "caffe-conv-group-0": _one('type: "Convolution" convolution_param { num_output: 2 kernel_size: 3 group: 0 }'),
    "caffe-conv-group-that-does-not-divide": _one('type: "Convolution" convolution_param { num_output: 2 kernel_size: 3 group: 2 }'),
    "caffe-conv-pad-huge": _one('type: "Convolution" convolution_param { num_output: 2 kernel_size: 3 pad: 2147483647 }'),
    "caffe-conv-larger-than-its-input": _one('type: "Convolution" convolution_param { num_output: 2 kernel_size: 30 }'),
    "caffe-conv-kernel-of-four-numbers": _one('type: "Convolution" convolution_param { num_output: 2 kernel_size: [3, 3, 3, 3] }'),
    "caffe-pool-kernel-0": _one('type: "Pooling" pooling_param { pool: MAX kernel_size: 0 }'),
    "caffe-pool-unknown": _one('type: "Pooling" pooling_param { pool: WARP kernel_size: 2 }'),
    "caffe-reshape-of-two-unknowns": _one('type: "Reshape" reshape_param { shape { dim: -1 dim: -1 } }'),
    "caffe-reshape-that-does-not-fit": _one('type: "Reshape" reshape_param { shape { dim: 1 dim: 7 } }'),
    "caffe-slice-in-no-order": _one('type: "Slice" top: "z" top: "u" slice_param { axis: 1 slice_point: 2 slice_point: 1 }'),
    "caffe-slice-of-three-by-two": _one('type: "Slice" top: "z" slice_param { axis: 1 }'),
    "caffe-concat-axis-9": _one('type: "Concat" bottom: "x" concat_param { axis: 9 }'),
    "caffe-eltwise-coefficients": _one('type: "Eltwise" bottom: "x" eltwise_param { operation: SUM coeff: 1 }'),
    "caffe-permute-of-one-axis-twice": _one('type: "Permute" permute_param { order: 1 order: 1 }'),
    "caffe-lrn-of-an-even-size": _one('type: "LRN" lrn_param { local_size: 4 }'),
    "caffe-softmax-axis-9": _one('type: "Softmax" softmax_param { axis: 9 }'),
    "caffe-tile-0": _one('type: "Tile" tile_param { tiles: 0 }'),
    "caffe-tile-of-terabytes": _one('type: "Tile" tile_param { axis: 3 tiles: 2147483647 }'),
    "caffe-bool-unknown": _one('type: "InnerProduct" inner_product_param { num_output: 2 bias_term: maybe }'),
    "caffe-message-for-a-text": net(_NET.replace('type: "ReLU"', "type { a: 1 }"), _BLOBS),
    "caffe-message-for-texts": net(_NET.replace('bottom: "ip"', 'bottom: "ip" bottom { a: 1 }'), _BLOBS),
    "caffe-two-shapes-for-three": net('layer { name: "i" type: "Input" top: "a" top: "b" top: "c" input_param { shape { dim: 1 } shape { dim: 2 } } } layer { name: "r" type: "ReLU" bottom: "a" top: "y" }'),
    "caffe-no-inputs": net('layer { name: "r" type: "ReLU" top: "y" }'),
    "caffe-everything-silenced": net(_HEAD + 'layer { name: "s" type: "Silence" bottom: "x" }'),
    "caffe-priors-without-picture": _one('type: "PriorBox" prior_box_param { min_size: 8 }'),
    "caffe-priors-of-two-sizes": _one('type: "PriorBox" prior_box_param { min_size: 8 img_size: 8 img_h: 8 img_w: 8 }'),
    "caffe-priors-without-number": _one('type: "PriorBox" bottom: "x" prior_box_param { min_size: 8 aspect_ratio: [' + "2, " * 2000 + "2] }"),
    "caffe-layer-is-a-number": net("layer: 4\n" + _NET, _BLOBS),
    "caffe-detections-that-keep-nothing": _one('type: "DetectionOutput" bottom: "x" bottom: "x" detection_output_param { num_classes: 2 keep_top_k: 0 }'),
    "caffe-detections-without-priors": _one('type: "DetectionOutput" bottom: "x" bottom: "x" detection_output_param { num_classes: 2 }'),
    "caffe-message-for-a-number": net(_NET.replace("num_output: 4", "num_output { a: 4 }"), _BLOBS),
    "caffe-number-for-a-message": net(_NET.replace("inner_product_param { num_output: 4 }", "inner_product_param: 4"), _BLOBS),
    "caffe-brackets-do-not-match": net(_NET.replace("num_output: 4 }", "num_output: 4 >"), _BLOBS),
    "caffe-blob-dim-negative": _blob(message(7, message(1, varint(4) + _NEGATIVE)), _FLOATS),
    "caffe-blob-dims-overflow": _blob(message(7, message(1, varint(1 << 31) * 4)), _FLOATS),
    "caffe-blob-dim-0": _blob(message(7, message(1, varint(0) + varint(3))), b""),
    "caffe-blob-floats-of-7-bytes": _blob(_DIMS, message(5, bytes(47))),
    "caffe-blob-floats-and-doubles": _blob(_DIMS, _FLOATS, message(8, bytes(96))),
    "caffe-blob-without-data": _blob(_DIMS),
    "caffe-blob-of-gradients-alone": _blob(_DIMS, message(6, bytes(48))),
    "caffe-blob-shape-and-legacy-disagree": _blob(_DIMS, varint(1 << 3) + varint(7), message(5, bytes(28))),
    "caffe-blob-legacy-dims-negative": _blob(b"".join(varint(i << 3) + _NEGATIVE for i in (1, 2, 3, 4)), _FLOATS),
    "caffe-blob-shape-of-wrong-wire-type": _blob(varint(7 << 3) + varint(5), _FLOATS),
    "caffe-blob-data-of-wrong-wire-type": _blob(_DIMS, varint(5 << 3 | 1) + bytes(8)),
    "caffe-weights-varint-of-11-bytes": net(_NET, _BLOBS + b"\xf8\x3f" + b"\xff" * 10 + b"\x01"),
    "caffe-weights-field-0": net(_NET, _BLOBS + b"\x02\x01a"),
    "caffe-weights-group-never-ended": net(_NET, _BLOBS + b"\xf3\x3f"),
    "caffe-weights-name-of-invalid-utf-8": net(_NET, message(100, message(1, b"\xff\xfe") + message(7, _DIMS + _FLOATS))),
    "caffe-weights-empty": net(_NET, b""),
    "caffe-weights-of-layers-without-blobs": net(_NET, message(100, text(1, "ip") + text(2, "InnerProduct"))),
}  # fmt: skip


def snapshot(change: Callable[[h5py.File], object]) -> Make:
    """The plain network with weights as Caffe's HDF5 snapshots hold them, changed."""

    def make(folder: Path) -> list[Path]:
        (folder / "net.prototxt").write_text(_NET)
        with h5py.File(folder / "net.caffemodel.h5", "w") as file:
            file["data/ip/0"], file["data/ip/1"] = unusual_caffe.W, unusual_caffe.B
            change(file)
        return [folder / "net.prototxt", folder / "net.caffemodel.h5"]

    return make


def _exchanged(name: str, value: Any) -> Make:
    def change(file: h5py.File) -> None:
        del file[name]
        if value is not None:
            file[name] = value

    return snapshot(change)


CASES |= {
    "caffe-h5-without-data": snapshot(lambda f: f.move("data", "date")),
    "caffe-h5-blob-called-otherwise": snapshot(lambda f: f.move("data/ip/1", "data/ip/bias")),
    "caffe-h5-blob-missing-in-between": snapshot(lambda f: f.move("data/ip/1", "data/ip/2")),
    "caffe-h5-layer-is-an-array": _exchanged("data/ip", np.zeros(3, np.float32)),
    "caffe-h5-blob-is-text": _exchanged("data/ip/0", "text"),
    "caffe-h5-blob-of-other-shape": _exchanged("data/ip/0", np.zeros((5, 3), np.float32)),
    "caffe-h5-blob-is-a-link": _exchanged("data/ip/0", h5py.SoftLink("/data/ip/1")),
    "caffe-h5-data-is-a-link": _exchanged("data", h5py.ExternalLink("/etc/passwd", "/x")),
    "caffe-h5-layer-of-another-net": snapshot(lambda f: f.move("data/ip", "data/other")),
}

# Darknet -------------------------------------------------------------------------------------------------------------

_CFG = unusual_darknet.NET
_CONV = "[net]\nheight=8\nwidth=8\nchannels=3\n[convolutional]\nfilters=2\nsize=3\nstride=1\npad=1\nactivation=linear\n"
CASES |= {
    "darknet-gzipped": stored("net.cfg", gzip.compress(_CFG.encode())),
    "darknet-section-without-name": darknet(_CFG + "[]\n"),
    "darknet-section-never-closed": darknet(_CFG.replace("[connected]", "[connected")),
    "darknet-setting-before-a-section": darknet("height=1\n" + _CFG),
    "darknet-no-net": darknet("[connected]\noutput=4\n"),
    "darknet-net-twice": darknet(_CFG.replace("[connected]", "[net]\nheight=2\n[connected]")),
    "darknet-only-a-net": darknet(_CFG.partition("[connected]")[0]),
    "darknet-utf-16": stored("net.cfg", _CFG.encode("utf-16")),
    "darknet-filters-0": stored("net.cfg", (_CONV.replace("filters=2", "filters=0")).encode()),
    "darknet-filters-negative": stored("net.cfg", (_CONV.replace("filters=2", "filters=-2")).encode()),
    "darknet-size-0": stored("net.cfg", (_CONV.replace("size=3", "size=0")).encode()),
    "darknet-stride-0": stored("net.cfg", (_CONV.replace("stride=1", "stride=0")).encode()),
    "darknet-groups-that-do-not-divide": stored("net.cfg", (_CONV + "groups=2\n").encode()),
    "darknet-route-to-itself": stored("net.cfg", (_CONV + "[route]\nlayers=1\n").encode()),
    "darknet-route-of-nothing": stored("net.cfg", (_CONV + "[route]\nlayers=\n").encode()),
    "darknet-route-of-a-word": stored("net.cfg", (_CONV + "[route]\nlayers=first\n").encode()),
    "darknet-shortcut-before-the-first": stored("net.cfg", (_CONV + "[shortcut]\nfrom=-9\nactivation=linear\n").encode()),
    "darknet-yolo-mask-beyond": stored("net.cfg", (_CONV + "[yolo]\nmask=7,8,9\nanchors=1,2\nclasses=1\nnum=1\n").encode()),
    "darknet-yolo-of-other-channels": stored("net.cfg", (_CONV + "[yolo]\nmask=0\nanchors=1,2\nclasses=80\nnum=1\n").encode()),
    **{
        f"darknet-{name}": stored("net.cfg", (_CONV + sections).encode())
        for name, sections in {
            "route-groups-that-do-not-divide": "[route]\nlayers=-1\ngroups=3\ngroup_id=0\n",
            "shortcut-from-nothing": "[shortcut]\nactivation=linear\n",
            "shortcut-weights-unknown": "[shortcut]\nfrom=-1\nweights_type=per_pixel\nactivation=linear\n",
            "shortcut-normalization-unknown": "[convolutional]\nfilters=2\nsize=1\nstride=1\nactivation=linear\n"
            "[shortcut]\nfrom=-2\nweights_type=per_feature\nweights_normalization=half\nactivation=linear\n",
            "scale-channels-of-a-picture": "[convolutional]\nfilters=2\nsize=1\nstride=1\nactivation=linear\n"
            "[scale_channels]\nfrom=-2\nactivation=linear\n",
            "sam-of-other-shape": "[maxpool]\nsize=2\nstride=2\n[sam]\nfrom=-2\nactivation=linear\n",
            "shares-no-convolution": "[maxpool]\nsize=2\nstride=2\n"
            "[convolutional]\nfilters=2\nsize=3\nstride=1\npad=1\nshare_index=1\nactivation=linear\n",
            "shares-weights-of-other-shape": "[convolutional]\nfilters=2\nsize=5\nstride=1\npad=1\nshare_index=0\nactivation=linear\n",
            "antialiasing": "[maxpool]\nsize=2\nstride=2\nantialiasing=1\n",
            "maxpool-of-more-channels": "[maxpool]\nmaxpool_depth=1\nout_channels=9\nsize=1\nstride=1\n",
            "reorg-extra": "[reorg]\nstride=2\nextra=5\n",
            "anchors-infinite": "[convolutional]\nfilters=6\nsize=1\nstride=1\nactivation=linear\n[yolo]\nmask=0\nanchors=inf,2\nclasses=1\nnum=1\n",
            "tree-that-is-not-there": "[convolutional]\nfilters=6\nsize=1\nstride=1\nactivation=linear\n"
            "[region]\nanchors=1,2\nclasses=1\nnum=1\ntree=none.tree\n",
            "number-beyond-32-bits": "[maxpool]\nsize=4294967298\nstride=1\n",
        }.items()
    },
    "darknet-weights-nan-sizes": darknet(_CFG.replace("output=4", "output=nan")),
    "darknet-weights-too-many": darknet(_CFG, unusual_darknet.stored() + bytes(40_000)),
}  # fmt: skip
