"""Reshaping, padding, cropping, enlarging against the real Keras, before and after convolutions."""

from __future__ import annotations

import pytest

from tests.converters.keras.oracle import Case

PICTURE, SERIES, VOLUME, ANY = (6, 4, 8), (6, 8), (4, 6, 5, 2), (None, None, 4)
CONV = "L.Conv2D(8, 1)(x)"


@pytest.mark.parametrize(
    ("model", "shape", "transposes"),
    [
        pytest.param("L.Reshape((4, 6, 8))", PICTURE, 0, id="plain"),
        pytest.param("L.Reshape((-1, 8))", PICTURE, 0, id="infer"),
        pytest.param("L.Reshape((24, 8))", PICTURE, 0, id="join-space"),
        pytest.param(f"L.Reshape((24, 8))({CONV})", PICTURE, 2, id="conv-join-space"),
        pytest.param(f"L.Reshape((-1,))({CONV})", PICTURE, 2, id="conv-flat"),
        pytest.param(f"L.Reshape((6, 4, 2, 4))({CONV})", PICTURE, 2, id="conv-split-channels"),
        pytest.param(f"L.Reshape((3, 2, 4, 8))({CONV})", PICTURE, 2, id="conv-split-height"),
        pytest.param(f"L.Reshape((8, 6, 4))({CONV})", PICTURE, 2, id="conv-scrambled"),
        pytest.param("L.Conv2D(4, 1)(L.Reshape((6, 4, 8))(L.Permute((1, 2, 4, 3))(L.Reshape((6, 4, 2, 4))(L.Conv2D(8, 1)(x)))))",
                     PICTURE, 3, id="channel-shuffle"),
        pytest.param("L.Multiply()([x, L.Conv2D(8, 1)(L.Reshape((1, 1, 8))(L.GlobalAveragePooling2D()(x)))])", PICTURE, 2,
                     id="squeeze-and-excite"),
        pytest.param("L.Reshape((-1, 4))", (None, None, 4), 0, id="dynamic"),
        pytest.param("L.Reshape((-1, 4))(L.Conv2D(4, 1)(x))", (None, None, 4), 2, id="dynamic-conv"),
        pytest.param("L.Permute((2, 1))", SERIES, 1, id="permute"),
        pytest.param(f"L.Permute((3, 1, 2))({CONV})", PICTURE, 1, id="permute-to-channels-first"),
        pytest.param(f"L.Permute((2, 1, 3))({CONV})", PICTURE, 2, id="permute-space"),
        pytest.param("L.Conv2D(4, 2)(L.Permute((2, 1, 3))(L.Conv2D(8, 2)(x)))", PICTURE, 3, id="permute-between-convs"),
        pytest.param("L.RepeatVector(3)", (5,), 0, id="repeat"),
        pytest.param("L.Flatten()", PICTURE, 0, id="flatten"),
        pytest.param("L.Flatten()", (5,), 0, id="flatten-vector"),
        pytest.param("L.Flatten()", (None, 3), 0, id="flatten-dynamic"),
        pytest.param("L.Flatten(data_format='channels_first')", PICTURE, 1, id="flatten-channels-first"),
        pytest.param("L.ZeroPadding2D()", PICTURE, 0, id="pad"),
        pytest.param("L.ZeroPadding2D(((1, 2), (0, 3)))", PICTURE, 0, id="pad-uneven"),
        pytest.param(f"L.ZeroPadding2D((1, 2))({CONV})", PICTURE, 2, id="pad-after-conv"),
        pytest.param("L.ZeroPadding2D(2)", ANY, 0, id="pad-dynamic"),
        pytest.param("L.ZeroPadding1D((1, 3))", SERIES, 0, id="pad-1d"),
        pytest.param("L.ZeroPadding1D(2)", SERIES, 0, id="pad-1d-even"),
        pytest.param("L.ZeroPadding3D(((1, 0), (2, 1), (0, 1)))", VOLUME, 0, id="pad-3d"),
        pytest.param("L.Cropping2D(1)", PICTURE, 0, id="crop"),
        pytest.param("L.Cropping2D(((1, 2), (0, 1)))", PICTURE, 0, id="crop-uneven"),
        pytest.param(f"L.Cropping2D(((1, 2), (0, 1)))({CONV})", PICTURE, 2, id="crop-after-conv"),
        pytest.param("L.Cropping2D(1)", ANY, 0, id="crop-dynamic"),
        pytest.param("L.Cropping1D((1, 2))", SERIES, 0, id="crop-1d"),
        pytest.param("L.Cropping3D(1)", VOLUME, 0, id="crop-3d"),
        pytest.param("L.UpSampling2D()", PICTURE, 2, id="up"),
        pytest.param("L.UpSampling2D((2, 3))", PICTURE, 2, id="up-uneven"),
        pytest.param("L.UpSampling2D(2, interpolation='bilinear')", PICTURE, 2, id="up-bilinear"),
        pytest.param("L.UpSampling2D((3, 2), interpolation='bilinear')", PICTURE, 2, id="up-bilinear-uneven"),
        pytest.param("L.UpSampling2D(2, interpolation='bicubic')", PICTURE, 2, id="up-bicubic"),
        pytest.param("L.UpSampling2D(2)", ANY, 2, id="up-dynamic"),
        pytest.param("L.UpSampling2D(2, interpolation='bilinear')", ANY, 2, id="up-bilinear-dynamic"),
        pytest.param("L.UpSampling1D(3)", SERIES, 2, id="up-1d"),
        pytest.param("L.UpSampling3D(2)", VOLUME, 2, id="up-3d"),
    ],
)  # fmt: skip
def test_reshaping(case: Case, model: str, shape: tuple[int | None, ...], transposes: int) -> None:
    assert case(model, shape).operators.count("Transpose") <= transposes


@pytest.mark.parametrize("kind", ["nearest", "bilinear", "bicubic", "lanczos3", "lanczos5", "area"])
def test_enlarging_three_times(case: Case, kind: str) -> None:
    case(f"L.UpSampling2D(3, interpolation='{kind}')", PICTURE)


def test_enlarging_pictures_of_any_size_three_times(case: Case) -> None:
    """TensorFlow takes cubic coefficients from a table of 1024 steps, so thirds of a pixel differ."""
    case("L.UpSampling2D(3, interpolation='bicubic')", ANY, tolerance=2e-3)
