"""The table of operators: one function each, whose signature is the ONNX schema.

``@op`` registers a function under its own name: positional parameters are the operator's inputs, keywords its
attributes with ONNX's defaults. Annotations tell the builder what an input has to be: ``HostInts``, ``HostInt``,
``HostFloats`` and ``HostFloat`` are Python numbers (shapes, axes, sizes: nothing that lives on a device), anything
else is a tensor. Two keywords are no attributes: ``outputs`` gets the number of outputs that the node has, ``like`` a
tensor on the module's device.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])
HostInts = list[int]
HostInt = int
HostFloats = list[float]
HostFloat = float
_EXTRA = ("outputs", "like")


@dataclass(frozen=True)
class Op:
    """An operator's function, with what its signature says."""

    name: str
    function: Callable[..., Any]
    inputs: tuple[str, ...]
    """names of the inputs; the last one may stand for any number"""
    kinds: tuple[str, ...]
    """per input: ``tensor``, ``vector`` (a list of numbers) or ``scalar`` (a number)"""
    required: int
    """inputs that must be there"""
    variadic: bool
    attributes: dict[str, Any]
    """attributes with their defaults; ``inspect.Parameter.empty`` where there is none"""
    extras: frozenset[str]
    many: str
    """``always`` returns several values, ``if asked`` where the node has several outputs, or ``never``"""

    def kind(self, i: int) -> str:
        """What the i-th input has to be."""
        return self.kinds[min(i, len(self.kinds) - 1)]


OPS: dict[str, Op] = {}


def op(function: F) -> F:
    """Register a function as the operator of its own name."""
    name = function.__name__
    if name in OPS:
        raise AssertionError(f"two functions for {name}")
    parameters = list(inspect.signature(function).parameters.values())
    inputs = [p for p in parameters if p.kind is not inspect.Parameter.KEYWORD_ONLY]
    keywords = [p for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
    OPS[name] = Op(
        name,
        function,
        tuple(p.name for p in inputs),
        tuple(_kind(str(p.annotation)) for p in inputs),
        sum(p.default is inspect.Parameter.empty and p.kind is not inspect.Parameter.VAR_POSITIONAL for p in inputs),
        any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in inputs),
        {p.name: p.default for p in keywords if p.name not in _EXTRA},
        frozenset(p.name for p in keywords if p.name in _EXTRA),
        _many(str(inspect.signature(function).return_annotation)),
    )
    return function


def _many(annotation: str) -> str:
    if annotation.startswith(("tuple[", "list[Tensor")):
        return "always"
    return "if asked" if "| tuple[" in annotation else "never"


def _kind(annotation: str) -> str:
    if annotation.startswith(("HostInts", "HostFloats")):
        return "vector"
    return "scalar" if annotation.startswith(("HostInt", "HostFloat")) else "tensor"


@functools.cache
def operators() -> dict[str, Op]:
    """All operators, by name."""
    from netferry.runtime.torch import ops

    for module in pkgutil.iter_modules(ops.__path__):
        importlib.import_module(f"{ops.__name__}.{module.name}")
    return OPS
