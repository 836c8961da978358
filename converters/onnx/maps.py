"""Types with maps in them (what scikit-learn's ZipMap gives), which onnx_ir does not know: kept beside the values.

A value of such a type has none in the graph; ``meta`` holds the message, which is put back when the graph is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx

from netferry.converters.onnx.structure_places import ir_places, proto_places
from netferry.schemas.ir import ir
from netferry.schemas.layers import TYPE_TEXT
from netferry.schemas.messages import described, has_map, map_text

_TYPE = "netferry.map_type"

Kept = dict[tuple[int, ...], dict[str, bytes]]


def take_map_types_out(proto: onnx.ModelProto, graphs: Iterable[onnx.GraphProto]) -> Kept:
    """Remove types with maps in them from a message of these graphs and return them by graph and name of the value."""
    kept: Kept = {}
    holders: list[onnx.GraphProto | onnx.FunctionProto] = [*graphs, *proto.functions]
    if not any(has_map(value.type) for holder in holders for value in described(holder)):
        return kept
    for place, graph in proto_places(proto):
        for value in described(graph):
            if has_map(value.type):
                kept.setdefault(place, {})[value.name] = value.type.SerializeToString()
                value.ClearField("type")
    return kept


def keep_map_types(model: ir.Model, kept: Kept) -> None:
    """Hang the types on the values of the graph made from the message."""
    if not kept:
        return
    for place, graph in ir_places(model):
        types = kept.get(place, {})
        for value in _made(graph) if types else ():
            if value.name in types:
                value.meta[_TYPE] = types[value.name]
                value.meta[TYPE_TEXT] = map_text(onnx.TypeProto.FromString(types[value.name]))


def put_map_types_back(model: ir.Model, proto: onnx.ModelProto) -> None:
    """Write what :func:`keep_map_types` kept into the message of the same model."""
    for (_, graph), (_, message) in zip(ir_places(model), proto_places(proto), strict=True):
        types = {v.name: v.meta[_TYPE] for v in _made(graph) if _TYPE in v.meta}
        if not types:
            continue
        told = set[str]()
        for value in described(message):
            told.add(value.name)
            if value.name in types:
                value.type.ParseFromString(types[value.name])
        for name, kind in types.items():
            if name not in told:
                message.value_info.add(name=name).type.ParseFromString(kind)


def _made(graph: ir.Graph | ir.Function) -> Iterator[ir.Value]:
    yield from graph.inputs
    for node in graph:
        yield from node.outputs
