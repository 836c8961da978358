"""Values for inputs, by their declared type: tensors of every element type, sequences, optionals, maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from netferry.errors import LimitExceeded, UsageError

if TYPE_CHECKING:
    from netferry.runtime.session import Port

MAX_ELEMENTS = 500_000_000
_ITEMS = 3
"""length of a sequence"""
_FEW = {
    "bfloat16": "bfloat16", "float8e4m3fn": "float8_e4m3fn", "float8e4m3fnuz": "float8_e4m3fnuz",
    "float8e5m2": "float8_e5m2", "float8e5m2fnuz": "float8_e5m2fnuz", "float8e8m0": "float8_e8m0fnu",
    "float4e2m1": "float4_e2m1fn", "int4": "int4", "uint4": "uint4", "int2": "int2", "uint2": "uint2",
}  # fmt: skip
"""ONNX's names of the types that numpy lacks, and those of ml_dtypes"""
_COMPLEX = {"complex64": np.complex64, "complex128": np.complex128}
Keys = Mapping[str, Sequence[int] | Sequence[str]]


def beyond_numpy(kind: str) -> bool:
    """Whether a type holds numbers that numpy lacks (bfloat16, float8, int4): onnxruntime's Python passes none."""
    return element_of(kind) in _FEW


def element_of(kind: str) -> str:
    """``float`` of ``seq(tensor(float))``; of a map the value's type."""
    inner = kind
    while "(" in inner and inner.endswith(")"):
        outer, _, rest = inner.partition("(")
        inner = rest[:-1].partition(",")[2].strip() if outer == "map" else rest[:-1]
    return inner


def made(
    port: Port, shape: Sequence[int], rng: np.random.Generator, *, absent: bool = False, keys: Keys | None = None
) -> Any:
    """Return a value of the port's type: an array, a list of arrays, a dictionary, or None for an optional left out.

    Args:
        port: the input.
        shape: of the tensors in it.
        rng: floats are drawn from [0, 1), integers are 0 or 1, bools mixed, strings empty.
        absent: leave optionals out.
        keys: what the keys of maps may be, by input; a few numbers or letters otherwise.

    Raises:
        UsageError: no values are known for the type.
        LimitExceeded: it would take too many.
    """
    total = 1
    for dim in shape:
        total *= dim
    if total > MAX_ELEMENTS:
        raise LimitExceeded(f"input {port} would need {total:,} values")
    return _made(port.dtype, port, shape, rng, absent, keys or {})


def shown(value: Any) -> Any:
    """The shape of a value, as JSON can say it: of the items of a sequence, the keys of a map, null where absent."""
    if isinstance(value, list):
        return [shown(item) for item in value]
    if isinstance(value, dict):
        return {str(key): [] for key in value}
    return None if value is None else list(np.shape(value))


def _made(kind: str, port: Port, shape: Sequence[int], rng: np.random.Generator, absent: bool, keys: Keys) -> Any:
    outer, opened, inner = kind.partition("(")
    inner = inner[:-1]
    if opened and outer == "optional":
        return None if absent else _made(inner, port, shape, rng, absent, keys)
    if opened and outer == "seq":
        return [_made(inner, port, shape, rng, absent, keys) for _ in range(_ITEMS)]
    if opened and outer == "map":
        key, _, value = (part.strip() for part in inner.partition(","))
        held = _made(value, port, (), rng, absent, keys)
        names = keys.get(port.name) or (list("abcd") if key == "string" else range(4))
        if not isinstance(held, np.ndarray):
            raise _unknown(port)
        return {name: _made(value, port, (), rng, absent, keys).item() for name in names}
    return _array(inner if opened and outer == "tensor" else kind, port, shape, rng)


def _array(kind: str, port: Port, shape: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    from netferry.runtime.session import numpy_type

    dtype = numpy_type(kind)
    if kind in _COMPLEX:
        return (rng.random(shape) + 1j * rng.random(shape)).astype(_COMPLEX[kind])
    if kind in _FEW:
        import ml_dtypes

        dtype = np.dtype(getattr(ml_dtypes, _FEW[kind]))
        whole = "int" in kind
        return np.asarray(rng.integers(0, 2, shape) if whole else rng.random(shape, np.float32)).astype(dtype)
    if dtype is None:
        raise _unknown(port)
    if dtype.kind == "f":
        return np.asarray(rng.random(shape, np.float32)).astype(dtype)
    if dtype.kind == "O":
        return np.full(shape, "", dtype)
    return np.asarray(rng.integers(0, 2, shape)).astype(dtype)


def _unknown(port: Port) -> UsageError:
    return UsageError(f"input {port} is of a type that no values can be made for")
