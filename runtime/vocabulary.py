"""What values an input takes beyond its type: which are indices and into how large a table, which keys a map has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from netferry.runtime.session import Port
from netferry.runtime.told_sizes import told_sizes
from netferry.schemas.ir import ir
from netferry.schemas.layers import static_shape
from netferry.schemas.model import Model

_CARRY = {"Cast", "Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Floor", "Clip", "Split"}


def index_bounds(graph: ir.Graph) -> dict[str, int]:
    """Return, for inputs of the graph that (cast, reshaped, transposed) become the indices of a Gather, the size of the
    smallest table that they index."""
    found: dict[str, int] = {}
    for value in graph.inputs:
        sizes = list(_tables(value))
        if value.name and sizes:
            found[value.name] = min(sizes)
    return found


def _tables(value: ir.Value) -> list[int]:
    sizes: list[int] = []
    queue, seen = [value], {value}
    while queue:
        for use in queue.pop().uses():
            node = use.node
            if node.op_type == "Gather" and use.idx == 1:
                table = node.inputs[0]
                if table is not None and table.is_initializer() and static_shape(table):
                    shape = static_shape(table)
                    sizes.append(shape[node.attributes.get_int("axis", 0) % len(shape)])
            elif node.op_type in _CARRY and use.idx == 0:
                for made in node.outputs:
                    if made not in seen:
                        seen.add(made)
                        queue.append(made)
    return [s for s in sizes if s > 0]


def map_keys(graph: ir.Graph) -> dict[str, list[int] | list[str]]:
    """Return, for inputs of the graph that are maps, the keys that their DictVectorizer knows."""
    found: dict[str, list[int] | list[str]] = {}
    for value in graph.inputs:
        for use in value.uses():
            attributes = use.node.attributes
            if use.node.op_type != "DictVectorizer" or not value.name:
                continue
            if "int64_vocabulary" in attributes:
                found[value.name] = [int(key) for key in attributes["int64_vocabulary"].as_ints()]
            elif "string_vocabulary" in attributes:
                found[value.name] = [str(key) for key in attributes["string_vocabulary"].as_strings()]
    return found


def declared(ports: Sequence[Port], model: Model) -> tuple[Port, ...]:
    """Return inputs with the sizes that the model knows: of what sequences and optionals hold, which onnxruntime does
    not tell, and the open ones that a weight decides (:func:`told_sizes`), by place or by the dimension's name."""
    shapes = {info.name: info.shape for info in model.inputs}
    told = told_sizes(model.graph)
    names = {port.shape[a]: n for port in ports for a, n in told.get(port.name, {}).items() if a < len(port.shape)}
    return tuple(_declared(port, shapes, told.get(port.name, {}), names) for port in ports)


def _declared(port: Port, shapes: Mapping[str, Any], told: Mapping[int, int], names: Mapping[Any, int]) -> Port:
    if "(" in port.dtype:
        return replace(port, shape=shapes[port.name] or ()) if port.name in shapes else port
    dims = [told.get(a, names.get(d, d) if isinstance(d, str) else d) for a, d in enumerate(port.shape)]
    return replace(port, shape=tuple(dims))
