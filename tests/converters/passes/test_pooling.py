"""Pools that pick pixels go into the strides behind them; pools over everything are global; slow ones are told of."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from netferry.api import save
from netferry.schemas.model import Source
from tests.converters.passes.optimized import as_model, graph, optimized

K1 = "float[4,3,1,1] w_k"
AT = "kernel_shape=[1,1],strides=[2,3]"
ROWS = {
    "average-before-conv": (
        f"f (float[N,3,7,8] x, {K1}) => (float[N,4,4,3] y) {{ h = AveragePool<{AT}>(x) y = Conv(h, w_k) }}",
        {"Conv": 1},
    ),
    "max-before-strided-convs": (
        f"f (float[N,3,9,9] x, {K1}) => (float[N,4,3,3] y, float[N,4,5,3] z) "
        f"{{ h = MaxPool<{AT}>(x) y = Conv<strides=[2,1]>(h, w_k) z = Conv(h, w_k) }}",
        {"Conv": 2},
    ),
    "dynamic-size": (
        f"f (float[N,3,H,W] x, {K1}) => (float[N,4,P,Q] y) {{ h = MaxPool<{AT}>(x) y = Conv(h, w_k) }}",
        {"Conv": 1},
    ),
    "one-dimension": (
        "f (float[N,3,9] x, float[4,3,1] w_k) => (float[N,4,5] y) "
        "{ h = AveragePool<kernel_shape=[1],strides=[2]>(x) y = Conv(h, w_k) }",
        {"Conv": 1},
    ),
    "wider-window-stays": (
        f"f (float[N,3,6,6] x, {K1}) => (float[N,4,3,3] y) "
        "{ h = AveragePool<kernel_shape=[2,1],strides=[2,2]>(x) y = Conv(h, w_k) }",
        {"AveragePool": 1, "Conv": 1},
    ),
    "wider-kernel-stays": (
        f"f (float[N,3,9,9] x, float[4,3,2,2] w_k) => (float[N,4,4,2] y) "
        f"{{ h = MaxPool<{AT}>(x) y = Conv(h, w_k) }}",
        {"MaxPool": 1, "Conv": 1},
    ),
    "padded-conv-stays": (
        f"f (float[N,3,9,9] x, {K1}) => (float[N,4,7,5] y) "
        f"{{ h = MaxPool<{AT}>(x) y = Conv<pads=[1,1,1,1]>(h, w_k) }}",
        {"MaxPool": 1, "Conv": 1},
    ),
    "ceil-stays": (
        f"f (float[N,3,6,6] x, {K1}) => (float[N,4,P,Q] y) "
        "{ h = MaxPool<kernel_shape=[1,1],strides=[2,2],ceil_mode=1>(x) y = Conv(h, w_k) }",
        {"MaxPool": 1, "Conv": 1},
    ),
    "other-readers-stay": (
        f"f (float[N,3,7,8] x, {K1}) => (float[N,4,4,3] y, float[N,3,4,3] z) "
        f"{{ h = AveragePool<{AT}>(x) y = Conv(h, w_k) z = Relu(h) }}",
        {"AveragePool": 1, "Conv": 1, "Relu": 1},
    ),
    "whole-average": (
        "f (float[N,3,5,4] x) => (float[N,3,1,1] y) { y = AveragePool<kernel_shape=[5,4],strides=[5,4]>(x) }",
        {"GlobalAveragePool": 1},
    ),
    "whole-max": (
        "f (float[N,3,5,4] x) => (float[N,3,1,1] y) { y = MaxPool<kernel_shape=[5,4]>(x) }",
        {"GlobalMaxPool": 1},
    ),
    "whole-max-whose-places-nobody-reads": (
        "f (float[N,3,5,4] x) => (float[N,3,1,1] y) { y, i = MaxPool<kernel_shape=[5,4]>(x) }",
        {"GlobalMaxPool": 1},
    ),
    "whole-max-whose-places-are-read-stays": (
        "f (float[N,3,5,4] x) => (float[N,3,1,1] y, int64[N,3,1,1] i) { y, i = MaxPool<kernel_shape=[5,4]>(x) }",
        {"MaxPool": 1},
    ),
    "whole-but-padded-stays": (
        "f (float[N,3,5,4] x) => (float[N,3,3,3] y) { y = AveragePool<kernel_shape=[5,4],pads=[1,1,1,1]>(x) }",
        {"AveragePool": 1},
    ),
    "dynamic-whole-stays": (
        "f (float[N,3,H,4] x) => (float[N,3,P,1] y) { y = AveragePool<kernel_shape=[2,4]>(x) }",
        {"AveragePool": 1},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_pooling(name: str) -> None:
    text, expected = ROWS[name]
    nodes, _ = optimized(graph(text), tolerance=1e-6, disable=["onnxscript", "onnxsim"])
    assert nodes == expected


@pytest.mark.parametrize(
    ("channels", "opset", "asked", "source", "kinds", "written"),
    [
        pytest.param(44, 21, None, "onnx", ["slow"], 21, id="odd-channels"),
        pytest.param(48, 21, None, "onnx", [], 21, id="blocked-channels"),
        pytest.param(44, 18, None, "onnx", [], 18, id="opset-18"),
        pytest.param(4, 21, None, "onnx", [], 21, id="little-work"),
        pytest.param(44, 21, None, "keras", ["assumed"], 18, id="no-onnx-file"),
        pytest.param(48, 21, None, "keras", [], 21, id="no-onnx-file-blocked-channels"),
        pytest.param(44, 21, 21, "keras", ["slow"], 21, id="no-onnx-file-insists"),
    ],
)
def test_slow_average_pools_are_avoided_or_told_of(
    channels: int, opset: int, asked: int | None, source: str, kinds: list[str], written: int, tmp_path: Path
) -> None:
    size = f"float[N,{channels},56,56]"
    text = f"f ({size} x) => ({size} y) {{ y = AveragePool<kernel_shape=[3,3],pads=[1,1,1,1]>(x) }}"
    model = as_model(graph(text, opset))
    model.source = Source(source)
    save(model, tmp_path / "out.onnx", check="structure", opset=asked)
    assert [n.kind for n in model.notes] == kinds
    assert onnx.load(tmp_path / "out.onnx").opset_import[0].version == written


def test_what_needs_a_later_opset_keeps_its_slow_pools(tmp_path: Path) -> None:
    size = "float[N,44,56,56]"
    pool = "a = AveragePool<kernel_shape=[3,3],pads=[1,1,1,1]>(x)"
    model = as_model(
        graph(f"f ({size} x) => ({size} a, {size} y) {{ {pool} b = Cast<to=17>(a) y = Cast<to=1>(b) }}", 21)
    )
    model.source = Source("keras")
    save(model, tmp_path / "out.onnx", check="structure")
    assert [n.kind for n in model.notes] == ["slow"]
    assert onnx.load(tmp_path / "out.onnx").opset_import[0].version == 21
