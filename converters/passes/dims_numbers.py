"""How operators carry integer vectors (sizes on their way to a Reshape) on; one function per operator."""

from __future__ import annotations

from netferry.converters.passes.dims_table import (
    Known,
    Vector,
    attribute,
    numbers_in,
    numbers_of,
    plain_in,
    shape_in,
    slice_parts,
)
from netferry.converters.passes.polynomials import Poly, number, product, symbol
from netferry.schemas.ir import ir


@numbers_of("Shape")
def _shape_of(known: Known, node: ir.Node) -> Vector | None:
    dims = shape_in(known, node, 0)
    if dims is None:
        return None
    end = node.attributes.get("end")
    return dims[attribute(node, "start", 0) : None if end is None else end.as_int()]


@numbers_of("Size")
def _size_of(known: Known, node: ir.Node) -> Vector | None:
    dims = shape_in(known, node, 0)
    return None if dims is None else (product(dims),)


@numbers_of("Identity", "Unsqueeze", "Squeeze", "Reshape", "Flatten")
def _carried(known: Known, node: ir.Node) -> Vector | None:
    dims = known.dims.get(node.outputs[0])
    return numbers_in(known, node, 0) if dims is not None and len(dims) <= 1 else None


@numbers_of("Cast")
def _cast(known: Known, node: ir.Node) -> Vector | None:
    to = attribute(node, "to", 0)
    if to == ir.DataType.INT64.value:
        return numbers_in(known, node, 0)
    found = numbers_in(known, node, 0) if to == ir.DataType.INT32.value else None
    if found is None:
        return None
    # one dimension fits, as in every runtime; a product of them might be cut off
    sized = [p.number for p in found if p.atom is None]
    return found if all(x is not None and -(2**31) <= x < 2**31 for x in sized) else None


@numbers_of("Concat")
def _joined(known: Known, node: ir.Node) -> Vector | None:
    parts = [numbers_in(known, node, i) for i in range(len(node.inputs))]
    dims = known.dims.get(node.outputs[0])
    if dims is None or len(dims) != 1:
        return None
    return None if None in parts else tuple(p for part in parts if part is not None for p in part)


@numbers_of("Gather")
def _picked(known: Known, node: ir.Node) -> Vector | None:
    found, index = numbers_in(known, node, 0), plain_in(known, node, 1)
    dims = known.dims.get(node.outputs[0])
    if found is None or index is None or dims is None or len(dims) > 1:
        return None
    return tuple(found[i] for i in index) if all(-len(found) <= i < len(found) for i in index) else None


@numbers_of("Slice")
def _cut(known: Known, node: ir.Node) -> Vector | None:
    found, parts = numbers_in(known, node, 0), slice_parts(known, node)
    if found is None or parts is None or any(step < 0 for step in parts[3]):
        return None
    for start, end, _, step in zip(*parts, strict=True):
        found = found[start:end:step]
    return found


@numbers_of(
    "Add", "Sub", "Mul", "Div", "Mod", "Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual", "Min", "Max"
)
def _arithmetic(known: Known, node: ir.Node) -> Vector | None:
    if len(node.inputs) != 2 or node.outputs[0].dtype not in (ir.DataType.INT64, ir.DataType.BOOL):
        return None
    a, b = numbers_in(known, node, 0), numbers_in(known, node, 1)
    if a is None or b is None or (len(a) != len(b) and 1 not in (len(a), len(b))):
        return None
    length = max(len(a), len(b)) if a and b else 0
    a, b = (v * length if len(v) == 1 else v for v in (a, b))
    out = [_calculated(node.op_type, x, y) for x, y in zip(a, b, strict=True)]
    return None if None in out else tuple(p for p in out if p is not None)


