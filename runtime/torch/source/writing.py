"""Python values and calls as code: what the forms of all families write with."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

Renderer = Callable[["Call"], "str | None"]
"""writes a call; None where torch has no short form for it"""


@dataclass
class Call:
    """One call: its arguments by parameter, defaults filled in.

    Attributes:
        node: the node of the fx graph.
        text: writes any argument as code.
        given: arguments by parameter; those of a ``*parameter`` as a tuple.
    """

    node: fx.Node
    text: Callable[[Any], str]
    given: dict[str, Any]

    def __getitem__(self, name: str) -> str:
        return self.text(self.given[name])

    @property
    def floating(self) -> bool:
        """Whether the result is known to be of floating point."""
        return self.node.meta.get("netferry.floating") is True


def literal(value: Any) -> str:
    """A Python value as code; strings are quoted, infinities spelled."""
    if isinstance(value, torch.dtype):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "math.nan" if math.isnan(value) else "math.inf" if value > 0 else "-math.inf"
    if isinstance(value, (list, tuple)):
        inner = ", ".join(map(literal, value))
        return f"[{inner}]" if isinstance(value, list) else f"({inner},)" if len(value) == 1 else f"({inner})"
    if isinstance(value, str):
        return f'"{value}"' if value.isprintable() and not set(value) & {'"', "\\"} else repr(value)
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)
    raise TypeError(f"{type(value).__name__} cannot be written as code")


def atom(text: str) -> str:
    """The text in brackets where an operator beside it could tear it apart."""
    depth, quote = 0, ""
    for i, c in enumerate(text):
        if quote:
            quote = "" if c == quote else quote
        elif c in "'\"":
            quote = c
        elif c in "([{":
            depth += 1
        elif c in ")]}":
            depth -= 1
        elif depth == 0 and (c in " +*/<>=&|^~@%" or (c == "-" and i == 0)):
            return f"({text})"
    return text


def literal_list(items: list[str]) -> str:
    """Items as a list."""
    return f"[{', '.join(items)}]"


def balanced(text: str) -> bool:
    """Whether brackets close in order, so that the text is the inside of one list."""
    depth = 0
    for c in text:
        depth += (c in "([") - (c in ")]")
        if depth < 0:
            return False
    return depth == 0


def whole_numbers(value: Any) -> list[int] | None:
    """A list of whole numbers that is known when the code is written."""
    known = isinstance(value, (list, tuple)) and all(isinstance(v, int) for v in value)
    return list(value) if known else None


def axes_text(axes: list[int]) -> str:
    """Return how torch code says ``axes``, or None where it has no short form."""
    return str(axes[0]) if len(axes) == 1 else literal(tuple(axes))


def template(pattern: str, *names: str) -> Renderer:
    """A form that only fills in its operands; ``{0}`` is the first of ``names``."""

    def render(call: Call) -> str:
        return pattern.format(*(call[name] for name in names))

    return render


def infix(symbol: str, a: str = "A", b: str = "B") -> Renderer:
    """Return how torch code says ``infix``, or None where it has no short form."""

    def render(call: Call) -> str:
        return f"{atom(call[a])} {symbol} {atom(call[b])}"

    return render
