"""Run by a Python with TensorFlow: VGGish in TensorFlow 1's operators, its checkpoint of one file, and its answers."""

from __future__ import annotations

import os
import sys
from typing import Any

os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import numpy as np
import tensorflow as tf

SHAPES = {
    "conv1": (3, 3, 1, 64),
    "conv2": (3, 3, 64, 128),
    "conv3/conv3_1": (3, 3, 128, 256),
    "conv3/conv3_2": (3, 3, 256, 256),
    "conv4/conv4_1": (3, 3, 256, 512),
    "conv4/conv4_2": (3, 3, 512, 512),
    "fc1/fc1_1": (12288, 4096),
    "fc1/fc1_2": (4096, 4096),
    "fc2": (4096, 128),
}


def main() -> None:
    """Write the checkpoint (first argument) and inputs with outputs (second)."""
    tf1: Any = tf.compat.v1
    tf1.disable_eager_execution()
    rng = np.random.default_rng(0)
    held = {}
    for name, shape in SHAPES.items():
        spread = np.float32(np.sqrt(2 / np.prod(shape[:-1])))
        held[f"{name}/weights"] = rng.standard_normal(shape, dtype=np.float32) * spread
        held[f"{name}/biases"] = rng.standard_normal(shape[-1], dtype=np.float32) * np.float32(0.1)
    v = {name: tf1.Variable(value, name=f"vggish/{name}") for name, value in held.items()}
    tf1.Variable(np.int64(3), name="global_step")

    def conv(x: Any, name: str) -> Any:
        return tf.nn.relu(tf.nn.conv2d(x, v[f"{name}/weights"], 1, "SAME") + v[f"{name}/biases"])

    def full(x: Any, name: str) -> Any:
        return tf.matmul(x, v[f"{name}/weights"]) + v[f"{name}/biases"]

    x: Any = tf1.placeholder(tf.float32, [None, 96, 64, 1])
    y = x
    for group in (["conv1"], ["conv2"], ["conv3/conv3_1", "conv3/conv3_2"], ["conv4/conv4_1", "conv4/conv4_2"]):
        for name in group:
            y = conv(y, name)
        y = tf.nn.max_pool2d(y, 2, 2, "SAME")
    y = tf.nn.relu(full(tf.reshape(y, [-1, 12288]), "fc1/fc1_1"))
    y = full(tf.nn.relu(full(y, "fc1/fc1_2")), "fc2")
    with tf1.Session() as session:
        session.run(tf1.global_variables_initializer())
        saver = tf1.train.Saver(write_version=tf1.train.SaverDef.V1)
        saver.save(session, sys.argv[1], write_meta_graph=False)
        patches = np.random.default_rng(1).standard_normal((3, 96, 64, 1)).astype(np.float32)
        np.savez(sys.argv[2], x=patches, y=session.run(y, {x: patches}))


if __name__ == "__main__":
    main()
