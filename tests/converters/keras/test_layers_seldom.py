"""Layers with settings, masks and neighbours that are seldom met, against the real Keras of both generations."""

from __future__ import annotations

from typing import Any

import pytest

from tests.converters.keras.oracle import Case

P, S, V = (4, 5, 3), (None, 4), (4,)
CONV = "L.Conv2D(3, 3, padding='same')(x)"
INT, LONG, MASKED = {"dtypes": ("int32",)}, {"dtypes": ("int64",)}, {"zeros": True}


@pytest.mark.parametrize(
    ("model", "shapes", "more"),
    [
        pytest.param("L.Identity()(" + CONV + ")", [P], {}, id="identity"),
        pytest.param("L.Embedding(8, 3)(ops.abs(x) if ops else tf.abs(x))", [V], {}, id="embedding-of-floats"),
        pytest.param(
            "L.LSTM(3)(L.Concatenate(axis=1)([L.Masking()(xs[0]), L.Masking()(xs[1])]))",
            [S, S], MASKED, id="concat-masks-both",
        ),
        pytest.param("L.Concatenate()([x])", [P], {}, id="add-one"),
        pytest.param("L.Add()([L.Flatten()(" + CONV + "), L.Reshape((60,))(x)])", [P], {}, id="add-flat-other"),
        pytest.param("L.Softmax()(L.Flatten()(" + CONV + "))", [P], {}, id="softmax-flat"),
        pytest.param("L.Activation('softmax')(L.Flatten()(" + CONV + "))", [P], {}, id="activation-softmax-flat"),
        pytest.param("L.Activation('log_softmax')(L.Flatten()(" + CONV + "))", [P], {}, id="log-softmax-flat"),
        pytest.param("L.PReLU()(L.Flatten()(" + CONV + "))", [P], {}, id="prelu-flat"),
        pytest.param("keras.src.applications.convnext.LayerScale(1e-6, 3)(" + CONV + ")", [P], {}, id="layer-scale"),
        pytest.param(
            "L.CategoryEncoding(8, output_mode='count')(xs[0], count_weights=xs[1])",
            [(4,), (4,)], {"dtypes": ("int32", "float32")}, id="category-weights",
        ),
        pytest.param("L.CategoryEncoding(8, output_mode='multi_hot')(x)", [V], INT, id="category-multi"),
        pytest.param("L.CategoryEncoding(8, output_mode='one_hot')(x)", [(1,)], INT, id="category-one"),
        pytest.param("L.Hashing(1)(x)", [V], LONG, id="hashing-1"),
        pytest.param(
            "L.MultiHeadAttention(2, 3, attention_axes=(1, 2))(xs[0], xs[0], attention_mask=xs[1])",
            [(3, 2, 4), (3, 2, 3, 2)], {"dtypes": ("float32", "bool")}, id="mha-axes-mask",
        ),
        pytest.param("L.MultiHeadAttention(2, 3, attention_axes=(1, 2))(x, x)", [(3, 2, 4)], {}, id="mha-axes"),
        pytest.param(
            "L.MultiHeadAttention(2, 3)(xs[0], xs[0], attention_mask=xs[1])",
            [(5, 4), (5, 5)], {"dtypes": ("float32", "bool")}, id="mha-mask",
        ),
        pytest.param("L.MultiHeadAttention(2, 3, output_shape=(2, 3))(x, x)", [(5, 4)], {}, id="mha-output"),
        pytest.param("L.TimeDistributed(L.Conv1D(2, 1))(x)", [(3, None, 4)], {}, id="timedist-dynamic"),
        pytest.param(
            "L.TimeDistributed(L.GlobalAveragePooling1D())(x)",
            [(3, None, 4)], {}, id="timedist-dynamic-pool",
        ),
        pytest.param("L.TimeDistributed(L.Dense(2))(x)", [(None, None, 4)], {}, id="timedist-both"),
        pytest.param(
            "L.EinsumDense('abc,cd->abd', output_shape=(None, 6), bias_axes='d')(x)",
            [(5, 4)], {}, id="einsumdense-bias",
        ),
        pytest.param(
            "L.EinsumDense('abc,cde->abde', output_shape=(None, 2, 3), bias_axes='de', activation='relu')(x)",
            [(5, 4)], {}, id="einsumdense-2",
        ),
        pytest.param(
            "L.EinsumDense('...x,xy->...y', output_shape=6, bias_axes='y')(x)",
            [P], {}, id="einsumdense-dots",
        ),
        pytest.param(
            "L.EinsumDense('ab...,bc->ac...', output_shape=(6, 4), bias_axes='c')(x)",
            [(5, 4)], {}, id="einsumdense-rest",
        ),
        pytest.param("L.Dense(3, activation=L.LeakyReLU(0.2))(x)", [V], {}, id="activation-object"),
        pytest.param(
            "L.StringLookup(vocabulary=['a', 'b', 'c'], mask_token='', num_oov_indices=1)(x)",
            [V], {"dtypes": ("string",), "words": ("a", "b", "z", "")}, id="string-lookup-mask",
        ),
        pytest.param(
            "L.StringLookup(vocabulary=['a', 'b', 'c'], num_oov_indices=0)(x)",
            [V], {"dtypes": ("string",), "words": ("a", "b", "c")}, id="string-lookup-no-oov",
        ),
        pytest.param(
            "L.StringLookup(vocabulary=['a', 'b', 'c'], mask_token='', invert=True)(x)",
            [V], {"dtypes": ("int64",), "high": 5}, id="string-lookup-inverse",
        ),
        pytest.param("L.IntegerLookup(vocabulary=[4, 5, 7], mask_token=0)(x)", [V], LONG, id="integer-lookup-mask"),
        pytest.param("L.IntegerLookup(vocabulary=[4, 5, 7])(x)", [V], INT, id="integer-lookup-32"),
        pytest.param(
            "L.IntegerLookup(vocabulary=[4, 5, 7], invert=True)(x)",
            [V], {"dtypes": ("int64",), "high": 4}, id="integer-lookup-inverse",
        ),
        pytest.param(
            "L.IntegerLookup(vocabulary=[4, 5, 7], output_mode='tf_idf', idf_weights=[.5, .25, .75])(x)",
            [V], LONG, id="integer-lookup-tfidf",
        ),
        pytest.param(
            "L.IntegerLookup(vocabulary=[4, 5, 7], output_mode='multi_hot', max_tokens=9, pad_to_max_tokens=True)(x)",
            [V], LONG, id="integer-lookup-pad",
        ),
        pytest.param("L.IntegerLookup(vocabulary=[4, 5, 7], num_oov_indices=2)(x)", [V], LONG, id="integer-lookup-oov"),
        pytest.param("L.Dot(axes=(2, 1))([xs[0], xs[1]])", [(4, 5), (5, 3)], {}, id="dot-axes"),
        pytest.param("L.Dot(axes=-1, normalize=True)([xs[0], xs[1]])", [(5,), (5,)], {}, id="dot-cos"),
        pytest.param("L.Subtract()([xs[0], xs[1]])", [(4, 5), (4, 5)], {}, id="subtract"),
        pytest.param("L.LSTM(3)(L.Subtract()([L.Masking()(xs[0]), xs[1]]))", [S, S], MASKED, id="subtract-masked"),
        pytest.param("L.LSTM(3)(L.Multiply()([L.Masking()(xs[0]), xs[1]]))", [S, S], MASKED, id="multiply-masked"),
        pytest.param(
            "L.LSTM(3)(L.Maximum()([L.Masking()(xs[0]), L.Masking()(xs[1])]))",
            [S, S], MASKED, id="max-masked",
        ),
        pytest.param("L.Add()([xs[0], xs[1]])", [(5,), (4, 5)], {}, id="add-ranks"),
        pytest.param("L.Reshape((1, 1, 60))(L.Flatten()(" + CONV + "))", [P], {}, id="reshape-of-one"),
        pytest.param("L.Conv2D(2, 1)(L.Reshape((1, 1, 8))(L.Dense(8)(x)))", [V], {}, id="reshape-vector-conv"),
        pytest.param("L.Conv2D(2, 1)(L.Reshape((2, 2, 2))(L.Dense(8)(x)))", [V], {}, id="reshape-vector-wide"),
        pytest.param("L.Reshape((2, 2, 5, 3))(" + CONV + ")", [P], {}, id="reshape-split"),
        pytest.param("L.Reshape((20, 3))(" + CONV + ")", [P], {}, id="reshape-join"),
        pytest.param("L.Reshape((10, 6))(" + CONV + ")", [P], {}, id="reshape-mixed"),
        pytest.param("L.Reshape((4, 1, 5, 1, 3))(" + CONV + ")", [P], {}, id="reshape-ones"),
        pytest.param("L.Permute((2, 1))(L.Reshape((20, 3))(" + CONV + "))", [P], {}, id="permute-flat"),
        pytest.param("L.UnitNormalization()(" + CONV + ")", [P], {}, id="unit-norm"),
        pytest.param("L.UnitNormalization(axis=(1, 2))(" + CONV + ")", [P], {}, id="unit-norm-2"),
        pytest.param("L.Bidirectional(L.LSTM(3), merge_mode=None)(x)", [S], {}, id="bidirectional-none"),
        pytest.param("L.Bidirectional(L.GRU(3), merge_mode='mul')(x)", [S], {}, id="bidirectional-mul"),
    ],
)  # fmt: skip
def test_both_generations(case: Case, model: str, shapes: list[tuple[int | None, ...]], more: dict[str, Any]) -> None:
    case(model, *shapes, kinds=("h5", "keras"), **more)


