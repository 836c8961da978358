"""A copy of a graph says what the graph says, shares its tensors, and nothing else."""

from __future__ import annotations

import numpy as np
import onnx

from netferry.schemas.copying import copied
from netferry.schemas.ir import ir
from netferry.schemas.walk import nodes_of

TEXT = """<ir_version: 11, opset_import: ["" : 21, "own" : 1]> g (float[N, 4] x, bool c)
  => (float[N, 4] y, float[N, 4] w)
  <float[4] w1 = {1, 2, 3, 4}, float one = {1}> {
  a = own.twice (x)  w = Add (a, w1)
  y = If (c) <then_branch = t () => (float[N, 4] p) { q = Mul (a, w1)  p = Identity (q) },
              else_branch = e () => (float[N, 4] r) { r = Sub (a, one) }> }
  <domain: "own", opset_import: ["" : 21]> twice (v) => (z) { z = Add (v, v) }"""


def _model() -> ir.Model:
    model = ir.from_proto(onnx.parser.parse_model(TEXT))
    for i, node in enumerate(nodes_of(model.graph)):
        node.metadata_props["place"] = str(i)
        node.doc_string = f"node {i}"
        node.outputs[0].metadata_props["value"] = str(i)
        node.meta["kept"] = i
    model.graph.meta["kept"], model.metadata_props["about"] = "graph", "model"
    return model


def test_says_the_same_and_shares_tensors_alone() -> None:
    model = _model()
    copy = copied(model)
    assert ir.to_proto(copy).SerializeToString(deterministic=True) == ir.to_proto(model).SerializeToString(
        deterministic=True
    )
    assert [n.meta["kept"] for n in nodes_of(copy.graph)] == [n.meta["kept"] for n in nodes_of(model.graph)]
    assert copy.graph.meta["kept"] == "graph"
    mine = {id(v) for n in nodes_of(model.graph) for v in (n, *n.inputs, *n.outputs)}
    assert not mine & {id(v) for n in nodes_of(copy.graph) for v in (n, *n.inputs, *n.outputs)}
    assert copy.graph.initializers["w1"].const_value is model.graph.initializers["w1"].const_value
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    for node in nodes_of(copy.graph):
        node.metadata_props.clear()
        node.outputs[0].name = f"{node.outputs[0].name}_of_the_copy"
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before


def test_bodies_read_the_copys_values() -> None:
    copy = copied(_model())
    outer = {id(v) for n in copy.graph for v in n.outputs} | {id(v) for v in copy.graph.initializers.values()}
    read = [v for n in nodes_of(copy.graph) if n.graph is not copy.graph for v in n.inputs if v is not None]
    assert all(id(v) in outer for v in read if v.name != "q")


def test_a_node_that_is_left_out_becomes_an_initializer() -> None:
    model = ir.from_proto(onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 21]> g (float[N, 2] x) => (float[N, 2] y) '
        "<float[2] w = {1, 2}> { v = Identity (w)  y = Mul (x, v) }"
    ))  # fmt: skip
    tensor = model.graph.initializers["w"].const_value
    assert tensor is not None
    node = next(iter(model.graph))
    copy = copied(model, {node: (tensor, {"netferry.role": "learnable"})})
    assert [n.op_type for n in copy.graph] == ["Mul"]
    made = copy.graph.initializers["v"]
    assert made.is_initializer()
    assert made.metadata_props == {"netferry.role": "learnable"}
    assert made.const_value is not None
    assert np.array_equal(made.const_value.numpy(), [1, 2])
    assert next(iter(copy.graph)).inputs[1] is made
    assert len(model.graph) == 2
