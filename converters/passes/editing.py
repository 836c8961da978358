"""What every pass edits with: constants that may be relied on, nodes in order, values put in place of others.

A pass is a function ``(Edit) -> bool`` registered by :func:`graph_pass`. It edits the model, returns whether it
changed anything, and tells by :meth:`Edit.why` what it left alone and for which reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from netferry.converters.passes.dims import Dims
from netferry.converters.passes.opset_rules import Names, Rewriter
from netferry.schemas.ir import ir
from netferry.schemas.layers import ROLE, Role, layer_of
from netferry.schemas.model import Model
from netferry.schemas.surgery import detach
from netferry.schemas.tensors import array_tensor

Level = Literal["none", "safe", "full"]


@dataclass(frozen=True)
class Budget:
    """Bounds on what the passes may make; the reasons name them where they stop something."""

    grown_bytes: int = 1 << 20
    """size of one folded tensor that is larger than what it is made from"""
    folded_bytes: int = 1 << 30
    """size of one folded tensor, whatever it is made from"""
    total_bytes: int = 64 << 20
    """what all folding together may add to the model"""
    rounds: int = 40
    """how often all passes are run"""
    child_bytes: int = 1_500_000_000
    """size of a model that is still given to a program of others"""
    child_seconds: float = 300.0
    """time that such a program may take"""


@dataclass(frozen=True)
class Reason:
    """Why a pass left something alone."""

    name: str
    """the pass"""
    layer: str
    why: str


@dataclass
class Edit:
    """One run of the passes over one model."""

    model: Model
    level: Level
    budget: Budget
    target: int
    """the opset that the model goes back to: no pass writes what cannot be said there"""
    reasons: dict[Reason, None] = field(default_factory=dict)
    current: str = ""
    added: int = 0
    """bytes that folding added so far"""
    _names: Names | None = None
    _dims: Dims | None = None

    # reading -----------------------------------------------------------------------------------------------------

    @property
    def names(self) -> Names:
        """Names in use."""
        if self._names is None:
            self._names = Names.of(self.model.graph)
        return self._names

    @property
    def dims(self) -> Dims:
        """What is known of shapes; made anew after each pass that changed something."""
        if self._dims is None:
            self._dims = Dims(self.model.ir)
        return self._dims

    def fresh(self) -> None:
        """Forget what was known before a change."""
        self._dims = self._names = None

    def nodes(self, *kinds: str) -> Iterator[ir.Node]:
        """Standard operators of the graph and its subgraphs, in order; of the given kinds, or all. Nodes that are
        removed meanwhile are left out."""
        for node in list(self.model.graph.all_nodes()):
            if node.graph is not None and node.domain in ("", "ai.onnx") and (not kinds or node.op_type in kinds):
                yield node

    def shape(self, value: ir.Value | None) -> tuple[int | None, ...] | None:
        """Known sizes, None for what is dynamic; None for an unknown rank."""
        return None if value is None else self.dims.static(value)

    def rank(self, value: ir.Value | None) -> int | None:
        """Rank of a value where it is known."""
        shape = self.shape(value)
        return None if shape is None else len(shape)

    def why(self, node: ir.Node, text: str) -> None:
        """Note why the current pass leaves a node alone."""
        self.reasons[Reason(self.current, layer_of(node)[0] or node.op_type, text)] = None

    # writing -----------------------------------------------------------------------------------------------------

    def at(self, node: ir.Node) -> Rewriter:
        """A builder that writes in front of a node, with its provenance."""
        return Rewriter(self.model.graph, node, self.model.opset, self.names)

    def put(self, node: ir.Node, *values: ir.Value) -> bool:
        """Let ``values`` take the uses and the names of the node's outputs, and remove the node.

        Returns whether that was possible: an output of a graph cannot become an input, a constant or a value that
        is an output already, and outputs without a value must not be used; nothing is changed then.
        """
        if any(old.uses() or old.is_graph_output() for old in node.outputs[len(values) :]):
            return False
        pairs = list(zip(node.outputs, values, strict=False))
        if not all(_can_stand(new, old) for old, new in pairs):
            return False
        for old, new in pairs:
            if old is new:
                continue
            if self._dims is not None:
                self._dims.same(new, old)
            named = old.is_graph_output()
            old.replace_all_uses_with(new, replace_graph_outputs=True)
            if named or (new.producer() is not None and _made_here(new, node)):
                _take_name(new, old, whole=named)
        remove(node)
        return True

    def constant(self, node: ir.Node, array: np.ndarray, like: ir.Value, *, role: Role = Role.CONSTANT) -> bool:
        """Put a constant where a node's only output was; it keeps that output's name."""
        tensor = array_tensor(array)
        if like.dtype is not None and tensor.dtype != like.dtype:
            tensor = ir.Tensor(array, dtype=like.dtype)
        return self.tensor(node, tensor, like, role=role)

    def tensor(self, node: ir.Node, tensor: ir.TensorProtocol, like: ir.Value, *, role: Role = Role.CONSTANT) -> bool:
        """Put an initializer of a tensor, which may lie in a file, where a node's only output was."""
        if like.is_graph_output():
            return False
        inside = node.graph is not self.model.graph  # a name there may be in use in the branch beside it
        name = like.name or self.names_free("const")
        value = ir.Value(name=None, type=ir.TensorType(tensor.dtype), shape=ir.Shape(tensor.shape.numpy()))
        like.replace_all_uses_with(value)
        remove(node)
        like.name = None
        if inside or name in self.model.graph.initializers or any(v.name == name for v in self.model.graph.inputs):
            name = self.names_free(name)
        value.name, tensor.name = name, name
        value.const_value = tensor
        value.metadata_props[ROLE] = role.value
        self.model.graph.register_initializer(value)
        return True

    def names_free(self, wanted: str) -> str:
        """Reserve a value name."""
        return self.names.values.free(wanted)

    def node_name(self, wanted: str) -> str:
        """Reserve a node name."""
        return self.names.nodes.free(wanted)


