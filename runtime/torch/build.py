"""A graph as a torch.fx.GraphModule: ordinary modules where weights are, functions elsewhere, Python ints for shapes."""

from __future__ import annotations

import importlib
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from netferry.errors import UnsupportedError, UnsupportedLayer
from netferry.runtime.torch import glue, host
from netferry.runtime.torch.control import CONTROL, control_node
from netferry.runtime.torch.dtypes import TORCH_OF
from netferry.runtime.torch.folding import fold
from netferry.runtime.torch.modules import Plan, plain_module, plan, torch_values
from netferry.runtime.torch.naming import identifier, path_parts, says_path, wanted_path
from netferry.runtime.torch.network import Network
from netferry.runtime.torch.packing import PLAIN
from netferry.runtime.torch.registry import Op, operators
from netferry.runtime.torch.store import Store, settle
from netferry.runtime.torch.ties import separate_copies
from netferry.schemas.ir import ir
from netferry.schemas.layers import LAYER, Role, layer_of, role_of
from netferry.schemas.model import Model
from netferry.schemas.tensors import array_of

LOWEST_OPSET = 21
PLACES = "netferry.places"
"""key in ``GraphModule.meta`` under which the way back to the graph is kept"""
_HOST_LIMIT = 1024
_SCALARS = {"Add", "Sub", "Mul", "Div", "Pow", "Clip", "Max", "Min", "Pad"}


def build(model: Model, *, frozen_statistics: bool = False) -> Network:
    """Return the model as a torch module, in training mode like any new module.

    The model's graph is used up: functions are written out, shared copies of weights made apart. Give a copy.

    Args:
        model: a model at opset 21 or above (:func:`netferry.api.to_torch` raises others).
        frozen_statistics: batch norms use their running statistics, and keep them, in training too.

    Raises:
        UnsupportedLayer: operators that have no counterpart, all of them.
        UnsupportedError: the opset is below 21.
        Uninitialised: parameters have no values.
    """
    if model.opset < LOWEST_OPSET:
        raise UnsupportedError(f"the torch backend reads opset {LOWEST_OPSET} and above, not {model.opset}")
    model.require_values()
    if model.ir.functions:
        importlib.import_module(f"{ir.__name__}.passes.common").InlinePass()(model.ir)
    separate_copies(model.graph)
    store = Store()
    builder = GraphBuilder(model.graph, store, frozen_statistics=frozen_statistics)
    module = builder.build([v for v in model.graph.inputs if v.name not in model.graph.initializers])
    if builder.failures:
        raise UnsupportedLayer(builder.failures, file=model.source.files[0] if model.source.files else None)
    module.meta[PLACES] = dict(store.places)
    return module


@dataclass
class Held:
    """A value under construction: a node of the fx graph, or known beforehand."""

    kind: str
    """``tensor``, ``host`` (Python numbers), ``constant`` (known values), ``weight`` or ``lost`` (not supported)"""
    node: fx.Node | None = None
    rank: int | None = None
    array: np.ndarray | None = None
    value: ir.Value | None = None


