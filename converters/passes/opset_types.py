"""Types and shapes for values that a file leaves without: the rules need element types and ranks."""

from __future__ import annotations

import onnx

from netferry.schemas.copying import copied
from netferry.schemas.inference import infer_shapes
from netferry.schemas.ir import ir, own_errors
from netferry.schemas.layers import graphs_of
from netferry.schemas.messages import has_map, to_model
from netferry.schemas.tensors import filler_of
from netferry.schemas.walk import bodies_in, nodes_of

_SMALL = 1024


def annotate(model: ir.Model) -> None:
    """Fill in missing types and shapes by ONNX's shape inference; what is there already stays as it is.

    Weights above 1 KiB are left out of the inference: it does not need their values, and memory stays small.
    What cannot be inferred (operators of other domains) stays without.
    """
    if all(_is_known(v) for v in made_values(model.graph)):
        return
    with own_errors():
        skeleton = _skeleton(model)
    inferred = _inferred(skeleton, follow_data(model))
    if inferred is None:
        return  # a graph that no inference understands: rules refuse what they cannot know
    _take_over(model.graph, inferred.graph)


def _is_known(value: ir.Value) -> bool:
    return value.type is not None and (value.shape is not None or not isinstance(value.type, ir.TensorType))


def _skeleton(model: ir.Model) -> onnx.ModelProto:
    """What inference needs of a model: no metadata, large weights as inputs."""
    proto = onnx.ModelProto(ir_version=model.ir_version)
    for domain, version in model.opset_imports.items():
        proto.opset_import.add(domain=domain, version=version)
    for function in model.functions.values():
        ir.serde.serialize_function_into(proto.functions.add(), function)
    graph = proto.graph
    graph.name = model.graph.name or "graph"
    for value in model.graph.inputs:
        ir.serde.serialize_value_into(graph.input.add(), value)
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if tensor is not None and filler_of(tensor) is None and tensor.nbytes <= _SMALL:
            ir.serde.serialize_tensor_into(graph.initializer.add(), tensor)
            graph.initializer[-1].name = name
        elif tensor is not None and not value.is_graph_input():
            shape = [int(d) for d in tensor.shape.numpy()]
            graph.input.append(onnx.helper.make_tensor_value_info(name, int(tensor.dtype), shape))
    for node in model.graph:
        made = graph.node.add(
            op_type=node.op_type,
            domain=node.domain,
            input=["" if v is None else v.name or "" for v in node.inputs],
            output=[v.name or "" for v in node.outputs],
        )
        made.overload = node.overload
        for attribute in node.attributes.values():
            ir.serde.serialize_attribute_into(made.attribute.add(), attribute)
        for value in node.outputs:
            if value.type is not None and value.name and not value.is_graph_output():
                ir.serde.serialize_value_into(graph.value_info.add(), value)
    for value in model.graph.outputs:
        ir.serde.serialize_value_into(graph.output.add(), value)
    return proto


def _take_over(graph: ir.Graph, inferred: onnx.GraphProto) -> None:
    """Give values what inference knows of them; the two graphs have the same nodes in the same order."""
    found = {v.name: v for v in (*inferred.value_info, *inferred.input, *inferred.output)}
    for value in [*graph.inputs, *(v for node in graph for v in node.outputs)]:
        info = None if _is_known(value) else found.get(value.name or "")
        if info is None or not info.HasField("type") or has_map(info.type):
            continue
        if value.type is None:
            value.type = ir.serde.deserialize_type_proto_for_type(info.type)
        if value.shape is None:
            value.shape = ir.serde.deserialize_type_proto_for_shape(info.type)
    for node, theirs in zip(graph, inferred.node, strict=True):
        bodies = {a.name: [a.g, *a.graphs] for a in theirs.attribute if a.HasField("g") or a.graphs}
        for name, protos in bodies.items():
            inner = graphs_of(node.attributes[name])
            for mine, proto in zip(inner, protos[-len(inner) :], strict=True):
                _take_over(mine, proto)


def without_weights(model: ir.Model) -> ir.Model:
    """Return a copy whose weights above 1 KiB are inputs instead."""
    copy = copied(model)
    for name, value in list(copy.graph.initializers.items()):
        tensor = value.const_value
        if tensor is not None and (filler_of(tensor) is not None or tensor.nbytes > _SMALL):
            copy.graph.initializers.pop(name)
            value.const_value = None
            value.type, value.shape = ir.TensorType(tensor.dtype), ir.Shape(tensor.shape.numpy())
            if not value.is_graph_input():
                copy.graph.inputs.append(value)
    return copy


def inferred_copy(model: ir.Model) -> ir.Model | None:
    """Return a copy with ONNX's shape inference run over it; None for a graph that it does not understand."""
    with own_errors():
        proto = ir.to_proto(model)
    inferred = _inferred(proto, follow_data(model))
    return None if inferred is None else to_model(inferred)


def follow_data(model: ir.Model) -> bool:
    """Whether inference may follow values: of ConstantOfShape and Range onnx writes down all elements, one by one."""
    return not any(node.op_type in ("ConstantOfShape", "Range") for node in nodes_of(model.graph))


def _inferred(proto: onnx.ModelProto, follow: bool) -> onnx.ModelProto | None:
    try:
        return infer_shapes(proto, data_prop=follow)
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError):
        return None


def made_values(graph: ir.Graph) -> list[ir.Value]:
    """Values made inside a graph: outputs of nodes, inputs of subgraphs."""
    inner = [v for sub in bodies_in(graph) for v in sub.inputs]
    return [*inner, *(v for node in nodes_of(graph) for v in node.outputs)]
