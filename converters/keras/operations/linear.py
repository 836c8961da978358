"""Products of matrices and tensors."""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any

import numpy as np

from netferry.converters.keras.layers.reshaping import permuted
from netferry.converters.keras.layout import KT
from netferry.converters.keras.operations.broadcast import kind_of
from netferry.converters.keras.operations.call import Op, operation, plain
from netferry.converters.keras.operations.elementwise import operands
from netferry.errors import MalformedFile
from netferry.schemas.ir import ir

_FLOAT = ir.DataType.FLOAT


def two(op: Op, names: tuple[str, str] = ("x1", "x2")) -> tuple[KT, KT]:
    """Both operands as tensors of one type."""
    x, y = operands(op, names)
    kind = kind_of([x, y], op)
    return op.plain(op.cast(op.as_tensor(x, "x", kind), kind)), op.plain(op.cast(op.as_tensor(y, "y", kind), kind))


@operation("ops:Matmul", "tf.linalg.matmul", "tf.matmul", "tf.keras.backend.batch_dot")
def matmul(op: Op) -> KT:
    """Product of matrices, over all axes before the last two."""
    x, y = two(op)
    if op.flag("transpose_a", 2, False) or op.flag("adjoint_a", 4, False):
        x = swapped(op, x)
    if op.flag("transpose_b", 3, False) or op.flag("adjoint_b", 5, False):
        y = swapped(op, y)
    op.leave("a_is_sparse", "b_is_sparse", "output_type", "grad_a", "grad_b")
    return KT.of(op.b.op("MatMul", x.logical(op.b), y.logical(op.b)))


def swapped(op: Op, x: KT) -> KT:
    """The last two axes exchanged, by name only."""
    return permuted(op.b, x, [*range(x.rank - 2), x.rank - 1, x.rank - 2])


@operation("ops:Einsum", "tf.einsum", "tf.linalg.einsum")
def einsum(op: Op) -> KT:
    """Einstein's sum; letters follow the axes to where these lie."""
    equation = op.take("subscripts" if op.keras3 else "equation", None if op.keras3 else 0)
    values = list(op.l.args) if op.keras3 else list(op.l.args[1:])
    if not op.keras3 and len(values) == 0:
        raise MalformedFile(
            "the operands are not in the file: Keras 2 keeps only the first positional argument of tf.einsum",
            layer=op.l.path,
        )
    given = [plain(v, op.l) for v in values]
    kind = kind_of(given, op)
    return contracted(op, str(equation), [op.cast(op.as_tensor(v, "value", kind), kind) for v in given])


def contracted(op: Op, equation: str, tensors: Sequence[KT]) -> KT:
    """Einsum over tensors wherever their axes lie.

    Raises:
        MalformedFile: the equation does not fit the tensors.
    """
    text = equation.replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(tensors) or set(text) - set(string.ascii_letters + ",.->"):
        raise op.bad("subscripts", equation, f"an equation of {len(tensors)} tensors")
    if not arrow:
        counted = [c for term in terms for c in term if c != "."]
        right = ("..." if "..." in left else "") + "".join(sorted(c for c in set(counted) if counted.count(c) == 1))
    if len(tensors) == 2 and "." not in text:
        found = _as_product(op, terms, right, tensors)
        if found is not None:
            return found
    values: list[ir.Value] = []
    for i, (term, x) in enumerate(zip(terms, tensors, strict=True)):
        tensor = op.plain(x)
        if "." in term:
            values.append(tensor.logical(op.b))
            continue
        if len(term) != tensor.rank:
            raise op.bad("subscripts", equation, f"an equation for ranks {[t.rank for t in tensors]}")
        values.append(tensor.value)
        terms[i] = "".join(term[a] for a in tensor.order)
    return KT.of(op.b.op("Einsum", *values, equation=f"{','.join(terms)}->{right}"))


def _as_product(op: Op, terms: Sequence[str], right: str, tensors: Sequence[KT]) -> KT | None:
    """Write ``...ab,bc->...ac`` and ``...ab,...bc->...ac`` as MatMul, which runtimes do best."""
    first, second = terms
    x, y = (op.plain(t) for t in tensors)
    if (
        len(set(first)) != len(first)
        or len(set(second)) != len(second)
        or len(first) != x.rank
        or len(second) != y.rank
    ):
        return None
    shared = [c for c in first if c in second and c not in right]
    if len(shared) != 1 or len(second) < 2 or len(first) < 2 or first[-1] != shared[0]:
        return None
    lead = first[:-2]
    if len(second) == 2 and second[0] == shared[0] and right == first[:-1] + second[1]:
        return KT.of(op.b.op("MatMul", x.logical(op.b), y.logical(op.b)))
    if second == lead + shared[0] + right[-1:] and right == first[:-1] + second[-1] and second[-1] not in first:
        return KT.of(op.b.op("MatMul", x.logical(op.b), y.logical(op.b)))
    if second == lead + right[-1:] + shared[0] and right == first[:-1] + right[-1:] and right[-1] not in first:
        return KT.of(op.b.op("MatMul", x.logical(op.b), swapped(op, y).logical(op.b)))
    return None