Pass = Callable[[Edit], bool]


@dataclass(frozen=True)
class Registered:
    """A pass with its name, the level from which it runs, and what it does in a few words."""

    name: str
    level: Level
    about: str
    run: Pass


PASSES: dict[str, Registered] = {}


def graph_pass(name: str, level: Level) -> Callable[[Pass], Pass]:
    """Register a pass; its docstring's first line tells users what it does."""

    def register(run: Pass) -> Pass:
        if name in PASSES:
            raise AssertionError(f"two passes called {name}")
        PASSES[name] = Registered(name, level, (run.__doc__ or "").strip().splitlines()[0], run)
        return run

    return register


# nodes -----------------------------------------------------------------------------------------------------------


def attr(node: ir.Node, name: str, default: Any = None) -> Any:
    """An attribute's value, lists as lists; the default where it is left out."""
    held = node.attributes.get(name)
    if held is None or held.is_ref():
        return default
    return list(held.value) if isinstance(held.value, tuple) else held.value


def word(node: ir.Node, name: str, default: str) -> str:
    """An attribute's text, which some files keep as bytes."""
    value = attr(node, name, default)
    return value.decode() if isinstance(value, bytes) else value


def set_attr(node: ir.Node, **values: Any) -> None:
    """Set attributes; None removes one."""
    for name, value in values.items():
        if value is None:
            node.attributes.pop(name, None)
        else:
            node.attributes[name] = ir.convenience.convert_attribute(name, value)


def given(node: ir.Node, i: int) -> ir.Value | None:
    """The i-th input, None where it is left out."""
    value = node.inputs[i] if i < len(node.inputs) else None
    return None if value is None or value.name == "" else value


def made_by(value: ir.Value | None, *kinds: str) -> ir.Node | None:
    """The standard operator that makes a value, where it is one of ``kinds``."""
    node = value.producer() if value is not None else None
    if node is None or node.domain not in ("", "ai.onnx") or node.graph is None:
        return None
    return node if node.op_type in kinds else None


def only_reader(value: ir.Value) -> ir.Node | None:
    """The node that alone reads a value, once; None where there are others, or the value is an output."""
    uses = value.uses()
    if value.is_graph_output() or len(uses) != 1:
        return None
    return next(iter(uses)).node


def sole(node: ir.Node) -> bool:
    """Whether only the first output of a node is used."""
    return not any(v.uses() or v.is_graph_output() for v in node.outputs[1:])


def feed(node: ir.Node, i: int, value: ir.Value | None) -> None:
    """Set the i-th input of a node."""
    if i >= len(node.inputs):
        node.resize_inputs(i + 1)
    node.replace_input_with(i, value)


def remove(node: ir.Node) -> None:
    """Take a node out of its graph; constants that only it read go too."""
    read = [v for v in node.inputs if v is not None]
    detach(node)
    if node.graph is not None:
        node.graph.remove(node, safe=True)
    for value in read:
        drop(value)


def drop(value: ir.Value) -> None:
    """Take an initializer that nobody reads out of its graph."""
    owner = value.graph
    needed = bool(value.uses()) or value.is_graph_output() or value.is_graph_input()
    if value.is_initializer() and not needed and isinstance(owner, ir.Graph) and value.name is not None:
        owner.initializers.pop(value.name, None)


def same_graph(a: ir.Node, b: ir.Node) -> bool:
    """Whether two nodes stand in one graph."""
    return a.graph is b.graph


def change_tensor(value: ir.Value, array: np.ndarray) -> None:
    """Give an initializer other values (and shape); its name, element type and role stay."""
    dtype = value.const_value.dtype if value.const_value is not None else ir.DataType.FLOAT
    value.const_value = ir.Tensor(np.asarray(array.astype(dtype.numpy()), order="C"), dtype=dtype, name=value.name)
    value.shape = ir.Shape(list(array.shape))


def _can_stand(new: ir.Value, old: ir.Value) -> bool:
    if new is old or not old.is_graph_output():
        return True
    maker, place = new.producer(), old.producer()
    return maker is not None and not new.is_graph_output() and place is not None and maker.graph is place.graph


def _made_here(new: ir.Value, node: ir.Node) -> bool:
    maker = new.producer()
    return maker is not None and bool(maker.name) and (maker.name or "").startswith(f"{node.name or node.op_type}/")


def _take_name(new: ir.Value, old: ir.Value, *, whole: bool) -> None:
    """Let a value have another's name; for an output of the graph also the type and shape that are declared."""
    name = old.name
    if name:
        old.name = None
        new.name = name
    if new.shape is None or whole:
        new.shape = old.shape
    if new.type is None or whole:
        new.type = old.type
    new.metadata_props.update(old.metadata_props)
