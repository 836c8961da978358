"""The check before a file appears: what it forgives, what it names, and what it keeps that onnx_ir does not know."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.parser import parse_model

import netferry
from netferry.errors import CheckFailed, UnsafeFile
from netferry.schemas.ir import ir
from netferry.schemas.model import Model, Source
from tests.converters.onnx import models
from tests.converters.onnx.models import load, save, stored


def run(path: Path, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


@pytest.mark.parametrize("opset", [13, 18, 21])
def test_normalization_over_the_axes_that_go_without_saying(tmp_path: Path, opset: int) -> None:
    """Inference of onnx stumbles over the default axes from opset 18 on; the file is valid, and written as it is."""
    proto = parse_model(f"""<ir_version: 8, opset_import: ["": {opset}]>
        g (float[N,3,4,4] x) => (float[N,3,4,4] y) {{ y = MeanVarianceNormalization(x) }}""")
    save(load(stored(tmp_path / "net.onnx", proto)), tmp_path / "out.onnx")
    assert not onnx.load(tmp_path / "out.onnx").graph.node[0].attribute
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 4)).astype(np.float32)
    wanted = (x - x.mean((0, 2, 3), keepdims=True)) / x.std((0, 2, 3), keepdims=True)
    np.testing.assert_allclose(run(tmp_path / "out.onnx", x), wanted, atol=1e-5)


def test_training_information_with_weights_in_another_file(tmp_path: Path) -> None:
    """It is kept with its weights inside, as what lies outside may not be there tomorrow."""
    proto = models.linear()
    start = np.arange(4, dtype=np.float32)
    (tmp_path / "start.bin").write_bytes(bytes(8) + start.tobytes())
    tensor = TensorProto(name="start", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "start.bin"), ("offset", "8"), ("length", "16")):
        tensor.external_data.add(key=key, value=value)
    step = proto.training_info.add()
    info = helper.make_tensor_value_info("new", TensorProto.FLOAT, [4])
    step.initialization.CopyFrom(
        helper.make_graph([helper.make_node("Identity", ["start"], ["new"])], "start", [], [info], [tensor])
    )
    step.initialization_binding.add(key="b", value="new")
    save(load(stored(tmp_path / "net.onnx", proto)), tmp_path / "out.onnx")
    (tmp_path / "start.bin").unlink()
    (kept,) = onnx.load(tmp_path / "out.onnx").training_info[0].initialization.initializer
    np.testing.assert_array_equal(numpy_helper.to_array(kept), start)


def test_training_information_that_reaches_outside(tmp_path: Path) -> None:
    proto = models.linear()
    tensor = TensorProto(name="start", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../start.bin")
    proto.training_info.add().algorithm.initializer.append(tensor)
    with pytest.raises(UnsafeFile):
        load(stored(tmp_path / "net.onnx", proto))


def _model(text: str) -> Model:
    return Model(ir.from_onnx_text(f'<ir_version: 10, opset_import: ["": 21]> {text}'), source=Source("onnx"))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("g (float[N,4] x) => (float[N,4] y) { y = Softmax<axis=7>(x) }", "axis", id="axis"),
        pytest.param("g (float[N,4] x) => (float[N,5] y) { y = Relu(x) }", "shapes or types|dim", id="output-shape"),
        pytest.param("g (float[N,4] x) => (float[N,4] y) { y = Frob(x) }", "Frob", id="no-such-operator"),
        pytest.param("g (float[N,4] x) => (int64[N,4] y) { y = Relu(x) }", "type", id="output-type"),
    ],
)
def test_what_is_not_valid_is_not_written(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(CheckFailed, match=why):
        save(_model(text), tmp_path / "out.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_value_made_twice_is_named(tmp_path: Path) -> None:
    model = _model("g (float[N,4] x) => (float[N,4] y) { h = Relu(x) y = Neg(h) }")
    first, second = model.graph
    first.outputs[0].name = "y"
    with pytest.raises(CheckFailed, match="the value 'y' is made twice"):
        save(model, tmp_path / "out.onnx")
    second.outputs[0].name = ""
    with pytest.raises(CheckFailed, match="an output has no name"):
        save(model, tmp_path / "out.onnx")


def test_no_shape_of_an_output_is_explained(tmp_path: Path) -> None:
    """Where inference fails the output gets no shape, which onnx then asks for: the reason is what is told."""
    model = _model("g (float[N,4] x) => (y) { y = Transpose<perm=[0, 0]>(x) }")
    with pytest.raises(CheckFailed, match="Transpose"):
        save(model, tmp_path / "out.onnx")


def test_an_input_without_a_shape_is_named(tmp_path: Path) -> None:
    proto = models.linear()
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(CheckFailed, match=r"the input 'x' has no shape") as caught:
        save(load(stored(tmp_path / "net.onnx", proto)), tmp_path / "out.onnx")
    assert "--input-shape x=" in str(caught.value.hint)


def test_an_output_whose_rank_nothing_tells_is_named(tmp_path: Path) -> None:
    """A loop that doubles what it has until a run is given up."""
    proto = parse_model("""<ir_version: 8, opset_import: ["": 18]> g (float[N,4] x) => (float[] y) {
        n = Constant<value: tensor = int64 {60}>()
        y = Loop(n, , x) <body = b (int64 i, bool go, float[] v) => (bool on, float[] w) {
            on = Identity(go) w = Concat<axis=0>(v, v) }> }""")
    path = stored(tmp_path / "net.onnx", proto)
    with pytest.raises(CheckFailed, match="the output 'y' has no shape, and neither inference nor a run tells"):
        netferry.convert(path, tmp_path / "out.onnx", limits={"run_bytes": 1 << 24, "run_seconds": 5})
