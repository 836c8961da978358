"""Matrix products: MatMul with its bias to Gemm, Transpose into Gemm."""

from __future__ import annotations

from netferry.converters.passes.constants import fixed
from netferry.converters.passes.editing import (
    Edit,
    attr,
    feed,
    given,
    graph_pass,
    made_by,
    only_reader,
    same_graph,
    set_attr,
)
from netferry.schemas.ir import ir

_TYPES = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16)


@graph_pass("gemm", "full")
def to_gemm(edit: Edit) -> bool:
    """MatMul of two matrices and the Add of a bias after it become one Gemm"""
    changed = False
    for node in edit.nodes("Add"):
        for i in (0, 1):
            product, bias = given(node, i), given(node, 1 - i)
            matmul = made_by(product, "MatMul")
            if matmul is None or product is None or bias is None or not same_graph(matmul, node):
                continue
            a, b = given(matmul, 0), given(matmul, 1)
            out, added = edit.dims.shape(product), edit.dims.shape(bias)
            if a is None or b is None or edit.rank(a) != 2 or edit.rank(b) != 2 or product.dtype not in _TYPES:
                continue
            if only_reader(product) is not node or out is None or added is None or not fixed(bias):
                continue
            sizes = list(zip(reversed(added), reversed(out), strict=False))
            if len(added) > 2 or any(n.number != 1 and n != m for n, m in sizes):
                edit.why(node, "what it adds is no bias of a matrix product")
                continue
            if edit.put(node, edit.at(node).op("Gemm", a, b, bias)):
                changed = True
                break
    return changed


@graph_pass("gemm-transposes", "full")
def turn_gemm(edit: Edit) -> bool:
    """Transpose before Gemm becomes its transA or transB"""
    changed = False
    for node in edit.nodes("Gemm"):
        for i, name in ((0, "transA"), (1, "transB")):
            first = made_by(given(node, i), "Transpose")
            if first is None or edit.rank(given(first, 0)) != 2 or attr(first, "perm", [1, 0]) != [1, 0]:
                continue
            feed(node, i, given(first, 0))
            set_attr(node, **{name: 1 - attr(node, name, 0)})
            changed = True
    return changed
