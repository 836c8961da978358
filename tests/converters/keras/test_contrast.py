"""Contrast layers, which act at inference too, against Keras 3."""

from __future__ import annotations

import pytest

from tests.converters.keras.oracle import Case

PICTURE = (13, 10, 3)


@pytest.mark.parametrize(
    "model",
    [
        pytest.param("L.AutoContrast()", id="bytes"),
        pytest.param("L.AutoContrast(value_range=(-150, 200))", id="range"),
        pytest.param("L.AutoContrast(value_range=(0, 1))(x * 0)", id="one-value"),
        pytest.param("L.AutoContrast()(L.Conv2D(3, 2)(x))", id="after-conv"),
    ],
)
def test_auto_contrast(case3: Case, model: str) -> None:
    case3(model, PICTURE, scale=200.0)


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param("tile_grid_size=(2, 2)", id="tiles-that-do-not-fit"),
        pytest.param("tile_grid_size=(13, 5)", id="tiles-that-fit"),
        pytest.param("tile_grid_size=(3, 4), clip_limit=0", id="no-limit"),
        pytest.param("tile_grid_size=(3, 4), clip_limit=40.", id="limit"),
        pytest.param("tile_grid_size=(2, 3), value_range=(-200, 200)", id="range"),
        pytest.param("tile_grid_size=(2, 1), data_format='channels_first'", id="channels-first"),
    ],
)
def test_clahe(case3: Case, arguments: str) -> None:
    shape = (3, 13, 10) if "channels_first" in arguments else PICTURE
    case3(f"L.ContrastLimitedAdaptiveHistogramEqualization({arguments})", shape, scale=200.0)


def test_max_num_bounding_boxes(case3: Case) -> None:
    case3("L.MaxNumBoundingBoxes(4)", PICTURE)
