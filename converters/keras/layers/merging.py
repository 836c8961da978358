"""Layers that put several tensors together."""

from __future__ import annotations

from collections.abc import Sequence

from netferry.converters.keras.layer import Layer
from netferry.converters.keras.layout import KT, Mask, Order, common_order, identity
from netferry.converters.keras.registry import layer
from netferry.errors import MalformedFile, UnsupportedOption, quoted
from netferry.schemas.graph import Builder
from netferry.schemas.ir import ir


def aligned(b: Builder, l: Layer, tensors: Sequence[KT]) -> tuple[list[ir.Value], KT | Order]:
    """Bring tensors to one order of axes; lower ranks get axes of size 1 behind the batch, as Keras does.

    Returns the values, and what the result lies like: a tensor (``like``) or an order.
    """
    if not tensors or len(l.args) != 1:
        raise MalformedFile(f"{l.type} takes one list of tensors", layer=l.path)
    flats = [x.flat for x in tensors]
    first = flats[0]
    if first is not None and all(f is not None and f.order == first.order and f.sizes == first.sizes for f in flats):
        return [x.value for x in tensors], tensors[0]
    rank = max(x.rank for x in tensors)
    raised = [x if x.rank == rank else _raised(b, x, rank) for x in tensors]
    if any(x.flat is not None for x in raised):
        return [x.logical(b) for x in raised], identity(rank)
    order = common_order(raised)
    return [x.to(b, order) for x in raised], order


def _raised(b: Builder, x: KT, rank: int) -> KT:
    missing = rank - x.rank
    value = x.logical(b)
    if x.rank == 0:
        return KT.of(b.op("Unsqueeze", value, b.const(list(range(missing)), "axes")))
    return KT.of(b.op("Unsqueeze", value, b.const(list(range(1, 1 + missing)), "axes")))


def _result(made: ir.Value, lies: KT | Order, l: Layer, tensors: Sequence[KT]) -> KT:
    out = lies.like(made) if isinstance(lies, KT) else KT(made, lies)
    out.mask = merged_mask(tensors, l.generation)
    return out


def merged_mask(tensors: Sequence[KT], generation: int) -> Mask | None:
    """Steps that count in the merged tensor.

    Keras 1 and 2: those that count in every input that has a mask. Keras 3: those that count in any input, and no
    mask at all where one input has none.
    """
    known = [x.mask for x in tensors if x.mask is not None]
    if not known or (generation == 3 and len(known) < len(tensors)):
        return None
    return _combined(known, "Or" if generation == 3 else "And")


def _combined(masks: Sequence[Mask], op: str) -> Mask:
    if all(m is masks[0] for m in masks):
        return masks[0]

    def make(b: Builder) -> ir.Value:
        value = masks[0].value(b)
        for mask in masks[1:]:
            value = b.op(op, value, mask.value(b))
        return value

    return Mask(make, right_padded=all(m.right_padded for m in masks))


def _masked(b: Builder, tensors: Sequence[KT], op: str) -> KT:
    """Keras 3's Multiply, Maximum and Minimum of masked tensors: a step that does not count leaves the others be.

    Factors count as 1 there (and the result as 0 where none counts); of a pair the one that counts is taken.
    """
    conditions = [
        None if x.mask is None else b.op("Unsqueeze", x.mask.value(b), b.const([-1], "axes")) for x in tensors
    ]
    result, known = tensors[0].logical(b), conditions[0]
    if op == "Mul" and known is not None:
        result = b.op("Where", known, result, b.const(1.0, "one"))
    for x, condition in zip(tensors[1:], conditions[1:], strict=True):
        value = x.logical(b)
        if op == "Mul":
            value = value if condition is None else b.op("Where", condition, value, b.const(1.0, "one"))
        else:
            value = value if condition is None else b.op("Where", condition, value, result)
            result = result if known is None else b.op("Where", known, result, value)
        result = b.op(op, result, value)
        known = None if known is None or condition is None else b.op("Or", known, condition)
    if op == "Mul" and known is not None:
        result = b.op("Where", known, result, b.const(0.0, "zero"))
    out = KT.of(result)
    if known is not None:
        combined = known
        out.mask = Mask(lambda builder: builder.op("Squeeze", combined, builder.const([-1], "axes")))
    return out


