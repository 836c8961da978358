"""Are an ONNX file's nodes sound? What onnx's checker lets pass, though no runtime can compute it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable

import onnx
import onnx.defs
import onnx.numpy_helper

from netferry.converters.onnx.call_sound import (
    Bodies,
    called,
    check_call,
    check_given,
    check_references,
    functions_of,
    opset_of,
)
from netferry.converters.onnx.learner_sound import check_grams, check_learner
from netferry.converters.onnx.node_schema import check_schema, is_empty
from netferry.errors import MalformedFile, quoted
from netferry.schemas.messages import Parts
from netferry.schemas.metadata import proto_nodes_in


def check_nodes(proto: onnx.ModelProto, parts: Parts) -> None:
    """Raise where a node contradicts itself, its branches or the function that it calls.

    Args:
        proto: the model.
        parts: what it consists of.

    Raises:
        MalformedFile: an attribute twice; one that refers to a function's where there is none; a Constant of no value
            or two; more inputs or outputs than the function has; inputs, outputs or attributes that no version of
            the operator has; branches of an If that do not give what it gives; a convolution whose weights do not fit
            its settings; a word that the operator does not know; trees that are none, lists of a learner that do
            not fit together.
    """
    for node in parts.nodes:
        attributes = node.attribute
        if not node.op_type:
            raise MalformedFile("a node without an operator", layer=node.name or None)
        if len(attributes) > 1 and len({a.name for a in attributes}) < len(attributes):
            raise MalformedFile("an attribute is there twice", layer=node.name or node.op_type)
    if any(is_empty(a) for a in parts.attributes):
        node, name = next((n, a.name) for n in parts.nodes for a in n.attribute if is_empty(a))
        raise MalformedFile(f"attribute {quoted(name)} has no value", layer=node.name or node.op_type)
    if any(a.ref_attr_name for a in parts.attributes):
        check_references(proto)
    bodies = functions_of(proto)
    weights = {t.name: t for t in proto.graph.initializer}
    opset = opset_of(proto) if proto.opset_import else 1  # the first files told none
    nodes = list(proto_nodes_in(proto.graph)) if bodies else parts.nodes
    if opset < 1 and any(node.domain in ("", "ai.onnx") for node in nodes):
        raise MalformedFile("it imports no version of ONNX's operators, and has some")
    _check_operators(nodes, bodies, weights, opset)
    for function in proto.functions:  # where names are the function's own
        _check_operators(proto_nodes_in(function), bodies, {}, opset_of(function) or opset)


def _check_operators(
    nodes: Iterable[onnx.NodeProto],
    bodies: Bodies,
    weights: dict[str, onnx.TensorProto],
    opset: int,
) -> None:
    for node in nodes:
        body = called(node, bodies)
        if body is not None:
            check_call(node, body)
        else:
            _check_operator(node, opset, weights)


def _check_operator(node: onnx.NodeProto, opset: int, weights: dict[str, onnx.TensorProto]) -> None:
    if node.domain in ("", "ai.onnx"):
        check_schema(node, opset)
        if (check := _OPERATORS.get(node.op_type)) is not None:
            check(node, weights)
    elif node.domain == "ai.onnx.ml":
        check_schema(node, opset)
        check_learner(node)


def check_calls(proto: onnx.ModelProto) -> None:
    """Raise where a node of a function contradicts itself once it has the settings that a call gives.

    The functions must be known not to call themselves.
    """
    if proto.functions:
        check_given(proto, functions_of(proto), lambda node, opset: _check_operator(node, opset, {}))


def _check_constant(node: onnx.NodeProto, _weights: dict[str, onnx.TensorProto]) -> None:
    layer = node.name or (node.output[0] if node.output else None)
    if len(node.attribute) != 1:
        raise MalformedFile(f"a Constant has one attribute, its value; this one has {len(node.attribute)}", layer=layer)
    if node.attribute[0].name not in _VALUES:
        raise MalformedFile(f"a Constant has no attribute {quoted(node.attribute[0].name)}", layer=layer)
    sparse = node.attribute[0].sparse_tensor
    if node.attribute[0].HasField("sparse_tensor") and not (sparse.HasField("values") and sparse.HasField("indices")):
        raise MalformedFile("a sparse Constant without values or indices", layer=node.name or node.op_type)


def _check_branches(node: onnx.NodeProto, _weights: dict[str, onnx.TensorProto]) -> None:
    for attribute in node.attribute:
        if attribute.HasField("g") and len(attribute.g.output) != len(node.output):
            raise MalformedFile(
                f"{quoted(attribute.name)} gives {len(attribute.g.output)} values, the node {len(node.output)}",
                layer=node.name or node.op_type,
            )


def _check_convolution(node: onnx.NodeProto, weights: dict[str, onnx.TensorProto]) -> None:
    """Groups and kernel as the weights have them (operator Conv: W is M x C/group x k1 x k2 …)."""
    settings = {a.name: a for a in node.attribute if not a.ref_attr_name}
    group = settings["group"].i if "group" in settings else 1
    if group < 1:
        raise MalformedFile(f"group={group} is not at least 1", layer=node.name or node.op_type)
    tensor = weights.get(node.input[1]) if len(node.input) > 1 else None
    if tensor is None:
        return
    dims = list(tensor.dims)
    divided = dims[0] if dims and node.op_type == "Conv" else 0
    kernel = list(settings["kernel_shape"].ints) if "kernel_shape" in settings else dims[2:]
    if divided % group or kernel != dims[2:]:
        raise MalformedFile(
            f"weights of shape {dims} do not fit group={group}, kernel_shape={kernel}", layer=node.name or node.op_type
        )


def _check_number(node: onnx.NodeProto, _weights: dict[str, onnx.TensorProto]) -> None:
    """Sizes of windows, orders of norms and numbers of axes that the operators' texts know."""
    for attribute in node.attribute:
        low, high = _NUMBERS.get((node.op_type, attribute.name), (attribute.i, attribute.i))
        if not low <= attribute.i <= high and not attribute.ref_attr_name:
            reason = f"{attribute.name}={attribute.i} is not between {low} and {high}"
            raise MalformedFile(reason, layer=node.name or node.op_type)


