"""TextVectorization: texts to words to numbers, by ONNX's string operators."""

from __future__ import annotations

from typing import Any

import numpy as np

from netferry.converters.keras.layer import Layer
from netferry.converters.keras.layers.preprocessing_lookup import (
    DROPPED,
    Vocabulary,
    coded,
    looked_up,
    vocabulary_of,
    vocabulary_slots,
)
from netferry.converters.keras.layout import KT
from netferry.converters.keras.registry import Slot, layer
from netferry.converters.keras.spec import Spec
from netferry.errors import MalformedFile, UnsupportedOption, quoted
from netferry.schemas.graph import Builder, Dim, shape_of
from netferry.schemas.ir import ir

_STRING, _INT64, _BOOL = ir.DataType.STRING, ir.DataType.INT64, ir.DataType.BOOL
SPACES = "\t\n\v\f\r"
"""White space but the blank, which is all that StringSplit knows as such."""
PUNCTUATION = "!\"#$%&()*+,-./:;<=>?@[\\]^_`{|}~'"


def _slots(spec: Spec) -> list[Slot]:
    return [Slot(f"_lookup_layer/{s.name}", s.trainable) for s in vocabulary_slots(spec)]


def lowered(b: Builder, value: ir.Value) -> ir.Value:
    """Lower case of the letters A to Z only, as tensorflow does: the locale C knows no others."""
    flat = b.reshape(value, [-1])
    made = b.op("StringNormalizer", flat, case_change_action="LOWER", locale="C")
    made.shape = flat.shape
    return _back(b, made, value)


def _back(b: Builder, flat: ir.Value, like: ir.Value) -> ir.Value:
    if len(shape_of(like)) == 1:
        return flat
    made = b.op("Reshape", flat, b.op("Shape", like))
    made.shape = like.shape
    return made


def without(b: Builder, value: ir.Value, characters: str, instead: str = "") -> ir.Value:
    """Replace characters: split at each, and join the pieces again by a Scan over them.

    With ``instead``, more of it may come at both ends (tensorflow's splitting does not mind).
    """
    flat = b.reshape(value, [-1])
    empty = _expanded(b, b.const(np.asarray("", object), "empty"), b.op("Shape", flat), shape_of(flat))
    for character in characters:
        pieces, _ = b.op("StringSplit", flat, outputs=2, delimiter=character,
                         types=[(_STRING, (*shape_of(flat), None)), (_INT64, shape_of(flat))])  # fmt: skip
        flat = _joined(b, empty, pieces, instead)
    return _back(b, flat, value)


def _expanded(b: Builder, value: ir.Value, shape: ir.Value, dims: tuple[Dim, ...]) -> ir.Value:
    return b.op("Expand", value, shape, types=[(value.dtype or _STRING, dims)])


def _joined(b: Builder, empty: ir.Value, pieces: ir.Value, between: str) -> ir.Value:
    """Concatenate the texts of each row of (rows, pieces), each with ``between`` in front.

    Empty pieces leave the state as it is by a Where, which also keeps onnxruntime's StringConcat from writing into
    the state's buffer: it appends to what lies there from two steps before.
    """
    rows = shape_of(empty)
    inner = b.subgraph("join")
    state = ir.Value(name=inner.unique("so_far"), type=ir.TensorType(_STRING), shape=ir.Shape(list(rows)))
    piece = ir.Value(name=inner.unique("piece"), type=ir.TensorType(_STRING), shape=ir.Shape(list(rows)))
    inner.graph.inputs.extend([state, piece])
    added = inner.op("StringConcat", b.const(np.asarray(between, object), "between"), piece) if between else piece
    nothing = inner.op("Equal", piece, b.const(np.asarray("", object), "empty"))
    inner.output(inner.op("Where", nothing, state, inner.op("StringConcat", state, added)), "joined")
    inner.finish()
    return b.op("Scan", empty, pieces, body=inner.graph, num_scan_inputs=1, scan_input_axes=[1],
                types=[(_STRING, rows)])  # fmt: skip


def _split(b: Builder, l: Layer, value: ir.Value) -> ir.Value:
    """Words of each text, padded with the empty text to the longest: (batch, words)."""
    dims = shape_of(value)
    if len(dims) > 1:
        if dims[-1] != 1:
            raise MalformedFile(f"texts of shape {dims} cannot be split: the last dimension must be 1", layer=l.path)
        value = b.op("Squeeze", value, b.const([-1], "axes"))
        dims = dims[:-1]
    if len(dims) != 1:
        raise UnsupportedOption(f"texts of rank {len(dims)} are not split", layer=l.path)
    value = without(b, value, SPACES, " ")
    words, _ = b.op("StringSplit", value, outputs=2, types=[(_STRING, (*dims, "words")), (_INT64, dims)])
    return words


