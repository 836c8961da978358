"""Softmax and cost.

Rules: softmax_layer.c and cost_layer.c of pjreddie/darknet.
"""

from __future__ import annotations

from netferry.converters.darknet.registry import Layer, layer
from netferry.converters.darknet.tree import read_tree, tree_softmax
from netferry.schemas.graph import Builder, shape_of
from netferry.schemas.ir import ir


@layer("softmax", "soft")
def softmax(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """Softmax of all numbers (of each of ``groups`` parts, or of each group of a ``tree``), divided by ``temperature``
    before; per pixel if spatial."""
    s = l.section
    groups, temperature = s.int("groups", 1, least=1), s.float("temperature", 1.0)
    if temperature == 0:
        raise l.fail("temperature=0 divides by zero")
    if temperature != 1:
        x = b.op("Mul", x, 1 / temperature)
    shape, numbers = shape_of(x), l.features(x)
    if s.has("tree"):
        tree = read_tree(s.str("tree", ""), l.folder)
        if tree.classes != numbers or len(shape) == 3:
            raise l.fail(f"the tree has {tree.classes} classes, the section before gives {numbers} numbers")
        y = tree_softmax(b, b.reshape(x, [0, numbers]), tree, 1)
        return b.reshape(y, [0, *(d for d in shape[1:] if isinstance(d, int))])
    if numbers % groups:
        raise l.fail(f"groups={groups} does not divide {numbers} numbers")
    if len(shape) == 4 and (s.float("spatial", 0.0) or (groups == 1 and shape[2:] == (1, 1))):
        return b.op("Softmax", x, axis=1)
    if groups == 1 and len(shape) < 4:
        return b.op("Softmax", x, axis=-1)
    if len(shape) == 3:
        raise l.unsupported("groups of a sequence are not supported")
    y = b.op("Softmax", b.reshape(x, [0, groups, numbers // groups]), axis=2)
    return b.reshape(y, [0, *(d for d in shape[1:] if isinstance(d, int))])


@layer("cost")
def cost(b: Builder, l: Layer, x: ir.Value) -> ir.Value:
    """The loss: nothing when run; the section before is the net's output."""
    l.section.ignore("type", "scale", "ratio", "noobj", "thresh")
    l.note("dropped", "the loss is no part of the network that is run")
    return x
