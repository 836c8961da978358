"""Pooling against the real Keras."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import netferry
from netferry.runtime.session import Session
from tests.converters.keras.oracle import Case

PICTURE, SERIES, VOLUME, ANY = (9, 8, 4), (11, 4), (7, 6, 5, 2), (None, None, 4)


@pytest.mark.parametrize("kind", ["Max", "Average"])
@pytest.mark.parametrize(
    ("arguments", "shape"),
    [
        pytest.param("2D(2)", PICTURE, id="2"),
        pytest.param("2D(3, strides=2)", PICTURE, id="3-stride2"),
        pytest.param("2D(3, strides=2, padding='same')", PICTURE, id="same-stride2"),
        pytest.param("2D((3, 2), strides=1, padding='same')", PICTURE, id="same-stride1"),
        pytest.param("2D(2, padding='same')", PICTURE, id="same-2"),
        pytest.param("2D(2, strides=3)", PICTURE, id="stride-over-size"),
        pytest.param("2D(3, strides=2, padding='same')", ANY, id="dynamic-same"),
        pytest.param("2D(3, strides=2)", ANY, id="dynamic-valid"),
        pytest.param("1D(3)", SERIES, id="1d"),
        pytest.param("1D(3, strides=2, padding='same')", SERIES, id="1d-same"),
        pytest.param("1D(2, padding='same')", (None, 4), id="1d-dynamic"),
        pytest.param("3D(2)", VOLUME, id="3d"),
        pytest.param("3D(3, strides=2, padding='same')", VOLUME, id="3d-same"),
    ],
)
def test_windows(case: Case, kind: str, arguments: str, shape: tuple[int | None, ...]) -> None:
    case(f"L.{kind}Pooling{arguments}", shape)


@pytest.mark.parametrize("kind", ["Max", "Average"])
@pytest.mark.parametrize(
    ("arguments", "shape"),
    [
        pytest.param("2D()", PICTURE, id="2d"),
        pytest.param("2D(keepdims=True)", PICTURE, id="2d-keepdims"),
        pytest.param("2D()", ANY, id="2d-dynamic"),
        pytest.param("1D()", SERIES, id="1d"),
        pytest.param("1D(keepdims=True)", SERIES, id="1d-keepdims"),
        pytest.param("1D()", (None, 4), id="1d-dynamic"),
        pytest.param("3D()", VOLUME, id="3d"),
        pytest.param("3D(keepdims=True)", VOLUME, id="3d-keepdims"),
    ],
)
def test_everything(case: Case, kind: str, arguments: str, shape: tuple[int | None, ...]) -> None:
    case(f"L.Global{kind}Pooling{arguments}", shape)


@pytest.mark.parametrize("kind", ["Max", "Average"])
@pytest.mark.parametrize(
    ("arguments", "shape"),
    [
        pytest.param("2D(4)", (8, 8, 3), id="2d-whole"),
        pytest.param("2D((4, 3))", PICTURE, id="2d-overlapping"),
        pytest.param("1D(4)", SERIES, id="1d-overlapping"),
        pytest.param("3D(2)", VOLUME, id="3d"),
    ],
)
def test_adaptive(case3: Case, kind: str, arguments: str, shape: tuple[int | None, ...]) -> None:
    case3(f"L.Adaptive{kind}Pooling{arguments}", shape)


def test_masked_mean(case: Case) -> None:
    case("L.GlobalAveragePooling1D()(L.Embedding(9, 3, mask_zero=True)(x))", (7,), dtypes=("int32",), zeros=True, low=1)


@pytest.mark.parametrize("kind", ["Max", "Average"])
@pytest.mark.parametrize("arguments", ["(2, 1)", "3, strides=2, padding='same'", "1"])
def test_after_wide_padding(case: Case, kind: str, arguments: str) -> None:
    case(f"L.{kind}Pooling2D({arguments})(L.ZeroPadding2D(2)(x))", PICTURE)


def test_zero_padding_before_a_maximum_pads_with_zeros(tmp_path: Path) -> None:
    """Negative values everywhere: onnxruntime must not take the padding for -infinity."""
    layers = [
        {"class_name": "ZeroPadding2D", "config": {"name": "pad", "padding": [[1, 1], [1, 1]], "batch_input_shape": [None, 4, 4, 1]}},
        {"class_name": "MaxPooling2D", "config": {"name": "pool", "pool_size": [2, 2], "strides": [2, 2]}},
    ]  # fmt: skip
    config = {"class_name": "Sequential", "config": {"name": "net", "layers": layers}, "keras_version": "2.15.0"}
    (tmp_path / "net.json").write_text(json.dumps(config))
    netferry.convert(tmp_path / "net.json", tmp_path / "net.onnx", check="structure")
    session = Session(tmp_path / "net.onnx")
    got = next(iter(session.run({session.inputs[0].name: np.full((1, 4, 4, 1), -1, np.float32)}).values()))
    assert got.reshape(3, 3).tolist() == [[0, 0, 0], [0, -1, 0], [0, 0, 0]]
