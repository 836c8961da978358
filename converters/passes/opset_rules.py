"""The table of rules that carry one operator across one opset, and the builder that the rules write with.

A rule is registered for the version ``v`` at which an operator changed: ``@lower("Split", 18)`` turns a Split that
is valid at opset 18 into nodes valid at 17, ``@lift("Split", 18)`` turns one of 17 into one valid at 18. It either
changes the node where it stands and returns None, or returns the values that take the place of the node's outputs.
What a rule cannot do it refuses with :class:`Cannot`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from netferry.errors import MalformedFile
from netferry.schemas.graph import Builder, Dim, NamesInUse, Operand
from netferry.schemas.ir import ir
from netferry.schemas.layers import ROLE, Role
from netferry.schemas.tensors import array_of, constant_tensor
from netferry.schemas.walk import bodies_in, nodes_of


class Cannot(Exception):
    """One operator cannot be said at an opset; the argument says why."""


@dataclass
class Names:
    """All names in use in a model; shared by the builders of one conversion."""

    values: NamesInUse = field(default_factory=NamesInUse)
    nodes: NamesInUse = field(default_factory=NamesInUse)

    @classmethod
    def of(cls, graph: ir.Graph | ir.Function) -> Names:
        """Collect the names of a graph and its subgraphs."""
        names = cls()
        graphs: list[Any] = [graph, *bodies_in(graph)]
        for one in graphs:
            names.values.update(v.name or "" for v in one.inputs)
            names.values.update(getattr(one, "initializers", {}))
        for node in nodes_of(graph):
            names.nodes.add(node.name or "")
            names.values.update(v.name or "" for v in node.outputs)
        return names


class Rewriter(Builder):
    """A builder that writes in front of one node, at one opset.

    New nodes carry the metadata of the node that they replace, the last of them (or the one that stands for it)
    its name.

    Args:
        root: the main graph or function: initializers and the opset are there.
        node: the node that is rewritten.
        opset: the opset to write at.
        names: names in use.
    """

    def __init__(self, root: ir.Graph | ir.Function, node: ir.Node, opset: int, names: Names) -> None:
        super().__init__(node.name or node.op_type)
        imports = self.graph.opset_imports
        owner = node.graph
        if owner is None:
            raise AssertionError("the node is in no graph")
        self._main = root
        self._owner = owner
        self._taken, self._node_names = names.values, names.nodes
        self.node, self.opset = node, opset
        self.made: list[ir.Node] = []
        imports.update({**root.opset_imports, "": opset})

    @property
    def layer_name(self) -> str:
        """Prefix of new names: the node's own name."""
        return self.node.name or self.node.op_type

    def _append(self, node: ir.Node) -> None:
        node.name = self._node_names.free(f"{self.layer_name}/{node.op_type}")
        node.metadata_props.update(self.node.metadata_props)
        for i, value in enumerate(node.outputs):
            value.name = self.unique(f"{node.name}:{i}" if len(node.outputs) > 1 else f"{node.name}:0")
        self._owner.insert_before(self.node, node)
        self.made.append(node)

    def _initializer(self, name: str, tensor: ir.TensorProtocol, role: Role) -> ir.Value:
        unique = self.unique(name)
        tensor.name = unique
        if isinstance(self._main, ir.Function):  # functions hold no initializers
            node = ir.node("Constant", [], {"value": tensor}, num_outputs=1)
            node.outputs[0].type, node.outputs[0].shape = ir.TensorType(tensor.dtype), ir.Shape(tensor.shape.numpy())
            self._append(node)
            return node.outputs[0]
        value = ir.Value(
            name=unique, type=ir.TensorType(tensor.dtype), shape=ir.Shape(tensor.shape.numpy()), const_value=tensor
        )
        value.metadata_props[ROLE] = role.value
        self._main.register_initializer(value)
        return value

    # what rules ask of the node ----------------------------------------------------------------------------------

    def input_at(self, i: int) -> ir.Value | None:
        """The i-th input, None where it is left out."""
        if i >= len(self.node.inputs):
            return None
        value = self.node.inputs[i]
        return None if value is None or value.name == "" else value

    def data(self, i: int = 0) -> ir.Value:
        """The i-th input, which must be there."""
        value = self.input_at(i)
        if value is None:
            raise Cannot(f"input {i} is missing")
        return value

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute's value (str for strings, list for lists), or ``default``."""
        held = self.node.attributes.get(name)
        if held is None:
            return default
        if held.is_ref():
            raise Cannot(f"attribute {name} is a parameter of a function")
        return list(held.value) if isinstance(held.value, tuple) else held.value

    def constant(self, i: int, what: str) -> np.ndarray | None:
        """The i-th input's values; None where it is left out.

        Raises:
            Cannot: the input is computed at run time.
        """
        value = self.input_at(i)
        if value is None:
            return None
        array = fixed_array(value)
        if array is None:
            raise Cannot(f"{what} is computed at run time")
        return array

    def ints(self, i: int, what: str) -> list[int] | None:
        """The i-th input's values as a list of ints; None where it is left out."""
        array = self.constant(i, what)
        return None if array is None else [int(x) for x in array.reshape(-1)]

    def dims(self, value: ir.Value) -> tuple[Dim, ...]:
        """Dimensions of a value; the rank must be known."""
        if value.shape is None:
            raise Cannot("the rank of its input is not known")
        return tuple(d if isinstance(d, int) else d.value for d in value.shape)

    def rank(self, value: ir.Value) -> int:
        """Rank of a value; it must be known."""
        return len(self.dims(value))

    def size(self, value: ir.Value, axis: int) -> int:
        """Size of an axis; it must be known."""
        dim = self.dims(value)[axis]
        if not isinstance(dim, int):
            raise Cannot(f"the size of axis {axis} is dynamic")
        return dim

    def dtype(self, value: ir.Value) -> ir.DataType:
        """Element type of a value; it must be known."""
        if value.dtype is None:
            raise Cannot("the element type of its input is not known")
        return value.dtype

    # what rules do to the node -----------------------------------------------------------------------------------

    def set(self, **attributes: Any) -> None:
        """Set attributes of the node; None removes one."""
        for name, value in attributes.items():
            if value is None:
                self.node.attributes.pop(name, None)
            else:
                self.node.attributes[name] = ir.convenience.convert_attribute(name, value)

    def feed(self, i: int, operand: Operand, name: str = "const") -> None:
        """Set the i-th input of the node; constants become initializers called ``<node>.<name>``."""
        value = operand if operand is None or isinstance(operand, ir.Value) else self.const(operand, name)
        if i >= len(self.node.inputs):
            self.node.resize_inputs(i + 1)
        self.node.replace_input_with(i, value)

    def cut(self, count: int) -> None:
        """Keep the first ``count`` inputs; constants that nobody reads any more leave the graph."""
        dropped = [v for v in self.node.inputs[count:] if v is not None]
        if count < len(self.node.inputs):
            self.node.resize_inputs(count)
        for value in dropped:
            discard(value)

    def only(self, name: str, value: Any, why: str) -> None:
        """Remove an attribute whose value must be ``value`` (or left out); else refuse."""
        if self.attribute(name, value) != value:
            raise Cannot(why)
        self.set(**{name: None})

    def like(self, number: float, value: ir.Value) -> ir.Value:
        """A scalar constant of ``value``'s element type."""
        return self.const(np.array(number), dtype=self.dtype(value).numpy())

    def cast(self, value: ir.Value, to: ir.DataType) -> ir.Value:
        """Cast where the type differs."""
        return value if value.dtype == to else self.op("Cast", value, to=int(to))

    def infer(self) -> None:
        """Fill in types and shapes that the node's outputs lack, where ONNX's inference of the one node knows them."""
        known = [(value, value.type, value.shape) for value in self.node.outputs]
        if all(kind is not None and shape is not None for _, kind, shape in known):
            return
        if any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in self.node.attributes.values()):
            return
        try:
            self.inference.tell(self.node, self.layer_name)
        except (MalformedFile, onnx.defs.SchemaError):
            return
        for value, kind, shape in known:
            value.type = value.type if kind is None else kind
            value.shape = value.shape if shape is None else shape


