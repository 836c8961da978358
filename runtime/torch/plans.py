"""The plan of a module: what makes it, which initializers it holds, what stands around it."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from netferry.runtime.torch.packing import Packing
from netferry.schemas.ir import ir

Bindings = list[tuple[ir.Value, Packing, list[str]]]


@dataclass
class Plan:
    """A module that takes the place of a node (or two)."""

    make: Callable[[], nn.Module]
    """makes the module; its parameters get their values afterwards"""
    bindings: Bindings
    """initializer, packing, names of the module's parameters"""
    key: tuple[Any, ...]
    """nodes of one layer with equal keys share the module"""
    before: tuple[str, dict[str, Any]] | None = None
    """a function of :mod:`glue` that the input passes through first"""
    absorbs: ir.Node | None = None
    """an Add whose bias the module holds"""
    hidden: list[ir.Node] = field(default_factory=list)
    """nodes that only prepare what the module holds"""
    loose: bool = False
    """the weights are attributes of their own (``in_proj_weight``), read by a call of ``linear``"""
    recurrent: Recurrent | None = None
    """for recurrent layers: how they are called"""


@dataclass
class Recurrent:
    """How a recurrent module takes the place of a node and of what stands around it."""

    directions: int
    layout: int
    """of the node: 1 where its sequences and states lie batch first"""
    backward: bool
    memory: bool
    """whether there is a cell state"""
    batch_first: bool
    """of the module"""
    x: ir.Value
    """what the module reads"""
    sequences: list[ir.Value] = field(default_factory=list)
    """values that are the module's first output as it stands; where there are none, the node's Y is made of it"""
    states_only: bool = False
    """nobody reads the outputs of the steps"""
    hidden: list[ir.Node] = field(default_factory=list)
    """nodes between the node's Y and ``sequences``"""


def bare(kind: type[nn.Module], settings: Mapping[str, Any], **sizes: int) -> nn.Module:
    """Make a module without memory for weights: they get their values from the model.

    A constructor of torch draws random weights and sets each attribute through ``nn.Module.__setattr__``, which takes
    longer than all else that is done for a layer. So one module of a kind is made, on torch's meta device, and the
    others are copies of it: what a module of the same settings holds.

    Args:
        kind: a class of torch.nn whose parameters and running statistics are all bound afterwards.
        settings: keywords of its constructor.
        sizes: keywords of its constructor that, but for the shapes of parameters, only become attributes of that name.
    """
    return copied(kind, (*settings.items(), *((name, 1) for name in sizes), ("device", "meta")), **sizes)


def copied(kind: type[nn.Module], settings: tuple[tuple[str, Any], ...] = (), **own: Any) -> nn.Module:
    """Return a copy of the module that a class makes of settings; ``own`` are attributes that the copy has instead."""
    plain, empty, filled, counters = _first_of(kind, settings)
    made = kind.__new__(kind)
    held = made.__dict__
    held.update(plain)
    held.update(own)
    for name, container in empty:
        held[name] = container()
    for name, value in filled:
        held[name] = value.copy()
    for name, dtype in counters:
        held["_buffers"][name] = torch.zeros((), dtype=dtype)
    return made


_CONTAINERS = (dict, OrderedDict, set, list)


@functools.lru_cache(1024)
def _first_of(kind: type[nn.Module], settings: tuple[tuple[str, Any], ...]) -> tuple[Any, ...]:
    """What a module holds: what stays as it is, its empty containers, the filled ones, and buffers that count."""
    first = kind(**dict(settings)).__dict__
    own = {name: value for name, value in first.items() if type(value) in _CONTAINERS}
    counters = [(n, b.dtype) for n, b in first["_buffers"].items() if b is not None and not b.dim()]
    return (
        {name: value for name, value in first.items() if name not in own},
        [(name, type(value)) for name, value in own.items() if not value],
        [(name, value) for name, value in own.items() if value],
        counters,  # num_batches_tracked, which no model holds
    )


def recurrent_module(kind: type[nn.RNNBase], settings: Mapping[str, Any]) -> nn.RNNBase:
    """A recurrent layer without memory for weights; it keeps them in a second place, so each is made by itself."""
    return kind(**settings, device="meta")


def bindings_key(bindings: Bindings) -> tuple[Any, ...]:
    """What tells two bindings apart."""
    return tuple((id(value), packing.key) for value, packing, _ in bindings)
