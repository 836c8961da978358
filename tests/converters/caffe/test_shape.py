"""Reshape, Flatten, Crop, Permute, Transpose, Reverse, ShuffleChannel and Reorg against NumPy and OpenCV."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from netferry.converters.caffe.prototxt import parse
from netferry.converters.caffe.read import read
from netferry.converters.caffe.registry import Layer, NeedsFixedBatch
from netferry.converters.options import Limits, ReadOptions
from netferry.errors import LimitExceeded, NetferryError
from tests.converters.caffe.conformance import Runner
from tests.converters.caffe.single import convert, opencv, outputs, read_alone, seeded
from tests.converters.caffe.test_elementwise import layer, once

X = seeded(2, 12, 4, 6)


def shaped(dims: str, more: str = "") -> str:
    inner = " ".join(f"dim: {d}" for d in dims.split())
    return layer("Reshape", f"reshape_param {{ shape {{ {inner} }} {more} }}")


@pytest.mark.parametrize(
    ("text", "want"),
    [
        pytest.param(shaped("0 -1"), (2, 288), id="copy-infer"),
        pytest.param(shaped("0 0 24"), (2, 12, 24), id="copies"),
        pytest.param(shaped("0 2 0 -1"), (2, 2, 4, 36), id="copies-by-place"),
        pytest.param(shaped("0 0 -1 2 6"), (2, 12, 2, 2, 6), id="infer-inside"),
        pytest.param(shaped("-1 24"), (24, 24), id="batch-merged"),
        pytest.param(shaped("-1 12 24"), (2, 12, 24), id="batch-inferred"),
        pytest.param(shaped("2 12 24"), (2, 12, 24), id="batch-as-a-number"),
        pytest.param(shaped("2 -1"), (2, 288), id="batch-as-a-number-infer"),
        pytest.param(shaped("3 4", "axis: 1 num_axes: 1"), (2, 3, 4, 4, 6), id="axis-span"),
        pytest.param(shaped("1", "axis: 1 num_axes: 0"), (2, 1, 12, 4, 6), id="inserted"),
        pytest.param(shaped("1", "axis: -1 num_axes: 0"), (2, 12, 4, 6, 1), id="inserted-at-the-end"),
        pytest.param(shaped("-1", "axis: -3"), (2, 12, 24), id="negative-axis"),
        pytest.param(shaped("-1", "axis: 1"), (2, 288), id="from-axis"),
        pytest.param(layer("Flatten"), (2, 288), id="flatten"),
        pytest.param(layer("Flatten", "flatten_param { axis: 2 }"), (2, 12, 24), id="flatten-axis"),
        pytest.param(layer("Flatten", "flatten_param { axis: 0 end_axis: 1 }"), (24, 4, 6), id="flatten-batch"),
        pytest.param(layer("Flatten", "flatten_param { axis: -3 end_axis: -2 }"), (2, 48, 6), id="flatten-negative"),
        pytest.param(layer("Flatten", "flatten_param { axis: 3 }"), (2, 12, 4, 6), id="flatten-one"),
        pytest.param(layer("Flatten", "flatten_param { axis: 2 end_axis: 1 }"), (2, 12, 1, 4, 6), id="flatten-none"),
    ],
)
def test_same_values_in_another_shape(tmp_path: Path, text: str, want: tuple[int, ...]) -> None:
    got = outputs(tmp_path, text, {"x": X})["y"]
    np.testing.assert_array_equal(got, X.reshape(want))


@pytest.mark.parametrize(
    ("text", "dims"),
    [
        pytest.param(shaped("4 -1"), [2, 12, 4, 6], id="fits-two-items-only"),
        pytest.param(shaped("-1 64"), [2, 12, 4, 6], id="divides-for-two-only"),
        pytest.param(shaped("0 -1"), ["batch", 12, 4, 6], id="free"),
        pytest.param(shaped("-1 2 6"), ["batch", 12, 4, 6], id="free-merged"),
        pytest.param(shaped("2 -1"), ["batch", 12, 4, 6], id="free-by-number"),
    ],
)
def test_which_reshapes_fix_the_batch(tmp_path: Path, text: str, dims: list[object]) -> None:
    assert Runner(convert(tmp_path, text, {"x": X})).dims == {"x": dims}


@pytest.mark.parametrize(
    ("settings", "shape", "index"),
    [
        pytest.param("", (2, 3, 2, 4), np.s_[:, :, :2, :4], id="default"),
        pytest.param("offset: 1", (2, 1, 3, 5), np.s_[:, :, 1:, 1:], id="one-offset"),
        pytest.param("axis: 1 offset: 5 offset: 0 offset: 2", (2, 4, 4, 3), np.s_[:, 5:9, :, 2:5], id="offsets"),
        pytest.param("axis: -1 offset: 2", (2, 1, 1, 3), np.s_[..., 2:5], id="last"),
        pytest.param(
            "axis: 0 offset: 0 offset: 1 offset: 1 offset: 1", (2, 6, 2, 2), np.s_[:, 1:7, 1:3, 1:3], id="all"
        ),
        pytest.param("", (2, 3, 4, 6), np.s_[:], id="nothing-to-cut"),
        pytest.param("offset: 1 offset: 0", (2, 3, 3, 6, 7), np.s_[:, :, 1:], id="reference-of-more-axes"),
    ],
)
def test_crop(tmp_path: Path, settings: str, shape: tuple[int, ...], index: tuple[slice, ...]) -> None:
    text = layer("Crop", f"crop_param {{ {settings} }}", "x ref")
    got = outputs(tmp_path, text, {"x": X, "ref": seeded(*shape)})["y"]
    np.testing.assert_array_equal(got, X[index])


def test_crop_to_a_size_known_at_run_time() -> None:
    one = one_layer(layer("Crop", "crop_param { offset: 1 offset: 0 }", "x ref"))
    runner = read_alone(one, ["batch", 3, "h", "w"], ["batch", 1, "h2", 4])
    x = seeded(2, 3, 7, 9)
    got = runner.run({"x": x, "x_1": seeded(2, 1, 5, 4)})["y"]
    np.testing.assert_array_equal(got, x[:, :, 1:6, :4])


def one_layer(text: str) -> Layer:
    message = parse(text, limits=Limits()).messages("layer")[0]
    return Layer(message.text("name"), message.text("type"), message, message.texts("bottom"), message.texts("top"))


@pytest.mark.parametrize(
    ("text", "want"),
    [
        pytest.param(shaped("0 0 -1"), (2, 3, 35), id="copy-infer"),
        pytest.param(layer("Flatten"), (2, 105), id="flatten"),
        pytest.param(layer("Flatten", "flatten_param { axis: 0 end_axis: 2 }"), (30, 7), id="flatten-front"),
    ],
)
def test_dynamic_planes(text: str, want: tuple[int, ...]) -> None:
    x = seeded(2, 3, 5, 7)
    got = read_alone(one_layer(text), ["batch", 3, "h", 7]).run({"x": x})["y"]
    np.testing.assert_array_equal(got, x.reshape(want))


def test_an_axis_of_unknown_size_stays_where_it_is(tmp_path: Path) -> None:
    text = layer("Concat", "concat_param { axis: 0 }", "x x", "c").replace('"y"', '"c"', 1) + shaped("0 3 -1")
    runner = Runner(convert(tmp_path, text.replace('bottom: "x" top: "y"', 'bottom: "c" top: "y"'), {"x": X}))
    assert runner.dims == {"x": ["batch", 12, 4, 6]}
    np.testing.assert_array_equal(runner.run({"x": X[:1]})["y"], np.concatenate([X[:1]] * 2).reshape(2, 3, 96))


def test_a_dynamic_plane_that_moves_is_refused() -> None:
    with pytest.raises(NeedsFixedBatch):
        read_alone(one_layer(shaped("0 -1 2")), ["batch", 3, "h", "w"])


@pytest.mark.parametrize(
    ("text", "want"),
    [
        pytest.param(
            layer("Permute", "permute_param { order: 0 order: 2 order: 3 order: 1 }"), X.transpose(0, 2, 3, 1), id="ssd"
        ),
        pytest.param(
            layer("Permute", "permute_param { order: 0 order: 3 }"), X.transpose(0, 3, 1, 2), id="rest-follows"
        ),
        pytest.param(layer("Permute"), X, id="none"),
        pytest.param(
            layer("Transpose", "transpose_param { dim: 0 dim: 3 dim: 2 dim: 1 }"), X.transpose(0, 3, 2, 1), id="plain"
        ),
        pytest.param(
            layer("Transpose", "transpose_param { dim { dim: 0 dim: 2 dim: 1 dim: 3 } }"),
            X.transpose(0, 2, 1, 3),
            id="nested",
        ),
        pytest.param(
            layer("Transpose", "transpose_param { order: 0 order: 1 order: 3 order: 2 }"), X.swapaxes(2, 3), id="order"
        ),
        pytest.param(layer("Reverse", "reverse_param { axis: 2 }"), X[:, :, ::-1], id="reverse"),
        pytest.param(layer("Reverse", "reverse_param { axis: 1 axis: 3 }"), X[:, ::-1, :, ::-1], id="reverse-two"),
    ],
)
def test_orders(tmp_path: Path, text: str, want: np.ndarray) -> None:
    np.testing.assert_array_equal(outputs(tmp_path, text, {"x": X})["y"], want)


def test_reverse_of_time_and_of_the_batch(tmp_path: Path) -> None:
    np.testing.assert_array_equal(once(tmp_path, layer("Reverse"), {"x": X})["y"], X[::-1])
    got = once(tmp_path, layer("Permute", "permute_param { order: 3 }"), {"x": X})["y"]
    np.testing.assert_array_equal(got, X.transpose(3, 0, 1, 2))


@pytest.mark.parametrize("shape", [(2, 12, 4, 6), (2, 12, 5), (2, 12)], ids=str)
@pytest.mark.parametrize("groups", [1, 2, 3, 4, 12])
def test_shuffle_channel(tmp_path: Path, groups: int, shape: tuple[int, ...]) -> None:
    x = seeded(*shape)
    got = outputs(tmp_path, layer("ShuffleChannel", f"shuffle_channel_param {{ group: {groups} }}"), {"x": x})["y"]
    want = x.reshape(2, groups, 12 // groups, -1).swapaxes(1, 2).reshape(shape)
    np.testing.assert_array_equal(got, want)


def reorg_cpu(x: np.ndarray, stride: int, reverse: bool) -> np.ndarray:
    """The loops of Darknet's reorg_cpu, for one map, with the size of its input."""
    c, h, w = x.shape
    thin = c // stride**2
    flat, out = x.ravel(), np.zeros(x.size, np.float32)
    for k in range(c):
        for j in range(h):
            for i in range(w):
                near = i + w * (j + h * k)
                offset, c2 = divmod(k, thin)
                w2, h2 = i * stride + offset % stride, j * stride + offset // stride
                far = w2 + w * stride * (h2 + h * stride * c2)
                if reverse:
                    out[far] = flat[near]
                else:
                    out[near] = flat[far]
    if reverse:
        return out.reshape(thin, h * stride, w * stride)
    return out.reshape(c * stride**2, h // stride, w // stride)


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize(("stride", "shape"), [(2, (2, 12, 4, 6)), (2, (2, 4, 2, 2)), (3, (1, 18, 6, 3))], ids=str)
def test_reorg(tmp_path: Path, stride: int, shape: tuple[int, ...], reverse: bool) -> None:
    x = seeded(*shape)
    text = layer("Reorg", f"reorg_param {{ stride: {stride} reverse: {int(reverse)} }}")
    got = outputs(tmp_path, text, {"x": x})["y"]
    np.testing.assert_array_equal(got, np.stack([reorg_cpu(item, stride, reverse) for item in x]))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(shaped("0 4 -1"), id="reshape"),
        pytest.param(layer("Flatten", "flatten_param { axis: 1 end_axis: 2 }"), id="flatten"),
        pytest.param(layer("Permute", "permute_param { order: 0 order: 2 order: 3 order: 1 }"), id="permute"),
        pytest.param(layer("ShuffleChannel", "shuffle_channel_param { group: 3 }"), id="shuffle"),
    ],
)
def test_opencv_agrees(tmp_path: Path, text: str) -> None:
    np.testing.assert_array_equal(outputs(tmp_path, text, {"x": X})["y"], opencv(tmp_path, text, {"x": X}))


