"""How operators carry symbolic shapes (``SHAPES``) and integer vectors (``DATA``) on; one function per operator."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from netferry.converters.passes.polynomials import Poly, number, product, symbol
from netferry.schemas.ir import ir

Vector = tuple[Poly, ...]
UNARY = frozenset((
    "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "BitwiseNot", "Cast", "Ceil", "Celu", "Clip", "Cos",
    "Cosh", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity", "IsInf", "IsNaN",
    "LeakyRelu", "Log", "Mish", "Neg", "Not", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign",
    "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Swish", "Tan", "Tanh", "ThresholdedRelu",
))  # fmt: skip
"""operators that work on each element alone"""
BROADCAST = frozenset((
    "Add", "And", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Div", "Equal", "Greater", "GreaterOrEqual", "Less",
    "LessOrEqual", "Max", "Mean", "Min", "Mod", "Mul", "Or", "Pow", "PRelu", "Sub", "Sum", "Where", "Xor",
))  # fmt: skip
"""operators that work element by element on inputs broadcast to one shape"""
_SAME = UNARY | frozenset((
    "BatchNormalization", "CumSum", "Dropout", "Hardmax", "InstanceNormalization", "LayerNormalization",
    "LogSoftmax", "LRN", "LpNormalization", "QuantizeLinear", "DequantizeLinear", "Softmax", "GroupNormalization",
    "Trilu", "ScatterElements", "ScatterND",
))  # fmt: skip


class Known:
    """What has been found so far."""

    def __init__(self) -> None:
        self.dims: dict[ir.Value, Vector] = {}
        self.data: dict[ir.Value, Vector] = {}

    def shape(self, value: ir.Value) -> Vector | None:
        """Sizes of a value."""
        return self.dims.get(value)

    def numbers(self, value: ir.Value) -> Vector | None:
        """Elements of an integer vector."""
        return self.data.get(value)


ShapeRule = Callable[[Known, ir.Node], "Sequence[Vector | None] | None"]
DataRule = Callable[[Known, ir.Node], "Vector | None"]
SHAPES: dict[str, ShapeRule] = {}
DATA: dict[str, DataRule] = {}


def _shapes(*kinds: str) -> Callable[[ShapeRule], ShapeRule]:
    def register(rule: ShapeRule) -> ShapeRule:
        SHAPES.update(dict.fromkeys(kinds, rule))
        return rule

    return register


def _data(*kinds: str) -> Callable[[DataRule], DataRule]:
    def register(rule: DataRule) -> DataRule:
        DATA.update(dict.fromkeys(kinds, rule))
        return rule

    return register


def _in(known: Known, node: ir.Node, i: int) -> Vector | None:
    value = node.inputs[i] if i < len(node.inputs) else None
    return None if value is None else known.shape(value)


def _numbers(known: Known, node: ir.Node, i: int) -> Vector | None:
    value = node.inputs[i] if i < len(node.inputs) else None
    return None if value is None else known.numbers(value)


def _plain(known: Known, node: ir.Node, i: int) -> list[int] | None:
    found = _numbers(known, node, i)
    values = [] if found is None else [p.number for p in found]
    return None if found is None or None in values else [v for v in values if v is not None]


def _attribute(node: ir.Node, name: str, default: int) -> int:
    held = node.attributes.get(name)
    return default if held is None or held.is_ref() else held.as_int()


def broadcast(shapes: Sequence[Vector], name: str) -> Vector | None:
    """The shape that shapes broadcast to; where two dynamic sizes meet, a size of its own."""
    rank = max(len(s) for s in shapes)
    out: list[Poly] = []
    for axis in range(rank):
        column = [s[axis - rank + len(s)] for s in shapes if axis - rank + len(s) >= 0]
        wide = list(dict.fromkeys(d for d in column if d != number(1)))
        sized = [d for d in wide if d.number is not None]
        if not wide:
            out.append(number(1))
        elif len(wide) == 1:
            out.append(wide[0])
        else:
            out.append(sized[0] if len(sized) == 1 else symbol(f"?{name}:{axis}"))
    return tuple(out)


# shapes ----------------------------------------------------------------------------------------------------------


@_shapes(*_SAME)
def _same(known: Known, node: ir.Node) -> Sequence[Vector | None] | None:
    return [_in(known, node, 0)]


@_shapes(*BROADCAST)
def _broadcast(known: Known, node: ir.Node) -> Sequence[Vector | None] | None:
    shapes = [_in(known, node, i) for i in range(len(node.inputs))]
    found = [s for s in shapes if s is not None]
    return [broadcast(found, node.outputs[0].name or "")] if len(found) == len(shapes) and shapes else None


@_shapes("Transpose")
def _transpose(known: Known, node: ir.Node) -> Sequence[Vector | None] | None:
    dims = _in(known, node, 0)
    if dims is None:
        return None
    held = node.attributes.get("perm")
    perm = list(held.as_ints()) if held is not None and not held.is_ref() else list(range(len(dims)))[::-1]
    return [tuple(dims[i] for i in perm)] if sorted(perm) == list(range(len(dims))) else None


@_shapes("Reshape")
def _reshape(known: Known, node: ir.Node) -> Sequence[Vector | None] | None:
    dims, wanted = _in(known, node, 0), _numbers(known, node, 1)
    if wanted is None:
        return None
    out: list[Poly | None] = []
    for i, size in enumerate(wanted):
        if size.number == 0 and not _attribute(node, "allowzero", 0):
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


@_shapes("Flatten")
def _flatten(known: Known, node: ir.Node) -> Sequence[Vector | None] | None:
    dims = _in(known, node, 0)
    if dims is None:
        return None
    axis = _attribute(node, "axis", 1)
    axis += len(dims) if axis < 0 else 0
    return [(product(dims[:axis]), product(dims[axis:]))]


@_shapes("Squeeze")
def _squeeze(known: Known, node: ir.Node) -> Sequence[Vector | None] | None:
    dims, axes = _in(known, node, 0), _plain(known, node, 1)
    if dims is None or axes is None:
        return None
    gone = {a % len(dims) for a in axes}
    return [tuple(d for i, d in enumerate(dims) if i not in gone)]


@_shapes("Unsqueeze")
def _unsqueeze(known: Known, node: ir.Node) -> Sequence[Vector | None] | None:
    dims, axes = _in(known, node, 0), _plain(known, node, 1)
    if dims is None or axes is None:
        return None
    rank = len(dims) + len(axes)
    new, rest = {a % rank for a in axes}, iter(dims)
    return [tuple(number(1) if i in new else next(rest) for i in range(rank))] if len(new) == len(axes) else None


@_shapes("Concat")
def _concat(known: Known, node: ir.Node) -> Sequence[Vector | None] | None:
    shapes = [_in(known, node, i) for i in range(len(node.inputs))]
    found = [s for s in shapes if s is not None]
    if len(found) != len(shapes) or len({len(s) for s in found}) != 1 or not found[0]:
        return None
    rank = len(found[0])
    axis = _attribute(node, "axis", 0) % rank
    out: list[Poly] = []
    for i in range(rank):
        column = [s[i] for s in found]
        total = number(0)
        for size in column:
            total = total + size
        sized = [d for d in column if d.number is not None]
        out.append(total if i == axis else sized[0] if sized else column[0])
    return [tuple(out)]


@_shapes("Split")
def _split(known: Known, node: ir.Node) -> Sequence[Vector | None] | None:
    dims, parts = _in(known, node, 0), _plain(known, node, 1)
    if dims is None or not dims:
        return None
    axis, count = _attribute(node, "axis", 0) % len(dims), len(node.outputs)
    if parts is None:
        whole = dims[axis].number
        if whole is None or (len(node.inputs) > 1 and node.inputs[1] is not None):
            return None
        size = -(-whole // count)
        parts = [max(0, min(size, whole - i * size)) for i in range(count)]
    if len(parts) != count:
        return None
    return [tuple(number(p) if i == axis else d for i, d in enumerate(dims)) for p in parts]


@_shapes("MatMul")
def _matmul(known: Known, node: ir.Node) -> Sequence[Vector | None] | None:
    a, b = _in(known, node, 0), _in(known, node, 1)
    if a is None or b is None or len(a) < 2 or len(b) < 2:
        return None
    batch = broadcast([a[:-2], b[:-2]], node.outputs[0].name or "") if len(a) > 2 or len(b) > 2 else ()
    return None if batch is None else [(*batch, a[-2], b[-1])]


@_shapes("Gemm")
def _gemm(known: Known, node: ir.Node) -> Sequence[Vector | None] | None:
    a, b = _in(known, node, 0), _in(known, node, 1)
    if a is None or b is None or len(a) != 2 or len(b) != 2:
        return None
    return [(a[1 if _attribute(node, "transA", 0) else 0], b[0 if _attribute(node, "transB", 0) else 1])]


@_shapes("Gather")
def _gather(known: Known, node: ir.Node) -> Sequence[Vector | None] | None:
    dims, index = _in(known, node, 0), _in(known, node, 1)
    if dims is None or index is None or not dims:
        return None
    axis = _attribute(node, "axis", 0) % len(dims)
    return [(*dims[:axis], *index, *dims[axis + 1 :])]


@_shapes("Slice")
def _slice(known: Known, node: ir.Node) -> Sequence[Vector | None] | None:
    dims, starts, ends = _in(known, node, 0), _plain(known, node, 1), _plain(known, node, 2)
    if dims is None or starts is None or ends is None:
        return None
    axes = _plain(known, node, 3) if len(node.inputs) > 3 and node.inputs[3] is not None else list(range(len(starts)))
    steps = _plain(known, node, 4) if len(node.inputs) > 4 and node.inputs[4] is not None else [1] * len(starts)
    if axes is None or steps is None:
        return None
    out = list(dims)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = dims[axis].number
        if size is not None and step:
            out[axis] = number(
                len(range(size)[start:end:step] if step > 0 or end >= -size else range(size)[start::step])
            )
        elif not (step == 1 and start == 0 and end >= 2**31 - 1):
            out[axis] = symbol(f"?{node.outputs[0].name}:{axis % len(dims)}")
    return [tuple(out)]


@_shapes("Expand")
def _expand(known: Known, node: ir.Node) -> Sequence[Vector | None] | None:
    dims, wanted = _in(known, node, 0), _numbers(known, node, 1)
    if dims is None or wanted is None or not all(w.natural for w in wanted):
        return None
    found = broadcast([dims, wanted], node.outputs[0].name or "") if dims or wanted else ()
    return None if found is None else [found]


@_shapes("ConstantOfShape")
def _constant_of_shape(known: Known, node: ir.Node) -> Sequence[Vector | None] | None:
    wanted = _numbers(known, node, 0)
    return [wanted] if wanted is not None and all(w.natural for w in wanted) else None


@_shapes("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare")
def _reduce(known: Known, node: ir.Node) -> Sequence[Vector | None] | None:
    dims, axes = _in(known, node, 0), _plain(known, node, 1)
    if dims is None or not axes:
        return None
    gone = {a % len(dims) for a in axes}
    if _attribute(node, "keepdims", 1):
        return [tuple(number(1) if i in gone else d for i, d in enumerate(dims))]
    return [tuple(d for i, d in enumerate(dims) if i not in gone)]


@_shapes("Conv", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LpPool")
def _window(known: Known, node: ir.Node) -> Sequence[Vector | None] | None:
    """Only the batch (and the channels): the sizes come from ONNX's own inference."""
    dims = _in(known, node, 0)
    if dims is None or len(dims) < 3:
        return None
    channels: Poly | None = dims[1]
    if node.op_type == "Conv":
        kernel = _in(known, node, 1)
        channels = kernel[0] if kernel else None
    if channels is None:
        return None
    inside = [symbol(f"?{node.outputs[0].name}:{i}") for i in range(2, len(dims))]
    if node.op_type.startswith("Global"):
        inside = [number(1)] * len(inside)
    return [(dims[0], channels, *inside)]


