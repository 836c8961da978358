"""``quantize``: int8 on the digits net, judged on scikit-learn's digits that it was not trained on; what is refused."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

from fixtures import digits as data
from fixtures.make import TRAINED_ON
from netferry import api
from netferry.errors import CheckFailed, OutputError, UsageError
from netferry.runtime.session import Session
from tests.netferry.test_cli import netferry, said

pytest.importorskip("onnxruntime.quantization", exc_type=ImportError)
FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
NAMES = (FIXTURES / "digits_labels.txt").read_text().split()


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits net as ONNX, with labels and preprocessing inside."""
    path = tmp_path_factory.mktemp("net") / "digits.onnx"
    api.convert(
        FIXTURES / "digits.prototxt", path, FIXTURES / "digits.caffemodel", labels=FIXTURES / "digits_labels.txt",
        mean_file=FIXTURES / "digits_mean.binaryproto", recipe={"scale": (1 / 256,)},
    )  # fmt: skip
    return path


def folders(root: Path, rows: np.ndarray) -> Path:
    """Pictures of scikit-learn's digits in folders called like their class."""
    values, truth = data.load()
    pictures = data.enlarge(values[rows], 24, 24)
    for number, picture in zip(rows, pictures, strict=True):
        folder = root / NAMES[truth[number]]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:04}.png").write_bytes(data.png(picture))
    return root


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 of the pictures that the net was trained on."""
    order = np.random.RandomState(3).permutation(1797)
    return folders(tmp_path_factory.mktemp("seen"), order[:200])


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The 397 that it was not trained on."""
    order = np.random.RandomState(3).permutation(1797)
    return folders(tmp_path_factory.mktemp("unseen"), order[TRAINED_ON:])


def test_the_digits_net_loses_at_most_one_point(net: Path, seen: Path, unseen: Path, tmp_path: Path) -> None:
    target = tmp_path / "made" / "int8.onnx"
    report = said(
        "quantize", net, target, "--calibrate", seen, "--evaluate", unseen, "--report", tmp_path / "report.json"
    )
    accuracy = report["accuracy"]
    assert accuracy["items"] == 397
    assert accuracy["before"] >= 0.98
    assert accuracy["before"] - accuracy["after"] <= 0.01
    assert report["judged_by"] == "accuracy"
    assert report["samples"] == 200
    assert report["bytes_after"] < 0.6 * report["bytes_before"]
    assert json.loads((tmp_path / "report.json").read_text()) == report
    # predict, which is another way through the file, finds the same accuracy
    answers = api.predict(target, [unseen], top=1)["predictions"]
    right = [Path(a["item"]).parent.name == a["top"][0]["label"] for a in answers]
    assert np.mean(right) == pytest.approx(accuracy["after"])


def test_it_is_qdq_per_channel_and_keeps_names(net: Path, seen: Path, tmp_path: Path) -> None:
    api.quantize(net, tmp_path / "int8.onnx", seen, max_drop=0.05)
    proto = onnx.load(tmp_path / "int8.onnx")
    onnx.checker.check_model(proto, full_check=True)
    kinds = Counter(n.op_type for n in proto.graph.node)
    assert kinds["QuantizeLinear"]
    assert kinds["Conv"] == 2
    held = {t.name: t for t in proto.graph.initializer}
    kernels = [t for n, t in held.items() if n.endswith("quantized") and len(t.dims) == 4]
    assert {t.data_type for t in kernels} == {onnx.TensorProto.INT8}
    scales = {n.output[0]: list(held[n.input[1]].dims) for n in proto.graph.node if n.op_type == "DequantizeLinear"}
    assert sorted(scales[n.input[1]] for n in proto.graph.node if n.op_type == "Conv") == [[8], [16]]
    before, after = api.inspect(net), api.inspect(tmp_path / "int8.onnx")
    names = [row["name"] for row in before["layers"] if row["name"] != "relu1"]  # the range of int8 begins at its 0
    assert [row["name"] for row in after["layers"]] == names
    assert after["labels"] == before["labels"]
    assert after["preprocessing"] == before["preprocessing"]
    assert after["totals"]["depth"] == before["totals"]["depth"]
    assert [o["name"] for o in after["outputs"]] == [o["name"] for o in before["outputs"]]


