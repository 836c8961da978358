"""Layers as the lines that make them: ``self.conv1 = nn.Conv2d(3, 64, 7, stride=2, bias=False)``."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from netferry.errors import UnsupportedError
from netferry.runtime.torch.source.writing import literal

_POSITIONAL = {
    "in_channels", "out_channels", "kernel_size", "in_features", "out_features", "num_features", "num_groups",
    "num_channels", "num_embeddings", "embedding_dim", "normalized_shape", "output_size", "input_size", "hidden_size",
    "num_parameters", "dim", "p",
}  # fmt: skip
_RECURRENT = {
    "input_size": inspect.Parameter.empty, "hidden_size": inspect.Parameter.empty, "num_layers": 1,
    "nonlinearity": "tanh", "bias": True, "batch_first": False, "dropout": 0.0, "bidirectional": False,
}  # fmt: skip
_SKIPPED = {"device", "dtype", "inplace", "_weight", "_freeze", "init"}


def constructor(module: nn.Module) -> str:
    """The call that makes a layer of torch.nn like this one, its weights aside.

    Raises:
        UnsupportedError: the module is not torch.nn's own.
    """
    kind = next((k for k in type(module).__mro__ if k.__module__.startswith("torch.nn.modules.")), nn.Module)
    if kind is nn.Module or getattr(nn, kind.__name__, None) is not kind:
        raise UnsupportedError(f"a {type(module).__name__} cannot be written as source")
    parts = []
    for name, default in _parameters(kind, module).items():
        value = _setting(module, name)
        if default is inspect.Parameter.empty and name in _POSITIONAL:
            parts.append(literal(value))
        elif not _alike(value, default):
            parts.append(literal(value) if name in _POSITIONAL else f"{name}={literal(value)}")
    kind_of_numbers = _dtype(module)
    if kind_of_numbers is not torch.float32:
        parts.append(f"dtype={kind_of_numbers}")
    return f"nn.{kind.__name__}({', '.join(parts)})"


def own_settings(module: nn.Module) -> str:
    """The arguments that make a module whose class is written out beside the network."""
    found = inspect.signature(type(module).__init__).parameters
    held = {name: (getattr(module, name), p.default) for name, p in found.items() if name != "self"}
    return ", ".join(f"{name}={literal(value)}" for name, (value, usual) in held.items() if not _alike(value, usual))


def _parameters(kind: type[nn.Module], module: nn.Module) -> dict[str, Any]:
    if isinstance(module, nn.RNNBase):
        return {k: v for k, v in _RECURRENT.items() if k != "nonlinearity" or kind is nn.RNN}
    found = inspect.signature(kind.__init__).parameters
    return {k: p.default for k, p in found.items() if k != "self" and k not in _SKIPPED and hasattr(module, k)}


def _setting(module: nn.Module, name: str) -> Any:
    value = getattr(module, name)
    if name == "bias" and not isinstance(value, bool):
        return value is not None
    if isinstance(value, (tuple, list)):
        shorter = name != "normalized_shape" and len(set(value)) == 1
        return value[0] if shorter or len(value) == 1 else tuple(value)
    return value


def _alike(value: Any, default: Any) -> bool:
    return value is default or (type(value) is type(default) and value == default)


def _dtype(module: nn.Module) -> torch.dtype:
    tensors: list[Tensor] = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    return next((t.dtype for t in tensors if t.dtype.is_floating_point), torch.float32)