# integer vectors -------------------------------------------------------------------------------------------------


@_data("Shape")
def _shape_of(known: Known, node: ir.Node) -> Vector | None:
    dims = _in(known, node, 0)
    if dims is None:
        return None
    end = node.attributes.get("end")
    return dims[_attribute(node, "start", 0) : None if end is None else end.as_int()]


@_data("Size")
def _size_of(known: Known, node: ir.Node) -> Vector | None:
    dims = _in(known, node, 0)
    return None if dims is None else (product(dims),)


@_data("Identity", "Unsqueeze", "Squeeze", "Reshape", "Flatten")
def _carried(known: Known, node: ir.Node) -> Vector | None:
    dims = known.dims.get(node.outputs[0])
    return _numbers(known, node, 0) if dims is not None and len(dims) <= 1 else None


@_data("Cast")
def _cast(known: Known, node: ir.Node) -> Vector | None:
    to = _attribute(node, "to", 0)
    if to == ir.DataType.INT64.value:
        return _numbers(known, node, 0)
    found = _numbers(known, node, 0) if to == ir.DataType.INT32.value else None
    if found is None:
        return None
    # one dimension fits, as in every runtime; a product of them might be cut off
    sized = [p.number for p in found if p.atom is None]
    return found if all(x is not None and -(2**31) <= x < 2**31 for x in sized) else None


