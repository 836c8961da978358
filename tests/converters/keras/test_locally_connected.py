"""LocallyConnected layers against tf_keras: Keras 3 no longer has them."""

from __future__ import annotations

import pytest

from tests.converters.keras.oracle import Case


@pytest.mark.parametrize("form", [1, 2, 3])
@pytest.mark.parametrize("where", ["channels_last", "channels_first"])
@pytest.mark.parametrize(
    ("model", "shape"),
    [
        pytest.param("LocallyConnected1D(4, 3", (7, 2), id="1d"),
        pytest.param("LocallyConnected1D(4, 2, strides=2, use_bias=False", (7, 3), id="1d-strides"),
        pytest.param("LocallyConnected2D(3, (2, 3), activation='relu'", (5, 4, 2), id="2d"),
        pytest.param("LocallyConnected2D(3, 2, strides=(2, 1)", (5, 4, 2), id="2d-strides"),
    ],
)
def test_valid(case2: Case, model: str, shape: tuple[int, ...], form: int, where: str) -> None:
    turned = shape if where == "channels_last" else (shape[-1], *shape[:-1])
    case2(f"L.{model}, implementation={form}, data_format='{where}')", turned)


@pytest.mark.parametrize("form", [2, 3])
@pytest.mark.parametrize("where", ["channels_last", "channels_first"])
@pytest.mark.parametrize(
    ("model", "shape"),
    [
        pytest.param("LocallyConnected1D(4, 3", (7, 2), id="1d"),
        pytest.param("LocallyConnected1D(4, 4, strides=2", (7, 2), id="1d-even-kernel"),
        pytest.param("LocallyConnected2D(3, (2, 3), strides=(1, 2)", (5, 4, 2), id="2d"),
    ],
)
def test_same(case2: Case, model: str, shape: tuple[int, ...], form: int, where: str) -> None:
    turned = shape if where == "channels_last" else (shape[-1], *shape[:-1])
    case2(f"L.{model}, padding='same', implementation={form}, data_format='{where}')", turned)


def test_after_convolution(case2: Case) -> None:
    case2("L.Dense(3)(L.Flatten()(L.LocallyConnected2D(3, 2)(L.Conv2D(4, 2)(x))))", (6, 5, 2))
