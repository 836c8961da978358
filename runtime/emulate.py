"""A half-precision graph in float32 that rounds as half precision does: after every operator.

onnxruntime has few kernels in float16 on processors, and none in bfloat16: it computes a whole float16 graph in
float32, and what would overflow or vanish on a GPU does not show. Here every value of the half type is rounded to it
and back by two Casts, which onnxruntime keeps where its optimizations are off. Sums inside an operator are in float32,
as GPUs form them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from netferry.errors import CheckFailed
from netferry.runtime.devices import runtime


def emulated(model: Any) -> Any:
    """Return the float32 ``onnx.ModelProto`` that rounds like ``model``, one in float16 or bfloat16.

    Inputs and outputs of the half type become float32. Subgraphs are taken as they are.
    """
    import onnx

    from netferry.schemas.inference import infer_shapes

    halves = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
    out = infer_shapes(model)
    graph = out.graph
    types = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.input, *graph.output)}
    types |= {t.name: t.data_type for t in graph.initializer}
    nodes = list(graph.node)
    del graph.node[:], graph.value_info[:]

    def rounded(name: str, kind: int, source: str) -> None:
        half = f"{name}:half"
        graph.node.append(onnx.helper.make_node("Cast", [source], [half], to=kind))
        graph.node.append(onnx.helper.make_node("Cast", [half], [name], to=onnx.TensorProto.FLOAT))

    for tensor in graph.initializer:
        if tensor.data_type in halves:
            values = onnx.numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type in halves:
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    given = {value.name for value in graph.input}
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t") and attribute.t.data_type in halves:
                values = onnx.numpy_helper.to_array(attribute.t).astype(np.float32)
                attribute.t.CopyFrom(onnx.numpy_helper.from_array(values, attribute.t.name))
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i in halves:
                attribute.i = onnx.TensorProto.FLOAT
        raw = {name: types[name] for name in node.output if types.get(name) in halves}
        for i, name in enumerate(node.output):
            if name in raw:
                node.output[i] = f"{name}:raw"
        graph.node.append(node)
        for name, kind in raw.items():
            rounded(name, kind, f"{name}:raw")
    _round_inputs(graph, {n: k for n, k in types.items() if n in given and k in halves}, rounded)
    return out


def _round_inputs(graph: Any, kinds: Mapping[str, int], rounded: Any) -> None:
    """Inputs of the half type are rounded first; what reads them reads the rounded ones."""
    if not kinds:
        return
    nodes = list(graph.node)
    del graph.node[:]
    for name, kind in kinds.items():
        rounded(f"{name}:rounded", kind, name)
    for node in nodes:
        for i, name in enumerate(node.input):
            if name in kinds:
                node.input[i] = f"{name}:rounded"
        graph.node.append(node)


Run = Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]


def as_it_is(model: Any, *, by_reference: bool = False) -> Run:
    """Return what runs a float32 ``onnx.ModelProto`` node by node, without onnxruntime's optimizations.

    Args:
        by_reference: let onnx.reference run it.

    Raises:
        MissingExtra: onnxruntime is not installed.
        CheckFailed: the graph is refused; also when it is run.
    """
    if by_reference:
        from netferry.runtime.sides import Reference

        return Reference(model.SerializeToString(), None, CheckFailed("onnxruntime does not run the model")).run
    ort = runtime()
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.add_session_config_entry("session.disable_prepacking", "1")
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's classes share no base of their own
        raise CheckFailed(f"the rounded graph does not load: {' '.join(str(error).split())[:300]}") from error
    names = [value.name for value in session.get_outputs()]

    def run(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        try:
            return dict(zip(names, session.run(names, dict(feeds)), strict=True))
        except Exception as error:
            raise CheckFailed(f"the rounded graph does not run: {' '.join(str(error).split())[:300]}") from error

    return run


def rounding(model: Any, *, by_reference: bool = False) -> Run:
    """Return what runs a half-precision model with its roundings; outputs of the half type come as float32.

    Raises:
        MissingExtra, CheckFailed: as :func:`as_it_is`.
    """
    run = as_it_is(emulated(model), by_reference=by_reference)
    return lambda feeds: run(in_float32(feeds))


def in_float32(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The inputs of a graph that was of half precision and is one of float32 now."""
    return {n: v.astype(np.float32) if getattr(v, "dtype", None) == np.float16 else v for n, v in feeds.items()}


def run_rounded(model: Any, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Run a half-precision model once with its roundings; see :func:`rounding`."""
    return rounding(model)(feeds)
