"""Constants that a pass may rely on: what no caller can override, and what counts as a weight."""

from __future__ import annotations

import numpy as np

from netferry.schemas.ir import ir
from netferry.schemas.layers import ROLE, Role, role_of
from netferry.schemas.tensors import array_of, filler_of

SMALL = 4096
"""elements up to which a constant counts as a setting (axes, pads, scales), not as a weight"""


def fixed(value: ir.Value | None) -> bool:
    """Whether a value is an initializer with values that no caller can override."""
    return (
        value is not None
        and value.is_initializer()
        and not value.is_graph_input()
        and value.const_value is not None
        and filler_of(value.const_value) is None
    )


def setting(value: ir.Value | None) -> np.ndarray | None:
    """Values of a small constant; None for anything else."""
    if value is None or not fixed(value):
        return None
    tensor = value.const_value
    if tensor is None or tensor.size > SMALL:
        return None
    return array_of(value)


def ints(value: ir.Value | None) -> list[int] | None:
    """Values of a small integer constant as a list."""
    array = setting(value)
    return None if array is None or array.dtype.kind not in "iu" else [int(x) for x in array.reshape(-1)]


def scalar(value: ir.Value | None) -> float | None:
    """The one number that a constant holds (all its elements alike); None for anything else."""
    array = setting(value)
    if array is None or array.size == 0 or array.dtype.kind not in "fiu":
        return None
    first = array.reshape(-1)[0]
    return float(first) if bool((array == first).all()) else None


def weight(value: ir.Value | None) -> np.ndarray | None:
    """Values of a constant of any size."""
    return array_of(value) if value is not None and fixed(value) else None


def learnable(value: ir.Value | None) -> bool:
    """Whether a value is a weight: learnable, or statistics that training changes.

    Where no role is recorded and no operator's slot tells (a Transpose stands between), a floating-point matrix is
    taken for one.
    """
    if value is None or not value.is_initializer():
        return False
    if role_of(value) is not Role.CONSTANT:
        return True
    floating = value.dtype is not None and value.dtype.is_floating_point()
    return floating and ROLE not in value.metadata_props and value.shape is not None and len(value.shape) >= 2
