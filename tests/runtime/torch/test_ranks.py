"""What a file leaves without types: the builder knows what ONNX's inference says, or asks it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator
from torch import nn

from netferry import api
from netferry.converters.passes.opset_types import annotate
from netferry.runtime.torch.ranks import _AS_FIRST, _AS_LARGEST, complete_ranks
from netferry.schemas.ir import ir
from netferry.schemas.model import Model
from tests.runtime.torch.graphs import model_of

NET = """g (float[N, 3, 8, 8] x) => (float[N, K] y)
  <float low = {0}, float high = {6}, int64[2] to = {0, -1}> {
  a = Conv <pads = [1, 1, 1, 1]> (x, w, b)  n = BatchNormalization (a, scale, shift, mean, var)
  c = Clip (n, low, high)  p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (c)  s = Sigmoid (p)  m = Mul (s, p)
  k = Constant <value_float = 2.0> ()  d = Mul (m, k)  t = Concat <axis = 1> (d, m)
  g1 = GlobalAveragePool (t)  f = Flatten (g1)  r = Reshape (f, to)  h = MatMul (r, v)  y = Softmax (h) }"""
WEIGHTS = {"w": (4, 3, 3, 3), "b": (4,), "scale": (4,), "shift": (4,), "mean": (4,), "var": (4,), "v": (8, 5)}
OTHER = """g (float[N, 3, 8, 8] x) => (float[N, K, L, M] y) <int64[4] at = {1, 1, 1, 1}> {
  s = Expand (x, at)  y = BatchNormalization (s, scale, shift, mean, var) }"""
SIZES = """g (float[N, 4, 6, 6] x) => (float[A, B] y)
  <int64 one = {1}, int64[1] axis = {0}, int64[1] last = {-1},
  int64[2] lows = {1, 2}, int64[2] highs = {4, 5}, int64[2] both = {1, 2}, int64[2] parts = {2, 1}> {
  s = Shape (x)  n = Gather (s, one)  h = Gather (s, lows)  u = Unsqueeze (n, axis)  c = Concat <axis = 0> (u, last)
  t = Transpose <perm = [1, 0, 2, 3]> (x)  y = Reshape (t, c)  w = Slice (x, lows, highs, both)  q = Unsqueeze (w, both)
  p, r = Split <axis = 1> (w, parts)  m = ReduceMean (r, both)  z = Squeeze (m, both)  f = Cast <to = 11> (n)
  e = Pow (m, x)  l = Concat <axis = 0> (h, c)  v = Reshape (x, l) }"""


def _untyped(text: str, weights: dict[str, tuple[int, ...]]) -> Model:
    model = model_of(text, weights)
    for node in model.graph:
        for value in node.outputs:
            if not value.is_graph_output():
                value.type = value.shape = None
    return model


def test_ranks_and_types_are_those_of_onnx() -> None:
    mine, theirs = _untyped(NET, WEIGHTS), _untyped(NET, WEIGHTS)
    assert complete_ranks(mine.graph)
    annotate(theirs.ir)
    told = [
        [(v.name, v.dtype, v.shape and len(v.shape)) for node in one.graph for v in node.outputs]
        for one in (mine, theirs)
    ]
    assert told[0] == told[1]
    assert None not in [rank for _, _, rank in told[0]]


def test_ranks_of_sizes_are_those_of_the_values() -> None:
    """Against onnx's reference: its inference does not follow all of it."""
    model = _untyped(SIZES, {})
    assert complete_ranks(model.graph)
    told = {v.name: (v.dtype, len(v.shape)) for node in model.graph for v in node.outputs if v.shape is not None}
    proto = ir.to_proto(_untyped(SIZES, {}).ir)
    del proto.graph.output[:]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in told)
    x = np.zeros((2, 4, 6, 6), np.float32)
    found = ReferenceEvaluator(proto).run(None, {"x": x})
    assert told == {
        n: (ir.DataType.from_numpy(a.dtype), a.ndim) for n, a in zip(told, map(np.asarray, found), strict=True)
    }
    assert len(told) == sum(len(node.outputs) for node in model.graph)


def test_a_softmax_of_old_stays_one_where_ranks_tell_that_its_axis_is_the_last() -> None:
    body = "{ s = Shape (x)  r = Reshape (x, s)  y = Softmax <axis = 3> (r) }"
    model = model_of(f"g (float[N, 4, 6, 6] x) => (float[A, B, C, D] y) {body}", {})
    model.graph.opset_imports[""] = 11
    assert [n.name for n in api.to_torch(model).graph.nodes] == ["x", "shape", "reshape", "softmax", "output"]


@pytest.mark.parametrize("name", sorted(_AS_FIRST | _AS_LARGEST))
def test_an_operator_gives_the_type_that_it_reads(name: str) -> None:
    """By the schema: the first output is of the first input's type variable, in every version."""
    for schema in (s for s in onnx.defs.get_all_schemas_with_history() if s.name == name and s.domain == ""):
        assert schema.outputs[0].type_str == schema.inputs[0].type_str


def test_what_operators_do_not_tell_is_inferred() -> None:
    weights = {"scale": (3,), "shift": (3,), "mean": (3,), "var": (3,)}
    assert not complete_ranks(_untyped(OTHER, weights).graph)
    for text, given in ((OTHER, weights), (NET, WEIGHTS)):
        model = _untyped(text, given)
        before = ir.to_proto(model.ir).SerializeToString()
        module = api.to_torch(model)
        assert sum(type(m) is nn.BatchNorm2d for m in module.modules()) == 1
        module.graph.lint()
        assert ir.to_proto(model.ir).SerializeToString() == before
