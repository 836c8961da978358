"""Sizes and numbers that are said to be known, against what ONNX's reference evaluator computes at several sizes."""

from __future__ import annotations

import math
import warnings

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from netferry.converters.passes.dims import Dims
from netferry.converters.passes.dims_rules import Known
from netferry.converters.passes.polynomials import Poly
from netferry.converters.passes.sizes_of_one import Sizes
from netferry.schemas.ir import ir
from tests.converters.passes.optimized import as_model, graph

SIZES = ({"N": 1, "T": 1}, {"N": 3, "T": 5}, {"N": 4, "T": 2}, {"N": 0, "T": 7})

NUMBERS = {
    "shape-part": ("x [N,T,8] : s = Shape<start=1,end=-1>(x)", "s"),
    "size": ("x [N,T,8] : s = Size(x)", "s"),
    "sum": ("x [N,T,8] : a = Shape<end=2>(x) b = Add(a, a) c = ReduceSum<keepdims=1>(b)", "a b c"),
    "sum-of-nothing": ("x [N,T,8] : a = Shape(x) c = ReduceSum<noop_with_empty_axes=1>(a) d = ReduceProd(a)", "a c d"),
    "sum-over-axis": ("x [N,T,8] : a = Shape(x) c = ReduceSum<keepdims=0>(a, zero)", "a c"),
    "product": ("x [N,T,8] : a = Shape(x) c = ReduceProd<keepdims=0>(a)", "a c"),
    "difference": ("x [N,T,8] : a = Shape(x) b = Sub(a, one) c = Mul(b, two)", "a b c"),
    "halves": ("x [N,T,8] : a = Shape(x) b = Mul(a, two) c = Div(b, two) d = Mod(b, two) e = Div(a, two)", "a b c d e"),
    "halves-of-less": ("x [N,T,8] : a = Shape(x) b = Sub(a, two) c = Div(b, two) d = Mod(b, two)", "a b -c -d"),
    "by-a-size": ("x [N,T,8] : a = Shape<end=1>(x) b = Div(two, a)", "a -b"),
    "larger": (
        "x [N,T,8] : a = Shape<end=1>(x) b = Add(a, two) c = Max(a, b) d = Min(b, a) e = Max(b, a) g = Min(a, b)",
        "c d e g",
    ),
    "larger-of-two": ("x [N,T,8] : a = Shape<end=1>(x) b = Shape<start=1,end=2>(x) c = Max(a, b)", "a b -c"),
    "three-at-once": ("x [N,T,8] : a = Shape<end=1>(x) c = Max(a, two, one)", "a -c"),
    "compared": (
        "x [N,T,8] : a = Shape<end=1>(x) b = Add(a, one) c = Greater(b, a) d = Greater(a, b) e = Less(a, b)"
        " g = Less(b, a) h = GreaterOrEqual(b, a) i = GreaterOrEqual(a, b) j = LessOrEqual(a, b) k = LessOrEqual(b, a)"
        " l = Equal(a, b) m = Equal(a, a)",
        "c d e g h i j k l m",
    ),
    "not-compared": (
        "x [N,T,8] : a = Shape<end=1>(x) c = Greater(a, two) d = Less(a, two) e = Equal(a, two)"
        " g = LessOrEqual(a, one)",
        "-c -d -e -g",
    ),
    "cast-and-back": ("x [N,T,8] : a = Shape(x) b = Cast<to=6>(a) c = Cast<to=7>(b)", "a b c"),
    "cast-of-a-product": ("x [N,T,8] : a = Size(x) b = Cast<to=6>(a)", "a -b"),
    "cast-to-float": ("x [N,T,8] : a = Shape(x) b = Cast<to=1>(a)", "a -b"),
    "picked": ("x [N,T,8] : a = Shape(x) b = Gather(a, pick) c = Gather(a, two)", "a b c"),
    "picked-as-matrix": ("x [N,T,8] : a = Shape(x) r = Unsqueeze(a, zero) b = Gather<axis=1>(r, pick)", "a -r -b"),
    "cut": ("x [N,T,8] : a = Shape(x) b = Slice(a, one, far) c = Slice(a, minus, far) "
            "d = Slice(a, zero, far, zero, two)",
            "b c d"),
    "cut-backwards": ("x [N,T,8] : a = Shape(x) b = Slice(a, minus, one, zero, minus)", "-b"),
    "cut-nothing": ("x [N,T,8] : a = Shape(x) e = Slice(a, three, far) b = Slice(a, e, e)", "e b"),
    "split": ("x [N,T,8] : a = Shape<end=2>(x) b, c = Split<num_outputs=2>(a)", "a -b -c"),
    "chosen": ("x [N,T,8] : a = Shape<end=1>(x) c = Equal(a, a) d = Where(c, a, two)", "d"),
    "chosen-from-scalars": ("x [N,T,8] : a = Shape(x) c = Equal(a, a) b = Squeeze(two) d = Where(c, a, b)", "d"),
    "chosen-from-nothing": ("x [N,T,8] : a = Shape<start=3>(x) c = Equal(a, a) d = Where(c, a, two)", "a -d"),
    "chosen-floats": ("x [N,T,8] : a = Shape<end=1>(x) c = Equal(a, a) d = Where(c, half, half)", "c -d"),
    "filled": ("x [N,T,8] : a = ConstantOfShape<value=int64[1]{4}>(two)", "a"),
    "filled-floats": ("x [N,T,8] : a = ConstantOfShape<value=float[1]{4}>(two) b = ConstantOfShape(two)", "-a -b"),
    "filled-matrix": ("x [N,T,8] : a = ConstantOfShape<value=int64[1]{4}>(parts)", "-a"),
    "repeated": ("x [N,T,8] : a = Shape<end=1>(x) b = Expand(a, two) c = Expand(b, one)", "a b c"),
    "repeated-by-its-own": ("x [N,T,8] : a = Shape<end=2>(x) b = Expand(a, two)", "a -b"),
    "sum-of-nothing-computed": (
        "x [N,T,8] : a = Shape(x) e = Slice(one, one, far) c = ReduceSum<noop_with_empty_axes=1>(a, e)",
        "a c",
    ),
    "range": ("x [N,T,8] : z = Squeeze(zero) b = Squeeze(far) c = Squeeze(one) a = Shape<start=2>(x) s = Squeeze(a)"
              " r = Range(z, s, c) q = Range(z, b, c)", "s r -q"),
    "joined": ("x [N,T,8] : a = Shape<end=1>(x) b = Concat<axis=0>(two, a, one) c = Reshape(b, three)", "b c"),
    "joined-matrix": ("x [N,T,8] : a = Shape(x) r = Unsqueeze(a, zero) b = Concat<axis=0>(r, r)", "-b"),
}  # fmt: skip
"""Graphs of shape arithmetic; values whose numbers must be known, and with a minus those that must not."""

