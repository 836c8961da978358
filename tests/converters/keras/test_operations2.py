"""Raw TensorFlow operations in functional models of Keras 2 (TFOpLambda, SlicingOpLambda) against the real one."""

from __future__ import annotations

import pytest

from tests.converters.keras.oracle import Case

P, Q, V, S = (4, 5, 3), (4, 5, 3), (6,), (None, 4)
CONV = "L.Conv2D(3, 3, padding='same')(x)"


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        pytest.param("x + 1.5", P, id="add-constant"),
        pytest.param("2.0 - x", P, id="constant-minus"),
        pytest.param("x / 3", P, id="divide"),
        pytest.param("1.0 / (x + 5.0)", P, id="reciprocal"),
        pytest.param("-x", P, id="negative"),
        pytest.param("x ** 2", P, id="square-by-power"),
        pytest.param("x // 0.3", P, id="floordiv"),
        pytest.param("x % 0.3", P, id="floormod"),
        pytest.param("abs(x)", P, id="abs"),
        pytest.param("x * tf.constant([1., 2., 3.])", P, id="times-vector"),
        pytest.param(CONV + " * tf.constant([1., 2., 3.])", P, id="conv-times-vector"),
        pytest.param("tf.math.subtract(" + CONV + ", np.arange(60, dtype='float32').reshape(4, 5, 3))", P, id="conv-minus-array"),
        pytest.param(CONV + " + tf.reduce_mean(x, axis=[1, 2], keepdims=True)", P, id="conv-plus-mean"),
        pytest.param("L.Conv2D(4, 3, padding='same')(x) * L.Dense(4)(L.GlobalAveragePooling2D()(x))[:, None, None, :]", P, id="squeeze-and-excite"),
        pytest.param("tf.cast(x > 0.5, 'float32')", P, id="greater"),
        pytest.param("tf.where(x > 0, x, 0.1 * x)", P, id="where"),
        pytest.param("tf.where(tf.logical_and(x > -1, x < 1), x, tf.zeros_like(x))", P, id="where-zeros-like"),
        pytest.param("tf.clip_by_value(x, -0.5, 1.0)", P, id="clip"),
        pytest.param("tf.math.maximum(x, 0.3)", P, id="maximum"),
        pytest.param("tf.nn.relu6(x + 3.0) * (1. / 6.)", P, id="hard-sigmoid-of-mobilenet"),
        pytest.param("tf.nn.leaky_relu(x, alpha=0.1)", P, id="leaky-relu"),
        pytest.param("tf.nn.silu(" + CONV + ")", P, id="silu"),
        pytest.param("tf.nn.softmax(" + CONV + ")", P, id="softmax"),
        pytest.param("tf.nn.softmax(x, axis=1)", P, id="softmax-axis"),
        pytest.param("tf.nn.gelu(x)", P, id="gelu"),
        pytest.param("tf.math.exp(x) + tf.math.log1p(tf.abs(x)) + tf.math.expm1(x)", P, id="exp-log1p-expm1"),
        pytest.param("tf.sqrt(tf.square(x)) + tf.math.rsqrt(tf.abs(x) + 1.0)", P, id="roots"),
        pytest.param("tf.sin(x) + tf.cos(x) + tf.math.atan2(x, x * 2.0 + 0.1) + tf.math.erf(x)", P, id="circle"),
        pytest.param("tf.round(x * 3) + tf.floor(x) + tf.math.ceil(x) + tf.sign(x)", P, id="rounding"),
        pytest.param("tf.math.divide_no_nan(x, tf.nn.relu(x))", P, id="divide-no-nan"),
        pytest.param("tf.math.squared_difference(x, 0.5)", P, id="squared-difference"),
        pytest.param("tf.add_n([x, x * 2.0, x])", P, id="add-n"),
    ],
)
def test_elementwise(case2: Case, model: str, shape: tuple[int | None, ...]) -> None:
    case2(model, shape, kinds=("h5", "json") if "..." in model else ("h5", "json", "keras"))


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        pytest.param("tf.reshape(x, (-1, 20, 3))", P, id="reshape"),
        pytest.param("tf.reshape(" + CONV + ", (-1, 60))", P, id="reshape-of-conv"),
        pytest.param("tf.reshape(x, (-1, 3))", P, id="reshape-batch-joined"),
        pytest.param("tf.reshape(x, [tf.shape(x)[0], 20, 3])", P, id="reshape-with-batch"),
        pytest.param("tf.reshape(x, tf.stack([tf.shape(x)[0], 4, -1]))", P, id="reshape-stacked"),
        pytest.param("tf.reshape(x, [tf.shape(x)[0], tf.shape(x)[1] * 4])", S, id="reshape-computed"),
        pytest.param("tf.reshape(x, tf.concat([tf.shape(x)[:-1], [2, 2]], 0))", S, id="reshape-concat-of-shape"),
        pytest.param("tf.transpose(x, [0, 3, 1, 2])", P, id="transpose"),
        pytest.param("tf.transpose(" + CONV + ", [0, 3, 1, 2])", P, id="transpose-of-conv"),
        pytest.param("tf.keras.backend.permute_dimensions(x, (0, 2, 1, 3))", P, id="permute-dimensions"),
        pytest.param("tf.expand_dims(" + CONV + ", 1)", P, id="expand-dims"),
        pytest.param("tf.squeeze(L.Conv2D(3, (4, 1))(x), axis=1)", P, id="squeeze"),
        pytest.param("tf.squeeze(tf.expand_dims(x, 1), [1])", P, id="squeeze-list"),
        pytest.param("tf.concat([x, " + CONV + "], -1)", P, id="concat"),
        pytest.param("tf.concat([x, tf.zeros_like(x)], axis=1)", P, id="concat-rows"),
        pytest.param("tf.stack([x, " + CONV + "], axis=1)", P, id="stack"),
        pytest.param("tf.split(" + CONV + ", 3, axis=-1)[1]", P, id="split"),
        pytest.param("tf.split(x, [1, 3], axis=1)", P, id="split-sizes"),
        pytest.param("tf.unstack(" + CONV + ", axis=1)", P, id="unstack"),
        pytest.param("tf.tile(" + CONV + ", [1, 2, 1, 2])", P, id="tile"),
        pytest.param("tf.repeat(x, 2, axis=1)", P, id="repeat"),
        pytest.param("tf.pad(" + CONV + ", [[0, 0], [1, 2], [0, 1], [0, 0]])", P, id="pad"),
        pytest.param("tf.pad(x, [[0, 0], [1, 1], [2, 1], [0, 0]], 'REFLECT')", P, id="pad-reflect"),
        pytest.param("tf.pad(x, [[0, 0], [1, 1], [2, 1], [0, 0]], mode='SYMMETRIC')", P, id="pad-symmetric"),
        pytest.param("tf.gather(" + CONV + ", [2, 0], axis=3)", P, id="gather"),
        pytest.param("tf.gather(x, 1, axis=1)", P, id="gather-one"),
        pytest.param("tf.reverse(x, [1])", P, id="reverse"),
        pytest.param("tf.roll(x, 1, axis=2)", P, id="roll"),
        pytest.param("tf.slice(x, [0, 1, 0, 1], [-1, 2, 3, 2])", P, id="slice"),
        pytest.param("tf.broadcast_to(x[:, :1], tf.shape(x))", P, id="broadcast-to"),
        pytest.param("tf.cast(tf.shape(x), 'float32') * 1.0", S, id="shape"),
    ],
)
def test_shapes(case2: Case, model: str, shape: tuple[int | None, ...]) -> None:
    case2(model, shape, kinds=("h5", "json") if "..." in model else ("h5", "json", "keras"))


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        pytest.param(CONV + "[:, 1:, ::2, 0]", P, id="slices"),
        pytest.param(CONV + "[..., tf.newaxis]", P, id="newaxis"),
        pytest.param("x[:, None, 1]", P, id="newaxis-and-number"),
        pytest.param("x[:, -1]", S, id="last-step"),
        pytest.param("x[:, ::-1]", S, id="backwards"),
        pytest.param("x[..., 1:3]", P, id="ellipsis"),
        pytest.param("x[:, :-1] - x[:, 1:]", S, id="difference"),
        pytest.param("x[:, :tf.shape(x)[1] // 2]", S, id="computed-end"),
        pytest.param("x[:, 1, 2, 0]", P, id="numbers"),
    ],
)
def test_slicing(case2: Case, model: str, shape: tuple[int | None, ...]) -> None:
    case2(model, shape, kinds=("h5", "json") if "..." in model else ("h5", "json", "keras"))


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        pytest.param("tf.reduce_mean(" + CONV + ", axis=[1, 2], keepdims=True)", P, id="mean-keepdims"),
        pytest.param("tf.reduce_mean(" + CONV + ", axis=[1, 2])", P, id="mean"),
        pytest.param("tf.reduce_sum(" + CONV + ", axis=-1)", P, id="sum"),
        pytest.param("tf.reduce_max(" + CONV + ", axis=1)", P, id="max"),
        pytest.param("tf.reduce_min(x, axis=(1, 3))", P, id="min"),
        pytest.param("tf.reduce_prod(x, axis=2)", P, id="prod"),
        pytest.param("tf.math.reduce_std(" + CONV + ", axis=[1, 2])", P, id="std"),
        pytest.param("tf.math.reduce_variance(x, axis=3, keepdims=True)", P, id="variance"),
        pytest.param("tf.reduce_logsumexp(x, axis=3)", P, id="logsumexp"),
        pytest.param("tf.cast(tf.reduce_any(x > 1.5, axis=[1, 2]), 'int32')", P, id="any"),
        pytest.param("tf.nn.moments(" + CONV + ", axes=[1, 2])", P, id="moments"),
        pytest.param("tf.math.l2_normalize(" + CONV + ", axis=-1)", P, id="l2-normalize"),
        pytest.param("tf.norm(x, axis=-1)", P, id="norm"),
        pytest.param("tf.argmax(" + CONV + ", axis=-1)", P, id="argmax"),
        pytest.param("tf.cumsum(x, axis=1)", S, id="cumsum"),
        pytest.param("tf.cumsum(x, axis=1, exclusive=True, reverse=True)", S, id="cumsum-exclusive"),
        pytest.param("tf.math.top_k(x, k=2)[0]", P, id="top-k"),
        pytest.param("tf.sort(x, axis=1, direction='DESCENDING')", P, id="sort"),
        pytest.param("keras.backend.mean(x, axis=1)", P, id="backend-mean"),
        pytest.param("keras.backend.sum(keras.backend.square(x), axis=-1, keepdims=True)", P, id="backend-sum"),
        pytest.param("tf.matmul(x, x, transpose_b=True)", P, id="matmul-transposed"),
        pytest.param("tf.tensordot(x, tf.ones((3, 2)), axes=[[3], [0]])", P, id="tensordot"),
        pytest.param("tf.linalg.matvec(x, x[:, 0])", S, id="matvec"),
        pytest.param("tf.nn.conv2d(x, np.ones((2, 2, 3, 4), 'float32'), strides=1, padding='SAME')", P, id="conv2d"),
        pytest.param("tf.nn.depthwise_conv2d(x, np.ones((3, 3, 3, 1), 'float32'), [1, 2, 2, 1], 'SAME')", P, id="depthwise"),
        pytest.param("tf.nn.bias_add(" + CONV + ", np.array([1., 2., 3.], 'float32'))", P, id="bias-add"),
        pytest.param("tf.nn.avg_pool2d(x, 2, 2, 'SAME')", P, id="avg-pool"),
        pytest.param("tf.nn.max_pool2d(x, ksize=3, strides=1, padding='VALID')", P, id="max-pool"),
        pytest.param("tf.nn.space_to_depth(x[:, :, :4], 2)", P, id="space-to-depth"),
        pytest.param("tf.nn.depth_to_space(L.Conv2D(8, 1)(x), 2)", P, id="depth-to-space"),
        pytest.param("tf.image.resize(x, (9, 7))", P, id="resize"),
        pytest.param("tf.image.resize(x, (9, 7), method='nearest')", P, id="resize-nearest"),
        pytest.param("tf.image.resize(x, (2, 3), antialias=True)", P, id="resize-antialias"),
        pytest.param("tf.image.resize(x, (7, 3), method='bicubic')", P, id="resize-bicubic"),
        pytest.param("tf.compat.v1.image.resize_bilinear(x, (9, 7), align_corners=True)", P, id="resize-align-corners"),
        pytest.param("tf.compat.v1.image.resize_bilinear(x, (9, 7))", P, id="resize-v1"),
        pytest.param("tf.image.rgb_to_grayscale(x)", P, id="grayscale"),
        pytest.param("tf.image.flip_left_right(x)", P, id="flip-left-right"),
        pytest.param("tf.linalg.band_part(x, -1, 0)", P, id="band-part"),
    ],
)
def test_reductions_and_products(case2: Case, model: str, shape: tuple[int | None, ...]) -> None:
    case2(model, shape, kinds=("h5", "json") if "..." in model else ("h5", "json", "keras"))


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        pytest.param("tf.one_hot(x, 5)", (4,), id="one-hot"),
        pytest.param("tf.one_hot(x, 5, axis=1)", (4,), id="one-hot-axis"),
        pytest.param("x * 2 + 1", (4,), id="whole-arithmetic"),
        pytest.param("x // 3 + x % 3", (4,), id="whole-division"),
        pytest.param("tf.cast(x, tf.float32) / 255.0", (4,), id="cast"),
        pytest.param("tf.cast(tf.equal(x, y=3), 'float32')", (4,), id="equal"),
        pytest.param("tf.sequence_mask(x[:, 0], maxlen=6, dtype='float32')", (4,), id="sequence-mask"),
        pytest.param("tf.reduce_sum(x, axis=1)", (4,), id="whole-sum"),
        pytest.param("x + tf.range(4)", (4,), id="range"),
    ],
)
def test_whole_numbers(case2: Case, model: str, shape: tuple[int | None, ...]) -> None:
    case2(model, shape, dtypes=("int32",))


def test_two_inputs(case2: Case) -> None:
    case2("tf.matmul(xs[0], xs[1])", (4, 5), (5, 3))
    case2("xs[0] + tf.reduce_mean(xs[1], axis=0)", (4, 5), (5,))


def test_transposes(case2: Case) -> None:
    """A picture network with raw operations has the one Transpose of its input, and none for its vector output."""
    result = case2(
        "tf.reduce_mean(tf.nn.relu6(" + CONV + " + 3.0) * (1. / 6.) * L.Conv2D(3, 1)(x), axis=[1, 2])", (9, 8, 3)
    )
    assert result.operators.count("Transpose") == 1
