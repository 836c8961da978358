"""Tensors and constants brought to one order of axes and one element type, by the source's rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from netferry.converters.keras.layout import KT, Order, common_order, identity
from netferry.converters.keras.operations.call import Op
from netferry.schemas.ir import ir

_FLOAT, _INT32, _BOOL = ir.DataType.FLOAT, ir.DataType.INT32, ir.DataType.BOOL


def kind_of(values: Sequence[Any], op: Op) -> ir.DataType:
    """Element type of the result of arithmetic on tensors, arrays and Python numbers.

    TensorFlow takes the tensors' type; Keras 3 promotes, Python numbers being weak (a float makes int32 a float).
    """
    strong = [v.dtype if isinstance(v, KT) else ir.DataType.from_numpy(v.dtype) for v in values
              if isinstance(v, (KT, np.ndarray))]  # fmt: skip
    strong = [_FLOAT if d in (ir.DataType.DOUBLE, ir.DataType.FLOAT16) else d for d in strong]
    weak = [v for v in values if not isinstance(v, (KT, np.ndarray))]
    if not strong:
        return ir.DataType.from_numpy(op.array(values[0], "value").dtype)
    tensors = [v.dtype for v in values if isinstance(v, KT)]
    if not op.keras3 and tensors:
        return tensors[0]
    kind = strong[0]
    for other in strong[1:]:
        kind = promoted(kind, other)
    leaves = [leaf for v in weak for leaf in np.asarray(op.array(v, "value")).reshape(-1)[:1]]
    if any(np.asarray(leaf).dtype.kind == "f" for leaf in leaves):
        return _FLOAT
    if kind == _BOOL and any(np.asarray(leaf).dtype.kind in "iu" for leaf in leaves):
        return _INT32
    return kind


def promoted(a: ir.DataType, b: ir.DataType) -> ir.DataType:
    """Keras 3's promotion of two strong types: floats win, then the wider whole number."""
    if a == b:
        return a
    if _FLOAT in (a, b):
        return _FLOAT
    found = np.promote_types(a.numpy(), b.numpy())
    return _FLOAT if found.kind == "f" else ir.DataType.from_numpy(found)


def together(op: Op, values: Sequence[Any], kinds: Sequence[ir.DataType | None]) -> tuple[list[ir.Value], KT | Order]:
    """Bring tensors and constants to one order of axes, ready for an elementwise operator that broadcasts.

    Args:
        op: the call.
        values: tensors, arrays, numbers, nested lists.
        kinds: element type wanted for each; None leaves it.

    Returns:
        The values, and what the result lies like: a tensor (``like``) or an order.
    """
    made = [
        op.cast(v, kind) if isinstance(v, KT) and kind is not None else v for v, kind in zip(values, kinds, strict=True)
    ]
    tensors = [v for v in made if isinstance(v, KT)]
    arrays = [None if isinstance(v, KT) else op.array(v, "value", kind) for v, kind in zip(made, kinds, strict=True)]
    rank = max([x.rank for x in tensors] + [a.ndim for a in arrays if a is not None], default=0)
    full = [x for x in tensors if x.rank == rank]
    scalars = all(a is None or a.size == 1 for a in arrays) and all(x.rank in (0, rank) for x in tensors)
    flat = next((x.flat for x in full if x.flat is not None), None)
    if flat is not None:
        same = all(x.flat is not None and x.flat.order == flat.order and x.flat.sizes == flat.sizes for x in full)
        if same and scalars:
            return [_value(op, v, a, identity(x_rank(v))) for v, a in zip(made, arrays, strict=True)], full[0]
        made = [op.plain(v) if isinstance(v, KT) else v for v in made]
        full = [op.plain(x) for x in full]
    order = common_order(full) if full else identity(rank)
    return [_value(op, v, a, order) for v, a in zip(made, arrays, strict=True)], order


def x_rank(value: Any) -> int:
    """Rank of a tensor, 0 for anything else."""
    return value.rank if isinstance(value, KT) else 0


def _value(op: Op, x: Any, array: np.ndarray | None, order: Order) -> ir.Value:
    if array is not None:
        if array.size == 1 and array.ndim <= len(order):
            return op.b.const(array.reshape(()), "value")
        return op.b.const(placed(array, order), "value")
    if x.flat is not None or x.rank == 0:
        return x.value
    rank = len(order)
    if x.rank == rank:
        return x.to(op.b, order)
    if order == identity(rank):
        return x.logical(op.b)
    missing = rank - x.rank
    wide = op.b.op("Unsqueeze", x.logical(op.b), op.b.const(list(range(missing)), "axes"))
    return KT.of(wide).to(op.b, order)


def placed(array: np.ndarray, order: Order) -> np.ndarray:
    """Lay a constant that broadcasts over Keras's axes out for a tensor whose axes lie in ``order``."""
    if order == identity(len(order)) or array.ndim == 0:
        return array
    wide = array.reshape((1,) * (len(order) - array.ndim) + array.shape).transpose(order)
    while wide.ndim > 1 and wide.shape[0] == 1:
        wide = wide[0]
    return np.ascontiguousarray(wide)


def wrapped(made: ir.Value, lies: KT | Order) -> KT:
    """Wrap the result of what :func:`together` prepared."""
    return lies.like(made) if isinstance(lies, KT) else KT(made, lies)