def test_worse_than_allowed_is_refused(net: Path, seen: Path, tmp_path: Path) -> None:
    arrays = np.zeros((8, 1, 20, 20), np.float32)  # nothing to measure ranges on: everything saturates
    np.save(tmp_path / "zeros.npy", arrays)
    done = netferry("quantize", net, tmp_path / "int8.onnx", "--calibrate", tmp_path / "zeros.npy", "--evaluate", seen)
    assert done.returncode == 9
    assert "nothing was written" in done.stderr
    assert not (tmp_path / "int8.onnx").exists()


def test_layers_stay_in_float_where_asked(net: Path, seen: Path, tmp_path: Path) -> None:
    found = api.quantize(net, tmp_path / "int8.onnx", seen, keep_layers=["conv1"], max_drop=0.05)
    assert found["operators"]["float"]["Conv"] == 1
    assert found["operators"]["int8"]["Conv"] == 1
    with pytest.raises(UsageError, match="no layer"):
        api.quantize(net, tmp_path / "other.onnx", seen, keep_layers=["nowhere"])


def test_unlabelled_pictures_are_judged_by_agreement(net: Path, tmp_path: Path) -> None:
    found = api.quantize(net, tmp_path / "int8.onnx", FIXTURES, max_drop=0.1)
    assert found["accuracy"] is None
    assert found["judged_by"] == "agreement"
    assert found["samples"] == 12


def test_a_folder_of_arrays(net: Path, tmp_path: Path) -> None:
    (tmp_path / "arrays").mkdir()
    rng = np.random.default_rng(0)
    for part in range(2):
        np.save(tmp_path / "arrays" / f"{part}.npy", rng.random((5, 1, 20, 20)).astype(np.float32) - 0.5)
    found = api.quantize(net, tmp_path / "int8.onnx", tmp_path / "arrays", max_drop=1)
    assert found["samples"] == 10


def test_several_inputs_and_no_classes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    proto = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["": 11]>
        g (float[N,6] a, float[N,6] b) => (float[N,3,2] y) <int64[3] s = {0,3,2}>
        { c = MatMul(a, w) d = MatMul(b, w) e = Add(c, d) y = Reshape(e, s) }""")
    proto.graph.initializer.append(onnx.numpy_helper.from_array(rng.normal(size=(6, 6)).astype(np.float32), "w"))
    onnx.save(proto, tmp_path / "two.onnx")
    np.savez(tmp_path / "data.npz", a=rng.random((40, 6)).astype(np.float32), b=rng.random((40, 6)).astype(np.float32))
    found = api.quantize(tmp_path / "two.onnx", tmp_path / "int8.onnx", tmp_path / "data.npz", max_drop=0.1)
    assert found["judged_by"] == "difference"
    assert found["difference"]["y"] < 0.1
    assert [p.shape for p in Session(tmp_path / "int8.onnx", "cpu").outputs] == [("N", 3, 2)]


@pytest.mark.parametrize("method", ["entropy", "percentile"])
def test_other_ways_to_find_ranges_print_nothing(
    net: Path, seen: Path, tmp_path: Path, method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = api.quantize(net, tmp_path / "int8.onnx", seen, method=method, samples=20, max_drop=0.05)
    assert found["method"] == method
    assert capsys.readouterr().out == ""


def test_refusals(net: Path, seen: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="replace"):
        api.quantize(net, net, seen)
    with pytest.raises(UsageError, match="minmax"):
        api.quantize(net, tmp_path / "x.onnx", seen, method="guess")
    (tmp_path / "wrong" / "cat").mkdir(parents=True)
    (tmp_path / "wrong" / "cat" / "x.png").write_bytes((FIXTURES / "digit_0_04.png").read_bytes())
    with pytest.raises(UsageError, match="no class of the network"):
        api.quantize(net, tmp_path / "x.onnx", seen, evaluate=tmp_path / "wrong")
    with pytest.raises(CheckFailed):
        api.quantize(net, tmp_path / "x.onnx", seen, max_drop=-1)
    assert not (tmp_path / "x.onnx").exists()
