"""Initializers that an exporter shared because they were equal, apart again.

torch's TorchScript exporter keeps one of several equal tensors (batch norms that are all 1 or 0, say) and hands it
to the others through Identity. They were parameters of their own, and have to train apart.
"""

from __future__ import annotations

from netferry.schemas.ir import ir
from netferry.schemas.layers import ROLE, Role, role_by_use, static_shape


def separate_copies(graph: ir.Graph) -> list[str]:
    """Give every Identity of an initializer that learns an initializer of its own; returns their names."""
    found = []
    for node in list(graph):
        if node.op_type != "Identity" or node.domain not in ("", "ai.onnx") or node.inputs[0] is None:
            continue
        source, made = node.inputs[0], node.outputs[0]
        if not source.is_initializer() or made.is_graph_output() or source.const_value is None or not made.name:
            continue
        if source.dtype is not None:
            made.dtype = source.dtype
        made.shape = ir.Shape(list(static_shape(source)))
        role = role_by_use(made)
        if role != Role.CONSTANT:
            separate(graph, made.name, source.const_value, role)
            found.append(made.name)
    return found


def separate(graph: ir.Graph, name: str, tensor: ir.TensorProtocol, role: Role) -> None:
    """Replace the Identity whose output is ``name`` by an initializer of that name."""
    node = next(n for n in graph if n.op_type == "Identity" and n.outputs[0].name == name)
    old = node.outputs[0]
    value = ir.Value(
        name=None, type=ir.TensorType(tensor.dtype), shape=ir.Shape(tensor.shape.numpy()), const_value=tensor
    )
    value.metadata_props[ROLE] = role.value
    old.replace_all_uses_with(value)
    graph.remove(node, safe=True)
    old.name = None
    value.name = name
    graph.register_initializer(value)
