"""A graph as an fx.GraphModule: ordinary modules where weights are, functions elsewhere, Python ints for shapes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import fx, nn

from netferry.errors import NONSENSE, UnsupportedError, UnsupportedLayer, quoted
from netferry.runtime.torch.control import CONTROL, control_node
from netferry.runtime.torch.module_nodes import ModuleNodes
from netferry.runtime.torch.modules import plan
from netferry.runtime.torch.modules_recurrent import GATES, unfit
from netferry.runtime.torch.naming import identifier
from netferry.runtime.torch.network import Network, is_plain
from netferry.runtime.torch.ops.shape import Transpose
from netferry.runtime.torch.packing import PLAIN, TRANSPOSED
from netferry.runtime.torch.stacking import stack_layers
from netferry.runtime.torch.store import Store
from netferry.runtime.torch.ties import join_turned_copies, separate_copies
from netferry.runtime.torch.values import Held, Unsupported
from netferry.runtime.torch.zeros import drop_zeros, join_group_norms
from netferry.schemas.inlining import write_out_functions
from netferry.schemas.ir import ir
from netferry.schemas.layers import ROLE, layer_of, role_by_use
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


class GraphBuilder(ModuleNodes):
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
