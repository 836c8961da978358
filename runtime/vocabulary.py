"""Which inputs are indices, and into how large a table: values for them must lie inside."""

from __future__ import annotations

from netferry.schemas.ir import ir
from netferry.schemas.layers import static_shape

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
