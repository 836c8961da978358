"""Windows of convolutions and pools: paddings that depend on the input's size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple


class Window(NamedTuple):
    """The windows along one axis."""

    kernel: int
    stride: int
    dilation: int
    before: int
    """padding in front"""
    asked: int
    """padding asked for behind"""
    after: int
    """padding behind that makes the last window fit exactly; below ``asked`` where windows leave some out"""


def auto_pads(
    mode: str, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> list[int]:
    """Pads (all starts, then all ends) for VALID, SAME_UPPER and SAME_LOWER: the odd one behind, or in front."""
    starts, ends = [], []
    for size, k, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        total = max((-(-size // stride) - 1) * stride + (k - 1) * dilation + 1 - size, 0) if mode != "VALID" else 0
        small = total // 2
        starts.append(total - small if mode == "SAME_LOWER" else small)
        ends.append(small if mode == "SAME_LOWER" else total - small)
    return [*starts, *ends]


def flat_pads(pairs: Sequence[tuple[int, int]]) -> list[int]:
    """(before, after) per axis as torch has it: last axis first."""
    return [n for pair in reversed(pairs) for n in pair]


def flat_size(shape: Sequence[int]) -> int:
    """Number of elements."""
    return math.prod(shape)
