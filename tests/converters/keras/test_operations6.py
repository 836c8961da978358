"""Operation nodes of Keras 3 with settings that are seldom used, against the real one."""

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
        pytest.param("ops.full_like(x, x[:1, :1, :1, :1] * 2.0)", [P], {}, id="full-like-tensor"),
        pytest.param("ops.full_like(x, 2, dtype='bool')", [P], {}, id="full-like-bool"),
        pytest.param("ops.full((2, 3), x[0, 0])", [V], {}, id="full"),
        pytest.param("ops.linspace(x, x * 3.0, 5)", [V], {}, id="linspace"),
        pytest.param("ops.arange(3, dtype='float32') + x", [(3,)], {}, id="arange"),
        pytest.param("ops.take(x, [1, 0, 3])", [V], {}, id="take-flat"),
        pytest.param("ops.take_along_axis(x, np.array([[1, 0, 3, 0]], 'int32'), axis=1)", [V], {}, id="take-along"),
        pytest.param("ops.slice(x, (0, 1), (1, 2))", [V], {}, id="slice"),
        pytest.param("ops.slice(x, (0, 0), (1, 4)) * 1", [V], {}, id="slice-whole"),
        pytest.param("ops.einsum('bij,bjk', x, x)", [(4, 4)], {}, id="einsum-implicit"),
        pytest.param("ops.einsum('...ij,jk->...ik', x, np.ones((3, 2), 'float32'))", [P], {}, id="einsum-dots"),
        pytest.param("ops.einsum('bqd,bkd->bqk', x, x)", [(4, 3)], {}, id="einsum-heads"),
        pytest.param(
            "ops.einsum('bqk,bkd->bqd', ops.matmul(x, ops.transpose(x, (0, 2, 1))), x)",
            [(4, 3)], {}, id="einsum-plain",
        ),
        pytest.param("ops.einsum('bii->bi', x)", [(4, 4)], {}, id="einsum-diagonal"),
        pytest.param("ops.einsum('bi,bj->bij', x, x)", [V], {}, id="einsum-outer"),
        pytest.param("ops.einsum('bij,jk->bki', x, np.ones((3, 2), 'float32'))", [(4, 3)], {}, id="einsum-swapped"),
        pytest.param(
            "ops.tensordot(x, np.arange(30, dtype='float32').reshape(5, 3, 2), axes=2)",
            [P], {}, id="tensordot-number",
        ),
        pytest.param("ops.outer(x[0], x[0] * 2)", [V], {}, id="outer"),
        pytest.param("ops.vdot(x[0], x[0] * 2)", [V], {}, id="vdot"),
        pytest.param("ops.dot(x, 2.0)", [V], {}, id="dot-scalar"),
        pytest.param("ops.inner(x, x)", [V], {}, id="inner"),
        pytest.param("ops.trace(x, axis1=1, axis2=2)", [(4, 4, 3)], {}, id="trace"),
        pytest.param(
            "ops.dot_product_attention(x, x, x, bias=np.arange(16, dtype='float32').reshape(1, 1, 4, 4) / 9)",
            [(4, 2, 3)], {}, id="attention-bias",
        ),
        pytest.param(
            "ops.dot_product_attention(x, x, x, mask=np.tril(np.ones((1, 1, 4, 4), bool)))",
            [(4, 2, 3)], {}, id="attention-mask",
        ),
        pytest.param("ops.dot_product_attention(x, x, x, scale=0.3)", [(4, 2, 3)], {}, id="attention-scale"),
        pytest.param("ops.transpose(" + CONV + ")", [P], {}, id="transpose-all"),
        pytest.param("ops.ravel(" + CONV + ")", [P], {}, id="ravel"),
        pytest.param("ops.append(x, x * 2, axis=2)", [P], {}, id="append"),
        pytest.param("ops.append(x, x * 2)", [V], {}, id="append-flat"),
        pytest.param("ops.dstack([x, x * 2])", [(4, 3)], {}, id="dstack"),
        pytest.param("ops.vstack([x, x * 2])", [(4, 3)], {}, id="vstack"),
        pytest.param("ops.split(x, 1, axis=1)", [P], {}, id="split-one"),
        pytest.param("ops.array_split(x, 3, axis=2)", [P], {}, id="array-split"),
        pytest.param("ops.size(x)", [S], {}, id="size"),
        pytest.param("ops.sum(ops.cast(x, 'uint8'), axis=1)", [V], INT, id="sum-uint8"),
        pytest.param("ops.cumsum(x, axis=1, dtype='float32')", [V], INT, id="sum-dtype"),
        pytest.param("ops.ptp(x, axis=1)", [P], {}, id="ptp"),
        pytest.param("ops.norm(x, ord=np.inf, axis=1)", [P], {}, id="norm-inf"),
        pytest.param("ops.norm(x, ord=-np.inf, axis=2, keepdims=True)", [P], {}, id="norm-minus"),
        pytest.param("ops.norm(x, ord=3, axis=1)", [P], {}, id="norm-3"),
        pytest.param("ops.norm(x, ord='fro', axis=(1, 2))", [P], {}, id="norm-fro"),
        pytest.param("ops.normalize(x, axis=-1, order=1)", [P], {}, id="normalize-1"),
        pytest.param("ops.normalize(x, axis=(1, 2))", [P], {}, id="normalize-2"),
        pytest.param("ops.argmax(x)", [P], {}, id="argmax-flat"),
        pytest.param("ops.argmin(x > 0.3, axis=1)", [P], {}, id="argmin-bool"),
        pytest.param("ops.cumsum(x)", [V], {}, id="cumsum-flat"),
        pytest.param("ops.sort(x, axis=None)", [V], {}, id="sort-flat"),
        pytest.param("ops.argsort(x, axis=None)", [V], {}, id="argsort-flat"),
        pytest.param("ops.sparsemax(x)", [(5,)], {}, id="sparsemax"),
        pytest.param("x + ops.cast(x, 'int64')", [V], INT, id="promote-int"),
        pytest.param("ops.cast(x, 'uint8') + ops.cast(x, 'int16')", [V], INT, id="promote-uint8"),
        pytest.param("(x > 0) + 1", [V], {}, id="bool-plus"),
        pytest.param("L.Flatten()(" + CONV + ") + 1.0", [P], {}, id="flat-plus"),
        pytest.param("L.Flatten()(" + CONV + ") * L.Flatten()(" + CONV + ")", [P], {}, id="flat-plus-flat"),
        pytest.param("L.Flatten()(" + CONV + ") + np.arange(60, dtype='float32')", [P], {}, id="flat-plus-vector"),
        pytest.param("L.Softmax()(L.Flatten()(" + CONV + "))", [P], {}, id="flat-softmax"),
        pytest.param(CONV + " + x[0]", [P], {}, id="conv-plus-smaller"),
        pytest.param(CONV + " * x[0, 0]", [P], {}, id="conv-plus-line"),
        pytest.param("ops.cbrt(x)", [P], {}, id="cbrt"),
        pytest.param("ops.sinc(x)", [P], {}, id="sinc"),
        pytest.param("ops.sinc(ops.relu(x))", [P], {}, id="sinc-0"),
        pytest.param("ops.saturate_cast(x * 300.0, 'uint8')", [P], {}, id="saturate"),
        pytest.param("ops.floor(x)", [V], INT, id="floor-int"),
        pytest.param("ops.trunc(x)", [V], INT, id="trunc-int"),
        pytest.param("ops.square(x > 0)", [V], {}, id="square-bool"),
        pytest.param("ops.hypot(x, x * 2 + 1)", [P], {}, id="hypot"),
        pytest.param("ops.fmod(x, 0.3)", [P], {}, id="fmod"),
        pytest.param("ops.clip(x, 1, 3)", [V], INT, id="clip-int"),
        pytest.param("ops.isclose(ops.log(x), ops.log(x), equal_nan=True)", [V], {}, id="isclose-nan"),
        pytest.param("ops.tile(x, (2,))", [P], {}, id="tile-short"),
        pytest.param("ops.tile(x, (2, 1, 3, 1, 2, 1))", [P], {}, id="tile-long"),
        pytest.param("ops.repeat(x, 2)", [V], {}, id="repeat-flat"),
        pytest.param("ops.repeat(" + CONV + ", [1, 0, 2, 1], axis=1)", [P], {}, id="repeat-counts"),
        pytest.param("ops.roll(x, [0, 4], axis=[2, 1])", [P], {}, id="roll-0"),
        pytest.param("ops.roll(x, [1, -2], axis=[2, 1])", [P], {}, id="roll-several"),
        pytest.param("ops.rot90(x, k=4, axes=(1, 2))", [P], {}, id="rot90-0"),
        pytest.param(
            "ops.conv(x, np.ones((2, 4, 3), 'float32'), strides=1, padding='valid')",
            [(6, 4)], {}, id="conv1d",
        ),
        pytest.param("ops.conv(x, np.ones((2, 2, 3, 2), 'float32'), dilation_rate=2)", [P], {}, id="conv-dilated"),
        pytest.param("ops.image.resize(x, (3, 6), crop_to_aspect_ratio=True)", [(6, 5, 3)], {}, id="resize-crop"),
        pytest.param(
            "ops.batch_normalization(x, np.array([.1, .2, .3], 'float32'), np.array([1., 2., 3.], 'float32'), -1)",
            [P], {}, id="bn-plain",
        ),
        pytest.param(
            "ops.batch_normalization(" + CONV + ", np.array([.1, .2, .3], 'float32'), np.array([1., 2., 3.], 'float32'), -1, scale=np.array([2., 1., 3.], 'float32'))",
            [P], {}, id="bn-conv",
        ),
        pytest.param(
            "ops.layer_normalization(" + CONV + ", gamma=np.array([1., 2., 3.], 'float32'), beta=np.array([1., 2., 4.], 'float32'), axis=-1)",
            [P], {}, id="layernorm-both",
        ),
        pytest.param("ops.linspace(x, x * 3.0, 4, endpoint=False)", [V], {}, id="linspace-end"),
        pytest.param("ops.linspace(x, 3.0, 4)", [V], {}, id="linspace-number"),
        pytest.param("ops.full((2, 3), x[0, 0], dtype='int32')", [V], {}, id="full-int"),
        pytest.param("ops.log_softmax(x, axis=1)", [P], {}, id="log-softmax-one"),
        pytest.param("ops.log_softmax(L.Flatten()(" + CONV + "))", [P], {}, id="flat-log-softmax"),
        pytest.param("ops.reshape(L.Flatten()(" + CONV + "), (-1,))", [P], {}, id="flat-reshape"),
        pytest.param(
            "ops.take_along_axis(x, np.array([[[1], [0], [3], [0]]], 'int32'), axis=2)",
            [(4, 5)], {}, id="take-along-rows",
        ),
    ],
)  # fmt: skip
def test_agrees(case3: Case, model: str, shapes: list[tuple[int | None, ...]], more: dict[str, Any]) -> None:
    case3(model, *shapes, kinds=("keras", "h5"), **more)
