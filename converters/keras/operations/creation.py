"""Tensors made from nothing, or of another one's shape."""

from __future__ import annotations

import numpy as np

from netferry.converters.keras.layout import KT
from netferry.converters.keras.operations.broadcast import promoted
from netferry.converters.keras.operations.call import Op, operation
from netferry.converters.keras.operations.functions import argument
from netferry.converters.keras.operations.sizes import as_value, dims_of, known
from netferry.errors import LimitExceeded
from netferry.schemas.graph import Dim
from netferry.schemas.ir import ir

_FLOAT, _INT32 = ir.DataType.FLOAT, ir.DataType.INT32
_MOST = 1_000_000
"""elements of a constant that an operation may ask for"""


@operation("ops:ZerosLike", "ops:OnesLike", "ops:FullLike", "ops:EmptyLike", "tf.zeros_like", "tf.ones_like")
def filled_like(op: Op) -> KT:
    """One value in the shape of a tensor."""
    x = op.plain(argument(op))
    kind = op.dtype("dtype", None, None) if op.keras3 or "dtype" in op.l.kwargs else None
    op.leave("optimize")
    fill = {"O": 1, "F": None}.get(op.l.type.split(":")[-1].split(".")[-1][0].upper(), 0)
    if fill is None:
        fill = op.take("fill_value", 1)
    target = kind or x.dtype
    if isinstance(fill, KT):
        return KT.of(op.b.op("Expand", op.cast(fill, target).value, op.b.op("Shape", x.logical(op.b))))
    return filled(op, x, fill, target)


def filled(op: Op, x: KT, fill: object, kind: ir.DataType) -> KT:
    """One value in the shape of ``x``, lying as ``x`` does."""
    if kind in (ir.DataType.BOOL,):
        tensor = ir.tensor(np.asarray([int(bool(fill))], np.int32))
        made = x.like(op.b.op("ConstantOfShape", op.b.op("Shape", x.value), value=tensor))
        made.value.shape = x.value.shape
        return op.cast(made, kind)
    tensor = ir.tensor(np.asarray([fill]).astype(kind.numpy()))
    value = op.b.op("ConstantOfShape", op.b.op("Shape", x.value), value=tensor)
    value.shape = x.value.shape
    return x.like(value)


@operation("tf.zeros", "tf.ones", "tf.fill", "ops:Full")
def full(op: Op) -> KT:
    """One value in a shape that may be computed."""
    dims, parts = dims_of(op.take("shape" if "dims" not in op.l.kwargs else "dims", 0), op)
    kind = op.dtype("dtype", None, None) if "dtype" in op.l.kwargs or op.keras3 else None
    fill = {"tf.zeros": 0, "tf.ones": 1}.get(op.l.type)
    if fill is None:
        value = op.take("value" if op.l.type == "tf.fill" else "fill_value", 0 if op.keras3 else 1)
        tensor = op.as_tensor(value)
        tensor = tensor if kind is None else op.cast(tensor, kind)
        return KT.of(op.b.op("Expand", tensor.logical(op.b), as_value(op, parts, dims)))
    tensor = ir.tensor(np.asarray([fill]).astype((kind or _FLOAT).numpy()))
    made = op.b.op("ConstantOfShape", as_value(op, parts, dims), value=tensor)
    made.shape = ir.Shape(list(dims))
    return KT.of(made)


@operation("ops:BroadcastTo", "tf.broadcast_to")
def broadcast_to(op: Op) -> KT:
    """A tensor repeated to a shape."""
    x = op.plain(op.tensor("x" if op.keras3 else "input"))
    dims, parts = dims_of(op.take("shape", 1), op)
    offset = len(dims) - x.rank
    target: list[int] = []
    for place, dim in enumerate(dims):
        same = place >= offset and (dim == x.shape[place - offset] or dim in (-1, None))
        if isinstance(dim, int) and dim >= 0:
            target.append(dim)
        elif same and isinstance(dim, (str, int, type(None))) and place >= offset:
            target.append(1)
        else:
            made = op.b.op("Expand", x.logical(op.b), as_value(op, parts, dims))
            made.shape = ir.Shape(list(dims))
            return KT.of(made)
    return KT.of(op.b.op("Expand", x.logical(op.b), op.b.const(target, "shape")))


