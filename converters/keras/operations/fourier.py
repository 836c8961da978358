"""Fourier transforms along the last axis as products with constant matrices, which every opset and runtime has."""

from __future__ import annotations

from typing import Any

import numpy as np

from netferry.converters.keras.layout import KT
from netferry.converters.keras.operations.call import Op, operation
from netferry.schemas.ir import ir

_LARGEST = 4096
"""size of a matrix: beyond it the constants would be larger than most networks"""


def _waves(op: Op, rows: int, columns: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosine and sine of 2 pi i j / size."""
    if max(rows, columns) > _LARGEST:
        raise op.unsupported(f"a transform of {max(rows, columns)} numbers (at most {_LARGEST})")
    turns = np.outer(np.arange(rows), np.arange(columns)) % size * (2 * np.pi / size)
    return np.cos(turns), np.sin(turns)


def _product(op: Op, x: KT, matrix: np.ndarray) -> ir.Value:
    return op.b.op("MatMul", x.logical(op.b), op.b.const(matrix.astype(np.float32), "waves"))


def _pair(op: Op) -> tuple[KT, KT]:
    value: Any = op.take("x", 0)
    if not isinstance(value, list) or len(value) != 2:
        raise op.bad("x", value, "a real and an imaginary part")
    real, imaginary = (op.floating(op.plain(op.as_tensor(v))) for v in value)
    return real, imaginary


@operation("ops:RFFT")
def rfft(op: Op) -> tuple[KT, KT]:
    """Real and imaginary part of the transform of real numbers, the half that says all."""
    x = op.floating(op.plain(op.tensor("x", 0)))
    have = op.l.dim(x, -1, "the size of the last axis")
    given = op.take("fft_length", 1, None)
    size = have if given is None else op.integer("fft_length")
    if size < 1:
        raise op.bad("fft_length", size, "a size of at least 1")
    cosine, sine = _waves(op, min(have, size), size // 2 + 1, size)
    pad = [(0, have - min(have, size)), (0, 0)]  # numbers beyond the length count for nothing
    return KT.of(_product(op, x, np.pad(cosine, pad))), KT.of(_product(op, x, np.pad(-sine, pad)))


@operation("ops:IRFFT")
def irfft(op: Op) -> KT:
    """Real numbers from the half of their transform."""
    real, imaginary = _pair(op)
    have = op.l.dim(real, -1, "the size of the last axis")
    given = op.take("fft_length", 1, None)
    size = 2 * (have - 1) if given is None else op.integer("fft_length")
    if size < 1:
        raise op.bad("fft_length", size, "a size of at least 1")
    used = min(have, size // 2 + 1)
    cosine, sine = _waves(op, used, size, size)
    weight = np.full((used, 1), 2.0 / size)
    weight[0] = 1.0 / size
    if size % 2 == 0 and used == size // 2 + 1:
        weight[-1] = 1.0 / size
    pad = [(0, have - used), (0, 0)]
    first, second = (
        _product(op, real, np.pad(cosine * weight, pad)),
        _product(op, imaginary, np.pad(-sine * weight, pad)),
    )
    return KT.of(op.b.op("Add", first, second))


@operation("ops:FFT")
def fft(op: Op) -> tuple[KT, KT]:
    """Transform of complex numbers, given and returned as real and imaginary part."""
    real, imaginary = _pair(op)
    size = op.l.dim(real, -1, "the size of the last axis")
    cosine, sine = _waves(op, size, size, size)
    b = op.b
    return (
        KT.of(b.op("Add", _product(op, real, cosine), _product(op, imaginary, sine))),
        KT.of(b.op("Sub", _product(op, imaginary, cosine), _product(op, real, sine))),
    )
