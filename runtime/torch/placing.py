"""Where modules lie: paths that come from layers, from names of weights, and from who else is there."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from netferry.runtime.torch.calls import Calls
from netferry.runtime.torch.modules import plan
from netferry.runtime.torch.naming import identifier, is_attribute, path_parts, wanted_path
from netferry.runtime.torch.packing import PLAIN
from netferry.runtime.torch.plans import Plan
from netferry.schemas.ir import ir
from netferry.schemas.layers import LAYER


class Placing(Calls):
    """What a builder asks of the layers around a node."""

    def _module_parts(self, node: ir.Node, found: Plan, weight: str | None) -> list[str]:
        """A layer's only module is called like the layer, several lie inside it under the names of their weights."""
        parts = wanted_path(node, weight)
        layer = node.metadata_props.get(LAYER)
        if not layer:
            return parts
        alone = len(self._keys_of(layer)) < 2
        if alone and not self._holds_layers(parts):
            return parts
        whole = weight or ""
        own = whole.removeprefix(layer).strip("./:")
        if alone and own == whole:
            own = ""
        for end in ("kernel", "weight", "bias", "gamma", "beta", "W", "R", "B"):
            own = own.removesuffix(end).rstrip("./_")
        if not own and alone:
            return parts
        return [*parts, identifier(own) if own and "::" not in whole else str(found.key[0]).lower()]

    def _as_named(self, node: ir.Node, found: Plan) -> Plan | None:
        """The plan for a node of torch's exporter, which keeps the names of parameters: so do we.

        A weight that is called like none of nn.Linear or nn.Embedding is an attribute of the network itself; a bias
        that an Add gives is the module's where it has the name of the module.
        """
        values = [value for value, _, _ in found.bindings]
        name = values[0].name or ""
        if node.op_type in ("MatMul", "Gather", "Gemm") and is_attribute(name) and not name.endswith(".weight"):
            plain = node.op_type != "Gather" and all(packing is PLAIN for _, packing, _ in found.bindings)
            return replace(found, loose=True) if plain else None
        bias = (values[1].name or "") if found.absorbs is not None else ""
        holders = (path_parts(name)[:-1], wanted_path(node, name))
        if is_attribute(bias) and path_parts(bias)[:-1] not in holders:
            return plan(node, self.frozen_statistics, alone=True)
        return found

    def _holds_layers(self, parts: list[str]) -> bool:
        """Whether other layers lie inside the layer of a path, as torch's attention holds ``out_proj``."""
        if not hasattr(self, "_around"):
            layers = {node.metadata_props.get(LAYER) for node in self.plans}
            paths = [tuple(path_parts(layer)) for layer in layers if layer]
            self._around = {path[:n] for path in paths for n in range(1, len(path))}
        return tuple(parts) in self._around

    def _keys_of(self, layer: str) -> set[tuple[Any, ...]]:
        """What tells the modules of a layer apart; bodies of control flow have theirs in the same table."""
        if not hasattr(self, "_keys"):
            self._keys: dict[str | None, set[tuple[Any, ...]]] = {}
            for node, found in self.plans.items():
                self._keys.setdefault(node.metadata_props.get(LAYER), set()).add(found.key)
        return self._keys.get(layer, set())

    def _names_itself(self, node: ir.Node) -> bool:
        """Whether an exporter of torch named a node by a module (``/features/3/Relu``) in which nothing else lies."""
        if not hasattr(self, "_holders"):
            named = [wanted_path(n, None) for n in self.source if "/" in (n.name or "") and n.op_type != "Constant"]
            self._holders = Counter(tuple(p[:i]) for p in named for i in range(1, len(p) + 1))
        parts = wanted_path(node, None)
        pool = node.op_type.endswith("Pool")
        return self._holders[tuple(parts)] == 1 if "/" in (node.name or "") else pool

    def _neighbours(self, node: ir.Node) -> list[ir.Node]:
        layer = node.metadata_props.get(LAYER)
        if not hasattr(self, "_by_layer"):
            self._by_layer: dict[str | None, list[ir.Node]] = {}
            for one in self.source:
                if one.op_type != "Constant":
                    self._by_layer.setdefault(one.metadata_props.get(LAYER), []).append(one)
        return self._by_layer.get(layer, [])
