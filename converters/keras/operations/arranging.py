"""Elements put elsewhere, and differences between neighbours: diff, cross, rot90, meshgrid, slice_update …"""

from __future__ import annotations

import numpy as np

from netferry.converters.keras.layers.reshaping import permuted
from netferry.converters.keras.layout import KT
from netferry.converters.keras.operations.axes import squeezed
from netferry.converters.keras.operations.broadcast import kind_of
from netferry.converters.keras.operations.call import Op, operation
from netferry.converters.keras.operations.functions import argument
from netferry.converters.keras.operations.linear import two
from netferry.converters.keras.operations.reduction import encoded
from netferry.converters.keras.operations.sizes import as_int64, dims_of
from netferry.schemas.ir import ir

_FLOAT, _INT32, _INT64, _BOOL = ir.DataType.FLOAT, ir.DataType.INT32, ir.DataType.INT64, ir.DataType.BOOL
_MANY = 2**31 - 1


def _sliced(op: Op, value: ir.Value, place: int, start: int, end: int, step: int = 1) -> ir.Value:
    c = op.b.const
    return op.b.op("Slice", value, c([start], "starts"), c([end], "ends"), c([place], "axes"), c([step], "steps"))


@operation("ops:Diff")
def diff(op: Op) -> KT:
    """Each element minus the one before it, n times."""
    x = op.plain(op.tensor("a"))
    place = x.axis(op.axis(x, "axis", 2, -1))
    for _ in range(min(max(op.integer("n", 1, 1), 0), 64)):
        x = x.like(op.b.op("Sub", _sliced(op, x.value, place, 1, _MANY), _sliced(op, x.value, place, 0, -1)))
    return x


@operation("ops:Cross")
def cross(op: Op) -> KT:
    """Vector product of threes along the last axis."""
    x, y = two(op)
    for name in ("axisa", "axisb", "axisc", "axis"):
        if op.take(name, None, -1) not in (-1, None):
            raise op.unsupported(f"{name} other than the last")
    if x.shape[-1] != 3 or y.shape[-1] != 3:
        raise op.unsupported("vectors of another size than 3")
    after, before = (op.b.const(p, "places") for p in ([1, 2, 0], [2, 0, 1]))
    v, w = x.logical(op.b), y.logical(op.b)

    def picked(value: ir.Value, places: ir.Value) -> ir.Value:
        return op.b.op("Gather", value, places, axis=-1)

    first = op.b.op("Mul", picked(v, after), picked(w, before))
    return KT.of(op.b.op("Sub", first, op.b.op("Mul", picked(v, before), picked(w, after))))


@operation("ops:Rot90")
def rot90(op: Op) -> KT:
    """A quarter turn, k times, from the first of two axes towards the second, as NumPy turns.

    Keras's TensorFlow backend mixes up the sizes of a picture that is no square where k is 2; others do not.
    """
    x = op.plain(op.tensor("array"))
    turns = op.integer("k", 1, 1) % 4
    axes = op.axes_of(x.rank, op.integers("axes", 2, [0, 1]) or [0, 1])
    if len(axes) != 2:
        raise op.unsupported("other than two axes")
    for axis in {1: [axes[1]], 2: axes, 3: [axes[0]]}.get(turns, []):
        x = x.like(_sliced(op, x.value, x.axis(axis), -1, -_MANY, -1))
    if turns % 2:
        dims = list(range(x.rank))
        dims[axes[0]], dims[axes[1]] = axes[1], axes[0]
        x = permuted(op.b, x, dims)
    return x


@operation("ops:Meshgrid")
def meshgrid(op: Op) -> tuple[KT, ...]:
    """Vectors spread over a common grid."""
    tensors = [op.plain(op.as_tensor(v)) for v in op.l.args]
    if op.take("indexing", None, "xy") not in ("xy", "ij"):
        raise op.bad("indexing", op.take("indexing"), "'xy' or 'ij'")
    places = list(range(len(tensors)))
    if op.take("indexing", None, "xy") == "xy" and len(tensors) > 1:
        places[:2] = [1, 0]
    wide: list[ir.Value] = []
    for place, tensor in zip(places, tensors, strict=True):
        shape = [1] * len(tensors)
        shape[place] = -1
        wide.append(op.b.reshape(tensor.logical(op.b), shape))
    sizes = [op.b.op("Shape", wide[places.index(i)], start=i, end=i + 1) for i in range(len(wide))]
    shape = op.b.op("Concat", *sizes, axis=0)
    return tuple(KT.of(op.b.op("Expand", v, shape)) for v in wide)


@operation("ops:SliceUpdate")
def slice_update(op: Op) -> KT:
    """A block of a tensor replaced from fixed start indices on."""
    x, new = op.plain(op.tensor("inputs", 0)), op.plain(op.tensor("updates", 2))
    starts = op.integers("start_indices", 1)
    sizes = new.shape
    if starts is None or len(starts) != x.rank or new.rank != x.rank:
        raise op.bad("start_indices", starts, f"{x.rank} whole numbers")
    value, block = x.logical(op.b), op.cast(new, x.dtype).logical(op.b)
    for axis in range(x.rank):
        if sizes[axis] == x.shape[axis] and starts[axis] == 0:
            continue
        if not isinstance(sizes[axis], int) or not isinstance(x.shape[axis], int):
            raise op.unsupported("blocks of dynamic size")
    # from the innermost cut axis outwards: the block grows until it is the whole tensor
    for axis in reversed(range(x.rank)):
        if sizes[axis] == x.shape[axis] and starts[axis] == 0:
            continue
        around = value
        for outer in range(axis):
            size = sizes[outer]
            if isinstance(size, int):
                around = _sliced(op, around, outer, starts[outer], starts[outer] + size)
        end = starts[axis] + int(sizes[axis] or 0)
        front, back = _sliced(op, around, axis, 0, starts[axis]), _sliced(op, around, axis, end, _MANY)
        block = op.b.op("Concat", front, block, back, axis=axis)
    return KT.of(block)


