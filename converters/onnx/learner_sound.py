"""Do the lists of ai.onnx.ml's learners and of TfIdfVectorizer fit together? onnx's check asks for none of it."""

from __future__ import annotations

from collections.abc import Callable

import onnx

from netferry.converters.onnx.tree_sound import TREES, check_trees
from netferry.errors import MalformedFile, quoted

_WORDS: dict[str, frozenset[str]] = {
    "aggregate_function": frozenset({"AVERAGE", "SUM", "MIN", "MAX"}),
    "kernel_type": frozenset({"LINEAR", "POLY", "RBF", "SIGMOID"}),
    "nodes_modes": frozenset({
        "BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ", "LEAF",
    }),
    "norm": frozenset({"MAX", "L1", "L2"}),
    "post_transform": frozenset({"NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"}),
}  # fmt: skip
_NUMBERED = {"aggregate_function": 3, "post_transform": 4}
"""the same of TreeEnsemble, where numbers stand for words"""
_LONGEST_SKIP = 1 << 24
"""words between those of an n-gram; onnxruntime counts up to it for every row, whatever the row's length"""


def check_learner(node: onnx.NodeProto) -> None:
    """Raise where the settings of a learner contradict each other.

    Raises:
        MalformedFile: lists that belong together differ in length, a word that no learner knows, trees that are none.
    """
    if any(a.ref_attr_name for a in node.attribute):
        return  # a function's
    for attribute in node.attribute:
        most = _NUMBERED.get(attribute.name) if node.op_type == "TreeEnsemble" else None
        if most is not None and not 0 <= attribute.i <= most:
            raise _failed(node, f"{attribute.name}={attribute.i} is not between 0 and {most}")
        words = _WORDS.get(attribute.name, frozenset())
        for said in {*attribute.strings, attribute.s} - {b""} if words else ():
            if (text := said.decode("utf-8", "backslashreplace")) not in words:
                raise _failed(node, f"{attribute.name}={quoted(text)} is none of {', '.join(sorted(words))}")
    if node.op_type in TREES:
        check_trees(node)
    elif (check := _LEARNERS.get(node.op_type)) is not None:
        check(node)


def check_grams(node: onnx.NodeProto) -> None:
    """Raise where a TfIdfVectorizer has no pool of n-grams, one of another size than it says, or skips without end."""
    pool = _size(node, "pool_int64s") + _size(node, "pool_strings")
    starts = _ints(node, "ngram_counts")
    if any(a.ref_attr_name for a in node.attribute) or not starts:
        return
    most = _number(node, "max_gram_length", 1)
    if not 1 <= _number(node, "min_gram_length", 1) <= most or most > len(starts):
        raise _failed(node, f"n-grams of up to {most}, ngram_counts has {len(starts)} numbers")
    if starts != sorted(starts) or starts[0] < 0 or starts[-1] > pool:
        raise _failed(node, f"ngram_counts is no row of places in a pool of {pool}")
    weights, indices = _size(node, "weights"), _size(node, "ngram_indexes")
    if weights and weights != indices:
        raise _failed(node, f"{weights} weights for {indices} n-grams")
    if any(place < 0 for place in _ints(node, "ngram_indexes")):
        raise _failed(node, "ngram_indexes has a place below 0")
    if (skipped := _number(node, "max_skip_count", 0)) > _LONGEST_SKIP:
        raise _failed(node, f"max_skip_count={skipped}, no more than {_LONGEST_SKIP} words are skipped")


def _failed(node: onnx.NodeProto, reason: str) -> MalformedFile:
    return MalformedFile(reason, layer=node.name or node.op_type)


def _size(node: onnx.NodeProto, name: str) -> int:
    """How many numbers or texts an attribute holds."""
    return sum(len(a.ints) + len(a.floats) + len(a.strings) for a in node.attribute if a.name == name)


def _ints(node: onnx.NodeProto, name: str) -> list[int]:
    return [v for a in node.attribute if a.name == name for v in a.ints]


def _number(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((a.i for a in node.attribute if a.name == name), default)


def _encoder(node: onnx.NodeProto) -> None:
    keys, values = (
        sum(_size(node, f"{what}_{kind}") for kind in ("int64s", "strings", "floats")) for what in ("keys", "values")
    )
    if keys and values and keys != values:
        raise _failed(node, f"{keys} keys for {values} values")


def _scaler(node: onnx.NodeProto) -> None:
    scale, offset = _size(node, "scale"), _size(node, "offset")
    if scale > 1 and offset > 1 and scale != offset:
        raise _failed(node, f"{scale} scales for {offset} offsets")


def _imputer(node: onnx.NodeProto) -> None:
    if bool(_size(node, "imputed_value_floats")) == bool(_size(node, "imputed_value_int64s")):
        raise _failed(node, "imputed values are either floats or whole numbers")


def _linear(node: onnx.NodeProto) -> None:
    labels = _size(node, "classlabels_ints") or _size(node, "classlabels_strings")
    rows, numbers = _size(node, "intercepts"), _size(node, "coefficients")
    if rows and (numbers % rows or (labels and rows != labels and (rows, labels) != (1, 2))):
        raise _failed(node, f"{numbers} coefficients and {rows} intercepts for {labels} labels")


def _regressor(node: onnx.NodeProto) -> None:
    targets, numbers = _number(node, "targets", 1), _size(node, "coefficients")
    if targets < 1 or numbers % targets:
        raise _failed(node, f"{numbers} coefficients for {targets} targets")


def _machine(node: onnx.NodeProto) -> None:
    """A support vector machine: coefficients for each vector, its kernel's three numbers."""
    if _size(node, "kernel_params") not in (0, 3):
        raise _failed(node, f"a kernel has 3 parameters, not {_size(node, 'kernel_params')}")
    per_class = _ints(node, "vectors_per_class")
    vectors = sum(per_class) if node.op_type == "SVMClassifier" else _number(node, "n_supports", 0)
    if vectors < 0 or any(v < 0 for v in per_class):
        raise _failed(node, "a number of support vectors below 0")
    numbers, values = _size(node, "coefficients"), _size(node, "support_vectors")
    if vectors and (values % vectors or numbers < vectors * max(len(per_class) - 1, 1)):
        raise _failed(node, f"{numbers} coefficients and {values} numbers for {vectors} support vectors")
    classes = len(per_class)
    pairs = classes * (classes - 1) // 2
    short = [name for name in ("rho", "prob_a", "prob_b") if 0 < _size(node, name) < pairs]
    if vectors and short:
        raise _failed(node, f"{_size(node, short[0])} numbers of {short[0]} for {pairs} pairs of classes")
    labels = _size(node, "classlabels_ints") or _size(node, "classlabels_strings")
    if vectors and classes and labels != classes:
        raise _failed(node, f"{labels} labels for {classes} classes")


_LEARNERS: dict[str, Callable[[onnx.NodeProto], None]] = {
    "Imputer": _imputer,
    "LabelEncoder": _encoder,
    "LinearClassifier": _linear,
    "LinearRegressor": _regressor,
    "SVMClassifier": _machine,
    "SVMRegressor": _machine,
    "Scaler": _scaler,
}
