"""Tensors whose axes lie in another order than Keras thinks of them, and kernels by the name of their order.

Keras computes channels-last, ONNX channels-first. Rather than to put a Transpose around each convolution, a
:class:`KT` knows in which order its axes really lie; a reader asks for the order it wants, and a Transpose comes
into being only where orders differ, once per tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from netferry.schemas.graph import Builder, Dim, shape_of
from netferry.schemas.ir import ir

Order = tuple[int, ...]


def identity(rank: int) -> Order:
    """The order of Keras itself."""
    return tuple(range(rank))


def channels_first(rank: int, data_format: str = "channels_last") -> Order:
    """Order (batch, channels, space …) of a tensor whose channels Keras has last (or first already)."""
    if data_format == "channels_first" or rank < 3:
        return identity(rank)
    return (0, rank - 1, *range(1, rank - 1))


class Mask:
    """Which steps count: a boolean (batch, time) value that is computed only when someone wants it.

    Args:
        make: makes the value.
        right_padded: whether False can only follow True (nothing after a masked step counts).
    """

    def __init__(self, make: Callable[[Builder], ir.Value], *, right_padded: bool = False) -> None:
        self._make, self._value = make, None
        self.right_padded = right_padded
        self.derived: dict[str, ir.Value] = {}
        """values that readers computed from the mask (lengths, places of steps), for others to take"""

    def value(self, b: Builder) -> ir.Value:
        """Return the boolean value, in Keras's order of axes."""
        if self._value is None:
            self._value = self._make(b)
        return self._value


@dataclass(frozen=True, eq=False)
class Flat:
    """How the elements of a flattened tensor lie: ``sizes`` are Keras's, without the batch, ``order`` their places."""

    sizes: tuple[int, ...]
    order: Order
    source: KT | None = None
    """the tensor before Flatten, where nothing was done since"""

    def rows(self, array: np.ndarray) -> np.ndarray:
        """Reorder axis 0 (Keras's Flatten order) of a kernel or vector to the order in which the elements lie."""
        return self.view(array).reshape(array.shape)

    def view(self, array: np.ndarray) -> np.ndarray:
        """The same without a copy, axis 0 still split into its sizes."""
        rest = array.shape[1:]
        places = (*self.order, *range(len(self.sizes), len(self.sizes) + len(rest)))
        return array.reshape(*self.sizes, *rest).transpose(places)


@dataclass(eq=False)
class KT:
    """A tensor of the source.

    ``order[i]`` is the axis of Keras that lies at place ``i`` of ``value``: a picture that a convolution made has
    the order (0, 3, 1, 2). Where ``flat`` is set the tensor is a Flatten whose elements lie in another order than
    Keras thinks: see :class:`Flat`.
    """

    value: ir.Value
    order: Order
    mask: Mask | None = None
    flat: Flat | None = None
    wide: ir.Value | None = None
    """for (batch, channels) from a global pooling: the same with axes of size 1 behind"""
    forms: dict[Order, ir.Value] = field(default_factory=dict, repr=False)
    remake: Callable[[Order], ir.Value] | None = field(default=None, repr=False)
    """makes the tensor in another order from its source, where that is better than a Transpose behind"""
    as_mask: Mask | None = field(default=None, repr=False)
    """the tensor itself used as a mask (an argument ``mask=``), for all layers that take it"""

    def __post_init__(self) -> None:
        self.forms.setdefault(self.order, self.value)

    @classmethod
    def of(cls, value: ir.Value, order: Sequence[int] | None = None, mask: Mask | None = None) -> KT:
        """Wrap a value; without ``order`` it lies as Keras thinks of it."""
        return cls(value, identity(len(shape_of(value))) if order is None else tuple(order), mask)

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.order)

    @property
    def shape(self) -> tuple[Dim, ...]:
        """Dimensions in Keras's order: whole numbers, names of dynamic ones, None where unknown."""
        lying = shape_of(self.value)
        out: list[Dim] = [None] * self.rank
        for place, axis in enumerate(self.order):
            out[axis] = lying[place]
        return tuple(out)

    @property
    def dtype(self) -> ir.DataType:
        """Element type."""
        return self.value.dtype or ir.DataType.FLOAT

    def axis(self, axis: int) -> int:
        """Return the place where Keras's ``axis`` (may be negative) lies."""
        return self.order.index(axis % self.rank)

    def to(self, b: Builder, order: Sequence[int]) -> ir.Value:
        """Return the value with its axes in ``order``; the Transpose is made once and shared."""
        order = tuple(order)
        if self.flat is not None:
            return self._unscrambled(b)
        if order not in self.forms:
            self.forms[order] = (
                _transpose(b, self.value, [self.order.index(axis) for axis in order])
                if self.remake is None
                else self.remake(order)
            )
        return self.forms[order]

    def logical(self, b: Builder) -> ir.Value:
        """Return the value with its axes as Keras thinks of them."""
        return self.to(b, identity(self.rank))

    def _unscrambled(self, b: Builder) -> ir.Value:
        """The flattened elements in Keras's order."""
        assert self.flat is not None
        key = (-1,)
        if key not in self.forms:
            if self.flat.source is not None:
                self.forms[key] = b.op("Flatten", self.flat.source.logical(b))
            else:
                lying = b.reshape(self.value, [-1, *(self.flat.sizes[axis] for axis in self.flat.order)])
                perm = [0, *(1 + self.flat.order.index(axis) for axis in range(len(self.flat.sizes)))]
                self.forms[key] = b.op("Flatten", b.op("Transpose", lying, perm=perm))
        return self.forms[key]

    def like(self, value: ir.Value, *, mask: Mask | None = None) -> KT:
        """Wrap a value that lies as this one does (an elementwise function of it)."""
        flat = None if self.flat is None else replace(self.flat, source=None)
        return KT(value, self.order, mask, flat)


