"""Windows that slide over the spatial axes: kernel, stride, padding and dilation as convolution_param gives them.

Shared by the readers of convolution, deconvolution, im2col, pooling and pyramids. Rules: BaseConvolutionLayer and
ConvolutionLayer of BVLC Caffe.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from netferry.converters.caffe.params import Params
from netferry.converters.caffe.registry import Layer
from netferry.errors import LimitExceeded, MalformedFile
from netferry.schemas.graph import Dim, shape_of
from netferry.schemas.ir import ir

BLOB_LIMIT = 2**31 - 1
"""Caffe counts the elements of a blob in an int: a larger blob cannot be."""
CONSTANT_LIMIT = 2**24
"""Elements of a constant that a reader may make up from settings alone."""


@dataclass(frozen=True)
class Windows:
    """Kernel, stride, padding (both sides alike) and dilation, one number per spatial axis."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pad: tuple[int, ...]
    dilation: tuple[int, ...]

    @property
    def extent(self) -> tuple[int, ...]:
        """Pixels from the first to the last tap of the kernel, both counted."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True))


def axis_of(l: Layer, x: ir.Value, axis: int, setting: str = "axis") -> int:
    """Return ``axis`` counted from the front, as Caffe's CanonicalAxisIndex does.

    Raises:
        MalformedFile: the value has no such axis.
    """
    rank = len(shape_of(x))
    if not -rank <= axis < rank:
        raise MalformedFile(f"{setting} {axis} does not exist: the bottom has {rank} axes", layer=l.name)
    return axis % rank


def check_size(l: Layer, dims: Sequence[Dim]) -> None:
    """Check that a top is one that Caffe could hold.

    Raises:
        MalformedFile: a dimension is below 1.
        LimitExceeded: more than 2^31 - 1 elements (per item where the batch is dynamic).
    """
    known = [d for d in dims if isinstance(d, int)]
    if any(d < 1 for d in known):
        raise MalformedFile(
            f"the top would have shape {tuple(dims)}: the window is larger than its input", layer=l.name
        )
    if math.prod(known) > BLOB_LIMIT:
        raise LimitExceeded(f"the top would have shape {tuple(dims)}: more than 2^31 - 1 elements", layer=l.name)


def check_constant(l: Layer, count: int) -> None:
    """Check the size of a constant that settings ask for, before it is made.

    Raises:
        LimitExceeded: more than 2^24 elements.
    """
    if count > CONSTANT_LIMIT:
        raise LimitExceeded(f"its settings ask for a table of {count} elements (at most 2^24)", layer=l.name)


def read_windows(l: Layer, p: Params, spatial: int) -> Windows:
    """Read a convolution_param for ``spatial`` axes.

    Each setting is one number for all axes, one per axis, or (kernel, stride, pad) ``_h`` and ``_w``. DeepLab's
    ``hole`` is a dilation under another name.

    Raises:
        MalformedFile: given in both forms, for another number of axes, or below what is possible.
    """
    holes = any(p.has(name) for name in ("hole", "hole_h", "hole_w"))
    return Windows(
        _per_axis(l, p, "kernel_size", "kernel", spatial, None, least=1),
        _per_axis(l, p, "stride", "stride", spatial, 1, least=1),
        _per_axis(l, p, "pad", "pad", spatial, 0, least=0),
        _per_axis(l, p, *(("hole", "hole") if holes else ("dilation", "dilation")), spatial, 1, least=1),
    )


def _per_axis(
    l: Layer, p: Params, name: str, short: str, spatial: int, default: int | None, *, least: int
) -> tuple[int, ...]:
    sides = (f"{short}_h", f"{short}_w")
    if any(p.has(side) for side in sides):
        if spatial != 2:
            raise MalformedFile(f"{sides[0]} and {sides[1]} need two spatial axes, not {spatial}", layer=l.name)
        if p.has(name):
            raise MalformedFile(f"give {name}, or {sides[0]} and {sides[1]}, not both", layer=l.name)
        values = [p.int(side, 0) for side in sides]
    else:
        values = p.ints(name)
        if not values and default is None and spatial:
            raise MalformedFile(f"{name} is missing", layer=l.name)
        values = values or [default or 0]
        if len(values) not in (1, spatial):
            raise MalformedFile(f"{name} is given {len(values)} times for {spatial} spatial axes", layer=l.name)
    if len(values) != spatial:
        values = values[:1] * spatial
    if any(not least <= v <= BLOB_LIMIT for v in values):
        raise MalformedFile(f"{name} {values} is not in {least} .. 2^31 - 1", layer=l.name)
    return tuple(values)
