"""The text of ``model.py``: one class with named layers, its forward, and a method for each body of control flow."""

from __future__ import annotations

from typing import Any

from torch import fx

from netferry.runtime.torch.control import If, Loop, Scan, SequenceMap, run_loop, run_map, run_scan
from netferry.runtime.torch.naming import identifier
from netferry.runtime.torch.source.calls import call_text
from netferry.runtime.torch.source.expressions import Expressions, comment_of
from netferry.runtime.torch.source.held import CONTROL, Held
from netferry.runtime.torch.source.helpers import Helpers
from netferry.runtime.torch.source.text import file_text, fits, wrapped
from netferry.runtime.torch.source.variables import Variables
from netferry.runtime.torch.source.writing import literal

_RESERVED = ("torch", "nn", "F", "math", "json", "Path", "Tensor", "load", "read_safetensors", "TIED")


class Code:
    """Writes a module as source.

    Args:
        module: an ``fx.GraphModule`` that netferry built.
        name: the class's name, an identifier.
        about: lines for the docstring at the top.
        unsigned: the graph holds uint16, uint32 or uint64.
    """

    def __init__(self, module: fx.GraphModule, name: str, about: list[str], *, unsigned: bool = False) -> None:
        self.module, self.name, self.about, self.unsigned = module, name, about, unsigned
        self.helpers = Helpers(unsigned=unsigned, reserved=(name, *_RESERVED))
        self.held = Held(module, self.helpers)
        self._methods: dict[str, str] = {}

    def text(self) -> str:
        """The whole file."""
        self._collect(self.module)
        forward = self._forward(self.module, "", "forward")
        bodies: list[str] = []
        written = set[str]()
        while waiting := [item for item in self._methods.items() if item[0] not in written]:
            for path, method in waiting:  # writing one may ask for others inside it
                bodies += self._body(path, method)
                written.add(path)
        body = [*self.held.lines(), "", *forward, *bodies]
        return file_text(
            self.name, self.about, self.helpers.import_lines(), body, self.held.tied, list(self.helpers.texts)
        )

    def _collect(self, module: fx.GraphModule) -> None:
        """Find all functions that the file has to hold, so that no variable takes their names."""
        for node in module.graph.nodes:
            if node.op == "call_module" and isinstance(inner := module.get_submodule(str(node.target)), CONTROL):
                if function := {Loop: run_loop, Scan: run_scan, SequenceMap: run_map}.get(type(inner)):
                    self.helpers.name(function)
                for name in ("then_branch", "else_branch") if isinstance(inner, If) else ("body",):
                    self._collect(getattr(inner, name))
            elif node.op == "call_function" and (node.target.__module__ or "").startswith("netferry."):  # type: ignore[union-attr]
                call_text(
                    node,
                    lambda v: "_" if isinstance(v, fx.Node) else _blank(v),
                    self.helpers.name,
                    unsigned=self.unsigned,
                )

    def _forward(self, module: fx.GraphModule, prefix: str, method: str) -> list[str]:
        variables = Variables(
            module.graph, {"torch", "nn", "F", "math", "json", "load", self.name, *self.helpers.names}
        )
        writer = Expressions(self.held, self.method_of, module, prefix, variables, unsigned=self.unsigned)
        inputs = [variables.names[n] for n in module.graph.nodes if n.op == "placeholder"]
        result = next(n for n in module.graph.nodes if n.op == "output").args[0]
        several = isinstance(result, (tuple, list))
        kinds = "Tensor" if not prefix else "Any"
        if prefix:
            self.helpers.imports.add(("typing", "Any"))
        signature = ", ".join(["self", *(f"{name}: {kinds}" for name in inputs)])
        returned = "tuple[Tensor, ...]" if several and not prefix else kinds
        lines = [f"    def {method}({signature}) -> {returned}:"]
        for node in variables.statements:
            if (choice := writer.choice(node)) is not None:
                lines += [f"        {line}" for line in choice]
                continue
            expression = writer.expression(node)
            if expression == variables.names[node]:
                continue
            line = f"        {variables.names[node]} = {expression}"
            comment = comment_of(node)
            lines.append(line if not comment or not fits(line + comment) else f"{line}  # {comment}")
        lines.append(f"        return {writer.text(result)}")
        return [part for line in lines for part in wrapped(line)]

    def _body(self, path: str, method: str) -> list[str]:
        inner: Any = self.module.get_submodule(path)
        return ["", *self._forward(inner, path, method)]

    def method_of(self, path: str) -> str:
        """The method that a body of control flow becomes."""
        if path not in self._methods:
            name = base = identifier("_".join(path.split(".")[-2:])).lower()
            number = 1
            while name in self._methods.values() or hasattr(self.module, name):
                number += 1
                name = f"{base}_{number}"
            self._methods[path] = name
        return f"self.{self._methods[path]}"


def _blank(value: Any) -> str:
    """Any argument as code, before variables have names."""
    if isinstance(value, fx.Node):
        return "_"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_blank, value)) + "]"
    return literal(value)
