"""Scale and Bias: one factor or term per slice of the bottom, learnt or from a second bottom.

Rules: scale_layer.cpp and bias_layer.cpp of BVLC Caffe.
"""

from __future__ import annotations

from collections.abc import Sequence

from netferry.converters.caffe.params import Params
from netferry.converters.caffe.registry import Layer, NeedsFixedBatch, layer
from netferry.converters.caffe.windows import axis_of
from netferry.errors import MalformedFile
from netferry.schemas.graph import Builder, Dim, shape_of
from netferry.schemas.ir import ir


@layer("Scale")
def scale(b: Builder, l: Layer, x: ir.Value, *factors: ir.Value) -> ir.Value:
    """Multiply by a factor broadcast from ``axis`` on, then add a bias of the same shape where asked for."""
    p = l.param("scale_param")
    axis, dims = _slice(l, p, x, factors)
    if factors:
        y = b.op("Mul", x, _widened(b, factors[0], len(shape_of(x)) - axis - len(dims)))
    else:
        y = b.op("Mul", x, _parameter(b, l, x, "weight", 0, axis, dims, p.filler("filler"), 1.0))
    if not p.bool("bias_term", False):
        return y
    index = 0 if factors else 1
    return b.op("Add", y, _parameter(b, l, x, "bias", index, axis, dims, p.filler("bias_filler"), 0.0))


@layer("Bias")
def bias(b: Builder, l: Layer, x: ir.Value, *terms: ir.Value) -> ir.Value:
    """Add a term broadcast from ``axis`` on."""
    p = l.param("bias_param")
    axis, dims = _slice(l, p, x, terms)
    if terms:
        return b.op("Add", x, _widened(b, terms[0], len(shape_of(x)) - axis - len(dims)))
    return b.op("Add", x, _parameter(b, l, x, "bias", 0, axis, dims, p.filler("filler"), 0.0))


def _slice(l: Layer, p: Params, x: ir.Value, second: Sequence[ir.Value]) -> tuple[int, tuple[Dim, ...]]:
    """Return the axis where the factor begins and its dimensions, which are those of the bottom there."""
    shape = shape_of(x)
    if len(second) > 1:
        raise MalformedFile(f"takes one or two bottoms, not {1 + len(second)}", layer=l.name)
    if second:
        p.ignore("num_axes")
        given = shape_of(second[0])
        if not given:  # a scalar: the axis does not matter
            p.ignore("axis")
            return 0, ()
        axis = axis_of(l, x, p.int("axis", 1))
        wanted = shape[axis : axis + len(given)]
        if wanted != given:
            if len(wanted) == len(given) and all(
                a == c or not (isinstance(a, int) and isinstance(c, int)) for a, c in zip(wanted, given, strict=True)
            ):
                raise NeedsFixedBatch(f"{given} fits {shape} from axis {axis} only for one batch size", layer=l.name)
            raise MalformedFile(f"the second bottom {given} does not fit {shape} from axis {axis} on", layer=l.name)
        return axis, given
    count = p.int("num_axes", 1, least=-1)
    if count == 0:
        p.ignore("axis")
        return 0, ()
    axis = axis_of(l, x, p.int("axis", 1))
    end = len(shape) if count == -1 else axis + count
    if end > len(shape):
        raise MalformedFile(f"num_axes {count} from axis {axis} is beyond the bottom's {len(shape)} axes", layer=l.name)
    return axis, shape[axis:end]


def _widened(b: Builder, factor: ir.Value, trailing: int) -> ir.Value:
    """Append ``trailing`` axes of one to a factor, so that it broadcasts from the front."""
    rank = len(shape_of(factor))
    if rank == 0 or trailing == 0:
        return factor
    return b.op("Unsqueeze", factor, list(range(rank, rank + trailing)))


def _parameter(
    b: Builder,
    l: Layer,
    x: ir.Value,
    name: str,
    index: int,
    axis: int,
    dims: Sequence[Dim],
    filler: dict[str, object] | None,
    default: float,
) -> ir.Value:
    """A parameter of ``dims``, stored with the trailing ones that let it broadcast.

    A parameter that layers share keeps its plain shape, since they may sit on bottoms of unlike rank.
    """
    shape = [d if isinstance(d, int) else l.fixed(x, axis + i, f"one {name} each") for i, d in enumerate(dims)]
    trailing = len(shape_of(x)) - axis - len(shape) if shape else 0
    if index < len(l.shared) and l.shared[index]:
        return _widened(b, l.weight(b, name, index, shape, filler=filler, default=default), trailing)
    return l.weight(b, name, index, [*shape, *[1] * trailing], filler=filler, default=default)
