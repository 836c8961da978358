"""Weights of a module under construction: one Parameter per initializer and packing, and where each lies."""

from __future__ import annotations

import sys
from typing import NamedTuple

import torch
from torch import Tensor, nn

from netferry.errors import Uninitialised
from netferry.runtime.torch.dtypes import TORCH_OF
from netferry.runtime.torch.facts import torch_values
from netferry.runtime.torch.naming import Paths
from netferry.runtime.torch.packing import PLAIN, Packing
from netferry.schemas.ir import ir
from netferry.schemas.layers import Role, role_of, sizes, static_shape
from netferry.schemas.tensors import TensorFiles, array_of, filler_of, in_file

_SMALL = 1 << 16
"""bytes of values that are kept while the module is made"""


class Place(NamedTuple):
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
        self._files = TensorFiles()
        self._small: dict[int, Tensor] = {}
        """values by the tensor that holds them: exporters give one to all batch norms that have equal values"""

    def close(self) -> None:
        """Close the file that weights were read from."""
        self._files.__exit__()
        self._small.clear()

    def want(self, value: ir.Value, packing: Packing) -> None:
        """Announce a use; unequal packings of one learnable make it raw."""
        if self._packings.setdefault(value, packing.key) != packing.key:
            self.raw.add(value)

    def tensors(self, value: ir.Value, packing: Packing = PLAIN) -> list[Tensor]:
        """The parameters (or tensors, for what does not learn) of an initializer, the same ones each time."""
        key = (value, packing.key)
        if (held := self._held.get(key)) is None:
            whole = self._values(value)
            parts = [whole] if packing is PLAIN else [p.contiguous() for p in packing.unpack(whole)]
            learns = role_of(value) is Role.LEARNABLE and whole.dtype.is_floating_point
            held = self._held[key] = [nn.Parameter(p) for p in parts] if learns else parts
        return held

    def put(self, module: nn.Module, path: str, value: ir.Value, packing: Packing, names: list[str]) -> None:
        """Give a module its parameters; state becomes a buffer, constants a buffer that is not saved."""
        role = role_of(value)
        parameters, buffers = module._parameters, module._buffers
        twice = isinstance(module, nn.RNNBase)  # keeps a list of its weights beside them
        for name, tensor in zip(names, self.tensors(value, packing), strict=True):
            if type(tensor) is nn.Parameter:  # whose isinstance takes its time
                if twice:
                    setattr(module, name, tensor)
                else:
                    parameters[name] = tensor
            elif name in buffers:
                buffers[name] = tensor
            else:
                parameters.pop(name, None)
                module.register_buffer(name, tensor, persistent=role == Role.STATE)
                if twice:
                    setattr(module, name, tensor)
        if role is not Role.CONSTANT:
            prefix = f"{path}." if path else ""
            self.record(value, packing, [prefix + name for name in names])

    def record(self, value: ir.Value, packing: Packing, paths: list[str]) -> None:
        """Remember where an initializer lies; the first place stands for all that share it."""
        name = value.name
        if name and name not in self.places and (role := role_of(value)) is not Role.CONSTANT:
            self.places[name] = Place(name, role, static_shape(value), packing, tuple(paths))

    def _values(self, value: ir.Value) -> Tensor:
        """The values of an initializer in memory of torch's own."""
        held = value.const_value
        known = self._small.get(id(held))
        if known is not None:
            return known.clone()
        made = self._read(value)
        if made.nbytes <= _SMALL:
            self._small[id(held)] = made
        return made

    def _read(self, value: ir.Value) -> Tensor:
        """The values; those in a file are read in one go, those in a message taken as they lie there."""
        held = value.const_value
        if type(held) is ir.TensorProtoTensor and (made := _in_message(held)) is not None:
            return made
        if in_file(held) and (kind := TORCH_OF.get(int(held.dtype))) and filler_of(held) is None:
            made = torch.empty(sizes(held.shape), dtype=kind)
            bits = made.view(torch.int16) if kind is torch.bfloat16 else made  # NumPy has no such type
            if self._files.read_into(held, bits.numpy()):
                return made
        array = array_of(value)
        if array is None:
            raise Uninitialised(f"parameter {value.name!r} has no values")
        return torch_values(array)


def _in_message(tensor: ir.TensorProtoTensor) -> Tensor | None:
    """The raw values of a tensor of a message, in memory of torch's own; None where they are none."""
    proto = tensor.raw
    kind = TORCH_OF.get(proto.data_type)
    if kind is None or not proto.raw_data or sys.byteorder != "little" or filler_of(tensor) is not None:
        return None
    return torch.frombuffer(bytearray(proto.raw_data), dtype=kind).reshape(tuple(proto.dims)).clone()
