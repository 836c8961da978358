"""Opset 1 to 6 and operators that are gone: values by hand, by onnxruntime's old kernels, or recorded by ONNX."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import parser

import netferry
from netferry.converters.passes.opset import to_opset
from netferry.converters.passes.opset_levels import unreadable
from netferry.errors import UnsupportedOpset
from tests.converters.passes.opset_cases import as_model, carried, differs, run

X4 = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)
X2 = np.random.default_rng(1).standard_normal((3, 4)).astype(np.float32)
C3, C4, C45 = (np.array(a, np.float32) for a in ([1, -2, 3], [1, 2, 3, 4], np.arange(20).reshape(4, 5)))


def _s(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _parse(opset: int, text: str, ir_version: int = 3) -> onnx.ModelProto:
    return parser.parse_model(f'<ir_version: {ir_version}, opset_import: ["": {opset}]> f {text}')


def _computed(proto: onnx.ModelProto, target: int, *inputs: np.ndarray) -> list[Any]:
    """Outputs of the raised model by onnxruntime, which must load it."""
    out = carried(proto, target)
    onnx.checker.check_model(out, full_check=True)
    found, by = run(out, list(inputs))
    assert found is not None, by
    assert by == "onnxruntime"
    return found


BY_HAND: dict[str, tuple[int, str, list[np.ndarray], np.ndarray]] = {
    "add-axis": (
        6, "(float[N,3,4,5] x, float[3] c) => (float[N,3,4,5] y) { y = Add<broadcast=1,axis=1>(x, c) }",
        [X4, C3], X4 + C3[:, None, None]),
    "mul-axis-two": (
        1, "(float[N,3,4,5] x, float[3,4] c) => (float[N,3,4,5] y) "
        "{ y = Mul<broadcast=1,axis=1,consumed_inputs=[0,0]>(x, c) }",
        [X4, X2], X4 * X2[:, :, None]),
    "sub-suffix": (
        6, "(float[N,3,4,5] x, float[4,5] c) => (float[N,3,4,5] y) { y = Sub<broadcast=1>(x, c) }",
        [X4, C45], X4 - C45),
    "div-negative-axis": (
        6, "(float[N,3,4,5] x, float[4] c) => (float[N,3,4,5] y) { y = Div<broadcast=1,axis=-2>(x, c) }",
        [X4, C4], X4 / C4[:, None]),
    "pow-scalar": (
        6, "(float[N,4] x, float[1] c) => (float[N,4] y) { a = Abs(x)  y = Pow<broadcast=1,axis=0>(a, c) }",
        [X2, np.array([3], np.float32)], np.abs(X2) ** 3),
    "greater-axis": (
        6, "(float[N,3,4,5] x, float[3] c) => (bool[N,3,4,5] y) { y = Greater<broadcast=1,axis=1>(x, c) }",
        [X4, C3], C3[:, None, None] < X4),
    "and-axis": (
        6, "(float[N,3,4,5] x, float[3] c) => (bool[N,3,4,5] y) "
        "{ a = Less<broadcast=1,axis=1>(x, c)  b = Cast<to=9>(c)  y = And<broadcast=1,axis=1>(a, b) }",
        [X4, C3], C3[:, None, None] > X4),
    "gemm": (
        6, "(float[N,4] x, float[4,2] w, float[2] b) => (float[N,2] y) { y = Gemm<broadcast=1>(x, w, b) }",
        [X2, C45[:, :2], C3[:2]], X2 @ C45[:, :2] + C3[:2]),
    "gemm-transposed": (
        1, "(float[N,4] x, float[2,4] w, float[1] b) => (float[N,2] y) "
        "{ y = Gemm<broadcast=1,transB=1,alpha=0.5>(x, w, b) }",
        [X2, C45[:, :2].T.copy(), C3[:1]], 0.5 * (X2 @ C45[:, :2]) + 1),
    "batchnorm": (
        1, "(float[N,3,4,5] x, float[3] s, float[3] b, float[3] m, float[3] v) => (float[N,3,4,5] y) "
        "{ y = BatchNormalization<is_test=1,epsilon=0.5,consumed_inputs=[0,0,0,1,1]>(x, s, b, m, v) }",
        [X4, C3, C3 + 1, C3 - 1, C3**2],

        (X4 - (C3 - 1)[:, None, None]) / np.sqrt(C3**2 + 0.5)[:, None, None] * C3[:, None, None]
        + (C3 + 1)[:, None, None]),
    "batchnorm-per-activation": (
        6, "(float[N,3,4] x, float[3,4] s, float[3,4] b, float[3,4] m, float[3,4] v) => (float[N,3,4] y) "
        "{ y = BatchNormalization<is_test=1,spatial=0,epsilon=0.5>(x, s, b, m, v) }",
        [X4[..., 0].copy(), X2, X2 + 1, X2 - 1, X2**2],
        (X4[..., 0] - (X2 - 1)) / np.sqrt(X2**2 + 0.5) * X2 + X2 + 1),
    "prelu-channels": (
        6, "(float[N,3,4,5] x, float[3] c) => (float[N,3,4,5] y) { y = PRelu(x, c) }",
        [X4, C3], np.where(X4 < 0, X4 * C3[:, None, None], X4)),
    "prelu-one": (
        1, "(float[N,3,4,5] x, float[1] c) => (float[N,3,4,5] y) { y = PRelu<consumed_inputs=[0,0]>(x, c) }",
        [X4, C3[2:]], np.where(X4 < 0, X4 * 3, X4)),
    "dropout": (
        1, "(float[N,4] x) => (float[N,4] y) { y = Dropout<is_test=1,ratio=0.4,consumed_inputs=[0]>(x) }", [X2], X2),
    "reshape-attribute": (
        1, "(float[N,3,4,5] x) => (float[N,60] y) { y = Reshape<shape=[0,-1]>(x) }", [X4], X4.reshape(2, 60)),
    "pad-paddings": (
        1, "(float[N,4] x) => (float[N,7] y) { y = Pad<paddings=[0,1,0,2],value=0.5>(x) }",
        [X2], np.pad(X2, ((0, 0), (1, 2)), constant_values=0.5)),
    "concat-default": (
        1, "(float[N,4] x, float[N,4] z) => (float[N,8] y) { y = Concat(x, z) }", [X2, X2],
        np.concatenate([X2, X2], 1)),
    "cast-name": (
        1, '(float[N,4] x) => (int32[N,4] y) { y = Cast<to="INT32">(x) }', [X2 * 10], (X2 * 10).astype(np.int32)),
    "upsample-nearest": (
        1, "(float[N,3,4,5] x) => (float[N,3,8,15] y) { y = Upsample<height_scale=2.0,width_scale=3.0>(x) }",
        [X4], X4.repeat(2, 2).repeat(3, 3)),
    "selu-defaults": (
        1, "(float[N,4] x) => (float[N,4] y) { y = Selu(x) }",
        [X2], 1.0507 * np.where(X2 > 0, X2, 1.6732 * (np.exp(X2) - 1)).astype(np.float32)),
    "tile-axis": (
        1, "(float[N,4] x) => (float[N,12] y) <float[1] t = {3.0}, float[1] a = {1.0}> { y = Tile(x, t, a) }",
        [X2], np.tile(X2, (1, 3))),
    "lppool": (
        1, "(float[N,3,4,5] x) => (float[N,3,1,1] y) { y = GlobalLpPool<p=1.0>(x) }",
        [X4], np.abs(X4).sum((2, 3), keepdims=True)),
    "split-sizes-input": (
        1, "(float[N,4] x) => (float[N,1] y, float[N,3] z) <float[2] s = {1.0,3.0}> { y, z = Split<axis=1>(x, s) }",
        [X2], X2[:, :1]),
    "constant-fill": (
        6, "(float[N,4] x) => (float[N,4] y) { c = ConstantFill<value=2.5,shape=[4]>()  y = Add<broadcast=1>(x, c) }",
        [X2], X2 + 2.5),
    "constant-fill-like": (
        6, "(float[N,4] x) => (float[N,4] y) { c = ConstantFill<value=2.5>(x)  y = Add(x, c) }", [X2], X2 + 2.5),
    "constant-fill-extra": (
        6, "(float[N,4] x) => (float[N,4,2] y) { y = ConstantFill<value=1.0,extra_shape=[2]>(x) }",
        [X2], np.ones((3, 4, 2), np.float32)),
    "given-tensor-fill": (
        6, "(float[N,4] x) => (float[N,4] y) "
        "{ c = GivenTensorFill<values=[1.0,2.0,3.0,4.0],shape=[4]>()  y = Add<broadcast=1>(x, c) }",
        [X2], X2 + C4),
    "fc": (
        1, "(float[N,3,4,5] x, float[2,60] w, float[2] b) => (float[N,2] y) { y = FC(x, w, b) }",
        [X4, np.ones((2, 60), np.float32), C3[:2]], X4.reshape(2, 60).sum(1, keepdims=True) + C3[:2]),
    "gru-unit": (
        6, "(float[1,3,4] h, float[1,3,12] g, int32[3] n, int32[1] t) => (float[1,3,4] y) { y = GRUUnit(h, g, n, t) }",
        [X2[None], np.tile(X2, 3)[None] * [[[2]]], np.array([5, 2, 3], np.int32), np.array([2], np.int32)],
        np.where([[True], [False], [True]], X2 * _s(2 * X2) + np.tanh(2 * X2) * (1 - _s(2 * X2)), X2)[None]),
    "gru-unit-dropped": (
        6, "(float[1,3,4] h, float[1,3,12] g, int32[3] n, int32[1] t) => (float[1,3,4] y) "
        "{ y = GRUUnit<drop_states=1>(h, g, n, t) }",
        [X2[None], np.zeros((1, 3, 12), np.float32), np.array([1, 2, 3], np.int32), np.array([2], np.int32)],
        X2[None] * 0.5 * np.array([0, 0, 1], np.float32)[:, None]),
    "stale-is_test": (8, "(float[N,4] x) => (float[N,4] y) { y = Dropout<is_test=1,ratio=0.5>(x) }", [X2], X2),
    "stale-broadcast": (
        8, "(float[N,3,4,5] x, float[3] c) => (float[N,3,4,5] y) { y = Add<broadcast=1,axis=1>(x, c) }",
        [X4, C3], X4 + C3[:, None, None]),
    "stale-spatial": (
        9, "(float[N,3,4,5] x, float[3] s, float[3] b, float[3] m, float[3] v) => (float[N,3,4,5] y) "
        "{ y = BatchNormalization<spatial=1,epsilon=0.5>(x, s, b, m, v) }",
        [X4, C3, C3, C3, C3**2],
        (X4 - C3[:, None, None]) / np.sqrt(C3**2 + 0.5)[:, None, None] * C3[:, None, None] + C3[:, None, None]),
    "stale-clip": (11, "(float[N,4] x) => (float[N,4] y) { y = Clip<min=-0.5,max=0.5>(x) }", [X2], X2.clip(-0.5, 0.5)),
    "stale-squeeze": (13, "(float[N,4] x) => (float[1,N,4] y) { y = Unsqueeze<axes=[0]>(x) }", [X2], X2[None]),
    "stale-reshape": (7, "(float[N,4] x) => (float[4,N] y) { y = Reshape<shape=[4,-1]>(x) }", [X2], X2.reshape(4, 3)),
    "upsample-bilinear": (
        9, "(float[N,3,4,5] x) => (float[N,3,4,5] y) <float[4] s = {1.0,1.0,1.0,1.0}> "
        '{ y = Upsample<mode="bilinear">(x, s) }', [X4], X4),
}  # fmt: skip
"""name -> (opset, graph, inputs, first output)"""


@pytest.mark.parametrize("target", [11, 13, 21, 26])
@pytest.mark.parametrize("name", BY_HAND)
def test_values_computed_by_hand(name: str, target: int) -> None:
    opset, text, inputs, want = BY_HAND[name]
    if target < opset:
        pytest.skip("not a rise")
    if name == "lppool" and target > 21:
        pytest.skip("onnxruntime has no GlobalLpPool of opset 22")
    inputs = [x.astype(x.dtype if x.dtype.kind == "i" else np.float32) for x in inputs]
    found = _computed(_parse(opset, text), target, *inputs)
    assert differs(found[:1], [want.astype(found[0].dtype)], 1e-5, 1e-5) is None


@pytest.mark.parametrize("name", BY_HAND)
def test_converted_without_a_wish_the_file_runs(name: str, tmp_path: Path) -> None:
    opset, text, inputs, want = BY_HAND[name]
    (tmp_path / "old.onnx").write_bytes(_parse(opset, text).SerializeToString())
    report = netferry.convert(tmp_path / "old.onnx", tmp_path / "new.onnx")
    assert any("no runtime reads" in note["message"] for note in report["notes"])
    session = ort.InferenceSession(tmp_path / "new.onnx", providers=["CPUExecutionProvider"])
    names = [v.name for v in session.get_inputs()]
    inputs = [x.astype(x.dtype if x.dtype.kind == "i" else np.float32) for x in inputs]
    found: list[Any] = list(session.run(None, dict(zip(names, inputs, strict=True))))
    assert differs(found[:1], [want.astype(found[0].dtype)], 1e-5, 1e-5) is None


KEPT_BY_ONNXRUNTIME = {
    "affine": "y = Affine<alpha=2.0,beta=-1.0>(x)",
    "image-scaler": "y = ImageScaler<scale=2.0,bias=[1.0,2.0,3.0]>(x)",
    "parametric-softplus": "y = ParametricSoftplus<alpha=2.0,beta=0.5>(x)",
    "scaled-tanh": "y = ScaledTanh<alpha=2.0,beta=0.5>(x)",
    "scale": "y = Scale<scale=1.5>(x)",
    "thresholded-relu": "y = ThresholdedRelu<alpha=0.5>(x)",
    "crop": "y = Crop<border=[1,2,0,1]>(x)",
    "crop-scale": "y = Crop<border=[1,2,0,1],scale=[2,2]>(x)",
    "mean-variance": "y = MeanVarianceNormalization(x)",
    "mean-variance-across": "y = MeanVarianceNormalization<across_channels=1>(x)",
    "mean-only": "y = MeanVarianceNormalization<normalize_variance=0>(x)",
    "upsample": "y = Upsample<scales=[1.0,1.0,2.0,3.0],mode=\"linear\">(x)",
}  # fmt: skip


@pytest.mark.parametrize("name", KEPT_BY_ONNXRUNTIME)
def test_old_kernels_of_onnxruntime_compute_the_same(name: str) -> None:
    proto = _parse(8, f"(float[2,3,4,5] x) => (float[A,B,C,D] y) {{ {KEPT_BY_ONNXRUNTIME[name]} }}")
    wanted, by = run(proto, [X4])
    assert wanted is not None
    assert by == "onnxruntime"
    assert differs(_computed(proto, 21, X4), wanted, 1e-5, 1e-6) is None


def test_dynamic_slice() -> None:
    proto = _parse(8, "(float[4,5] x, int64[1] s, int64[1] e) => (float[A,B] y) { y = DynamicSlice(x, s, e) }")
    inputs = [C45, np.array([1]), np.array([3])]
    wanted, _ = run(proto, inputs)
    assert wanted is not None
    assert differs(_computed(proto, 21, *inputs), wanted, 0, 0) is None


def test_scan_of_batches() -> None:
    text = """(float[2,2] i, float[2,3,2] x) => (float[2,2] y, float[2,3,2] z) {
        y, z = Scan<num_scan_inputs=1, directions=[1],
            body = b (float[2] s, float[2] n) => (float[2] t, float[2] o) { t = Add(s, n)  o = Mul(t, n) }>(, i, x) }"""
    proto = _parse(8, text.replace("(, i", "(k, i"))
    proto.graph.node[0].input[0] = ""
    inputs = [X2[:2, :2], X4[0, :2, :3, :2].copy()]
    wanted, by = run(proto, inputs)
    assert wanted is not None
    assert by == "onnxruntime"
    assert differs(_computed(proto, 21, *inputs), wanted, 1e-6, 1e-6) is None


@pytest.mark.parametrize("directions", [[0, 0], [1, 1], [0, 1]], ids=["forward", "reverse", "both"])
@pytest.mark.parametrize("target", [11, 21, 26])
def test_scan_of_batches_with_lengths(directions: list[int], target: int) -> None:
    """onnxruntime still has the kernel of Scan 8: states stop, outputs are zero behind a sequence's length."""
    text = f"""(int64[3] k, float[3,2] i, float[3,4,2] x) => (float[3,2] y, float[3,4,2] z, int64[3,4,2] w) {{
        y, z, w = Scan<num_scan_inputs=2, directions={directions},
            body = b (float[2] s, float[2] n, float[2] m) => (float[2] t, float[2] o, int64[2] p)
                {{ t = Add(s, n)  o = Mul(t, m)  p = Cast<to=7>(t) }}>(k, i, x, x) }}"""
    proto = _parse(8, text)
    x = np.random.default_rng(3).standard_normal((3, 4, 2)).astype(np.float32) * 3
    inputs = [np.array([4, 1, 2]), X2[:3, :2].copy(), x]
    wanted, by = run(proto, inputs)
    assert wanted is not None
    assert by == "onnxruntime"
    assert differs(_computed(proto, target, *inputs), wanted, 1e-6, 1e-6) is None