def _calculated(kind: str, x: Poly, y: Poly) -> Poly | None:
    if kind == "Add":
        return x + y
    if kind == "Sub":
        return x - y
    if kind == "Mul":
        return x * y
    p, q = x.number, y.number
    if kind in ("Div", "Mod"):
        if not x.natural or not y.natural or q == 0:
            return None
        if p is not None and q is not None:
            return number(p // q if kind == "Div" else p % q)
        if q is None:  # by a size that may be 0
            return None
        exact = x.over(y)
        if exact is not None:
            return exact if kind == "Div" else number(0)
        return symbol(f"?({x}){'/' if kind == 'Div' else '%'}{q}")
    if kind in ("Min", "Max"):
        larger = x if (x - y).natural else y if (y - x).natural else None
        if larger is None:
            return None
        return larger if kind == "Max" else (y if larger is x else x)
    return _compared(kind, x - y)


def _compared(kind: str, gap: Poly) -> Poly | None:
    """Whether ``gap`` is equal to 0, above it …, where that is so for all sizes or for none."""
    constant = dict(gap.terms).get((), 0)
    above = gap.natural and constant > 0
    below = (-gap).natural and constant < 0
    if kind == "Equal":
        return number(1) if not gap.terms else number(0) if above or below else None
    if kind in ("Less", "LessOrEqual"):
        gap, above, below = -gap, below, above
    if kind in ("Greater", "Less"):
        return number(1) if above else number(0) if (-gap).natural else None
    return number(1) if gap.natural else number(0) if below else None


@numbers_of("Where")
def _chosen(known: Known, node: ir.Node) -> Vector | None:
    which, a, b = plain_in(known, node, 0), numbers_in(known, node, 1), numbers_in(known, node, 2)
    if which is None or a is None or b is None or node.outputs[0].dtype != ir.DataType.INT64:
        return None
    length = max(len(which), len(a), len(b))
    if any(len(v) not in (1, length) for v in (which, a, b)):
        return None
    which = which * length if len(which) == 1 else which
    a, b = (v * length if len(v) == 1 else v for v in (a, b))
    return tuple(x if w else y for w, x, y in zip(which, a, b, strict=True))


@numbers_of("ReduceProd", "ReduceSum")
def _reduced(known: Known, node: ir.Node) -> Vector | None:
    found = numbers_in(known, node, 0)
    source = node.inputs[0]
    if found is None or source is None or source.dtype != ir.DataType.INT64 or len(shape_in(known, node, 0) or ()) != 1:
        return None
    if attribute(node, "noop_with_empty_axes", 0):
        axes = plain_in(known, node, 1) if len(node.inputs) > 1 and node.inputs[1] is not None else []
        if not axes:
            return None if axes is None else found
    if node.op_type == "ReduceProd":
        return (product(found),)
    total = number(0)
    for value in found:
        total = total + value
    return (total,)


@numbers_of("ConstantOfShape")
def _filled(known: Known, node: ir.Node) -> Vector | None:
    length = plain_in(known, node, 0)
    if length is None or len(length) > 1 or (length and not 0 <= length[0] <= 64):
        return None
    held = node.attributes.get("value")
    if held is None:
        return None  # float zeros
    tensor = held.as_tensor()
    if tensor.dtype not in (ir.DataType.INT64, ir.DataType.BOOL) or tensor.size != 1:
        return None
    return (number(int(tensor.numpy().reshape(-1)[0])),) * (length[0] if length else 1)


@numbers_of("Expand")
def _repeated(known: Known, node: ir.Node) -> Vector | None:
    found, length = numbers_in(known, node, 0), plain_in(known, node, 1)
    if found is None or length is None or len(length) > 1:
        return None
    size = length[0] if length else 1
    return found * size if len(found) == 1 and 0 < size <= 64 else found if size == 1 else None


@numbers_of("Range")
def _range(known: Known, node: ir.Node) -> Vector | None:
    parts = [plain_in(known, node, i) for i in range(3)]
    found = [p[0] for p in parts if p]
    if len(found) != 3 or found[2] == 0 or node.outputs[0].dtype != ir.DataType.INT64:
        return None
    values = range(found[0], found[1], found[2])
    return tuple(number(x) for x in values) if len(values) <= 64 else None
