"""Broken ONNX files: trees that are none, words that no operator knows, numbers that no half-precision number has."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.attacks import unusual_onnx
from tests.attacks.making import Make, model

CASES: dict[str, Make] = {}
"""name -> writes the files into a folder; returns their paths as ``convert`` takes them"""


def _tree(yes: list[int], no: list[int], leaves: list[int]) -> Make:
    """A tree ensemble in the place of the Relu, of one tree; ``leaves`` are the numbers of its leaves."""

    def change(m: onnx.ModelProto) -> None:
        count = len(yes)
        m.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))
        m.graph.node[2].CopyFrom(
            helper.make_node(
                "TreeEnsembleRegressor", ["s"], ["y"], domain="ai.onnx.ml", n_targets=1,
                nodes_treeids=[0] * count, nodes_nodeids=list(range(count)), nodes_featureids=[0] * count,
                nodes_values=[0.0] * count, nodes_truenodeids=yes, nodes_falsenodeids=no,
                nodes_modes=["LEAF" if i in leaves else "BRANCH_LEQ" for i in range(count)],
                target_treeids=[0], target_nodeids=[leaves[0] if leaves else 0], target_ids=[0], target_weights=[1.0],
            )
        )  # fmt: skip
        m.graph.output[0].CopyFrom(unusual_onnx.info("y", ["N", 1]))

    return model(change)


def _half(kind: int, number: int) -> Callable[[onnx.ModelProto], None]:
    def change(m: onnx.ModelProto) -> None:
        tensor = TensorProto(name="w0", data_type=kind, dims=[3, 4])
        tensor.int32_data.extend([number] * 12)
        m.graph.initializer[0].CopyFrom(tensor)
        m.graph.node.insert(0, helper.make_node("Cast", ["w0"], ["w"], to=TensorProto.FLOAT))

    return change


def _padded(mode: str) -> Callable[[onnx.ModelProto], None]:
    def change(m: onnx.ModelProto) -> None:
        m.graph.initializer.append(numpy_helper.from_array(np.array([0, 1, 0, 0]), "pads"))
        m.graph.node[2].CopyFrom(helper.make_node("Pad", ["s", "pads"], ["y"], mode=mode))
        m.graph.output[0].CopyFrom(unusual_onnx.info("y", ["N", 5]))

    return change


CASES |= {
    "onnx-tree-that-leads-to-itself": _tree([0], [0], []),
    "onnx-tree-that-leads-back": _tree([1, 2, 0, 0], [3, 3, 3, 0], [3]),
    "onnx-tree-of-lists-that-differ": _tree([1, 0], [1], [1]),
    "onnx-half-beyond-16-bits": model(_half(TensorProto.FLOAT16, 70_000)),
    "onnx-bfloat16-below-0": model(_half(TensorProto.BFLOAT16, -1)),
    "onnx-padding-of-no-kind": model(_padded("mirror")),
}
