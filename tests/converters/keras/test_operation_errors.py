"""Operation nodes whose arguments make no sense, or ask for what has no counterpart: one typed error with the reason.

The architectures are written by hand, as Keras refuses to make most of them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from netferry.converters.keras.read import read
from netferry.converters.options import ReadOptions
from netferry.errors import LimitExceeded, MalformedFile, NetferryError, UnsupportedOption

INPUTS: dict[str, tuple[list[int | None], str]] = {
    "x": ([None, 4, 5, 3], "float32"),
    "v": ([None, 4], "float32"),
    "s": ([None, None, 4], "float32"),
    "d": ([None, None, None, 3], "float32"),
    "i": ([None, 4], "int32"),
    "f": ([4], "float32"),
    "c": ([None, 6, 4], "float32"),
}
"""inputs by name; ``f`` has no batch, as if a network had been cut"""
BAD, NOT = MalformedFile, UnsupportedOption


def array(value: Any, dtype: str = "float32") -> dict[str, Any]:
    """A constant."""
    return {"class_name": "__numpy__", "config": {"value": value, "dtype": dtype}}


def cut(start: Any, stop: Any, step: Any) -> dict[str, Any]:
    """A slice."""
    return {"class_name": "__slice__", "config": {"start": start, "stop": stop, "step": step}}


def _named(value: Any) -> Any:
    """``"$x"`` as a reference to the input ``x``, wherever it stands."""
    if isinstance(value, str) and value[:1] == "$":
        shape, dtype = INPUTS[value[1:]]
        config = {"shape": shape, "dtype": dtype, "keras_history": [value[1:], 0, 0]}
        return {"class_name": "__keras_tensor__", "config": config}
    if isinstance(value, dict):
        return {k: _named(v) for k, v in value.items()}
    return [_named(v) for v in value] if isinstance(value, list) else value


def _network(kind: str, args: list[Any], config: dict[str, Any]) -> dict[str, Any]:
    text = json.dumps(args)
    used = [name for name in INPUTS if f'"${name}"' in text]
    layers: list[dict[str, Any]] = [
        {"module": "keras.layers", "class_name": "InputLayer", "registered_name": None, "name": name,
         "config": {"batch_shape": INPUTS[name][0], "dtype": INPUTS[name][1], "name": name}, "inbound_nodes": []}
        for name in used
    ]  # fmt: skip
    kwargs = config.pop("kwargs", {})
    layers.append(
        {"module": "keras.src.ops.numpy", "class_name": kind, "registered_name": kind, "name": "y",
         "config": {"name": "y", **config}, "inbound_nodes": [{"args": _named(args), "kwargs": _named(kwargs)}]}
    )  # fmt: skip
    inner = {"name": "m", "layers": layers, "input_layers": [[n, 0, 0] for n in used], "output_layers": [["y", 0, 0]]}
    return {"module": "keras.src.models.functional", "class_name": "Functional", "registered_name": "Functional",
            "config": inner}  # fmt: skip


KERNEL = array([[[[1.0]] * 3] * 2] * 2)
ROWS: dict[str, tuple[str, list[Any], dict[str, Any], type[NetferryError], str]] = {
    # indices
    "index-by-truths": ("GetItem", ["$x", ["$i"]], {}, NOT, "several axes of numbers"),
    "index-too-long": ("GetItem", ["$v", [0, 0, 0, 0]], {}, BAD, "rank 2"),
    "slice-step-0": ("GetItem", ["$v", [cut(0, 3, 0)]], {}, BAD, "another number than 0"),
    "slice-of-text": ("GetItem", ["$v", [cut("a", 3, 1)]], {}, BAD, "whole number"),
    "index-outside": ("GetItem", ["$v", [cut(None, None, None), 7]], {}, BAD, "an element of an axis of size 4"),
    "index-by-fractions": ("Take", ["$v", [0.5, 1.5]], {"axis": 1}, BAD, "whole numbers"),
    "block-of-other-rank": ("Slice", ["$v", [0]], {"shape": [1, 2]}, BAD, "2 numbers"),
    "along-other-rank": ("TakeAlongAxis", ["$x", array([1], "int32")], {"axis": 1}, BAD, "an array of rank 4"),
    "along-nothing": ("TakeAlongAxis", ["$v", array([[1]], "int32")], {"axis": None}, NOT, "axis=None"),
    # axes
    "axis-outside": ("Sum", ["$v"], {"axis": 5}, BAD, "not axes of a tensor of rank 2"),
    "axis-twice": ("Sum", ["$v"], {"axis": [1, 1]}, BAD, "not axes of a tensor of rank 2"),
    "axis-of-text": ("Sum", ["$v"], {"axis": "last"}, BAD, "whole numbers"),
    "perm-that-is-none": ("Transpose", ["$v"], {"axes": [0, 2]}, BAD, "an order of 2 axes"),
    "reshape-open-twice": ("Reshape", ["$s"], {"newshape": [-1, None, None, 2]}, NOT, "left open"),
    "reshape-of-text": ("Reshape", ["$v"], {"newshape": ["a", 2]}, BAD, "a shape"),
    "joined-nothing": ("Concatenate", [[]], {"axis": 0}, BAD, "cannot be joined"),
    "joined-of-ranks": ("Concatenate", [["$v", "$x"]], {"axis": 1}, BAD, "cannot be joined"),
    "in-depth-of-vectors": ("Dstack", [["$v", "$v"]], {}, NOT, "below 3"),
    "split-not-even": ("Split", ["$v"], {"indices_or_sections": 3, "axis": 1}, BAD, "a divisor of 4"),
    "split-by-0": ("Split", ["$v"], {"indices_or_sections": 0, "axis": 1}, BAD, "a divisor of 4"),
    "split-dynamic": ("Split", ["$s"], {"indices_or_sections": 3, "axis": 1}, NOT, "known number"),
    "split-dynamic-at": ("Split", ["$s"], {"indices_or_sections": [1, 2], "axis": 1}, NOT, "known number"),
    # numbers
    "flag-of-text": ("Sum", ["$v"], {"axis": 1, "keepdims": "yes"}, BAD, "true or false"),
    "ragged": ("Add", ["$v", [[1, 2], [3]]], {}, BAD, "numbers"),
    "constant-of-text": ("Add", ["$v", array(["a"])], {}, BAD, "no array of numbers"),
    "constant-of-no-type": ("Add", ["$v", array([1], "complex64")], {}, NOT, "complex64"),
    "type-that-is-none": ("Cast", ["$v"], {"dtype": "float7"}, NOT, "float7"),
    "nested-without-end": ("Add", ["$v", json.loads("[" * 90 + "1" + "]" * 90)], {}, BAD, "nested deeper than 64"),
    "argument-missing": ("Take", ["$v"], {"axis": 1}, BAD, "indices is missing"),
    "argument-unknown": ("Add", ["$v", 1.0], {"kwargs": {"casting": "safe"}}, NOT, "casting"),
    "classes-of-text": ("OneHot", ["$i"], {"num_classes": "many", "axis": -1}, BAD, "a whole number"),
    # creation
    "a-million-numbers": ("Linspace", ["$v", 1.0], {"num": 2_000_000}, LimitExceeded, "at most"),
    "linspace-elsewhere": ("Linspace", ["$v", 1.0], {"num": 3, "axis": 1}, NOT, "the first"),
    # reductions and products
    "sum-where": ("Sum", ["$v"], {"kwargs": {"where": "$v"}}, NOT, "where"),
    "nuclear-norm": ("Norm", ["$x"], {"ord": "nuc", "axis": [1, 2]}, NOT, "Frobenius"),
    "norm-0": ("Norm", ["$x"], {"ord": 0, "axis": 1}, NOT, "order 0"),
    "normalize-3": ("Normalize", ["$x"], {"order": 3, "axis": 1}, NOT, "order 3"),
    "argmax-flat-keepdims": ("Argmax", ["$v"], {"axis": None, "keepdims": True}, NOT, "keepdims"),
    "nanargmax-flat": ("Nanargmax", ["$v"], {"axis": None}, NOT, "flattened"),
    "softmax-of-all": ("Softmax", ["$v"], {"axis": None}, NOT, "the batch included"),
    "sparsemax-elsewhere": ("Sparsemax", ["$x"], {"axis": 1}, NOT, "only the last axis"),
    "einsum-of-others": ("Einsum", ["$v"], {"subscripts": "ab,bc->ac"}, BAD, "an equation of 1 tensors"),
    "einsum-of-signs": ("Einsum", ["$v"], {"subscripts": "a%->a"}, BAD, "an equation of 1 tensors"),
    "einsum-of-ranks": ("Einsum", ["$v"], {"subscripts": "abc->a"}, BAD, "ranks [2]".replace("[", r"\[")),
    "tensordot-of-three": ("Tensordot", ["$v", "$v"], {"axes": [[1], [1], [1]]}, BAD, "two lists"),
    "tensordot-uneven": ("Tensordot", ["$v", "$v"], {"axes": [[0, 1], [1]]}, BAD, "as many axes"),
    "trace-beside": ("Trace", ["$x"], {"offset": 1, "axis1": 1, "axis2": 2}, NOT, "an offset"),
    "median-of-two-axes": ("Median", ["$x"], {"axis": [1, 2]}, NOT, "one axis of fixed size"),
    "quantile-of-more": ("Quantile", ["$x", 1.5], {"axis": 1}, BAD, "shares"),
    "quantile-of-all": ("Quantile", ["$s", 0.5], {"axis": 1}, NOT, "one axis of fixed size"),
    "groups-without-number": ("SegmentSum", ["$x", array([0, 1], "int32")], {"num_segments": None}, NOT, "number of them"),
    "search-in-several-axes": ("SearchSorted", ["$v", "$v"], {"side": "left"}, NOT, "several axes"),
    "points-of-several-axes": ("Trapezoid", ["$v"], {"x": [[0, 1], [1, 2]], "axis": -1}, NOT, "points of several axes"),
    # repetition and order
    "pad-of-three": ("Pad", ["$v"], {"pad_width": [[1, 1, 1]], "mode": "constant"}, BAD, "2 pairs"),
    "pad-by-less": ("Pad", ["$v"], {"pad_width": [[-1, 0], [0, 0]], "mode": "constant"}, BAD, "2 pairs"),
    "pad-by-ramp": ("Pad", ["$v"], {"pad_width": 1, "mode": "linear_ramp"}, NOT, "linear_ramp"),
    "repeat-of-others": ("Repeat", ["$x"], {"repeats": [1, 2], "axis": 1}, BAD, "4 counts"),
    "repeat-beside-dynamic": ("Repeat", ["$d"], {"repeats": 2, "axis": 1}, NOT, "several dynamic axes"),
    "roll-over-dynamic": ("Roll", ["$d"], {"shift": 2, "axis": None}, NOT, "several dynamic axes"),
    "rot90-of-three": ("Rot90", ["$x"], {"k": 1, "axes": [0, 1, 2]}, NOT, "two axes"),
    "cross-of-fours": ("Cross", ["$v", "$v"], {}, NOT, "another size than 3"),
    "cross-elsewhere": ("Cross", ["$x", "$x"], {"axisa": 1}, NOT, "other than the last"),
    "grid-of-no-kind": ("Meshgrid", ["$f", "$f"], {"indexing": "kl"}, BAD, "'xy' or 'ij'"),
    "shift-of-fractions": ("LeftShift", ["$v", 1], {}, NOT, "int32 and int64"),
    "classes-elsewhere": ("MultiHot", ["$i"], {"num_classes": 5, "axis": 0}, NOT, "the last"),
    "scatter-by-product": (
        "ScatterUpdate", ["$v", array([[0, 1]], "int32"), [1.0]], {"reduction": "mul"}, NOT, "a reduction"),
    "block-at-text": ("SliceUpdate", ["$v", [0], "$v"], {}, BAD, "2 whole numbers"),
    "where-alone": ("Where", ["$v"], {}, NOT, "depends on the values"),
    "diagonal-outside": ("Diagonal", ["$x"], {"offset": 9, "axis1": 1, "axis2": 2}, BAD, "a diagonal of"),
    "diagonal-of-many": ("Diag", ["$f"], {"k": 1200}, NOT, "1204"),
    "wave-of-many": ("RFFT", ["$v"], {"fft_length": 1_000_000}, NOT, "numbers"),
    "wave-of-0": ("RFFT", ["$v"], {"fft_length": 0}, BAD, "at least 1"),
    "back-wave-of-0": ("IRFFT", [["$v", "$v"]], {"fft_length": 0}, BAD, "at least 1"),
    "wave-of-one-part": ("FFT", [["$v"]], {}, BAD, "a real and an imaginary part"),
    # pictures
    "conv-of-a-vector": ("Conv", ["$v", KERNEL], {}, NOT, "rank 2"),
    "conv-by-a-computed-kernel": ("Conv", ["$x", "$x"], {}, NOT, "a kernel that is computed"),
    "conv-by-a-vector": ("Conv", ["$x", array([1.0])], {}, BAD, "an array of rank 4"),
    "conv-of-other-channels": ("Conv", ["$x", array([[[[1.0]] * 2] * 2] * 2)], {}, BAD, "for 3 channels"),
    "conv-with-padding-of-its-own": ("Conv", ["$x", KERNEL], {"padding": [[0, 0]]}, NOT, "SAME and VALID"),
    "conv-by-steps-of-0": ("Conv", ["$x", KERNEL], {"strides": 0}, BAD, "at least 1"),
    "resize-of-a-vector": ("Resize", ["$v"], {"size": [2, 2]}, NOT, "rank 2"),
    "resize-to-nothing": ("Resize", ["$x"], {"size": [2, 0]}, BAD, "a height and a width"),
    "resize-by-magic": ("Resize", ["$x"], {"size": [2, 2], "interpolation": "magic"}, NOT, "magic"),
    "resize-that-pads": ("Resize", ["$x"], {"size": [2, 2], "pad_to_aspect_ratio": True}, NOT, "aspect ratio"),
    "crop-by-less": ("CropImages", ["$x"], {"top_cropping": -1, "left_cropping": 0, "target_height": 2,
                                            "target_width": 2}, BAD, "at least 0"),
    "patches-of-a-line": ("ExtractPatches", ["$c"], {"size": 2}, NOT, "rank 3"),
    "patches-of-many": ("ExtractPatches", ["$x"], {"size": 50}, NOT, "patches of 7500 numbers"),
    "colours-of-two": ("RGBToHSV", ["$c"], {}, NOT, "three channels"),
    "slopes-of-dynamic-size": ("SobelEdges", ["$d"], {}, NOT, "dynamic size"),
    "blur-of-a-line": ("GaussianBlur", ["$c"], {"kernel_size": 3}, NOT, "rank 3"),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_refused_with_the_reason(name: str, tmp_path: Path) -> None:
    kind, args, config, error, why = ROWS[name]
    path = tmp_path / "m.json"
    path.write_text(json.dumps(_network(kind, args, dict(config))))
    with pytest.raises(error, match=why) as caught:
        read(path, ReadOptions())
    assert type(caught.value) is error
    assert "y" in str(caught.value)
