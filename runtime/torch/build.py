"""A graph as an fx.GraphModule: ordinary modules where weights are, functions elsewhere, Python ints for shapes."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import fx, nn

from netferry.errors import NONSENSE, UnsupportedError, UnsupportedLayer, quoted
from netferry.runtime.torch import glue
from netferry.runtime.torch.control import CONTROL, control_node
from netferry.runtime.torch.facts import used_outputs
from netferry.runtime.torch.modules import plan
from netferry.runtime.torch.modules_recurrent import GATES, unfit
from netferry.runtime.torch.naming import CALL, identifier, says_path, wanted_path
from netferry.runtime.torch.network import Network, is_plain
from netferry.runtime.torch.ops.shape import Transpose
from netferry.runtime.torch.packing import PLAIN, TRANSPOSED
from netferry.runtime.torch.placing import Placing
from netferry.runtime.torch.plans import Plan, Recurrent
from netferry.runtime.torch.stacking import stack_layers
from netferry.runtime.torch.store import Store
from netferry.runtime.torch.ties import join_turned_copies, separate_copies
from netferry.runtime.torch.values import Held, Unsupported
from netferry.runtime.torch.weightless import SPATIAL, plain_module
from netferry.runtime.torch.zeros import drop_zeros, join_group_norms
from netferry.schemas.inlining import write_out_functions
from netferry.schemas.ir import ir
from netferry.schemas.layers import LAYER, ROLE, TRAINING, Role, layer_of, role_by_use, role_of
from netferry.schemas.metadata import origin
from netferry.schemas.model import Model
from netferry.schemas.tensors import array_of, constant_tensor
from netferry.schemas.walk import nodes_of

LOWEST_OPSET = 21
PLACES = "netferry.places"
"""key in ``GraphModule.meta`` under which the way back to the graph is kept"""


def build(model: Model, *, frozen_statistics: bool = False) -> Network:
    """Return the model as a torch module, in training mode like any new module.

    The model's graph is used up: functions are written out, what says nothing is taken out. Give a copy.

    Args:
        model: a model at opset 21 or above, equal copies of weights apart (:func:`netferry.api.to_torch` sees to both).
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
        write_out_functions(model.ir)
        separate_copies(model.graph)
    drop_zeros(model.graph)
    join_group_norms(model.graph)
    for value in model.graph.initializers.values():  # once: to tell a role by all uses takes its time
        if ROLE not in value.metadata_props:
            value.metadata_props[ROLE] = role_by_use(value).value
    source = origin(model)
    by_torch = source["format"] == "pytorch" or str(source.get("version")).startswith("pytorch")
    turned = join_turned_copies(model.graph) if by_torch else {}
    store = Store()
    builder = GraphBuilder(model.graph, store, frozen_statistics=frozen_statistics)
    builder.by_torch = by_torch
    try:
        module = builder.build([v for v in model.graph.inputs if v.name not in model.graph.initializers])
    finally:
        store.close()
    if builder.failures:
        raise UnsupportedLayer(builder.failures, file=model.source.files[0] if model.source.files else None)
    for copy, name in turned.items():
        place = store.places[name]
        store.places[copy] = place._replace(initializer=copy, shape=place.shape[::-1], packing=TRANSPOSED)
    module.meta[PLACES] = dict(store.places)
    return module


