"""Nodes that become modules: with weights, recurrent ones, layers without weights."""

from __future__ import annotations

import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx

from netferry.runtime.torch import glue
from netferry.runtime.torch.facts import given, used_outputs
from netferry.runtime.torch.naming import CALL, says_path, wanted_path
from netferry.runtime.torch.placing import Placing
from netferry.runtime.torch.plans import Plan, Recurrent
from netferry.runtime.torch.values import Held
from netferry.runtime.torch.weightless import SPATIAL, plain_module
from netferry.schemas.ir import ir
from netferry.schemas.layers import LAYER, TRAINING, Role, role_of


class ModuleNodes(Placing):
    """Makes the modules of a graph and their calls."""

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
        states = [self._input(node, i) if given(node, i) else None for i in (5, 6)]
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
