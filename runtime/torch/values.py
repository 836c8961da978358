"""Values of a graph under construction: nodes of the fx graph, Python numbers, constants, weights."""

from __future__ import annotations

import keyword
import operator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from netferry.runtime.torch import host
from netferry.runtime.torch.dtypes import TORCH_OF
from netferry.runtime.torch.facts import torch_values
from netferry.runtime.torch.naming import identifier, path_parts
from netferry.runtime.torch.packing import PLAIN
from netferry.runtime.torch.plans import Plan, copied
from netferry.runtime.torch.store import Store
from netferry.schemas.ir import ir
from netferry.schemas.layers import FLOATS, Role, role_of
from netferry.schemas.tensors import array_of

_HOST_LIMIT = 1024


class Unsupported(Exception):
    """One node cannot be said in torch; the argument says why."""


@dataclass
class Held:
    """A value under construction: a node of the fx graph, or known beforehand."""

    kind: str
    """``tensor``, ``host`` (Python numbers), ``constant`` (known values), ``weight`` or ``lost`` (not supported)"""
    node: fx.Node | None = None
    rank: int | None = None
    array: np.ndarray | None = None
    value: ir.Value | None = None


def literal(held: Held) -> Any:
    """A constant of rank 0 or 1 as Python numbers; None where it is none."""
    if held.kind != "constant" or held.array is None or held.array.ndim > 1 or held.array.size > _HOST_LIMIT:
        return None
    if held.array.dtype.kind not in "biuf":
        return None
    return held.array.tolist()


