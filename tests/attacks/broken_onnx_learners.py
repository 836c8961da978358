"""Broken ONNX files: trees that are none, lists of learners that do not fit together, words that no operator knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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


def _learner(kind: str, **settings: Any) -> Make:
    """A learner in the place of the Relu."""
    domain = "" if kind == "TfIdfVectorizer" else "ai.onnx.ml"

    def change(m: onnx.ModelProto) -> None:
        m.opset_import.append(helper.make_opsetid("ai.onnx.ml", 5 if kind == "TreeEnsemble" else 3))
        source, made, more = "s", TensorProto.FLOAT, []
        if kind.endswith("Classifier"):
            made, more = TensorProto.INT64, ["scores"]
        if kind in ("LabelEncoder", "TfIdfVectorizer"):
            m.graph.node.insert(2, helper.make_node("Cast", ["s"], ["whole"], to=TensorProto.INT64))
            source, made = "whole", TensorProto.FLOAT if kind == "TfIdfVectorizer" else TensorProto.INT64
        m.graph.node[-1].CopyFrom(helper.make_node(kind, [source], ["y", *more], domain=domain, **settings))
        m.graph.output[0].CopyFrom(unusual_onnx.info("y", ["N"] if more else ["N", "C"], made))

    return model(change)


def _two_inputs(m: onnx.ModelProto) -> None:
    m.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    settings: dict[str, Any] = {"keys_floats": [1.0], "values_floats": [2.0]}
    m.graph.node[-1].CopyFrom(helper.make_node("LabelEncoder", ["s", "s"], ["y"], domain="ai.onnx.ml", **settings))


def _planted(**changes: Any) -> Make:
    """A sound tree, changed."""
    sound = {
        "nodes_treeids": [0, 0, 0], "nodes_nodeids": [0, 1, 2], "nodes_featureids": [0, 0, 0],
        "nodes_values": [0.0] * 3, "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"], "nodes_truenodeids": [1, 0, 0],
        "nodes_falsenodeids": [2, 0, 0], "target_treeids": [0, 0], "target_nodeids": [1, 2], "target_ids": [0, 0],
        "target_weights": [1.0, 2.0], "n_targets": 1,
    }  # fmt: skip
    return _learner("TreeEnsembleRegressor", **(sound | changes))


def _of_version_5(**changes: Any) -> Make:
    """A sound tree of version 5, changed."""
    sound = {
        "n_targets": 1, "tree_roots": [0], "nodes_featureids": [0], "nodes_truenodeids": [0], "nodes_trueleafs": [1],
        "nodes_modes": numpy_helper.from_array(np.zeros(1, np.uint8)), "nodes_falsenodeids": [1],
        "nodes_splits": numpy_helper.from_array(np.zeros(1, np.float32)), "nodes_falseleafs": [1],
        "leaf_targetids": [0, 0], "leaf_weights": numpy_helper.from_array(np.ones(2, np.float32)),
    }  # fmt: skip
    return _learner("TreeEnsemble", **(sound | changes))


_GRAMS: dict[str, Any] = {
    "mode": "TF", "min_gram_length": 1, "max_gram_length": 1, "max_skip_count": 0, "ngram_counts": [0],
    "ngram_indexes": [0, 1], "pool_int64s": [1, 2],
}  # fmt: skip
_VECTORS: dict[str, Any] = {
    "classlabels_ints": [0, 1, 2], "coefficients": [1.0] * 6, "kernel_params": [0.1, 0.0, 3.0], "kernel_type": "RBF",
    "support_vectors": [1.0] * 12, "vectors_per_class": [1, 1, 1], "rho": [0.1] * 3,
}  # fmt: skip


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


def _scaled(m: onnx.ModelProto) -> None:
    m.graph.initializer.append(numpy_helper.from_array(np.array([1, 0], np.float32), "scales"))
    m.graph.node[2].CopyFrom(helper.make_node("Resize", ["s", "", "scales"], ["y"]))
    m.graph.output[0].CopyFrom(unusual_onnx.info("y", ["N", "C"]))


def _recurrent(m: onnx.ModelProto) -> None:
    weights = {"axis": np.array([0]), "k": np.ones((1, 2, 4), np.float32), "r": np.ones((1, 2, 2), np.float32)}
    m.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    del m.graph.node[2:]
    m.graph.node.append(helper.make_node("Unsqueeze", ["s", "axis"], ["t"]))
    m.graph.node.append(helper.make_node("RNN", ["t", "k", "r"], ["", "y"], hidden_size=2, activations=["Foo"]))
    m.graph.output[0].CopyFrom(unusual_onnx.info("y", [1, "N", 2]))


CASES |= {
    "onnx-tree-that-leads-to-itself": _tree([0], [0], []),
    "onnx-tree-that-leads-back": _tree([1, 2, 0, 0], [3, 3, 3, 0], [3]),
    "onnx-tree-of-lists-that-differ": _tree([1, 0], [1], [1]),
    "onnx-tree-without-a-node": _planted(nodes_truenodeids=[77, 0, 0]),
    "onnx-tree-with-a-node-twice": _planted(nodes_nodeids=[0, 1, 1]),
    "onnx-tree-with-leaves-of-no-node": _planted(target_nodeids=[77, 2]),
    "onnx-tree-of-a-target-too-many": _planted(target_ids=[0, 9]),
    "onnx-tree-of-a-feature-below-0": _planted(nodes_featureids=[-5, 0, 0]),
    "onnx-tree-of-a-weight-too-few": _planted(target_weights=[1.0]),
    "onnx-tree-with-leaves-of-no-tree": _planted(target_treeids=None),
    "onnx-tree-of-a-median": _planted(aggregate_function="MEDIAN"),
    "onnx-trees-with-a-root-beyond": _of_version_5(tree_roots=[9]),
    "onnx-trees-with-a-leaf-beyond": _of_version_5(nodes_falsenodeids=[9]),
    "onnx-trees-with-a-leaf-below-0": _of_version_5(nodes_falsenodeids=[-9]),
    "onnx-trees-of-an-unknown-sum": _of_version_5(aggregate_function=9),
    "onnx-encoder-of-two-inputs": model(_two_inputs),
    "onnx-keys-without-values": _learner("LabelEncoder", keys_int64s=[1, 2, 3], values_int64s=[4]),
    "onnx-scales-for-other-offsets": _learner("Scaler", scale=[1.0, 2.0], offset=[1.0, 2.0, 3.0]),
    "onnx-imputer-without-values": _learner("Imputer", replaced_value_float=0.0),
    "onnx-norm-unknown": _learner("Normalizer", norm="L7"),
    "onnx-linear-of-other-labels": _learner("LinearClassifier", classlabels_ints=[0, 1, 2], coefficients=[1.0] * 4, intercepts=[0.1]),
    "onnx-linear-of-500-targets": _learner("LinearRegressor", coefficients=[1.0] * 4, targets=500),
    "onnx-vectors-too-few": _learner("SVMClassifier", **_VECTORS | {"vectors_per_class": [100, 200, 300]}),
    "onnx-vectors-below-0": _learner("SVMClassifier", **_VECTORS | {"vectors_per_class": [-1, 3, 1]}),
    "onnx-vectors-of-other-labels": _learner("SVMClassifier", **_VECTORS | {"classlabels_ints": [0, 1]}),
    "onnx-vectors-with-probabilities-too-few": _learner("SVMClassifier", **_VECTORS | {"prob_a": [1.0], "prob_b": [1.0]}),
    "onnx-kernel-of-one-number": _learner("SVMRegressor", kernel_type="POLY", kernel_params=[0.1], n_supports=1, coefficients=[1.0], support_vectors=[1.0] * 4, rho=[0.1]),
    "onnx-grams-beyond-the-pool": _learner("TfIdfVectorizer", **_GRAMS | {"ngram_counts": [0, 999]}),
    "onnx-grams-of-terabytes": _learner("TfIdfVectorizer", **_GRAMS | {"max_gram_length": 1 << 40}),
    "onnx-grams-of-a-weight-too-few": _learner("TfIdfVectorizer", **_GRAMS | {"weights": [1.0]}),
    "onnx-grams-that-skip-without-end": _learner("TfIdfVectorizer", **_GRAMS | {"max_gram_length": 2, "ngram_counts": [0, 2], "max_skip_count": 1 << 60}),
    "onnx-grams-of-a-place-below-0": _learner("TfIdfVectorizer", **_GRAMS | {"ngram_indexes": [0, -7]}),
    "onnx-half-beyond-16-bits": model(_half(TensorProto.FLOAT16, 70_000)),
    "onnx-bfloat16-below-0": model(_half(TensorProto.BFLOAT16, -1)),
    "onnx-scale-of-0": model(_scaled),
    "onnx-recurrence-of-no-kind": model(_recurrent),
    "onnx-padding-of-no-kind": model(_padded("mirror")),
}  # fmt: skip
