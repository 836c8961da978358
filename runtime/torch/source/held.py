"""What a written class holds: its layers, parameters and constants, made in ``__init__``."""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn

from netferry.runtime.torch.control import If, Loop, Scan, SequenceMap
from netferry.runtime.torch.source.helpers import Helpers
from netferry.runtime.torch.source.layers import constructor, own_settings
from netferry.runtime.torch.source.writing import literal
from netferry.runtime.torch.training_only import TrainingOnly

CONTROL = (If, Loop, Scan, SequenceMap)
_SMALL = 64
"""constants of more elements lie with the weights"""


class Held:
    """Writes ``__init__``, and the expressions for what it makes.

    Args:
        module: the module to write.
        helpers: what the file defines beside the class.
    """

    def __init__(self, module: fx.GraphModule, helpers: Helpers) -> None:
        self.module, self.helpers = module, helpers
        self.weights: dict[str, Tensor] = {}
        """what the weights file holds"""
        self.tied: dict[str, str] = {}
        self.anchored = False
        """whether the code asks which device the network is on"""
        self._dicts: set[str] = set()
        self._modules = {path for path, _ in module.named_modules()}

    def lines(self) -> list[str]:
        """The lines of ``__init__``."""
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
        numbered = any(not n.isidentifier() for n in module._modules)
        if plain and numbered and not any(hasattr(nn.ModuleDict, n) for n in names):
            made = "nn.ModuleDict()"
            self._dicts.add(path)
        holder, _, name = path.rpartition(".")
        if name.isidentifier():
            return [f"{self.at(path)} = {made}"]
        if holder in self._dicts:
            return [f"{self.at(holder)}[{literal(name)}] = {made}"]
        return [f"{self.at(holder)}.add_module({literal(name)}, {made})"]

    def _constructed(self, module: nn.Module) -> str:
        if isinstance(module, TrainingOnly):
            return f"{self.helpers.name(type(module))}({own_settings(module)})"
        return constructor(module)

    def _hold(self, path: str, module: nn.Module, name: str, tensor: Tensor, seen: dict[int, str]) -> list[str]:
        """Parameters and buffers: the layer's own need a line only where they are tied, frozen or constant."""
        full, owner = f"{path}.{name}" if path else name, self.at(path)
        saved = name not in module._non_persistent_buffers_set
        layer = _is_layer(module)
        if isinstance(tensor, nn.Parameter):
            first = seen.setdefault(id(tensor), full)
            if first != full:
                self.tied[full] = first
                return [_given(owner, name, self.at(first))]
            self.weights[full] = tensor
            new = [_given(owner, name, f"nn.Parameter({_empty(tensor)})")]
            frozen = [f"{self.at(full)}.requires_grad_(False)"] if not tensor.requires_grad else []
            return [*([] if layer else new), *frozen]
        recurrent = isinstance(module, nn.RNNBase)
        if layer and (recurrent or name in ("weight", "bias")):  # a constant of the source in the place of a parameter
            alike = tensor.numel() > 0 and bool((tensor == tensor.reshape(-1)[0]).all())
            values, rest = _empty(tensor), ""
            if alike:
                value = literal(tensor.reshape(-1)[0].item())
                kind = "" if tensor.dtype is torch.float32 else f", dtype={tensor.dtype}"
                values, rest = f"torch.full({literal(tuple(tensor.shape))}, {value}{kind})", ", persistent=False"
            else:
                self.weights[full] = tensor
            if recurrent:  # which keeps a list of its weights beside them, and hears of what it is given alone
                bare = f"{owner}.register_buffer({literal(name)}, None{rest})"
                return [f"del {owner}.{name}", bare, f"{owner}.{name} = {values}"]
            return [f"del {owner}.{name}", f"{owner}.register_buffer({literal(name)}, {values}{rest})"]
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

    def at(self, path: str) -> str:
        """The expression for a path inside the module."""
        text, done = "self", ""
        for part in path.split(".") if path else []:
            if part.isidentifier():
                text += f".{part}"
            elif done in self._dicts and (f"{done}.{part}" if done else part) in self._modules:
                text += f"[{literal(part)}]"
            else:
                text = f"getattr({text}, {literal(part)})"
            done = f"{done}.{part}" if done else part
        return text


def _given(owner: str, name: str, value: str) -> str:
    """The line that gives a module a parameter; items of lists have numbers for names."""
    if name.isidentifier():
        return f"{owner}.{name} = {value}"
    return f"{owner}.register_parameter({literal(name)}, {value})"


def _is_layer(module: nn.Module) -> bool:
    """Whether a module is one of torch.nn that computes, and not a mere holder of others."""
    return type(module) is not nn.Module and not isinstance(module, (fx.GraphModule, *CONTROL))


def _holds_anything(module: nn.Module) -> bool:
    """Whether layers, parameters or constants lie inside."""
    held = (name.rpartition(".")[2] for name, _ in [*module.named_parameters(), *module.named_buffers()])
    return any(map(_is_layer, module.modules())) or any(name != "anchor" for name in held)


def _empty(tensor: Tensor) -> str:
    kind = "" if tensor.dtype is torch.float32 else f", dtype={tensor.dtype}"
    return f"torch.empty({literal(tuple(tensor.shape))}{kind})"
