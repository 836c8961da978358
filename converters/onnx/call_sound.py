"""Do calls of an ONNX file's functions fit them, and do the nodes in there fit what the calls give?"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx

from netferry.errors import LimitExceeded, MalformedFile, quoted
from netferry.schemas.metadata import proto_nodes, proto_nodes_in

Bodies = Mapping[tuple[str, str, str], onnx.FunctionProto]
"""functions by domain, name and overload"""
_GIVEN_ANYWAY, _GIVEN_PER_CALL = 4_000, 8
"""different settings that functions may be called with: any file's, and for each call that is written down"""


def opset_of(holder: onnx.ModelProto | onnx.FunctionProto) -> int:
    """The version of ONNX's own operators, 0 where it is not told."""
    return next((o.version for o in holder.opset_import if o.domain in ("", "ai.onnx")), 0)


def functions_of(proto: onnx.ModelProto) -> Bodies:
    """The functions of a model by what calls name."""
    return {(f.domain, f.name, getattr(f, "overload", "")): f for f in proto.functions}


def call_key(node: onnx.NodeProto) -> tuple[str, str, str]:
    """What names a function, if the node calls one."""
    return node.domain, node.op_type, getattr(node, "overload", "")


def called(node: onnx.NodeProto, bodies: Bodies) -> onnx.FunctionProto | None:
    """The function that a node calls, None for an operator."""
    return bodies.get(call_key(node)) if bodies else None


def check_references(proto: onnx.ModelProto) -> None:
    """Raise where an attribute refers to one of the function around it, and there is none."""
    for holder in (proto.graph, *proto.functions):
        given: set[str] = set()
        if isinstance(holder, onnx.FunctionProto):
            given = {*holder.attribute, *(a.name for a in holder.attribute_proto)}
        for node in proto_nodes_in(holder):
            for attribute in node.attribute:
                if attribute.ref_attr_name and attribute.ref_attr_name not in given:
                    name, other = quoted(attribute.name), quoted(attribute.ref_attr_name)
                    reason = f"attribute {name} refers to {other}, which no function around it has"
                    raise MalformedFile(reason, layer=node.name or node.op_type)


def check_call(node: onnx.NodeProto, body: onnx.FunctionProto) -> None:
    """Raise where a call has more inputs or outputs than the function, or an attribute of another type."""
    for what, has, takes in (("inputs", node.input, body.input), ("outputs", node.output, body.output)):
        if len(has) > len(takes):
            raise MalformedFile(
                f"{len(has)} {what}, the function {quoted(body.name)} has {len(takes)}",
                layer=node.name or node.op_type,
            )
    kinds = {a.name: a.type for a in node.attribute}
    for inner in proto_nodes_in(body) if kinds else ():
        for attribute in inner.attribute:
            given = kinds.get(attribute.ref_attr_name, attribute.type)
            if attribute.ref_attr_name and given != attribute.type:
                said, name = onnx.AttributeProto.AttributeType.Name, quoted(attribute.ref_attr_name)
                raise MalformedFile(
                    f"attribute {name} is of type {said(given)}, the function {quoted(body.name)} takes "
                    f"{said(attribute.type)}",
                    layer=node.name or node.op_type,
                )


def check_given(proto: onnx.ModelProto, bodies: Bodies, check: Callable[[onnx.NodeProto, int], None]) -> None:
    """Look at nodes of functions again, with the settings that calls give: onnx's inference sees them so.

    Args:
        proto: the model, whose functions do not call themselves.
        bodies: its functions.
        check: raises where an operator, of a file of the given opset, does not fit its settings.

    Raises:
        LimitExceeded: functions that call functions, each in several ways, which doubles with each.
    """
    open_ = {
        key: [n for n in proto_nodes_in(f) if any(a.ref_attr_name for a in n.attribute)] for key, f in bodies.items()
    }
    if not any(open_.values()):
        return
    opset = opset_of(proto)
    calls = [n for n in proto_nodes(proto) if called(n, bodies)]
    pending = [node for node in calls if not any(a.ref_attr_name for a in node.attribute)]
    most = _GIVEN_ANYWAY + _GIVEN_PER_CALL * len(calls)
    seen: set[tuple[tuple[str, str, str], tuple[bytes, ...]]] = set()
    while pending:
        call = pending.pop()
        key = call_key(call)
        if not open_[key]:
            continue
        body = bodies[key]
        given = {a.name: a for a in (*body.attribute_proto, *call.attribute)}
        settings = tuple(given[name].SerializeToString(deterministic=True) for name in sorted(given))
        if (key, settings) in seen:
            continue
        seen.add((key, settings))
        if len(seen) > most:
            raise LimitExceeded(f"functions are called with more than {most} different settings")
        for node in open_[key]:
            filled = _filled(node, given)
            if called(filled, bodies):
                pending.append(filled)
            else:
                check(filled, opset_of(body) or opset)


def _filled(node: onnx.NodeProto, given: Mapping[str, onnx.AttributeProto]) -> onnx.NodeProto:
    """A node of a function as a call makes it; what is not given is left out, graphs are not copied."""
    filled = onnx.NodeProto(
        op_type=node.op_type, domain=node.domain, name=node.name, input=node.input, output=node.output
    )
    if overload := getattr(node, "overload", ""):
        filled.overload = overload
    for attribute in node.attribute:
        if attribute.ref_attr_name:
            if (value := given.get(attribute.ref_attr_name)) is not None:
                made = filled.attribute.add()
                made.CopyFrom(value)
                made.name = attribute.name
        elif attribute.HasField("g") or attribute.graphs:
            filled.attribute.add(name=attribute.name, type=attribute.type)
        else:
            filled.attribute.append(attribute)
    return filled