class GraphBuilder:
    """Builds one graph; bodies of control flow have builders of their own that share the store.

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
        outer: GraphBuilder | None = None,
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

    # the whole ---------------------------------------------------------------------------------------------------

    def build(self, inputs: Sequence[ir.Value], outputs_as_tuple: bool = False) -> Network:
        """Build all nodes and return the module; failures are collected in ``failures``."""
        for value in inputs:
            node = self.graph.placeholder(self._free_name(value.name or "input"))
            self.held[value] = Held("tensor", node)
        self._end_of_inputs = next(iter(self.graph.nodes), None) and list(self.graph.nodes)[-1]
        if self.outer is None:
            self._make_plans()
        for node in self.source:
            self._node(node)
        results = [self.as_tensor_node(self.lookup(v), v) for v in self.source.outputs]
        self.graph.output(tuple(results) if outputs_as_tuple or len(results) != 1 else results[0])
        if self.outer is None and self.failures:
            return Network(nn.Module(), fx.Graph())
        name = identifier(self.source.name or "network")
        module = Network(self.root, self.graph, name[:1].upper() + name[1:])
        module.graph.lint()
        return module

    def _make_plans(self) -> None:
        """Find all modules first, those of bodies included, so that ties are known before any weight is packed."""
        for node in self.source.all_nodes():
            found = plan(node, self.frozen_statistics)
            bound: list[ir.Value] = []
            if found is not None:
                self.plans[node] = found
                bound = [v for v, _, _ in found.bindings]
                for value, packing, _ in found.bindings:
                    self.store.want(value, packing)
                if node.op_type == "MatMul" and node.inputs[1] not in bound and node.inputs[1] is not None:
                    self.skipped[node.inputs[1].producer()] = node
                if found.absorbs is not None:
                    self.skipped[found.absorbs] = node
        for node in self.source.all_nodes():
            bound = [v for v, _, _ in self.plans[node].bindings] if node in self.plans else []
            if node in self.skipped:
                continue
            for value in node.inputs:
                if value is not None and value.is_initializer() and value not in bound:
                    self.store.want(value, PLAIN)

    def _planned(self, node: ir.Node) -> Plan | None:
        """The module of a node; none where its weights have to stay as they are."""
        found = self.plans.get(node)
        return None if found is None or any(v in self.store.raw for v, _, _ in found.bindings) else found

    def _node(self, node: ir.Node) -> None:
        if node in self.skipped and self._planned(self.skipped[node]) is not None:
            if node.op_type == "Add":
                self.held[node.outputs[0]] = self.held[self.skipped[node].outputs[0]]
            return
        try:
            if any(self.lookup(v).kind == "lost" for v in node.inputs if v is not None and self._reads(node, v)):
                self._lose(node)
                return
            self._make(node)
        except Unsupported as error:
            self.failures.append((layer_of(node)[0] or node.op_type, node.op_type, str(error)))
            self._lose(node)

    def _reads(self, node: ir.Node, value: ir.Value) -> bool:
        """Whether a node reads a value itself: a module reads its weights from the store."""
        found = self._planned(node)
        return found is None or not (value in [v for v, _, _ in found.bindings] or value.producer() in self.skipped)

    def _lose(self, node: ir.Node) -> None:
        for value in node.outputs:
            self.held[value] = Held("lost")

    def _make(self, node: ir.Node) -> None:
        if node.domain not in ("", "ai.onnx"):
            raise Unsupported(f"domain {node.domain} has no torch counterpart")
        if node.op_type == "Constant":
            self._constant_node(node)
        elif (found := self._planned(node)) is not None:
            self._module(node, found)
        elif node.op_type in CONTROL:
            control_node(self, node)
        elif not (self._fold(node) or self._on_host(node) or self._weightless(node)):
            self._function(node)

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
            raise AssertionError(f"value {value.name} is read before it is made")
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
        if role == Role.CONSTANT or value.dtype not in _FLOATS:
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
        holder = self._container(local.rpartition(".")[0])
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

    def _container(self, path: str) -> nn.Module:
        module = self.root
        for part in path.split(".") if path else []:
            if part not in module._modules:
                module.add_module(part, nn.Module())
            module = getattr(module, part)
        return module

    def add_module(self, parts: list[str], module: nn.Module) -> str:
        """Put a module under a path of its own; returns the path inside this graph."""
        path = self.store.paths.take([*path_parts(self.prefix), *parts])
        local = path[len(self.prefix) + 1 :] if self.prefix else path
        self._container(local.rpartition(".")[0]).add_module(local.rpartition(".")[2], module)
        return local

    def _free_name(self, name: str) -> str:
        return identifier(name)

    # nodes -------------------------------------------------------------------------------------------------------

    def _constant_node(self, node: ir.Node) -> None:
        value = node.outputs[0]
        tensor = ir.convenience.get_const_tensor(value)
        array = None if tensor is None else array_of(tensor)
        if array is None:
            raise Unsupported("a constant of this form")
        self.held[value] = Held("constant", array=np.asarray(array), rank=np.ndim(array))

    def _module(self, node: ir.Node, found: Plan) -> None:
        key = (layer_of(node)[0], found.key)
        path = self._modules.get(key)
        if path is None:
            learnt = [v.name or "" for v, _, _ in found.bindings if role_of(v) != Role.CONSTANT]
            weight = next((n for n in learnt if says_path(n)), learnt[0] if learnt else None)
            module = found.make()
            path = self.add_module(self._modulepath_parts(node, found, weight), module)
            full = f"{self.prefix}.{path}" if self.prefix else path
            for value, packing, names in found.bindings:
                self.store.put(module, full, value, packing, names)
            settle(module)
            self._modules[key] = path
        data = 1 if node.op_type == "Gather" else 0
        x = self._input(node, data)
        if found.before is not None:
            name, settings = found.before
            x = self.graph.call_function(getattr(glue, name), (x,), settings)
        if found.recurrent is not None:
            self._recurrent(node, path, x, found.recurrent)
            return
        y = self._stamp(self.graph.call_module(path, (x,)), node)
        self.held[node.outputs[0]] = Held("tensor", y)

    def _modulepath_parts(self, node: ir.Node, found: Plan, weight: str | None) -> list[str]:
        """A layer's only module is called like the layer, several lie inside it under the names of their weights."""
        parts = wanted_path(node, weight)
        layer = node.metadata_props.get(LAYER)
        if not layer:
            return parts
        siblings = {p.key for n, p in self.plans.items() if n.metadata_props.get(LAYER) == layer}
        if len(siblings) < 2:
            return parts
        own = (weight or "").removeprefix(layer).strip("./:")
        for end in ("kernel", "weight", "bias", "gamma", "beta", "W", "R", "B"):
            own = own.removesuffix(end).rstrip("./_")
        return [*parts, identifier(own) if own else node.op_type.lower()]

    def _recurrent(self, node: ir.Node, path: str, x: fx.Node, form: dict[str, Any]) -> None:
        first = form["batch_first"]
        if form["backward"]:
            x = self.graph.call_function(glue.reversed_input, (x,), {"batch_first": first})
        states = [self._input(node, i) if _given(node, i) else None for i in (5, 6)]
        args: tuple[Any, ...] = (x,)
        if any(s is not None for s in states):
            settings = {"batch_first": first, "memory": form["memory"]}
            args = (x, self.graph.call_function(glue.recurrent_state, tuple(states), settings))
        found = self._stamp(self.graph.call_module(path, args), node)
        settings = {"directions": form["directions"], "batch_first": first, "backward": form["backward"]}
        self._unpack(node, self.graph.call_function(glue.recurrent_outputs, (found,), settings))

    def _unpack(self, node: ir.Node, several: fx.Node) -> None:
        for i, value in enumerate(node.outputs):
            if value.name and (value.uses() or value.is_graph_output()):
                got = self._stamp(self.graph.call_function(operator.getitem, (several, i)), node)
                self.held[value] = Held("tensor", got)

    def _input(self, node: ir.Node, i: int) -> fx.Node:
        value = node.inputs[i]
        if value is None:
            raise AssertionError(f"{node.op_type}: input {i} is left out")
        return self.as_tensor_node(self.lookup(value), value)

    def _stamp(self, made: fx.Node, node: ir.Node) -> fx.Node:
        made.meta["netferry.layer"] = layer_of(node)[0]
        return made

    def _fold(self, node: ir.Node) -> bool:
        """Compute small nodes of constants alone."""
        helds = [None if v is None else self.lookup(v) for v in node.inputs]
        if not helds or any(h is not None and h.kind != "constant" for h in helds):
            return False
        arrays = fold(node, [None if h is None else h.array for h in helds], _settings(node, self))
        if arrays is None:
            return False
        for value, array in zip(node.outputs, arrays, strict=False):
            self.held[value] = Held("constant", array=array, rank=array.ndim)
        return True

    def _on_host(self, node: ir.Node) -> bool:
        value = node.outputs[0]
        if node.op_type == "Shape":
            x = self._input(node, 0)
            bounds = tuple(_attribute(node, name, default) for name, default in (("start", 0), ("end", None)))
            bounds = () if bounds == (0, None) else bounds
            made = self.graph.call_function(host.shape, (x, *bounds))
            self.held[value] = Held("host", made, rank=1)
            return True
        if node.op_type == "Size":
            self.held[value] = Held("host", self.graph.call_function(host.size, (self._input(node, 0),)), rank=0)
            return True
        form = host.HOST.get(node.op_type)
        if form is None:
            return False
        helds = [None if v is None else self.lookup(v) for v in node.inputs]
        if not any(h is not None and h.kind == "host" for h in helds):
            return False
        known = [None if h is None else _literal(h) for h in helds]
        for h, k in zip(helds, known, strict=True):
            if h is not None and h.kind != "host" and k is None:
                return False
        ranks = [(h.rank if h.rank is not None else -1) for h in helds if h is not None]
        if any(r not in (0, 1) for r in ranks):
            return False
        attributes = {a.name: a.value for a in node.attributes.values()}
        rank = form.rank(ranks, attributes, known)
        if rank is None:
            return False
        args = tuple(
            None if h is None else h.node if h.kind == "host" else k for h, k in zip(helds, known, strict=True)
        )
        settings = {name: attributes[name] for name in form.attributes if name in attributes}
        made = self._stamp(self.graph.call_function(form.function, args, settings), node)
        self.held[value] = Held("host", made, rank=rank)
        return True

    def _weightless(self, node: ir.Node) -> bool:
        """A layer that is one node without weights, and Dropout, as a module of torch."""
        layer = node.metadata_props.get(LAYER)
        alone = layer is not None and sum(n.metadata_props.get(LAYER) == layer for n in self._neighbours(node)) == 1
        if not alone and node.op_type != "Dropout":
            return False
        module = plain_module(node)
        if module is None:
            return False
        path = self.add_module(wanted_path(node, None), module)
        made = self._stamp(self.graph.call_module(path, (self._input(node, 0),)), node)
        self.held[node.outputs[0]] = Held("tensor", made)
        return True

    def _neighbours(self, node: ir.Node) -> list[ir.Node]:
        layer = node.metadata_props.get(LAYER)
        if not hasattr(self, "_by_layer"):
            self._by_layer: dict[str | None, list[ir.Node]] = {}
            for one in self.source:
                if one.op_type != "Constant":
                    self._by_layer.setdefault(one.metadata_props.get(LAYER), []).append(one)
        return self._by_layer.get(layer, [])

    def _function(self, node: ir.Node) -> None:
        op = operators().get(node.op_type)
        if op is None:
            raise Unsupported("no torch counterpart")
        args = self._arguments(node, op)
        settings = _settings(node, self)
        unknown = set(settings) - set(op.attributes)
        if unknown:
            raise Unsupported(f"attribute {sorted(unknown)[0]} is not supported")
        for name, value in settings.items():
            if isinstance(value, ir.TensorProtocol):
                settings[name] = self._buffer(np.array(array_of(value)))
        if "outputs" in op.extras:
            settings["outputs"] = max((i + 1 for i, used in enumerate(_used(node)) if used), default=1)
            if node.op_type == "Split":
                settings["outputs"] = len(node.outputs)
        if "like" in op.extras:
            settings["like"] = self.anchor()
        _check_types(node)
        made = self._stamp(self.graph.call_function(op.function, tuple(args), settings), node)
        if op.many == "always" or (op.many == "if asked" and settings.get("outputs", 1) > 1):
            self._unpack(node, made)
        else:
            self.held[node.outputs[0]] = Held("tensor", made)

    def _arguments(self, node: ir.Node, op: Op) -> list[Any]:
        args: list[Any] = []
        if len(node.inputs) > len(op.inputs) and not op.variadic:
            raise Unsupported(f"takes {len(op.inputs)} inputs")
        for i, value in enumerate(node.inputs):
            if value is None or value.name == "":
                args.append(None)
                continue
            held, kind = self.lookup(value), op.kind(i)
            if kind == "tensor":
                number = self._number(node, i, held)
                args.append(self.as_tensor_node(held, value) if number is None else number)
            else:
                args.append(self._host_argument(held, kind, value))
        while args and args[-1] is None and len(args) > op.required:
            args.pop()
        return args

    def _number(self, node: ir.Node, i: int, held: Held) -> Any:
        """A scalar constant as a Python number, where the operator takes one beside a tensor of the same type."""
        if node.op_type == "Range" and held.kind in ("host", "constant"):
            return held.node if held.kind == "host" else _literal(held)
        if node.op_type == "Gather" and i == 1 and held.rank == 0 and held.kind in ("host", "constant"):
            return held.node if held.kind == "host" else _literal(held)
        if node.op_type == "Dropout" and i > 0 and held.kind == "constant":
            return _literal(held)
        if node.op_type not in _SCALARS or held.kind != "constant" or held.array is None or held.array.size != 1:
            return None
        array = held.array
        if array.dtype not in (np.float32, np.float64, np.int64, np.int32, np.float16):
            return None
        if node.op_type in ("Max", "Min", "Pad", "Clip"):
            return array.item() if node.op_type in ("Clip", "Pad") and array.dtype.kind == "f" else None
        other = self.lookup(node.inputs[1 - i]) if len(node.inputs) == 2 and node.inputs[1 - i] is not None else None
        if other is None or other.kind not in ("tensor", "weight") or (node.op_type == "Pow" and i == 0):
            return None
        shape = node.inputs[1 - i].shape  # type: ignore[union-attr]
        if array.ndim > (0 if shape is None else len(shape)):
            return None
        return array.item()

    def _host_argument(self, held: Held, kind: str, value: ir.Value) -> Any:
        if held.kind == "constant":
            number = _literal(held)
            if number is None:
                return self._read(self.as_tensor_node(held, value), kind)
            numbers = host.as_list(number)
            return numbers if kind == "vector" else (numbers[0] if numbers else None)
        if held.kind == "host" and held.rank == (1 if kind == "vector" else 0):
            return held.node
        return self._read(held.node if held.kind == "host" else self.as_tensor_node(held, value), kind)

    def _read(self, node: Any, kind: str) -> fx.Node:
        return self.graph.call_function(host.as_list if kind == "vector" else host.as_number, (node,))


