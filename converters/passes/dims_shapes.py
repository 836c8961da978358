"""How operators carry symbolic shapes on; one function per operator."""

from __future__ import annotations

from collections.abc import Sequence

from netferry.converters.passes.dims_table import (
    BROADCAST,
    SAME_SHAPE,
    Known,
    Vector,
    attribute,
    broadcast,
    numbers_in,
    plain_in,
    shape_in,
    shapes_of,
    slice_parts,
)
from netferry.converters.passes.polynomials import Poly, number, product, symbol
from netferry.schemas.ir import ir


@shapes_of(*SAME_SHAPE)
def _same(known: Known, node: ir.Node) -> Sequence[Vector | None] | None:
    return [shape_in(known, node, 0)]


@shapes_of(*BROADCAST)
def _broadcast(known: Known, node: ir.Node) -> Sequence[Vector | None] | None:
    shapes = [shape_in(known, node, i) for i in range(len(node.inputs))]
    found = [s for s in shapes if s is not None]
    return [broadcast(found, node.outputs[0].name or "")] if len(found) == len(shapes) and shapes else None


@shapes_of("Transpose")
def _transpose(known: Known, node: ir.Node) -> Sequence[Vector | None] | None:
    dims = shape_in(known, node, 0)
    if dims is None:
        return None
    held = node.attributes.get("perm")
    perm = list(held.as_ints()) if held is not None and not held.is_ref() else list(range(len(dims)))[::-1]
    return [tuple(dims[i] for i in perm)] if sorted(perm) == list(range(len(dims))) else None


@shapes_of("Reshape")
def _reshape(known: Known, node: ir.Node) -> Sequence[Vector | None] | None:
    dims, wanted = shape_in(known, node, 0), numbers_in(known, node, 1)
    if wanted is None:
        return None
    out: list[Poly | None] = []
    for i, size in enumerate(wanted):
        if size.number == 0 and not attribute(node, "allowzero", 0):
            if dims is None or i >= len(dims):
                return None
            out.append(dims[i])
        elif size.number == -1:
            out.append(None)
        elif size.natural:
            out.append(size)
        else:
            return None
    if None in out:
        rest = product(d for d in out if d is not None)
        size = product(dims).over(rest) if dims is not None and rest != number(0) else None
        free = size if size is not None else symbol(f"?{node.outputs[0].name}:{out.index(None)}")
        out[out.index(None)] = free
    return [tuple(d for d in out if d is not None)] if None not in out else None


@shapes_of("Flatten")
def _flatten(known: Known, node: ir.Node) -> Sequence[Vector | None] | None:
    dims = shape_in(known, node, 0)
    if dims is None:
        return None
    axis = attribute(node, "axis", 1)
    axis += len(dims) if axis < 0 else 0
    return [(product(dims[:axis]), product(dims[axis:]))]


@shapes_of("Squeeze")
def _squeeze(known: Known, node: ir.Node) -> Sequence[Vector | None] | None:
    dims, axes = shape_in(known, node, 0), plain_in(known, node, 1)
    if dims is None or axes is None:
        return None
    gone = {a % len(dims) for a in axes}
    return [tuple(d for i, d in enumerate(dims) if i not in gone)]


@shapes_of("Unsqueeze")
def _unsqueeze(known: Known, node: ir.Node) -> Sequence[Vector | None] | None:
    dims, axes = shape_in(known, node, 0), plain_in(known, node, 1)
    if dims is None or axes is None:
        return None
    rank = len(dims) + len(axes)
    new, rest = {a % rank for a in axes}, iter(dims)
    return [tuple(number(1) if i in new else next(rest) for i in range(rank))] if len(new) == len(axes) else None


@shapes_of("Concat")
def _concat(known: Known, node: ir.Node) -> Sequence[Vector | None] | None:
    shapes = [shape_in(known, node, i) for i in range(len(node.inputs))]
    found = [s for s in shapes if s is not None]
    if len(found) != len(shapes) or len({len(s) for s in found}) != 1 or not found[0]:
        return None
    rank = len(found[0])
    axis = attribute(node, "axis", 0) % rank
    out: list[Poly] = []
    for i in range(rank):
        column = [s[i] for s in found]
        total = number(0)
        for size in column:
            total = total + size
        sized = [d for d in column if d.number is not None]
        out.append(total if i == axis else sized[0] if sized else column[0])
    return [tuple(out)]


