"""ConvLSTM of one to three dimensions against both generations of Keras."""

from __future__ import annotations

import pytest

from tests.converters.keras.oracle import Case

ROWS = [
    ("ConvLSTM1D(2, 3)", (4, 7, 3)),
    ("ConvLSTM1D(2, 2, padding='same', return_sequences=True, strides=2)", (4, 7, 3)),
    ("ConvLSTM2D(3, 3, padding='same', return_sequences=True)", (4, 5, 6, 2)),
    ("ConvLSTM2D(3, (3, 2), return_sequences=True, return_state=True)", (None, 5, 6, 2)),
    ("ConvLSTM2D(3, (2, 3), padding='same', strides=(2, 1), go_backwards=True, return_sequences=True)", (4, 5, 6, 2)),
    ("ConvLSTM2D(3, 3, dilation_rate=2, padding='same', use_bias=False)", (4, 7, 6, 2)),
    ("ConvLSTM2D(3, 3, padding='same', recurrent_activation='hard_sigmoid', activation='relu')", (4, 5, 6, 2)),
    ("ConvLSTM3D(2, 2, padding='same', return_sequences=True)", (3, 3, 4, 2, 2)),
    ("Bidirectional(L.ConvLSTM2D(2, 3, padding='same', return_sequences=True))", (3, 5, 4, 2)),
    ("Bidirectional(L.ConvLSTM2D(2, 3, return_state=True), merge_mode='sum')", (3, 5, 4, 2)),
]


@pytest.mark.parametrize(("layer", "shape"), [pytest.param(e, s, id=e) for e, s in ROWS])
def test_layers(case: Case, layer: str, shape: tuple[int | None, ...]) -> None:
    made = case(f"L.{layer}", shape)
    assert made.operators.count("Scan") == (2 if "Bidirectional" in layer else 1)
    assert "Loop" not in made.operators


def test_permute_reshape(case: Case) -> None:
    """The peers' model: a Loop in theirs."""
    model = "L.ConvLSTM2D(2, 3, padding='same')(L.Reshape((4, 5, 6, 1))(L.Permute((2, 1))(x)))"
    assert "Loop" not in case(model, (30, 4)).operators


@pytest.mark.parametrize("layer", ["return_sequences=True", "return_state=True, go_backwards=True"])
def test_masks(case: Case, layer: str) -> None:
    """A mask over time that comes from elsewhere."""
    model = f"L.ConvLSTM2D(2, 3, {layer})(xs[0], mask=xs[1])"
    case(model, (5, 5, 4, 2), (5,), dtypes=("float32", "bool"))


def test_initial_state(case: Case) -> None:
    model = "L.ConvLSTM2D(2, 3, padding='same', return_sequences=True)(xs[0], initial_state=[xs[1], xs[2]])"
    case(model, (3, 5, 4, 2), (5, 4, 2), (5, 4, 2))


def test_dynamic_space(case2: Case) -> None:
    """Keras 3 refuses it."""
    case2("L.ConvLSTM2D(3, 3, padding='same', return_state=True)", (3, None, None, 2))