class Values:
    """Values of one graph under construction, and what the module holds for them.

    Args:
        graph: the graph or body.
        store: weights that all builders share.
        outer: the builder of the graph around.
        prefix: where the body's module will lie, for names of weights.
    """

    def __init__(
        self,
        graph: ir.Graph,
        store: Store,
        *,
        frozen_statistics: bool = False,
        outer: Values | None = None,
        prefix: str = "",
    ) -> None:
        self.source = graph
        self.store = store
        self.frozen_statistics = frozen_statistics
        self.outer = outer
        self.prefix = prefix
        self.graph = fx.Graph()
        self.root = nn.Module()
        self.held: dict[ir.Value, Held] = {}
        self.failures: list[tuple[str, str, str]] = [] if outer is None else outer.failures
        self.captured: dict[ir.Value, fx.Node] = {}
        self._modules: dict[tuple[Any, ...], str] = {}
        self._attributes: dict[Any, fx.Node] = {}
        self.plans: dict[ir.Node, Plan] = {} if outer is None else outer.plans
        self.skipped: dict[ir.Node | None, ir.Node] = {} if outer is None else outer.skipped
        """nodes that a module takes in: the Add of its bias, the Transpose of its weight"""
        self._constants = 0
        self._anchor: fx.Node | None = None
        self._first: fx.Node | None = None

    # values ------------------------------------------------------------------------------------------------------

    def lookup(self, value: ir.Value) -> Held:
        """What is known of a value; one of the graph around becomes an input of this one."""
        found = self.held.get(value)
        if found is not None:
            return found
        if value.is_initializer():
            found = self._initializer(value)
        elif self.outer is not None:
            above = self.outer.lookup(value)
            if above.kind in ("constant", "lost"):
                found = above
            else:
                node = self._captured_input(value)
                found = Held("tensor", node)
        else:
            raise Unsupported(f"reads {value.name}, which nothing makes")
        self.held[value] = found
        return found

    def _captured_input(self, value: ir.Value) -> fx.Node:
        with self.graph.inserting_after(self._end_of_inputs) if self._end_of_inputs else self._at_start():
            node = self.graph.placeholder(self._free_name(value.name or "outer"))
        self._end_of_inputs = node
        self.captured[value] = node
        return node

    def _at_start(self) -> Any:
        return self.graph.inserting_before(next(iter(self.graph.nodes), None))

    def _initializer(self, value: ir.Value) -> Held:
        role = role_of(value)
        if role == Role.CONSTANT or value.dtype not in FLOATS:
            array = array_of(value)
            if array is None:
                raise Unsupported(f"{value.name} has no values")
            return Held("constant", array=array, rank=array.ndim)
        return Held("weight", value=value)

    def as_tensor_node(self, held: Held, value: ir.Value | None = None) -> fx.Node:
        """The value as a tensor in the fx graph."""
        if held.node is not None and held.kind == "tensor":
            return held.node
        if held.kind == "weight" and held.value is not None:
            return self._weight(held.value)
        if held.kind == "constant" and held.array is not None:
            return self._buffer(held.array)
        if held.kind == "host" and held.node is not None:
            kind = torch.int64
            if value is not None and value.dtype is not None and int(value.dtype) in TORCH_OF:
                kind = TORCH_OF[int(value.dtype)]
            return self.graph.call_function(host.as_tensor, (held.node, kind, self.anchor()))
        if held.kind == "lost":
            return self.graph.call_function(operator.pos, (0,))
        raise AssertionError(f"a {held.kind} is no tensor")

    def _weight(self, value: ir.Value) -> fx.Node:
        """A parameter (or state) that a function reads, under its initializer's name."""
        if value in self._attributes:
            return self._attributes[value]
        parts = [p for p in path_parts(value.name or "weight") if p]
        path = self.store.paths.take([*path_parts(self.prefix), *parts])
        local = path[len(self.prefix) + 1 :] if self.prefix else path
        holder = self.container(local.rpartition(".")[0])
        name = local.rpartition(".")[2]
        tensor = self.store.tensors(value)[0]
        if isinstance(tensor, nn.Parameter):
            holder.register_parameter(name, tensor)
        else:
            holder.register_buffer(name, tensor, persistent=role_of(value) == Role.STATE)
        self.store.record(value, PLAIN, [path])
        return self._remember(value, local)

    def _remember(self, key: Any, path: str) -> fx.Node:
        """Read an attribute once, at the start of the graph."""
        with self._after_inputs():
            node = self.graph.get_attr(path)
        self._attributes[key] = node
        return node

    def _after_inputs(self) -> Any:
        return self.graph.inserting_after(self._end_of_inputs) if self._end_of_inputs else self._at_start()

    def _buffer(self, array: np.ndarray) -> fx.Node:
        key = id(array)
        if key in self._attributes:
            return self._attributes[key]
        try:
            tensor = torch_values(array)
        except TypeError as error:
            raise Unsupported(str(error)) from None
        name = f"constant_{self._constants}"
        self._constants += 1
        self.root.register_buffer(name, tensor, persistent=False)
        self._kept_alive = [*getattr(self, "_kept_alive", []), array]
        return self._remember(key, name)

    def anchor(self) -> fx.Node:
        """A tensor on the module's device."""
        if self._anchor is None:
            self.root.register_buffer("anchor", torch.empty(0), persistent=False)
            self._anchor = self._remember("anchor", "anchor")
        return self._anchor

    def container(self, path: str) -> nn.Module:
        module = self.root
        for part in path.split(".") if path else []:
            held = module._modules.get(part)
            if held is None:
                held = module._modules[part] = copied(nn.Module)
            module = held
        return module

    def add_module(self, parts: list[str], module: nn.Module) -> str:
        """Put a module under a path of its own; returns the path inside this graph."""
        path = self.store.paths.take([*path_parts(self.prefix), *parts] if self.prefix else parts)
        local = path[len(self.prefix) + 1 :] if self.prefix else path
        holder, _, name = local.rpartition(".")
        self.container(holder)._modules[name] = module
        return local

    def _free_name(self, name: str) -> str:
        """A name for an input of ``forward``: no word of Python, and no other input's."""
        taken = {str(node.target) for node in self.graph.nodes if node.op == "placeholder"} | {"self"}
        plain = wish = identifier(name)
        number = 0
        while plain in taken or keyword.iskeyword(plain):
            number += 1
            plain = f"{wish}_{number}"
        return plain