SHAPES = {
    "flatten": ("x [N,T,8] : a = Flatten(x) b = Flatten<axis=-1>(x) c = Flatten<axis=0>(x)", "a b c"),
    "transpose": ("x [N,T,8] : a = Transpose(x) b = Transpose<perm=[1,2,0]>(x)", "a b"),
    "reshape": ("x [N,T,8] : s = Shape<end=1>(x) t = Concat<axis=0>(s, minus) a = Reshape(x, t)", "a"),
    "reshape-copies": ("x [N,T,8] : t = Concat<axis=0>(zero, minus, two) a = Reshape(x, t)", "a"),
    "reshape-of-less": ("x [4,T,8] : s = Shape<start=1,end=2>(x) a = Sub(s, one) b = Add(a, one) c = Reshape(b, minus)",
                        "c"),
    "split": ("x [N,T,8] : a, b = Split<axis=2,num_outputs=2>(x) c, d = Split<axis=2>(x, parts)"
              " e, g, h = Split<axis=-1,num_outputs=3>(x)", "a b c d e g h"),
    "matmul": ("x [N,T,8] : t = Transpose<perm=[0,2,1]>(x) a = MatMul(x, t) b = MatMul(x, w_k) c = Mul(x, x)"
               " d = MatMul(c, t)", "a b d"),
    "gemm": ("x [T,8] : a = Gemm<transB=1>(x, w_k) b = Gemm<transA=1>(x, x)", "a b"),
    "gather": ("x [N,T,8] : a = Gather<axis=-1>(x, pick) b = Gather<axis=2>(x, matrix)", "a b"),
    "slice": ("x [N,T,8] : a = Slice(x, one, far, two) b = Slice(x, minus, low, two, minus) c = Slice(x, zero, far)"
              " d = Slice(x, zero, least, two)", "a b d"),
    "slice-dynamic": ("x [N,T,8] : a = Slice(x, one, far, one)", "a"),
    "expand": ("x [N,T,8] : s = Shape<end=2>(x) t = Concat<axis=0>(s, one) a = Expand(w_row, t)", "a"),
    "expand-less": ("x [N,T,8] : s = Shape<end=2>(x) t = Sub(s, one) u = Concat<axis=0>(t, one) a = Expand(w_row, u)",
                    "a"),
    "filled": ("x [N,T,8] : s = Shape(x) a = ConstantOfShape(s)", "a"),
    "reduce": ("x [N,T,8] : a = ReduceMean(x, one) b = ReduceSum<keepdims=0>(x, minus) c = ReduceMax(x)", "a b"),
    "pool": ("x [N,2,8,8] : a = GlobalAveragePool(x) b = MaxPool<kernel_shape=[2,2]>(x)", "a"),
    "two-sizes-meet": ("x [N,T] : a = Transpose(x) b = Reshape(a, minus) c = Unsqueeze(b, one) d = Add(x, x)", "b c d"),
    "resize": ("x [N,2,T,5] : a = Resize<mode=\"nearest\">(x, , doubled) s = Shape<end=3>(x) "
               "t = Concat<axis=0>(s, three) b = Resize(x, , , t) c = Resize<axes=[3]>(x, , , three)"
        " d = Resize<axes=[3]>(x, , one_and_half)"
               " e = Resize<axes=[3],keep_aspect_ratio_policy=\"not_larger\">(x, , , three)", "a b c d e"),
    "concat": ("x [N,T,8] : a = Concat<axis=1>(x, x) b = Concat<axis=-1>(x, x)", "a b"),
}  # fmt: skip