class Unsupported(Exception):
    """One node cannot be said in torch; the argument says why."""


_FLOATS = {ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16}


def _given(node: ir.Node, i: int) -> bool:
    return i < len(node.inputs) and node.inputs[i] is not None


def _used(node: ir.Node) -> list[bool]:
    return [bool(v.name) and (bool(v.uses()) or v.is_graph_output()) for v in node.outputs]


def _attribute(node: ir.Node, name: str, default: Any) -> Any:
    held = node.attributes.get(name)
    return default if held is None else held.value


def _literal(held: Held) -> Any:
    """A constant of rank 0 or 1 as Python numbers; None where it is none."""
    if held.kind != "constant" or held.array is None or held.array.ndim > 1 or held.array.size > _HOST_LIMIT:
        return None
    if held.array.dtype.kind not in "biuf":
        return None
    return held.array.tolist()


def _settings(node: ir.Node, builder: GraphBuilder) -> dict[str, Any]:
    """Attributes as Python values."""
    out: dict[str, Any] = {}
    for attribute in node.attributes.values():
        if attribute.is_ref():
            raise Unsupported("an attribute of a function call")
        value = attribute.value
        out[attribute.name] = list(value) if isinstance(value, tuple) else value
    return out


def _check_types(node: ir.Node) -> None:
    """Refuse element types that torch does not compute with."""
    for value in [*node.inputs, *node.outputs]:
        kind = None if value is None else value.dtype
        if kind is not None and int(kind) not in TORCH_OF:
            raise Unsupported(f"element type {kind.name.lower()}")
    for name in ("to", "dtype", "output_dtype", "output_datatype"):
        held = node.attributes.get(name)
        if held is not None and not held.is_ref() and held.value and int(held.value) not in TORCH_OF:
            raise Unsupported(f"element type {held.value}")
