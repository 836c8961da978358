"""Attributes whose value is one of a few words, by the operators' texts: onnx's check lets any word pass."""

from __future__ import annotations

import onnx

from netferry.errors import MalformedFile, quoted

_PADS = frozenset({"NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"})
_WAYS = frozenset({"forward", "reverse", "bidirectional"})
_ACTIVATIONS = frozenset({
    "relu", "tanh", "sigmoid", "affine", "leakyrelu", "thresholdedrelu", "scaledtanh", "hardsigmoid", "elu", "softsign",
    "softplus",
})  # fmt: skip
_WORDS: dict[tuple[str, str], frozenset[str]] = {
    **{(op, "auto_pad"): _PADS for op in (
        "Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "DeformConv", "MaxPool", "AveragePool", "LpPool",
    )},
    **{(op, "direction"): _WAYS for op in ("LSTM", "GRU", "RNN")},
    **{(op, "activations"): _ACTIVATIONS for op in ("LSTM", "GRU", "RNN")},
    **{(op, "reduction"): frozenset({"none", "add", "mul", "max", "min"}) for op in ("ScatterND", "ScatterElements")},
    ("Pad", "mode"): frozenset({"constant", "reflect", "edge", "wrap"}),
    ("Resize", "mode"): frozenset({"nearest", "linear", "cubic"}),
    ("Resize", "nearest_mode"): frozenset({"round_prefer_floor", "round_prefer_ceil", "floor", "ceil"}),
    ("DepthToSpace", "mode"): frozenset({"DCR", "CRD"}),
    ("RoiAlign", "mode"): frozenset({"avg", "max"}),
    ("GridSample", "mode"): frozenset({"bilinear", "linear", "nearest", "bicubic", "cubic"}),
    ("GridSample", "padding_mode"): frozenset({"zeros", "border", "reflection"}),
    ("Gelu", "approximate"): frozenset({"none", "tanh"}),
    ("BitShift", "direction"): frozenset({"LEFT", "RIGHT"}),
    ("TfIdfVectorizer", "mode"): frozenset({"TF", "IDF", "TFIDF"}),
}  # fmt: skip
_HAVE = frozenset(op for op, _ in _WORDS)


def check_words(node: onnx.NodeProto) -> None:
    """Raise where an attribute says a word that its operator does not know.

    Raises:
        MalformedFile: it does.
    """
    if node.op_type not in _HAVE:
        return
    for attribute in node.attribute:
        words = _WORDS.get((node.op_type, attribute.name))
        if words is None:
            continue
        for given in [attribute.s] if attribute.HasField("s") else attribute.strings:
            said = given.decode("utf-8", "backslashreplace")
            if (said.lower() if words is _ACTIVATIONS else said) not in words:  # case is left free there
                reason = f"{attribute.name}={quoted(said)} is none of {', '.join(sorted(words))}"
                raise MalformedFile(reason, layer=node.name or node.op_type)
