"""Vocabularies: texts or numbers to places in a list and back, by ai.onnx.ml's LabelEncoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from netferry.converters.keras.layer import Layer
from netferry.converters.keras.layers.preprocessing import encoded
from netferry.converters.keras.layout import KT
from netferry.converters.keras.registry import Slot, layer
from netferry.converters.keras.spec import Spec
from netferry.errors import MalformedFile, UnsafeFile, UnsupportedOption, WeightsError, quoted
from netferry.schemas.graph import Builder, shape_of
from netferry.schemas.ir import ir

_INT64, _STRING, _FLOAT = ir.DataType.INT64, ir.DataType.STRING, ir.DataType.FLOAT
DROPPED = -1
"""Place of a masked token where codes are made: no class has this number."""
_MODES = ("int", "one_hot", "multi_hot", "count", "tf_idf", "binary", "tf-idf")


@dataclass
class Vocabulary:
    """A lookup's settings and tokens.

    ``tokens`` are without the special ones; they stand at ``start``, ``start + 1`` …
    """

    tokens: list[Any]
    mode: str
    oov: int
    oov_token: Any
    mask: Any
    invert: bool
    depth: int

    @property
    def oov_start(self) -> int:
        """Place of the first token for the unknown."""
        return 1 if self.mask is not None and self.mode == "int" else 0

    @property
    def start(self) -> int:
        """Place of the first token."""
        return self.oov_start + self.oov


def vocabulary_slots(spec: Spec) -> list[Slot]:
    """Weights of a lookup: the inverse document frequencies, where adapt() found them."""
    mode = spec.config.get("output_mode")
    learnt = mode in ("tf_idf", "tf-idf") and spec.config.get("idf_weights") is None
    return [Slot("idf_weights", False)] if learnt else []


def vocabulary_of(l: Layer, *, text: bool, mask: Any, oov_token: Any, oov: int, invert: bool = False) -> Vocabulary:
    """Read a vocabulary from the settings or the archive's assets.

    Raises:
        WeightsError: the file does not hold it.
        UnsafeFile: the settings name a file elsewhere.
    """
    mode = l.config.choice("output_mode", "int", *_MODES)
    mode = {"binary": "multi_hot", "tf-idf": "tf_idf"}.get(mode, mode)
    most = l.config.take("max_tokens", None)
    pad = l.config.flag("pad_to_max_tokens", False)
    given = l.config.take("vocabulary", None)
    l.config.ignore("vocabulary_size", "vocabulary_dtype", "encoding", "sparse", "has_input_vocabulary")
    if isinstance(given, str):
        raise UnsafeFile(f"the vocabulary is the file {quoted(given)}, outside the model", layer=l.path)
    if given is None:
        given = _from_asset(l, text)
    if isinstance(given, dict):
        inner = given.get("config")
        given = inner.get("value") if isinstance(inner, dict) else None
    kinds = (str,) if text else (int,)
    if not isinstance(given, list) or not all(isinstance(t, kinds) and not isinstance(t, bool) for t in given):
        raise MalformedFile(f"the vocabulary is not a list of {'texts' if text else 'whole numbers'}", layer=l.path)
    found = Vocabulary([], mode, oov, oov_token, mask, invert, 0)
    special = [mask] * found.oov_start + [oov_token] * oov
    found.tokens = given[found.start :] if given[: found.start] == special and found.start else given
    if len(set(found.tokens)) != len(found.tokens):
        raise MalformedFile("a token is in the vocabulary twice", layer=l.path)
    size = found.start + len(found.tokens)
    found.depth = most if pad and isinstance(most, int) and most >= size else size
    return found


def _from_asset(l: Layer, text: bool) -> list[Any]:
    content = l.asset("vocabulary.txt")
    if content is None:
        content = l.asset("_lookup_layer/vocabulary.txt")
    if content is None:
        raise WeightsError(
            "the vocabulary is not in the file", layer=l.path, hint="save the model as .keras: .h5 and .json lose it"
        )
    try:
        lines = content.decode("utf-8").splitlines()
        while lines and lines[-1] == "":
            lines.pop()
        return list(lines) if text else [int(line) for line in lines]
    except (UnicodeDecodeError, ValueError):
        raise MalformedFile("vocabulary.txt does not hold a vocabulary", layer=l.path) from None


def looked_up(b: Builder, l: Layer, value: ir.Value, v: Vocabulary) -> ir.Value:
    """Places of tokens in the vocabulary (int64)."""
    text = value.dtype == _STRING
    keys = list(v.tokens)
    places = list(range(v.start, v.start + len(keys)))
    if v.mask is not None and v.mask not in set(keys):
        keys.append(v.mask)
        places.append(0 if v.mode == "int" else DROPPED)
    if v.oov > 1 and text:
        raise UnsupportedOption(
            f"num_oov_indices={v.oov}: unknown texts are told apart by FarmHash64, which ONNX cannot compute",
            layer=l.path,
        )
    default = v.oov_start if v.oov == 1 else DROPPED if v.oov == 0 else _unused(places)
    if v.oov == 0:
        l.note("assumed", "tokens outside the vocabulary become -1 (Keras refuses them)")
    made = encoder(b, value, keys, places, default)
    if v.oov <= 1:
        return made
    bucket = b.op("Add", b.op("Mod", value, b.const(v.oov, "oov")), b.const(v.oov_start, "oov_start"))
    return b.op("Where", b.op("Equal", made, b.const(default, "unknown")), bucket, made)


def _unused(places: list[int]) -> int:
    return -2 if -2 not in places else -3


def encoder(b: Builder, value: ir.Value, keys: list[Any], places: list[Any], default: Any) -> ir.Value:
    """LabelEncoder from texts or int64 to int64 or texts."""
    b.graph.opset_imports["ai.onnx.ml"] = 3
    source = "strings" if value.dtype == _STRING else "int64s"
    target, kind = ("strings", _STRING) if isinstance(default, str) else ("int64s", _INT64)
    one = {"strings": "string", "int64s": "int64"}[target]
    attributes = {f"keys_{source}": keys, f"values_{target}": places, f"default_{one}": default}
    return b.op("LabelEncoder", value, domain="ai.onnx.ml", types=[(kind, shape_of(value))], **attributes)


def idf_of(l: Layer, v: Vocabulary) -> np.ndarray:
    """Weight of every place for tf_idf, padded as Keras pads it: the mean in front, zeros behind."""
    given = l.config.take("idf_weights", None)
    if given is None:
        inner = l.stored("_lookup_layer/idf_weights") is not None
        stored = l.constant("_lookup_layer/idf_weights" if inner else "idf_weights").ravel()
    else:
        if isinstance(given, dict):
            inner = given.get("config")
            given = inner.get("value") if isinstance(inner, dict) else given
        if not isinstance(given, list) or not all(isinstance(w, (int, float)) for w in given):
            raise l.config.bad("idf_weights", given, "a list of numbers")
        stored = np.asarray(given, np.float32)
        if len(stored) == len(v.tokens) and v.start:
            stored = np.concatenate([np.full(v.start, stored.mean(), np.float32), stored])
    if len(stored) > v.depth:
        raise MalformedFile(f"{len(stored)} idf_weights for {v.depth} tokens", layer=l.path)
    return np.pad(stored.astype(np.float32), (0, v.depth - len(stored)))


def coded(b: Builder, l: Layer, places: ir.Value, v: Vocabulary) -> ir.Value:
    """Places as the layer's output mode wants them."""
    if v.mode == "int":
        l.config.ignore("idf_weights")
        return places
    if v.mode != "tf_idf":
        return encoded(b, l, places, v.mode, v.depth)
    return b.op("Mul", encoded(b, l, places, "count", v.depth), b.const(idf_of(l, v), "idf_weights"))