def explicit_mask(given: KT) -> Mask:
    """A tensor of the model as mask: one for all its readers, so that they share what is derived from it."""
    if given.as_mask is not None:
        return given.as_mask

    def make(b: Builder) -> ir.Value:
        value = given.logical(b)
        return value if value.dtype == ir.DataType.BOOL else b.op("Cast", value, to=int(ir.DataType.BOOL))

    given.as_mask = Mask(make)
    return given.as_mask


def _transpose(b: Builder, value: ir.Value, perm: list[int]) -> ir.Value:
    """Transpose, or Reshape where only axes of size 1 move."""
    dims = shape_of(value)
    moving = [p for p in perm if dims[p] != 1]
    if moving == sorted(moving):
        target = [dims[p] for p in perm]
        unknown = [i for i, d in enumerate(target) if not isinstance(d, int)]
        sizes = [d if isinstance(d, int) else 0 if perm[i] == i else -1 for i, d in enumerate(target)]
        if sizes.count(-1) <= 1 and all(sizes[i] != 0 or i in unknown for i in range(len(sizes))):
            return b.reshape(value, sizes)
    return b.op("Transpose", value, perm=perm)


def flatten(b: Builder, x: KT) -> KT:
    """Flatten ``x`` as it lies where its sizes are known: what reads it permutes its weights instead."""
    sizes = tuple(d for d in x.shape[1:] if isinstance(d, int))
    moving = [axis for axis in x.order if x.shape[axis] != 1]
    if moving == sorted(moving):
        return KT.of(b.op("Flatten", x.value))
    if len(sizes) != x.rank - 1 or x.order[0] != 0:
        return KT.of(b.op("Flatten", x.logical(b)))
    value = b.op("Flatten", x.value)
    return KT(value, (0, 1), None, Flat(sizes, tuple(axis - 1 for axis in x.order[1:]), x))


def common_order(tensors: Sequence[KT]) -> Order:
    """The order in which most of the tensors (of equal rank) lie already; ties go to channels-first ones."""
    ranked: dict[Order, int] = {}
    for x in tensors:
        ranked[x.order] = ranked.get(x.order, 0) + (1 if all(d == 1 for d in x.shape[1:-1]) else 2)
    plain = identity(tensors[0].rank)
    return max(ranked, key=lambda o: (o != plain, ranked[o]))


# kernels -------------------------------------------------------------------------------------------------------


def channels_last_to_first(kernel: np.ndarray) -> np.ndarray:
    """(space …, in, out) -> (out, in, space …): Keras's convolution kernel to ONNX's."""
    return np.moveaxis(kernel, (-1, -2), (0, 1))


def transposed_to_first(kernel: np.ndarray) -> np.ndarray:
    """(space …, out, in) -> (in, out, space …): the kernel of a transposed convolution."""
    return np.moveaxis(kernel, (-1, -2), (0, 1))


def depthwise_to_first(kernel: np.ndarray) -> np.ndarray:
    """(space …, channels, multiplier) -> (channels * multiplier, 1, space …)."""
    rank = kernel.ndim - 2
    moved = np.moveaxis(kernel, (-2, -1), (0, 1))
    return moved.reshape(moved.shape[0] * moved.shape[1], 1, *moved.shape[2 : 2 + rank])


def matrix_to_pointwise(rank: int) -> Callable[[np.ndarray], np.ndarray]:
    """(in, out) -> (out, in, 1 …): a Dense kernel as a convolution of size 1 over ``rank`` axes of space."""
    return lambda kernel: kernel.T.reshape(*kernel.T.shape, *([1] * rank))
