"""The nodes of one graph as expressions of Python."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx

from netferry.errors import UnsupportedError
from netferry.runtime.torch.control import If, Loop, Scan, SequenceMap, run_loop, run_map, run_scan
from netferry.runtime.torch.source.calls import call_text
from netferry.runtime.torch.source.held import Held
from netferry.runtime.torch.source.variables import Variables
from netferry.runtime.torch.source.writing import atom, literal


class Expressions:
    """Writes the nodes of one graph as expressions.

    Args:
        held: what the class holds.
        method_of: the method that a body of control flow becomes, by its path.
        module: the graph's module.
        prefix: where it lies in the network.
        variables: the names of values.
        unsigned: the graph holds uint16, uint32 or uint64.
    """

    def __init__(
        self,
        held: Held,
        method_of: Callable[[str], str],
        module: fx.GraphModule,
        prefix: str,
        variables: Variables,
        *,
        unsigned: bool,
    ) -> None:
        self.held, self.method_of, self.unsigned = held, method_of, unsigned
        self.module, self.prefix, self.variables = module, prefix, variables

    def text(self, value: Any) -> str:
        """Any argument as code."""
        if isinstance(value, fx.Node):
            return self.variables.names[value] if value in self.variables.names else self.expression(value)
        if isinstance(value, (list, tuple)):
            inner = ", ".join(map(self.text, value))
            return f"[{inner}]" if isinstance(value, list) else f"({inner},)" if len(value) == 1 else _tuple(inner)
        return literal(value)

    def expression(self, node: fx.Node) -> str:
        """A node as code, its operands as variables or expressions."""
        if node.op == "get_attr":
            path = str(node.target)
            self.held.anchored = self.held.anchored or path == "anchor"
            return "self.anchor" if path == "anchor" else self.held.at(self._full(path))
        if node.op == "call_module":
            return self._call_module(node)
        function: Any = node.target
        if function.__name__ == "getitem":
            return f"{atom(self.text(node.args[0]))}[{self.text(node.args[1])}]"
        if function is F.linear:
            return f"F.linear({', '.join(map(self.text, node.args))})"
        if function is torch.movedim:
            return f"torch.movedim({', '.join(map(self.text, node.args))})"
        if function.__module__.startswith("netferry."):
            return call_text(node, self.text, self.held.helpers.name, unsigned=self.unsigned)
        if function.__name__ == "pos":
            raise UnsupportedError("the graph holds a value that torch cannot compute")
        raise UnsupportedError(f"a call of {function.__name__} cannot be written as source")

    def choice(self, node: fx.Node) -> list[str] | None:
        """The lines of an If; None for any other node."""
        module = self.module.get_submodule(str(node.target)) if node.op == "call_module" else None
        if not isinstance(module, If):
            return None
        name, (condition, *args) = self.variables.names[node], map(self.text, node.args)
        then, other = (self.method_of(f"{self._full(str(node.target))}.{n}") for n in ("then_branch", "else_branch"))
        return [
            f"if {condition}:", f"    {name} = {then}({', '.join(args[: module.split])})",
            "else:", f"    {name} = {other}({', '.join(args[module.split :])})",
        ]  # fmt: skip

    def _full(self, path: str) -> str:
        return f"{self.prefix}.{path}" if self.prefix else path

    def _call_module(self, node: fx.Node) -> str:
        path = str(node.target)
        module = self.module.get_submodule(path)
        args = [self.text(a) for a in node.args]
        full = self._full(path)
        if isinstance(module, Loop):
            settings = f"carried={module.carried}, outputs={module.outputs}"
            function = self.held.helpers.name(run_loop)
        elif isinstance(module, Scan):
            settings = ", ".join(f"{k}={literal(v)}" for k, v in module.settings.items())
            function = self.held.helpers.name(run_scan)
        elif isinstance(module, SequenceMap):
            settings, function = f"inputs={module.inputs}", self.held.helpers.name(run_map)
        else:
            return f"{self.held.at(full)}({', '.join(args)})"
        return f"{function}({', '.join([self.method_of(f'{full}.body'), *args, settings])})"


def _tuple(inner: str) -> str:
    """A tuple's items as a tuple."""
    return f"({inner})"


def comment_of(node: fx.Node) -> str:
    """The source layer of a call that does not name it itself; only characters of names, as it comes from a file."""
    layer = node.meta.get("netferry.layer") if node.op == "call_function" else None
    return re.sub(r"[^0-9A-Za-z_./: -]+", "_", layer)[:60].strip() if layer else ""