def test_an_input_beyond_caffe_is_refused(tmp_path: Path) -> None:
    dims = "dim: 2 " + "dim: 2147483647 " * 3
    (tmp_path / "net.prototxt").write_text(
        f'layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ {dims} }} }} }} {layer("Flatten")}'
    )
    with pytest.raises(LimitExceeded):
        read(tmp_path / "net.prototxt", ReadOptions())


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(layer("Reshape"), id="reshape-to-nothing"),
        pytest.param(shaped("0 7 -1"), id="reshape-count"),
        pytest.param(shaped("0 12 25"), id="reshape-too-many"),
        pytest.param(shaped("0 -1 -1"), id="two-inferred"),
        pytest.param(shaped("0 -2"), id="below"),
        pytest.param(shaped("0 -1 0 0 0"), id="copy-beyond"),
        pytest.param(shaped("-1", "axis: 6"), id="reshape-axis"),
        pytest.param(shaped("-1", "axis: -6"), id="reshape-negative-axis"),
        pytest.param(shaped("-1", "axis: 1 num_axes: 5"), id="reshape-num-axes"),
        pytest.param(shaped("0 2147483647 2147483647 -1"), id="vast"),
        pytest.param(layer("Flatten", "flatten_param { axis: 4 }"), id="flatten-axis"),
        pytest.param(layer("Flatten", "flatten_param { axis: 3 end_axis: 1 }"), id="flatten-turned"),
        pytest.param(layer("Permute", "permute_param { order: 0 order: 0 }"), id="permute-twice"),
        pytest.param(layer("Permute", "permute_param { order: 4 }"), id="permute-beyond"),
        pytest.param(layer("Transpose"), id="transpose-nothing"),
        pytest.param(layer("Transpose", "transpose_param { dim: 0 dim: 1 }"), id="transpose-half"),
        pytest.param(layer("Reverse", "reverse_param { axis: 4 }"), id="reverse-axis"),
        pytest.param(layer("Crop", "crop_param { axis: 4 }", "x x"), id="crop-axis"),
        pytest.param(layer("Crop", "crop_param { offset: 1 }", "x x"), id="crop-beyond"),
        pytest.param(layer("Crop", "crop_param { offset: 0 offset: 0 offset: 0 }", "x x"), id="crop-offsets"),
        pytest.param(layer("Crop", "crop_param { offset: -1 }", "x x"), id="crop-before"),
        pytest.param(layer("Crop", ""), id="crop-alone"),
        pytest.param(layer("ShuffleChannel", "shuffle_channel_param { group: 5 }"), id="shuffle-uneven"),
        pytest.param(layer("ShuffleChannel", "shuffle_channel_param { group: 0 }"), id="shuffle-zero"),
        pytest.param(layer("ShuffleChannel"), id="shuffle-nothing"),
        pytest.param(layer("Reorg", "reorg_param { stride: 3 }"), id="reorg-uneven"),
        pytest.param(layer("Reorg", "reorg_param { stride: 0 }"), id="reorg-zero"),
        pytest.param(layer("Reorg", "reorg_param { stride: 2147483647 }"), id="reorg-vast"),
    ],
)
def test_refuses(tmp_path: Path, text: str) -> None:
    with pytest.raises(NetferryError) as caught:
        convert(tmp_path, text, {"x": X})
    assert caught.value.layer == "y"
