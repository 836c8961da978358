"""Networks as people build them, masks and states through all of it, against the real Keras of both generations."""

from __future__ import annotations

import pytest

from tests.converters.keras.oracle import Case


@pytest.mark.parametrize(
    ("model", "shapes", "dtypes"),
    [
        pytest.param("L.Bidirectional(L.LSTM(3, return_sequences=True))(xs[0], initial_state=[xs[1],xs[2],xs[3],xs[4]])", ((5, 2), (3,), (3,), (3,), (3,)), None, id="bi-init"),
        pytest.param("(lambda e: L.Dense(4)(L.LSTM(3, return_sequences=True)(xs[1], initial_state=e[1:])))(L.LSTM(3, return_state=True)(xs[0]))", ((5, 2), (4, 2)), None, id="encoder-decoder"),
        pytest.param("(lambda e: L.LSTM(6, return_sequences=True)(xs[1], initial_state=[L.Concatenate()([e[1],e[3]]), L.Concatenate()([e[2],e[4]])]))(L.Bidirectional(L.LSTM(3, return_state=True))(xs[0]))", ((5, 2), (4, 2)), None, id="bi-encoder-decoder"),
        pytest.param("L.LSTM(3)(L.TimeDistributed(L.Dense(3))(L.LayerNormalization()(L.Dropout(.1)(L.Bidirectional(L.LSTM(3, return_sequences=True))(L.Embedding(9, 4, mask_zero=True)(x))))))", ((6,),), ("int32",), id="mask-through"),
        pytest.param("L.GRU(3)(keras.Sequential([keras.Input((6,), dtype='int32'), L.Embedding(9, 4, mask_zero=True), L.Dropout(.1)])(x))", ((6,),), ("int32",), id="mask-nested-seq"),
        pytest.param("L.GRU(3)((lambda i: keras.Model(i, L.Dropout(.1)(L.Embedding(9, 4, mask_zero=True)(i))))(keras.Input((6,), dtype='int32'))(x))", ((6,),), ("int32",), id="mask-nested-func"),
        pytest.param("keras.Sequential([keras.Input((6,4)), L.LSTM(3)])(L.Embedding(9, 4, mask_zero=True)(x))", ((6,),), ("int32",), id="mask-into-nested"),
        pytest.param("(lambda i: keras.Model(i, L.LSTM(3)(L.Dropout(.1)(i))))(keras.Input((6,4)))(L.Embedding(9, 4, mask_zero=True)(x))", ((6,),), ("int32",), id="mask-into-nested-func"),
        pytest.param("L.LSTM(3)(L.TimeDistributed(L.LSTM(3))(L.TimeDistributed(L.Embedding(9, 4, mask_zero=True))(x)))", ((3, 6),), ("int32",), id="mask-td-td"),
        pytest.param("L.TimeDistributed(L.TimeDistributed(L.Dense(3)))(x)", ((3, 4, 2),), None, id="td-td"),
        pytest.param("L.TimeDistributed(L.LSTM(3))(x)", ((3, 4, 2),), None, id="td-lstm"),
        pytest.param("L.TimeDistributed(L.Bidirectional(L.GRU(3)))(x)", ((None, 4, 2),), None, id="td-bi"),
        pytest.param("L.TimeDistributed((lambda i: keras.Model(i, L.Dense(2)(L.Flatten()(L.Conv2D(3,2)(i)))))(keras.Input((5,5,2))))(x)", ((3, 5, 5, 2),), None, id="td-func"),
        pytest.param("(lambda m: L.Attention()([m,m]))(L.Bidirectional(L.LSTM(3, return_sequences=True), merge_mode='sum')(L.Embedding(9, 4, mask_zero=True)(x)))", ((6,),), ("int32",), id="mask-bi-sum-attention"),
        pytest.param("(lambda m: L.GlobalAveragePooling1D()(L.MultiHeadAttention(2,3)(m,m)))(L.Embedding(9, 4, mask_zero=True)(x))", ((6,),), ("int32",), id="mask-mha"),
        pytest.param("(lambda m: L.GlobalAveragePooling1D()(L.LayerNormalization()(L.Add()([m, L.MultiHeadAttention(2,3)(m,m)]))))(L.Embedding(9, 4, mask_zero=True)(x))", ((6,),), ("int32",), id="mask-mha-add-norm"),
        pytest.param("L.LSTM(3)(L.Reshape((6,4))(L.Embedding(9, 4, mask_zero=True)(x)))", ((6,),), ("int32",), id="mask-reshape-drop"),
        pytest.param("L.LSTM(3)(L.Conv1D(3,2,padding='same')(L.Embedding(9, 4, mask_zero=True)(x)))", ((6,),), ("int32",), id="mask-conv1d"),
        pytest.param("L.Dense(2)(L.Flatten()(L.Embedding(9, 4, mask_zero=True)(x)))", ((6,),), ("int32",), id="mask-flatten"),
        pytest.param("L.LSTM(2, return_sequences=True)(L.RepeatVector(3)(L.LSTM(3)(L.Embedding(9, 4, mask_zero=True)(x))))", ((6,),), ("int32",), id="mask-repeatvector"),
        pytest.param("L.LSTM(3, return_state=True, return_sequences=True)(L.Embedding(9, 4, mask_zero=True)(x))", ((6,),), ("int32",), id="mask-state"),
        pytest.param("L.LSTM(3, go_backwards=True, return_sequences=True)(L.Embedding(9, 4, mask_zero=True)(x))", ((6,),), ("int32",), id="mask-gob"),
        pytest.param("L.GRU(3, go_backwards=True)(L.Embedding(9, 4, mask_zero=True)(x))", ((6,),), ("int32",), id="mask-gru-gob"),
        pytest.param("L.RNN([L.LSTMCell(3),L.GRUCell(2)], return_sequences=True)(L.Embedding(9, 4, mask_zero=True)(x))", ((6,),), ("int32",), id="mask-stack"),
        pytest.param("L.GlobalMaxPooling1D()(L.Embedding(9, 4, mask_zero=True)(x))", ((6,),), ("int32",), id="time-pool-mask"),
        pytest.param("keras.Model({'a': xs[0], 'b': xs[1]}, {'p': L.Dense(2)(xs[0]), 'q': L.Dense(3)(xs[1])})", ((4,), (3,)), None, id="seq-inputs-dict"),
        pytest.param("(lambda i, j: (lambda o: L.Subtract()([o['t'], o['s']]))(keras.Model({'q': j, 'p': i}, {'t': L.Dense(2)(j), 's': L.Dense(2)(i)})({'p': xs[1], 'q': xs[0]})))(keras.Input((4,)), keras.Input((4,)))", ((4,), (4,)), None, id="nested-dicts-out-of-order"),
        pytest.param("(lambda i, j: L.Subtract()(keras.Model([j, i], [L.Dense(2)(j), L.Dense(2)(i)])({'p': xs[1], 'q': xs[0]})))(keras.Input((4,), name='p'), keras.Input((4,), name='q'))", ((4,), (4,)), None, id="nested-list-called-by-names"),
        pytest.param("L.GlobalAveragePooling1D()(xs[0], mask=xs[1])", ((5, 4), (5,)), ("float32", "bool"), id="mask-told-to-a-pool"),
        pytest.param("L.Softmax(axis=(1, 2))(xs[0], mask=xs[1])", ((5, 4), (5, 4)), ("float32", "bool"), id="mask-told-to-a-softmax"),
        pytest.param("L.TimeDistributed(L.LSTM(3))(xs[0], mask=xs[1])", ((5, 6, 4), (5, 6)), ("float32", "bool"), id="mask-told-to-each-step"),
        pytest.param("(lambda i: keras.Model(i, L.LSTM(3)(i)))(keras.Input((5, 4)))(xs[0], mask=xs[1])", ((5, 4), (5,)), ("float32", "bool"), id="mask-told-to-a-nested-model"),
        pytest.param("(lambda i, j: keras.Model([i, j], L.Add()([L.LSTM(3)(i), L.LSTM(3)(j)])))(keras.Input((5, 4)), keras.Input((5, 4)))(xs[:2], mask=xs[2:])", ((5, 4), (5, 4), (5,), (5,)), ("float32", "float32", "bool", "bool"), id="masks-told-to-a-nested-model"),
        pytest.param("L.Conv2D(2, 2)(L.BatchNormalization(scale=False)(L.Conv2D(4, 3)(x), training=True))", ((6, 6, 3),), None, id="training-told-to-a-batch-norm"),
        pytest.param("keras.Sequential([keras.Input((4,)), L.Dense(3), L.BatchNormalization()])(x, training=True)", ((4,),), None, id="training-told-to-a-nested-model"),
        pytest.param("(lambda e: L.Concatenate()([L.LSTM(3)(e(xs[0])), L.GRU(2)(e(xs[1]))]))(L.Embedding(9, 4, mask_zero=True))", ((6,), (5,)), ("int32", "int32"), id="shared-embedding-two-masks"),
        pytest.param("(lambda m: (lambda n: L.Add()([n(xs[0]), n(xs[1])]))((lambda i: keras.Model(i, L.Concatenate()([m(i), m(L.Dense(6)(i))])))(keras.Input((6,)))))(keras.Sequential([keras.Input((6,)), L.Dense(4, activation='relu'), L.BatchNormalization()]))", ((6,), (6,)), None, id="nested-shared-twice-deep"),
        pytest.param("L.Dense(4, activation=L.LeakyReLU(.1))(x)", ((6,),), None, id="activation-object"),
        pytest.param("L.Dense(4, activation=tf.nn.leaky_relu)(x)", ((6,),), None, id="activation-of-tensorflow"),
        pytest.param("L.Conv2D(2, 3)(L.Rescaling(1 / 127.5, offset=-1)(x))", ((6, 6, 3),), ("uint8",), id="bytes"),
        pytest.param("keras.Sequential([keras.Input((32, 32, 3)), keras.applications.MobileNet(weights=None, include_top=False, input_shape=(32, 32, 3), alpha=.25), L.GlobalAveragePooling2D(), L.Dropout(.2), L.Dense(3, activation='softmax')])(x)", ((32, 32, 3),), None, id="transfer"),
        pytest.param("(lambda a: L.Conv2D(2, 1, activation='sigmoid')(L.Concatenate()([a, L.Conv2DTranspose(4, 2, strides=2)(L.MaxPooling2D()(a))])))(L.Conv2D(4, 3, padding='same')(x))", ((8, 8, 3),), None, id="unet"),
        pytest.param("(lambda a: L.Multiply()([a, L.Conv2D(1, 7, padding='same', activation='sigmoid')(L.Concatenate()([L.Conv2D(1, 1)(a), L.Conv2D(1, 1)(a)]))]))(L.Conv2D(4, 3)(x))", ((8, 8, 3),), None, id="spatial-attention"),
        pytest.param("L.Dense(5, activation='softmax')(L.Bidirectional(L.GRU(3, return_sequences=True))(L.Reshape((6, 12))(L.Permute((2, 1, 3))(L.Conv2D(3, 3, padding='same')(x)))))", ((4, 6, 2),), None, id="crnn"),
        pytest.param("(lambda a: L.Add()([L.Conv1D(3, 1)(L.Multiply()([L.Conv1D(3, 2, dilation_rate=2, padding='causal', activation='tanh')(a), L.Conv1D(3, 2, dilation_rate=2, padding='causal', activation='sigmoid')(a)])), a]))(L.Conv1D(3, 2, padding='causal')(x))", ((None, 2),), None, id="wavenet"),
        pytest.param("(lambda a: L.LayerNormalization(epsilon=1e-6)(L.Add()([a, L.Dense(8)(L.Dense(16, activation='gelu')(a))])))(L.LayerNormalization(epsilon=1e-6)(L.Add()([x, L.MultiHeadAttention(2, 4)(x, x, x)])))", ((None, 8),), None, id="transformer"),
        pytest.param("L.Add()([L.Dot(1)([L.Flatten()(L.Embedding(9, 4)(xs[0])), L.Flatten()(L.Embedding(9, 4)(xs[1]))]), L.Flatten()(L.Embedding(9, 1)(xs[0]))])", ((1,), (1,)), ("int32", "int32"), id="factors"),
        pytest.param("(lambda e, d: L.Dense(4)(L.Concatenate()([d, L.AdditiveAttention()([d, e])])))(L.LSTM(4, return_sequences=True)(xs[0]), L.LSTM(4, return_sequences=True)(xs[1]))", ((5, 2), (4, 2)), None, id="seq2seq-attention"),
        pytest.param("L.Dense(2)(L.BatchNormalization()(L.PReLU()(L.Flatten()(L.Conv2D(4, 3)(x)))))", ((6, 5, 2),), None, id="flat-norm"),
        pytest.param("L.Concatenate()([L.GlobalMaxPooling1D()(L.Conv1D(3, k)(e)) for e in [L.Embedding(9, 4)(x)] for k in (2, 3, 4)])", ((7,),), ("int32",), id="text-cnn"),
    ],
)  # fmt: skip
def test_network(
    case: Case, model: str, shapes: tuple[tuple[int | None, ...], ...], dtypes: tuple[str, ...] | None
) -> None:
    case(model, *shapes, dtypes=dtypes, zeros=dtypes is not None, low=1)