def elementwise(b: Builder, l: Layer, tensors: Sequence[KT], op: str) -> KT:
    """Fold tensors with a binary (Add, Sub, Mul) or variadic (Max, Min, Mean) operator."""
    if len(tensors) == 1:
        return tensors[0]
    if l.generation == 3 and op in ("Mul", "Max", "Min") and any(x.mask is not None for x in tensors):
        if any(x.rank != tensors[0].rank for x in tensors):
            raise UnsupportedOption("masked tensors of different ranks are not supported", layer=l.path)
        return _masked(b, tensors, op)
    values, lies = aligned(b, l, tensors)
    if op in ("Max", "Min", "Mean"):
        return _result(b.op(op, *values), lies, l, tensors)
    made = values[0]
    for value in values[1:]:
        made = b.op(op, made, value)
    return _result(made, lies, l, tensors)


@layer("Add", mask="own")
def add(b: Builder, l: Layer, *x: KT) -> KT:
    """Sum."""
    return elementwise(b, l, x, "Add")


@layer("Subtract", mask="own")
def subtract(b: Builder, l: Layer, *x: KT) -> KT:
    """First minus second."""
    if len(x) != 2:
        raise MalformedFile(f"Subtract takes 2 tensors, not {len(x)}", layer=l.path)
    return elementwise(b, l, x, "Sub")


@layer("Multiply", mask="own")
def multiply(b: Builder, l: Layer, *x: KT) -> KT:
    """Product."""
    return elementwise(b, l, x, "Mul")


@layer("Average", mask="own")
def average(b: Builder, l: Layer, *x: KT) -> KT:
    """Mean."""
    return elementwise(b, l, x, "Mean")


@layer("Maximum", mask="own")
def maximum(b: Builder, l: Layer, *x: KT) -> KT:
    """Largest."""
    return elementwise(b, l, x, "Max")


@layer("Minimum", mask="own")
def minimum(b: Builder, l: Layer, *x: KT) -> KT:
    """Smallest."""
    return elementwise(b, l, x, "Min")


@layer("Concatenate", mask="own")
def concatenate(b: Builder, l: Layer, *x: KT) -> KT:
    """Join along an axis."""
    return joined(b, l, x, l.config.integer("axis", -1))


def joined(b: Builder, l: Layer, tensors: Sequence[KT], axis: int) -> KT:
    """Concatenate along one of Keras's axes."""
    rank = tensors[0].rank if tensors else 0
    if not tensors or any(x.rank != rank for x in tensors) or not -rank <= axis < rank:
        raise MalformedFile(f"tensors of ranks {[x.rank for x in tensors]} cannot be joined at {axis}", layer=l.path)
    if len(tensors) == 1:
        return tensors[0]
    if any(x.flat is not None for x in tensors):
        values, order = [x.logical(b) for x in tensors], identity(rank)
    else:
        order = common_order(tensors)
        values = [x.to(b, order) for x in tensors]
    out = KT(b.op("Concat", *values, axis=order.index(axis % rank)), order)
    out.mask = _joined_mask(tensors, axis % rank, l.generation)
    return out


def _joined_mask(tensors: Sequence[KT], axis: int, generation: int) -> Mask | None:
    """Along time the masks are joined (all True where an input has none); along features Keras 3 takes any, 2 all."""
    known = [x.mask for x in tensors if x.mask is not None]
    if not known:
        return None
    if axis != 1:
        if generation != 3:
            return _combined(known, "And")
        if len(known) == len(tensors):
            return _combined(known, "Or")
        first = tensors[0]

        def every(b: Builder) -> ir.Value:
            extent = b.op("Shape", first.logical(b), start=0, end=2)
            return b.op("Expand", b.const(True, "true", dtype=bool), extent)

        return Mask(every, right_padded=True)

    def join(b: Builder) -> ir.Value:
        parts: list[ir.Value] = []
        for x in tensors:
            if x.mask is not None:
                parts.append(x.mask.value(b))
            else:
                extent = b.op("Shape", x.logical(b), start=0, end=2)
                parts.append(b.op("Expand", b.const(True, "true", dtype=bool), extent))
        return b.op("Concat", *parts, axis=1)

    return Mask(join)


