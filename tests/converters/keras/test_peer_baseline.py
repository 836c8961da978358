"""The 20 small networks on which other converters were measured: all in parity, no Loop, learnables and ties kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import onnx
import pytest

from netferry.converters.keras.read import read
from netferry.converters.options import ReadOptions
from netferry.schemas.graph import Builder
from netferry.schemas.ir import ir
from tests.converters.keras.oracle import Case, in_memory

MODELS = [
    pytest.param("L.Dense(5)(L.Dense(10, activation='relu')(x))", [(13,)], {"Gemm": 2, "Transpose": 0}, {}, id="mlp"),
    pytest.param(
        "L.Dense(10, activation='softmax')(L.Flatten()(L.MaxPooling2D(2)(L.Conv2D(8, 3, activation='relu')(x))))",
        [(14, 11, 3)], {"Conv": 1, "Transpose": 1}, {}, id="conv-pool-flatten-dense",
    ),
    pytest.param(
        "L.AveragePooling2D(3, 2, padding='same')(L.Conv2D(4, 3, 2, padding='same')(x))",
        [(13, 10, 3)], {"Conv": 1, "Transpose": 2}, {}, id="same-stride-2",
    ),
    pytest.param(
        "L.ReLU(6.)(L.BatchNormalization()(L.DepthwiseConv2D(3)(L.SeparableConv2D(6, 3, padding='same')(x))))",
        [(9, 8, 3)], {"Conv": 3, "BatchNormalization": 1, "Transpose": 2}, {}, id="separable-depthwise-bn-relu6",
    ),
    pytest.param("L.Dense(4)(L.LSTM(6)(x))", [(None, 5)], {"LSTM": 1}, {}, id="lstm"),
    pytest.param("L.Dense(4)(L.GRU(6)(x))", [(None, 5)], {"GRU": 1}, {}, id="gru"),
    pytest.param("L.Bidirectional(L.LSTM(6, return_sequences=True))(x)", [(None, 5)], {"LSTM": 1}, {}, id="bilstm"),
    pytest.param(
        "L.Dense(2)(L.LSTM(6)(L.Embedding(11, 7, mask_zero=True)(x)))",
        [(None,)], {"LSTM": 1}, {"dtypes": ("int32",), "low": 1, "zeros": True}, id="embedding-mask-lstm",
    ),
    pytest.param(
        "(lambda inner: L.Add()([inner(xs[0]), inner(xs[1])]))"
        "((lambda i: keras.Model(i, L.Dense(4)(L.Dense(6, activation='tanh')(i)), name='twin'))(keras.Input((5,))))",
        [(5,), (5,)], {"Gemm": 4}, {}, id="nested-shared",
    ),
    pytest.param(
        "L.TimeDistributed(L.Conv2D(4, 3, padding='same'))(x)",
        [(None, 8, 7, 3)], {"Conv": 1, "Transpose": 2}, {}, id="time-distributed-conv",
    ),
    pytest.param("L.MultiHeadAttention(2, 4)(x, x)", [(None, 8)], {"Softmax": 1}, {}, id="multi-head-attention"),
    pytest.param(
        "L.Conv2D(4, 3)(L.RandomRotation(0.1)(L.RandomFlip()(L.Rescaling(1/127.5, -1)(x))))",
        [(12, 10, 3)], {"Conv": 1, "Transpose": 2}, {"scale": 128.0}, id="augmentation",
    ),
    pytest.param(
        "L.Conv2DTranspose(4, 3, 2, padding='same')(x)",
        [(7, 6, 3)], {"ConvTranspose": 1, "Transpose": 2}, {}, id="conv-transpose",
    ),
    pytest.param(
        "L.Activation('gelu')(L.LayerNormalization()(x))", [(6, 8)], {"LayerNormalization": 1, "Gelu": 1}, {}, id="gelu"
    ),
    pytest.param(
        "L.UpSampling2D(2, interpolation='bilinear')(x)", [(5, 6, 3)], {"Resize": 1, "Transpose": 2}, {}, id="upsampling"
    ),
    pytest.param(
        "L.Conv1D(6, 3, padding='causal', dilation_rate=2)(x)", [(None, 4)], {"Conv": 1, "Transpose": 2}, {}, id="causal"
    ),
    pytest.param("L.GroupNormalization(4)(x)", [(6, 5, 8)], {"Transpose": 2}, {}, id="group-norm"),
    pytest.param(
        "L.ConvLSTM2D(4, 3, padding='same')(L.Reshape((2, 6, 5, 2))(L.Permute((2, 1))(x)))",
        [(12, 10)], {"Scan": 1}, {"tolerance": 1e-4}, id="permute-reshape-convlstm",
    ),
    pytest.param(
        "L.Cropping2D(((0, 1), (2, 0)))(L.ZeroPadding2D((2, 1))(L.PReLU(shared_axes=[1, 2])(x)))",
        [(6, 5, 3)], {"PRelu": 1, "Transpose": 2}, {}, id="prelu-padding-cropping",
    ),
]  # fmt: skip


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from all_nodes(attribute.g)


@pytest.mark.parametrize(("model", "shapes", "operators", "options"), MODELS)
def test_model(
    case: Case, model: str, shapes: list[tuple[int, ...]], operators: dict[str, int], options: dict[str, Any]
) -> None:
    made = case(model, *shapes, **options)
    found = [n.op_type for n in all_nodes(made.proto.graph)]
    assert "Loop" not in found
    assert "If" not in found
    for name, count in operators.items():
        assert found.count(name) <= count if name == "Transpose" else found.count(name) == count, (name, found)


def test_lambda_is_replaced_by_the_user(case: Case) -> None:
    """Its code is never run: it is a placeholder until someone says what it computes."""
    case.keras.make(
        model="L.Dense(3)(L.Lambda(lambda t: t * 2.0, name='twice')(x))", shapes=[(5,)], dtypes=["float32"], seed=7,
        folder=str(case.folder), length=6, scale=1.0, low=0, high=8, zeros=False, one_file=True,
    )  # fmt: skip
    model = read(case.folder / "model.h5", ReadOptions())
    assert [n.name for n in model.placeholders()] == ["twice"]

    def twice(b: Builder, node: ir.Node) -> ir.Value:
        return b.op("Mul", node.inputs[0], b.const(2.0, "factor"))

    model.replace("twice", twice)
    assert not model.placeholders()
    case.compare(in_memory(model), 1e-5)
