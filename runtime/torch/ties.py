"""Initializers that an exporter shared because they were equal, apart again.

torch's TorchScript exporter keeps one of several equal tensors (batch norms that are all 1 or 0, say) and hands it
to the others through Identity. They were parameters of their own, and have to train apart.
"""

from __future__ import annotations

import numpy as np

from netferry.runtime.torch.naming import is_attribute
from netferry.schemas.copying import Stand, copied
from netferry.schemas.ir import ir
from netferry.schemas.layers import FLOATS, ROLE, Role, role_by_use, role_of, static_shape
from netferry.schemas.tensors import array_of, constant_tensor
from netferry.schemas.ties import shared_parameters

_MATRIX = 2
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


def record_roles(graph: ir.Graph) -> None:
    """Note what learns by what reads it now: at a higher opset something else may stand in between."""
    for value in graph.initializers.values():
        if ROLE not in value.metadata_props and (role := role_by_use(value)) is not Role.CONSTANT:
            value.metadata_props[ROLE] = role.value


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


def join_turned_copies(graph: ir.Graph) -> dict[str, str]:
    """Let products read a parameter through a Transpose where an exporter of torch folded that.

    ``x @ embedding.weight.T`` is written with a transposed copy of its own where constants are folded, and the two
    would train apart. Matrices that are the same in every bit, not all alike, are one parameter. Returns the names of
    the copies with those of the parameters.
    """
    if not any(node.op_type == "MatMul" for node in graph):
        return {}
    named: dict[tuple[int, ...], list[ir.Value]] = {}
    copies: list[ir.Value] = []
    for name, value in graph.initializers.items():
        matrix = value.const_value is not None and value.shape is not None and len(value.shape) == _MATRIX
        if matrix and value.dtype in FLOATS:
            if is_attribute(name):
                named.setdefault(static_shape(value), []).append(value)
            elif all(use.node.op_type == "MatMul" and use.idx == 1 and use.node.graph is graph for use in value.uses()):
                copies.append(value)
    joined: dict[str, str] = {}
    for copy in copies:
        for one in named.get(static_shape(copy)[::-1], []):
            if role_of(one) is Role.LEARNABLE and _is_turned(copy, one):
                for use in list(copy.uses()):
                    turned = ir.Node("", "Transpose", [one], [ir.AttrInt64s("perm", [1, 0])])
                    turned.outputs[0].type, turned.outputs[0].shape = copy.type, copy.shape
                    graph.insert_before(use.node, turned)
                    use.node.replace_input_with(use.idx, turned.outputs[0])
                joined[copy.name or ""] = one.name or ""
                break
    return joined


def _is_turned(a: ir.Value, b: ir.Value) -> bool:
    """Whether one matrix is the other, transposed, and not all of one number."""
    x, y = array_of(a), array_of(b)
    return x is not None and y is not None and bool((x != x.flat[0]).any()) and np.array_equal(x, y.T)
