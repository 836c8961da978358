"""Networks compared: the numbers on the chart are the numbers measured."""

from __future__ import annotations

import csv
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import netferry
from netferry.errors import UsageError
from netferry.runtime.charts import comparison_chart
from netferry.runtime.session import Session
from netferry.runtime.timing import feeds_of, memory_of, time_side_by_side
from tests.runtime.test_evaluate import FIXTURES, digits

pytest.importorskip("sklearn", reason="needs the extra 'evaluate'")
pytest.importorskip("matplotlib", reason="needs the extra 'evaluate'")
TABLE = [("squeezenet", 1.2, 0.5516, 5.2), ("googlenet", 1.5, 0.6625, 27), ("resnet50", 3.3, 0.7446, 96),
         ("resnet101", 5.0, 0.7596, 167), ("densenet201", 5.2, 0.7585, 77), ("inceptionv3", 4.5, 0.7707, 89),
         ("xception", 5.2, 0.782, 85), ("darknet53", 4.4, 0.7646, 155), ("alexnet", 1.0, 0.541, 227),
         ("vgg16", 6.5, 0.7029, 515), ("vgg19", 7.3, 0.7042, 535), ("nasnetlarge", 22.0, 0.8183, 332)]  # fmt: skip


def rows(count: int) -> list[dict[str, Any]]:
    return [{"name": n, "relative_time": t, "accuracy": a, "bytes": s * 1e6} for n, t, a, s in TABLE[:count]]


@pytest.mark.parametrize("count", [1, 3, 8, 12])
def test_the_chart_shows_what_was_measured_and_its_texts_keep_apart(count: int) -> None:
    figure = comparison_chart(rows(count), title="t", note="batch size 16, cpu, median of 20 repeats")
    axes = figure.axes[0]
    points = np.array([c.get_offsets()[0] for c in axes.collections], float)
    np.testing.assert_allclose(points[:, 0], [t for _, t, *_ in TABLE[:count]])
    np.testing.assert_allclose(points[:, 1], [100 * a for _, _, a, _ in TABLE[:count]])
    areas = np.array([c.get_sizes()[0] for c in axes.collections])
    sizes = np.array([s for *_, s in TABLE[:count]])
    large = areas > 12  # smaller circles could not be seen
    np.testing.assert_allclose(areas[large] / areas.max(), sizes[large] / sizes.max())
    texts = [t for t in axes.texts if t.get_text()]
    assert any("batch size 16, cpu, median of 20 repeats" in t.get_text() for t in texts)
    renderer = figure.canvas.get_renderer()  # pyright: ignore[reportAttributeAccessIssue]
    boxes = [t.get_window_extent(renderer) for t in texts]
    for a, b in itertools.combinations(boxes, 2):
        assert min(a.x1, b.x1) - max(a.x0, b.x0) <= 1 or min(a.y1, b.y1) - max(a.y0, b.y0) <= 1


def test_the_verb(tmp_path: Path) -> None:
    first = digits(tmp_path)
    netferry.convert(first, tmp_path / "half.onnx", precision="fp16", check="structure")
    netferry.convert(first, tmp_path / "far.onnx", external_data=True, check="structure")
    result = netferry.compare([first, tmp_path / "half.onnx", tmp_path / "far.onnx"], data=FIXTURES / "digits.csv",
                              repeats=3, batch_size=4, out=tmp_path / "out")  # fmt: skip
    models = result["models"]
    assert [m["name"] for m in models] == ["digits", "half", "far"]
    assert [m["top1"] for m in models] == [1.0, 1.0, 1.0]
    assert min(m["relative_time"] for m in models) == 1.0
    assert models[0]["bytes"] == first.stat().st_size
    assert models[2]["bytes"] == sum((tmp_path / f"far.onnx{end}").stat().st_size for end in ("", ".data"))
    assert (result["batch_size"], result["repeats"], result["items"]) == (4, 3, 12)
    written = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert written["models"] == models
    table = list(csv.DictReader((tmp_path / "out" / "comparison.csv").read_text().splitlines()))
    assert [float(row["relative_time"]) for row in table] == [m["relative_time"] for m in models]
    assert {Path(f).suffix for f in result["files"]} == {".json", ".csv", ".png", ".svg"}


def test_without_data_there_is_no_accuracy_and_no_chart(tmp_path: Path) -> None:
    net = digits(tmp_path)
    result = netferry.compare([net, net], repeats=1, out=tmp_path / "out")
    assert [m["name"] for m in result["models"]] == [f"{tmp_path.name}/digits (1)", f"{tmp_path.name}/digits (2)"]
    assert "top1" not in result["models"][0]
    assert {Path(f).suffix for f in result["files"]} == {".json", ".csv"}
    with pytest.raises(UsageError, match="--data"):
        netferry.compare([net, net], out=tmp_path / "chart.png")


def test_wrong_calls(tmp_path: Path) -> None:
    net = digits(tmp_path)
    with pytest.raises(UsageError, match="two networks"):
        netferry.compare([net])
    with pytest.raises(UsageError, match="folder or"):
        netferry.compare([net, net], out=tmp_path / "x.txt")
    netferry.convert(net, tmp_path / "two.onnx", batch=2, check="structure")
    with pytest.raises(UsageError, match="different batch sizes"):
        netferry.compare([net, tmp_path / "two.onnx"], repeats=1)


def net(text: str) -> bytes:
    return onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 21]> {text}').SerializeToString()


def test_networks_are_timed_in_turns_at_their_own_batch() -> None:
    fixed = Session(net("g (float[4, 256] x) => (float[4, 256] y) { y = Relu(x) }"), "cpu", 1)
    free = Session(net("g (float[N, 256] x) => (float[N, 256] y) { y = Relu(x) }"), "cpu", 1)
    turns: list[int] = []
    for number, session in enumerate((fixed, free)):
        run = session.run
        session.run = lambda feeds, _run=run, _n=number: turns.append(_n) or _run(feeds)  # type: ignore[method-assign]
    found = time_side_by_side([fixed, free], 64, repeats=2, warm_up=1)
    assert turns == [0, 1] * 3
    assert [row["batch"] for row in found] == [4, 64]
    assert all(0 < row["best"] <= row["seconds"] for row in found)


def test_pictures_of_any_size_get_one() -> None:
    session = Session(net("g (float[N, 3, H, W] x) => (float[N, 3, H, W] y) { y = Relu(x) }"), "cpu")
    assert feeds_of(session, 2)["x"].shape == (2, 3, 224, 224)
    assert feeds_of(session, 2, (32, 48))["x"].shape == (2, 3, 32, 48)


def test_memory_follows_the_weights(tmp_path: Path) -> None:
    from onnx import TensorProto, helper, numpy_helper

    sizes: list[int] = []
    for count in (8, 64):  # MB of weights
        weights = numpy_helper.from_array(np.zeros((1024, count << 8), np.float32), "w")
        graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g",
                                  [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1024])],
                                  [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", count << 8])],
                                  [weights])  # fmt: skip
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10),
                  tmp_path / "n.onnx")  # fmt: skip
        sizes.append(memory_of(tmp_path / "n.onnx", "cpu", 1) or 0)
    assert sizes[1] - sizes[0] > 40 << 20
