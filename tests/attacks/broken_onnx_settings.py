"""Broken ONNX files: one node that contradicts its operator; with most, onnx's inference crashes or comes to no end."""

from __future__ import annotations

from typing import Any

import onnx
from onnx import helper

from tests.attacks import unusual_onnx
from tests.attacks.making import Make, model

CASES: dict[str, Make] = {}
"""name -> writes the files into a folder; returns their paths as ``convert`` takes them"""


def _node(op: str, inputs: list[str], outputs: list[str] | None = None, opset: int = 0, **settings: Any) -> Make:
    """A node behind the linear network of unusual_onnx: ``y`` is its output, ``b`` a vector, ``w`` a matrix."""

    def change(m: onnx.ModelProto) -> None:
        m.graph.node.append(helper.make_node(op, inputs, ["z"] if outputs is None else outputs, **settings))
        m.graph.output[0].CopyFrom(unusual_onnx.info("z", ["N", "M"]))
        if opset:
            m.opset_import[0].version = opset

    return model(change)


def _scan(count: int) -> Make:
    body = helper.make_graph(
        [helper.make_node("Identity", ["i"], ["o"])],
        "b",
        [unusual_onnx.info("i", None)],
        [unusual_onnx.info("o", None)],
    )
    return _node("Scan", ["y"], body=body, num_scan_inputs=count)


CASES |= {
    "onnx-scan-of-2-billion-inputs": _scan(1 << 31),
    "onnx-scan-of-no-inputs": _scan(0),
    "onnx-axis-beyond-all": _node("Softmax", ["y"], axis=(1 << 63) - 1),
    "onnx-norm-of-an-axis-beyond-all": _node("LayerNormalization", ["y", "b"], axis=(1 << 63) - 1),
    "onnx-equation-of-nothing": _node("Einsum", ["y", "y"], equation="\0"),
    "onnx-equation-of-other-letters": _node("Einsum", ["y"], equation="é->é"),
    "onnx-batch-axes-below-0": _node("GatherND", ["y", "b"], batch_dims=-(1 << 31)),
    "onnx-split-into-trillions": _node("Split", ["y"], opset=18, num_outputs=1 << 62),
    "onnx-cast-to-type-100": _node("Cast", ["y"], to=100),
    "onnx-random-of-type-minus-1": _node("RandomNormalLike", ["y"], dtype=-1),
    "onnx-needed-input-left-out": _node("Gather", ["", "b"]),
    "onnx-needed-output-left-out": _node("Softmax", ["y"], [""]),
    "onnx-concat-of-nothing": _node("Concat", [""], axis=0),
    "onnx-split-into-fewer-than-it-has-outputs": _node("Split", ["y"], ["z", "u", "v"], opset=18, num_outputs=2),
    "onnx-norm-in-type-100": _node("LayerNormalization", ["y", "b"], opset=17, stash_type=100),
    "onnx-norm-in-type-2-billion": _node("LayerNormalization", ["y", "b"], opset=17, stash_type=1 << 31),
    "onnx-strides-of-quintillions": _node("MaxPool", ["y"], kernel_shape=[1], strides=[1 << 62]),
    "onnx-pads-of-quintillions": _node("AveragePool", ["y"], kernel_shape=[1], pads=[-(1 << 62), 1 << 62]),
    "onnx-axes-of-quintillions": _node("ReduceMax", ["y"], axes=[(1 << 63) - 1]),
    "onnx-axes-in-an-order-of-quintillions": _node("Transpose", ["y"], perm=[0, 1 << 62]),
    "onnx-stft-of-a-vector": _node("STFT", ["b", "b"], opset=17),
}  # fmt: skip
