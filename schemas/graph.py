"""The builder: the one way in which importers make graphs.

It gives every value a type and a shape as soon as the value exists (by ONNX's own shape inference), stamps every
node with the layer it came from, keeps names unique and records the role of every initializer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, overload

import numpy as np

from netferry.schemas.ir import ir
from netferry.schemas.layers import LAYER, LAYER_TYPE, ROLE, Role
from netferry.schemas.node_inference import NodeInference
from netferry.schemas.tensors import array_tensor

CANONICAL_OPSET = 21
"""The opset of every graph that an importer makes; the writer lowers or raises from here."""
CANONICAL_IR = 10

Dim = int | str | None
"""A dimension: known, named (dynamic) or unknown."""
Operand = ir.Value | np.ndarray | float | int | Sequence[int] | Sequence[float] | None


def shape_of(value: ir.Value) -> tuple[Dim, ...]:
    """Return a value's dimensions as ints, names (dynamic) and None (unknown). The rank is known."""
    if value.shape is None:
        raise AssertionError(f"{value.name}: rank unknown")
    return tuple(d if isinstance(d, int) else d.value for d in value.shape)


class NamesInUse(set[str]):
    """Names that are taken; a free one is found without a search through all numbers that were given before."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[str, int] = {}

    def free(self, wanted: str) -> str:
        """Take and return ``wanted``, or with ``_1``, ``_2`` … where that is taken."""
        name, i = wanted, self._last.get(wanted, 0)
        while name in self:
            i += 1
            name = f"{wanted}_{i}"
        self._last[wanted] = i
        self.add(name)
        return name


class Builder:
    """Builds one graph at the canonical opset.

    Args:
        name: the graph's name.
        parent: the builder of the graph around, for a subgraph; names and the current layer are shared with it.
    """

    def __init__(self, name: str, *, parent: Builder | None = None) -> None:
        self.graph = ir.Graph([], [], nodes=[], opset_imports={"": CANONICAL_OPSET}, name=name)
        self._parent = parent
        self._root: Builder = parent._root if parent else self
        self._taken = NamesInUse() if parent is None else self._root._taken
        self._node_names = NamesInUse() if parent is None else self._root._node_names
        self._layer: tuple[str, str] | None = None if parent is None else parent._layer
        self._fresh: list[ir.Node] = []
        self._shared: dict[object, ir.Value] = {} if parent is None else self._root._shared
        self.inference: NodeInference = (
            self._root.inference if parent else NodeInference(self.graph.opset_imports, CANONICAL_IR)
        )

    # names -----------------------------------------------------------------------------------------------------

    def unique(self, wanted: str) -> str:
        """Reserve and return a value name: ``wanted``, or with ``_1``, ``_2`` … where that is taken.

        ``blob`` stands for a name without letters: ONNX has it for inputs and outputs that are not there.
        """
        return self._taken.free(wanted or "blob")

    def reserve(self, names: Iterable[str]) -> None:
        """Keep value names for later use with ``reserved=True``: nothing else gets them."""
        self._taken.update(names)

    @property
    def fresh(self) -> list[ir.Node]:
        """Nodes made so far in the current layer."""
        return self._fresh

    @property
    def layer_name(self) -> str:
        """Name of the layer being built (the graph's name outside any)."""
        return self._layer[0] if self._layer else (self.graph.name or "graph")

    @contextmanager
    def layer(self, name: str, kind: str) -> Iterator[None]:
        """Stamp every node made inside with the source layer's name and type.

        When the layer ends its nodes get their names: the one that holds learnables (else the last) is named like
        the layer, the others ``layer/Operator``.
        """
        outer, fresh = self._layer, self._fresh
        self._layer, self._fresh = (name, kind), []
        try:
            yield
        finally:
            self._name_nodes()
            self._layer, self._fresh = outer, fresh

    def _name_nodes(self) -> None:
        if not self._fresh:
            return
        name = self.layer_name
        main = next((n for n in self._fresh if _holds_learnables(n)), self._fresh[-1])
        for node in [main, *(n for n in self._fresh if n is not main)]:
            node.name = self._node_names.free(name if node is main else f"{name}/{node.op_type}")
        for node in self._fresh:
            for i, value in enumerate(node.outputs):
                if value.name is None:
                    value.name = self.unique(f"{node.name}:{i}")

    # values ----------------------------------------------------------------------------------------------------

    def input(
        self, name: str, shape: Sequence[Dim], dtype: ir.DataType = ir.DataType.FLOAT, *, reserved: bool = False
    ) -> ir.Value:
        """Add a graph input; ints are fixed dimensions, strings named dynamic ones."""
        value = ir.Value(
            name=name if reserved and name else self.unique(name),
            type=ir.TensorType(dtype),
            shape=ir.Shape(list(shape)),
        )
        self.graph.inputs.append(value)
        return value

    def output(self, value: ir.Value, name: str | None = None, *, reserved: bool = False) -> ir.Value:
        """Make ``value`` a graph output called ``name``.

        An Identity is put between where the value is an input, an initializer or an output already.
        """
        if value.is_graph_input() or value.is_initializer() or value.is_graph_output():
            value = self.op("Identity", value)
        if name is not None and value.name != name:
            self.rename(value, name, reserved=reserved)
        self.graph.outputs.append(value)
        return value

    def rename(self, value: ir.Value, name: str, *, reserved: bool = False) -> None:
        """Give a value a name of the source (a blob, a tensor)."""
        value.name = name if reserved and name else self.unique(name)

    def const(self, value: Operand, name: str = "const", *, dtype: np.dtype[Any] | type | None = None) -> ir.Value:
        """Add a constant initializer. Python ints become int64, floats float32, unless ``dtype`` says otherwise."""
        array = _as_array(value, dtype)
        return self._initializer(f"{self.layer_name}.{name}", array_tensor(array), Role.CONSTANT)

    def param(
        self,
        name: str,
        tensor: ir.TensorProtocol | np.ndarray,
        *,
        role: Role = Role.LEARNABLE,
        key: object | None = None,
        full_name: str | None = None,
    ) -> ir.Value:
        """Add a parameter called ``<layer>.<name>`` (or ``full_name``).

        ``key`` names a weight that several layers share: the second call with an equal key returns the first's
        value, so that the tie survives.
        """
        if key is not None and key in self._shared:
            return self._shared[key]
        if isinstance(tensor, np.ndarray):
            tensor = array_tensor(tensor)
        value = self._initializer(full_name or f"{self.layer_name}.{name}", tensor, role)
        if key is not None:
            self._shared[key] = value
        return value

    def _initializer(self, name: str, tensor: ir.TensorProtocol, role: Role) -> ir.Value:
        graph = self._root.graph
        unique = self.unique(name)
        tensor.name = unique
        value = ir.Value(
            name=unique, type=ir.TensorType(tensor.dtype), shape=ir.Shape(tensor.shape.numpy()), const_value=tensor
        )
        value.metadata_props[ROLE] = role.value
        graph.register_initializer(value)
        return value

    # nodes -----------------------------------------------------------------------------------------------------

    @overload
    def op(self, op_type: str, *inputs: Operand, outputs: Literal[1] = 1, **kwargs: Any) -> ir.Value: ...
    @overload
    def op(self, op_type: str, *inputs: Operand, outputs: int, **kwargs: Any) -> tuple[ir.Value, ...]: ...
    def op(
        self,
        op_type: str,
        *inputs: Operand,
        outputs: int = 1,
        domain: str = "",
        types: Sequence[tuple[ir.DataType, Sequence[Dim]]] | None = None,
        metadata: dict[str, str] | None = None,
        **attributes: Any,
    ) -> ir.Value | tuple[ir.Value, ...]:
        """Append a node and return its output, or a tuple of them where ``outputs`` is not 1.

        Args:
            op_type: the ONNX operator.
            inputs: values; None leaves an optional input out; numbers and arrays become constants.
            outputs: how many outputs.
            domain: the operator's domain; standard by default.
            types: (element type, shape) of each output, where inference cannot know them.
            metadata: further ``metadata_props`` of the node.
            attributes: the operator's attributes; None leaves one out.

        Raises:
            MalformedFile: the operands do not fit the operator (a file asks for an impossible layer).
        """
        values = [v if v is None or isinstance(v, ir.Value) else self.const(v) for v in inputs]
        while values and values[-1] is None:
            values.pop()
        given = {k: _attribute(k, v) for k, v in attributes.items() if v is not None}
        node = ir.node(op_type, values, given, domain=domain, num_outputs=outputs)
        if self._layer is not None:
            node.metadata_props[LAYER], node.metadata_props[LAYER_TYPE] = self._layer
        if metadata:
            node.metadata_props.update(metadata)
        if types is not None:
            for value, (dtype, shape) in zip(node.outputs, types, strict=True):
                value.type, value.shape = ir.TensorType(dtype), ir.Shape(list(shape))
        else:
            self.inference.tell(node, self.layer_name)
        for value in node.outputs:
            value.name = None
        self._append(node)
        return node.outputs[0] if outputs == 1 else tuple(node.outputs)

    def _append(self, node: ir.Node) -> None:
        if self._layer is None:
            node.name = self._node_names.free(f"{self.layer_name}/{node.op_type}")
            self.graph.append(node)
            for i, value in enumerate(node.outputs):
                value.name = self.unique(f"{node.name}:{i}")
        else:
            # the graph gives provisional names; the layer's end gives the final ones
            self.graph.append(node)
            for value in node.outputs:
                value.name = None
            self._fresh.append(node)

    # short forms -----------------------------------------------------------------------------------------------

    def reshape(self, x: ir.Value, dims: Sequence[int]) -> ir.Value:
        """Reshape to constant ``dims`` (0 copies, -1 infers)."""
        return self.op("Reshape", x, self.const(list(dims), "shape"))

    def subgraph(self, name: str) -> Builder:
        """Return a builder for the body of a Scan, Loop or If; initializers go to the main graph."""
        return Builder(name, parent=self)

    def finish(self) -> None:
        """Name what is still unnamed; a subgraph's nodes carry the layer that made them."""
        self._name_nodes()
        self._fresh = []


def _attribute(name: str, value: Any) -> Any:
    """Say at once what a list of whole numbers is: onnx_ir would find out slowly."""
    if isinstance(value, (list, tuple)) and value and all(type(v) is int for v in value):
        return ir.AttrInt64s(name, value)
    return value


def _holds_learnables(node: ir.Node) -> bool:
    return any(v is not None and v.metadata_props.get(ROLE) == Role.LEARNABLE.value for v in node.inputs)


def _as_array(value: Operand, dtype: np.dtype[Any] | type | None) -> np.ndarray:
    array = np.asarray(value)
    if dtype is not None:
        return array.astype(dtype)
    if isinstance(value, np.ndarray):
        return array
    return array.astype(np.int64 if array.dtype.kind in "iu" or array.size == 0 else np.float32)
