"""Messages that onnx's shape inference may be given."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx
import onnx.helper
import onnx.shape_inference

from netferry.schemas.messages import all_proto_graphs
from netferry.schemas.watch import bounded_by_size

_ELSEWHERE = "netferry.uninferred."
"""begins the domains that operators are moved to, which onnx then knows nothing of"""
_ROUNDS = 8
"""operators at fault behind one another that inference follows; files have one or two"""
Types = Mapping[str, onnx.TypeProto]


def _typed(node: onnx.NodeProto, types: Types) -> bool:
    return node.input[0] in types


def _has_places(node: onnx.NodeProto, types: Types) -> bool:
    """Whether the places that a GatherND reads have no size below 0, as windows larger than their input give."""
    dims = types[node.input[1]].tensor_type.shape.dim if len(node.input) > 1 and node.input[1] in types else ()
    return all(not dim.HasField("dim_value") or dim.dim_value >= 0 for dim in dims)


_CRASHING: dict[tuple[str, str], Callable[[onnx.NodeProto, Types], bool]] = {
    ("", "EyeLike"): _typed,
    ("", "GatherND"): _has_places,
    ("", "RegexFullMatch"): _typed,
    ("ai.onnx.ml", "DictVectorizer"): _typed,
    ("ai.onnx.ml", "LabelEncoder"): _typed,
    ("ai.onnx.ml", "TreeEnsemble"): _typed,
}
"""operators whose inference in onnx 1.23 ends the process, and what must be true of their inputs for it not to"""


def _rule(node: onnx.NodeProto) -> Callable[[onnx.NodeProto, Types], bool] | None:
    """What keeps a node's inference from a crash; None where nothing needs to."""
    return _CRASHING.get(("" if node.domain == "ai.onnx" else node.domain, node.op_type)) if node.input else None


def safe_to_infer(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The message, or where its inference would crash a copy that keeps the operators at fault from it.

    Types are told for the main graph alone: in bodies and functions the operators are always left out.
    """
    holders = [*all_proto_graphs(proto), *proto.functions]
    if not any(_rule(node) for holder in holders for node in holder.node):
        return proto
    out = onnx.ModelProto()
    out.CopyFrom(proto)
    moved = [
        (holder is out.graph, node)
        for holder in (*all_proto_graphs(out), *out.functions)
        for node in holder.node
        if _rule(node) is not None
    ]
    domains = {_ELSEWHERE + node.domain for _, node in moved}
    for holder in (out, *out.functions):
        holder.opset_import.extend(onnx.helper.make_opsetid(domain, 1) for domain in sorted(domains))
    pending = [node for main, node in moved if main]
    for _, node in moved:
        node.domain = _ELSEWHERE + node.domain
    for _ in range(_ROUNDS):
        types = _types(out) if pending else None
        if types is None:
            break
        safe = [node for node in pending if _put_back(node, types)]
        pending = [node for node in pending if node.domain.startswith(_ELSEWHERE)]
        if not safe:
            break
    return out if any(node.domain.startswith(_ELSEWHERE) for _, node in moved) else proto


def _types(proto: onnx.ModelProto) -> dict[str, onnx.TypeProto] | None:
    """Types of the main graph's values, as far as they are known; None where inference does not understand it."""
    try:
        graph = bounded_by_size(lambda: onnx.shape_inference.infer_shapes(proto), proto.ByteSize()).graph
    except Exception:
        return None
    types = {t.name: onnx.helper.make_tensor_type_proto(t.data_type, t.dims) for t in graph.initializer}
    told = (*graph.input, *graph.output, *graph.value_info)
    return types | {v.name: v.type for v in told if v.type.WhichOneof("value")}


def _put_back(node: onnx.NodeProto, types: Types) -> bool:
    """Give a node its own domain again where inference may have it."""
    domain, moved = node.domain.removeprefix(_ELSEWHERE), node.domain
    node.domain = domain
    rule = _rule(node)
    if rule is None or rule(node, types):
        return True
    node.domain = moved
    return False


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
                if node.domain.startswith(_ELSEWHERE):
                    node.domain = node.domain.removeprefix(_ELSEWHERE)
        for holder in (out, *out.functions):
            kept = [o for o in holder.opset_import if not o.domain.startswith(_ELSEWHERE)]
            del holder.opset_import[:]
            holder.opset_import.extend(kept)
    return out