def _shifted(b: Builder, words: ir.Value, by: int) -> ir.Value:
    """Words ``by`` places further, the end filled with empty texts (its width stays)."""
    if by == 0:
        return words
    count = b.op("Shape", words, start=0, end=1)
    tail = b.op("Concat", count, b.const([by], "by"), axis=0)
    dims = shape_of(words)
    filler = _expanded(b, b.const(np.asarray("", object), "empty"), tail, (dims[0], by))
    longer = b.op("Concat", words, filler, axis=1)
    made = b.op("Slice", longer, b.const([by], "starts"), b.const([2**63 - 1], "ends"), b.const([1], "axes"))
    made.shape = words.shape
    return made


def _grams(b: Builder, words: ir.Value, widths: list[int]) -> ir.Value:
    """All runs of so many words, joined by spaces; runs past the end are empty texts."""
    blocks: list[ir.Value] = []
    empty = b.const(np.asarray("", object), "empty")
    space = b.const(np.asarray(" ", object), "space")
    for width in widths:
        run = words
        for by in range(1, width):
            run = b.op("StringConcat", b.op("StringConcat", run, space), _shifted(b, words, by))
        if width > 1:
            over = b.op("Equal", _shifted(b, words, width - 1), empty)
            run = b.op("Where", over, empty, run)
        blocks.append(run)
    return blocks[0] if len(blocks) == 1 else b.op("Concat", *blocks, axis=1)


def _compacted(b: Builder, places: ir.Value) -> ir.Value:
    """Move zeros (no word) to the end of each row, the order of the others kept."""
    present = b.op("Cast", b.op("Not", b.op("Equal", places, b.const(0, "none"))), to=int(_INT64))
    width = b.op("Shape", places, start=1, end=2)
    falling = b.op("Range", b.op("Squeeze", width), b.const(np.asarray(0), "end"), b.const(np.asarray(-1), "step"))
    _, order = b.op("TopK", b.op("Mul", present, falling), width, outputs=2, axis=1)
    order.shape = places.shape
    moved = b.op("GatherElements", places, order, axis=1)
    longest = b.op("ReduceMax", b.op("ReduceSum", present, b.const([1], "axes"), keepdims=0), keepdims=0)
    made = b.op("Slice", moved, b.const([0], "starts"), b.op("Unsqueeze", longest, b.const([0], "axes")), b.const([1], "axes"))
    made.shape = ir.Shape([shape_of(places)[0], "words"])
    return made


def _sized(b: Builder, places: ir.Value, length: int) -> ir.Value:
    """Cut or fill rows to a length."""
    padded = b.op("Pad", places, b.const([0, 0, 0, length], "pads"))
    made = b.op("Slice", padded, b.const([0], "starts"), b.const([length], "ends"), b.const([1], "axes"))
    made.shape = ir.Shape([shape_of(places)[0], length])
    return made


def _widths(value: Any, l: Layer) -> list[int]:
    if value is None:
        return [1]
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 16:
        return list(range(1, value + 1))
    if isinstance(value, list) and value and all(isinstance(v, int) and 1 <= v <= 16 for v in value):
        return [int(v) for v in value]
    raise l.config.bad("ngrams", value, "None, a number up to 16 or a list of them")


@layer("TextVectorization", weights=_slots)
def text_vectorization(b: Builder, l: Layer, x: KT) -> KT:
    """Standardise, split, make n-grams, look up; as numbers or as codes."""
    standardize, split = l.config.take("standardize", "lower_and_strip_punctuation"), l.config.take("split", "whitespace")
    widths = _widths(l.config.take("ngrams", None), l)
    length = l.config.take("output_sequence_length", None)
    l.config.ignore("ragged", "encoding")
    if l.config.raw.get("ragged"):
        raise UnsupportedOption("ragged=True has no counterpart in ONNX", layer=l.path)
    known = (None, "lower", "strip_punctuation", "lower_and_strip_punctuation")
    if isinstance(standardize, dict) or standardize not in known:
        raise UnsupportedOption(f"standardize={quoted(standardize, 60)} is Python code, never run", layer=l.path)
    if split not in (None, "whitespace"):
        raise UnsupportedOption(f"split={quoted(split, 60)} is not supported (only whitespace and None)", layer=l.path)
    if x.dtype != _STRING:
        raise MalformedFile(f"TextVectorization takes texts, not {x.dtype}", layer=l.path)
    v: Vocabulary = vocabulary_of(l, text=True, mask="", oov_token="[UNK]", oov=1)  # noqa: S106 -- no password
    value = x.logical(b)
    if standardize in ("lower", "lower_and_strip_punctuation"):
        value = lowered(b, value)
    if standardize in ("strip_punctuation", "lower_and_strip_punctuation"):
        value = without(b, value, PUNCTUATION)
    if split is not None:
        value = _split(b, l, value)
    if widths != [1]:
        if split is None:
            raise UnsupportedOption("ngrams without split are not supported", layer=l.path)
        value = _grams(b, value, widths)
    places = looked_up(b, l, value, v)
    if v.mode != "int":
        return KT.of(coded(b, l, places, v))
    l.config.ignore("idf_weights")
    if widths != [1]:
        places = _compacted(b, places)
    if length is not None:
        places = _sized(b, places, l.config.integer("output_sequence_length", least=1))
    return KT.of(places)


__all__ = ["DROPPED", "lowered", "without"]
