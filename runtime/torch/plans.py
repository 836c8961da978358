"""The plan of a module: what makes it, which initializers it holds, what stands around it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

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
    recurrent: dict[str, Any] | None = None
    """for recurrent layers: directions, batch_first, backward, memory"""


def bare(kind: Callable[..., nn.Module], *settings: Any, **named: Any) -> nn.Module:
    """Make a module without drawing random weights: they get their values from the model."""
    module = _undrawn(kind)(*settings, **named, device="cpu")
    module.__class__ = kind
    return module


@functools.cache
def _undrawn(kind: Any) -> Any:
    """The class without its ``reset_parameters``: memory that nobody wrote to costs next to nothing."""
    return type(kind.__name__, (kind,), {"reset_parameters": lambda self: None})


def bindings_key(bindings: Bindings) -> tuple[Any, ...]:
    """What tells two bindings apart."""
    return tuple((id(value), packing.key) for value, packing, _ in bindings)
