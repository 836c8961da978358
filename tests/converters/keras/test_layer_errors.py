"""Layers whose settings make no sense, or ask for what has no counterpart: one typed error with the reason.

Written by hand as Keras 2 writes a functional network, as Keras refuses to make most of them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from netferry.converters.keras.read import read
from netferry.converters.options import ReadOptions
from netferry.errors import (
    LimitExceeded,
    MalformedFile,
    NetferryError,
    UnsafeFile,
    UnsupportedOption,
    WeightsError,
)
from tests.converters.keras.test_lambda_and_contrib import one

INPUTS: dict[str, tuple[list[int | None], str]] = {
    "x": ([None, 4, 5, 3], "float32"),
    "c": ([None, 6, 4], "float32"),
    "v": ([None, 4], "float32"),
    "t": ([None, 1], "string"),
    "w": ([None, 2], "string"),
    "i": ([None, 4], "int64"),
}
BAD, NOT = MalformedFile, UnsupportedOption
TEXTS = {"vocabulary": ["a", "b"]}
NUMBERS = {"vocabulary": [1, 2]}

ROWS: dict[str, tuple[str, list[str], dict[str, Any], type[NetferryError], str]] = {
    # vocabularies
    "vocabulary-in-a-file": ("StringLookup", ["t"], {"vocabulary": "/etc/passwd"}, UnsafeFile, "outside the model"),
    "vocabulary-lost": ("StringLookup", ["t"], {}, WeightsError, "not in the file"),
    "vocabulary-of-numbers": ("StringLookup", ["t"], {"vocabulary": [1, 2]}, BAD, "not a list of texts"),
    "vocabulary-of-texts": ("IntegerLookup", ["i"], {"vocabulary": ["a"]}, BAD, "not a list of whole numbers"),
    "vocabulary-wrapped-wrongly": ("StringLookup", ["t"], {"vocabulary": {"config": 3}}, BAD, "not a list of texts"),
    "token-twice": ("StringLookup", ["t"], {"vocabulary": ["a", "a"]}, BAD, "twice"),
    "hashed-unknowns": ("StringLookup", ["t"], TEXTS | {"num_oov_indices": 2}, NOT, "FarmHash64"),
    "hashed-numbers": ("IntegerLookup", ["i"], NUMBERS | {"num_oov_indices": 2, "oov_method": "farmhash"}, NOT, "hashes"),
    "texts-of-numbers": ("StringLookup", ["v"], TEXTS, BAD, "takes texts"),
    "weights-of-text": ("StringLookup", ["t"], TEXTS | {"output_mode": "tf_idf", "idf_weights": ["a"]}, BAD, "numbers"),
    "weights-of-many": (
        "StringLookup", ["t"], TEXTS | {"output_mode": "tf_idf", "idf_weights": [1.0] * 9}, BAD, "9 idf_weights"),
    # texts
    "texts-side-by-side": ("TextVectorization", ["w"], TEXTS, BAD, "must be 1"),
    "texts-ragged": ("TextVectorization", ["t"], TEXTS | {"ragged": True}, NOT, "ragged"),
    "texts-by-code": ("TextVectorization", ["t"], TEXTS | {"standardize": {"class_name": "f"}}, NOT, "never run"),
    "texts-by-character": ("TextVectorization", ["t"], TEXTS | {"split": "character"}, NOT, "whitespace"),
    "texts-of-floats": ("TextVectorization", ["v"], TEXTS, BAD, "takes texts"),
    "texts-unsplit-in-groups": ("TextVectorization", ["t"], TEXTS | {"split": None, "ngrams": 2}, NOT, "without split"),
    "texts-in-no-groups": ("TextVectorization", ["t"], TEXTS | {"ngrams": 0}, BAD, "a number up to 16"),
    # categories
    "classes-of-millions": ("CategoryEncoding", ["i"], {"num_tokens": 2**25}, LimitExceeded, "at most"),
    "hashes": ("Hashing", ["t"], {"num_bins": 7}, NOT, "SipHash64"),
    "bins-not-adapted": ("Discretization", ["v"], {"bin_boundaries": None}, BAD, "before adapt"),
    # joining
    "difference-of-three": ("Subtract", ["v", "v", "v"], {}, BAD, "takes 2 tensors"),
    "joined-of-ranks": ("Concatenate", ["v", "c"], {"axis": 1}, BAD, "cannot be joined"),
    "joined-nowhere": ("Concatenate", ["v", "v"], {"axis": 7}, BAD, "cannot be joined"),
    "dot-over-the-batch": ("Dot", ["v", "v"], {"axes": [0, 1]}, NOT, "over the batch"),
    "dot-over-three": ("Dot", ["v", "v"], {"axes": [1, 1, 1]}, BAD, "not two"),
    "merged-by-magic": ("Merge", ["v", "v"], {"mode": "magic"}, NOT, "magic"),
    # attention
    "attention-of-vectors": (
        "MultiHeadAttention", ["v"], {"num_heads": 2, "key_dim": 3}, BAD, "of equal rank from 3 on"),
    "attention-elsewhere": (
        "MultiHeadAttention", ["x"], {"num_heads": 2, "key_dim": 3, "attention_axes": [3]}, BAD, "axes of a tensor"),
    "attention-to-nothing": (
        "MultiHeadAttention", ["c"], {"num_heads": 2, "key_dim": 3, "output_shape": [0]}, BAD, "positive"),
    # sums by letters
    "einsum-of-three": ("EinsumDense", ["c"], {"equation": "abc,cd,de->abe", "output_shape": [6]}, BAD, "of the form"),
    "einsum-of-ranks": ("EinsumDense", ["v"], {"equation": "abc,cd->abd", "output_shape": [6, 3]}, BAD, "rank 2"),
    "einsum-of-sizes": ("EinsumDense", ["c"], {"equation": "abc,cd->abd", "output_shape": [3]}, BAD, "sizes for bd"),
    "einsum-of-less": ("EinsumDense", ["c"], {"equation": "abc,cd->abd", "output_shape": [None, -1]}, BAD, "sizes"),
    "einsum-of-no-size": ("EinsumDense", ["c"], {"equation": "abc,cd->abd", "output_shape": [6, None]}, BAD, "not known"),
    "einsum-bias-elsewhere": (
        "EinsumDense", ["c"], {"equation": "abc,cd->abd", "output_shape": [6, 3], "bias_axes": "z"}, BAD, "letters of abd"),
    # the rest
    "steps-of-a-vector": (
        "TimeDistributed", ["v"], {"layer": {"class_name": "Dense", "config": {"name": "d", "units": 2}}}, BAD,
        "rank 3 or more"),
    "below-less": ("ThresholdedReLU", ["v"], {"theta": -1.0}, BAD, "must not be negative"),
    "softmax-elsewhere": ("Softmax", ["v"], {"axis": 5}, BAD, "an axis of a tensor of rank 2"),
    "flag-of-text": ("Dense", ["v"], {"units": 2, "use_bias": "no"}, BAD, "true or false"),
    "text-of-numbers": ("Conv2D", ["x"], {"filters": 2, "kernel_size": 3, "padding": 7}, NOT, "padding"),
    "dropped-too-much": ("FixedDropout", ["v"], {"rate": 1.5}, BAD, "between 0 and 1"),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_refused_with_the_reason(name: str, tmp_path: Path) -> None:
    kind, inputs, config, error, why = ROWS[name]
    call = [[n, 0, 0, {"value": [n, 0, 0]}] for n in inputs] if kind == "MultiHeadAttention" else inputs
    layers = [
        one(n, "InputLayer", {"batch_input_shape": INPUTS[n][0], "dtype": INPUTS[n][1]}) for n in dict.fromkeys(inputs)
    ]
    net = {
        "name": "m",
        "layers": [*layers, one("y", kind, config, *call)],
        "input_layers": [[n, 0, 0] for n in dict.fromkeys(inputs)],
        "output_layers": [["y", 0, 0]],
    }
    path = tmp_path / "m.json"
    path.write_text(json.dumps({"class_name": "Functional", "keras_version": "2.15.0", "config": net}))
    with pytest.raises(error, match=why) as caught:
        read(path, ReadOptions())
    assert type(caught.value) is error
    assert "y" in str(caught.value)


def test_a_dropout_of_other_packages_does_nothing_at_inference(tmp_path: Path) -> None:
    """EfficientNet's, whose noise_shape may hold None."""
    layer = one("y", "FixedDropout", {"rate": 0.2, "noise_shape": [None, 1, 1, 1]}, "x")
    layers = [one("x", "InputLayer", {"batch_input_shape": [None, 4, 5, 3]}), layer]
    net = {"name": "m", "layers": layers, "input_layers": [["x", 0, 0]], "output_layers": [["y", 0, 0]]}
    path = tmp_path / "m.json"
    path.write_text(json.dumps({"class_name": "Functional", "keras_version": "2.15.0", "config": net}))
    model = read(path, ReadOptions())
    assert [n.op_type for n in model.graph] in (["Dropout"], ["Transpose", "Dropout", "Transpose"])
