"""Layers: which node came from which layer of the source, and the table made of that.

Every node carries ``netferry.layer`` (the source layer's name) and ``netferry.layer_type`` in its metadata, every
initializer ``netferry.role``. Freezing, features, error messages and the layer table all speak these names.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from netferry.schemas.ir import ir
from netferry.schemas.walk import bodies_of

LAYER, LAYER_TYPE, ROLE = "netferry.layer", "netferry.layer_type", "netferry.role"
LIES = "netferry.lies"
"""On a node: how its (first) output lies, where the source may think of its axes in another order. JSON: ``order`` (for
each place the source's axis), ``channels`` (``first``, ``last``), ``flat`` (of a flattened tensor: the source's
``sizes`` and the ``order`` in which they lie)."""
TRAINING = "netferry.training"
"""metadata of an Identity or Dropout: what happens there in training, as JSON"""
TYPE_TEXT = "netferry.type"
"""in a value's ``meta``: its type as text, where the graph cannot hold it (maps)"""


class Role(StrEnum):
    """What an initializer is for."""

    LEARNABLE = "learnable"
    """trained by gradient descent: kernels, biases, scales"""
    STATE = "state"
    """changed by training but not by gradients: running means and variances"""
    CONSTANT = "constant"
    """never changed: shapes, axes, factors"""


_ROLES = {role.value: role for role in Role}
_STATE_SLOTS = {("BatchNormalization", 3), ("BatchNormalization", 4)}
_LEARNABLE_SLOTS = {
    ("Conv", 1), ("Conv", 2), ("ConvTranspose", 1), ("ConvTranspose", 2), ("Gemm", 0), ("Gemm", 1), ("Gemm", 2),
    ("BatchNormalization", 1), ("BatchNormalization", 2), ("InstanceNormalization", 1), ("InstanceNormalization", 2),
    ("LayerNormalization", 1), ("LayerNormalization", 2), ("GroupNormalization", 1), ("GroupNormalization", 2),
    ("PRelu", 1), ("LSTM", 1), ("LSTM", 2), ("LSTM", 3), ("LSTM", 7), ("GRU", 1), ("GRU", 2), ("GRU", 3),
    ("RNN", 1), ("RNN", 2), ("RNN", 3), ("DeformConv", 1), ("DeformConv", 3), ("RMSNormalization", 1),
}  # fmt: skip
_NORMS = ("BatchNormalization", "InstanceNormalization", "LayerNormalization", "GroupNormalization")
_ONES = {*((op, 1) for op in (*_NORMS, "RMSNormalization")), ("BatchNormalization", 4)}
_ZEROS = {*((op, 2) for op in (*_NORMS, "Conv", "ConvTranspose", "Gemm")), ("BatchNormalization", 3), ("LSTM", 3),
          ("GRU", 3), ("RNN", 3)}  # fmt: skip
_OUTPUTS = {"MatMul", "Conv", "ConvTranspose"}
MOVERS = {"Identity", "Transpose", "Reshape", "Unsqueeze", "Squeeze", "Slice", "Concat", "Cast", "Flatten"}
"""operators that only move elements"""
_INT = {int}
_PARAMETER_NAME = re.compile(r"\.(\w+_)?(weight|bias)$")
FLOATS = {ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16}


def role_of(value: ir.Value) -> Role:
    """Return an initializer's role: as recorded, else from the operator slots that use it."""
    recorded = value.metadata_props.get(ROLE)
    return role_by_use(value) if recorded is None else _ROLES.get(recorded) or Role(recorded)


def role_by_use(value: ir.Value, source: ir.Value | None = None) -> Role:
    """Return an initializer's role as the operator slots that use it tell, whatever is recorded.

    ``source`` has the type and shape, where ``value`` is another name for it.

    A floating-point weight slot means learnable, a running-statistics slot state; what only moves elements on the way
    there (Transpose, Slice, Concat …) is looked through. A float of rank two or more that MatMul, Gather or Einsum
    reads is taken for learnable, so is a vector added to a product with a weight, a number per channel added to a
    convolution, and so is one that is called ``….weight`` or ``….bias``, as torch's exporters keep the names of
    parameters; anything else is constant.
    """
    slots = _slots(value, 6)
    if slots & _STATE_SLOTS:
        return Role.STATE
    typed = source or value
    if typed.dtype not in FLOATS:
        return Role.CONSTANT
    if slots & _LEARNABLE_SLOTS:
        return Role.LEARNABLE
    rank = len(typed.shape) if typed.shape is not None else 0
    if rank >= 2 and any(op in ("MatMul", "Gather", "Einsum") for op, _ in slots):
        return Role.LEARNABLE
    if rank and any(adds_to_product(use, static_shape(typed)) for use in value.uses()):
        return Role.LEARNABLE
    return Role.LEARNABLE if rank >= 1 and _PARAMETER_NAME.search(value.name or "") else Role.CONSTANT


def filler_by_use(value: ir.Value) -> dict[str, object]:
    """How a parameter that lost its values is made up: scales and variances 1, shifts and means 0, kernels drawn."""
    slots = _slots(value, 6)
    if slots & _ONES:
        return {"type": "constant", "value": 1.0}
    if slots & _ZEROS or (len(static_shape(value)) < 2 and not slots & {("PRelu", 1)}):
        return {"type": "constant", "value": 0.0}
    return {}


