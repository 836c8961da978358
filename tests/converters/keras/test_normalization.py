"""Normalisations and scaling against the real Keras."""

from __future__ import annotations

import pytest

from tests.converters.keras.oracle import Case

PICTURE, SERIES = (5, 4, 6), (7, 6)
CONV = "L.Conv2D(6, 2)(x)"


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        pytest.param("L.BatchNormalization()", PICTURE, id="bn"),
        pytest.param("L.BatchNormalization()", (6,), id="bn-vector"),
        pytest.param("L.BatchNormalization()", SERIES, id="bn-series"),
        pytest.param("L.BatchNormalization(axis=1)", PICTURE, id="bn-axis1"),
        pytest.param("L.BatchNormalization(axis=2)", PICTURE, id="bn-axis2"),
        pytest.param("L.BatchNormalization(scale=False)", PICTURE, id="bn-no-scale"),
        pytest.param("L.BatchNormalization(center=False, epsilon=0.1)", PICTURE, id="bn-no-center"),
        pytest.param("L.BatchNormalization(scale=False, center=False)", PICTURE, id="bn-neither"),
        pytest.param(f"L.BatchNormalization()({CONV})", PICTURE, id="bn-after-conv"),
        pytest.param(f"L.BatchNormalization(axis=1)({CONV})", PICTURE, id="bn-axis1-after-conv"),
        pytest.param("L.LayerNormalization()", PICTURE, id="ln"),
        pytest.param("L.LayerNormalization()", (None, 6), id="ln-dynamic"),
        pytest.param("L.LayerNormalization(axis=[1, 2])", SERIES, id="ln-two-axes"),
        pytest.param("L.LayerNormalization(axis=1)", PICTURE, id="ln-axis1"),
        pytest.param("L.LayerNormalization(scale=False, epsilon=0.01)", PICTURE, id="ln-no-scale"),
        pytest.param("L.LayerNormalization(center=False)", PICTURE, id="ln-no-center"),
        pytest.param(f"L.LayerNormalization()({CONV})", PICTURE, id="ln-after-conv"),
        pytest.param(f"L.LayerNormalization(axis=[1, 2, 3])({CONV})", PICTURE, id="ln-all-after-conv"),
        pytest.param("L.GroupNormalization(3)", PICTURE, id="gn"),
        pytest.param("L.GroupNormalization(-1)", PICTURE, id="gn-instance"),
        pytest.param("L.GroupNormalization(1)", PICTURE, id="gn-one"),
        pytest.param("L.GroupNormalization(2)", (6,), id="gn-vector"),
        pytest.param("L.GroupNormalization(2, axis=1)", (4, 6), id="gn-axis1"),
        pytest.param("L.GroupNormalization(3, scale=False, center=False)", SERIES, id="gn-plain"),
        pytest.param(f"L.GroupNormalization(2)({CONV})", PICTURE, id="gn-after-conv"),
        pytest.param("L.UnitNormalization()", PICTURE, id="unit"),
        pytest.param("L.UnitNormalization(axis=[1, 2])", SERIES, id="unit-two-axes"),
        pytest.param(f"L.UnitNormalization()({CONV})", PICTURE, id="unit-after-conv"),
        pytest.param("L.SpectralNormalization(L.Dense(4))", (6,), id="spectral-dense"),
        pytest.param("L.SpectralNormalization(L.Conv2D(4, 3))", PICTURE, id="spectral-conv"),
        pytest.param("L.Rescaling(1 / 127.5, offset=-1)", PICTURE, id="rescaling"),
        pytest.param("L.Rescaling(scale=[1., 2., 3., 4., 5., 6.], offset=[0., 1., 2., 3., 4., 5.])", PICTURE, id="rescaling-vector"),
        pytest.param(f"L.Rescaling(0.5, offset=1)({CONV})", PICTURE, id="rescaling-after-conv"),
        pytest.param("L.Normalization(mean=2.0, variance=4.0)", PICTURE, id="normalization-given"),
        pytest.param("L.Normalization(mean=[1., 2., 3., 4., 5., 6.], variance=[1., 2., 3., 4., 5., 6.])", PICTURE, id="normalization-vector"),
        pytest.param("L.Normalization()", PICTURE, id="normalization-adapted"),
        pytest.param("L.Normalization(axis=1)", PICTURE, id="normalization-axis1"),
        pytest.param("L.Normalization(axis=None)", PICTURE, id="normalization-no-axis"),
        pytest.param("L.Normalization(axis=(1, 3))", PICTURE, id="normalization-two-axes"),
        pytest.param("L.Normalization(invert=True)", PICTURE, id="normalization-inverse"),
    ],
)  # fmt: skip
def test_normalization(case: Case, model: str, shape: tuple[int | None, ...]) -> None:
    counts = "L.Normalization" not in model and "Spectral" not in model
    case(model, shape, counts=counts)


@pytest.mark.parametrize(
    "model",
    [
        pytest.param("L.RMSNormalization()", id="rms"),
        pytest.param("L.RMSNormalization(axis=[2, 3], epsilon=0.01)", id="rms-two-axes"),
        pytest.param(f"L.RMSNormalization()({CONV})", id="rms-after-conv"),
        pytest.param("L.LayerNormalization(rms_scaling=True)", id="ln-over-the-deviation-alone"),
    ],
)
def test_rms(case3: Case, model: str) -> None:
    case3(model, PICTURE)


def test_whole_numbers_are_scaled_as_floats(case: Case) -> None:
    case("L.Rescaling(1 / 255.)", PICTURE, dtypes=("uint8",), high=255)


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        pytest.param("L.BatchNormalization(axis=[1, 3])(x)", (4, 5, 3), id="rows-and-channels"),
        pytest.param("L.BatchNormalization(axis=[-1, 1], scale=False)(L.Conv2D(3, 2)(x))", (4, 5, 3), id="after-conv"),
        pytest.param("L.BatchNormalization(axis=[1, 2], center=False)(x)", (4, 3), id="whole"),
    ],
)
def test_batch_normalization_over_axes(case2: Case, model: str, shape: tuple[int, ...]) -> None:
    case2(model, shape)