@pytest.mark.parametrize(
    ("text", "inputs", "want"),
    [
        pytest.param("(float[6] x) => (float[2] y, float[2] z, float[2] v) { y, z, v = Split(x) }",
                     [X4.ravel()[:6]], X4.ravel()[:2], id="one-axis"),
        pytest.param("(float[3,4] x) => (float[3,2] y, float[3,2] z) { y, z = Split(x) }",
                     [X2], X2[:, :2], id="shapes-tell"),
        pytest.param("(float[N,4] x) => (float[N,1] y, float[N,3] z) { y, z = Split<split=[1,3]>(x) }",
                     [X2], X2[:, :1], id="shapes-and-sizes-tell"),
    ],
)  # fmt: skip
def test_split_without_an_axis(text: str, inputs: list[np.ndarray], want: np.ndarray) -> None:
    assert differs(_computed(_parse(1, text), 21, *inputs)[:1], [want], 0, 0) is None


def test_split_whose_axis_nothing_tells_is_refused() -> None:
    with pytest.raises(UnsupportedOpset, match="without an axis"):
        to_opset(as_model(_parse(1, "(float[4,4] x) => (float[A,B] q) { y, z = Split(x)  q = Relu(y) }")), 21)


def _recorded() -> list[Any]:
    """The models of PyTorch (opset 6) that come with ONNX, with recorded outputs."""
    root = Path(onnx.__file__).parent / "backend" / "test" / "data"
    return [pytest.param(p, id=p.name) for k in ("pytorch-converted", "pytorch-operator") for p in (root / k).iterdir()]