def _model(text: str) -> onnx.ModelProto:
    given, _, body = text.partition(" : ")
    name, shape = given.split(" ")
    constants = (
        "int64[1] zero = {0}, int64[1] one = {1}, int64[1] two = {2}, int64[1] three = {3}, int64[1] minus = {-1},"
        " int64[1] far = {9223372036854775807}, int64[1] least = {-3}, int64[1] low = {-9223372036854775807},"
        " int64[2] pick = {0, -1}, int64[2,2] matrix = {0, 1, 2, 3}, int64[2] parts = {3, 5}, float half = {0.5},"
        " float[4] doubled = {1.0, 1.0, 2.0, 1.4}, float[1] one_and_half = {1.5}"
    )
    weights = "float[8,8] w_k, float[1,1,8] w_row"
    return graph(
        f"f (float{shape} {name}, {weights}) => (float{shape} y) <{constants}> {{ {body} y = Identity({name}) }}", 18
    )


def _run(proto: onnx.ModelProto, sizes: dict[str, int]) -> dict[str, np.ndarray]:
    """All values that nodes make, by ONNX's reference evaluator."""
    every = onnx.ModelProto.FromString(proto.SerializeToString())
    names = [name for node in every.graph.node for name in node.output]
    del every.graph.output[:]
    every.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    put = every.graph.input[0]
    shape = [d.dim_value if d.HasField("dim_value") else sizes[d.dim_param] for d in put.type.tensor_type.shape.dim]
    x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dict(zip(names, map(np.asarray, ReferenceEvaluator(every).run(None, {put.name: x})), strict=True))


def _at(size: Poly, sizes: dict[str, int], made_up: dict[str, int], seen: int) -> int:
    """A size at concrete sizes; one that netferry made up is what it first stands for, and then always the same."""
    if size.atom is not None and size.atom.startswith("?"):
        return made_up.setdefault(size.atom, seen)
    total = 0
    for names, factor in size.terms:
        total += factor * math.prod(made_up[n] if n.startswith("?") else sizes[n] for n in names)
    return total


def _known(proto: onnx.ModelProto, kind: str) -> tuple[Known, dict[str, ir.Value]]:
    model = as_model(onnx.shape_inference.infer_shapes(proto))  # element types, as every reader gives them
    values = {v.name or "": v for node in model.graph for v in node.outputs}
    if kind == "whole":
        return Dims(model.ir), values
    found = Sizes(model.ir.graph, model.opset)
    for node in model.graph:
        found.node(node)
    return found, values


def _holds(text: str, kind: str, ranked: bool = True) -> tuple[Known, dict[str, ir.Value]]:
    """Assert that what is known is true at all sizes; returns it."""
    proto = _model(text)
    said = onnx.ModelProto.FromString(proto.SerializeToString())
    if not ranked:
        for end in (said.graph.input[0], said.graph.output[0]):
            end.type.tensor_type.ClearField("shape")
    known, values = _known(said, kind)
    for sizes in SIZES:
        made_up: dict[str, int] = {}
        try:
            true = _run(proto, sizes)
        except Exception:  # some operators refuse nothing at all: the reference does so in many ways
            assert 0 in sizes.values()
            continue
        for name, array in true.items():
            dims, numbers = known.shape(values[name]), known.numbers(values[name])
            if dims is not None:
                assert [_at(d, sizes, made_up, n) for d, n in zip(dims, array.shape, strict=True)] == list(array.shape)
            if numbers is not None:
                flat = [int(x) for x in array.reshape(-1)]
                assert [_at(p, sizes, made_up, n) for p, n in zip(numbers, flat, strict=True)] == flat, (name, sizes)
    return known, values


@pytest.mark.parametrize("kind", ["whole", "node-by-node"])
@pytest.mark.parametrize("name", NUMBERS)
def test_numbers(name: str, kind: str) -> None:
    text, said = NUMBERS[name]
    known, values = _holds(text, kind)
    for one in said.split():
        numbers = known.numbers(values[one.lstrip("-")])
        assert (numbers is None) == one.startswith("-"), f"{one}: {numbers}"


@pytest.mark.parametrize("kind", ["whole", "node-by-node"])
@pytest.mark.parametrize("name", SHAPES)
def test_shapes(name: str, kind: str) -> None:
    text, said = SHAPES[name]
    known, values = _holds(text, kind)
    for one in said.split():
        dims = known.shape(values[one.lstrip("-")])
        assert (dims is None) == one.startswith("-"), f"{one}: {dims}"


@pytest.mark.parametrize("kind", ["whole", "node-by-node"])
@pytest.mark.parametrize("text", [t for t, _ in (*NUMBERS.values(), *SHAPES.values())])
def test_what_is_known_without_the_rank_of_the_input_is_true(text: str, kind: str) -> None:
    _holds(text, kind, ranked=False)