@_data("Concat")
def _joined(known: Known, node: ir.Node) -> Vector | None:
    parts = [_numbers(known, node, i) for i in range(len(node.inputs))]
    dims = known.dims.get(node.outputs[0])
    if dims is None or len(dims) != 1:
        return None
    return None if None in parts else tuple(p for part in parts if part is not None for p in part)


@_data("Gather")
def _picked(known: Known, node: ir.Node) -> Vector | None:
    found, index = _numbers(known, node, 0), _plain(known, node, 1)
    dims = known.dims.get(node.outputs[0])
    if found is None or index is None or dims is None or len(dims) > 1:
        return None
    return tuple(found[i] for i in index) if all(-len(found) <= i < len(found) for i in index) else None


@_data("Slice")
def _cut(known: Known, node: ir.Node) -> Vector | None:
    found, start, end = _numbers(known, node, 0), _plain(known, node, 1), _plain(known, node, 2)
    step = _plain(known, node, 4) if len(node.inputs) > 4 and node.inputs[4] is not None else [1]
    if found is None or start is None or end is None or step is None or step[0] <= 0:
        return None
    return found[start[0] : end[0] : step[0]]


@_data("Split")
def _no_split(known: Known, node: ir.Node) -> Vector | None:
    return None


@_data("Add", "Sub", "Mul", "Div", "Mod", "Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual", "Min", "Max")
def _arithmetic(known: Known, node: ir.Node) -> Vector | None:
    if len(node.inputs) != 2 or node.outputs[0].dtype not in (ir.DataType.INT64, ir.DataType.BOOL):
        return None
    a, b = _numbers(known, node, 0), _numbers(known, node, 1)
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


