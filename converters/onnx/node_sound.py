"""Are an ONNX file's nodes sound? What onnx's checker lets pass, though no runtime can compute it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import onnx

from netferry.errors import MalformedFile, quoted

Function = tuple[str, str, str]


def check_nodes(proto: onnx.ModelProto) -> None:
    """Raise where a node contradicts itself, its branches or the function that it calls.

    Raises:
        MalformedFile: an attribute twice; one that refers to a function's where there is none; a Constant of no value
            or two; more inputs or outputs than the function has; branches of an If that do not give what it gives; a
            convolution whose weights do not fit its settings.
    """
    bodies = {(f.domain, f.name, getattr(f, "overload", "")): f for f in proto.functions}
    for holder in (proto.graph, *proto.functions):
        given: set[str] = set()
        if isinstance(holder, onnx.FunctionProto):
            given = {*holder.attribute, *(a.name for a in holder.attribute_proto)}
        weights = {t.name: list(t.dims) for t in holder.initializer} if isinstance(holder, onnx.GraphProto) else {}
        for node in _nodes(holder):
            _check_attributes(node, given)
            body = bodies.get((node.domain, node.op_type, getattr(node, "overload", "")))
            if body is not None:
                _check_call(node, body)
            elif node.domain in ("", "ai.onnx") and node.op_type in _OPERATORS:
                _OPERATORS[node.op_type](node, weights)


def _nodes(holder: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.NodeProto]:
    pending: list[onnx.GraphProto | onnx.FunctionProto] = [holder]
    while pending:
        for node in pending.pop().node:
            yield node
            for attribute in node.attribute:
                pending += [attribute.g] if attribute.HasField("g") else attribute.graphs


def _check_attributes(node: onnx.NodeProto, given: set[str]) -> None:
    if len(node.attribute) > 1 and len({a.name for a in node.attribute}) < len(node.attribute):
        raise MalformedFile("an attribute is there twice", layer=node.name or node.op_type)
    for attribute in node.attribute:
        if attribute.ref_attr_name and attribute.ref_attr_name not in given:
            name, other = quoted(attribute.name), quoted(attribute.ref_attr_name)
            raise MalformedFile(
                f"attribute {name} refers to {other}, which no function around it has", layer=node.name or node.op_type
            )


def _check_call(node: onnx.NodeProto, body: onnx.FunctionProto) -> None:
    for what, has, takes in (("inputs", node.input, body.input), ("outputs", node.output, body.output)):
        if len(has) > len(takes):
            raise MalformedFile(
                f"{len(has)} {what}, the function {quoted(body.name)} has {len(takes)}",
                layer=node.name or node.op_type,
            )


def _check_constant(node: onnx.NodeProto, _weights: dict[str, list[int]]) -> None:
    if len(node.attribute) != 1:
        raise MalformedFile(
            f"a Constant has one attribute, its value; this one has {len(node.attribute)}",
            layer=node.name or (node.output[0] if node.output else None),
        )


def _check_branches(node: onnx.NodeProto, _weights: dict[str, list[int]]) -> None:
    for attribute in node.attribute:
        if attribute.HasField("g") and len(attribute.g.output) != len(node.output):
            raise MalformedFile(
                f"{quoted(attribute.name)} gives {len(attribute.g.output)} values, the node {len(node.output)}",
                layer=node.name or node.op_type,
            )


def _check_convolution(node: onnx.NodeProto, weights: dict[str, list[int]]) -> None:
    """Groups and kernel as the weights have them (operator Conv: W is M x C/group x k1 x k2 …)."""
    settings = {a.name: a for a in node.attribute if not a.ref_attr_name}
    group = settings["group"].i if "group" in settings else 1
    if group < 1:
        raise MalformedFile(f"group={group} is not at least 1", layer=node.name or node.op_type)
    dims = weights.get(node.input[1]) if len(node.input) > 1 else None
    if dims is None:
        return
    divided = dims[0] if dims and node.op_type == "Conv" else 0
    kernel = list(settings["kernel_shape"].ints) if "kernel_shape" in settings else dims[2:]
    if divided % group or kernel != dims[2:]:
        raise MalformedFile(
            f"weights of shape {dims} do not fit group={group}, kernel_shape={kernel}", layer=node.name or node.op_type
        )


_OPERATORS: dict[str, Callable[[onnx.NodeProto, dict[str, list[int]]], None]] = {
    "Constant": _check_constant,
    "If": _check_branches,
    "Conv": _check_convolution,
    "ConvTranspose": _check_convolution,
}
