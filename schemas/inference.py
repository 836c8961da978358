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
    return len(node.input) < 2 or _has_sizes(node.input[1], types)


def _has_sizes(name: str, types: Types) -> bool:
    """Whether no size of a value is below 0, as far as they are known."""
    dims = types[name].tensor_type.shape.dim if name in types else ()
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
_SLICE = ("", "Slice")
"""ends it where a size of its input is below 0; too frequent to be kept from inference where none can be"""
_RULES = {**_CRASHING, _SLICE: lambda node, types: _has_sizes(node.input[0], types)}
_SIZING = frozenset((
    "AveragePool", "Col2Im", "ConstantOfShape", "Conv", "ConvInteger", "ConvTranspose", "DeformConv", "Expand",
    "LpPool", "MaxPool", "MaxUnpool", "OneHot", "Pad", "QLinearConv", "Resize", "Split", "Tile", "TopK", "Upsample",
))  # fmt: skip
"""operators whose outputs may get sizes below 0: of windows larger than their input, or told"""


def _key(node: onnx.NodeProto) -> tuple[str, str]:
    return "" if node.domain == "ai.onnx" else node.domain, node.op_type


def _late_slices(graph: onnx.GraphProto) -> dict[int, int]:
    """Slices behind what may give sizes below 0: their places, and how many others are behind one another before."""
    depth: dict[str, int] = {}  # of values: even behind Slices, odd where sizes were made since
    late: dict[int, int] = {}
    for i, node in enumerate(graph.node):
        reached = max((depth.get(name, 0) for name in node.input), default=0)
        key = _key(node)
        if key == _SLICE and reached and node.input:
            reached += reached % 2
            late[i] = reached // 2
        elif key[0] == "" and key[1] in _SIZING and reached % 2 == 0:
            reached += 1
        if reached:
            depth.update(dict.fromkeys(node.output, reached))
    return late


def safe_to_infer(proto: onnx.ModelProto, *, data_prop: bool = False) -> onnx.ModelProto:
    """The message, or where its inference would crash a copy that keeps the operators at fault from it.

    Types are told for the main graph alone: in bodies and functions the operators are always left out (Slices never).
    ``data_prop`` is what inference will be asked for: sizes are then told by more.
    """
    holders = [*all_proto_graphs(proto), *proto.functions]
    late = _late_slices(proto.graph)
    if not late and not any(node.input and _key(node) in _CRASHING for holder in holders for node in holder.node):
        return proto
    out = onnx.ModelProto()
    out.CopyFrom(proto)
    moved = [
        (int(holder is out.graph), node)
        for holder in (*all_proto_graphs(out), *out.functions)
        for node in holder.node
        if node.input and _key(node) in _CRASHING
    ]
    moved += [(turn, out.graph.node[i]) for i, turn in late.items()]
    domains = {_ELSEWHERE + node.domain for _, node in moved}
    for holder in (out, *out.functions):
        holder.opset_import.extend(onnx.helper.make_opsetid(domain, 1) for domain in sorted(domains))
    pending = [(turn, node) for turn, node in moved if turn]
    for _, node in moved:
        node.domain = _ELSEWHERE + node.domain
    for now in range(1, _ROUNDS + 1):
        types = _types(out, data_prop) if pending else None
        if types is None:
            break
        safe = [node for turn, node in pending if turn <= now and _put_back(node, types)]
        pending = [(turn, node) for turn, node in pending if node.domain.startswith(_ELSEWHERE)]
        if not safe and all(turn <= now for turn, _ in pending):
            break
    return out if any(node.domain.startswith(_ELSEWHERE) for _, node in moved) else proto


def _types(proto: onnx.ModelProto, data_prop: bool) -> dict[str, onnx.TypeProto] | None:
    """Types of the main graph's values, as far as they are known; None where inference does not understand it."""
    try:
        inferred = bounded_by_size(
            lambda: onnx.shape_inference.infer_shapes(proto, data_prop=data_prop), proto.ByteSize()
        )
    except Exception:
        return None
    graph = inferred.graph
    types = {t.name: onnx.helper.make_tensor_type_proto(t.data_type, t.dims) for t in graph.initializer}
    told = (*graph.input, *graph.output, *graph.value_info)
    return types | {v.name: v.type for v in told if v.type.WhichOneof("value")}


def _put_back(node: onnx.NodeProto, types: Types) -> bool:
    """Give a node its own domain again where inference may have it."""
    domain, moved = node.domain.removeprefix(_ELSEWHERE), node.domain
    node.domain = domain
    if _RULES[_key(node)](node, types):
        return True
    node.domain = moved
    return False


def infer_shapes(proto: onnx.ModelProto, *, data_prop: bool = False) -> onnx.ModelProto:
    """onnx's inference, which leaves out what it does not know; operators that would crash it are left out too.

    Raises:
        InferenceError, ValueError, RuntimeError: it does not understand the graph.
    """
    safe = safe_to_infer(proto, data_prop=data_prop)
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
