"""onnx's inference is kept from the operators that would end the process, and from no others."""

from __future__ import annotations

from itertools import pairwise

import onnx
import onnx.helper
import pytest

from netferry.schemas.inference import infer_shapes, safe_to_infer
from netferry.schemas.metadata import proto_nodes

BEHIND_AN_UNKNOWN_TYPE = {
    "identity": "y = EyeLike<dtype = 11>(t)",
    "expression": 'y = RegexFullMatch<pattern = "a">(t)',
    "encoder": "y = ai.onnx.ml.LabelEncoder<keys_int64s = [1], values_floats = [2.0]>(t)",
    "vectors": 'y = ai.onnx.ml.DictVectorizer<string_vocabulary = ["a"]>(t)',
    "trees": "y = ai.onnx.ml.TreeEnsemble<n_targets = 1>(t)",
    "in-a-branch": """c = Constant<value_int = 1>()  b = Cast<to = 9>(c)
        y = If (b) <then_branch = f () => (float[M] e) { e = ai.onnx.ml.DictVectorizer(t) },
                    else_branch = g () => (float[M] d) { d = Constant<value_floats = [1.0]>() }>""",
    "places-of-a-window-too-large": """s = Constant<value = float[1, 1, 2] {1, 2}>()
        i = AveragePool<kernel_shape = [4]>(s)  j = Cast<to = 7>(i)  y = GatherND(x, j)""",
}
HEAD = '<ir_version: 10, opset_import: ["": 21, "ai.onnx.ml": {ml}, "own": 1]> g (float[N, 3] x) => (y) {{ {nodes} }}'


def _parsed(nodes: str, ml: int) -> onnx.ModelProto:
    return onnx.parser.parse_model(HEAD.format(ml=ml, nodes="t = own.Unknown(x) " + nodes))


@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize("ml", [2, 4, 5])
@pytest.mark.parametrize("name", BEHIND_AN_UNKNOWN_TYPE)
def test_no_crash_and_the_same_nodes(name: str, ml: int, follow: bool) -> None:
    model = _parsed(BEHIND_AN_UNKNOWN_TYPE[name] + " z = Relu(x)", ml)
    out = infer_shapes(model, data_prop=follow)
    was, now = ([(n.domain, n.op_type, n.input) for n in proto_nodes(m)] for m in (model, out))
    assert now == was
    assert list(out.opset_import) == list(model.opset_import)
    assert "z" in {v.name for v in out.graph.value_info}


def test_no_crash_in_a_function() -> None:
    model = _parsed("y = own.f(t)", 4)
    node = onnx.helper.make_node("DictVectorizer", ["x"], ["c"], domain="ai.onnx.ml")
    sets = [onnx.helper.make_opsetid("ai.onnx.ml", 4)]
    model.functions.append(onnx.helper.make_function("own", "f", ["x"], ["c"], [node], sets))
    assert list(infer_shapes(model).functions) == list(model.functions)


@pytest.mark.parametrize("encoders", [1, 2, 5])
def test_encoders_behind_one_another_are_inferred(encoders: int) -> None:
    """Each is let through once the type of what it reads is known."""
    names = ["k", *(f"e{i}" for i in range(encoders))]
    nodes = "k = Cast<to = 7>(x) " + " ".join(
        f"{b} = ai.onnx.ml.LabelEncoder<keys_int64s = [1], values_int64s = [2], default_int64 = 0>({a})"
        for a, b in pairwise(names)
    )
    model = _parsed(f"{nodes} y = Identity({names[-1]})", 2)
    assert safe_to_infer(model) is model
    assert [d.dim_value for d in infer_shapes(model).graph.output[0].type.tensor_type.shape.dim] == [0, 3]


SLICED = """<ir_version: 10, opset_import: ["": 21]> g (float[1, 3, 8, 8] x) => (y)
  <int64[1] a = {{0}}, int64[1] e = {{2}}, int64[1] c = {{2}}> {{ {nodes} }}"""
BEHIND_WINDOWS = {
    "one": "p = AveragePool<kernel_shape = [9, 3]>(x) y = Slice(p, a, e, c)",
    "two": """s = Slice(x, a, e, c) p = AveragePool<kernel_shape = [3, 3]>(s) y = Slice(p, a, e, c)""",
    "third": """p = MaxPool<kernel_shape = [2, 2]>(x) s = Slice(p, a, e, c) q = LpPool<kernel_shape = [4, 1]>(s)
        y = Slice(q, a, e, c)""",
    "convolution": "w = ConstantOfShape(k) p = Conv(x, w) y = Slice(p, a, e, c)",
}


@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize("name", BEHIND_WINDOWS)
def test_no_slice_of_sizes_below_zero(name: str, follow: bool) -> None:
    model = onnx.parser.parse_model(SLICED.format(nodes=BEHIND_WINDOWS[name]))
    model.graph.initializer.append(onnx.helper.make_tensor("k", onnx.TensorProto.INT64, [4], [1, 3, 9, 1]))
    out = infer_shapes(model, data_prop=follow)
    assert list(out.graph.node) == list(model.graph.node)


def test_slices_behind_windows_that_fit_are_inferred() -> None:
    """Through three Slices with pools between them, and chains of Slices."""
    pool = "AveragePool<kernel_shape = [2, 1]>"
    nodes = "t0 = Slice(x, a, e8, c) "
    for i in range(3):
        nodes += f"p{i} = {pool}(t{i}) s{i} = Slice(p{i}, a, e8, c) t{i + 1} = Slice(s{i}, a, e8, c) "
    model = onnx.parser.parse_model(SLICED.format(nodes=f"{nodes} y = Relu(t3)"))
    model.graph.initializer.append(onnx.helper.make_tensor("e8", onnx.TensorProto.INT64, [1], [8]))
    assert safe_to_infer(model) is model
    assert [d.dim_value for d in infer_shapes(model).graph.output[0].type.tensor_type.shape.dim] == [1, 3, 5, 8]
