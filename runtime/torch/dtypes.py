"""Element types: ONNX's numbers, torch's types, and what torch cannot compute with."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

TORCH_OF: dict[int, torch.dtype] = {
    1: torch.float32, 2: torch.uint8, 3: torch.int8, 4: torch.uint16, 5: torch.int16, 6: torch.int32, 7: torch.int64,
    9: torch.bool, 10: torch.float16, 11: torch.float64, 12: torch.uint32, 13: torch.uint64, 14: torch.complex64,
    15: torch.complex128, 16: torch.bfloat16,
}  # fmt: skip
"""Element types of ONNX (TensorProto.DataType) that torch has, and computes with or can be made to."""
ONNX_OF = {kind: number for number, kind in TORCH_OF.items()}
_WIDER = {torch.uint16: torch.int32, torch.uint32: torch.int64}
_LOWEST = -(2**63)

Function = TypeVar("Function", bound=Callable[..., Any])


def torch_dtype(number: int) -> torch.dtype:
    """Return torch's type for ONNX's number of an element type."""
    return TORCH_OF[number]


def convert(x: Tensor, kind: torch.dtype) -> Tensor:
    """Convert numbers as ONNX does: to bool by comparing with 0, to integers towards zero."""
    if kind is torch.bool:
        return x != 0
    return x.to(kind)


def unsigned(*, order: bool = False) -> Callable[[Function], Function]:
    """Let an operator's function take uint16, uint32 and uint64, which torch barely computes with.

    The function gets int32 or int64 instead; results of that type become the unsigned type again, modulo its range.
    uint64 keeps its bits, which serves all that does not depend on the sign. ``order`` is for comparisons and
    extremes: the sign bit is turned, which keeps the order.
    """

    def wrap(function: Function) -> Function:
        @functools.wraps(function)
        def call(*args: Any, **settings: Any) -> Any:
            for x in args:
                if isinstance(x, Tensor) and (x.dtype in _WIDER or x.dtype is torch.uint64):
                    kind = x.dtype
                    break
            else:
                return function(*args, **settings)
            widened = [_widen(x, order) if isinstance(x, Tensor) and x.dtype is kind else x for x in args]
            return _narrow(function(*widened, **settings), kind, order)

        return call  # type: ignore[return-value]

    return wrap


def _widen(x: Tensor, order: bool) -> Tensor:
    if x.dtype is torch.uint64:
        bits = x.view(torch.int64)
        return bits ^ _LOWEST if order else bits
    return x.to(_WIDER[x.dtype])


def _narrow(y: Any, kind: torch.dtype, order: bool) -> Any:
    if isinstance(y, tuple):
        return (_narrow(y[0], kind, order), *y[1:])
    if isinstance(y, list):
        return [_narrow(part, kind, order) for part in y]
    if kind is torch.uint64:
        if y.dtype is not torch.int64:
            return y
        return (y ^ _LOWEST if order else y).view(torch.uint64)
    return y.to(kind) if y.dtype is _WIDER[kind] else y


def wide_float(x: Tensor) -> Tensor:
    """Give float16 and bfloat16 as float32, all else unchanged."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
