"""How sequences lie around a recurrent node, so that its module reads and gives them as the network has them.

ONNX's nodes take time first, and give the directions an axis of their own (T x D x B x H). So exporters put a Transpose
before each layer of torch that is batch first, and Transpose, Reshape (or Squeeze) and Transpose behind it; Keras's
layers look alike. ``nn.LSTM`` says all of that by itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from netferry.runtime.torch.facts import attribute
from netferry.runtime.torch.plans import Recurrent
from netferry.runtime.torch.zeros import computed
from netferry.schemas.ir import ir

_TRIES = ((7, 11), (13, 5))
"""steps and batches with which the arithmetic of a Reshape's target is tried"""
_ARITHMETIC = {"Shape", "Slice", "Gather", "Mul", "Concat", "Reshape", "Unsqueeze", "Squeeze", "Cast", "Identity"}
_MOST = 64
"""nodes that the arithmetic may have"""


def in_order(node: ir.Node, directions: int, size: int) -> Recurrent:
    """Return how the module of a recurrent node is called.

    Args:
        node: LSTM, GRU or RNN.
        directions: 1 or 2.
        size: of the state.
    """
    layout, x, y = attribute(node, "layout", 0), node.inputs[0], node.outputs[0]
    if x is None:
        raise AssertionError("a recurrent node reads a sequence")
    backward, memory = attribute(node, "direction", "forward") == "reverse", node.op_type == "LSTM"
    found = Recurrent(directions, layout, backward, memory, bool(layout), x)
    if layout:
        return found
    found.states_only = not y.name or not (y.uses() or y.is_graph_output())
    joined = None if found.states_only else _joined(y, directions, size)
    if joined is None and not found.states_only:
        return found
    before = x.producer()
    turned = before if before is not None and _is_turn(before) and before.graph is node.graph else None
    if joined is not None:
        found.sequences, found.hidden = [joined[0]], joined[1]
        behind = [use.node for use in joined[0].uses()]
        if joined[0].is_graph_output() or not behind or not all(_is_turn(n) and n.graph is node.graph for n in behind):
            return found
        if turned is not None:
            found.sequences, found.hidden = [n.outputs[0] for n in behind], [*found.hidden, *behind]
    if turned is not None and turned.inputs[0] is not None:
        found.batch_first, found.x = True, turned.inputs[0]
    return found


def _is_turn(node: ir.Node) -> bool:
    """Whether a node swaps time and batch."""
    return node.op_type == "Transpose" and node.domain in ("", "ai.onnx") and attribute(node, "perm", []) == [1, 0, 2]


def _joined(y: ir.Value, directions: int, size: int) -> tuple[ir.Value, list[ir.Node]] | None:
    """The value T x B x D*H that is made of Y and of which alone the network reads, and the nodes in between."""
    reader = _only_reader(y)
    if reader is None:
        return None
    if reader.op_type == "Squeeze" and directions == 1:
        axes = computed(reader.inputs[1]) if len(reader.inputs) > 1 and reader.inputs[1] is not None else None
        return (reader.outputs[0], [reader]) if axes is not None and axes.tolist() == [1] else None
    if reader.op_type != "Transpose" or attribute(reader, "perm", []) != [0, 2, 1, 3]:
        return None
    apart = reader.outputs[0]
    reshapes = [use.node for use in apart.uses() if use.node.op_type == "Reshape" and use.idx == 0]
    if len(reshapes) != 1 or apart.is_graph_output():
        return None
    arithmetic = _between(apart, reshapes[0])
    known = [] if y.shape is None else [d for d in y.shape if isinstance(d, int)]
    tries = [(known[0], known[2])] if len(known) == 4 else _TRIES
    if arithmetic is None or not all(_merges(reshapes[0], (t, b, directions, size)) for t, b in tries):
        return None
    return reshapes[0].outputs[0], [reader, reshapes[0], *arithmetic]


def _only_reader(value: ir.Value) -> ir.Node | None:
    uses = list(value.uses())
    maker = value.producer()
    if len(uses) != 1 or value.is_graph_output() or maker is None or uses[0].node.graph is not maker.graph:
        return None
    return uses[0].node if uses[0].idx == 0 else None


def _between(value: ir.Value, end: ir.Node) -> list[ir.Node] | None:
    """The nodes that read a value and serve nothing but ``end``; None where there are others."""
    found: dict[ir.Node, None] = {}
    pending = [value]
    while pending:
        one = pending.pop()
        if one.is_graph_output():
            return None
        for use in one.uses():
            if use.node is end or use.node in found:
                continue
            if use.node.op_type not in _ARITHMETIC or use.node.graph is not end.graph or len(found) == _MOST:
                return None
            found[use.node] = None
            pending += use.node.outputs
    return list(found)


def _merges(reshape: ir.Node, dims: Sequence[int]) -> bool:
    """Whether a Reshape of a value of these dimensions joins the last two, and leaves the others."""
    value, shape = reshape.inputs[0], reshape.inputs[1]
    target = None if shape is None or value is None else computed(shape, sizes={value: dims})
    if target is None or target.ndim != 1:
        return False
    sizes = [int(n) for n in target]
    if not attribute(reshape, "allowzero", 0):
        sizes = [dims[i] if n == 0 and i < len(dims) else n for i, n in enumerate(sizes)]
    if sizes.count(-1) == 1 and (rest := -math.prod(sizes)) > 0:
        sizes[sizes.index(-1)] = math.prod(dims) // rest
    return sizes == [dims[0], dims[1], dims[2] * dims[3]]