@pytest.mark.parametrize("folder", _recorded())
def test_recorded_models_of_opset_6(folder: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        netferry.convert(folder / "model.onnx", tmp_path / "new.onnx", opset=21)
    session = ort.InferenceSession(tmp_path / "new.onnx", providers=["CPUExecutionProvider"])
    data = folder / "test_data_set_0"

    def stored(kind: str, count: int) -> list[np.ndarray]:
        files = [data / f"{kind}_{i}.pb" for i in range(count)]
        return [onnx.numpy_helper.to_array(onnx.TensorProto.FromString(f.read_bytes())) for f in files]

    names = [v.name for v in session.get_inputs()]
    found = session.run(None, dict(zip(names, stored("input", len(names)), strict=True)))
    assert differs(list(found), stored("output", len(found)), 1e-3, 1e-5) is None


def test_initializers_listed_as_inputs_are_weights_after_the_rise() -> None:
    proto = _parse(6, "(float[N,4] x, float[4] w) => (float[N,4] y) { y = Add<broadcast=1>(x, w) }")
    proto.graph.initializer.append(onnx.numpy_helper.from_array(C4, "w"))
    model = as_model(proto)
    to_opset(model, 21)
    assert [v.name for v in model.graph.inputs] == ["x"]
    assert list(model.graph.initializers) == ["w"]


OLD_NET = """(float[1,3,4,4] x, float[2,3,1,1] w, float[2] a, float[5,32] u) => (float[1,5] y) {
    [conv] c = Conv(x, w)  [add] k = Add<broadcast=1,axis=1>(c, a)  [relu] r = Relu<consumed_inputs=[0]>(k)
    [flat] f = Reshape<shape=[1,-1]>(r)  [fc] y = Gemm<transB=1,broadcast=1>(f, u, z) }"""


def _old_net(path: Path) -> Path:
    proto = _parse(1, OLD_NET.replace("float[5,32] u", "float[5,32] u, float[5] z"))
    rng = np.random.default_rng(0)
    for value in list(proto.graph.input)[1:]:
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        values = rng.normal(size=shape).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(values, value.name))
    onnx.save(proto, path)
    return path


