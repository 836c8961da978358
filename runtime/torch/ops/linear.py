"""Matrix products."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from netferry.runtime.torch.registry import op

_MATRIX = 2


@op
def MatMul(A: Tensor, B: Tensor) -> Tensor:
    return torch.matmul(A, B)


@op
def Gemm(
    A: Tensor,
    B: Tensor,
    C: Tensor | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Tensor:
    if transB and not transA and alpha == beta == 1 and (C is None or C.dim() == 1) and A.dim() == B.dim() == _MATRIX:
        return F.linear(A, B, C)
    a = A.t() if transA else A
    y = torch.matmul(a, B.t() if transB else B)
    if alpha != 1:
        y = (y * alpha).to(A.dtype)
    if C is None:
        return y
    return y + (C if beta == 1 else (C * beta).to(A.dtype))


@op
def Einsum(*Inputs: Tensor, equation: str) -> Tensor:
    return torch.einsum(equation.replace(" ", ""), *Inputs)