@pytest.mark.parametrize(
    ("model", "shapes", "more"),
    [
        pytest.param(
            "keras.src.applications.convnext.LayerScale(1e-6, 60)(L.Flatten()(" + CONV + "))",
            [P], {}, id="layer-scale-flat",
        ),
        pytest.param(
            "keras.src.applications.convnext.StochasticDepth(0.3)(" + CONV + ")",
            [P], {}, id="stochastic-depth",
        ),
        pytest.param("keras.Sequential([L.Dense(3, input_shape=(4,)), L.Dense(2)])", [V], {}, id="seq-input-shape"),
        pytest.param("keras.Sequential([L.Dense(3, input_dim=4)])", [V], {}, id="seq-input-dim"),
    ],
)  # fmt: skip
def test_keras2(case2: Case, model: str, shapes: list[tuple[int | None, ...]], more: dict[str, Any]) -> None:
    case2(model, *shapes, kinds=("h5", "keras"), **more)


@pytest.mark.parametrize(
    ("model", "shapes", "more"),
    [
        pytest.param("L.Dense(3)(inputs=x)", [V], {}, id="inputs-by-name"),
        pytest.param("L.LSTM(3)(sequences=L.Masking()(x))", [S], MASKED, id="sequences-by-name"),
        pytest.param("(lambda i: keras.Model(i, L.Dense(3)(i)))(keras.Input((4,)))(inputs=x)", [V], {}, id="inputs-of-a-model-by-name"),
        pytest.param(
            "L.GlobalAveragePooling1D()(xs[0], xs[1])", [(5, 4), (5,)], {"dtypes": ("float32", "bool")}, id="mask-by-place",
        ),
        pytest.param("L.LSTM(3)(L.Concatenate(axis=1)([L.Masking()(x), x]))", [S], MASKED, id="concat-masks-time"),
        pytest.param(
            "L.MultiHeadAttention(2, 3)(xs[0], xs[0], value_mask=xs[1])",
            [(5, 4), (5,)], {"dtypes": ("float32", "bool")}, id="mha-value-mask",
        ),
        pytest.param(
            "L.GroupQueryAttention(3, 4, 2)(xs[0], xs[0], value_mask=xs[1])",
            [(5, 4), (5,)], {"dtypes": ("float32", "bool")}, id="gqa-mask",
        ),
        pytest.param(
            "L.GroupQueryAttention(3, 4, 2)(xs[0], xs[0], query_mask=xs[1])",
            [(5, 4), (5,)], {"dtypes": ("float32", "bool")}, id="gqa-query-mask",
        ),
    ],
)  # fmt: skip
def test_keras3(case3: Case, model: str, shapes: list[tuple[int | None, ...]], more: dict[str, Any]) -> None:
    case3(model, *shapes, kinds=("h5", "keras"), **more)
