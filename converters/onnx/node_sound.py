"""Are an ONNX file's nodes sound? What onnx's checker lets pass, though no runtime can compute it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator

import onnx
import onnx.defs
import onnx.numpy_helper

from netferry.converters.onnx.learner_sound import check_grams, check_learner
from netferry.converters.onnx.words import check_words
from netferry.errors import MalformedFile, quoted
from netferry.schemas.messages import Parts


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
    if any(a.ref_attr_name for a in parts.attributes):
        _check_references(proto)
    bodies = {(f.domain, f.name, getattr(f, "overload", "")): f for f in proto.functions}
    weights = {t.name: t for t in proto.graph.initializer}
    opset = _opset(proto) if proto.opset_import else 1  # the first files told none
    nodes = list(_nodes(proto.graph)) if bodies else parts.nodes
    if opset < 1 and any(node.domain in ("", "ai.onnx") for node in nodes):
        raise MalformedFile("it imports no version of ONNX's operators, and has some")
    _check_operators(nodes, bodies, weights, opset)
    for function in proto.functions:  # where names are the function's own
        _check_operators(_nodes(function), bodies, {}, _opset(function) or opset)


def _opset(holder: onnx.ModelProto | onnx.FunctionProto) -> int:
    """The version of ONNX's own operators, 0 where it is not told."""
    return next((o.version for o in holder.opset_import if o.domain in ("", "ai.onnx")), 0)


def _check_operators(
    nodes: Iterable[onnx.NodeProto],
    bodies: dict[tuple[str, str, str], onnx.FunctionProto],
    weights: dict[str, onnx.TensorProto],
    opset: int,
) -> None:
    for node in nodes:
        body = bodies.get((node.domain, node.op_type, getattr(node, "overload", ""))) if bodies else None
        _check_values(node)
        if body is not None:
            _check_call(node, body)
        elif node.domain in ("", "ai.onnx"):
            op = node.op_type
            if not _takes(op, opset, len(node.input), len(node.output)):
                _check_count(node, opset)
            needed, types, given_up = _attributes(op, opset)
            if needed or node.attribute:
                _check_attributes(node, needed, types, given_up)
                check_words(node)
            if (check := _OPERATORS.get(op)) is not None:
                check(node, weights)
        elif node.domain == "ai.onnx.ml":
            check_learner(node)


@functools.lru_cache(4096)
def _takes(op: str, opset: int, inputs: int, outputs: int) -> bool:
    """Whether the operator has so many inputs and outputs, at the opset or (old files are behind theirs) before."""
    known = False
    while opset > 0:
        try:
            schema = onnx.defs.get_schema(op, opset, "")
        except onnx.defs.SchemaError:
            return not known  # not ONNX's, or not yet: told elsewhere
        known = True
        takes = schema.min_input <= inputs <= schema.max_input
        if takes and schema.min_output <= outputs <= schema.max_output:
            return True
        opset = schema.since_version - 1
        if opset == 0:
            return False
    return True


def _check_count(node: onnx.NodeProto, opset: int) -> None:
    """Raise where a node has too many or too few inputs or outputs, those at the end left out that have no name."""
    counts = []
    for names in (list(node.input), list(node.output)):
        while names and not names[-1]:
            names.pop()
        counts.append(len(names))
    if not _takes(node.op_type, opset, *counts):
        reason = f"{node.op_type} with {counts[0]} inputs and {counts[1]} outputs, which no version of it has"
        raise MalformedFile(reason, layer=node.name or node.op_type)


def _check_values(node: onnx.NodeProto) -> None:
    """Raise where an attribute, of whatever operator, says that it holds a message and holds none."""
    for attribute in node.attribute:
        field = _MESSAGES.get(attribute.type)
        if field is not None and not attribute.HasField(field) and not attribute.ref_attr_name:
            raise MalformedFile(f"attribute {quoted(attribute.name)} has no value", layer=node.name or node.op_type)


def _check_attributes(
    node: onnx.NodeProto, needed: frozenset[str], types: dict[str, set[int]], given_up: frozenset[str]
) -> None:
    """Raise where an attribute has another type than in the operator, or one that is needed lacks."""
    for attribute in node.attribute:
        kind, name = attribute.type, attribute.name
        if kind and name in types and kind not in types[name]:
            reason = f"{node.op_type} has no attribute {name} of type {_KINDS.AttributeType.Name(kind)}"
            raise MalformedFile(reason, layer=node.name or node.op_type)
    if needed:
        names = {a.name for a in node.attribute}
        missing = needed - names
        if missing and not names & given_up:  # else it is written as an older opset has it, which needs others
            raise MalformedFile(f"{node.op_type} needs {', '.join(sorted(missing))}", layer=node.name or node.op_type)


