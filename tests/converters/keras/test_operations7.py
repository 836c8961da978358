"""Raw TensorFlow operations of Keras 2 with settings that are seldom used, against the real one."""

from __future__ import annotations

from typing import Any

import pytest

from tests.converters.keras.oracle import Case

P, S, V = (4, 5, 3), (None, 4), (4,)
CONV = "L.Conv2D(3, 3, padding='same')(x)"
INT = {"dtypes": ("int32",)}


@pytest.mark.parametrize(
    ("model", "shapes", "more"),
    [
        pytest.param("x + tf.zeros([tf.shape(x)[0], 1, 4])", [S], {}, id="zeros"),
        pytest.param("tf.ones([tf.shape(x)[0], 4], dtype='int32')", [S], {}, id="ones"),
        pytest.param("tf.ones(tf.shape(x)) - x", [S], {}, id="ones-of-shape"),
        pytest.param("tf.fill([tf.shape(x)[0], 2], 3.5)", [S], {}, id="fill"),
        pytest.param("tf.fill(tf.stack([2, 3]), x[0, 0])", [V], {}, id="fill-tensor"),
        pytest.param(
            "tf.broadcast_to(tf.reduce_sum(x, axis=0), [2, tf.shape(x)[0], 4, 5, 3])",
            [P], {}, id="broadcast-to-batch",
        ),
        pytest.param("tf.range(tf.shape(x)[1])", [S], {}, id="range-dynamic"),
        pytest.param("tf.range(1, tf.shape(x)[1], 2)", [P], {}, id="range-static"),
        pytest.param("tf.range(0., tf.cast(tf.shape(x)[1], 'float32'), 0.5)", [S], {}, id="range-float"),
        pytest.param("tf.range(0, tf.shape(x)[1], dtype='int64')", [S], {}, id="range-dtype"),
        pytest.param("tf.eye(tf.shape(x)[1])", [S], {}, id="eye"),
        pytest.param("x[:, 0] + tf.eye(tf.shape(x)[2], num_columns=3)", [P], {}, id="eye-static"),
        pytest.param("tf.linspace(0.0, x[0, 0], 5)", [V], {}, id="linspace"),
        pytest.param("x[:, tf.shape(x)[1] - 1]", [S], {}, id="key-scalar-tensor"),
        pytest.param("tf.strided_slice(x, [0, 1, 0, 0], [3, 3, 4, 2], [1, 1, 2, 1])", [P], {}, id="strided"),
        pytest.param(
            "tf.strided_slice(x, [0, 1, 0, 0], [3, 3, 4, 2], [1, 1, 2, 1], begin_mask=1, end_mask=3, shrink_axis_mask=8)",
            [P], {}, id="strided-masks",
        ),
        pytest.param(
            "tf.strided_slice(x, [0, 0, 1], [0, 0, 3], begin_mask=1, end_mask=1, new_axis_mask=2)",
            [P], {}, id="strided-new",
        ),
        pytest.param(
            "tf.strided_slice(x, [0, 0, 1], [0, 0, 3], begin_mask=1, end_mask=1, ellipsis_mask=2)",
            [P], {}, id="strided-ellipsis",
        ),
        pytest.param(
            "tf.gather(xs[0], xs[1], batch_dims=1)",
            [(4, 3), (2,)], {"dtypes": ("float32", "int32"), "high": 4}, id="gather-batch",
        ),
        pytest.param(
            "tf.gather_nd(xs[0], xs[1])",
            [(4, 3), (2, 1)], {"dtypes": ("float32", "int32"), "high": 1}, id="gather-nd",
        ),
        pytest.param(
            "tf.gather_nd(xs[0], xs[1], batch_dims=1)",
            [(4, 3), (2, 1)], {"dtypes": ("float32", "int32"), "high": 4}, id="gather-nd-batch",
        ),
        pytest.param("tf.boolean_mask(x, x[:, 0] > -9.0)", [V], {}, id="boolean-mask"),
        pytest.param("tf.boolean_mask(x, x > 0.0)", [V], {}, id="boolean-mask-all"),
        pytest.param(
            "tf.boolean_mask(x, tf.constant([True, False, True, True]), axis=1)",
            [(4, 3)], {}, id="boolean-mask-axis",
        ),
        pytest.param("tf.linalg.band_part(x, 1, 0)", [(4, 5)], {}, id="band-part"),
        pytest.param("tf.linalg.band_part(x, 0, 2)", [(4, 5)], {}, id="band-part-both"),
        pytest.param("tf.image.crop_to_bounding_box(x, 1, 0, 2, 3)", [P], {}, id="crop-box"),
        pytest.param("tf.slice(x, [0, 0, 0, 0], [-1, 4, 5, 3])", [P], {}, id="slice-all"),
        pytest.param("tf.matmul(x, x, transpose_a=True)", [P], {}, id="matmul-ta"),
        pytest.param("tf.matmul(x, x, adjoint_a=True, adjoint_b=False)", [P], {}, id="matmul-adj"),
        pytest.param("tf.tensordot(x, tf.ones((5, 3, 2)), axes=2)", [P], {}, id="tensordot"),
        pytest.param("tf.linalg.matvec(xs[0], xs[1])", [(4, 3), (3,)], {}, id="matvec"),
        pytest.param("tf.linalg.matvec(xs[0], xs[1], transpose_a=True)", [(4, 3), (4,)], {}, id="matvec-t"),
        pytest.param("tf.linalg.tensordot(x, tf.ones((3, 2)), 1)", [P], {}, id="linalg-tensordot"),
        pytest.param("tf.linalg.matrix_transpose(" + CONV + ")", [P], {}, id="matrix-transpose"),
        pytest.param("tf.split(x, [1, -1], axis=2)", [P], {}, id="split-rest"),
        pytest.param("tf.split(x, 1, axis=2)", [P], {}, id="split-one"),
        pytest.param("tf.cast(tf.shape(" + CONV + "), 'float32')", [P], {}, id="shape-of-conv"),
        pytest.param("tf.shape(x, out_type='int64')", [S], {}, id="shape-64"),
        pytest.param("tf.size(x)", [S], {}, id="size"),
        pytest.param("tf.rank(x) + tf.shape(x)[0]", [S], {}, id="rank"),
        pytest.param("tf.reshape(" + CONV + ", [-1])", [P], {}, id="reshape-flat"),
        pytest.param("tf.reshape(xs[0], tf.concat([tf.shape(xs[1])[:2], [2, 2]], 0))", [S, S], {}, id="reshape-tensor"),
        pytest.param("tf.reduce_sum(x, axis=[])", [P], {}, id="sum-of-nothing"),
        pytest.param("tf.norm(x, ord=1, axis=1)", [P], {}, id="norm-1"),
        pytest.param("tf.norm(x, ord=np.inf, axis=1)", [P], {}, id="norm-inf"),
        pytest.param("tf.argmax(x, axis=1, output_type='int32')", [P], {}, id="argmax"),
        pytest.param("tf.argmin(x)", [P], {}, id="argmax-default"),
        pytest.param("tf.one_hot(x, 5, on_value=2.0, off_value=-1.0)", [V], INT, id="one-hot-values"),
        pytest.param("tf.one_hot(x, 5, dtype='int32')", [V], INT, id="one-hot-int"),
        pytest.param("tf.nn.silu(x, beta=1.7)", [P], {}, id="silu-beta"),
        pytest.param("tf.nn.swish(" + CONV + ")", [P], {}, id="swish"),
        pytest.param("tf.nn.crelu(" + CONV + ")", [P], {}, id="crelu"),
        pytest.param("keras.backend.relu(x, alpha=0.2, max_value=1.2, threshold=0.4)", [P], {}, id="relu-general"),
        pytest.param("keras.activations.relu(x, alpha=0.1, max_value=1.0)", [P], {}, id="activations-relu"),
        pytest.param("tf.math.erfc(x)", [P], {}, id="erfc"),
        pytest.param("tf.saturate_cast(x * 300.0, 'uint8')", [P], {}, id="saturate"),
        pytest.param("tf.saturate_cast(x * 1e10, 'int32')", [P], {}, id="saturate-32"),
        pytest.param("tf.math.xlogy(tf.nn.relu(x), tf.abs(x))", [P], {}, id="xlogy"),
        pytest.param("tf.math.xlog1py(tf.nn.relu(x), tf.abs(x))", [P], {}, id="xlog1py"),
        pytest.param("tf.abs(x) ** 0.5", [P], {}, id="sqrt-power"),
        pytest.param("tf.clip_by_value(x, tf.reduce_mean(x), 1.0)", [V], {}, id="clip-tensor"),
        pytest.param("tf.repeat(" + CONV + ", [1, 0, 2, 1], axis=1)", [P], {}, id="repeat-counts"),
        pytest.param("tf.nn.conv1d(x, np.ones((2, 4, 3), 'float32'), 1, 'SAME')", [(6, 4)], {}, id="conv1d"),
        pytest.param(
            "tf.compat.v1.image.resize_bilinear(x, (9, 7), half_pixel_centers=True)",
            [P], {}, id="resize-v1-centre",
        ),
        pytest.param("tf.compat.v1.image.resize_nearest_neighbor(x, (9, 7))", [P], {}, id="resize-v1-nearest"),
        pytest.param("tf.image.grayscale_to_rgb(x)", [(4, 5, 1)], {}, id="grayscale-to-rgb"),
        pytest.param("tf.image.grayscale_to_rgb(L.Conv2D(1, 3)(x))", [P], {}, id="grayscale-to-rgb-conv"),
        pytest.param("tf.eye(tf.shape(x)[1], tf.shape(x)[0], dtype='int32')", [S], {}, id="eye-wide"),
        pytest.param("tf.reshape(x, tf.concat([tf.shape(x)[2:], tf.shape(x)[:2]], 0))", [S], {}, id="reshape-back"),
    ],
)  # fmt: skip
def test_agrees(case2: Case, model: str, shapes: list[tuple[int | None, ...]], more: dict[str, Any]) -> None:
    case2(model, *shapes, kinds=("h5", "json"), **more)