@operation("ops:Scatter", "ops:ScatterUpdate")
def scatter(op: Op) -> KT:
    """Values put at indices: into zeros, where they add up, or into a tensor, which they replace."""
    indices = op.plain(
        op.as_tensor(op.take("indices", 1 if op.l.type == "ops:ScatterUpdate" else 0), "indices", _INT64)
    )
    places = as_int64(op, indices.logical(op.b))
    if op.l.type == "ops:Scatter":
        values = op.plain(op.as_tensor(op.take("values", 1), "values"))
        dims, _ = dims_of(op.take("shape", 2), op)
        if not all(isinstance(d, int) for d in dims):
            raise op.unsupported("a shape that is computed")
        zeros = op.b.const(np.zeros([int(d) for d in dims if isinstance(d, int)], values.dtype.numpy()), "zeros")
        return KT.of(op.b.op("ScatterND", zeros, places, values.logical(op.b), reduction="add"))
    if op.take("reduction", 3, None) is not None:
        raise op.unsupported("a reduction")
    x = op.plain(op.tensor("inputs", 0))
    updates = op.cast(op.plain(op.as_tensor(op.take("updates", 2), "updates", x.dtype)), x.dtype)
    return KT.of(op.b.op("ScatterND", x.logical(op.b), places, updates.logical(op.b)))


@operation("ops:MultiHot")
def multi_hot(op: Op) -> KT:
    """1 for each class that is named along an axis, 0 for the others."""
    x = op.plain(op.tensor("inputs", 0))
    depth = op.integer(
        "num_classes" if "num_classes" in op.l.kwargs or "num_classes" in op.l.config else "num_tokens", 1
    )
    axis = op.integer("axis", 2, -1)
    kind = op.dtype("dtype", None, None) or _FLOAT
    if axis not in (-1, x.rank):
        raise op.unsupported("classes on another axis than the last")
    hot = encoded(op, x, depth, -1, _INT32)
    summed = op.b.op("ReduceMax", hot.value, op.b.const([max(x.rank - 1, 0) if x.rank > 1 else 0], "axes"), keepdims=0)
    return op.cast(KT.of(summed), kind)


@operation("ops:Isclose")
def isclose(op: Op) -> KT:
    """|x1 - x2| <= atol + rtol |x2|."""
    x, y = (op.floating(t) for t in two(op))
    rtol, atol = op.number("rtol", 2, 1e-5), op.number("atol", 3, 1e-8)
    same_nan = op.flag("equal_nan", 4, False)
    v, w = x.logical(op.b), y.logical(op.b)
    apart = op.b.op("Abs", op.b.op("Sub", v, w))
    far = op.b.op("Add", op.b.op("Mul", op.b.op("Abs", w), op.b.const(rtol, "rtol")), op.b.const(atol, "atol"))
    # infinities are close to themselves only
    finite = op.b.op("Not", op.b.op("IsInf", w))
    near = op.b.op("Or", op.b.op("And", op.b.op("LessOrEqual", apart, far), finite), op.b.op("Equal", v, w))
    if same_nan:
        near = op.b.op("Or", near, op.b.op("And", op.b.op("IsNaN", v), op.b.op("IsNaN", w)))
    return KT.of(near)


@operation("ops:Median")
def median(op: Op) -> KT:
    """The middle value along one axis of fixed size."""
    x = op.floating(op.plain(argument(op)))
    axes, keep = op.axes(x, "axis", 1, None), op.flag("keepdims", 2, False)
    if len(axes) != 1 or not isinstance(size := x.shape[axes[0]], int):
        raise op.unsupported("other than one axis of fixed size")
    place = x.axis(axes[0])
    ordered = op.b.op("TopK", x.value, op.b.const([size // 2 + 1], "k"), outputs=2, axis=place, largest=0)[0]
    middle = _sliced(op, ordered, place, (size - 1) // 2, size // 2 + 1)
    made = op.b.op("ReduceMean", middle, op.b.const([place], "axes"), keepdims=1)
    out = x.like(made)
    return out if keep else squeezed(op, out, axes)


@operation("ops:BitwiseNot", "ops:BitwiseInvert")
def bitwise_not(op: Op) -> KT:
    """All bits the other way round."""
    x = argument(op)
    return x.like(op.b.op("Not" if x.dtype == _BOOL else "BitwiseNot", x.value))


@operation("ops:BitwiseLeftShift", "ops:BitwiseRightShift", "ops:LeftShift", "ops:RightShift")
def shift(op: Op) -> KT:
    """Bits moved: a product or floor division by a power of two, as ONNX shifts unsigned numbers only."""
    x, y = two(op, ("x", "y"))
    kind = kind_of([x, y], op)
    if kind not in (_INT32, _INT64):
        raise op.unsupported("other types than int32 and int64")
    factor = op.b.op("Cast", op.b.op("Pow", op.b.const(2.0, "two"), op.floating(y).logical(op.b)), to=int(kind))
    v = x.logical(op.b)
    if "Left" in op.l.type:
        return KT.of(op.b.op("Mul", v, factor))
    return KT.of(op.b.op("Div", op.b.op("Sub", v, op.b.op("Mod", v, factor)), factor))