@operation("ops:Arange", "tf.range", "ops:Linspace", "tf.linspace")
def arange(op: Op) -> KT:
    """Numbers in equal steps."""
    names = ("start", "stop", "step") if op.keras3 else ("start", "limit", "delta")
    if "inspace" in op.l.type:
        return _between(op)
    start = op.take(names[0], 0, 0)
    stop = op.take(names[1], 1, None)
    step = op.take(names[2], 2, None)
    if stop is None:
        start, stop = 0, start
    step = 1 if step is None else step
    kind = op.dtype("dtype", None, None) if "dtype" in op.l.kwargs or op.keras3 else None
    parts = [_number(v) for v in (start, stop, step)]
    if all(isinstance(p, (int, float)) for p in parts):
        found = [p for p in parts if isinstance(p, (int, float))]
        if found[2] == 0:
            raise op.bad(names[2], 0, "another number than 0")
        _few(abs((found[1] - found[0]) / found[2]))
        array = op.array(np.arange(*found).tolist(), "numbers")
        return KT.of(op.b.const(array if kind is None else array.astype(kind.numpy()), "numbers"))
    tensors = [op.as_tensor(v) for v in (start, stop, step)]
    common = kind or tensors[0].dtype
    if kind is None:
        for tensor in tensors[1:]:
            common = promoted(common, tensor.dtype)
    return KT.of(op.b.op("Range", *[op.cast(t, common).value for t in tensors]))


def _between(op: Op) -> KT:
    """``num`` numbers from start to stop along a new first axis."""
    count = op.integer("num", 2, 50)
    _few(count)
    op.leave("retstep")
    if op.integer("axis", None, 0) != 0:
        raise op.unsupported("another axis than the first")
    share = np.linspace(0, 1, count, endpoint=op.flag("endpoint", None, True), dtype=np.float32)
    start, stop = (op.floating(op.plain(op.as_tensor(op.take(n, i)))) for i, n in enumerate(("start", "stop")))
    rank = max(start.rank, stop.rank)
    part = op.b.const(share.reshape([-1, *[1] * rank]), "share")
    first = start.logical(op.b)
    return KT.of(op.b.op("Add", first, op.b.op("Mul", op.b.op("Sub", stop.logical(op.b), first), part)))


def _number(value: object) -> Dim | float:
    if isinstance(value, KT):
        found = known(value.value)
        return found[0] if found and isinstance(found[0], int) else None
    return value if isinstance(value, (int, float)) else None


def _few(count: float) -> None:
    if not count <= _MOST:
        raise LimitExceeded(f"a constant of {count:.3g} elements, at most {_MOST} are made")


@operation("tf.eye", "tf.sequence_mask")
def eye(op: Op) -> KT:
    """Ones on the diagonal; or, for lengths, True for the steps before each."""
    if op.l.type == "tf.eye":
        rows = op.take("num_rows", 0)
        columns = op.take("num_columns", 1, None)
        dims, parts = dims_of([rows, rows if columns is None else columns], op, "num_rows")
        kind = op.dtype("dtype", None, None) if "dtype" in op.l.kwargs else None
        size = op.b.op("ConstantOfShape", as_value(op, parts, dims))
        return KT.of(op.b.op("EyeLike", size, dtype=int(kind or _FLOAT)))
    lengths = op.cast(op.plain(op.tensor("lengths")), _INT32)
    most = op.integer("maxlen", 1)
    _few(most)
    wide = op.b.op("Unsqueeze", lengths.logical(op.b), op.b.const([-1], "axes"))
    made = KT.of(op.b.op("Less", op.b.const(np.arange(most, dtype=np.int32), "steps"), wide))
    kind = op.dtype("dtype", None, "bool") if "dtype" in op.l.kwargs else None
    return made if kind is None else op.cast(made, kind)
