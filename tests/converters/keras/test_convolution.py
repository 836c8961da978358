"""Convolutions of every kind against the real Keras, odd sizes, strides, dilation and dynamic space included."""

from __future__ import annotations

import pytest

from tests.converters.keras.oracle import Case

PICTURE, SERIES, VOLUME, ANY = (9, 8, 4), (11, 4), (7, 6, 5, 2), (None, None, 4)


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        pytest.param("L.Conv2D(6, 3)", PICTURE, id="valid"),
        pytest.param("L.Conv2D(6, (3, 2), padding='same')", PICTURE, id="same"),
        pytest.param("L.Conv2D(6, 3, strides=2, padding='same')", PICTURE, id="same-stride2-odd-and-even"),
        pytest.param("L.Conv2D(6, 2, strides=2, padding='same')", PICTURE, id="same-even-kernel"),
        pytest.param("L.Conv2D(6, 5, strides=(3, 2), padding='same')", PICTURE, id="same-stride3x2"),
        pytest.param("L.Conv2D(6, 1, strides=2, padding='same')", PICTURE, id="same-1x1-stride2"),
        pytest.param("L.Conv2D(6, 3, dilation_rate=2, padding='same')", PICTURE, id="dilated-same"),
        pytest.param("L.Conv2D(6, 3, dilation_rate=(1, 2))", PICTURE, id="dilated-valid"),
        pytest.param("L.Conv2D(6, 3, groups=2)", PICTURE, id="groups"),
        pytest.param("L.Conv2D(6, 3, use_bias=False)", PICTURE, id="no-bias"),
        pytest.param("L.Conv2D(6, 3, activation='relu')", PICTURE, id="activation"),
        pytest.param("L.Conv2D(6, 3, strides=2, padding='same')", ANY, id="dynamic-same-stride2"),
        pytest.param("L.Conv2D(6, 3, padding='same')", ANY, id="dynamic-same"),
        pytest.param("L.Conv2D(6, 3, dilation_rate=2, padding='same')", ANY, id="dynamic-dilated"),
        pytest.param("L.Conv2D(6, 3, strides=2)", (9, None, 4), id="dynamic-width"),
        pytest.param("L.Conv1D(6, 3)", SERIES, id="1d"),
        pytest.param("L.Conv1D(6, 3, strides=2, padding='same')", SERIES, id="1d-same-stride2"),
        pytest.param("L.Conv1D(6, 3, padding='causal')", SERIES, id="1d-causal"),
        pytest.param("L.Conv1D(6, 3, padding='causal', dilation_rate=2)", SERIES, id="1d-causal-dilated"),
        pytest.param("L.Conv1D(6, 4, padding='causal', strides=2)", SERIES, id="1d-causal-stride2"),
        pytest.param("L.Conv1D(6, 3, padding='causal')", (None, 4), id="1d-causal-dynamic"),
        pytest.param("L.Conv1D(6, 3, groups=2)", SERIES, id="1d-groups"),
        pytest.param("L.Conv3D(3, 3)", VOLUME, id="3d"),
        pytest.param("L.Conv3D(3, (2, 3, 2), strides=2, padding='same')", VOLUME, id="3d-same-stride2"),
        pytest.param("L.Conv3D(3, 2, dilation_rate=2)", VOLUME, id="3d-dilated"),
    ],
)
def test_conv(case: Case, model: str, shape: tuple[int | None, ...]) -> None:
    result = case(model, shape)
    assert result.operators.count("Transpose") <= 2


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        pytest.param("L.DepthwiseConv2D(3)", PICTURE, id="valid"),
        pytest.param("L.DepthwiseConv2D(3, depth_multiplier=2)", PICTURE, id="multiplier"),
        pytest.param("L.DepthwiseConv2D((3, 2), strides=(2, 2), padding='same')", PICTURE, id="same-stride2"),
        pytest.param("L.DepthwiseConv2D(3, dilation_rate=2, padding='same')", PICTURE, id="dilated"),
        pytest.param("L.DepthwiseConv2D(3, use_bias=False, activation='relu6')", PICTURE, id="no-bias-relu6"),
        pytest.param("L.DepthwiseConv2D(3, strides=2, padding='same')", ANY, id="dynamic"),
        pytest.param("L.DepthwiseConv1D(3, depth_multiplier=2)", SERIES, id="1d-multiplier"),
        pytest.param("L.DepthwiseConv1D(3, strides=2, padding='same')", SERIES, id="1d-same-stride2"),
        pytest.param("L.SeparableConv2D(5, 3)", PICTURE, id="separable"),
        pytest.param("L.SeparableConv2D(5, 3, depth_multiplier=3)", PICTURE, id="separable-multiplier"),
        pytest.param("L.SeparableConv2D(5, 3, strides=2, padding='same')", PICTURE, id="separable-same-stride2"),
        pytest.param("L.SeparableConv2D(5, 3, dilation_rate=2, use_bias=False)", PICTURE, id="separable-dilated"),
        pytest.param("L.SeparableConv1D(5, 3, padding='same')", SERIES, id="separable-1d"),
        pytest.param("L.SeparableConv1D(5, 3, strides=2, activation='tanh')", SERIES, id="separable-1d-stride2"),
    ],
)
def test_depthwise_and_separable(case: Case, model: str, shape: tuple[int | None, ...]) -> None:
    case(model, shape)


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        pytest.param("L.Conv2DTranspose(5, 3)", PICTURE, id="valid"),
        pytest.param("L.Conv2DTranspose(5, 3, strides=2)", PICTURE, id="valid-stride2"),
        pytest.param("L.Conv2DTranspose(5, 2, strides=3)", PICTURE, id="valid-stride-over-kernel"),
        pytest.param("L.Conv2DTranspose(5, 3, padding='same')", PICTURE, id="same"),
        pytest.param("L.Conv2DTranspose(5, 3, strides=2, padding='same')", PICTURE, id="same-stride2"),
        pytest.param("L.Conv2DTranspose(5, 4, strides=2, padding='same')", PICTURE, id="same-even-kernel"),
        pytest.param("L.Conv2DTranspose(5, 2, strides=3, padding='same')", PICTURE, id="same-stride-over-kernel"),
        pytest.param("L.Conv2DTranspose(5, 5, strides=(2, 3), padding='same')", PICTURE, id="same-stride2x3"),
        pytest.param(
            "L.Conv2DTranspose(5, 3, strides=2, padding='same', output_padding=1)", PICTURE, id="same-output-padding"
        ),
        pytest.param(
            "L.Conv2DTranspose(5, 3, strides=2, padding='same', output_padding=0)", PICTURE, id="same-output-padding0"
        ),
        pytest.param(
            "L.Conv2DTranspose(5, 3, strides=2, padding='valid', output_padding=1)", PICTURE, id="valid-output-padding"
        ),
        pytest.param("L.Conv2DTranspose(5, 3, use_bias=False, activation='relu')", PICTURE, id="no-bias"),
        pytest.param("L.Conv2DTranspose(5, 3, strides=2, padding='same')", ANY, id="dynamic"),
        pytest.param("L.Conv1DTranspose(5, 3, strides=2, padding='same')", SERIES, id="1d-same-stride2"),
        pytest.param("L.Conv1DTranspose(5, 4, strides=2)", SERIES, id="1d-valid"),
        pytest.param("L.Conv3DTranspose(3, 3, strides=2, padding='same')", VOLUME, id="3d-same-stride2"),
        pytest.param("L.Conv3DTranspose(3, 2)", VOLUME, id="3d-valid"),
    ],
)
def test_transposed(case: Case, model: str, shape: tuple[int | None, ...]) -> None:
    case(model, shape)


def test_causal_separable_of_keras2(case2: Case) -> None:
    case2("L.SeparableConv1D(5, 3, padding='causal')", SERIES)
