"""Pools that pick rather than pool, and pools over everything."""

from __future__ import annotations

from netferry.converters.passes.editing import Edit, attr, feed, given, graph_pass, set_attr, sole, word
from netferry.schemas.ir import ir

SLOW_FROM = 19
"""opset from which onnxruntime (1.31) computes AveragePool, which may be dilated there, without its fast kernel …"""
_BLOCK = 16
"""… unless it takes its blocked layout: pictures whose channels divide into blocks (8 or 16, by processor)"""
_WORTH_TELLING = 1_000_000
"""numbers that the windows hold: about a millisecond"""


@graph_pass("pool-strides", "safe")
def stride_pools(edit: Edit) -> bool:
    """A pool with windows of 1 picks pixels: the convolutions of size 1 behind it do that by their own strides"""
    changed = False
    for node in edit.nodes("AveragePool", "MaxPool"):
        source, spatial = given(node, 0), len(attr(node, "kernel_shape", []))
        if source is None or not sole(node) or not _pointwise(node, spatial) or attr(node, "ceil_mode", 0):
            continue
        made, strides = node.outputs[0], attr(node, "strides", [1] * spatial)
        readers = [use.node for use in made.uses()]
        if made.is_graph_output() or not readers or not all(_takes(edit, r, made, spatial) for r in readers):
            edit.why(node, "is read by more than convolutions of size 1")
            continue
        for reader in readers:
            own = attr(reader, "strides", [1] * spatial)
            set_attr(reader, strides=[a * b for a, b in zip(own, strides, strict=True)])
            feed(reader, 0, source)
        changed = True
    return changed


def _pointwise(node: ir.Node, spatial: int, kernel: list[int] | None = None) -> bool:
    """Whether every window is one element and nothing is padded."""
    windows = attr(node, "kernel_shape", []) if kernel is None else kernel
    return windows == [1] * spatial and _unpadded(node)


def _unpadded(node: ir.Node) -> bool:
    return word(node, "auto_pad", "NOTSET") in ("NOTSET", "VALID") and not any(attr(node, "pads", []))


def _takes(edit: Edit, node: ir.Node, value: ir.Value, spatial: int) -> bool:
    if node.op_type != "Conv" or node.domain not in ("", "ai.onnx") or given(node, 0) is not value:
        return False
    shape = edit.shape(given(node, 1))
    kernel = [] if shape is None else [d for d in shape[2:] if d is not None]
    return value not in node.inputs[1:] and _pointwise(node, spatial, kernel)


@graph_pass("global-pools", "safe")
def global_pools(edit: Edit) -> bool:
    """A pool whose one window is the whole picture becomes a global pool"""
    changed = False
    for node in edit.nodes("AveragePool", "MaxPool"):
        shape, kernel = edit.shape(given(node, 0)), attr(node, "kernel_shape", [])
        if shape is None or not kernel or list(shape[2:]) != kernel or not sole(node) or not _unpadded(node):
            continue
        if any(d != 1 for d in attr(node, "dilations", [])):
            continue
        if attr(node, "ceil_mode", 0) or (node.op_type == "MaxPool" and not _floating(given(node, 0))):
            continue
        made = edit.at(node).op(f"Global{node.op_type}", given(node, 0))
        changed |= edit.put(node, made)
    return changed


def _floating(value: ir.Value | None) -> bool:
    return value is not None and value.dtype is not None and value.dtype.is_floating_point()


def slow_average_pools(graph: ir.Graph, opset: int) -> list[ir.Node]:
    """Average pools that onnxruntime computes slowly at an opset, where that is worth telling; otherwise none."""
    if opset < SLOW_FROM:
        return []
    slow: list[ir.Node] = []
    work = 0.0
    for node in graph:
        if node.op_type != "AveragePool" or node.domain not in ("", "ai.onnx"):
            continue
        kernel, shape = attr(node, "kernel_shape", []), node.outputs[0].shape
        if shape is None:
            continue
        dims = [d if isinstance(d, int) else 1 if i == 0 else 224 for i, d in enumerate(shape)]
        if len(dims) == 4 and dims[1] % _BLOCK == 0:
            continue
        windows = 1.0
        for size in (*dims[1:], *kernel):
            windows *= size
        slow.append(node)
        work += windows
    return slow if work >= _WORTH_TELLING else []
