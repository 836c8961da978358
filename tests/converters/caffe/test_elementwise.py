"""Eltwise, Axpy, Concat, Slice, Split, Tile and Silence against NumPy, with dynamic batches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from netferry.errors import NetferryError
from tests.converters.caffe.conformance import Arrays, Runner
from tests.converters.caffe.single import convert, opencv, outputs, seeded

A, B, C = (seeded(2, 3, 4, 5, seed=i) for i in range(3))


def layer(kind: str, settings: str = "", bottoms: str = "x", tops: str = "y") -> str:
    links = "".join(f'bottom: "{n}" ' for n in bottoms.split()) + "".join(f'top: "{n}" ' for n in tops.split())
    return f'layer {{ name: "y" type: "{kind}" {links} {settings} }}'


def once(folder: Path, text: str, feeds: Arrays) -> Arrays:
    """Run at the declared batch only: the layer mixes the items of a batch."""
    return Runner(convert(folder, text, feeds)).run(feeds)


@pytest.mark.parametrize(
    ("settings", "bottoms", "want"),
    [
        pytest.param("", "a b", A + B, id="sum"),
        pytest.param("eltwise_param { operation: SUM }", "a b c", A + B + C, id="sum-of-three"),
        pytest.param("eltwise_param { operation: 1 coeff: 1 coeff: -1 }", "a b", A - B, id="difference"),
        pytest.param("eltwise_param { coeff: 0.5 coeff: 1 coeff: -2 }", "a b c", 0.5 * A + B - 2 * C, id="coeff"),
        pytest.param("eltwise_param { coeff: 2 coeff: 0 }", "a b", 2 * A, id="zero-coeff"),
        pytest.param("eltwise_param { operation: PROD }", "a b c", A * B * C, id="product"),
        pytest.param(
            "eltwise_param { operation: PROD stable_prod_grad: false }", "a a", A * A, id="product-with-itself"
        ),
        pytest.param("eltwise_param { operation: MAX }", "a b c", np.maximum(np.maximum(A, B), C), id="max"),
        pytest.param("eltwise_param { operation: MAX coeff: 3 coeff: 4 }", "a b", np.maximum(A, B), id="max-coeff"),
        pytest.param("", "a a a", 3 * A, id="one-blob-thrice"),
    ],
)
def test_eltwise(tmp_path: Path, settings: str, bottoms: str, want: np.ndarray) -> None:
    feeds = {n: v for n, v in (("a", A), ("b", B), ("c", C)) if n in bottoms.split()}
    text = layer("Eltwise", settings, bottoms)
    np.testing.assert_allclose(outputs(tmp_path, text, feeds)["y"], want, rtol=1e-5, atol=1e-6)


def test_eltwise_in_place(tmp_path: Path) -> None:
    text = layer("Power", "power_param { scale: 2 }", "a", "p") + layer("Eltwise", "", "p b", "p")
    np.testing.assert_allclose(outputs(tmp_path, text, {"a": A, "b": B})["p"], 2 * A + B, rtol=1e-5)


def test_eltwise_of_a_batch_and_a_constant_fixes_the_batch(tmp_path: Path) -> None:
    text = 'layer { name: "k" type: "DummyData" top: "k" dummy_data_param { shape { dim: 2 dim: 3 } } }'
    model = convert(tmp_path, text + layer("Eltwise", "", "x k"), {"x": seeded(2, 3)})
    assert Runner(model).dims == {"x": [2, 3]}


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1, 1)], ids=str)
def test_axpy(tmp_path: Path, shape: tuple[int, ...]) -> None:
    a = seeded(*shape, seed=3)
    got = outputs(tmp_path, layer("Axpy", "", "a x y0"), {"a": a, "x": A, "y0": B})["y"]
    np.testing.assert_allclose(got, a.reshape(2, 3, 1, 1) * A + B, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "axis"),
    [
        pytest.param("", 1, id="default"),
        pytest.param("concat_param { axis: 2 }", 2, id="axis"),
        pytest.param("concat_param { axis: -1 }", 3, id="negative"),
        pytest.param("concat_param { concat_dim: 1 }", 1, id="legacy"),
        pytest.param("concat_param { axis: 0 }", 0, id="batch"),
    ],
)
def test_concat(tmp_path: Path, settings: str, axis: int) -> None:
    shape = list(A.shape)
    shape[axis] += 2 if axis else 0
    feeds = {"a": A, "b": seeded(*shape, seed=4), "c": C}
    run = outputs if axis else once
    got = run(tmp_path, layer("Concat", settings, "a b c"), feeds)["y"]
    np.testing.assert_array_equal(got, np.concatenate(list(feeds.values()), axis))


def test_concat_of_one(tmp_path: Path) -> None:
    np.testing.assert_array_equal(outputs(tmp_path, layer("Concat"), {"x": A})["y"], A)


@pytest.mark.parametrize(
    ("settings", "points", "axis"),
    [
        pytest.param("", [2, 4], 1, id="even"),
        pytest.param("slice_param { slice_point: 1 slice_point: 2 }", [1, 2], 1, id="points"),
        pytest.param("slice_param { axis: -2 slice_point: 3 slice_point: 7 }", [3, 7], 2, id="negative-axis"),
        pytest.param("slice_param { slice_dim: 3 }", [1, 2], 3, id="legacy"),
        pytest.param("slice_param { axis: 0 slice_point: 1 slice_point: 2 }", [1, 2], 0, id="batch"),
    ],
)
def test_slice(tmp_path: Path, settings: str, points: list[int], axis: int) -> None:
    x = seeded(4, 6, 8, 3)
    got = outputs(tmp_path, layer("Slice", settings, tops="a b c"), {"x": x})
    for name, want in zip("abc", np.split(x, points, axis), strict=True):
        np.testing.assert_array_equal(got[name], want)


def test_slice_of_the_batch_fixes_it(tmp_path: Path) -> None:
    model = convert(tmp_path, layer("Slice", "slice_param { axis: 0 }", tops="a b"), {"x": A})
    assert Runner(model).dims == {"x": [2, 3, 4, 5]}
    assert any("batch" in n.message for n in model.notes)


def test_split_and_silence(tmp_path: Path) -> None:
    text = layer("Split", tops="a b c") + layer("Silence", bottoms="b", tops="").replace('"y"', '"s"', 1)
    got = outputs(tmp_path, text, {"x": A})
    assert sorted(got) == ["a", "c"]
    np.testing.assert_array_equal(got["a"], A)
    np.testing.assert_array_equal(got["c"], A)


@pytest.mark.parametrize(
    ("settings", "axis", "tiles"),
    [
        pytest.param("tiles: 3", 1, 3, id="default-axis"),
        pytest.param("axis: -1 tiles: 2", 3, 2, id="last"),
        pytest.param("axis: 0 tiles: 2", 0, 2, id="batch"),
        pytest.param("tiles: 1", 1, 1, id="once"),
    ],
)
def test_tile(tmp_path: Path, settings: str, axis: int, tiles: int) -> None:
    run: Callable[[Path, str, Arrays], Arrays] = outputs if axis else once
    got = run(tmp_path, layer("Tile", f"tile_param {{ {settings} }}"), {"x": A})["y"]
    np.testing.assert_array_equal(got, np.concatenate([A] * tiles, axis))


@pytest.mark.parametrize(
    ("text", "bottoms"),
    [
        pytest.param(layer("Eltwise", "eltwise_param { coeff: 2 coeff: -1 }", "a b"), "a b", id="eltwise"),
        pytest.param(layer("Concat", "concat_param { axis: 2 }", "a b"), "a b", id="concat"),
    ],
)
def test_opencv_agrees(tmp_path: Path, text: str, bottoms: str) -> None:
    feeds = {"a": A, "b": B}
    got = outputs(tmp_path, text, feeds)["y"]
    np.testing.assert_allclose(got, opencv(tmp_path, text, feeds), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "shapes"),
    [
        pytest.param(layer("Eltwise", "", "a"), [(2, 3)], id="eltwise-of-one"),
        pytest.param(layer("Eltwise", "", "a b"), [(2, 3), (2, 4)], id="eltwise-of-unlike"),
        pytest.param(layer("Eltwise", "", "a b"), [(2, 3), (2, 3, 1)], id="eltwise-of-other-rank"),
        pytest.param(layer("Eltwise", "eltwise_param { coeff: 1 }", "a b"), [(2, 3)] * 2, id="coeff-for-one"),
        pytest.param(
            layer("Eltwise", "eltwise_param { operation: PROD coeff: 1 coeff: 2 }", "a b"),
            [(2, 3)] * 2,
            id="coeff-prod",
        ),
        pytest.param(layer("Eltwise", "eltwise_param { operation: MIN }", "a b"), [(2, 3)] * 2, id="operation"),
        pytest.param(layer("Concat", "concat_param { axis: 4 }", "a b"), [(2, 3, 4, 5)] * 2, id="concat-axis"),
        pytest.param(layer("Concat", "", "a b"), [(2, 3, 4), (2, 3, 5)], id="concat-unlike"),
        pytest.param(layer("Concat", "", "a b"), [(2, 3, 4), (2, 3)], id="concat-ranks"),
        pytest.param(layer("Concat", "concat_param { axis: 1 concat_dim: 1 }", "a b"), [(2, 3)] * 2, id="both-axes"),
        pytest.param(layer("Concat", "concat_param { concat_dim: 4294967295 }", "a b"), [(2, 3)] * 2, id="unsigned"),
        pytest.param(layer("Slice", "", "a", "p q"), [(2, 3)], id="slice-odd"),
        pytest.param(
            layer("Slice", "slice_param { slice_point: 1 slice_point: 2 }", "a", "p q"), [(2, 3)], id="points"
        ),
        pytest.param(layer("Slice", "slice_param { slice_point: 3 }", "a", "p q"), [(2, 3)], id="point-at-the-end"),
        pytest.param(layer("Slice", "slice_param { slice_point: 0 }", "a", "p q"), [(2, 3)], id="point-at-0"),
        pytest.param(
            layer("Slice", "slice_param { slice_point: 2 slice_point: 1 }", "a", "p q r"), [(2, 3)], id="falling-points"
        ),
        pytest.param(layer("Tile", "tile_param { axis: 1 }", "a"), [(2, 3)], id="no-tiles"),
        pytest.param(layer("Tile", "tile_param { tiles: 0 }", "a"), [(2, 3)], id="zero-tiles"),
        pytest.param(layer("Tile", "tile_param { tiles: 2147483647 }", "a"), [(2, 3)], id="vast-tiles"),
        pytest.param(layer("Axpy", "", "a b b"), [(2, 4), (2, 3, 4, 5)], id="axpy-channels"),
        pytest.param(layer("Axpy", "", "a b"), [(2, 3), (2, 3, 4, 5)], id="axpy-of-two"),
    ],
)
def test_refuses(tmp_path: Path, text: str, shapes: list[tuple[int, ...]]) -> None:
    with pytest.raises(NetferryError) as caught:
        convert(tmp_path, text, {n: seeded(*s) for n, s in zip("ab", shapes, strict=False)})
    assert caught.value.layer == "y"
