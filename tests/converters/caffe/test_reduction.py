"""Softmax, Reduction, ArgMax, BatchReindex, Filter, Parameter and DummyData against NumPy and OpenCV."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from netferry.errors import NetferryError
from tests.converters.caffe.conformance import Runner
from tests.converters.caffe.single import convert, opencv, outputs, seeded
from tests.converters.caffe.test_elementwise import layer, once

X = seeded(3, 4, 5, 6)


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


@pytest.mark.parametrize(
    ("settings", "axis"), [("", 1), ("axis: -1 engine: CUDNN", -1), ("axis: 2", 2), ("axis: 0", 0)]
)
def test_softmax(tmp_path: Path, settings: str, axis: int) -> None:
    text = layer("Softmax", f"softmax_param {{ {settings} }}")
    got = (outputs if axis else once)(tmp_path, text, {"x": X})["y"]
    np.testing.assert_allclose(got, softmax(X, axis), rtol=1e-5)
    if axis == 1:
        np.testing.assert_allclose(got, opencv(tmp_path, text, {"x": X}), rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "want"),
    [
        pytest.param("", X.sum(), id="default"),
        pytest.param("operation: SUM axis: 1", X.sum((1, 2, 3)), id="sum"),
        pytest.param("operation: ASUM axis: -1 coeff: 2", 2 * np.abs(X).sum(3), id="asum"),
        pytest.param("operation: 3 axis: 2 coeff: -0.5", -0.5 * (X**2).sum((2, 3)), id="sumsq"),
        pytest.param("operation: MEAN axis: 1", X.mean((1, 2, 3)), id="mean"),
        pytest.param("operation: MEAN coeff: 3", 3 * X.mean(), id="mean-of-all"),
    ],
)
def test_reduction(tmp_path: Path, settings: str, want: np.ndarray) -> None:
    run = outputs if np.ndim(want) else once
    got = run(tmp_path, layer("Reduction", f"reduction_param {{ {settings} }}"), {"x": X})["y"]
    assert got.shape == np.shape(want)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def arg_max(x: np.ndarray, k: int, values: bool, axis: int | None) -> np.ndarray:
    """Sorts pairs of (value, index) downwards, as argmax_layer.cpp does."""
    rows = x.reshape(len(x), -1) if axis is None else np.moveaxis(x, axis, -1)
    pairs = [sorted(((v, i) for i, v in enumerate(row)), reverse=True)[:k] for row in rows.reshape(-1, rows.shape[-1])]
    found = np.array(pairs, np.float32)  # row, k, (value, index)
    if axis is not None:
        one = found[:, :, 0 if values else 1].reshape(*rows.shape[:-1], k)
        return np.moveaxis(one, -1, axis)
    out = found[:, :, ::-1].swapaxes(1, 2) if values else found[:, None, :, 1]
    return out.reshape(*out.shape, *[1] * (x.ndim - 3))


@pytest.mark.parametrize("ties", [False, True], ids=["", "ties"])
@pytest.mark.parametrize("axis", [None, 0, 1, 2, -1])
@pytest.mark.parametrize("values", [False, True], ids=["indices", "values"])
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("shape", [(3, 4, 5, 6), (3, 7, 4), (4, 6, 3)], ids=str)
def test_arg_max(tmp_path: Path, k: int, values: bool, axis: int | None, shape: tuple[int, ...], ties: bool) -> None:
    x = np.round(seeded(*shape)) if ties else seeded(*shape)
    place = "" if axis is None else f"axis: {axis}"
    text = layer("ArgMax", f"argmax_param {{ out_max_val: {int(values)} top_k: {k} {place} }}")
    got = (once if axis in (0, -len(shape)) else outputs)(tmp_path, text, {"x": x})["y"]
    want = arg_max(x, k, values, axis)
    assert got.shape == want.shape
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("shape", [(5,), (4, 6), (2, 3, 1, 2, 2)], ids=str)
def test_arg_max_of_other_ranks(tmp_path: Path, shape: tuple[int, ...]) -> None:
    x = seeded(*shape)
    got = outputs(tmp_path, layer("ArgMax", "argmax_param { out_max_val: true }"), {"x": x})["y"]
    np.testing.assert_array_equal(got, arg_max(x, 1, True, None).reshape(len(x), 2, 1, *[1] * max(len(shape) - 3, 0)))


def test_batch_reindex(tmp_path: Path) -> None:
    order = np.array([2, 0, 0, 1, 2], np.float32)
    got = once(tmp_path, layer("BatchReindex", "", "x i"), {"x": X, "i": order})["y"]
    np.testing.assert_array_equal(got, X[order.astype(int)])


@pytest.mark.parametrize("shape", [(3,), (3, 1), (3, 1, 1, 1)], ids=str)
@pytest.mark.parametrize("chosen", [(1, 0, -2.5), (0, 0.5, 0), (0, 0, 0)], ids=str)
def test_filter(tmp_path: Path, shape: tuple[int, ...], chosen: tuple[float, ...]) -> None:
    pick = np.array(chosen, np.float32).reshape(shape)
    feeds = {"x": X, "z": seeded(3, 2), "pick": pick}
    got = once(tmp_path, layer("Filter", "", "x z pick", "p q"), feeds)
    keep = pick.ravel() != 0
    np.testing.assert_array_equal(got["p"], X[keep])
    np.testing.assert_array_equal(got["q"], feeds["z"][keep])


def test_parameter(tmp_path: Path) -> None:
    text = 'layer { name: "w" type: "Parameter" top: "w" parameter_param { shape { dim: 4 dim: 5 } } }'
    w = seeded(4, 5, seed=5)
    got = outputs(tmp_path, text + layer("Scale", "scale_param { axis: 1 }", "x w"), {"x": X}, {"w": [w]})["y"]
    np.testing.assert_allclose(got, X * w[:, :, None], rtol=1e-6)
    model = convert(tmp_path, text + layer("Scale", "scale_param { axis: 1 }", "x w"), {"x": X}, {"w": [w]})
    assert model.ir.graph.initializers["w.weight"].metadata_props["netferry.role"] == "learnable"


@pytest.mark.parametrize(
    ("settings", "want"),
    [
        pytest.param("shape { dim: 2 dim: 3 }", [np.zeros((2, 3))] * 2, id="zeros"),
        pytest.param(
            "shape { dim: 2 } shape { dim: 3 } data_filler { value: 1.5 } data_filler { type: 'constant' value: -1 }",
            [np.full(2, 1.5), np.full(3, -1)],
            id="each",
        ),
        pytest.param(
            "num: 2 channels: 3 channels: 1 height: 4 width: 5 data_filler { value: 7 }",
            [np.full((2, 3, 4, 5), 7), np.full((2, 1, 4, 5), 7)],
            id="legacy",
        ),
    ],
)
def test_dummy_data(tmp_path: Path, settings: str, want: list[np.ndarray]) -> None:
    text = layer("DummyData", f"dummy_data_param {{ {settings} }}", "", "p q")
    got = once(tmp_path, text, {"x": X})
    for name, array in zip("pq", want, strict=True):
        np.testing.assert_array_equal(got[name], array.astype(np.float32))


def test_a_net_of_constants_only(tmp_path: Path) -> None:
    text = layer("DummyData", "dummy_data_param { shape { dim: 1 dim: 3 } data_filler { value: 2 } }", "", "k")
    got = Runner(convert(tmp_path, text + layer("Power", "power_param { scale: 2 }", "k", "y"), {})).run({})["y"]
    np.testing.assert_array_equal(got, np.full((1, 3), 4, np.float32))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(layer("Softmax", "softmax_param { axis: 4 }"), id="softmax-axis"),
        pytest.param(layer("Reduction", "reduction_param { axis: -5 }"), id="reduction-axis"),
        pytest.param(layer("Reduction", "reduction_param { operation: MAX }"), id="reduction-operation"),
        pytest.param(layer("ArgMax", "argmax_param { axis: 1 top_k: 5 }"), id="top-k"),
        pytest.param(layer("ArgMax", "argmax_param { top_k: 121 }"), id="top-k-of-all"),
        pytest.param(layer("ArgMax", "argmax_param { top_k: 0 }"), id="top-none"),
        pytest.param(layer("BatchReindex", "", "x x"), id="reindex-by-planes"),
        pytest.param(layer("Filter", "", "x x"), id="filter-by-planes"),
        pytest.param(layer("Filter", "", "x"), id="filter-alone"),
        pytest.param(layer("Filter", "", ""), id="filter-of-nothing"),
        pytest.param(layer("Parameter", "parameter_param { shape { dim: 0 } }", ""), id="parameter-zero"),
        pytest.param(
            layer("Parameter", "parameter_param { shape { dim: 2147483647 dim: 2 } }", ""), id="parameter-vast"
        ),
        pytest.param(layer("DummyData", "", ""), id="dummy-nothing"),
        pytest.param(
            layer("DummyData", "dummy_data_param { shape { dim: 1 } data_filler { type: 'gaussian' } }", ""),
            id="random",
        ),
        pytest.param(layer("DummyData", "dummy_data_param { shape { dim: 2147483647 dim: 9 } }", ""), id="dummy-vast"),
        pytest.param(layer("DummyData", "dummy_data_param { num: 1 shape { dim: 1 } }", ""), id="dummy-both"),
    ],
)
def test_refuses(tmp_path: Path, text: str) -> None:
    with pytest.raises(NetferryError) as caught:
        convert(tmp_path, text, {"x": X})
    assert caught.value.layer == "y"
