"""Is an ONNX file's message sound? What protobuf and onnx_ir accept but leave ambiguous or believe unchecked."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import onnx
import onnx.defs

from netferry.converters.onnx.call_sound import call_key, functions_of
from netferry.converters.onnx.node_sound import check_calls, check_nodes
from netferry.converters.options import Limits
from netferry.errors import LimitExceeded, MalformedFile, UnsupportedError, UnsupportedOpset, quoted
from netferry.schemas.ir import ir
from netferry.schemas.messages import Parts
from netferry.schemas.metadata import all_nodes, proto_nodes_in
from netferry.schemas.tensors import byte_size

_INT32_TYPES = {
    "INT32", "INT16", "INT8", "INT4", "INT2", "UINT16", "UINT8", "UINT4", "UINT2", "BOOL", "FLOAT16", "BFLOAT16",
    "FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ", "FLOAT8E8M0", "FLOAT4E2M1", "FLOAT6E2M3",
    "FLOAT6E3M2",
}  # fmt: skip
"""types whose values lie in int32_data where they are not raw (comment of onnx.proto)"""
_SPARSE = (onnx.AttributeProto.SPARSE_TENSOR, onnx.AttributeProto.SPARSE_TENSORS)
_TYPES = {int(dtype): dtype for dtype in ir.DataType}
_PACKED = {"INT4": 2, "UINT4": 2, "FLOAT4E2M1": 2, "INT2": 4, "UINT2": 4}
"""elements per entry of int32_data"""


def check_message(proto: onnx.ModelProto, limits: Limits, apart: Mapping[int, int] | None = None) -> Parts:
    """Raise where the message is ambiguous, contradictory or beyond the limits; returns what it consists of.

    ``apart`` says of initializers of the main graph, by their number, how many raw bytes were left out of the message.

    Raises:
        MalformedFile: no graph, no IR version, a name or domain twice, values that do not fit their shape, nodes
            that contradict themselves.
        LimitExceeded: rank, dimension, or nodes once functions are expanded.
    """
    if not proto.HasField("graph"):
        raise MalformedFile("not an ONNX model: it has no graph")
    parts = Parts.of(proto)
    check_text(proto, parts)
    if not proto.HasField("ir_version") or proto.ir_version < 1:
        raise MalformedFile("not an ONNX model: it has no IR version")
    if proto.ir_version >= 3 and not proto.opset_import:
        raise MalformedFile("it imports no operator set")
    if not proto.graph.output:
        raise MalformedFile("the graph has no outputs")
    for opset in (o for holder in (proto, *proto.functions) for o in holder.opset_import):
        known = onnx.defs.onnx_opset_version()
        if opset.domain in ("", "ai.onnx") and opset.version > known:
            raise UnsupportedOpset(f"opset {opset.version} is newer than onnx {onnx.__version__} knows ({known})")
    for function in proto.functions:
        if any(o.domain in ("", "ai.onnx") and o.version < 1 for o in function.opset_import):
            raise MalformedFile("a function that imports no version of the operator set", layer=function.name)
    # skl2onnx imports a set twice, at the same version: that is clear
    _once(
        (domain for domain, _ in {(o.domain or "ai.onnx", o.version) for o in proto.opset_import}), "the operator set"
    )
    _once((f"{f.domain}.{f.name}:{getattr(f, 'overload', '')}" for f in proto.functions), "the function")
    for graph in parts.graphs:
        names = [t.name for t in graph.initializer] + [t.values.name for t in graph.sparse_initializer]
        _once(names, "the initializer")
        if "" in names:
            raise MalformedFile("an initializer has no name")
        _once((v.name for v in graph.input), "the input")
        left_out = apart if apart and graph is parts.graphs[0] else {}
        for i, tensor in enumerate(graph.initializer):
            _check_tensor(tensor, limits, raw_bytes=left_out.get(i))
        for sparse in graph.sparse_initializer:
            _check_sparse(sparse, limits)
        _check_defaults(graph)
    for attribute in parts.attributes:
        if attribute.type in _SPARSE:
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                _check_sparse(sparse, limits)
    for tensor, node in parts.tensors:
        _check_tensor(tensor, limits, node)
    check_nodes(proto, parts)
    _check_expansion(proto, limits)
    check_calls(proto)
    return parts


def check_text(proto: onnx.ModelProto, parts: Parts) -> None:
    """Raise where a name is not UTF-8, as onnx.proto demands: protobuf then gives bytes for text."""
    texts = _texts(proto, parts)
    if set(map(type, texts)) != {str}:
        text = next(t for t in texts if not isinstance(t, str))
        raise MalformedFile(f"a name or text is not UTF-8: {quoted(repr(text))}")


def _texts(proto: onnx.ModelProto, parts: Parts) -> list[object]:
    found: list[object] = [proto.producer_name, proto.producer_version, proto.domain, proto.doc_string]
    found += [opset.domain for opset in proto.opset_import]
    for function in proto.functions:
        found += (function.name, function.domain, function.doc_string, *function.input, *function.output)
        found += function.attribute
        found += _described(function.value_info)
    for holder in (proto, proto.graph, *proto.functions, *parts.nodes):
        if entries := holder.metadata_props:
            found += [text for entry in entries for text in (entry.key, entry.value)]
    for graph in parts.graphs:
        found += (graph.name, graph.doc_string)
        found += [text for tensor in graph.initializer for text in (tensor.name, tensor.doc_string)]
        found += _described([*graph.input, *graph.output, *graph.value_info])
    for node in parts.nodes:
        found += (node.name, node.op_type, node.domain, node.doc_string)
        found += node.input
        found += node.output
    found += [text for attribute in parts.attributes for text in (attribute.name, attribute.ref_attr_name)]
    return found


def _described(values: Iterable[onnx.ValueInfoProto]) -> Iterator[object]:
    for value in values:
        yield from (value.name, value.doc_string)
        if value.type.WhichOneof("value") == "tensor_type":
            for dim in value.type.tensor_type.shape.dim:
                yield dim.dim_param


def _once(names: Iterable[str], what: str) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise MalformedFile(f"{what} {quoted(name)} is there {count} times")


def _check_tensor(
    tensor: onnx.TensorProto, limits: Limits, node: str | None = None, raw_bytes: int | None = None
) -> None:
    where = tensor.name or node
    dtype, dims = _TYPES.get(tensor.data_type), list(tensor.dims)
    if dtype is None:
        raise MalformedFile(f"unknown element type {tensor.data_type}", layer=where)
    if len(dims) > limits.rank:
        raise LimitExceeded(f"a tensor of {len(dims)} axes (limit rank={limits.rank})", layer=where)
    for dim in dims:
        if dim < 0:
            raise MalformedFile(f"a tensor with dimension {dim}", layer=where)
        if dim > limits.dim:
            raise LimitExceeded(f"a dimension of {dim} (limit dim={limits.dim})", layer=where)
    if dtype == ir.DataType.UNDEFINED:
        raise MalformedFile("a tensor without an element type", layer=where)
    if tensor.HasField("segment"):
        raise UnsupportedError("a tensor in segments", layer=where)
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        if tensor.HasField("raw_data"):
            raise MalformedFile("its values lie in another file and in this one", layer=where)
        return
    count = math.prod(dims)
    if raw_bytes is None and math.prod(d or 1 for d in dims) >> 60:  # without elements too: NumPy makes no such array
        raise LimitExceeded(f"a tensor of shape {dims}", layer=where)
    if raw_bytes is None and tensor.HasField("raw_data"):
        raw_bytes = len(tensor.raw_data)
    if raw_bytes is not None:
        if dtype == ir.DataType.STRING:
            raise MalformedFile("a string tensor with raw data", layer=where)
        has, needs, unit = raw_bytes, byte_size(dtype, dims), "bytes"
    else:
        has, needs, unit = *_entries(tensor, dtype, count), "values"
    if has != needs:
        raise MalformedFile(f"shape {dims} needs {needs} {unit}, the file has {has}", layer=where)
    if raw_bytes is None and has and dtype in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16):
        for number in (min(tensor.int32_data), max(tensor.int32_data)):
            if not 0 <= number < 1 << 16:
                raise MalformedFile(f"{number} is no number of 16 bits", layer=where)


def _check_sparse(sparse: onnx.SparseTensorProto, limits: Limits) -> None:
    for tensor in (sparse.values, sparse.indices):
        if tensor.data_type or tensor.dims:
            _check_tensor(tensor, limits, sparse.values.name or None)
    if any(dim < 0 for dim in sparse.dims):
        raise MalformedFile(f"a sparse tensor of shape {list(sparse.dims)}", layer=sparse.values.name or None)


def _check_defaults(graph: onnx.GraphProto) -> None:
    """Raise where an initializer that is declared as an input has another type or other sizes than declared."""
    tensors = {t.name: t for t in graph.initializer}
    for value in graph.input:
        tensor, kind = tensors.get(value.name), value.type.tensor_type
        if tensor is None or not value.type.HasField("tensor_type"):
            continue
        dims = [d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim]
        sizes = list(tensor.dims)
        fits = len(dims) == len(sizes) and all(d in (None, n) for d, n in zip(dims, sizes, strict=True))
        if (kind.elem_type not in (0, tensor.data_type)) or (kind.HasField("shape") and not fits):
            raise MalformedFile("an initializer is not of the type and sizes that its input declares", layer=value.name)


def _entries(tensor: onnx.TensorProto, dtype: ir.DataType, count: int) -> tuple[int, int]:
    """(entries present, entries needed) of the typed field."""
    name = dtype.name
    if name in _INT32_TYPES:
        return len(tensor.int32_data), -(-count // _PACKED.get(name, 1))
    if name in ("FLOAT", "COMPLEX64"):
        return len(tensor.float_data), count * (2 if name == "COMPLEX64" else 1)
    if name in ("DOUBLE", "COMPLEX128"):
        return len(tensor.double_data), count * (2 if name == "COMPLEX128" else 1)
    if name == "STRING":
        return len(tensor.string_data), count
    return len(tensor.int64_data if name == "INT64" else tensor.uint64_data), count


def _check_expansion(proto: onnx.ModelProto, limits: Limits) -> None:
    """Functions that call functions double with each level; onnx and onnxruntime expand them all."""
    bodies = functions_of(proto)
    if not bodies:
        return
    cost: dict[tuple[str, str, str], int] = {}

    def calls(holder: onnx.GraphProto | onnx.FunctionProto) -> tuple[int, Counter[tuple[str, str, str]]]:
        own, called = 0, Counter[tuple[str, str, str]]()
        for node in proto_nodes_in(holder):
            key = call_key(node)
            own += key not in bodies
            called[key] += key in bodies
        return own, +called

    edges = {key: calls(body) for key, body in bodies.items()}
    waiting: list[tuple[str, str, str]] = list(bodies)
    open_: set[tuple[str, str, str]] = set()
    while waiting:
        key = waiting[-1]
        own, called = edges[key]
        missing = [k for k in called if k not in cost]
        if key in cost:
            waiting.pop()
        elif not missing:
            cost[key] = own + sum(n * cost[k] for k, n in called.items())
            open_.discard(key)
            waiting.pop()
        elif key in open_:
            raise MalformedFile(f"the function {quoted(key[1])} calls itself")
        else:
            open_.add(key)
            waiting += missing
    own, called = calls(proto.graph)
    total = own + sum(n * cost[k] for k, n in called.items())
    if total > limits.nodes:
        raise LimitExceeded(f"{total} nodes once functions are expanded (limit nodes={limits.nodes})")


def check_declared(model: ir.Model, known: set[str]) -> None:
    """Raise :class:`MalformedFile` where a node reads a value that nothing makes (``known`` names are let be)."""
    for node in all_nodes(model):
        for value in node.inputs:
            if value is None or value.producer() is not None or value.is_graph_input() or value.is_initializer():
                continue
            if value.name not in known:
                raise MalformedFile(f"reads {quoted(value.name)}, which nothing makes", layer=node.name or node.op_type)
    for value in model.graph.outputs:
        made = value.producer() is not None or value.is_graph_input() or value.is_initializer()
        if not made and value.name not in known:
            raise MalformedFile(f"the output {quoted(value.name)} is made by nothing")