@_data("Where")
def _chosen(known: Known, node: ir.Node) -> Vector | None:
    which, a, b = _plain(known, node, 0), _numbers(known, node, 1), _numbers(known, node, 2)
    if which is None or a is None or b is None or node.outputs[0].dtype != ir.DataType.INT64:
        return None
    length = max(len(which), len(a), len(b))
    if any(len(v) not in (1, length) for v in (which, a, b)):
        return None
    which = which * length if len(which) == 1 else which
    a, b = (v * length if len(v) == 1 else v for v in (a, b))
    return tuple(x if w else y for w, x, y in zip(which, a, b, strict=True))


@_data("ReduceProd", "ReduceSum")
def _reduced(known: Known, node: ir.Node) -> Vector | None:
    found = _numbers(known, node, 0)
    source = node.inputs[0]
    if found is None or source is None or source.dtype != ir.DataType.INT64 or len(_in(known, node, 0) or ()) != 1:
        return None
    if node.op_type == "ReduceProd":
        return (product(found),)
    total = number(0)
    for value in found:
        total = total + value
    return (total,)


@_data("ConstantOfShape")
def _filled(known: Known, node: ir.Node) -> Vector | None:
    length = _plain(known, node, 0)
    if length is None or len(length) > 1 or (length and not 0 <= length[0] <= 64):
        return None
    held = node.attributes.get("value")
    if held is None:
        return None  # float zeros
    tensor = held.as_tensor()
    if tensor.dtype not in (ir.DataType.INT64, ir.DataType.BOOL) or tensor.size != 1:
        return None
    return (number(int(tensor.numpy().reshape(-1)[0])),) * (length[0] if length else 1)


@_data("Expand")
def _repeated(known: Known, node: ir.Node) -> Vector | None:
    found, length = _numbers(known, node, 0), _plain(known, node, 1)
    if found is None or length is None or len(length) > 1:
        return None
    size = length[0] if length else 1
    return found * size if len(found) == 1 and 0 < size <= 64 else found if size == 1 else None


@_data("Range")
def _range(known: Known, node: ir.Node) -> Vector | None:
    parts = [_plain(known, node, i) for i in range(3)]
    found = [p[0] for p in parts if p]
    if len(found) != 3 or found[2] == 0 or node.outputs[0].dtype != ir.DataType.INT64:
        return None
    values = range(found[0], found[1], found[2])
    return tuple(number(x) for x in values) if len(values) <= 64 else None
