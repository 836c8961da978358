"""A baked-in batch made dynamic: judged by onnxruntime, the larger batch against single runs of the original."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper, parser

import netferry
from netferry.errors import CheckFailed, UnsupportedError, UsageError
from netferry.schemas.ir import ir
from netferry.schemas.model import Model, Source
from tests.shared import shared


def _stored(folder: Path, text: str, weights: dict[str, np.ndarray] | None = None, opset: int = 17) -> Path:
    proto = parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]> net {text}')
    for i, node in enumerate(proto.graph.node):
        node.name = f"n{i}"
    for name, array in (weights or {}).items():
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    path = folder / "fixed.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def _random(*shape: int) -> np.ndarray:
    return np.random.default_rng(7).standard_normal(shape).astype(np.float32)


MENDED = {
    "reshape-of-one": "(float[1,3,4] x) => (float[1,12] y) <int64[2] s = {1,12}> { y = Reshape(x, s) }",
    "reshape-rest": "(float[1,3,4] x) => (float[1,12] y) <int64[2] s = {1,-1}> { y = Reshape(x, s) }",
    "reshape-merged": "(float[2,3,4] x) => (float[6,4] y) <int64[2] s = {6,4}> { y = Reshape(x, s) }",
    "reshape-merged-and-back": "(float[1,3,4] x) => (float[1,3,5] y) <int64[2] s = {3,4}, int64[3] t = {1,3,5}, "
    "float[4,5] w = {1.0,2.0,3.0,4.0,5.0,6.0,7.0,8.0,9.0,1.0,2.0,3.0,4.0,5.0,6.0,7.0,8.0,9.0,1.0,2.0}> "
    "{ a = Reshape(x, s)  b = MatMul(a, w)  y = Reshape(b, t) }",
    "shuffle": "(float[1,4,2,2] x) => (float[1,4,2,2] y) <int64[5] s = {1,2,2,2,2}, int64[4] t = {1,-1,2,2}> "
    "{ a = Reshape(x, s)  b = Transpose<perm = [0,2,1,3,4]>(a)  y = Reshape(b, t) }",
    "batch-behind": "(float[1,3,4] x) => (float[3,1,4] y) <int64[3] s = {3,1,4}> "
    "{ a = Transpose<perm = [1,0,2]>(x)  b = Relu(a)  y = Reshape(b, s) }",
    "token": "(float[1,3,2] x) => (float[1,4,2] y) <float[1,1,2] c = {1.0,2.0}> { y = Concat<axis = 1>(c, x) }",
    "token-expanded": "(float[2,3,2] x) => (float[2,4,2] y) <float[1,1,2] c = {1.0,2.0}, int64[3] s = {2,1,2}> "
    "{ e = Expand(c, s)  y = Concat<axis = 1>(e, x) }",
    "rows-added": "(float[2,3] x) => (float[2,3] y) <int64[2] r = {2,1}, float[1,3] c = {1.0,2.0,3.0}> "
    "{ t = Tile(c, r)  y = Add(x, t) }",
    "expand-of-batch": "(float[2,1] x) => (float[2,3] y) <int64[2] s = {2,3}> { y = Expand(x, s) }",
    "whole-slice": "(float[1,4] x) => (float[1,2] y) <int64[2] s = {0,1}, int64[2] e = {1,3}> { y = Slice(x, s, e) }",
    "squeeze-of-all-ones": "(float[2,1,3] x) => (float[2,3] y) { y = Squeeze(x) }",
    "reshape-moved-rest": "(float[2,3,4] x) => (float[1,2,12] y) <int64[3] s = {1,2,-1}> { y = Reshape(x, s) }",
    "shape-joined": "(float[1,3,4] x) => (float[1,12] y) <int64[1] one = {1}> "
    "{ p = Shape<start = 1>(x)  q = ReduceProd<keepdims = 1>(p)  s = Concat<axis = 0>(one, q)  y = Reshape(x, s) }",
    "shape-joined-merged": "(float[2,3,4] x) => (float[6,4] y) <int64[1] six = {6}> "
    "{ p = Shape<start = 2>(x)  s = Concat<axis = 0>(six, p)  y = Reshape(x, s) }",
    "batch-fastest": "(float[2,3] x) => (float[2,3] y) <int64[1] s = {6}, int64[2] t = {3,2}> "
    "{ a = Transpose(x)  b = Reshape(a, s)  c = Relu(b)  d = Reshape(c, t)  y = Transpose(d) }",
    "expand-joined": "(float[2,1] x) => (float[2,3] y) <int64[1] two = {2}, float[3] k = {1.0,2.0,3.0}> "
    "{ l = Shape(k)  s = Concat<axis = 0>(two, l)  y = Expand(x, s) }",
    "rows-added-by-gemm": "(float[2,2] x) => (float[2,2] y) <float[2,2] w = {1.0,2.0,3.0,4.0}, "
    "float[2,2] c = {5.0,6.0,5.0,6.0}> { y = Gemm(x, w, c) }",
    "reshape-of-what-is-beside": "(float[2,3] x) => (float[2,3] y) <float[3] k = {1.0,2.0,3.0}, int64[2] s = {1,3}> "
    "{ a = Reshape(k, s)  b = Expand(a, s)  y = Add(x, b) }",
    "computed-shape": "(float[1,3,4] x) => (float[1,12] y) <int64[1] one = {1}, int64[1] k = {1}> "
    "{ a = Shape(x)  b = ReduceProd<keepdims = 1>(a)  s = Concat<axis = 0>(one, b)  y = Reshape(x, s) }",
    "resize": "(float[1,1,2,2] x) => (float[1,1,4,6] y) <int64[4] s = {1,1,4,6}> { y = Resize(x, , , s) }",
    "zeros-as-state": "(float[4,1,2] x, float[1,12,2] w, float[1,12,3] r) => (float[4,1,1,3] y) "
    "<int64[3] s = {1,1,3}> { h = ConstantOfShape(s)  y = LSTM<hidden_size = 3>(x, w, r, , , h, h) }",
}


@pytest.mark.parametrize("name", MENDED)
def test_mended_graph_gives_what_single_runs_gave(name: str, tmp_path: Path) -> None:
    text, weights, axes = MENDED[name], {}, None
    if name == "zeros-as-state":
        text = text.replace(", float[1,12,2] w, float[1,12,3] r)", ")")
        weights, axes = {"w": _random(1, 12, 2), "r": _random(1, 12, 3)}, {"x": 1}
    text = text.replace("(x, , , s)", "(x, none, none, s)").replace("r, , , h", "r, none, none, h")
    path = _stored(tmp_path, text, weights)
    proto = onnx.load(path)
    for node in proto.graph.node:
        for i, one in enumerate(node.input):
            node.input[i] = "" if one == "none" else one
    path.write_bytes(proto.SerializeToString())
    report = netferry.rebatch(path, tmp_path / "free.onnx", axes=axes)
    axis = (axes or {"x": 0})["x"]
    session = onnxruntime.InferenceSession(tmp_path / "free.onnx", providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape[axis] == "batch"
    original = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    single = [d if isinstance(d, int) else 1 for d in original.get_inputs()[0].shape]
    parts = [np.random.default_rng(i).standard_normal(single).astype(np.float32) for i in range(4)]
    wanted = [np.asarray(original.run(None, {"x": part})[0]) for part in parts]
    found = np.asarray(session.run(None, {"x": np.concatenate(parts, axis)})[0])
    at = report["rebatch"]["outputs"]["y"]
    np.testing.assert_allclose(found, np.concatenate(wanted, at), rtol=1e-5, atol=1e-6)
    assert [c["batch"] for c in report["rebatch"]["checks"]] == [single[axis], 3 * single[axis]]


REFUSED = {
    "mean-over-batch": ("(float[1,3] x) => (float[3] y) { y = ReduceMean<axes = [0], keepdims = 0>(x) }", "disappears"),
    "softmax-over-batch": ("(float[2,3] x) => (float[2,3] y) { y = Softmax<axis = 0>(x) }", "works along the batch"),
    "first-sample": (
        "(float[1,3] x) => (float[3] y) <int64 i = {0}> { y = Gather<axis = 0>(x, i) }",
        "works along the batch",
    ),
    "part": ("(float[4,3] x) => (float[2,3] y) <int64[1] s = {0}, int64[1] e = {2}> { y = Slice(x, s, e) }", "a part"),
    "flatten": ("(float[1,3] x) => (float[1,3] y) { y = Flatten<axis = 0>(x) }", "flattens the batch"),
    "squeeze": ("(float[1,3] x) => (float[3] y) <int64[1] a = {0}> { y = Squeeze(x, a) }", "disappears"),
    "expanded": ("(float[1,3] x) => (float[5,3] y) <int64[2] s = {5,3}> { y = Expand(x, s) }", "another size"),
    "broken-up": ("(float[2,3] x) => (float[3,2] y) <int64[2] s = {3,2}> { y = Reshape(x, s) }", "breaks the batch up"),
    "normalized-over": (
        "(float[2,3] x) => (float[2,3] y) <float[2,3] s = {1.0,2.0,3.0,4.0,5.0,6.0}> "
        "{ y = LayerNormalization<axis = 0>(x, s) }",
        "works along the batch",
    ),
    "branch": (
        "(float[1,3] x, bool c) => (float[1,3] y) { y = If(c) <then_branch = a () => (float[1,3] p) { p = Relu(x) }, "
        "else_branch = b () => (float[1,3] q) { q = Neg(x) }> }",
        "a branch or loop reads the batch",
    ),
    "steps": (
        "(float[4,3] x) => (float[2,3] y) <int64[1] s = {0}, int64[1] e = {4}, int64[1] a = {0}, int64[1] t = {2}> "
        "{ y = Slice(x, s, e, a, t) }",
        "a part",
    ),
    "joined": ("(float[2,3] x) => (float[4,3] y) { y = Concat<axis = 0>(x, x) }", "works along the batch"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_mixes_samples_is_refused_with_the_node(name: str, tmp_path: Path) -> None:
    text, why = REFUSED[name]
    with pytest.raises(UnsupportedError, match=why) as caught:
        netferry.rebatch(_stored(tmp_path, text), tmp_path / "free.onnx")
    assert "'n0'" in str(caught.value)
    assert not (tmp_path / "free.onnx").exists()


def test_hidden_influence_is_found_by_the_run(tmp_path: Path) -> None:
    """A product of the batch with itself keeps its shape at batch 1 and 2 alike; only values tell."""
    text = "(float[2,2] x) => (float[2,2] y) { t = Transpose(x)  a = MatMul(x, t)  y = MatMul(a, x) }"
    with pytest.raises((UnsupportedError, CheckFailed)):
        netferry.rebatch(_stored(tmp_path, text), tmp_path / "free.onnx")
    assert not (tmp_path / "free.onnx").exists()


def test_state_that_a_caller_feeds_must_be_named(tmp_path: Path) -> None:
    text = """(float[4,1,2] x, float[1,1,3] h) => (float[4,1,1,3] y, float[1,1,3] g) {
        y, g = GRU<hidden_size = 3>(x, w, r, b, none, h) }"""
    weights = {"w": _random(1, 9, 2), "r": _random(1, 9, 3), "b": _random(1, 18)}
    path = _stored(tmp_path, text, weights)
    proto = onnx.load(path)
    proto.graph.node[0].input[4] = ""
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(UnsupportedError, match="--axis h=AXIS"):
        netferry.rebatch(path, tmp_path / "free.onnx", axes={"x": 1})
    report = netferry.rebatch(path, tmp_path / "free.onnx", axes={"x": 1, "h": 1})
    assert report["rebatch"]["outputs"] == {"y": 2, "g": 1}


@pytest.mark.parametrize(
    ("text", "node", "why"),
    [
        pytest.param(
            "(float[1,2,4] x) => (float[2,1,1] y) { t = Transpose<perm = [1,0,2]>(x)  y = GlobalAveragePool(t) }",
            "n1", "takes the batch on axis 0, it comes on axis 1", id="pool",
        ),
        pytest.param(
            "(float[2,4,2] x) => (float[2,1,4,3] y) <int64[3] a = {1,9,2}, int64[3] b = {1,9,3}> "
            "{ w = ConstantOfShape(a)  r = ConstantOfShape(b)  y = GRU<hidden_size = 3>(x, w, r) }",
            "n2", "takes the batch on axis 1, it comes on axis 0", id="recurrent",
        ),
    ],
)  # fmt: skip
def test_what_takes_the_batch_elsewhere_is_refused(text: str, node: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=why) as caught:
        netferry.rebatch(_stored(tmp_path, text), tmp_path / "free.onnx")
    assert f"'{node}'" in str(caught.value)


def test_twenty_refusals_are_enough(tmp_path: Path) -> None:
    body = " ".join(f"y{i} = Softmax<axis = 0>(x)" for i in range(25))
    outputs = ", ".join(f"float[2,3] y{i}" for i in range(25))
    with pytest.raises(UnsupportedError) as caught:
        netferry.rebatch(_stored(tmp_path, f"(float[2,3] x) => ({outputs}) {{ {body} }}"), tmp_path / "free.onnx")
    assert str(caught.value).count("works along the batch") == 20


def test_inputs_of_two_batch_sizes(tmp_path: Path) -> None:
    path = _stored(
        tmp_path, "(float[2,3] x, float[4,3] z) => (float[2,3] y, float[4,3] w) { y = Relu(x)  w = Relu(z) }"
    )
    with pytest.raises(UsageError, match="different batch sizes: 2, 4"):
        netferry.rebatch(path, tmp_path / "free.onnx", axes={"x": 0, "z": 0})
    with pytest.raises(UsageError, match="'x' has no axis 2"):
        netferry.rebatch(path, tmp_path / "free.onnx", axes={"x": 2})


def test_a_slice_of_old_opsets_takes_the_whole_batch(tmp_path: Path) -> None:
    """Starts, ends and axes were settings until opset 9."""
    text = "(float[1,4] x) => (float[1,2] y) { y = Slice<axes=[0,1],starts=[0,1],ends=[1,3]>(x) }"
    path = _stored(tmp_path, text, opset=9)
    netferry.rebatch(path, tmp_path / "free.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "free.onnx", providers=["CPUExecutionProvider"])
    x = _random(3, 4)
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], x[:, 1:3])


def test_inputs_without_a_common_batch(tmp_path: Path) -> None:
    path = _stored(tmp_path, "(float x) => (float y) { y = Relu(x) }")
    with pytest.raises(UsageError, match="no input has a batch"):
        netferry.rebatch(path, tmp_path / "free.onnx")
    with pytest.raises(UsageError, match="no input 'z'"):
        netferry.rebatch(path, tmp_path / "free.onnx", axes={"z": 0})


def test_dimensions_get_names(tmp_path: Path) -> None:
    from netferry.converters.passes.naming import name_dims

    text = """(float[unk__6,3,unk__7,unk__8] x, int64[unk__6,s1] t, float[rows,4] k)
        => (float[unk__6,3,unk__7,unk__8] y, int64[unk__6,s1] u, float[rows,4] v)
        { y = Relu(x)  u = Neg(t)  v = Relu(k) }"""
    model = Model(ir.from_proto(onnx.load(_stored(tmp_path, text))), source=Source("onnx"))
    assert name_dims(model) == ["batch", "height", "width", "sequence"]
    assert [i.shape for i in model.inputs] == [("batch", 3, "height", "width"), ("batch", "sequence"), ("rows", 4)]
    assert [o.shape for o in model.outputs] == [("batch", 3, "height", "width"), ("batch", "sequence"), ("rows", 4)]


@pytest.mark.parametrize("name", ["RFB-320.onnx", "slim-320.onnx", "RFB-320_postprocessing.onnx"])
def test_real_face_detectors(name: str, tmp_path: Path) -> None:
    report = netferry.rebatch(shared("data", "ultraface", name), tmp_path / "free.onnx")
    assert report["rebatch"]["checks"][1]["batch"] == 3
    assert all(axis is not None for axis in report["rebatch"]["outputs"].values())


@pytest.mark.slow
@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
@pytest.mark.parametrize("net", ["residual", "shuffle", "attention", "encoder"])
def test_exports_of_torch_at_one_size(net: str, dynamo: bool, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    import warnings

    from benchmarks.simplifier_graphs import NETS

    torch.manual_seed(0)
    path = tmp_path / "fixed.onnx"
    options = {"dynamo": True, "verbose": False, "external_data": False} if dynamo else {"dynamo": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = NETS[net]().eval()
        torch.onnx.export(module, (torch.randn(1, 3, 32, 32),), str(path), input_names=["x"], **options)
    report = netferry.rebatch(path, tmp_path / "free.onnx")
    assert [c["batch"] for c in report["rebatch"]["checks"]] == [1, 3]
