"""What a file leaves without types: the builder knows what ONNX's inference says, or asks it."""

from __future__ import annotations

import onnx
import pytest
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
OTHER = """g (float[N, 3, 8, 8] x) => (float[N, K, L, M] y) <int64[3] at = {1, 1, 2}> {
  s, t = Split <axis = 1, num_outputs = 2> (x)  y = BatchNormalization (s, scale, shift, mean, var) }"""


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


@pytest.mark.parametrize("name", sorted(_AS_FIRST | _AS_LARGEST))
def test_an_operator_gives_the_type_that_it_reads(name: str) -> None:
    """By the schema: the first output is of the first input's type variable, in every version."""
    for schema in (s for s in onnx.defs.get_all_schemas_with_history() if s.name == name and s.domain == ""):
        assert schema.outputs[0].type_str == schema.inputs[0].type_str


def test_what_operators_do_not_tell_is_inferred() -> None:
    weights = {"scale": (2,), "shift": (2,), "mean": (2,), "var": (2,)}
    assert not complete_ranks(_untyped(OTHER, weights).graph)
    for text, given in ((OTHER, weights), (NET, WEIGHTS)):
        model = _untyped(text, given)
        before = ir.to_proto(model.ir).SerializeToString()
        module = api.to_torch(model)
        assert sum(type(m) is nn.BatchNorm2d for m in module.modules()) == 1
        module.graph.lint()
        assert ir.to_proto(model.ir).SerializeToString() == before
