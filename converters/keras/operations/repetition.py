"""Borders, copies, reversal: tensors made larger or turned round by their own elements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from netferry.converters.keras.layers.merging import joined
from netferry.converters.keras.layout import KT
from netferry.converters.keras.operations.axes import inserted
from netferry.converters.keras.operations.call import Op, Slice, operation
from netferry.converters.keras.operations.selection import taken
from netferry.converters.keras.operations.sizes import as_value, dims_of


@operation("ops:Pad", "tf.pad")
def pad(op: Op) -> KT:
    """A border: constant, mirrored (with or without the edge), or the edge again."""
    x = op.plain(op.tensor("x" if op.keras3 else "tensor"))
    amounts = op.take("pad_width" if op.keras3 else "paddings", 1)
    mode = str(op.take("mode", 2, "constant")).lower()
    fill = op.take("constant_values", 3, None)
    pairs = np.asarray(op.as_integers(np.asarray(amounts), "pad_width") or [0])
    pairs = (
        np.broadcast_to(pairs.reshape(np.shape(amounts)), (x.rank, 2)) if pairs.size in (1, 2, 2 * x.rank) else pairs
    )
    if pairs.shape != (x.rank, 2) or (pairs < 0).any():
        raise op.bad("pad_width", amounts, f"{x.rank} pairs of sizes")
    names = {"constant": "constant", "reflect": "reflect", "edge": "edge", "wrap": "wrap"}
    if mode == "symmetric":
        return _mirrored(op, x, pairs)
    if mode not in names:
        raise op.unsupported(f"mode {mode}")
    pads = [int(pairs[a][side]) for side in (0, 1) for a in x.order]
    if not any(pads):
        return x
    constant = None
    if mode == "constant" and fill not in (None, 0):
        constant = op.b.const(np.asarray(fill).astype(x.dtype.numpy()), "value")
    kind = None if mode == "constant" else names[mode]
    return x.like(op.b.op("Pad", x.value, op.b.const(pads, "pads"), constant, mode=kind))


def _mirrored(op: Op, x: KT, pairs: np.ndarray) -> KT:
    """Mirror with the edge repeated, by row numbers."""
    for axis in range(x.rank):
        before, after = (int(v) for v in pairs[axis])
        if before or after:
            size = op.l.dim(x, axis, "the axis to mirror")
            rows = np.pad(np.arange(size), (before, after), mode="symmetric")
            x = KT(op.b.op("Gather", x.value, op.b.const(rows, "rows"), axis=x.axis(axis)), x.order)
    return x


@operation("ops:Tile", "tf.tile")
def tile(op: Op) -> KT:
    """The whole tensor again and again along each axis."""
    x = op.plain(op.tensor("x" if op.keras3 else "input"))
    value = op.take("repeats" if op.keras3 else "multiples", 1)
    dims, parts = dims_of(value, op, "repeats")
    if len(dims) < x.rank:
        dims, parts = [1] * (x.rank - len(dims)) + dims, [1] * (x.rank - len(parts)) + list(parts)
    if len(dims) > x.rank:
        x = inserted(op, x, list(range(len(dims) - x.rank)))
    if all(isinstance(d, int) for d in dims):
        return KT(op.b.op("Tile", x.value, op.b.const([int(dims[a] or 0) for a in x.order], "repeats")), x.order)
    return KT.of(op.b.op("Tile", x.logical(op.b), as_value(op, parts, dims)))


@operation("ops:Repeat", "tf.repeat")
def repeat(op: Op) -> KT:
    """Each element again and again along an axis."""
    x = op.plain(op.tensor("x" if op.keras3 else "input"))
    counts = op.integers("repeats", 1) or [1]
    axis = op.take("axis", 2, None)
    if axis is None:
        x, axis = KT.of(op.b.reshape(x.logical(op.b), [-1])), 0
    axis = op.axes_of(x.rank, [int(axis)])[0]
    if len(counts) == 1 and counts[0] >= 1:
        wide = inserted(op, KT.of(x.logical(op.b)), [axis + 1])
        repeats = [1] * (x.rank + 1)
        repeats[axis + 1] = counts[0]
        tiled = op.b.op("Tile", wide.value, op.b.const(repeats, "repeats"))
        dims = x.shape
        size = dims[axis]
        total = size * counts[0] if isinstance(size, int) else -1
        return KT.of(op.b.reshape(tiled, _merged(dims, axis, total, op)))
    size = op.l.dim(x, axis, "the axis to repeat")
    if len(counts) not in (1, size) or any(c < 0 for c in counts):
        raise op.bad("repeats", counts, f"{size} counts")
    rows = np.repeat(np.arange(size), counts)
    return KT(op.b.op("Gather", x.value, op.b.const(rows, "rows"), axis=x.axis(axis)), x.order)


def _merged(dims: Sequence[Any], axis: int, size: int, op: Op) -> list[int]:
    """Target of the Reshape that joins an axis with the copies behind it."""
    target = [size if i == axis else d if isinstance(d, int) else 0 if i < axis else -1 for i, d in enumerate(dims)]
    if target.count(-1) > 1:
        raise op.unsupported("repetition beside several dynamic axes")
    return [int(d) for d in target]


@operation("ops:Flip", "ops:Fliplr", "ops:Flipud", "tf.reverse", "tf.image.flip_left_right", "tf.image.flip_up_down")
def flip(op: Op) -> KT:
    """Axes read backwards."""
    name = next((n for n in ("x", "m", "tensor", "image") if n in op.l.kwargs), "x")
    x = op.plain(op.tensor(name))
    fixed = {"ops:Fliplr": [1], "ops:Flipud": [0], "tf.image.flip_left_right": [-2], "tf.image.flip_up_down": [-3]}
    axes = op.axes_of(x.rank, fixed[op.l.type]) if op.l.type in fixed else op.axes(x, "axis", 1)
    return taken(op, x, [(a, Slice(None, None, -1)) for a in axes])


@operation("ops:Roll", "tf.roll")
def roll(op: Op) -> KT:
    """Axes turned: what falls off at the end comes in at the front."""
    x = op.plain(op.tensor("x" if op.keras3 else "input"))
    shifts = op.integers("shift", 1) or [0]
    axis = op.integers("axis", 2, None)
    if axis is None:
        dims, flat = x.shape, KT.of(op.b.reshape(x.logical(op.b), [-1]))
        if sum(not isinstance(d, int) for d in dims) > 1:
            raise op.unsupported("a roll over several dynamic axes")
        turned = _turned(op, flat, [0], shifts)
        return KT.of(op.b.reshape(turned.value, [d if isinstance(d, int) else -1 for d in dims]))
    shifts = shifts * len(axis) if len(shifts) == 1 else shifts
    return _turned(op, x, op.axes_of(x.rank, axis), shifts)


def _turned(op: Op, x: KT, axes: Sequence[int], shifts: Sequence[int]) -> KT:
    for place, shift in zip(axes, shifts, strict=True):
        if shift:
            size = x.shape[place]
            cut = -(shift % size) if isinstance(size, int) and size else -shift
            if cut == 0:
                continue
            back = taken(op, x, [(place, Slice(cut, None, None))])
            front = taken(op, x, [(place, Slice(None, cut, None))])
            x = joined(op.b, op.l, [back, front], place)
    return x