def _check_scales(node: onnx.NodeProto, weights: dict[str, onnx.TensorProto]) -> None:
    """A picture is made no times, or less, as large."""
    tensor = weights.get(node.input[min(len(node.input), 3) - 1]) if node.input else None
    if tensor is None or tensor.data_type != onnx.TensorProto.FLOAT or not 1 <= math.prod(tensor.dims) <= 32:
        return
    if tensor.external_data or len(tensor.raw_data) not in (0, 4 * math.prod(tensor.dims)):
        return
    scales = onnx.numpy_helper.to_array(tensor).ravel().tolist()
    if not all(scale > 0 for scale in scales):
        raise MalformedFile(f"scales of {scales}, which must be above 0", layer=node.name or node.op_type)


_NUMBERS = {
    ("GatherND", "batch_dims"): (0, 31), ("LpNormalization", "p"): (1, 2), ("LRN", "size"): (1, 2**31 - 1),
    ("Split", "num_outputs"): (1, 65_536),
}  # fmt: skip
"""with others onnx's inference reads what is not there, or asks for all memory"""


def _check_equation(node: onnx.NodeProto, _weights: dict[str, onnx.TensorProto]) -> None:
    """onnx's inference comes to no end with some other characters."""
    text = next((a.s for a in node.attribute if a.name == "equation"), b"")
    if re.fullmatch(rb"[A-Za-z ,.>-]*", text) is None:
        reason = f"equation={quoted(text.decode('utf-8', 'backslashreplace'))} has other signs than letters , . ->"
        raise MalformedFile(reason, layer=node.name or node.op_type)


def _check_scan(node: onnx.NodeProto, _weights: dict[str, onnx.TensorProto]) -> None:
    """Lists are made that are as long as the number of scanned inputs."""
    count = next((a.i for a in node.attribute if a.name == "num_scan_inputs" and not a.ref_attr_name), 1)
    if not 1 <= count <= len(node.input):
        reason = f"num_scan_inputs={count} of {len(node.input)} inputs"
        raise MalformedFile(reason, layer=node.name or node.op_type)


def _check_split(node: onnx.NodeProto, weights: dict[str, onnx.TensorProto]) -> None:
    """onnx's inference reads a size for each output, and makes as many as are told."""
    _check_number(node, weights)
    told = next((a.i for a in node.attribute if a.name == "num_outputs" and not a.ref_attr_name), len(node.output))
    if told < len(node.output):
        raise MalformedFile(f"num_outputs={told} of {len(node.output)} outputs", layer=node.name or node.op_type)


_VALUES = {
    "value", "sparse_value", "value_float", "value_floats", "value_int", "value_ints", "value_string", "value_strings",
}  # fmt: skip
_OPERATORS: dict[str, Callable[[onnx.NodeProto, dict[str, onnx.TensorProto]], None]] = {
    "Constant": _check_constant,
    "If": _check_branches,
    "Conv": _check_convolution,
    "ConvTranspose": _check_convolution,
    "Einsum": _check_equation,
    "GatherND": _check_number,
    "LRN": _check_number,
    "LpNormalization": _check_number,
    "Resize": _check_scales,
    "Scan": _check_scan,
    "Split": _check_split,
    "Upsample": _check_scales,
    "TfIdfVectorizer": lambda node, _weights: check_grams(node),
}
