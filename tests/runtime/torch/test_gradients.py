"""Gradients of Keras networks: one step of SGD in TensorFlow and one here change the same weights alike."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from netferry import api
from netferry.schemas.layers import Role, role_of
from netferry.schemas.model import Model
from netferry.schemas.tensors import array_of
from tests.converters.keras.oracle import Keras, tensorflow_python

NETS = [
    pytest.param(
        "L.Dense(5)(L.GlobalAveragePooling2D()(L.ReLU()(L.BatchNormalization(momentum=0.9)("
        "L.DepthwiseConv2D(3, padding='same')(L.Conv2D(8, 3, 2, padding='same')(x))))))",
        (13, 10, 3), id="convolutions-batch-norm",
    ),
    pytest.param("L.Dense(4)(L.GRU(6)(L.Bidirectional(L.LSTM(6, return_sequences=True))(x)))", (5, 4), id="recurrent"),
    pytest.param("L.Dense(3)(L.LayerNormalization()(L.MultiHeadAttention(2, 4)(x, x)))", (6, 8), id="attention"),
]  # fmt: skip
STEP = """
import sys, os
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras, numpy as np, tensorflow as tf
folder = sys.argv[1]
model = keras.models.load_model(folder + "/model.h5", compile=False)
x = np.load(folder + "/case.npz")["3:in0"]
with tf.GradientTape() as tape:
    loss = tf.reduce_sum(tf.square(model(x, training=True)))
variables = model.trainable_variables
for variable, gradient in zip(variables, tape.gradient(loss, [v.value for v in variables])):
    variable.assign_sub(0.01 * gradient)
model.save(folder + "/after.h5")
"""


def _values(model: Model, role: Role) -> dict[str, np.ndarray]:
    return {n: np.array(array_of(v)) for n, v in model.graph.initializers.items() if role_of(v) == role}


@pytest.mark.slow
@pytest.mark.parametrize(("expression", "shape"), NETS)
def test_step_equals_tensorflows(
    keras_of: Callable[[int], Keras], expression: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    """Gradients within 1e-4 of the largest of each weight (what a bias's gradient loses to rounding: of all)."""
    keras_of(3).make(
        model=expression, shapes=[shape], dtypes=["float32"], folder=str(tmp_path), seed=7, length=6, scale=2.0, low=0,
        high=8, zeros=False, one_file=True,
    )  # fmt: skip
    python = tensorflow_python()
    assert python is not None
    subprocess.run([python, "-c", STEP, str(tmp_path)], check=True, capture_output=True, timeout=300)
    model, wanted = api.load(tmp_path / "model.h5"), api.load(tmp_path / "after.h5")
    before = _values(model, Role.LEARNABLE)
    module = api.to_torch(model).train()
    x = torch.from_numpy(np.load(tmp_path / "case.npz")["3:in0"])
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01)
    module(x).square().sum().backward()
    optimizer.step()
    assert model.update_from(module)
    after, theirs = _values(model, Role.LEARNABLE), _values(wanted, Role.LEARNABLE)
    assert set(after) == set(theirs)
    moved = {n: (after[n] - before[n], theirs[n] - before[n]) for n in before}
    largest = max(float(np.abs(b).max()) for _, b in moved.values())
    for name, (a, b) in moved.items():
        # a weight holds its step to about 1e-7 of its own size
        rounding = 2e-7 * float(np.abs(before[name]).max())
        bound = 1e-4 * float(np.abs(b).max()) + rounding + 1e-6 * largest
        assert float(np.abs(a - b).max()) <= bound, name
    for name, value in _values(model, Role.STATE).items():
        # torch's running variance is the unbiased one: 105 values a channel, a tenth of them new, differ by 0.1 / 104
        np.testing.assert_allclose(value, _values(wanted, Role.STATE)[name], rtol=1.1e-3, atol=1e-5)
