"""``--precision`` from the command line: what stays float32, the gate, and the digits net and real nets within 2e-3."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from netferry import api
from netferry.errors import CheckFailed
from netferry.runtime.emulate import run_rounded
from netferry.runtime.session import Session
from netferry.runtime.verify import compare
from tests.netferry.test_cli import NET, said
from tests.shared import shared


def elem_types(path: Path) -> list[int]:
    graph = onnx.load(path).graph
    return [v.type.tensor_type.elem_type for v in (*graph.input, *graph.output)]


@pytest.mark.parametrize(("precision", "number"), [("fp16", 10), ("bf16", 16)])
def test_inputs_and_outputs_stay_unless_asked(tmp_path: Path, precision: str, number: int) -> None:
    report = said("convert", *NET, "-o", tmp_path / "a.onnx", "--precision", precision)
    assert elem_types(tmp_path / "a.onnx") == [1, 1]
    assert report["changes"]["precision"]["precision"] == precision
    said("convert", *NET, "-o", tmp_path / "b.onnx", "--precision", precision, "--half-io")
    assert elem_types(tmp_path / "b.onnx") == [number, number]
    run = next(c for c in report["checks"] if c["name"] == "run")
    assert run["outcome"] == ("passed" if precision == "fp16" else "skipped")


def test_a_layer_stays_where_asked(tmp_path: Path) -> None:
    report = said("convert", *NET, "-o", tmp_path / "a.onnx", "--precision", "fp16", "--keep-layer", "conv1")
    assert report["changes"]["precision"]["kept"]["conv1"] == "Conv: asked for"
    assert report["changes"]["precision"]["turned"]["Conv"] == 1


def scaled(path: Path, factor: float) -> Path:
    """x * factor * (1 / factor): the same number in float32, and not always in half precision."""
    proto = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["": 17]>
        g (float[N,3] x) => (float[N,3] y) { a = Mul(x, w) y = Mul(a, v) }""")
    for name, value in (("w", factor), ("v", 1 / factor)):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.full(3, value, np.float32), name))
    onnx.save(proto, path)
    return path


def test_what_overflows_on_the_way_is_refused_though_the_processor_would_not_show_it(tmp_path: Path) -> None:
    """Every weight is in range, the product of two is not."""
    proto = onnx.load(scaled(tmp_path / "m.onnx", 1.0))
    held = [6e4, 6e4]
    for tensor, value in zip(proto.graph.initializer, held, strict=True):
        tensor.CopyFrom(onnx.numpy_helper.from_array(np.full(3, value, np.float32), tensor.name))
    onnx.save(proto, tmp_path / "m.onnx")
    with pytest.raises(CheckFailed, match="disagrees with itself"):
        api.convert(tmp_path / "m.onnx", tmp_path / "half.onnx", precision="fp16")
    assert not (tmp_path / "half.onnx").exists()
    api.convert(tmp_path / "m.onnx", tmp_path / "half.onnx", precision="bf16")  # has the range


def test_what_vanishes_on_the_way_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match="disagrees with itself"):
        api.convert(scaled(tmp_path / "m.onnx", 1e-7), tmp_path / "half.onnx", precision="fp16")


@pytest.mark.parametrize(
    ("files", "recorded", "name", "allowed"),
    [
        pytest.param(
            ("squeezenet_v1.1/deploy.prototxt", "squeezenet_v1.1/squeezenet_v1.1.caffemodel"),
            "squeezenet_v1.1/reference.npz", "data", 2e-3, id="squeezenet",
        ),
        pytest.param(
            ("tiny/mobilenet_v1_0.25_vww.h5",),
            "tiny/mobilenet_v1_0.25_vww_reference.npz", "input", 2e-3, id="mobilenet",
        ),
        pytest.param(("tiny/resnet8_cifar10.h5",), "tiny/resnet8_cifar10_reference.npz", "input", 4e-3, id="resnet8"),
    ],
)  # fmt: skip
def test_real_networks_in_fp16(
    files: tuple[str, ...], recorded: str, name: str, allowed: float, tmp_path: Path
) -> None:
    """2e-3 by onnxruntime; ``allowed`` with every rounding, which onnxruntime's own converter does not undercut."""
    first, *more = [shared("data", file) for file in files]
    api.convert(first, tmp_path / "full.onnx", more[0] if more else None, optimize="full")
    api.convert(tmp_path / "full.onnx", tmp_path / "half.onnx", precision="fp16")
    full = Session(tmp_path / "full.onnx", "cpu")
    feeds = {full.inputs[0].name: np.load(shared("data", recorded))[name].astype(np.float32)}
    wanted = full.run(feeds)
    rounded = run_rounded(onnx.load(tmp_path / "half.onnx"), feeds)
    for got, bound in ((Session(tmp_path / "half.onnx", "cpu").run(feeds), 2e-3), (rounded, allowed)):
        assert max(row["max_rel"] for row in compare(got, wanted).values()) <= bound
        assert all(np.isfinite(v).all() for v in got.values())
