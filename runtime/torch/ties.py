"""Initializers that an exporter shared because they were equal, apart again.

torch's TorchScript exporter keeps one of several equal tensors (batch norms that are all 1 or 0, say) and hands it
to the others through Identity. They were parameters of their own, and have to train apart.
"""

from __future__ import annotations

from netferry.schemas.copying import Stand, copied
from netferry.schemas.ir import ir
from netferry.schemas.layers import ROLE, Role
from netferry.schemas.tensors import constant_tensor
from netferry.schemas.ties import shared_parameters

_CONSTANT = {ROLE: Role.CONSTANT.value}


def copied_apart(model: ir.Model) -> ir.Model:
    """Return a copy of a model in which such copies (see :func:`separate_copies`) have initializers of their own.

    Constants become initializers too: a node more for each takes its time.
    """
    apart: dict[ir.Node, Stand] = {
        s.node: (s.source.const_value, {ROLE: s.role.value})
        for s in shared_parameters(model.graph)
        if not s.tied and s.source.const_value is not None
    }
    for node in model.graph:
        if node.op_type == "Constant" and not node.outputs[0].is_graph_output():
            tensor = constant_tensor(node.outputs[0])
            if tensor is not None:
                apart[node] = tensor, _CONSTANT
    return copied(model, apart)


def separate_copies(graph: ir.Graph) -> list[str]:
    """Give every parameter that is an equal copy of another an initializer of its own; returns their names.

    Ties (see :mod:`netferry.schemas.ties`) stay.
    """
    found = []
    for shared in shared_parameters(graph):
        if not shared.tied and shared.source.const_value is not None:
            separate(graph, shared.node, shared.source.const_value, shared.role)
            found.append(shared.name)
    return found


def separate(graph: ir.Graph, node: ir.Node, tensor: ir.TensorProtocol, role: Role) -> None:
    """Replace an Identity by an initializer with the name of its output."""
    old = node.outputs[0]
    name = old.name
    value = ir.Value(
        name=None, type=ir.TensorType(tensor.dtype), shape=ir.Shape(tensor.shape.numpy()), const_value=tensor
    )
    value.metadata_props[ROLE] = role.value
    old.replace_all_uses_with(value)
    graph.remove(node, safe=True)
    old.name = None
    value.name = name
    graph.register_initializer(value)