@layer("Dot", mask="drop")
def dot(b: Builder, l: Layer, x: KT, y: KT) -> KT:
    """Products summed over one axis of each, per sample."""
    axes = l.config.whole_numbers("axes", -1)
    axes = axes * 2 if len(axes) == 1 else axes
    return contracted(b, l, x, y, axes, l.config.flag("normalize", False))


def contracted(b: Builder, l: Layer, x: KT, y: KT, axes: Sequence[int], normalize: bool) -> KT:
    """Keras's batch_dot: sum over ``axes``, the first tensor's free axes before the second's."""
    if len(axes) != 2:
        raise MalformedFile(f"axes={list(axes)} are not two", layer=l.path)
    if not (-x.rank <= axes[0] < x.rank and -y.rank <= axes[1] < y.rank):
        raise MalformedFile(f"axes={list(axes)} are none of tensors of ranks {x.rank} and {y.rank}", layer=l.path)
    p, q = axes[0] % x.rank, axes[1] % y.rank
    if p == 0 or q == 0 or x.rank < 2 or y.rank < 2:
        raise UnsupportedOption("a Dot over the batch is not supported", layer=l.path)
    first, second = x.logical(b), y.logical(b)
    if normalize:
        first, second = _unit(b, first, p), _unit(b, second, q)
    if x.rank == 2 and y.rank == 2:
        return KT.of(b.op("ReduceSum", b.op("Mul", first, second), b.const([1], "axes"), keepdims=1))
    if x.rank == 3 and y.rank == 3:
        a = first if p == 2 else b.op("Transpose", first, perm=[0, 2, 1])
        c = second if q == 1 else b.op("Transpose", second, perm=[0, 2, 1])
        return KT.of(b.op("MatMul", a, c))
    letters = iter("abcdefghijklmnopqrstuvw")
    left = ["n", *(next(letters) for _ in range(x.rank - 1))]
    right = ["n", *(next(letters) for _ in range(y.rank - 1))]
    left = ["N" if c == "n" and i == 0 else c for i, c in enumerate(left)]
    right = ["N" if c == "n" and i == 0 else c for i, c in enumerate(right)]
    right[q] = left[p]
    out = [c for i, c in enumerate(left) if i != p] + [c for i, c in enumerate(right) if i not in (0, q)]
    equation = f"{''.join(left)},{''.join(right)}->{''.join(out)}"
    return KT.of(b.op("Einsum", first, second, equation=equation))


def _unit(b: Builder, value: ir.Value, axis: int) -> ir.Value:
    """Divide by the Euclidean length, at least 1e-6 (l2_normalize)."""
    square = b.op("ReduceSumSquare", value, b.const([axis], "axes"), keepdims=1)
    return b.op("Div", value, b.op("Sqrt", b.op("Max", square, b.const(1e-12, "least"))))


_MERGE = {"sum": "Add", "mul": "Mul", "ave": "Mean", "max": "Max", "min": "Min"}


@layer("Merge", mask="drop")
def merge(b: Builder, l: Layer, *x: KT) -> KT:
    """Keras 1's merge by mode: sum, mul, ave, max, concat, dot, cos."""
    mode = l.config.take("mode", "sum")
    axis = l.config.integer("concat_axis", -1)
    axes = l.config.take("dot_axes", -1)
    l.config.ignore("mode_type", "output_shape", "output_shape_type", "arguments", "node_indices", "tensor_indices",
                    "output_mask", "output_mask_type", "layers")  # fmt: skip
    if mode == "concat":
        return joined(b, l, x, axis)
    if mode in ("dot", "cos") and len(x) == 2:
        while isinstance(axes, list) and len(axes) == 1:
            axes = axes[0]
        pair = [axes, axes] if isinstance(axes, int) else [a[0] if isinstance(a, list) else a for a in axes]
        return contracted(b, l, x[0], x[1], pair, mode == "cos")
    if mode not in _MERGE:
        raise UnsupportedOption(f"mode={quoted(mode, 60)} is not supported", layer=l.path)
    return elementwise(b, l, x, _MERGE[mode])
