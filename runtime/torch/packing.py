"""How an initializer lies in the parameters of a torch module, both ways.

A packing has a key, so that two modules that share an initializer can tell whether they want it alike: then they
share the Parameter, which is how ties survive.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Packing:
    """``unpack`` turns the initializer's values into those of one or more parameters, ``pack`` turns them back."""

    key: str
    unpack: Callable[[Tensor], list[Tensor]]
    pack: Callable[[list[Tensor]], Tensor]


PLAIN = Packing("plain", lambda x: [x], lambda xs: xs[0])
TRANSPOSED = Packing("transposed", lambda x: [x.t().contiguous()], lambda xs: xs[0].t())
FLAT = Packing("flat", lambda x: [x.reshape(-1)], lambda xs: xs[0])
"""One axis; the way back reshapes to what the initializer had."""


def _reordered(x: Tensor, order: list[int]) -> Tensor:
    parts = x.chunk(len(order), 0)
    return torch.cat([parts[i] for i in order], 0)


def parts(order: list[int]) -> Packing:
    """Equal parts along the first axis in another order: part ``i`` of the parameter is part ``order[i]``."""
    back = [order.index(i) for i in range(len(order))]
    return Packing(f"parts{order}", lambda x: [_reordered(x, order)], lambda xs: _reordered(xs[0], back))


def gates(order: list[int], directions: int) -> Packing:
    """Weights of a recurrent layer: D x (gates*H) x I, one parameter per direction, gates in torch's order."""
    back = [order.index(i) for i in range(len(order))]
    return Packing(
        f"gates{order}x{directions}",
        lambda x: [_reordered(x[d], order) for d in range(directions)],
        lambda xs: torch.stack([_reordered(x, back) for x in xs]),
    )


def gate_biases(order: list[int], directions: int) -> Packing:
    """Biases of a recurrent layer: D x 2*gates*H, input's and state's bias per direction."""
    back = [order.index(i) for i in range(len(order))]

    def unpack(x: Tensor) -> list[Tensor]:
        rows = x.reshape(directions, -1)
        return [_reordered(half, order) for d in range(directions) for half in rows[d].chunk(2)]

    def pack(xs: list[Tensor]) -> Tensor:
        halves = [_reordered(x, back) for x in xs]
        return torch.stack([torch.cat(halves[2 * d : 2 * d + 2]) for d in range(directions)])

    return Packing(f"biases{order}x{directions}", unpack, pack)