@layer("StringLookup", weights=vocabulary_slots)
def string_lookup(b: Builder, l: Layer, x: KT) -> KT:
    """Texts to places in the vocabulary, or back."""
    return _lookup(b, l, x, True, "[UNK]")


@layer("IntegerLookup", weights=vocabulary_slots)
def integer_lookup(b: Builder, l: Layer, x: KT) -> KT:
    """Whole numbers to places in the vocabulary, or back; several unknowns are told apart by their remainder."""
    return _lookup(b, l, x, False, -1)


def _lookup(b: Builder, l: Layer, x: KT, text: bool, unknown: Any) -> KT:
    invert = l.config.flag("invert", False)
    oov = l.config.integer("num_oov_indices", 1, least=0)
    mask, oov_token = l.config.take("mask_token", None), l.config.take("oov_token", unknown)
    oov_token = unknown if oov_token is None else oov_token
    method = l.config.take("oov_method", "floormod")
    if oov > 1 and (method == "farmhash" or l.config.take("salt", None) is not None):
        raise UnsupportedOption("oov_method=farmhash: ONNX operators cannot compute hashes", layer=l.path)
    l.config.ignore("salt")
    v = vocabulary_of(l, text=text, mask=mask, oov_token=oov_token, oov=oov, invert=invert)
    value = x.logical(b)
    if invert:
        number = value if value.dtype == _INT64 else b.op("Cast", value, to=int(_INT64))
        keys = list(range(v.start, v.start + len(v.tokens)))
        tokens = list(v.tokens)
        if mask is not None:
            keys.append(0)
            tokens.append(mask)
        l.config.ignore("idf_weights")
        return KT.of(encoder(b, number, keys, tokens, oov_token))
    if not text and value.dtype != _INT64:
        value = b.op("Cast", value, to=int(_INT64))
    if text and value.dtype != _STRING:
        raise MalformedFile(f"StringLookup takes texts, not {value.dtype}", layer=l.path)
    return KT.of(coded(b, l, looked_up(b, l, value, v), v))
