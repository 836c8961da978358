"""ONNX files that runtimes take though onnx's checker does not: what is missing or out of order is put right, and told.

Exporters wrote such files: nodes after those that read them, several nodes of one name, graphs without a name, outputs
without a shape, dimensions of -1, external data with further entries.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from graphlib import TopologicalSorter

import onnx
import onnx.helper

from netferry.converters.onnx.sparse import make_functions_dense, seen_dense
from netferry.errors import MalformedFile, quoted
from netferry.schemas.inference import infer_shapes
from netferry.schemas.ir import ir
from netferry.schemas.layers import read_by
from netferry.schemas.messages import Parts
from netferry.schemas.model import Note

_KNOWN = {"location", "offset", "length", "checksum"}
"""what an entry of external data may say (onnx.proto)"""
_COUNTED = ("Loop", "Scan")
"""operators whose least number of inputs counts those that are left out"""
_NUMBERS = ("offset", "length")


def mend_message(proto: onnx.ModelProto, parts: Parts) -> list[Note]:
    """Mend names, shapes of outputs and external data in place; returns what was done.

    Raises:
        NetferryError: an entry of external data is there twice; a sparse constant of a function cannot be written out.
    """
    notes: list[Note] = []
    opened = 0
    for graph in parts.graphs:
        if not graph.name:
            graph.name = "graph"
        notes += _distinct(graph.node)
        for tensor in graph.initializer:
            _only_known(tensor)
        values = [*graph.input, *graph.output, *graph.value_info]
        opened += _open_dims(values)
        if proto.producer_name == "pytorch":
            _number_dims(values)
    for function in proto.functions:
        notes += _distinct(function.node)
        opened += _open_dims(function.value_info)
    if opened:
        notes.append(Note("warning", f"{opened} dimensions of -1 were taken for open ones"))
    for holder in (proto, *proto.functions):
        _short_domain(holder)
    for node in parts.nodes:
        if node.domain == "ai.onnx":
            node.ClearField("domain")
        while node.output and not node.output[-1]:
            node.output.pop()  # none that is left out at the end; onnx_ir writes none
        while not node.domain and node.input and not node.input[-1] and node.op_type not in _COUNTED:
            node.input.pop()  # some kernels of onnxruntime take one that is left out at the end for one that is there
    for tensor, _ in parts.tensors:
        _only_known(tensor)
    if count := make_functions_dense(proto):
        notes.append(
            Note("warning", f"{count} sparse constants of functions, which crash onnxruntime, were written out")
        )
    _shape_outputs(proto)
    return notes


def mend_order(holders: Sequence[ir.Graph | ir.Function]) -> list[Note]:
    """Put the nodes of graphs and functions after those that make what they read; returns what was done.

    Raises:
        MalformedFile: there is no such order.
    """
    notes: list[Note] = []
    for holder in holders:
        if _in_order(holder):
            continue
        try:
            holder.sort()
        except ValueError:
            raise MalformedFile("the graph has a cycle", layer=holder.name) from None
        notes.append(Note("warning", f"the nodes of {quoted(holder.name)} were not in the order in which they run"))
    return notes


def _open_dims(values: Iterable[onnx.ValueInfoProto]) -> int:
    """Let dimensions of -1, as frameworks of Python write open ones, be unknown; returns how many there were."""
    count = 0
    for value in values:
        if value.type.WhichOneof("value") != "tensor_type":
            continue
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_value < 0:
                if dim.dim_value != -1:
                    raise MalformedFile(f"a dimension of {dim.dim_value}", layer=value.name)
                dim.ClearField("value")
                count += 1
    return count


def _number_dims(values: Iterable[onnx.ValueInfoProto]) -> None:
    """Let dimensions *named* 6 be of size 6: torch's exporter names those so that tracing fixed though asked not to."""
    for value in values:
        if value.type.WhichOneof("value") == "tensor_type":
            for dim in value.type.tensor_type.shape.dim:
                if dim.dim_param.isascii() and dim.dim_param.isdecimal() and len(dim.dim_param) < 18:
                    dim.dim_value = int(dim.dim_param)


