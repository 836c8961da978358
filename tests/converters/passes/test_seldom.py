"""Neighbours that are seldom met: what the passes make of them, what they must leave alone; run before and after."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from netferry.converters.passes.optimize import optimize
from netferry.schemas.ir import ir
from tests.converters.passes.optimized import apart, as_model, graph, optimized, run

OURS: dict[str, Any] = {"disable": ["onnxscript", "onnxsim"]}
_ENDS = "int64[1] o = {0}, int64[1] i = {1}, int64[1] ii = {2}, int64[1] iii = {3}, int64[1] m = {-1}"
_FAR = "int64[2] o = {0,0}, int64[2] far = {9223372036854775807,9223372036854775807}"
_SIX = "float z = {0.0}, float s = {6.0}"

ROWS = {
    # what does nothing
    "tile-by-one": ("(float[N,3] x) => (float[N,3] y) <int64[2] r = {1,1}> { a = Tile(x, r) y = Relu(a) }", "Relu"),
    "tile-by-two": ("(float[N,3] x) => (float[N,6] y) <int64[2] r = {1,2}> { a = Tile(x,"
    " r) y = Relu(a) }", "Tile Relu"),
    "slice-to-the-end": (f"(float[N,T] x) => (float[N,T] y) <{_FAR}> {{ a = Slice(x, o, far) y = Relu(a) }}", "Relu"),
    "slice-by-twos": (
        f"(float[N,4] x) => (float[N,2] y) <{_ENDS}, int64[1] far = {{99}}> {{ a = Slice(x, o, far, i,"
        f" ii) y = Relu(a) }}",
        "Slice Relu",
    ),
    "slice-without-axes": (
        "(float[2,3] x) => (float[2,3] y) <int64[2] o = {0,0}, int64[2] e = {2,9}> { a = Slice(x, o, e) y = Relu(a) }",
        "Relu",
    ),
    "expand-by-ones": ("(float[N,3] x) => (float[N,3] y) <int64[2] r = {1,1}> { a = Expand(x,"
    " r) y = Relu(a) }", "Relu"),
    "expand-by-more-ones": (
        "(float[N,3] x) => (float[1,N,3] y) <int64[3] r = {1,1,1}> { a = Expand(x, r) y = Relu(a) }", "Expand Relu"),
    "concat-of-one": ("(float[N,3] x) => (float[N,3] y) { a = Concat<axis=1>(x) y = Relu(a) }", "Relu"),
    "sum-of-one": ("(float[N,3] x) => (float[N,3] y) { a = Sum(x) b = Max(a) c = Mean(b) y = Relu(c) }", "Relu"),
    "split-of-one": ("(float[N,3] x) => (float[N,3] y) { a = Split<axis=1,num_outputs=1>(x) y = Relu(a) }", "Relu"),
    "dropout-that-is-told-not-to-train": (
        "(float[N,3] x) => (float[N,3] y) <float r = {0.5}, bool t = {0}> { a = Dropout(x, r,"
        " t) y = Relu(a) }", "Relu"),
    "less-nothing": ("(float[N,3] x) => (float[N,3] y) <float z = {-0.0}> { a = Sub(x, z) b = Add(a, z) y = Relu(b) }",
                     "Relu"),
    "where-always": (
        "(float[N,3] x) => (float[N,3] y) <bool[3] t = {1,1,1}, bool n = {0}, float k = {7.0}> "
        "{ a = Where(t, x, k) b = Where(n, k, a) y = Relu(b) }", "Relu"),
    "where-that-widens": (
        "(float[N,1] x) => (float[N,3] y) <bool[3] t = {1,1,1}, float k = {7.0}> { a = Where(t, x, k) y = Relu(a) }",
        "Where Relu"),
    "twice-two-outputs": ("(float[N,3] x) => (float[N,3] y, float[N,3] z) { y = Exp(x) z = Exp(x) }", "Exp Exp"),
    "twice-the-same-filling": (
        "(float[N,3] x) => (float[N,3] y) { s = Shape(x) a = ConstantOfShape<value=float[1]{2.0}>(s)"
        " b = ConstantOfShape<value=float[1]{2.0}>(s) c = ConstantOfShape<value=float[1]{3.0}>(s) d = Mul(a, x)"
        " e = Mul(d, b) y = Mul(e, c) }", "Shape ConstantOfShape ConstantOfShape Mul Mul Mul"),
    # what does not depend on the inputs
    "branch-with-weights": (
        "(float[N,3] x) => (float[N,3] y) <bool c = {0}> { z = If(c) <then_branch = a () => (float[N,3] p) "
        "{ p = Exp(x) },"
        " else_branch = b () => (float[N,3] p) <float[3] k = {1.0,2.0,3.0}> { p = Mul(x,"
        " k) }> y = Abs(z) }", "Mul Abs"),
    "branch-that-is-a-weight": (
        "(float[N,3] x) => (float[N,3] y) <bool c = {1}> { z = If(c) <then_branch = a () => (float[3] p)"
        " <float[3] p = {1.0,2.0,3.0}> { }, else_branch = b () => (float[3] p) "
        "{ k = Constant<value_floats=[1.0,2.0,3.0]>() p = Neg(k) }>"
        " y = Mul(x, z) }", "If Mul"),
    "half-of-what-is-folded-is-read": (
        "(float[N,2] x) => (float[N,2] y) <float[4] a = {1.0,2.0,3.0,4.0}> { b,"
        " c = Split<num_outputs=2>(a) y = Add(x, b) }",
        "Add"),
    "places-that-are-not-zero": (
        "(float[N,3] x) => (float[N,M] y) <float[3] k = {0.0,1.0,2.0}> { p = NonZero(k) q = Flatten<axis=0>(p)"
        " r = Squeeze(q) y = Gather<axis=1>(x, r) }", "Gather"),
    "much-from-little": (
        "(float[1,600] x) => (float[600,600] y) <float[1,1] k = {2.0}, int64[2] s = {600,600}> "
        "{ a = Expand(k, s) y = Mul(x, a) }", "Expand Mul"),
    # neighbours of one kind
    "clip-wider-outside": (
        "(float[N,3] x) => (float[N,3] y) <float a = {-1.0}, float b = {2.0}, float c = {-3.0}, float d = {6.0}> "
        "{ p = Clip(x, a, b) q = Clip(p, c, d) y = Neg(q) }", "Clip Neg"),
    "clip-read-twice": (
        f"(float[N,3] x) => (float[N,3] y) <{_SIX}, float h = {{1.0}}> {{ p = Clip(x, z, s) q = Clip(p, z,"
        f" h) y = Mul(p, q) }}",
        "Clip Clip Mul"),
    "clip-upside-down": (
        f"(float[N,3] x) => (float[N,3] y) <{_SIX}, float h = {{1.0}}> {{ p = Clip(x, s, z) q = Clip(p, z,"
        f" h) y = Neg(q) }}",
        "Clip Clip Neg"),
    "clip-of-integers": (
        "(int32[N,3] x) => (int32[N,3] y) <int32 a = {0}, int32 b = {6}, int32 c = {1}> "
        "{ p = Clip(x, a, b) q = Clip(p, c, b) y = Neg(q) }", "Clip Clip Neg"),
    "clip-by-an-input": (
        "(float[N,3] x, float h) => (float[N,3] y) <float z = {0.0}> { p = Clip(x, z, h) q = Relu(p) y = Neg(q) }",
        "Clip Relu Neg"),
    "hard-sigmoid-read-inside": (
        f"(float[N,3] x) => (float[N,3] y) <{_SIX}, float a = {{3.0}}> "
        "{ p = Add(x, a) q = Clip(p, z, s) r = Div(q, s) y = Mul(r, q) }", "Add Clip Div Mul"),
    "hard-sigmoid-that-widens": (
        "(float[N,1] x) => (float[N,3] y) <float z = {0.0}, float s = {6.0}, float[1,3] a = {3.0,3.0,3.0}> "
        "{ p = Add(x, a) q = Clip(p, z, s) y = Div(q, s) }", "Add Clip Div"),
    "gelu-by-another-root": (
        "(float[N,3] x) => (float[N,3] y) <float r = {1.5}, float o = {1.0}, float h = {0.5}> "
        "{ a = Div(x, r) b = Erf(a) c = Add(b, o) d = Mul(x, c) y = Mul(d, h) }", "Div Erf Add Mul Mul"),
    "gelu-that-widens": (
        "(float[N,1] x) => (float[N,3] y) <float r = {1.4142135}, float[1,3] o = {1.0,1.0,1.0}, float h = {0.5}> "
        "{ a = Div(x, r) b = Erf(a) c = Add(b, o) d = Mul(x, c) y = Mul(d, h) }", "Div Erf Add Mul Mul"),
    # shapes
    "reshape-read-twice": (
        "(float[N,12] x) => (float[N,2,6] y, float[N,3,4] z) <int64[3] a = {0,3,4}, int64[3] b = {0,2,6}> "
        "{ t = Reshape(x, a) z = Relu(t) u = Reshape(t, b) y = Neg(u) }", "Reshape Relu Reshape Neg"),
    "reshape-relu-read-twice": (
        "(float[N,3,4] x) => (float[N,3,4] y, float[N,12] z) <int64[2] a = {0,12}, int64[3] b = {0,3,4}> "
        "{ t = Reshape(x, a) r = Relu(t) z = Neg(r) y = Reshape(r, b) }", "Reshape Relu Neg Reshape"),
    "reshape-relu-elsewhere": (
        "(float[N,3,4] x) => (float[N,4,3] y) <int64[2] a = {0,12}, int64[3] b = {0,4,3}> "
        "{ t = Reshape(x, a) r = Relu(t) y = Reshape(r, b) }", "Reshape Relu Reshape"),
    "squeeze-of-two": (
        "(float[N,1,1] x) => (float[N] y) <int64[2] a = {1,2}> { t = Squeeze(x, a) y = Relu(t) }", "Squeeze Relu"),
    "squeeze-of-another-axis": (
        f"(float[N,4,1] x) => (float[N,1] y) <{_ENDS}> {{ s = Slice(x, o, i, i) t = Squeeze(s, ii) y = Relu(t) }}",
        "Slice Squeeze Relu"),
    "squeeze-of-a-dynamic-axis": (
        f"(float[N,4] x) => (float[4] y) <{_ENDS}> {{ s = Slice(x, o, i, o) t = Squeeze(s, o) y = Relu(t) }}",
        "Slice Squeeze Relu"),
    "squeeze-of-two-slices": (
        "(float[N,4,4] x) => (float[N,1] y) <int64[2] b = {0,1}, int64[2] e = {1,2}, int64[2] a = {1,2},"
        " int64[1] i = {1}> "
        "{ s = Slice(x, b, e, a) t = Squeeze(s, i) y = Relu(t) }", "Slice Squeeze Relu"),
    "squeeze-of-the-last": (
        "(float[N,4] x) => (float[N] y) <int64[1] b = {-1}, int64[1] e = {9223372036854775807}, int64[1] i = {1}> "
        "{ s = Slice(x, b, e, i) t = Squeeze(s, i) y = Relu(t) }", "Slice Squeeze Relu"),
    "squeeze-beside-another-reader": (
        f"(float[2,N,4] x) => (float[N,4] y, float[1,N,4] z) <{_ENDS}> "
        "{ p, q = Split<axis=0,num_outputs=2>(x) r = Squeeze(p, o) z = Relu(q) y = Neg(r) }", "Split Squeeze Relu Neg"),
    "squeeze-of-pairs": (
        "(float[4,N,1] x) => (float[2,N] y, float[2,N] z) <int64[1] a = {2}> "
        "{ p, q = Split<axis=0,num_outputs=2>(x) r = Squeeze(p, a) s = Squeeze(q, a) y = Neg(r) z = Neg(s) }",
        "Split Squeeze Squeeze Neg Neg"),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_nodes(name: str) -> None:
    text, kinds = ROWS[name]
    nodes, _ = optimized(graph(f"f {text}"), tolerance=1e-6, **OURS)
    assert sorted(nodes.elements()) == sorted(kinds.split())


POOLS = {
    "averages-of-ones": ("1.0", "AveragePool<kernel_shape=[3,3],count_include_pad=1>(a)", "another value"),
    "averages-own-padding": ("0.0", "AveragePool<kernel_shape=[3,3],pads=[1,1,1,1]>(a)", "out of the count"),
    "largest-dilated": ("-inf", "MaxPool<kernel_shape=[3,3],dilations=[2,2]>(a)", "padding alone"),
}


@pytest.mark.parametrize("name", POOLS)
def test_padding_stays_before_a_pool(name: str) -> None:
    value, pool, why = POOLS[name]
    proto = graph(
        f"f (float[N,2,7,7] x) => (float[N,2,A,B] y) <int64[8] p = {{0,0,1,1,0,0,1,1}}, float v = {{0.0}}> "
        f"{{ a = Pad(x, p, v) y = {pool} }}"
    )
    proto.graph.initializer[1].CopyFrom(onnx.numpy_helper.from_array(np.array(value, np.float32), "v"))
    nodes, report = optimized(proto, tolerance=1e-6, **OURS)
    assert nodes["Pad"] == 1
    assert any(why in r.why for r in report.reasons)


NHWC = "(float[N,4,5,3] x) => "
MOVED = {
    "largest-place": ("(int64[N,4,5,1] y)", "r = ArgMax<axis=1>(t)", 0),
    "largest-place-dropped": ("(int64[N,4,5] y)", "r = ArgMax<axis=1,keepdims=0>(t)", 0),
    "running-sum": ("(float[N,4,5,3] y)", "r = CumSum(t, c)", 0),
    "mean-of-all": ("(float[1,1,1,1] y)", "r = ReduceMean(t)", 0),
    "whole-slice": ("(float[N,2,5,3] y)", "r = Slice(t, b, e)", 0),
    "half-precision-steps": ("(float[N,4,5,3] y)", "q = QuantizeLinear(t, s, z) r = DequantizeLinear(q, s, z)", 0),
    "resize-cropped": (
        "(float[N,2,5,3] y)",
        'r = Resize<coordinate_transformation_mode="tf_crop_and_resize">(t, roi, , sizes)', 2),
    "shared-addend": ("(float[N,4,5,3] y)", "u = Add(t, k) w = Relu(u) r = Mul(w, k)", 0),
}  # fmt: skip
_CONSTANTS = (
    "int64 c = {2}, int64[3] b = {0,0,1}, int64[3] e = {9223372036854775807,3,3}, float s = {0.1}, int8 z = {3},"
    " float[8] roi = {0.0,0.0,0.1,0.0,1.0,1.0,0.8,1.0}, int64[4] sizes = {1,3,2,5},"
    " float[3,1,1] k = {1.0,2.0,3.0}"
)


@pytest.mark.parametrize("name", MOVED)
def test_transposes_around_an_operator(name: str) -> None:
    out, middle, left = MOVED[name]
    kept = "[0,1,2]" if "dropped" in name else "[0,2,3,1]"
    body = f"t = Transpose<perm=[0,3,1,2]>(x) {middle} y = Transpose<perm={kept}>(r)"
    given = NHWC.replace("N", "1") if "resize" in name else NHWC
    proto = graph(f"f {given}{out.replace('N', '1') if 'resize' in name else out} <{_CONSTANTS}> {{ {body} }}")
    if "resize" in name:
        model = as_model(proto)
        optimize(model, "full", **OURS)
        made = ir.to_proto(model.ir)
        assert apart(run(made, 1), run(proto, 1)) <= 1e-6
        assert sum(n.op_type == "Transpose" for n in made.graph.node) == left
        return
    nodes, _ = optimized(proto, tolerance=1e-6, **OURS)
    assert nodes["Transpose"] == left


LEFT = {
    "dropout-that-may-train": (
        "(float[N,3] x, bool t) => (float[N,3] y) <float r = {0.5}> { a = Dropout(x, r, t) y = Relu(a) }",
        "may run in training mode", "Dropout"),
    "reshape-by-an-input": (
        "(float[N,3] x, int64[2] s) => (float[A,B] y) { t = Neg(s) u = Abs(t) y = Reshape(x, u) }",
        "not made of sizes", "Reshape"),
    "padding-by-an-input": (
        "(float[N,3,7,7] x, int64[8] p, float[2,3,3,3] w_k) => (float[N,2,A,B] y) { a = Pad(x, p) y = Conv(a, w_k) }",
        "computed at run time", "Pad"),
    "normalization-in-training": (
        "(float[N,3,7,7] x, float[2,3,3,3] w_k, float[2] w_s, float[2] w_b, float[2] w_m, float[2] w_var)"
        " => (float[N,2,5,5] y) { a = Conv(x, w_k) y, b, c = BatchNormalization<training_mode=1>(a, w_s,"
        " w_b, w_m, w_var) }",
        "training mode", "BatchNormalization"),
    "normalization-by-an-input": (
        "(float[N,3,7,7] x, float[2,3,3,3] w_k, float[2] s, float[2] w_b, float[2] w_m, float[2] w_var)"
        " => (float[N,2,5,5] y) { a = Conv(x, w_k) y = BatchNormalization(a, s, w_b, w_m, w_var) }",
        "computed at run time", "BatchNormalization"),
    "types-without-numpy": (
        "(bfloat16[N,1] x) => (bfloat16[N,1] y) <bfloat16[1] a = {1}> { b = Neg(a) y = Mul(x, b) }",
        "type that numpy lacks", "Neg"),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT)
def test_left_alone_with_the_reason(name: str) -> None:
    text, why, kind = LEFT[name]
    model = as_model(graph(f"f {text}"))
    report = optimize(model, "full", **OURS)
    assert report.after[kind] == 1
    assert any(why in r.why for r in report.reasons), [r.why for r in report.reasons]


def test_weights_that_old_files_list_among_the_inputs() -> None:
    """IR 3 demands it; a file in which every weight is listed means no defaults by it."""
    proto = graph("f (float[N,3] x, float[3,2] w_k) => (float[N,2] y) { y = MatMul(x, w_k) }", 13)
    proto.graph.input.append(onnx.helper.make_tensor_value_info("w_k", 1, [3, 2]))
    model = as_model(proto)
    optimize(model, "safe")
    out = ir.to_proto(model.ir)
    assert [i.name for i in out.graph.input] == ["x"]
    assert (
        apart(run(out, 3), run(graph("f (float[N,3] x, float[3,2] w_k) => (float[N,2] y) { y = MatMul(x, w_k) }"), 3))
        == 0
    )


def test_functions_are_written_out() -> None:
    text = """<ir_version: 10, opset_import: ["": 21, "my": 1]>
    f (float[N,3] x) => (float[N,3] y) { a = my.twice(x) y = my.twice(a) }
    <domain: "my", opset_import: ["": 21]> twice (p) => (q) { h = Constant<value_float=2.0>() q = Mul(p, h) }"""
    proto = onnx.parser.parse_model(text)
    model = as_model(proto)
    report = optimize(model, "full", **OURS)
    out = ir.to_proto(model.ir)
    assert report.after["Mul"] == 2
    assert not out.functions
    assert apart(run(out, 3), run(proto, 3)) == 0
