"""Types and shapes for values that a file leaves without: the rules need element types and ranks."""

from __future__ import annotations

import onnx

from netferry.schemas.ir import ir
from netferry.schemas.tensors import filler_of

_SMALL = 1024


def annotate(model: ir.Model) -> None:
    """Fill in missing types and shapes by ONNX's shape inference; what is there already stays as it is.

    Weights above 1 KiB are left out of the inference: it does not need their values, and memory stays small.
    What cannot be inferred (operators of other domains) stays without.
    """
    if all(v.type is not None and (v.shape is not None or not _is_tensor(v)) for v in made_values(model.graph)):
        return
    inferred = inferred_copy(without_weights(model))
    if inferred is None:
        return  # a graph that no inference understands: rules refuse what they cannot know
    for mine, theirs in zip(made_values(model.graph), made_values(inferred.graph), strict=True):
        if mine.type is None:
            mine.type = theirs.type
        if mine.shape is None:
            mine.shape = theirs.shape


def without_weights(model: ir.Model) -> ir.Model:
    """Return a copy whose weights above 1 KiB are inputs instead."""
    copy = model.clone()
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
    # onnx's data propagation writes the elements of ConstantOfShape down one by one, however many they are
    follow = not any(node.op_type == "ConstantOfShape" for node in model.graph.all_nodes())
    try:
        proto = onnx.shape_inference.infer_shapes(ir.to_proto(model), strict_mode=False, data_prop=follow)
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError):
        return None
    return ir.from_proto(proto)


def _is_tensor(value: ir.Value) -> bool:
    return isinstance(value.type, ir.TensorType)


def made_values(graph: ir.Graph) -> list[ir.Value]:
    """Values made inside a graph: outputs of nodes, inputs of subgraphs."""
    inner = [v for sub in graph.subgraphs() for v in sub.inputs]
    return [*inner, *(v for node in graph.all_nodes() for v in node.outputs)]
