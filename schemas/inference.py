"""Messages that onnx's shape inference may be given."""

from __future__ import annotations

import onnx
import onnx.helper
import onnx.shape_inference

from netferry.schemas.messages import all_proto_graphs
from netferry.schemas.watch import bounded_by_size

_CRASHING = ("EyeLike", "RegexFullMatch")
"""operators whose inference in onnx 1.23 ends the process where the type of their input is not known"""
_ELSEWHERE = "netferry.uninferred"


def safe_to_infer(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The message, or where its inference would crash a copy that keeps the operators at fault from it."""
    holders = [*all_proto_graphs(proto), *proto.functions]
    if not any(node.op_type in _CRASHING and node.input for holder in holders for node in holder.node):
        return proto
    out = onnx.ModelProto()
    out.CopyFrom(proto)
    out.opset_import.append(onnx.helper.make_opsetid(_ELSEWHERE, 1))
    for function in out.functions:
        function.opset_import.append(onnx.helper.make_opsetid(_ELSEWHERE, 1))
    for holder in (*all_proto_graphs(out), *out.functions):
        for node in holder.node:
            if node.op_type in _CRASHING and node.domain in ("", "ai.onnx"):
                node.domain = _ELSEWHERE
    try:
        graph = bounded_by_size(lambda: onnx.shape_inference.infer_shapes(out), out.ByteSize()).graph
    except Exception:
        return out
    typed = {v.name for v in (*graph.input, *graph.output, *graph.value_info) if v.type.WhichOneof("value")}
    typed |= {t.name for t in graph.initializer}
    read = {n.input[0] for g in holders for n in g.node if n.op_type in _CRASHING and n.input}
    return proto if read <= typed else out


def infer_shapes(proto: onnx.ModelProto, *, data_prop: bool = False) -> onnx.ModelProto:
    """onnx's inference, which leaves out what it does not know; operators that would crash it are left out too.

    Raises:
        InferenceError, ValueError, RuntimeError: it does not understand the graph.
    """
    safe = safe_to_infer(proto)
    try:
        out = bounded_by_size(
            lambda: onnx.shape_inference.infer_shapes(safe, strict_mode=False, data_prop=data_prop), safe.ByteSize()
        )
    except LookupError as error:  # of C++: a rank that an operator's rule takes for given
        raise RuntimeError(f"onnx's inference failed: {error}") from error
    if safe is not proto:
        for holder in (*all_proto_graphs(out), *out.functions):
            for node in holder.node:
                if node.domain == _ELSEWHERE:
                    node.ClearField("domain")
        for holder in (out, *out.functions):
            kept = [o for o in holder.opset_import if o.domain != _ELSEWHERE]
            del holder.opset_import[:]
            holder.opset_import.extend(kept)
    return out
