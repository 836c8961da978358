"""Functions of keras.backend and TensorFlow as people use them in functional models of Keras 2."""

from __future__ import annotations

import pytest

from tests.converters.keras.oracle import Case

K = "keras.backend"
C = "L.Conv2D(3, 3, padding='same')(x)"


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        pytest.param(f"{K}.mean({C}, axis=[1,2])", (4,5,3), id="k-mean"),
        pytest.param(f"{K}.sum(x, axis=-1, keepdims=True)", (4,5,3), id="k-sum"),
        pytest.param(f"{K}.max({C}, axis=1)", (4,5,3), id="k-max"),
        pytest.param(f"{K}.expand_dims(x, 1)", (4,), id="k-expand"),
        pytest.param(f"{K}.l2_normalize(x, axis=-1)", (4,), id="k-l2"),
        pytest.param(f"{K}.concatenate([x,x],axis=-1)", (4,), id="k-concat"),
        pytest.param(f"{K}.permute_dimensions({C}, (0,3,1,2))", (4,5,3), id="k-permute"),
        pytest.param(f"{K}.batch_dot(x, x, axes=[2,2])", (4,5), id="k-batchdot"),
        pytest.param(f"{K}.dot(x, tf.constant(np.ones((5,3),'float32')))", (4,5), id="k-dot"),
        pytest.param(f"{K}.clip(x, -.5, .5)", (4,), id="k-clip"),
        pytest.param(f"{K}.sqrt({K}.square(x)+{K}.epsilon())", (4,), id="k-square-sqrt"),
        pytest.param(f"{K}.reshape(x, (-1, 2))", (4,), id="k-reshape"),
        pytest.param(f"{K}.batch_flatten({C})", (4,5,3), id="k-flatten"),
        pytest.param(f"{K}.stack([x,x], axis=1)", (4,), id="k-stack"),
        pytest.param(f"{K}.softmax(x)", (4,), id="k-softmax"),
        pytest.param(f"{K}.sigmoid(x)*{K}.tanh(x)", (4,), id="k-sigmoid"),
        pytest.param(f"{K}.hard_sigmoid(x)", (4,), id="k-hardsig"),
        pytest.param(f"{K}.relu(x, max_value=1.)", (4,), id="k-relu"),
        pytest.param(f"{K}.repeat_elements({C}, 2, axis=1)", (4,5,3), id="k-repeat"),
        pytest.param(f"{K}.resize_images({C}, 2, 2, 'channels_last')", (4,5,3), id="k-resize"),
        pytest.param(f"{K}.var(x, axis=1)+{K}.std(x,axis=1)", (4,5), id="k-var"),
        pytest.param(f"{K}.argmax(x)", (4,5), id="k-argmax"),
        pytest.param(f"{K}.cast({K}.greater(x, 0.), 'float32')", (4,5), id="k-cast"),
        pytest.param(f"{K}.switch({K}.greater(x, 0.), x, x*2)", (4,5), id="k-switch"),
        pytest.param(f"{K}.one_hot({K}.argmax(x), 5)", (4,5), id="k-onehot"),
        pytest.param(f"{K}.tile(x, [1,2])", (4,), id="k-tile"),
        pytest.param("tf.reshape(x, [tf.shape(x)[0], -1, 2])", (4,5,2), id="k-shape-reshape"),
        pytest.param(f"tf.reshape({C}, [tf.shape(x)[0], tf.shape(x)[1]*tf.shape(x)[2], 3])", (4,5,3), id="k-shape-mul"),
        pytest.param("tf.reshape(x, [tf.shape(x)[0], tf.shape(x)[1]*4])", (None,4), id="k-shape-dyn"),
        pytest.param("tf.image.resize(x, [8,10], method='nearest')", (4,5,3), id="tf-resize-like"),
        pytest.param("tf.tile(x[:,None], [1, 3, 1])", (4,), id="tf-tile-dyn"),
        pytest.param("tf.broadcast_to(x[:,None], [tf.shape(x)[0], 3, 4])", (4,), id="tf-broadcast"),
        pytest.param("x + tf.range(0., 4.)[None]", (4,), id="tf-pos"),
        pytest.param("x + tf.ones_like(x)*tf.cast(tf.shape(x)[1], 'float32')", (4,), id="tf-ones"),
        pytest.param("x * tf.linspace(0., 1., 4)", (4,), id="tf-linspace"),
        pytest.param("tf.concat([x, tf.tile(tf.reshape(tf.range(4.), [1,4,1,1]), [tf.shape(x)[0],1,5,1])], -1)", (4,5,3), id="tf-meshcoord"),
        pytest.param("tf.matmul(x, x, transpose_b=True)/tf.sqrt(5.)", (4,5), id="tf-matmul-t"),
        pytest.param("tf.where(tf.linalg.band_part(tf.ones((4,4)), -1, 0) > 0, tf.matmul(x,x,transpose_b=True), -1e9)", (4,5), id="tf-mask"),
        pytest.param("tf.gather(x, [[0,1],[1,0]], axis=1)", (4,5), id="tf-gather-batch"),
        pytest.param("tf.gather(x, tf.argsort(x, axis=1), axis=1, batch_dims=1)", (4,), id="tf-argsort"),
        pytest.param("tf.reduce_sum(tf.math.top_k(x, 3).values, -1)", (5,), id="tf-topk-sum"),
        pytest.param("tf.nn.depth_to_space(tf.nn.space_to_depth(x, 2), 2)", (4,6,3), id="tf-space"),
        pytest.param("tf.nn.max_pool2d(x, 2, 2, 'SAME') - tf.nn.avg_pool2d(x, 2, 2, 'SAME')", (5,5,3), id="tf-maxpool"),
        pytest.param("tf.squeeze(L.GlobalAveragePooling2D(keepdims=True)(x), [1,2])", (4,5,3), id="tf-squeeze"),
        pytest.param("tf.reshape(tf.transpose(tf.reshape(L.Conv2D(6,1)(x), [-1,4,5,2,3]), [0,1,2,4,3]), [-1,4,5,6])", (4,5,3), id="tf-shuffle"),
        pytest.param("(lambda p: p[0]*tf.sigmoid(p[1]))(tf.split(L.Conv2D(6,1)(x), 2, axis=-1))", (4,5,3), id="tf-split-add"),
        pytest.param("tf.add_n(tf.unstack(x, axis=1))", (4,5), id="tf-unstack"),
        pytest.param("tf.reduce_logsumexp(x, axis=-1, keepdims=True) - tf.reduce_mean(tf.abs(x))", (4,5), id="tf-logsumexp"),
        pytest.param("tf.clip_by_norm(x, 1.0, axes=[1])", (4,), id="tf-clip-norm"),
        pytest.param("(x - tf.reduce_min(x,axis=1,keepdims=True))/(tf.reduce_max(x,axis=1,keepdims=True)-tf.reduce_min(x,axis=1,keepdims=True))", (4,), id="tf-minmax"),
        pytest.param("tf.math.exp(-tf.square(x))*tf.math.log(tf.abs(x)+1e-6)", (4,), id="tf-cond-exp"),
        pytest.param("tf.cumsum(x, axis=1, reverse=True) + tf.math.cumprod(x, axis=1)", (4,), id="tf-cumsum"),
        pytest.param("tf.image.per_image_standardization(x)", (4,5,3), id="tf-per-image"),
        pytest.param("tf.image.central_crop(x, 0.5)", (4,6,3), id="tf-central-crop"),
        pytest.param("tf.image.rgb_to_hsv(tf.abs(x))", (4,6,3), id="tf-adjust"),
        pytest.param("tf.image.flip_left_right(x)", (4,6,3), id="tf-flip"),
        pytest.param("tf.nn.lrn(x) ", (4,6,8), id="tf-norm-list"),
        pytest.param("tf.nn.bias_add(x, [1.,2.,3.])", (4,6,3), id="tf-bias"),
        pytest.param("tf.math.unsorted_segment_sum(x[0], [0,1,0,2], 3)", (4,), id="tf-unsorted"),
        pytest.param("tf.searchsorted([0.,1.,2.], x[0])", (4,), id="tf-searchsorted"),
        pytest.param("tf.cast(tf.sequence_mask(tf.cast(x[:,0], 'int32'), 5), 'float32')", (4,), id="tf-seqmask"),
    ],
)  # fmt: skip
def test_function(case2: Case, model: str, shape: tuple[int | None, ...]) -> None:
    case2(model, shape)
