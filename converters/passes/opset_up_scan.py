"""Raising: Scan 8, which runs over a batch of sequences, each of a length of its own.

Rules: the schema of Scan 8, and what onnxruntime's kernel of it does: behind a sequence's length states stay and
outputs are zero; a sequence that is read in reverse begins at its own end.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from netferry.converters.passes.opset_rules import Cannot, Rewriter, lift
from netferry.schemas.ir import ir

_INT = ir.TensorType(ir.DataType.INT64)


@lift("Scan", 9)
def scan_of_batches(b: Rewriter) -> tuple[ir.Value, ...]:
    """A Scan over the batch whose body is a Scan over the steps."""
    node, given = b.node, [b.data(i) for i in range(1, len(b.node.inputs))]
    lengths = b.input_at(0)
    body = node.attributes["body"].as_graph()
    sequences = b.attribute("num_scan_inputs")
    directions = b.attribute("directions", [0] * sequences)
    node.attributes.pop("body")
    one = [_without_batch(b, value) for value in given]
    inside, outside, before = list(one), list(given), list[ir.Node]()
    extra = 0
    if lengths is not None:
        extra = 1  # the number of the step, as the first state
        length = ir.Value(name=b.unique(f"{lengths.name}:one"), type=_INT, shape=ir.Shape([]))
        states = len(given) - sequences
        for i, reverse in enumerate(directions):
            if reverse:
                inside[states + i] = _turned(b, inside[states + i], length, before)
        directions = [0] * sequences
        _stop_at(b, body, length, states)
        inside.insert(0, b.const(np.array(0, np.int64), "first_step"))
        one.append(length)
        outside.append(b.cast(lengths, ir.DataType.INT64))
    inner = ir.node(
        "Scan",
        inside,
        {"num_scan_inputs": sequences, "scan_input_directions": directions, "body": body},
        num_outputs=len(node.outputs) + extra,
        name=b._node_names.free(f"{b.layer_name}/steps"),
    )
    inner.metadata_props.update(node.metadata_props)
    for value in inner.outputs:
        value.name, value.type, value.shape = b.unique(f"{inner.name}:out"), _INT, ir.Shape([])
    for value, old in zip(inner.outputs[extra:], node.outputs, strict=True):
        value.type, value.shape = old.type, _behind(old)
    loop = ir.Graph(one, list(inner.outputs[extra:]), nodes=[*before, inner], name="one_sequence")
    b.made += [*before, inner]
    outer = ir.node("Scan", outside, {"num_scan_inputs": len(outside), "body": loop}, num_outputs=len(node.outputs))
    b._append(outer)
    return tuple(outer.outputs)


def _turned(b: Rewriter, sequence: ir.Value, length: ir.Value, nodes: list[ir.Node]) -> ir.Value:
    """A sequence from its last step, ``length - 1``, to its first; behind that come steps that nobody uses."""

    def op(operator: str, *inputs: ir.Value, dtype: ir.DataType | None = None, **settings: Any) -> ir.Value:
        node = ir.node(operator, inputs, settings, num_outputs=1)
        nodes.append(node)
        return _named(b, node, ir.TensorType(dtype or ir.DataType.INT64), None)

    ones = ir.AttrTensor("value", ir.tensor(np.ones(1, np.int64)))
    longest = op("Slice", op("Shape", sequence), starts=[0], ends=[1])
    places = op("NonZero", op("ConstantOfShape", longest, value=ones))
    steps = op("Squeeze", places, axes=[0])
    back = op("Sub", op("Sub", length, b.const(np.array(1, np.int64), "one_step")), steps)
    out = op("Gather", sequence, back, dtype=sequence.dtype, axis=0)
    out.shape = sequence.shape
    return out


def _stop_at(b: Rewriter, body: ir.Graph, length: ir.Value, states: int) -> None:
    """Make a body count its steps, as its first state, and give old states and zeros from step ``length`` on."""
    step = ir.Value(name=b.unique("step"), type=_INT, shape=ir.Shape([]))
    running = _inside(b, body, "Less", [step, length], ir.TensorType(ir.DataType.BOOL), ir.Shape([]))
    following = _inside(b, body, "Add", [step, b.const(np.array(1, np.int64), "one_step")], _INT, ir.Shape([]))
    before = list(body.inputs)[:states]
    ends = list(body.outputs)
    for i, end in enumerate(ends):
        if i < states:
            rest: ir.Value = before[i]
        elif end.dtype is None or end.dtype == ir.DataType.STRING:
            raise Cannot("Scan with lengths of sequences whose outputs are no numbers")
        else:
            rest = b.const(np.zeros((), end.dtype.numpy()), "padding")
        body.outputs[i] = _inside(b, body, "Where", [running, end, rest], end.type, end.shape)
    body.inputs.insert(0, step)
    body.outputs.insert(0, following)


def _inside(
    b: Rewriter,
    body: ir.Graph,
    operator: str,
    inputs: list[ir.Value],
    kind: ir.TypeProtocol | None,
    shape: ir.Shape | None,
) -> ir.Value:
    node = ir.node(operator, inputs, num_outputs=1)
    body.append(node)
    b.made.append(node)
    return _named(b, node, kind, shape)


def _named(b: Rewriter, node: ir.Node, kind: ir.TypeProtocol | None, shape: ir.Shape | None) -> ir.Value:
    node.name = b._node_names.free(f"{b.layer_name}/{node.op_type}")
    node.metadata_props.update(b.node.metadata_props)
    (value,) = node.outputs
    value.name, value.type, value.shape = b.unique(f"{node.name}:0"), kind, shape
    return value


def _without_batch(b: Rewriter, value: ir.Value) -> ir.Value:
    return ir.Value(name=b.unique(f"{value.name}:one"), type=value.type, shape=_behind(value))


def _behind(value: ir.Value) -> ir.Shape | None:
    return None if value.shape is None else ir.Shape(list(value.shape)[1:])