@operation("ops:Tensordot", "tf.tensordot")
def tensordot(op: Op) -> KT:
    """Products summed over pairs of axes."""
    x, y = two(op)
    axes = op.take("axes", 2, 2)
    if isinstance(axes, int):
        first, second = list(range(x.rank - axes, x.rank)), list(range(axes))
    else:
        pair = axes.tolist() if isinstance(axes, np.ndarray) else axes
        if not isinstance(pair, list) or len(pair) != 2:
            raise op.bad("axes", axes, "a number or two lists")
        first, second = (op.as_integers(v, "axes") or [] for v in pair)
    first, second = op.axes_of(x.rank, first), op.axes_of(y.rank, second)
    if len(first) != len(second):
        raise op.bad("axes", axes, "as many axes of one as of the other")
    letters = iter(string.ascii_letters)
    left = [next(letters) for _ in range(x.rank)]
    right = [next(letters) for _ in range(y.rank)]
    for p, q in zip(first, second, strict=True):
        right[q] = left[p]
    out = [c for i, c in enumerate(left) if i not in first] + [c for i, c in enumerate(right) if i not in second]
    return contracted(op, f"{''.join(left)},{''.join(right)}->{''.join(out)}", [x, y])


@operation("ops:Dot", "ops:Inner", "ops:Outer", "ops:Vdot")
def dot(op: Op) -> KT:
    """NumPy's dot, inner, outer and vdot."""
    x, y = two(op)
    if 0 in (x.rank, y.rank) and op.l.type in ("ops:Dot", "ops:Inner"):
        return KT.of(op.b.op("Mul", x.logical(op.b), y.logical(op.b)))
    if op.l.type in ("ops:Outer", "ops:Vdot"):
        flat = [KT.of(op.b.reshape(t.logical(op.b), [-1])) for t in (x, y)]
        return contracted(op, "a,b->ab" if op.l.type == "ops:Outer" else "a,a->", flat)
    letters = string.ascii_letters
    left, right = list(letters[: x.rank]), list(letters[x.rank : x.rank + y.rank])
    place = -1 if op.l.type == "ops:Inner" or y.rank == 1 else -2
    right[place] = left[-1]
    out = left[:-1] + [c for c in right if c != left[-1]]
    return contracted(op, f"{''.join(left)},{''.join(right)}->{''.join(out)}", [x, y])


@operation("ops:Trace")
def trace(op: Op) -> KT:
    """Sum of a diagonal."""
    x = op.plain(op.tensor("x"))
    first, second = op.axes_of(x.rank, [op.integer("axis1", 2, 0), op.integer("axis2", 3, 1)])
    if op.integer("offset", 1, 0) != 0:
        raise op.unsupported("an offset")
    letters = list(string.ascii_letters[: x.rank])
    letters[second] = letters[first]
    out = [c for i, c in enumerate(letters) if i not in (first, second)]
    return contracted(op, f"{''.join(letters)}->{''.join(out)}", [x])


@operation("tf.linalg.matvec", "tf.linalg.tensordot")
def matvec(op: Op) -> KT:
    """Matrix times vector."""
    x, y = two(op)
    if op.l.type == "tf.linalg.tensordot":
        return tensordot(op)
    if op.flag("transpose_a", 2, False):
        x = swapped(op, x)
    wide = op.b.op("Unsqueeze", y.logical(op.b), op.b.const([-1], "axes"))
    made = op.b.op("MatMul", x.logical(op.b), wide)
    return KT.of(op.b.op("Squeeze", made, op.b.const([-1], "axes")))


@operation("ops:DotProductAttention")
def dot_product_attention(op: Op) -> KT:
    """softmax(query key^T / sqrt(size)) value over (batch, time, heads, size), with bias and mask."""
    query, key, value = (op.floating(op.plain(op.tensor(n, i))) for i, n in enumerate(("query", "key", "value")))
    bias, mask = op.take("bias", 3, None), op.take("mask", 4, None)
    given = op.take("scale", 5, None)
    causal, cap = op.flag("is_causal", 6, False), op.take("attn_logits_soft_cap", None, None)
    op.leave("flash_attention")
    heads = [t.to(op.b, (0, 2, 1, 3)) for t in (query, value)]
    turned = key.to(op.b, (0, 2, 3, 1))
    size = op.l.dim(query, 3, "the size of a head")
    scale = 1 / float(np.sqrt(size)) if given is None else float(given)
    scores: Any = op.b.op("Mul", op.b.op("MatMul", heads[0], turned), op.b.const(scale, "scale"))
    if cap is not None:
        limit = op.b.const(float(cap), "cap")
        scores = op.b.op("Mul", op.b.op("Tanh", op.b.op("Div", scores, limit)), limit)
    if bias is not None:
        scores = op.b.op("Add", scores, op.floating(op.as_tensor(bias)).logical(op.b))
    if mask is not None:
        keep = op.cast(op.as_tensor(mask), ir.DataType.BOOL).logical(op.b)
        scores = op.b.op("Where", keep, scores, op.b.const(float(np.finfo(np.float32).min) * 0.7, "least"))
    if causal:
        sizes = [op.l.dim(t, 1, "the number of steps") for t in (query, key)]
        past = op.b.const(np.tri(*sizes, dtype=bool), "past")
        scores = op.b.op("Where", past, scores, op.b.const(float(np.finfo(np.float32).min) * 0.7, "least"))
    out = op.b.op("MatMul", op.b.op("Softmax", scores, axis=-1), heads[1])
    return KT(out, (0, 2, 1, 3))
