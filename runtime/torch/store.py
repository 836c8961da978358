"""Weights of a module under construction: one Parameter per initializer and packing, and where each lies."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from netferry.errors import Uninitialised
from netferry.runtime.torch.dtypes import TORCH_OF
from netferry.runtime.torch.facts import torch_values
from netferry.runtime.torch.naming import Paths
from netferry.runtime.torch.packing import PLAIN, Packing
from netferry.schemas.ir import ir
from netferry.schemas.layers import Role, role_of
from netferry.schemas.tensors import array_of, filler_of, read_into


@dataclass(frozen=True)
class Place:
    """Where an initializer of the graph lies in the module: parameters or buffers by path, and the way back."""

    initializer: str
    role: Role
    shape: tuple[int, ...]
    packing: Packing
    paths: tuple[str, ...]


class Store:
    """Holds what modules share."""

    def __init__(self, trainable: bool = True) -> None:
        self.paths = Paths()
        self.places: dict[str, Place] = {}
        self.raw: set[ir.Value] = set()
        """initializers that two modules want in different packings: they stay as they are, functions take them"""
        self._held: dict[tuple[ir.Value, str], list[Tensor]] = {}
        self._packings: dict[ir.Value, str] = {}

    def want(self, value: ir.Value, packing: Packing) -> None:
        """Announce a use; unequal packings of one learnable make it raw."""
        if self._packings.setdefault(value, packing.key) != packing.key:
            self.raw.add(value)

    def tensors(self, value: ir.Value, packing: Packing = PLAIN) -> list[Tensor]:
        """The parameters (or tensors, for what does not learn) of an initializer, the same ones each time."""
        key = (value, packing.key)
        if key not in self._held:
            parts = [p.contiguous() for p in packing.unpack(_values(value))]
            learns = role_of(value) == Role.LEARNABLE and parts[0].dtype.is_floating_point
            self._held[key] = [nn.Parameter(p) if learns else p for p in parts]
        return self._held[key]

    def put(self, module: nn.Module, path: str, value: ir.Value, packing: Packing, names: list[str]) -> None:
        """Give a module its parameters; state becomes a buffer, constants a buffer that is not saved."""
        role = role_of(value)
        for name, tensor in zip(names, self.tensors(value, packing), strict=True):
            if isinstance(tensor, nn.Parameter):
                if isinstance(module, nn.RNNBase):  # keeps a list of its weights beside them
                    setattr(module, name, tensor)
                else:
                    module._parameters[name] = tensor
            elif name in module._buffers:
                module._buffers[name] = tensor
            else:
                if name in module._parameters:
                    del module._parameters[name]
                module.register_buffer(name, tensor, persistent=role == Role.STATE)
        prefix = f"{path}." if path else ""
        self.record(value, packing, [prefix + name for name in names])

    def record(self, value: ir.Value, packing: Packing, paths: list[str]) -> None:
        """Remember where an initializer lies; the first place stands for all that share it."""
        role = role_of(value)
        if role != Role.CONSTANT and value.name and value.name not in self.places:
            shape = () if value.shape is None else tuple(value.shape.numpy())
            self.places[value.name] = Place(value.name, role, shape, packing, tuple(paths))


def _values(value: ir.Value) -> Tensor:
    """The values of an initializer in memory of torch's own, read from their file in one go where they lie in one."""
    held = value.const_value
    if isinstance(held, ir.ExternalTensor) and filler_of(held) is None and int(held.dtype) in TORCH_OF:
        made = torch.empty(tuple(held.shape.numpy()), dtype=TORCH_OF[int(held.dtype)])
        if read_into(held, made.view(-1).view(torch.uint8).numpy()):
            return made
    array = array_of(value)
    if array is None:
        raise Uninitialised(f"parameter {value.name!r} has no values")
    return torch_values(array)