def test_a_part_of_an_old_network(tmp_path: Path) -> None:
    """In the middle of a graph of opset 1 no inference knows a type: it is raised first."""
    source = _old_net(tmp_path / "a.onnx")
    netferry.convert(source, tmp_path / "head.onnx", outputs=["add"])
    netferry.convert(source, tmp_path / "tail.onnx", inputs=["relu"])
    netferry.convert(source, tmp_path / "all.onnx")
    x = np.random.default_rng(1).normal(size=(1, 3, 4, 4)).astype(np.float32)
    sessions = [ort.InferenceSession(tmp_path / f"{n}.onnx", providers=["CPUExecutionProvider"])
                for n in ("head", "tail", "all")]  # fmt: skip
    middle: Any = sessions[0].run(None, {"x": x})[0]
    parts: Any = sessions[1].run(None, {"k": middle})[0]
    whole: Any = sessions[2].run(None, {"x": x})[0]
    assert np.abs(parts - whole).max() <= 1e-6


def test_the_batch_of_an_old_network(tmp_path: Path) -> None:
    report = netferry.rebatch(_old_net(tmp_path / "a.onnx"), tmp_path / "free.onnx")
    assert report["rebatch"]["batch"] == 1
    session = ort.InferenceSession(tmp_path / "free.onnx", providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["batch", 3, 4, 4]


def test_training_outputs_are_refused() -> None:
    proto = _parse(
        6, "(float[N,3] x, float[3] s, float[3] b, float[3] m, float[3] v) => (float[N,3] y, float[3] p, float[3] q) "
        "{ y, p, q = BatchNormalization(x, s, b, m, v) }")  # fmt: skip
    with pytest.raises(UnsupportedOpset, match="training form"):
        to_opset(as_model(proto), 21)


@pytest.mark.parametrize("text", ["y = Identity(x)", "y = Softmax<axis=1>(x)", "y = Clip<min=0.0>(x)"])
def test_what_runtimes_read_stays(text: str) -> None:
    assert unreadable(as_model(_parse(8, f"(float[N,4] x) => (float[N,4] y) {{ {text} }}"))) is None


@pytest.mark.parametrize(("opset", "written"), [(None, 21), (18, 18), (20, 20), (17, 17)])
def test_a_form_that_onnx_deprecates_is_written_in_others(opset: int | None, written: int, tmp_path: Path) -> None:
    proto = _parse(18, "(float[2,4,3,5] x, float[2] s, float[2] b) => (float[2,4,3,5] y) "
                   "{ y = GroupNormalization<num_groups=2>(x, s, b) }")  # fmt: skip
    inputs = [np.random.default_rng(3).standard_normal(n).astype(np.float32) for n in ((2, 4, 3, 5), 2, 2)]
    onnx.save(proto, tmp_path / "a.onnx")
    netferry.convert(tmp_path / "a.onnx", tmp_path / "b.onnx", opset=opset)
    made = onnx.load(tmp_path / "b.onnx")
    assert made.opset_import[0].version == written
    expected, got = (run(p, inputs)[0] for p in (proto, made))
    assert expected is not None
    assert got is not None
    assert differs(got, expected, 1e-5, 1e-5) is None
