"""TimeDistributed around layers and models, with and without masks."""

from __future__ import annotations

import pytest

from tests.converters.keras.oracle import Case

ROWS = [
    ("L.TimeDistributed(L.Dense(4))(x)", (5, 3)),
    ("L.TimeDistributed(L.Dense(4, activation='softmax'))(x)", (5, 2, 3)),
    ("L.TimeDistributed(L.Conv2D(2, 3, padding='same'))(x)", (3, 5, 6, 2)),
    ("L.TimeDistributed(L.Flatten())(L.TimeDistributed(L.Conv2D(2, 3))(x))", (3, 5, 6, 2)),
    ("L.TimeDistributed(L.BatchNormalization())(x)", (5, 3)),
    ("L.TimeDistributed(L.GlobalAveragePooling2D())(x)", (3, 5, 6, 2)),
    ("L.TimeDistributed(L.LSTM(4))(x)", (3, 5, 2)),
    ("L.TimeDistributed(L.Bidirectional(L.GRU(4, return_sequences=True)))(x)", (3, 5, 2)),
    ("L.LSTM(3)(L.TimeDistributed(L.MaxPooling1D(2))(x)[:, :, 0])", (3, 6, 2)),
    (
        "L.TimeDistributed(keras.Sequential([keras.Input((5, 2)), L.Conv1D(3, 2), L.Flatten(), L.Dense(2)]))(x)",
        (4, 5, 2),
    ),
]


@pytest.mark.parametrize("steps", [pytest.param(True, id="fixed"), pytest.param(False, id="dynamic")])
@pytest.mark.parametrize(("model", "shape"), [pytest.param(m, s, id=m) for m, s in ROWS])
def test_inner_layers(case: Case, model: str, shape: tuple[int, ...], steps: bool) -> None:
    if "[:" in model:
        pytest.skip("needs raw operations")
    if case.keras.generation == 2 and not steps and "Bidirectional" in model:
        pytest.skip("Keras 2 loses the shape")
    case(model, shape if steps else (None, *shape[1:]))


def test_mask_over_steps(case2: Case) -> None:
    """Sentences of words: the inner LSTM skips padded words, the outer one empty sentences (Keras 2)."""
    words = "L.TimeDistributed(L.Embedding(4, 3, mask_zero=True))(x)"
    case2(f"L.LSTM(2)(L.TimeDistributed(L.LSTM(5))({words}))", (4, 6), dtypes=("int32",), high=3)


def test_inner_model_with_mask(case: Case) -> None:
    inner = "keras.Sequential([keras.Input((6,)), L.Embedding(4, 3, mask_zero=True), L.LSTM(5)])"
    case(f"L.TimeDistributed({inner})(x)", (4, 6), dtypes=("int32",), high=3)


def test_mask_around(case2: Case) -> None:
    case2("L.LSTM(3)(L.TimeDistributed(L.Dense(4))(L.Masking()(x)))", (6, 3), zeros=True)