_KINDS = onnx.AttributeProto
_MESSAGES = {
    _KINDS.TENSOR: "t", _KINDS.GRAPH: "g", _KINDS.SPARSE_TENSOR: "sparse_tensor", _KINDS.TYPE_PROTO: "tp",
}  # fmt: skip
"""types of attributes whose value is a message, and the field that it lies in"""


@functools.lru_cache(1024)
def _attributes(op: str, opset: int) -> tuple[frozenset[str], dict[str, set[int]], frozenset[str]]:
    """What an operator needs at an opset, the types of the attributes that it has or had, and those that it gave up."""
    needed: frozenset[str] | None = None
    known, current = frozenset[str](), 0
    types: dict[str, set[int]] = {}
    while opset > 0:
        try:
            schema = onnx.defs.get_schema(op, opset, "")
        except onnx.defs.SchemaError:
            break
        if needed is None:
            needed = frozenset(name for name, a in schema.attributes.items() if a.required)
            known, current = frozenset(schema.attributes), schema.since_version
        for name, a in schema.attributes.items():
            if name not in known or schema.since_version == current:
                types.setdefault(name, set()).add(int(a.type.value))  # pyright: ignore[reportAttributeAccessIssue]
        opset = schema.since_version - 1
    return needed or frozenset(), types, frozenset(types) - known


def _check_references(proto: onnx.ModelProto) -> None:
    for holder in (proto.graph, *proto.functions):
        given: set[str] = set()
        if isinstance(holder, onnx.FunctionProto):
            given = {*holder.attribute, *(a.name for a in holder.attribute_proto)}
        for node in _nodes(holder):
            for attribute in node.attribute:
                if attribute.ref_attr_name and attribute.ref_attr_name not in given:
                    name, other = quoted(attribute.name), quoted(attribute.ref_attr_name)
                    reason = f"attribute {name} refers to {other}, which no function around it has"
                    raise MalformedFile(reason, layer=node.name or node.op_type)


def _nodes(holder: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.NodeProto]:
    pending: list[onnx.GraphProto | onnx.FunctionProto] = [holder]
    while pending:
        for node in pending.pop().node:
            yield node
            for attribute in node.attribute:
                pending += [attribute.g] if attribute.HasField("g") else attribute.graphs


def _check_call(node: onnx.NodeProto, body: onnx.FunctionProto) -> None:
    for what, has, takes in (("inputs", node.input, body.input), ("outputs", node.output, body.output)):
        if len(has) > len(takes):
            raise MalformedFile(
                f"{len(has)} {what}, the function {quoted(body.name)} has {len(takes)}",
                layer=node.name or node.op_type,
            )
    kinds = {a.name: a.type for a in node.attribute}
    for inner in _nodes(body) if kinds else ():
        for attribute in inner.attribute:
            given = kinds.get(attribute.ref_attr_name, attribute.type)
            if attribute.ref_attr_name and given != attribute.type:
                said, name = onnx.AttributeProto.AttributeType.Name, quoted(attribute.ref_attr_name)
                raise MalformedFile(
                    f"attribute {name} is of type {said(given)}, the function {quoted(body.name)} takes "
                    f"{said(attribute.type)}",
                    layer=node.name or node.op_type,
                )


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
    """Sizes of windows, and orders of norms, that the operators' texts know."""
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


_NUMBERS = {("LpNormalization", "p"): (1, 2), ("LRN", "size"): (1, 2**31 - 1)}
_VALUES = {
    "value", "sparse_value", "value_float", "value_floats", "value_int", "value_ints", "value_string", "value_strings",
}  # fmt: skip
_OPERATORS: dict[str, Callable[[onnx.NodeProto, dict[str, onnx.TensorProto]], None]] = {
    "Constant": _check_constant,
    "If": _check_branches,
    "Conv": _check_convolution,
    "ConvTranspose": _check_convolution,
    "LRN": _check_number,
    "LpNormalization": _check_number,
    "Resize": _check_scales,
    "Upsample": _check_scales,
    "TfIdfVectorizer": lambda node, _weights: check_grams(node),
}
