"""Shape arithmetic on Python numbers: what is computed from shapes never becomes a tensor, nor waits for a device.

A value on the host is an int, float or bool, or a list of them; under torch.compile and torch.export the ints are
symbolic. Each function serves one operator; its rule tells the rank of the result, or None where it cannot be said
on the host.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Ranks = Sequence[int]
Rule = Callable[[Ranks, dict[str, Any], Sequence[Any]], "int | None"]


@dataclass(frozen=True)
class HostOp:
    """A function on Python numbers, and the rank of its result from ranks, attributes and known inputs."""

    function: Callable[..., Any]
    rank: Rule
    attributes: tuple[str, ...] = ()


def as_list(x: Any) -> list[Any]:
    """A list of numbers, from a tensor where it must be (that waits for the device)."""
    if isinstance(x, Tensor):
        return x.reshape(-1).tolist()
    return list(x) if isinstance(x, (list, tuple)) else [x]


def as_number(x: Any, axes: Any = None) -> Any:
    """A number, from a tensor where it must be (that waits for the device)."""
    if isinstance(x, Tensor):
        return x.item()
    return x[0] if isinstance(x, (list, tuple)) else x


def as_tensor(x: Any, dtype: torch.dtype, like: Tensor) -> Tensor:
    """Numbers as a tensor on the module's device."""
    return torch.tensor(x, dtype=dtype, device=like.device)


def _each(function: Callable[..., Any], *xs: Any) -> Any:
    """Apply a function element by element; numbers and lists of one element are repeated."""
    if not any(isinstance(x, (list, tuple)) for x in xs):
        return function(*xs)
    lists = [as_list(x) for x in xs]
    n = 0 if any(len(v) == 0 for v in lists) else max(len(v) for v in lists)
    return [function(*(v[0] if len(v) == 1 else v[i] for v in lists)) for i in range(n)]


def add(a: Any, b: Any) -> Any:
    return _each(operator.add, a, b)


def subtract(a: Any, b: Any) -> Any:
    return _each(operator.sub, a, b)


def multiply(a: Any, b: Any) -> Any:
    return _each(operator.mul, a, b)


def _quotient(a: Any, b: Any) -> Any:
    if isinstance(a, float) or isinstance(b, float):
        return a / b if b else math.nan if a == 0 else math.copysign(math.inf, a)
    q = a // b
    return q + 1 if (isinstance(a, int) and isinstance(b, int) and q < 0 and q * b != a) else q


def divide(a: Any, b: Any) -> Any:
    return _each(_quotient, a, b)


def modulo(a: Any, b: Any) -> Any:
    return _each(operator.mod, a, b)


def smallest(*xs: Any) -> Any:
    return _each(min if len(xs) > 1 else (lambda x: x), *xs)


def largest(*xs: Any) -> Any:
    return _each(max if len(xs) > 1 else (lambda x: x), *xs)


def equal(a: Any, b: Any) -> Any:
    return _each(operator.eq, a, b)


def greater(a: Any, b: Any) -> Any:
    return _each(operator.gt, a, b)


def less(a: Any, b: Any) -> Any:
    return _each(operator.lt, a, b)


def greater_equal(a: Any, b: Any) -> Any:
    return _each(operator.ge, a, b)


def less_equal(a: Any, b: Any) -> Any:
    return _each(operator.le, a, b)


def both(a: Any, b: Any) -> Any:
    return _each(lambda p, q: bool(p and q), a, b)


def either(a: Any, b: Any) -> Any:
    return _each(lambda p, q: bool(p or q), a, b)


def negate(x: Any) -> Any:
    return _each(operator.neg, x)


def invert(x: Any) -> Any:
    return _each(operator.not_, x)


def magnitude(x: Any) -> Any:
    return _each(abs, x)


def floor(x: Any) -> Any:
    return _each(lambda v: float(math.floor(v)), x)


def ceil(x: Any) -> Any:
    return _each(lambda v: float(math.ceil(v)), x)


def square_root(x: Any) -> Any:
    return _each(math.sqrt, x)


def same(x: Any) -> Any:
    return x


def cast(x: Any, *, to: int) -> Any:
    """Integers towards zero; sizes are never so large that their width matters."""
    kind = bool if to == 9 else float if to in (1, 10, 11, 16) else int
    return _each(lambda v: v if kind is int and not isinstance(v, (float, bool)) else kind(v), x)


def choose(condition: Any, x: Any, y: Any) -> Any:
    return _each(lambda c, a, b: a if c else b, condition, x, y)


