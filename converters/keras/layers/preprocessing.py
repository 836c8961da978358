"""Categories: numbers to codes (one_hot, multi_hot, count), values to bins, and hashes."""

from __future__ import annotations

import numpy as np

from netferry.converters.keras.layer import Layer
from netferry.converters.keras.layers.scaling import as_float
from netferry.converters.keras.layout import KT
from netferry.converters.keras.registry import Slot, layer
from netferry.converters.keras.spec import Spec
from netferry.errors import LimitExceeded, MalformedFile, UnsupportedOption
from netferry.schemas.graph import Builder, shape_of
from netferry.schemas.ir import ir

_FLOAT, _INT32, _INT64 = ir.DataType.FLOAT, ir.DataType.INT32, ir.DataType.INT64
MODES = ("int", "one_hot", "multi_hot", "count", "binary")


def encoded(
    b: Builder, l: Layer, numbers: ir.Value, mode: str, depth: int, weights: ir.Value | None = None
) -> ir.Value:
    """Encode whole numbers: ``one_hot`` each, ``multi_hot`` and ``count`` over the last axis.

    Numbers below 0 or from ``depth`` on name no class (Keras refuses or drops them).
    """
    if depth < 1 or depth > 2**24:
        raise LimitExceeded(f"{depth} classes, at most {2**24}", layer=l.path)
    shape = shape_of(numbers)
    if mode == "one_hot" and len(shape) > 1 and shape[-1] == 1:
        numbers = b.op("Squeeze", numbers, b.const([-1], "axes"))
    kind = numbers.dtype or _INT64
    wide = b.op("Unsqueeze", numbers, b.const([-1], "axes"))
    hits = b.op("Equal", wide, b.const(np.arange(depth, dtype=kind.numpy()), "classes"))
    codes = b.op("Cast", hits, to=int(_FLOAT))
    if mode == "one_hot":
        return codes
    if weights is not None:
        codes = b.op("Mul", codes, b.op("Unsqueeze", weights, b.const([-1], "axes")))
    operator = "ReduceSum" if mode == "count" else "ReduceMax"
    return b.op(operator, codes, b.const([-2], "axes"), keepdims=0)


def _whole(b: Builder, x: KT) -> ir.Value:
    value = x.logical(b)
    return value if value.dtype in (_INT32, _INT64) else b.op("Cast", value, to=int(_INT64))


@layer("CategoryEncoding")
def category_encoding(b: Builder, l: Layer, x: KT) -> KT:
    """Whole numbers below ``num_tokens`` as codes; ``count`` may be weighted."""
    depth = l.config.integer("num_tokens", least=1, also=("max_tokens",))
    mode = l.config.choice("output_mode", "multi_hot", *MODES[1:])
    l.config.ignore("sparse")
    given = l.kwargs.get("count_weights")
    weights = as_float(b, given).logical(b) if isinstance(given, KT) and mode == "count" else None
    return KT.of(encoded(b, l, _whole(b, x), "multi_hot" if mode == "binary" else mode, depth, weights))


def _summary_slots(spec: Spec) -> list[Slot]:
    adapted = spec.generation == 2 and spec.config.get("bin_boundaries") is None
    return [Slot("summary", False)] if adapted else []


def boundaries_of(summary: np.ndarray, bins: int) -> np.ndarray:
    """The inner boundaries of ``bins`` equally full bins of a (values, weights) summary, as Keras 2 computes them."""
    values, weights = summary
    share = 1.0 / bins
    if summary.shape[1] * share >= 1:
        steps = share + np.arange(0.0, 1.0, share)
        total = np.cumsum(weights)
        values = np.interp(steps, total / total[-1], values)
    return values[:-1].astype(np.float32)


@layer("Discretization", weights=_summary_slots)
def discretization(b: Builder, l: Layer, x: KT) -> KT:
    """The number of boundaries at or below a value; as a number or a code."""
    given = l.config.take("bin_boundaries", None, also=("bins",))
    bins = l.config.take("num_bins", None)
    mode = l.config.choice("output_mode", "int", *MODES)
    l.config.ignore("epsilon", "sparse")
    if given is None and l.stored("summary") is not None and isinstance(bins, int) and bins > 0:
        summary = l.constant("summary")
        if summary.ndim != 2 or summary.shape[0] != 2 or summary.shape[1] == 0:
            raise MalformedFile(f"a summary of shape {summary.shape}", layer=l.path)
        given = boundaries_of(summary, bins).tolist()
    if not isinstance(given, list) or not all(isinstance(v, (int, float)) for v in given):
        raise MalformedFile("no bin_boundaries: the layer was saved before adapt()", layer=l.path)
    if given != sorted(given):
        raise l.config.bad("bin_boundaries", given, "in ascending order")
    value = as_float(b, x).logical(b)
    wide = b.op("Unsqueeze", value, b.const([-1], "axes"))
    above = b.op("Not", b.op("Less", wide, b.const(np.asarray(given, np.float32), "boundaries")))
    kind = _INT32 if l.generation >= 3 else _INT64
    number = b.op("ReduceSum", b.op("Cast", above, to=int(kind)), b.const([-1], "axes"), keepdims=0)
    if mode == "int":
        return KT.of(number)
    return KT.of(encoded(b, l, number, "multi_hot" if mode == "binary" else mode, len(given) + 1))


@layer("Hashing", "HashedCrossing")
def hashing(b: Builder, l: Layer, *x: KT) -> KT:
    """Texts and numbers by their hash: FarmHash64 and SipHash64 have no counterpart in ONNX.

    Raises:
        UnsupportedOption: unless there is one bin only, where the hash does not matter.
    """
    bins = l.config.integer("num_bins", least=1)
    mode = l.config.choice("output_mode", "int", *MODES)
    l.config.ignore("salt", "mask_value", "sparse")
    if bins != 1 or mode != "int" or l.type != "Hashing":
        raise UnsupportedOption(
            f"{l.type} needs FarmHash64 or SipHash64 of texts, which ONNX operators cannot compute",
            layer=l.path,
            hint="hash before the model, or replace the layer by a StringLookup or IntegerLookup",
        )
    return KT.of(b.op("ConstantOfShape", b.op("Shape", x[0].logical(b)), value=ir.tensor(np.zeros(1, np.int64))))
