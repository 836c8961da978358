"""Layers computed or kept in other numbers than float32: half precision, bfloat16, int8 with scales."""

from __future__ import annotations

from pathlib import Path

import pytest

import netferry
from netferry.errors import UnsupportedOption
from tests.attacks.unusual_keras import CASES
from tests.converters.keras.oracle import Case

NET = (
    "L.Dense(3, dtype='float32')(L.GlobalAveragePooling2D(dtype='mixed_float16')(L.BatchNormalization("
    "dtype='mixed_float16')(L.Conv2D(4, 3, dtype='mixed_float16')(L.Rescaling(1 / 255., dtype='mixed_float16')(x)))))"
)


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        pytest.param(NET, (8, 8, 3), id="mixed-net"),
        pytest.param("L.Dense(4, dtype='mixed_bfloat16')(x)", (6,), id="mixed-bfloat16"),
        pytest.param("L.Dense(4, dtype='bfloat16')(x)", (6,), id="bfloat16"),
        pytest.param("L.Conv2D(4, 3, dtype='float16')(x)", (6, 6, 2), id="float16"),
        pytest.param("L.Dense(4, dtype='float64')(x)", (6,), id="float64"),
    ],
)
def test_precisions(case: Case, model: str, shape: tuple[int, ...]) -> None:
    """Computed in float32 by us: as far from Keras as its own half precision is from that."""
    case(model, shape, tolerance=3e-2)


def quantized(model: str, way: str = "int8") -> str:
    return f"(lambda m: (m.quantize({way!r}), m)[1])(keras.Model(x, {model}))"


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        pytest.param("L.Dense(4, activation='relu')(x)", (6,), id="dense"),
        pytest.param("L.Dense(4, use_bias=False)(x)", (5, 6), id="dense-of-steps"),
        pytest.param("L.Dense(4)(L.Conv2D(6, 3)(x))", (6, 5, 2), id="dense-of-picture"),
        pytest.param("L.Dense(4)(L.Flatten()(L.Conv2D(6, 3)(x)))", (6, 5, 2), id="dense-of-flat"),
        pytest.param("L.EinsumDense('abc,cd->abd', output_shape=(None, 5), bias_axes='d')(x)", (4, 6), id="einsum"),
        pytest.param("L.EinsumDense('abc,cde->abde', output_shape=(None, 2, 3), bias_axes='de')(x)", (4, 6), id="heads"),
        pytest.param("L.EinsumDense('abcd,cde->abe', output_shape=(None, 5))(x)", (4, 2, 3), id="joined-heads"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kinds", [("keras",), ("h5",)], ids=["keras", "h5"])
def test_int8(case3: Case, model: str, shape: tuple[int, ...], kinds: tuple[str, ...]) -> None:
    case3(quantized(model), shape, counts=False, kinds=kinds)


def test_int8_embedding(case3: Case) -> None:
    model = quantized("L.LSTM(3)(L.Embedding(9, 4, mask_zero=True)(x))")
    case3(model, (5,), dtypes=("int32",), counts=False, kinds=("keras",))


@pytest.mark.parametrize(
    ("model", "way"),
    [
        pytest.param("L.Dense(4)(x)", "int4", id="int4"),
        pytest.param("L.Dense(4)(x)", "float8", id="float8"),
        pytest.param("L.MultiHeadAttention(2, 3)(x, x)", "int8", id="attention"),
    ],
)
def test_others_are_refused(case3: Case, model: str, way: str) -> None:
    with pytest.raises(UnsupportedOption, match=f"quantized to {way}"):
        case3(quantized(model, way), (4, 6), counts=False, kinds=("keras",))


@pytest.mark.parametrize(("name", "told"), [("double", 1), ("plain", 0)])
def test_weights_of_64_bits_are_rounded_in_words(name: str, told: int, tmp_path: Path) -> None:
    files, _ = CASES[name](tmp_path)
    notes = [note.message for note in netferry.load(*files).notes]
    assert sum("64 bits are rounded to 32" in note for note in notes) == told
