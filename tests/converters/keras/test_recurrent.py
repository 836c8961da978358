"""LSTM, GRU, SimpleRNN and RNN around cells, against both generations of Keras."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from netferry.converters.keras.read import read
from netferry.converters.options import ReadOptions
from tests.converters.keras.oracle import Case

PLAIN = [
    ("LSTM(5)", {"LSTM": 1}),
    ("LSTM(5, return_sequences=True)", {"LSTM": 1}),
    ("LSTM(5, use_bias=False)", {"LSTM": 1}),
    ("LSTM(5, go_backwards=True)", {"LSTM": 1}),
    ("LSTM(5, go_backwards=True, return_sequences=True, return_state=True)", {"LSTM": 1}),
    ("LSTM(5, recurrent_activation='hard_sigmoid', return_sequences=True)", {"LSTM": 1}),
    ("LSTM(5, activation='relu', recurrent_activation='softsign')", {"LSTM": 1}),
    ("LSTM(5, activation='linear', return_state=True)", {"LSTM": 1}),
    ("LSTM(5, activation='elu', recurrent_activation='hard_sigmoid')", {"LSTM": 1}),
    ("LSTM(5, activation='softplus')", {"LSTM": 1}),
    ("LSTM(5, activation='gelu', recurrent_activation='sigmoid', return_sequences=True)", {"Scan": 1}),
    ("LSTM(5, activation='swish', go_backwards=True, return_sequences=True, return_state=True)", {"Scan": 1}),
    ("LSTM(5, dropout=0.3, recurrent_dropout=0.2)", {"LSTM": 1}),
    ("LSTM(5, unit_forget_bias=False)", {"LSTM": 1}),
    ("GRU(5)", {"GRU": 1}),
    ("GRU(5, reset_after=False)", {"GRU": 1}),
    ("GRU(5, reset_after=True, return_sequences=True)", {"GRU": 1}),
    ("GRU(5, reset_after=False, use_bias=False, return_sequences=True)", {"GRU": 1}),
    ("GRU(5, reset_after=True, use_bias=False)", {"GRU": 1}),
    ("GRU(5, go_backwards=True, return_sequences=True, return_state=True)", {"GRU": 1}),
    ("GRU(5, recurrent_activation='hard_sigmoid', activation='softsign')", {"GRU": 1}),
    ("GRU(5, activation='linear', reset_after=False)", {"GRU": 1}),
    ("GRU(5, activation='selu', reset_after=False)", {"Scan": 1}),
    ("GRU(5, activation='selu', reset_after=True, return_sequences=True)", {"Scan": 1}),
    ("GRU(5, activation='selu', reset_after=True, use_bias=False)", {"Scan": 1}),
    ("SimpleRNN(5)", {"RNN": 1}),
    ("SimpleRNN(5, return_sequences=True, return_state=True)", {"RNN": 1}),
    ("SimpleRNN(5, activation='relu', go_backwards=True, return_sequences=True)", {"RNN": 1}),
    ("SimpleRNN(5, activation='hard_sigmoid', use_bias=False)", {"RNN": 1}),
    ("SimpleRNN(5, activation='exponential')", {"Scan": 1}),
    ("RNN(L.LSTMCell(5), return_sequences=True)", {"LSTM": 1}),
    ("RNN(L.GRUCell(5), return_state=True)", {"GRU": 1}),
    ("RNN(L.GRUCell(4, reset_after=False), go_backwards=True, return_sequences=True)", {"GRU": 1}),
    ("RNN(L.SimpleRNNCell(5))", {"RNN": 1}),
    (
        "RNN(L.StackedRNNCells([L.LSTMCell(5), L.GRUCell(3), L.LSTMCell(4)]), return_sequences=True)",
        {"LSTM": 2, "GRU": 1},
    ),
    ("RNN(L.StackedRNNCells([L.SimpleRNNCell(5), L.SimpleRNNCell(3)]), return_state=True)", {"RNN": 2}),
    ("RNN(L.StackedRNNCells([L.LSTMCell(5), L.LSTMCell(3)]), return_state=True, go_backwards=True)", {"LSTM": 2}),
]


@pytest.mark.parametrize("length", [pytest.param(7, id="fixed"), pytest.param(None, id="dynamic")])
@pytest.mark.parametrize(("layer", "nodes"), [pytest.param(e, n, id=e) for e, n in PLAIN])
def test_layers(case: Case, layer: str, nodes: dict[str, int], length: int | None) -> None:
    made = case(f"L.{layer}", (length, 3))
    found = {op: made.operators.count(op) for op in ("LSTM", "GRU", "RNN", "Scan", "Loop") if op in made.operators}
    assert found == nodes


def test_unrolled(case: Case) -> None:
    assert case("L.LSTM(4, unroll=True, return_sequences=True)", (5, 3)).operators.count("LSTM") == 1


def test_no_transposes_between(case: Case) -> None:
    model = "L.SimpleRNN(2)(L.GRU(4, return_sequences=True)(L.LSTM(5, return_sequences=True)(x)))"
    assert case(model, (None, 3)).operators.count("Transpose") <= 1


@pytest.mark.parametrize(
    "layer",
    [
        "LSTM(4, time_major=True, return_sequences=True, return_state=True)",
        "GRU(4, time_major=True, return_sequences=True, go_backwards=True)",
        "SimpleRNN(4, time_major=True, activation='gelu', return_sequences=True)",
        "Bidirectional(L.LSTM(4, time_major=True, return_sequences=True))",
    ],
)
def test_time_major(case2: Case, layer: str) -> None:
    """The first axis is time, so it needs no Transpose at all."""
    made = case2(f"L.{layer}", (5, 3))
    assert "Transpose" not in made.operators


MASKS = {
    "masking": ("L.Masking(0.0)(x)", (7, 3), "float32"),
    "masking_dynamic": ("L.Masking(0.0)(x)", (None, 3), "float32"),
    "embedding": ("L.Embedding(3, 4, mask_zero=True)(x)", (7,), "int32"),
}
MASKED = [
    "LSTM(5)",
    "LSTM(5, return_sequences=True)",
    "LSTM(5, return_sequences=True, return_state=True, go_backwards=True)",
    "LSTM(5, return_state=True, go_backwards=True)",
    "LSTM(5, activation='gelu', return_sequences=True, return_state=True)",
    "LSTM(5, activation='gelu', return_sequences=True, return_state=True, go_backwards=True)",
    "LSTM(5, return_sequences=True, zero_output_for_mask=True)",
    "GRU(5, return_sequences=True, reset_after=False)",
    "GRU(5, return_sequences=True, go_backwards=True, zero_output_for_mask=True)",
    "SimpleRNN(5, return_sequences=True, unroll=True)",
    "SimpleRNN(5, zero_output_for_mask=True)",
    "SimpleRNN(5, zero_output_for_mask=True, go_backwards=True, activation='mish')",
    "RNN(L.StackedRNNCells([L.LSTMCell(5), L.GRUCell(3)]), return_sequences=True)",
    "Bidirectional(L.LSTM(5, return_sequences=True))",
    "Bidirectional(L.LSTM(5, return_sequences=True, return_state=True), merge_mode='sum')",
    "Bidirectional(L.GRU(5))",
    "Bidirectional(L.GRU(5, return_sequences=True), merge_mode=None)",
    "Bidirectional(L.SimpleRNN(5, return_state=True), merge_mode='ave')",
    "Bidirectional(L.LSTM(5, activation='gelu', return_sequences=True))",
]


@pytest.mark.parametrize("padded", [pytest.param(False, id="anywhere"), pytest.param(True, id="padded")])
@pytest.mark.parametrize("source", list(MASKS))
@pytest.mark.parametrize("layer", MASKED)
def test_masks(case: Case, layer: str, source: str, padded: bool) -> None:
    masked, shape, dtype = MASKS[source]
    if "unroll" in layer and None in shape:
        pytest.skip("Keras unrolls fixed lengths only")
    if padded and dtype == "int32":
        low, zeros = 1, True
    else:
        low, zeros = 0, padded
    made = case(
        f"L.{layer}({masked})", shape, dtypes=(dtype,), zeros=zeros, low=low, high=3,
        options={"right_padded_masks": padded},
    )  # fmt: skip
    assert "Loop" not in made.operators
    if padded:
        assert "TopK" not in made.operators
    assert any(note.layer is not None and "mask" in note.message for note in made.model.notes) or "gelu" in layer


def test_mask_shared_by_layers(case: Case) -> None:
    """Two layers with one mask sort its steps once."""
    model = "L.GRU(4)(L.LSTM(5, return_sequences=True)(L.Embedding(3, 4, mask_zero=True)(x)))"
    assert case(model, (7,), dtypes=("int32",), high=3).operators.count("TopK") == 1


@pytest.mark.parametrize(
    "layer",
    [
        "L.LSTM(5, return_sequences=True, return_state=True)(xs[0], initial_state=[xs[1], xs[2]])",
        "L.LSTM(5, activation='gelu')(xs[0], initial_state=[xs[1], xs[2]])",
        "L.LSTM(5, return_sequences=True, return_state=True)(L.Masking()(xs[0]), initial_state=[xs[1], xs[2]])",
        "L.GRU(5, return_state=True)(xs[0], initial_state=xs[1]) + [xs[2]]",
        "L.Bidirectional(L.GRU(5, return_sequences=True, return_state=True))(xs[0], initial_state=[xs[1], xs[2]])",
        "L.Bidirectional(L.GRU(5, activation='gelu', return_state=True))(xs[0], initial_state=[xs[1], xs[2]])",
    ],
)
def test_initial_state(case: Case, layer: str) -> None:
    if case.keras.generation == 3:
        layer = layer.replace(" + [xs[2]]", " + (xs[2],)")
    case(layer, (6, 3), (5,), (5,), zeros="Masking" in layer)


def test_encoder_decoder(case: Case) -> None:
    model = "(lambda o: L.LSTM(4, return_sequences=True)(xs[1], initial_state=list(o[1:])))(L.LSTM(4, return_state=True)(xs[0]))"
    assert case(model, (None, 3), (None, 2)).operators.count("LSTM") == 2


def test_shared_layer(case: Case) -> None:
    """One layer called twice has one set of weights."""
    model = "(lambda r: L.Add()([r(xs[0]), r(xs[1])]))(L.LSTM(4))"
    assert case(model, (6, 3), (5, 3)).operators.count("LSTM") == 2


BIDIRECTIONAL = [
    "L.LSTM(5, return_sequences=True)",
    "L.LSTM(5)",
    "L.LSTM(5, return_state=True)",
    "L.GRU(5, return_sequences=True, return_state=True)",
    "L.GRU(5, reset_after=False)",
    "L.SimpleRNN(5, activation='relu', return_sequences=True)",
    "L.RNN(L.LSTMCell(5), return_sequences=True)",
    "L.RNN(L.StackedRNNCells([L.LSTMCell(5), L.LSTMCell(4)]), return_sequences=True)",
    "L.LSTM(5, activation='gelu', return_sequences=True, return_state=True)",
]


@pytest.mark.parametrize("mode", ["'concat'", "'sum'", "'mul'", "'ave'", "None"])
@pytest.mark.parametrize("layer", BIDIRECTIONAL)
def test_bidirectional(case: Case, layer: str, mode: str) -> None:
    made = case(f"L.Bidirectional({layer}, merge_mode={mode})", (6, 3))
    assert "Loop" not in made.operators
    if "gelu" not in layer and "Stacked" not in layer:
        assert sum(op in ("LSTM", "GRU", "RNN") for op in made.operators) == 1


@pytest.mark.parametrize(
    "layer",
    [
        "L.Bidirectional(L.LSTM(5, return_sequences=True), backward_layer=L.LSTM(5, return_sequences=True, "
        "go_backwards=True, activation='relu'))",
        "L.Bidirectional(L.LSTM(5, return_sequences=True), backward_layer=L.GRU(3, return_sequences=True, "
        "go_backwards=True))",
        "L.Bidirectional(L.LSTM(5), backward_layer=L.LSTM(2, go_backwards=True, use_bias=False))",
    ],
)
def test_backward_layer(case: Case, layer: str) -> None:
    case(layer, (6, 3))


def test_forward_layer_that_goes_backwards(case2: Case) -> None:
    """Keras 2 turns the other half round then."""
    case2("L.Bidirectional(L.LSTM(5, return_sequences=True, go_backwards=True))", (6, 3))


def test_cell_of_the_user(tmp_path: Path) -> None:
    """A class that netferry does not know becomes a placeholder that names it."""
    cell = {"class_name": "Custom>MyCell", "config": {"units": 4}}
    layer = {"class_name": "RNN", "config": {"name": "r", "cell": cell, "batch_input_shape": [None, 5, 3]}}
    model = {"class_name": "Sequential", "config": {"name": "s", "layers": [layer]}, "keras_version": "2.15.0"}
    path = tmp_path / "m.json"
    path.write_text(json.dumps(model))
    found = read(path, ReadOptions())
    assert [n.op_type for n in found.placeholders()] == ["RNN"]
    assert any("MyCell" in note.message for note in found.notes)