def fixed_array(value: ir.Value) -> np.ndarray | None:
    """Values of an initializer that no caller can override, or of a Constant node; None for anything else."""
    owner = value.graph
    if value.is_initializer() and value.is_graph_input() and isinstance(owner, ir.Graph) and not _listed(owner):
        return None
    tensor = value.const_value
    if tensor is None:
        node = value.producer()
        if node is None or node.op_type != "Constant" or node.domain not in ("", "ai.onnx"):
            return None
        if any(a.is_ref() for a in node.attributes.values()):
            return None
        tensor = constant_tensor(value)
    return array_of(tensor)


def _listed(graph: ir.Graph) -> bool:
    """Whether every initializer is listed among the inputs, as IR < 4 demanded: then that says nothing."""
    return all(v.is_graph_input() for v in graph.initializers.values())


def discard(value: ir.Value) -> None:
    """Remove a constant that nobody reads from its graph."""
    if value.uses() or value.is_graph_output():
        return
    owner = value.graph
    if value.is_initializer() and isinstance(owner, ir.Graph):
        if not value.is_graph_input():
            owner.initializers.pop(value.name or "", None)
        return
    node = value.producer()
    if node is not None and node.op_type == "Constant" and node.domain in ("", "ai.onnx") and node.graph is not None:
        node.graph.remove(node, safe=True)


Rule = Callable[[Rewriter], "ir.Value | Sequence[ir.Value] | None"]
LOWER: dict[tuple[str, int], Rule] = {}
LIFT: dict[tuple[str, int], Rule] = {}
REMOVED: dict[str, Rule] = {}
"""operators that were experimental and are gone, or came back with other attributes"""


def _into(table: dict[tuple[str, int], Rule], ops: str, versions: Sequence[int]) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        for op in ops.split():
            for version in versions:
                if (op, version) in table:
                    raise AssertionError(f"two rules for {op} {version}")
                if not onnx.defs.has(op):
                    raise AssertionError(f"no operator {op}")
                table[op, version] = rule
        return rule

    return register


def lower(ops: str, *versions: int) -> Callable[[Rule], Rule]:
    """Register a rule that turns ``ops`` as of opset ``version`` into nodes of the opset before."""
    return _into(LOWER, ops, versions)


def lift(ops: str, *versions: int) -> Callable[[Rule], Rule]:
    """Register a rule that turns ``ops`` as of the opset before ``version`` into nodes of ``version``."""
    return _into(LIFT, ops, versions)


def removed(op: str) -> Callable[[Rule], Rule]:
    """Register a rule that writes an experimental operator of old opsets as nodes of opset 11."""

    def register(rule: Rule) -> Rule:
        if op in REMOVED:
            raise AssertionError(f"two rules for {op}")
        REMOVED[op] = rule
        return rule

    return register