class GraphBuilder(Placing):
    """Builds one graph; bodies of control flow have builders of their own that share the store."""

    by_torch = False
    """whether an exporter of torch wrote the file: it keeps the names of parameters"""

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
        results = [self._result(v) for v in self.source.outputs]
        self.graph.output(tuple(results) if outputs_as_tuple or len(results) != 1 else results[0])
        self._drop_turns()
        if self.outer is None and self.failures:
            return Network(nn.Module(), fx.Graph())
        if self.outer is None and sum(found.recurrent is not None for found in self.plans.values()) > 1:
            stack_layers(self.graph, self.root, self.store)
        objects = [made for made in self.graph.nodes if not (is_plain(made.args) and is_plain(made.kwargs))]
        if objects:
            self.failures += [(made.name, str(made.op), "a setting that is no number or text") for made in objects]
            return Network(nn.Module(), fx.Graph())
        name = identifier(self.source.name or "network")
        return Network(self.root, self.graph, name[:1].upper() + name[1:])

    def _result(self, value: ir.Value) -> fx.Node | None:
        try:
            return self.as_tensor_node(self.lookup(value), value)
        except Unsupported as error:
            self.failures.append((value.name or "", "output", str(error)))
            return None

    def _make_plans(self) -> None:
        """Find all modules first, those of bodies included, so that ties are known before any weight is packed."""
        nodes = list(nodes_of(self.source))
        for node in nodes:
            try:
                found = plan(node, self.frozen_statistics)
            except NONSENSE:
                continue  # no module; what is wrong is told where its function is made
            if found is not None and self.by_torch:
                found = self._as_named(node, found)
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
                self.skipped.update(dict.fromkeys(found.hidden, node))
        for node in nodes:
            bound = [v for v, _, _ in self.plans[node].bindings] if node in self.plans else []
            if node in self.skipped:
                continue
            for value in node.inputs:
                if value is not None and value.is_initializer() and value not in bound:
                    self.store.want(value, PLAIN)
        raw = self.store.raw  # weights that have to stay as they are: functions take them
        for node in [n for n, found in self.plans.items() if raw and any(v in raw for v, _, _ in found.bindings)]:
            del self.plans[node]

    def _node(self, node: ir.Node) -> None:
        planned = self.skipped.get(node)
        if planned is not None and planned in self.plans:
            if node.op_type == "Add":
                self.held[node.outputs[0]] = self.held[planned.outputs[0]]
            return
        try:
            if self.failures and self._reads_lost(node):
                self._lose(node)
                return
            self._make(node)
        except (Unsupported, *NONSENSE, RuntimeError) as error:
            self._fail(node, error)

    def _fail(self, node: ir.Node, error: Exception) -> None:
        why = str(error) if isinstance(error, Unsupported) else f"it contradicts its operator ({quoted(error)[1:-1]})"
        self.failures.append((layer_of(node)[0] or node.op_type, node.op_type, why))
        self._lose(node)

    def _drop_turns(self) -> None:
        """Take out the swaps of axes in front of recurrent modules that read the sequence as it lies."""
        for made in reversed(self.graph.nodes):
            if made.op == "call_function" and made.target is Transpose and not made.users:
                self.graph.erase_node(made)

    def _reads_lost(self, node: ir.Node) -> bool:
        """Whether a node reads what could not be made; a module reads its weights from the store."""
        found = self.plans.get(node)
        held = [] if found is None else [v for v, _, _ in found.bindings]
        for value in node.inputs:
            if value is None or (found is not None and (value in held or value.producer() in self.skipped)):
                continue
            if self.lookup(value).kind == "lost":
                return True
        return False

    def _lose(self, node: ir.Node) -> None:
        for value in node.outputs:
            self.held[value] = Held("lost")

    def _make(self, node: ir.Node) -> None:
        if node.domain not in ("", "ai.onnx"):
            raise Unsupported(f"domain {node.domain} has no torch counterpart")
        if not node.outputs:
            raise Unsupported("gives nothing")
        if node.op_type in GATES and (why := unfit(node, self.plans.get(node))) is not None:
            raise Unsupported(why)
        if node.op_type == "Constant":
            self._constant_node(node)
        elif (found := self.plans.get(node)) is not None:
            self._module(node, found)
        elif node.op_type in CONTROL:
            control_node(self, node)
        elif not (self._fold(node) or self._on_host(node) or self._weightless(node) or self._passes_on(node)):
            self._function(node)

    # nodes -------------------------------------------------------------------------------------------------------

    def _constant_node(self, node: ir.Node) -> None:
        value = node.outputs[0]
        tensor = constant_tensor(value)
        array = None if tensor is None else array_of(tensor)
        if array is None:
            raise Unsupported("a constant of this form")
        self.held[value] = Held("constant", array=np.asarray(array), rank=np.ndim(array))

    def _module(self, node: ir.Node, found: Plan) -> None:
        if found.loose:
            args = (self._input(node, 0), *(self._weight(v) for v, _, _ in found.bindings))
            made = self.stamp(self.graph.call_function(F.linear, args), node)
            self.held[node.outputs[0]] = Held("tensor", made)
            return
        learnt = [v.name or "" for v, _, _ in found.bindings if role_of(v) != Role.CONSTANT]
        weight = next((n for n in learnt if says_path(n)), learnt[0] if learnt else None)
        parts = self._module_parts(node, found, weight)
        key = (*parts, found.key)
        path = self._modules.get(key)
        if path is None and parts and (call := CALL.search(parts[-1])) is not None:  # called again: one module
            path = self._modules.get((*parts[:-1], parts[-1][: call.start()], found.key))
        if path is None:
            module = found.make()
            path = self.add_module(parts, module)
            full = f"{self.prefix}.{path}" if self.prefix else path
            for value, packing, names in found.bindings:
                self.store.put(module, full, value, packing, names)
            self._modules[key] = path
        if found.recurrent is not None:
            self._recurrent(node, path, found.recurrent)
            return
        data = 1 if node.op_type == "Gather" else 0
        x = self._input(node, data)
        if found.before is not None:
            name, settings = found.before
            x = self.stamp(self.graph.call_function(getattr(glue, name), (x,), settings), node)
        y = self.stamp(self._call(path, (x,)), node)
        self.held[node.outputs[0]] = Held("tensor", y)

    def _call(self, path: str, args: tuple[Any, ...]) -> fx.Node:
        """A call of a module; its name in the code is what fx would make of the path, slowly.

        Arguments come afterwards, for fx would search them for symbolic numbers, which no graph has here.
        """
        name = path.replace(".", "_") if path.islower() else None
        made = self.graph.create_node("call_module", path, name=name)
        made.args = args
        return made

    def _recurrent(self, node: ir.Node, path: str, form: Recurrent) -> None:
        order: dict[str, Any] = {"batch_first": form.batch_first}
        x = self.as_tensor_node(self.lookup(form.x), form.x)
        if form.backward:
            x = self.graph.call_function(glue.reversed_input, (x,), order)
        states = [self._input(node, i) if _given(node, i) else None for i in (5, 6)]
        args: tuple[Any, ...] = (x,)
        if any(s is not None for s in states):
            settings: dict[str, Any] = {"batch_first": bool(form.layout), "memory": form.memory}
            args = (x, self.graph.call_function(glue.recurrent_state, tuple(states), settings))
        found = self.stamp(self._call(path, args), node)
        if not form.sequences and not form.states_only:
            settings = {"directions": form.directions, **order, "backward": form.backward}
            self.unpack(node, self.graph.call_function(glue.recurrent_outputs, (found,), settings))
            return
        if form.sequences:
            y = self.graph.call_function(operator.getitem, (found, 0))
            if form.backward:
                y = self.graph.call_function(glue.reversed_input, (y,), order)
            for value in form.sequences:
                self.held[value] = Held("tensor", self.stamp(y, value.producer() or node))
        used = used_outputs(node)
        if any(used[1:]):
            last = self.graph.call_function(operator.getitem, (found, 1))
            for i, value in enumerate(node.outputs[1:]):
                if used[i + 1]:
                    one = self.graph.call_function(operator.getitem, (last, i)) if form.memory else last
                    self.held[value] = Held("tensor", self.stamp(one, node))

    def _weightless(self, node: ir.Node) -> bool:
        """A layer that is one node without weights, a pool, and Dropout, as a module of torch."""
        layer = node.metadata_props.get(LAYER)
        if layer is None:
            alone = self._names_itself(node)
        else:
            alone = sum(n.metadata_props.get(LAYER) == layer for n in self._neighbours(node)) == 1
        if not alone and node.op_type != "Dropout" and TRAINING not in node.metadata_props:
            return False
        module = plain_module(node)
        if module is None:
            return False
        parts = wanted_path(node, None)
        path = self.add_module([*parts, node.op_type.lower()] if self._holds_layers(parts) else parts, module)
        x, channels = self._input(node, 0), int(node.metadata_props.get(SPATIAL, "1"))
        if channels != 1:
            x = self.stamp(self.graph.call_function(torch.movedim, (x, channels, 1)), node)
        made = self.stamp(self._call(path, (x,)), node)
        if channels != 1:
            made = self.stamp(self.graph.call_function(torch.movedim, (made, 1, channels)), node)
        self.held[node.outputs[0]] = Held("tensor", made)
        return True


def _given(node: ir.Node, i: int) -> bool:
    return i < len(node.inputs) and node.inputs[i] is not None
