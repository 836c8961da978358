"""Names for dynamic dimensions of the inputs, where exporters left none or made one up."""

from __future__ import annotations

import re

from netferry.schemas.ir import ir
from netferry.schemas.metadata import all_graphs, all_nodes
from netferry.schemas.model import Model

_MADE_UP = re.compile(r"^(unk__\d+|\?|-1|None|s\d+|dim_\d+|.*_dynamic_axes_\d+|.*_dim_\d+|)$")


def name_dims(model: Model) -> list[str]:
    """Call the inputs' dynamic dimensions ``batch``, ``sequence``, ``height`` and ``width`` where it is known what
    they are and they have no name that somebody gave; returns the names given.

    Known are: axis 0, unless the operators that read it take a time there; height and width of a picture (rank 4, 1, 3
    or 4 channels); axis 1 of whole numbers (tokens) and of rank 3.
    """
    graph = model.graph
    renamed: dict[str, str] = {}
    given: list[str] = []
    for value in graph.inputs:
        if value.is_initializer() or value.shape is None:
            continue
        dims = list(value.shape)
        for axis, meaning in _known(value).items():
            dim, name = dims[axis], meaning
            if isinstance(dim, int) or (dim.value is not None and not _MADE_UP.match(dim.value)):
                continue
            if dim.value is not None:
                renamed.setdefault(dim.value, name)
                name = renamed[dim.value]
            dims[axis] = ir.SymbolicDim(name)
            given.append(name)
        value.shape = ir.Shape(dims)
    if renamed:
        for value in _values(model.ir):
            if value.shape is not None:
                value.shape = ir.Shape(
                    [
                        d if isinstance(d, int) else ir.SymbolicDim(renamed.get(d.value or "", d.value))
                        for d in value.shape
                    ]
                )
    return list(dict.fromkeys(given))


def _known(value: ir.Value) -> dict[int, str]:
    shape = list(value.shape or ())
    rank = len(shape)
    readers = {use.node.op_type for use in value.uses()}
    if rank == 0:
        return {}
    if readers & {"LSTM", "GRU", "RNN"} and rank == 3:
        return {0: "sequence", 1: "batch"}
    names = {0: "batch"}
    if rank == 4:
        if shape[1] in (1, 3, 4):
            names.update({2: "height", 3: "width"})
        elif shape[3] in (1, 3, 4):
            names.update({1: "height", 2: "width"})
    elif rank == 3 or (rank == 2 and value.dtype in (ir.DataType.INT64, ir.DataType.INT32)):
        names[1] = "sequence"
    return names


def _values(model: ir.Model) -> list[ir.Value]:
    found = [v for graph in all_graphs(model) for v in (*graph.inputs, *graph.outputs)]
    return [*found, *(v for node in all_nodes(model) for v in node.outputs)]
