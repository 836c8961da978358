"""Attention of one and of many heads against both generations of Keras."""

from __future__ import annotations

import pytest

from tests.converters.keras.oracle import Case

SINGLE = [
    "L.Attention()([xs[0], xs[1]])",
    "L.Attention(use_scale=True)([xs[0], xs[1]])",
    "L.Attention(score_mode='concat')([xs[0], xs[1]])",
    "L.Attention(score_mode='concat', use_scale=True)([xs[0], xs[1], xs[1]])",
    "L.Attention(dropout=0.3)([xs[0], xs[1]], use_causal_mask=True)",
    "list(L.Attention()([xs[0], xs[1]], return_attention_scores=True))",
    "L.AdditiveAttention()([xs[0], xs[1]])",
    "L.AdditiveAttention(use_scale=False)([xs[0], xs[1]], use_causal_mask=True)",
    "L.Attention()([L.Masking()(xs[0]), L.Masking()(xs[1])])",
    "L.AdditiveAttention()([L.Masking()(xs[0]), L.Masking()(xs[1])], use_causal_mask=True)",
    "L.LSTM(3)(L.Attention()([L.Masking()(xs[0]), L.Masking()(xs[1])]))",
    "L.Attention()([L.LSTM(4, return_sequences=True)(xs[0]), L.LSTM(4, return_sequences=True)(xs[1])])",
]


@pytest.mark.parametrize("length", [pytest.param(5, id="fixed"), pytest.param(None, id="dynamic")])
@pytest.mark.parametrize("model", SINGLE)
def test_single(case: Case, model: str, length: int | None) -> None:
    case(model, (length, 4), (length, 4), zeros="Masking" in model)


def test_given_masks(case: Case) -> None:
    case("L.Attention()([xs[0], xs[1]], mask=[xs[2], xs[3]])", (4, 3), (5, 3), (4,), (5,),
         dtypes=("float32", "float32", "bool", "bool"))  # fmt: skip


HEADS = [
    ("(3, 4)(xs[0], xs[1])", 6),
    ("(3, 4, use_bias=False)(xs[0], xs[1])", 6),
    ("(2, 4, value_dim=5)(xs[0], xs[1], key=xs[1])", 6),
    ("(2, 4, output_shape=7, dropout=0.2)(xs[0], xs[1])", 6),
    ("(2, 4, output_shape=(3, 2))(xs[0], xs[1])", 6),
    ("(2, 4)(xs[0], xs[0], use_causal_mask=True)", 6),
    ("(2, 4)(xs[0], xs[1], return_attention_scores=True)", 6),
    ("(2, 4)(L.Masking()(xs[0]), L.Masking()(xs[1]))", 6),
    ("(2, 4, dropout=0.1)(L.Masking()(xs[0]), L.Masking()(xs[1]), use_causal_mask=True)", 6),
    ("(2, 4)(L.LSTM(6, return_sequences=True)(xs[0]), L.LSTM(6, return_sequences=True)(xs[1]))", 6),
]


@pytest.mark.parametrize("length", [pytest.param(5, id="fixed"), pytest.param(None, id="dynamic")])
@pytest.mark.parametrize(("call", "size"), [pytest.param(c, s, id=c) for c, s in HEADS])
def test_heads(case: Case, call: str, size: int, length: int | None) -> None:
    made = case(f"L.MultiHeadAttention{call}", (length, size), (length, size), zeros="Masking" in call)
    if "LSTM" not in call and "Masking" not in call:
        assert made.operators.count("Transpose") <= 4


@pytest.mark.parametrize("axes", ["(1,)", "(2,)", "(1, 2)", "None"])
@pytest.mark.parametrize("scores", [False, True])
def test_attention_axes(case: Case, axes: str, scores: bool) -> None:
    layer = f"L.MultiHeadAttention(2, 3, attention_axes={axes})"
    # Keras 3 tells a wrong shape for the scores of higher ranks: only the values are compared
    case(f"{layer}(xs[0], xs[0], return_attention_scores={scores})", (4, 5, 6))


def test_given_mask(case: Case) -> None:
    case("L.MultiHeadAttention(2, 3)(xs[0], xs[1], attention_mask=xs[2])", (4, 6), (5, 6), (4, 5),
         dtypes=("float32", "float32", "bool"))  # fmt: skip


def test_mask_goes_on(case: Case) -> None:
    """From an Embedding through attention to an LSTM."""
    model = "(lambda e: L.LSTM(3)(L.MultiHeadAttention(2, 3)(e, e)))(L.Embedding(4, 6, mask_zero=True)(x))"
    case(model, (7,), dtypes=("int32",), low=1, high=4, zeros=True)


GROUPED = [
    "(4, 6, 2)(xs[0], xs[1])",
    "(4, 6, 3, use_bias=False, use_gate=True)(xs[0], xs[1], xs[1])",
    "(4, 4, 4, sliding_window=2)(xs[0], xs[0])",
    "(4, 4, 1, sliding_window=3)(xs[0], xs[0], use_causal_mask=True)",
    "(4, 4, 2)(xs[0], xs[1], return_attention_scores=True)",
    "(4, 4, 2, dropout=0.2)(L.Masking()(xs[0]), L.Masking()(xs[1]), use_causal_mask=True)",
    "(4, 4, 2)(L.Masking()(xs[0]), L.Masking()(xs[1]))",
]


@pytest.mark.parametrize("length", [pytest.param(5, id="fixed"), pytest.param(None, id="dynamic")])
@pytest.mark.parametrize("call", GROUPED)
def test_grouped(case3: Case, call: str, length: int | None) -> None:
    case3(f"L.GroupQueryAttention{call}", (length, 6), (length, 6), zeros="Masking" in call)


@pytest.mark.parametrize("settings", ["use_gate=True", "sliding_window=2", "use_gate=True, value_dim=5"])
def test_new_settings(case3: Case, settings: str) -> None:
    case3(f"L.MultiHeadAttention(2, 4, {settings})(xs[0], xs[1])", (5, 6), (5, 6))
