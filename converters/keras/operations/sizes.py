"""Shape arithmetic: what a computed size or list of sizes is known to be, read off the nodes that compute it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from netferry.converters.keras.layout import KT
from netferry.converters.keras.operations.call import Op
from netferry.schemas.graph import Dim, shape_of
from netferry.schemas.ir import ir

_ARITHMETIC = {
    "Add": lambda x, y: x + y, "Sub": lambda x, y: x - y, "Mul": lambda x, y: x * y,
    "Div": lambda x, y: int(x / y) if y else None, "Max": max, "Min": min,
}  # fmt: skip


def known(value: ir.Value, depth: int = 0) -> list[Dim] | None:
    """Return the elements of a value as far as they are known: numbers, names of dynamic dimensions, None.

    The list as a whole is None where the value is no arithmetic on shapes.
    """
    tensor = value.const_value
    if tensor is not None and tensor.size <= 64:
        array = tensor.numpy()
        return [int(v) for v in array.ravel()] if array.dtype.kind in "iu" else None
    node = value.producer()
    if node is None or depth > 32:
        return None
    inputs = [v for v in node.inputs if v is not None]
    if node.op_type == "Shape":
        start, end = node.attributes.get("start"), node.attributes.get("end")
        dims = list(shape_of(inputs[0]))
        return dims[start.as_int() if start else None : end.as_int() if end else None]
    if node.op_type in ("Cast", "Squeeze", "Unsqueeze", "Reshape", "Identity"):
        return known(inputs[0], depth + 1)
    parts = [known(v, depth + 1) for v in inputs]
    found = [p for p in parts if p is not None]
    if len(found) != len(parts):
        return None
    if node.op_type == "Concat":
        return [dim for part in found for dim in part]
    if node.op_type == "Gather" and all(isinstance(i, int) and -len(found[0]) <= i < len(found[0]) for i in found[1]):
        return [found[0][i] for i in found[1] if isinstance(i, int)]
    if node.op_type == "Slice" and len(found) >= 3:
        return _sliced(found)
    if node.op_type in _ARITHMETIC and len(found) == 2:
        return _computed(node.op_type, found[0], found[1])
    if node.op_type == "ReduceProd" and all(isinstance(d, int) for d in found[0]):
        return [int(np.prod([d for d in found[0] if isinstance(d, int)]))]
    return None


def _sliced(found: list[list[Dim]]) -> list[Dim] | None:
    ends = [part[0] for part in found[1:3]] + [found[4][0] if len(found) > 4 else 1]
    if not all(isinstance(v, int) for v in ends) or any(len(p) != 1 for p in found[1:3]):
        return None
    start, stop, step = (v for v in ends if isinstance(v, int))
    return found[0][slice(start, stop if abs(stop) < 2**62 else None, step)]


def _computed(op_type: str, left: list[Dim], right: list[Dim]) -> list[Dim] | None:
    if len(left) != len(right):
        if 1 not in (len(left), len(right)):
            return None
        left, right = left * len(right) if len(left) == 1 else left, right * len(left) if len(right) == 1 else right
    return [
        _ARITHMETIC[op_type](x, y) if isinstance(x, int) and isinstance(y, int) else None
        for x, y in zip(left, right, strict=True)
    ]


def dims_of(value: Any, op: Op, name: str = "shape") -> tuple[list[Dim], list[Any]]:
    """Read a shape argument: a list of numbers and tensors, an array, or one tensor.

    Returns:
        What is known of each dimension, and what :func:`as_value` needs to compute it.

    Raises:
        MalformedFile: it is no shape.
    """
    if isinstance(value, KT):
        size = value.shape[0] if value.rank == 1 else 1
        found: list[Dim] | None = known(value.value)
        if found is None:
            if not isinstance(size, int):
                raise op.unsupported(f"{name} is computed, of a rank that depends on values")
            found = [*[None] * size]
        return found, [value]
    if isinstance(value, np.ndarray):
        value = value.ravel().tolist()
    items = list(value) if isinstance(value, (list, tuple)) else [value]
    dims: list[Dim] = []
    for item in items:
        if isinstance(item, KT):
            one = known(item.value)
            dims.append(one[0] if one is not None and len(one) == 1 else None)
        elif item is None or (isinstance(item, int) and not isinstance(item, bool) and abs(item) < 2**31):
            dims.append(item)
        else:
            raise op.bad(name, value, "a shape")
    return dims, items


def as_value(op: Op, parts: Sequence[Any], dims: Sequence[Dim]) -> ir.Value:
    """Compute a shape as an int64 vector; numbers that are known become constants."""
    b = op.b
    pieces: list[ir.Value] = []
    run: list[int] = []

    def flush() -> None:
        if run:
            pieces.append(b.const(list(run), "sizes"))
            run.clear()

    if len(parts) == 1 and isinstance(parts[0], KT) and parts[0].rank == 1:
        if all(isinstance(d, int) for d in dims):
            return b.const([int(d) for d in dims if isinstance(d, int)], "sizes")
        return as_int64(op, parts[0].value)
    for part, dim in zip(parts, dims, strict=True):
        if isinstance(dim, int):
            run.append(dim)
            continue
        if not isinstance(part, KT):
            raise op.unsupported("a dimension is neither a number nor computed")
        flush()
        pieces.append(b.reshape(as_int64(op, part.value), [1]))
    flush()
    return pieces[0] if len(pieces) == 1 else b.op("Concat", *pieces, axis=0)


def as_int64(op: Op, value: ir.Value) -> ir.Value:
    """Shape operators want int64; a Cast away from it is taken back."""
    node = value.producer()
    if node is not None and node.op_type == "Cast" and node.inputs[0] is not None:
        source = node.inputs[0]
        if source.dtype == ir.DataType.INT64:
            return source
    return value if value.dtype == ir.DataType.INT64 else op.b.op("Cast", value, to=int(ir.DataType.INT64))