@shapes_of("Split")
def _split(known: Known, node: ir.Node) -> Sequence[Vector | None] | None:
    dims, parts = shape_in(known, node, 0), plain_in(known, node, 1)
    if dims is None or not dims:
        return None
    axis, count = attribute(node, "axis", 0) % len(dims), len(node.outputs)
    if parts is None:
        whole = dims[axis].number
        if whole is None or (len(node.inputs) > 1 and node.inputs[1] is not None):
            return None
        size = -(-whole // count)
        parts = [max(0, min(size, whole - i * size)) for i in range(count)]
    if len(parts) != count:
        return None
    return [tuple(number(p) if i == axis else d for i, d in enumerate(dims)) for p in parts]


@shapes_of("MatMul")
def _matmul(known: Known, node: ir.Node) -> Sequence[Vector | None] | None:
    a, b = shape_in(known, node, 0), shape_in(known, node, 1)
    if a is None or b is None or len(a) < 2 or len(b) < 2:
        return None
    batch = broadcast([a[:-2], b[:-2]], node.outputs[0].name or "") if len(a) > 2 or len(b) > 2 else ()
    return None if batch is None else [(*batch, a[-2], b[-1])]


@shapes_of("Gemm")
def _gemm(known: Known, node: ir.Node) -> Sequence[Vector | None] | None:
    a, b = shape_in(known, node, 0), shape_in(known, node, 1)
    if a is None or b is None or len(a) != 2 or len(b) != 2:
        return None
    return [(a[1 if attribute(node, "transA", 0) else 0], b[0 if attribute(node, "transB", 0) else 1])]


@shapes_of("Gather")
def _gather(known: Known, node: ir.Node) -> Sequence[Vector | None] | None:
    dims, index = shape_in(known, node, 0), shape_in(known, node, 1)
    if dims is None or index is None or not dims:
        return None
    axis = attribute(node, "axis", 0) % len(dims)
    return [(*dims[:axis], *index, *dims[axis + 1 :])]


@shapes_of("Slice")
def _slice(known: Known, node: ir.Node) -> Sequence[Vector | None] | None:
    dims, parts = shape_in(known, node, 0), slice_parts(known, node)
    if dims is None or parts is None or any(not -len(dims) <= a < len(dims) for a in parts[2]):
        return None
    out = list(dims)
    for start, end, axis, step in zip(*parts, strict=True):
        size = dims[axis].number
        if size is not None:
            out[axis] = number(
                len(range(size)[start:end:step] if step > 0 or end >= -size else range(size)[start::step])
            )
        elif not (step == 1 and start == 0 and end >= 2**31 - 1):
            out[axis] = symbol(f"?{node.outputs[0].name}:{axis % len(dims)}")
    return [tuple(out)]


@shapes_of("Expand")
def _expand(known: Known, node: ir.Node) -> Sequence[Vector | None] | None:
    dims, wanted = shape_in(known, node, 0), numbers_in(known, node, 1)
    if dims is None or wanted is None or not all(w.natural for w in wanted):
        return None
    found = broadcast([dims, wanted], node.outputs[0].name or "") if dims or wanted else ()
    return None if found is None else [found]


@shapes_of("ConstantOfShape")
def _constant_of_shape(known: Known, node: ir.Node) -> Sequence[Vector | None] | None:
    wanted = numbers_in(known, node, 0)
    return [wanted] if wanted is not None and all(w.natural for w in wanted) else None


@shapes_of("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare")
def _reduce(known: Known, node: ir.Node) -> Sequence[Vector | None] | None:
    dims, axes = shape_in(known, node, 0), plain_in(known, node, 1)
    if dims is None or not axes:
        return None
    gone = {a % len(dims) for a in axes}
    if attribute(node, "keepdims", 1):
        return [tuple(number(1) if i in gone else d for i, d in enumerate(dims))]
    return [tuple(d for i, d in enumerate(dims) if i not in gone)]


@shapes_of("Conv", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LpPool")
def _window(known: Known, node: ir.Node) -> Sequence[Vector | None] | None:
    """Only the batch (and the channels): the sizes come from ONNX's own inference."""
    dims = shape_in(known, node, 0)
    if dims is None or len(dims) < 3:
        return None
    channels: Poly | None = dims[1]
    if node.op_type == "Conv":
        kernel = shape_in(known, node, 1)
        channels = kernel[0] if kernel else None
    if channels is None:
        return None
    inside = [symbol(f"?{node.outputs[0].name}:{i}") for i in range(2, len(dims))]
    if node.op_type.startswith("Global"):
        inside = [number(1)] * len(inside)
    return [(dims[0], channels, *inside)]