def _distinct(nodes: Iterable[onnx.NodeProto]) -> list[Note]:
    """Give nodes of one name names of their own."""
    nodes = list(nodes)
    names = [node.name for node in nodes]
    taken = set(names)
    if len(taken) + max(0, names.count("") - 1) == len(names):
        return []
    seen: set[str] = set()
    changed = 0
    for node in nodes:
        if node.name in seen:
            number = changed + 1
            while f"{node.name}_{number}" in taken:
                number += 1
            node.name = f"{node.name}_{number}"
            taken.add(node.name)
            changed += 1
        if node.name:
            seen.add(node.name)
    return (
        [Note("warning", f"{changed} nodes had names that other nodes have too; a number was added")] if changed else []
    )


def _short_domain(holder: onnx.ModelProto | onnx.FunctionProto) -> None:
    """Import the standard domain as "" alone: inference, and the check of functions, do not take both names."""
    if not any(o.domain == "ai.onnx" for o in holder.opset_import):
        return
    imports = dict.fromkeys(("" if o.domain == "ai.onnx" else o.domain, o.version) for o in holder.opset_import)
    del holder.opset_import[:]
    holder.opset_import.extend(onnx.helper.make_opsetid(domain, version) for domain, version in imports)


def _only_known(tensor: onnx.TensorProto) -> None:
    if not tensor.external_data:
        return
    all_keys = [e.key for e in tensor.external_data]
    keys = [key for key in all_keys if key in _KNOWN]
    if len(set(keys)) != len(keys):
        raise MalformedFile("an entry of external data is there twice", layer=tensor.name)
    for entry in tensor.external_data:
        if not isinstance(entry.value, str):  # protobuf gives bytes for what is no UTF-8
            raise MalformedFile(f"external data with a {entry.key} that is not UTF-8", layer=tensor.name)
        if entry.key in _NUMBERS and not (entry.value.isascii() and entry.value.isdigit() and len(entry.value) < 20):
            reason = f"external data with {entry.key} {quoted(entry.value)}, which is no number of bytes"
            raise MalformedFile(reason, layer=tensor.name)
    if len(keys) != len(all_keys):
        entries = [e for e in tensor.external_data if e.key in _KNOWN]
        del tensor.external_data[:]
        tensor.external_data.extend(entries)


def _shape_outputs(proto: onnx.ModelProto) -> None:
    """Give outputs without a shape the one that onnx infers, where it can."""
    bare = [v for v in proto.graph.output if _shapeless(v)]
    if not bare:
        return
    try:
        inferred = infer_shapes(seen_dense(_in_sequence(proto), "sparse")).graph.output
    except Exception:  # what is wrong with the graph is told by the checks, in their words
        return
    known = {v.name: v for v in inferred if not _shapeless(v)}
    for value in bare:
        if value.name in known:
            value.type.CopyFrom(known[value.name].type)


def _in_sequence(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The message with the nodes of its main graph after those that make what they read, which inference needs."""
    nodes = proto.graph.node
    maker = {name: i for i, node in enumerate(nodes) for name in node.output if name}
    needs = {i: {maker[name] for name in _read(node) if name in maker} for i, node in enumerate(nodes)}
    if all(max(before, default=-1) < i for i, before in needs.items()):
        return proto
    order = list(TopologicalSorter(needs).static_order())
    out = onnx.ModelProto()
    out.CopyFrom(proto)
    del out.graph.node[:]
    out.graph.node.extend(nodes[i] for i in order)
    return out


def _read(node: onnx.NodeProto) -> Iterator[str]:
    """Names that a node and the bodies inside it read."""
    pending = [node]
    while pending:
        one = pending.pop()
        yield from one.input
        for attribute in one.attribute:
            for graph in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                yield from (value.name for value in graph.output)
                pending.extend(graph.node)


def _shapeless(value: onnx.ValueInfoProto) -> bool:
    kind = value.type.WhichOneof("value")
    return kind is None or (kind == "tensor_type" and not value.type.tensor_type.HasField("shape"))


def _in_order(holder: ir.Graph | ir.Function) -> bool:
    waiting = set(holder)
    for node in holder:
        for value in read_by(node):
            if value.producer() in waiting:
                return False
        waiting.discard(node)
    return True
