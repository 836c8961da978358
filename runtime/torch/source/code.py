"""The text of ``model.py``: one class with named layers, its forward, what that calls, and how weights come in."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor, fx, nn

from netferry.errors import UnsupportedError
from netferry.runtime.torch.control import If, Loop, Scan, SequenceMap, run_loop, run_map, run_scan
from netferry.runtime.torch.naming import identifier
from netferry.runtime.torch.source.calls import call_text
from netferry.runtime.torch.source.helpers import Helpers
from netferry.runtime.torch.source.layers import constructor, own_settings
from netferry.runtime.torch.source.variables import Variables
from netferry.runtime.torch.source.writing import atom, literal
from netferry.runtime.torch.training_only import TrainingOnly

_CONTROL = (If, Loop, Scan, SequenceMap)
_SMALL = 64
"""constants of more elements lie with the weights"""
_WIDTH = 118
_RESERVED = ("torch", "nn", "F", "math", "json", "Path", "Tensor", "load", "read_safetensors", "TIED")
_READER = '''

def load(weights: str | Path | None = None) -> CLASS:
    """The network with its weights, in eval mode; ``weights`` is a safetensors file, by default the one beside."""
    state = read_safetensors(Path(__file__).with_name("weights.safetensors") if weights is None else weights)
    state.update({name: state[source] for name, source in TIED.items()})
    network = CLASS()
    network.load_state_dict(state)
    return network.eval()


def read_safetensors(path: str | Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file: eight bytes of length, a JSON header, the values."""
    data = bytearray(Path(path).read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    found = {}
    for name, tensor in header.items():
        kind, (begin, end) = _TYPES[tensor["dtype"]], tensor["data_offsets"]
        count = (end - begin) // kind.itemsize
        values = torch.frombuffer(data, dtype=kind, count=count, offset=start + begin) if count else torch.empty(0)
        found[name] = values.reshape(tensor["shape"])
    return found


_TYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "U16": torch.uint16,
    "U32": torch.uint32, "U64": torch.uint64, "BOOL": torch.bool, "C64": torch.complex64,
}  # fmt: skip
'''


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
        self.weights: dict[str, Tensor] = {}
        """what the weights file holds"""
        self.tied: dict[str, str] = {}
        self.anchored = False
        """whether the code asks which device the network is on"""
        self._dicts: set[str] = set()
        self._methods: dict[str, str] = {}
        self._lines: list[str] = []

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
        layers = self._layers()
        about = "\n".join(self.about)
        imports = ["import json", "import math", "from pathlib import Path", *self.helpers.import_lines()]
        head = [
            '"""' + about.replace("\\", "\\\\").replace('"', '\\"'), '"""', "",
            "from __future__ import annotations", "",
            *sorted(set(imports), key=lambda line: (line.startswith("from"), line)), "",
            "import torch", "import torch.nn.functional as F", "from torch import Tensor, nn", "", "",
        ]  # fmt: skip
        tied = [f"    {literal(name)}: {literal(source)}," for name, source in self.tied.items()]
        table = ["TIED: dict[str, str] = {", *tied, "}"] if tied else ["TIED: dict[str, str] = {}"]
        end = ['"""parameters that are one and the same, by their second name"""', ""]
        text = "\n".join(
            [*head, f"class {self.name}(nn.Module):", *layers, "", *forward, *bodies, "", "", *table, *end]
        )
        text += _READER.replace("CLASS", self.name)
        defined = [f"\n\n{definition}" for definition in self.helpers.texts]
        return _without_unused_imports(text + "".join(_spaced(defined)) + "\n")

    # layers ------------------------------------------------------------------------------------------------------

    def _layers(self) -> list[str]:
        lines = ["    def __init__(self) -> None:", "        super().__init__()"]
        if self.anchored:
            lines.append('self.register_buffer("anchor", torch.empty(0), persistent=False)  # where the network lies')
        seen: dict[int, str] = {}
        for path, module in self.module.named_modules():
            if path:
                lines += self._make(path, module)
            tensors = [*module._parameters.items(), *module._buffers.items()]
            for name, tensor in tensors:
                if tensor is not None:
                    lines += self._hold(path, module, name, tensor, seen)
        return [f"        {line}" if i > 1 else line for i, line in enumerate(lines)]

    def _make(self, path: str, module: nn.Module) -> list[str]:
        plain = not _is_layer(module)
        if plain and not _holds_anything(module):
            return []
        made = self._constructed(module) if not plain else "nn.Module()"
        names = [*module._modules, *module._parameters, *module._buffers]
        if plain and any(not n.isidentifier() for n in names) and not any(hasattr(nn.ModuleDict, n) for n in names):
            made = "nn.ModuleDict()"
            self._dicts.add(path)
        holder, _, name = path.rpartition(".")
        if name.isidentifier():
            return [f"{self._at(path)} = {made}"]
        if holder in self._dicts:
            return [f"{self._at(holder)}[{literal(name)}] = {made}"]
        return [f"{self._at(holder)}.add_module({literal(name)}, {made})"]

    def _constructed(self, module: nn.Module) -> str:
        if isinstance(module, TrainingOnly):
            return f"{self.helpers.name(type(module))}({own_settings(module)})"
        return constructor(module)

    def _hold(self, path: str, module: nn.Module, name: str, tensor: Tensor, seen: dict[int, str]) -> list[str]:
        """Parameters and buffers: the layer's own need a line only where they are tied, frozen or constant."""
        full, owner = f"{path}.{name}" if path else name, self._at(path)
        saved = name not in module._non_persistent_buffers_set
        layer = _is_layer(module)
        if isinstance(tensor, nn.Parameter):
            first = seen.setdefault(id(tensor), full)
            if first != full:
                self.tied[full] = first
                return [f"{self._at(path)}.{name} = {self._at(first)}"]
            self.weights[full] = tensor
            new = [f"{owner}.{name} = nn.Parameter({_empty(tensor)})"]
            frozen = [f"{owner}.{name}.requires_grad_(False)"] if not tensor.requires_grad else []
            return [*([] if layer else new), *frozen]
        if layer and name in ("weight", "bias"):  # a constant of the source in the place of a parameter
            self.weights[full] = tensor
            return [f"{owner}.{name}.requires_grad_(False)"]
        if layer:
            self.weights[full] = tensor
            return []
        if name == "anchor":
            return []
        if not saved and tensor.numel() <= _SMALL and not tensor.is_complex():
            values = f"torch.tensor({literal(tensor.tolist())}, dtype={tensor.dtype})"
            if 0 in tensor.shape:
                values = _empty(tensor)
            return [f"{owner}.register_buffer({literal(name)}, {values}, persistent=False)"]
        self.weights[full] = tensor
        return [f"{owner}.register_buffer({literal(name)}, {_empty(tensor)})"]

    def _at(self, path: str) -> str:
        """The expression for a path inside the module."""
        text, done = "self", ""
        for part in path.split(".") if path else []:
            if part.isidentifier():
                text += f".{part}"
            elif done in self._dicts:
                text += f"[{literal(part)}]"
            else:
                text = f"getattr({text}, {literal(part)})"
            done = f"{done}.{part}" if done else part
        return text

    # forward -----------------------------------------------------------------------------------------------------

    def _collect(self, module: fx.GraphModule) -> None:
        """Find all functions that the file has to hold, so that no variable takes their names."""
        for node in module.graph.nodes:
            if node.op == "call_module" and isinstance(inner := module.get_submodule(str(node.target)), _CONTROL):
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
        writer = _Writer(self, module, prefix, variables)
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
            comment = _comment(node)
            lines.append(line if not comment or len(line) + len(comment) > _WIDTH else f"{line}  # {comment}")
        lines.append(f"        return {writer.text(result)}")
        return [part for line in lines for part in _wrapped(line)]

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


class _Writer:
    """Writes the nodes of one graph as expressions."""

    def __init__(self, code: Code, module: fx.GraphModule, prefix: str, variables: Variables) -> None:
        self.code, self.module, self.prefix, self.variables = code, module, prefix, variables

    def text(self, value: Any) -> str:
        """Any argument as code."""
        if isinstance(value, fx.Node):
            return self.variables.names[value] if value in self.variables.names else self.expression(value)
        if isinstance(value, (list, tuple)):
            inner = ", ".join(map(self.text, value))
            return f"[{inner}]" if isinstance(value, list) else f"({inner},)" if len(value) == 1 else inner_tuple(inner)
        return literal(value)

    def expression(self, node: fx.Node) -> str:
        """A node as code, its operands as variables or expressions."""
        if node.op == "get_attr":
            path = str(node.target)
            self.code.anchored = self.code.anchored or path == "anchor"
            return "self.anchor" if path == "anchor" else self.code._at(self._full(path))
        if node.op == "call_module":
            return self._call_module(node)
        function: Any = node.target
        if function.__name__ == "getitem":
            return f"{atom(self.text(node.args[0]))}[{self.text(node.args[1])}]"
        if function is torch.movedim:
            return f"torch.movedim({', '.join(map(self.text, node.args))})"
        if function.__module__.startswith("netferry."):
            return call_text(node, self.text, self.code.helpers.name, unsigned=self.code.unsigned)
        if function.__name__ == "pos":
            raise UnsupportedError("the graph holds a value that torch cannot compute")
        raise UnsupportedError(f"a call of {function.__name__} cannot be written as source")

    def choice(self, node: fx.Node) -> list[str] | None:
        """The lines of an If; None for any other node."""
        module = self.module.get_submodule(str(node.target)) if node.op == "call_module" else None
        if not isinstance(module, If):
            return None
        name, (condition, *args) = self.variables.names[node], map(self.text, node.args)
        then, other = (
            self.code.method_of(f"{self._full(str(node.target))}.{n}") for n in ("then_branch", "else_branch")
        )
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
            function = self.code.helpers.name(run_loop)
        elif isinstance(module, Scan):
            settings = ", ".join(f"{k}={literal(v)}" for k, v in module.settings.items())
            function = self.code.helpers.name(run_scan)
        elif isinstance(module, SequenceMap):
            settings, function = f"inputs={module.inputs}", self.code.helpers.name(run_map)
        else:
            return f"{self.code._at(full)}({', '.join(args)})"
        return f"{function}({', '.join([self.code.method_of(f'{full}.body'), *args, settings])})"


def inner_tuple(inner: str) -> str:
    """A tuple's items as a tuple."""
    return f"({inner})"


def _is_layer(module: nn.Module) -> bool:
    """Whether a module is one of torch.nn that computes, and not a mere holder of others."""
    return type(module) is not nn.Module and not isinstance(module, (fx.GraphModule, *_CONTROL))


def _holds_anything(module: nn.Module) -> bool:
    """Whether layers, parameters or constants lie inside."""
    held = (name.rpartition(".")[2] for name, _ in [*module.named_parameters(), *module.named_buffers()])
    return any(map(_is_layer, module.modules())) or any(name != "anchor" for name in held)


def _blank(value: Any) -> str:
    """Any argument as code, before variables have names."""
    if isinstance(value, fx.Node):
        return "_"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_blank, value)) + "]"
    return literal(value)


def _empty(tensor: Tensor) -> str:
    kind = "" if tensor.dtype is torch.float32 else f", dtype={tensor.dtype}"
    return f"torch.empty({literal(tuple(tensor.shape))}{kind})"


def _comment(node: fx.Node) -> str:
    """The source layer of a call that does not name it itself; only characters of names, as it comes from a file."""
    layer = node.meta.get("netferry.layer") if node.op == "call_function" else None
    return re.sub(r"[^0-9A-Za-z_./: -]+", "_", layer)[:60].strip() if layer else ""


def _wrapped(line: str) -> list[str]:
    """Break a long line behind commas inside brackets."""
    if len(line) <= _WIDTH or '"' in line or "'" in line or "#" in line:
        return [line]
    indent = " " * (len(line) - len(line.lstrip()) + 4)
    lines, current, depth = [], "", 0
    for piece in re.split(r"(?<=, )", line):
        if current and len(current) + len(piece) > _WIDTH and depth > 0:
            lines.append(current.rstrip())
            current = indent
        current += piece
        depth += sum(piece.count(c) for c in "([{") - sum(piece.count(c) for c in ")]}")
    return [*lines, current]


def _spaced(definitions: list[str]) -> list[str]:
    return [d if d.lstrip().startswith(("def", "class", "@")) else d[1:] for d in definitions]


def _without_unused_imports(text: str) -> str:
    """Leave out what the file does not use in the end."""
    head, mark, body = text.partition("\nclass ")
    kept = []
    for line in head.splitlines():
        name = {"import math": "math.", "import torch.nn.functional as F": "F."}.get(line)
        if name is None or re.search(rf"\b{re.escape(name)}", body):
            kept.append(line)
    return "\n".join(kept) + "\n" + mark + body