def shape(x: Tensor, start: int = 0, end: int | None = None) -> list[int]:
    """Dimensions as Python ints."""
    return list(x.shape[start:end])


def length(x: list[Any]) -> list[int]:
    """The shape of a list of numbers, as a list."""
    return [len(x)]


def filled(sizes: list[int], *, value: Any) -> list[Any]:
    """A list of as many equal numbers as the one size says."""
    return [value] * sizes[0]


def size(x: Tensor) -> int:
    """Number of elements as a Python int."""
    return x.numel()


def gather(x: Any, at: Any) -> Any:
    return [x[i] for i in at] if isinstance(at, (list, tuple)) else x[at]


def cut(x: Any, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> Any:
    step = 1 if steps is None else as_number(steps)
    start, end = as_number(starts), as_number(ends)
    if step < 0 and end < -len(x):
        return x[start::step]
    return x[start:end:step]


def join(*xs: Any) -> list[Any]:
    return [v for x in xs for v in x]


def listed(x: Any, axes: Any = None) -> list[Any]:
    return as_list(x)


def product(x: Any, axes: Any = None, *, keepdims: int = 1) -> Any:
    total = 1
    for v in x:
        total = total * v
    return [total] if keepdims else total


def total(x: Any, axes: Any = None, *, keepdims: int = 1) -> Any:
    return [sum(x)] if keepdims else sum(x)


def maximum(x: Any, axes: Any = None, *, keepdims: int = 1) -> Any:
    return [max(x)] if keepdims else max(x)


def minimum(x: Any, axes: Any = None, *, keepdims: int = 1) -> Any:
    return [min(x)] if keepdims else min(x)


def _broadcast(ranks: Ranks, attributes: dict[str, Any], known: Sequence[Any]) -> int | None:
    return max(ranks)


def _gathered(ranks: Ranks, attributes: dict[str, Any], known: Sequence[Any]) -> int | None:
    return ranks[1] if ranks[0] == 1 and attributes.get("axis", 0) in (0, -1) else None


def _first(ranks: Ranks, attributes: dict[str, Any], known: Sequence[Any]) -> int | None:
    return 1 if ranks[0] == 1 else None


def _all_lists(ranks: Ranks, attributes: dict[str, Any], known: Sequence[Any]) -> int | None:
    return 1 if all(r == 1 for r in ranks) else None


def _wrapped(ranks: Ranks, attributes: dict[str, Any], known: Sequence[Any]) -> int | None:
    return 1 if ranks[0] == 0 and known[1] in ([0], [-1]) else None


def _unwrapped(ranks: Ranks, attributes: dict[str, Any], known: Sequence[Any]) -> int | None:
    return 0 if ranks[0] == 1 and len(known) > 1 and known[1] in ([0], [-1]) else None


def _reshaped(ranks: Ranks, attributes: dict[str, Any], known: Sequence[Any]) -> int | None:
    return 1 if isinstance(known[1], list) and len(known[1]) == 1 else None


def _reduced(ranks: Ranks, attributes: dict[str, Any], known: Sequence[Any]) -> int | None:
    return (1 if attributes.get("keepdims", 1) else 0) if ranks[0] == 1 else None


HOST: dict[str, HostOp] = {
    **{
        name: HostOp(function, _broadcast)
        for name, function in {
            "Add": add, "Sub": subtract, "Mul": multiply, "Div": divide, "Mod": modulo, "Min": smallest,
            "Max": largest, "Equal": equal, "Greater": greater, "Less": less, "GreaterOrEqual": greater_equal,
            "LessOrEqual": less_equal, "And": both, "Or": either, "Neg": negate, "Not": invert, "Abs": magnitude,
            "Floor": floor, "Ceil": ceil, "Sqrt": square_root, "Identity": same, "Where": choose,
        }.items()
    },
    "Cast": HostOp(cast, _broadcast, ("to",)),
    "Gather": HostOp(gather, _gathered),
    "Slice": HostOp(cut, _first),
    "Concat": HostOp(join, _all_lists),
    "Unsqueeze": HostOp(listed, _wrapped),
    "Squeeze": HostOp(as_number, _unwrapped),
    "Reshape": HostOp(listed, _reshaped),
    "ReduceProd": HostOp(product, _reduced, ("keepdims",)),
    "ReduceSum": HostOp(total, _reduced, ("keepdims",)),
    "ReduceMax": HostOp(maximum, _reduced, ("keepdims",)),
    "ReduceMin": HostOp(minimum, _reduced, ("keepdims",)),
}  # fmt: skip
"""Operators that can stay on the host."""
