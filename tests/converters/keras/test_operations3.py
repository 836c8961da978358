"""Operation nodes in functional models of Keras 3 (keras.ops and operators) against the real one."""

from __future__ import annotations

import pytest

from tests.converters.keras.oracle import Case

P, S = (4, 5, 3), (None, 4)
CONV = "L.Conv2D(3, 3, padding='same')(x)"


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        pytest.param("x + 1.5", P, id="add-constant"),
        pytest.param("2.0 - x", P, id="constant-minus"),
        pytest.param("x / 3", P, id="divide"),
        pytest.param("-x", P, id="negative"),
        pytest.param("x ** 2", P, id="power"),
        pytest.param("ops.abs(x) ** 1.7", P, id="power-fraction"),
        pytest.param("x // 0.3", P, id="floor-divide"),
        pytest.param("x % 0.3", P, id="mod"),
        pytest.param("abs(x)", P, id="abs"),
        pytest.param(CONV + " * np.array([1., 2., 3.], 'float32')", P, id="conv-times-vector"),
        pytest.param(CONV + " - np.arange(60, dtype='float32').reshape(4, 5, 3)", P, id="conv-minus-array"),
        pytest.param(
            "L.Conv2D(4, 3, padding='same')(x) * L.Dense(4)(L.GlobalAveragePooling2D()(x))[:, None, None, :]",
            P,
            id="squeeze-and-excite",
        ),
        pytest.param("ops.cast(x > 0.5, 'float32')", P, id="greater"),
        pytest.param("ops.cast(ops.not_equal(x, x), 'int32')", P, id="not-equal"),
        pytest.param("ops.where(x > 0, x, 0.1 * x)", P, id="where"),
        pytest.param("ops.where(ops.logical_and(x > -1, x < 1), x, 0)", P, id="where-number"),
        pytest.param("ops.clip(x, -0.5, 1.0)", P, id="clip"),
        pytest.param("ops.maximum(x, 0.3) + ops.minimum(x, 0)", P, id="maximum"),
        pytest.param("ops.relu6(x + 3.0) * (1. / 6.)", P, id="relu6"),
        pytest.param("ops.leaky_relu(x, 0.1) + ops.elu(x) + ops.celu(x) + ops.selu(x)", P, id="relus"),
        pytest.param("ops.silu(x) + ops.gelu(x) + ops.gelu(x, approximate=False) + ops.softplus(x)", P, id="smooth"),
        pytest.param(
            "ops.hard_sigmoid(x) + ops.hard_silu(x) + ops.hard_tanh(x) + ops.hard_shrink(x) + ops.soft_shrink(x)",
            P,
            id="hard",
        ),
        pytest.param(
            "ops.log_sigmoid(x) + ops.softsign(x) + ops.tanh_shrink(x) + ops.sparse_plus(x) + ops.squareplus(x) + ops.sparse_sigmoid(x)",
            P,
            id="soft",
        ),
        pytest.param("ops.threshold(x, 0.5, 0.1)", P, id="threshold"),
        pytest.param("ops.glu(x, axis=1)", P, id="glu"),
        pytest.param("ops.softmax(" + CONV + ")", P, id="softmax"),
        pytest.param("ops.log_softmax(x, axis=1)", P, id="log-softmax"),
        pytest.param(
            "ops.exp(x) + ops.log1p(ops.abs(x)) + ops.expm1(x) + ops.log(ops.abs(x) + 1) + ops.log2(ops.abs(x) + 1) + ops.log10(ops.abs(x) + 1)",
            P,
            id="logs",
        ),
        pytest.param("ops.sqrt(ops.square(x)) + ops.rsqrt(ops.abs(x) + 1.0) + ops.reciprocal(x + 5)", P, id="roots"),
        pytest.param(
            "ops.sin(x) + ops.cos(x) + ops.arctan2(x, x * 2.0 + 0.1) + ops.erf(x) + ops.sinh(x) + ops.arctan(x) + ops.arcsinh(x)",
            P,
            id="circle",
        ),
        pytest.param("ops.round(x * 3) + ops.floor(x) + ops.ceil(x) + ops.sign(x) + ops.trunc(x)", P, id="rounding"),
        pytest.param("ops.round(x, 1)", P, id="round-decimals"),
        pytest.param("ops.logaddexp(x, 0.5) + ops.divide_no_nan(x, ops.relu(x))", P, id="logaddexp"),
        pytest.param("ops.cast(ops.isfinite(ops.log(ops.relu(x))), 'float32')", P, id="isfinite"),
        pytest.param("ops.zeros_like(x) + ops.full_like(x, 2.0) + ops.ones_like(x) * 3", P, id="filled"),
        pytest.param("ops.nan_to_num(ops.log(ops.relu(x)), neginf=-3.0)", P, id="nan-to-num"),
        pytest.param("ops.stop_gradient(x) * 2", P, id="stop-gradient"),
    ],
)
def test_elementwise(case3: Case, model: str, shape: tuple[int | None, ...]) -> None:
    case3(model, shape)


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        pytest.param("ops.reshape(x, (-1, 20, 3))", P, id="reshape"),
        pytest.param("ops.reshape(" + CONV + ", (-1, 60))", P, id="reshape-of-conv"),
        pytest.param("ops.reshape(x, (-1, 3))", P, id="reshape-batch-joined"),
        pytest.param("ops.transpose(" + CONV + ", [0, 3, 1, 2])", P, id="transpose"),
        pytest.param("ops.swapaxes(x, 1, -1)", P, id="swapaxes"),
        pytest.param("ops.moveaxis(x, -1, 1)", P, id="moveaxis"),
        pytest.param("ops.expand_dims(" + CONV + ", 1)", P, id="expand-dims"),
        pytest.param("ops.squeeze(L.Conv2D(3, (4, 1))(x), axis=1)", P, id="squeeze"),
        pytest.param("ops.concatenate([x, " + CONV + "], -1)", P, id="concatenate"),
        pytest.param("ops.stack([x, " + CONV + "], axis=1)", P, id="stack"),
        pytest.param("ops.hstack([x, x])", P, id="hstack"),
        pytest.param("ops.split(" + CONV + ", 3, axis=-1)[1]", P, id="split"),
        pytest.param("ops.split(x, [1, 3], axis=2)", P, id="split-places"),
        pytest.param("ops.unstack(" + CONV + ", axis=1)", P, id="unstack"),
        pytest.param("ops.tile(" + CONV + ", [1, 2, 1, 2])", P, id="tile"),
        pytest.param("ops.repeat(x, 2, axis=1)", P, id="repeat"),
        pytest.param("ops.pad(" + CONV + ", [[0, 0], [1, 2], [0, 1], [0, 0]])", P, id="pad"),
        pytest.param("ops.pad(x, [[0, 0], [1, 1], [2, 1], [0, 0]], 'reflect')", P, id="pad-reflect"),
        pytest.param(
            "ops.pad(x, [[0, 0], [1, 1], [2, 1], [0, 0]], 'constant', constant_values=1.5)", P, id="pad-value"
        ),
        pytest.param("ops.take(" + CONV + ", [2, 0], axis=3)", P, id="take"),
        pytest.param("ops.take(x, 1, axis=1)", P, id="take-one"),
        pytest.param("ops.take(x, [[0, 1], [1, 2]], axis=2)", P, id="take-table"),
        pytest.param("ops.flip(x, axis=1)", P, id="flip"),
        pytest.param("ops.roll(x, 1, axis=2)", P, id="roll"),
        pytest.param("ops.roll(x, 1, axis=1)", S, id="roll-dynamic"),
        pytest.param("ops.tril(x)", S, id="tril"),
        pytest.param("ops.triu(x, k=1)", P, id="triu"),
        pytest.param(CONV + "[:, 1:, ::2, 0]", P, id="slices"),
        pytest.param(CONV + "[..., None]", P, id="newaxis"),
        pytest.param("x[:, None, 1]", P, id="newaxis-and-number"),
        pytest.param("x[:, -1]", S, id="last-step"),
        pytest.param("x[..., 1:3]", P, id="ellipsis"),
        pytest.param("x[:, :-1] - x[:, 1:]", S, id="difference"),
        pytest.param("x[:, 1, 2, 0]", P, id="numbers"),
    ],
)
def test_shapes(case3: Case, model: str, shape: tuple[int | None, ...]) -> None:
    case3(model, shape)


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        pytest.param("ops.mean(" + CONV + ", axis=[1, 2], keepdims=True)", P, id="mean-keepdims"),
        pytest.param("ops.mean(" + CONV + ", axis=[1, 2])", P, id="mean"),
        pytest.param("ops.sum(" + CONV + ", axis=-1)", P, id="sum"),
        pytest.param("ops.max(" + CONV + ", axis=1)", P, id="max"),
        pytest.param("ops.min(x, axis=(1, 3))", P, id="min"),
        pytest.param("ops.prod(x, axis=2)", P, id="prod"),
        pytest.param("ops.std(" + CONV + ", axis=[1, 2])", P, id="std"),
        pytest.param("ops.var(x, axis=3, keepdims=True)", P, id="var"),
        pytest.param("ops.logsumexp(x, axis=3)", P, id="logsumexp"),
        pytest.param("ops.cast(ops.any(x > 1.5, axis=[1, 2]), 'int32')", P, id="any"),
        pytest.param("ops.moments(" + CONV + ", axes=[1, 2])", P, id="moments"),
        pytest.param("ops.normalize(" + CONV + ", axis=-1)", P, id="normalize"),
        pytest.param("ops.norm(x, axis=-1)", P, id="norm"),
        pytest.param("ops.norm(x, ord=1, axis=1, keepdims=True)", P, id="norm-1"),
        pytest.param("ops.argmax(" + CONV + ", axis=-1)", P, id="argmax"),
        pytest.param("ops.cumsum(x, axis=1)", S, id="cumsum"),
        pytest.param("ops.top_k(x, k=2)", P, id="top-k"),
        pytest.param("ops.sort(x, axis=1)", P, id="sort"),
        pytest.param("ops.argsort(x, axis=-1)", P, id="argsort"),
        pytest.param("ops.count_nonzero(ops.relu(x), axis=1)", P, id="count-nonzero"),
        pytest.param("ops.matmul(x, ops.swapaxes(x, -1, -2))", P, id="matmul"),
        pytest.param("ops.matmul(x, np.arange(6, dtype='float32').reshape(3, 2))", P, id="matmul-constant"),
        pytest.param("ops.einsum('bhwc,cd->bhwd', x, np.arange(6, dtype='float32').reshape(3, 2))", P, id="einsum"),
        pytest.param("ops.einsum('bhwc,bhvc->bhwv', " + CONV + ", x)", P, id="einsum-attention"),
        pytest.param("ops.einsum('bhwc->bc', " + CONV + ")", P, id="einsum-sum"),
        pytest.param("ops.tensordot(x, np.ones((3, 2), 'float32'), axes=[[3], [0]])", P, id="tensordot"),
        pytest.param("ops.dot(x, np.arange(12, dtype='float32').reshape(3, 4))", P, id="dot"),
        pytest.param(
            "ops.conv(x, np.arange(36, dtype='float32').reshape(2, 2, 3, 3) / 9, strides=2, padding='same')",
            P,
            id="conv",
        ),
        pytest.param(
            "ops.depthwise_conv(x, np.arange(27, dtype='float32').reshape(3, 3, 3, 1))", P, id="depthwise-conv"
        ),
        pytest.param("ops.average_pool(x, 2, 2, 'same')", P, id="average-pool"),
        pytest.param("ops.max_pool(x, 3, 1)", P, id="max-pool"),
        pytest.param("ops.image.resize(x, (9, 7))", P, id="resize"),
        pytest.param("ops.image.resize(x, (7, 3), interpolation='lanczos3', antialias=True)", P, id="resize-lanczos"),
        pytest.param("ops.image.rgb_to_grayscale(x)", P, id="grayscale"),
        pytest.param(
            "ops.batch_normalization(x, np.array([.1, .2, .3], 'float32'), np.array([1., 2., 3.], 'float32'), -1, offset=np.ones(3, 'float32'), scale=np.array([2., 1., 3.], 'float32'))",
            P,
            id="batch-normalization",
        ),
        pytest.param(
            "ops.layer_normalization(x, np.array([1., 2., 3.], 'float32'), axis=-1)", P, id="layer-normalization"
        ),
        pytest.param("ops.dot_product_attention(x, x, x)", (4, 2, 3), id="attention"),
    ],
)
def test_reductions_and_products(case3: Case, model: str, shape: tuple[int | None, ...]) -> None:
    case3(model, shape)


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        pytest.param("ops.one_hot(x, 5)", (4,), id="one-hot"),
        pytest.param("ops.one_hot(x, 5, axis=1)", (4,), id="one-hot-axis"),
        pytest.param("x * 2 + 1", (4,), id="whole-arithmetic"),
        pytest.param("x // 3 + x % 3", (4,), id="whole-division"),
        pytest.param("x / 255", (4,), id="true-division"),
        pytest.param("x * 0.5", (4,), id="promotion"),
        pytest.param("x + np.array([.5, 1., 2., 3.], 'float32')", (4,), id="promotion-array"),
        pytest.param("ops.cast(ops.equal(x, 3), 'float32')", (4,), id="equal"),
        pytest.param("ops.sum(x, axis=1)", (4,), id="whole-sum"),
        pytest.param("ops.mean(x, axis=1)", (4,), id="whole-mean"),
        pytest.param("ops.sqrt(x)", (4,), id="whole-sqrt"),
        pytest.param("ops.where(x > 3, x, 0)", (4,), id="whole-where"),
        pytest.param("ops.logical_not(x > 3)", (4,), id="logical-not"),
        pytest.param("ops.bitwise_and(x, np.array([3], 'int32'))", (4,), id="bitwise-and"),
    ],
)
def test_whole_numbers(case3: Case, model: str, shape: tuple[int | None, ...]) -> None:
    case3(model, shape, dtypes=("int32",))


def test_two_inputs(case3: Case) -> None:
    case3("ops.matmul(xs[0], xs[1])", (4, 5), (5, 3))
    case3("ops.multiply(xs[0], xs[1]) + ops.take_along_axis(xs[0], ops.argsort(xs[0], axis=1), axis=1)", (4, 5), (4, 5))


def test_transposes(case3: Case) -> None:
    """A picture network with raw operations has the one Transpose of its input, and none for its vector output."""
    result = case3("ops.mean(ops.relu6(" + CONV + " + 3.0) * (1. / 6.) * L.Conv2D(3, 1)(x), axis=[1, 2])", (9, 8, 3))
    assert result.operators.count("Transpose") == 1