def adds_to_product(use: Any, shape: Sequence[int]) -> bool:
    """Whether a use is the bias of a MatMul or a convolution with an initializer: a number per output of it."""
    if use.node.op_type != "Add" or use.node.domain not in ("", "ai.onnx") or len(use.node.inputs) != 2:
        return False
    other = use.node.inputs[1 - use.idx]
    product = None if other is None else other.producer()
    if product is None or product.op_type not in _OUTPUTS:
        return False
    held = next((i for i, v in enumerate(product.inputs[:2]) if v is not None and v.is_initializer()), None)
    if held is None or (held == 0 and product.op_type != "MatMul"):
        return False
    weight = static_shape(product.inputs[held])
    if product.op_type == "MatMul":
        if len(shape) == 1 and held:
            return True
        axis, outputs = (-1, weight[-1]) if held else (-2, weight[-2] if len(weight) > 1 else 0)
    else:
        groups = product.attributes["group"].as_int() if "group" in product.attributes else 1
        axis, outputs = 1 - len(weight), weight[0] if product.op_type == "Conv" else weight[1] * groups
    return len(shape) >= -axis and shape[axis] == outputs == math.prod(shape) > 1


def _slots(value: ir.Value, depth: int) -> set[tuple[str, int]]:
    """(operator, input) pairs that read a value, directly or behind operators that only move elements."""
    found: set[tuple[str, int]] = set()
    for node, idx in value.uses():
        if node.domain not in ("", "ai.onnx"):
            continue
        op = node.op_type
        if op not in MOVERS or (idx > 0 and op != "Concat"):
            found.add((op, idx))
        elif depth:
            found |= _slots(node.outputs[0], depth - 1)
    return found


@dataclass
class LayerRow:
    """One row of the layer table: a layer of the source with what it holds and gives."""

    name: str
    type: str
    nodes: list[ir.Node] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    """names of the layers (or graph inputs) that it reads"""
    outputs: list[ir.Value] = field(default_factory=list)
    """values that leave the layer: read by another layer, or outputs of the graph"""
    learnables: list[ir.Value] = field(default_factory=list)
    state: list[ir.Value] = field(default_factory=list)

    @property
    def learnable_count(self) -> int:
        """Number of scalar learnables."""
        return sum(count(v) for v in self.learnables)

    @property
    def state_count(self) -> int:
        """Number of scalar state values."""
        return sum(count(v) for v in self.state)


def static_shape(value: ir.Value) -> tuple[int, ...]:
    """Return the shape of an initializer, which is always static; as an input it may be declared with open sizes."""
    shape = value.shape
    if shape is None or not set(map(type, shape.dims)) <= _INT:
        shape = shape if value.const_value is None else value.const_value.shape
    return () if shape is None else sizes(shape)  # pyright: ignore[reportArgumentType]


def sizes(shape: ir.Shape) -> tuple[int, ...]:
    """Return the dimensions of a static shape; onnx_ir's ``numpy()`` tells the same, and takes longer."""
    dims: tuple[Any, ...] = shape.dims
    return dims if set(map(type, dims)) <= _INT else tuple(shape.numpy())


def count(value: ir.Value) -> int:
    """Return the number of elements of an initializer."""
    return math.prod(static_shape(value))


def layer_of(node: ir.Node) -> tuple[str, str]:
    """Return (name, type) of the layer that a node belongs to; an unstamped node is a layer of its own."""
    name = node.metadata_props.get(LAYER) or node.name
    if not name:  # many exporters leave nodes unnamed; their values have names
        name = next((v.name for v in node.outputs if v.name), "")
    return name, node.metadata_props.get(LAYER_TYPE) or node.op_type


def layer_table(graph: ir.Graph) -> list[LayerRow]:
    """Return the layers in graph order, the graph's inputs first (type ``Input``)."""
    rows: dict[str, LayerRow] = {}
    made_by: dict[ir.Value, str] = {}
    seen: set[tuple[str, ir.Value | str]] = set()  # a layer may have thousands of inputs
    for value in graph.inputs:
        if value.name in graph.initializers:
            continue  # IR < 4 lists initializers among the inputs
        rows[f"\0{value.name}"] = LayerRow(value.name or "", "Input", outputs=[value])
        made_by[value] = f"\0{value.name}"
    for node in graph:
        name, kind = layer_of(node)
        row = rows.setdefault(name, LayerRow(name, kind))
        row.nodes.append(node)
        for value in read_by(node):
            if value.is_initializer():
                held = {Role.LEARNABLE: row.learnables, Role.STATE: row.state}.get(role_of(value))
                if held is not None and (name, value) not in seen:
                    seen.add((name, value))
                    held.append(value)
            source = made_by.get(value)
            if source is not None and source != name and (name, shown := rows[source].name) not in seen:
                seen.add((name, shown))
                row.inputs.append(shown)
        for value in node.outputs:
            made_by[value] = name
    for key, row in rows.items():
        for node in row.nodes:
            for value in node.outputs:
                leaves = any(_outer_layer(use.node, graph) != key for use in value.uses())
                if value.is_graph_output() or leaves:
                    row.outputs.append(value)
    return list(rows.values())


def read_by(node: ir.Node) -> list[ir.Value]:
    """Values that a node reads, those that its subgraphs read included."""
    read = [value for value in node.inputs if value is not None]
    if node.attributes.data:
        for body in bodies_of(node):
            for inside in body:
                read += read_by(inside)
    return read


def graphs_of(attribute: ir.Attr) -> list[ir.Graph]:
    """The subgraphs that an attribute holds."""
    if attribute.is_ref():
        return []
    if attribute.type == ir.AttributeType.GRAPH:
        return [attribute.as_graph()]
    if attribute.type == ir.AttributeType.GRAPHS:
        return list(attribute.as_graphs())
    return []


def _outer_layer(node: ir.Node, graph: ir.Graph) -> str | None:
    """Layer of the node; for a node inside a subgraph its own stamp, which the builder sets alike."""
    return layer_of(node)[0]
