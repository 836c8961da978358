"""Attention and AdditiveAttention: one head, no projections."""

from __future__ import annotations

from typing import Any

from netferry.converters.keras.layer import Layer
from netferry.converters.keras.layers.attention_masks import NEVER, both, window_mask
from netferry.converters.keras.layers.recurrent_masks import explicit_mask
from netferry.converters.keras.layers.scaling import as_float
from netferry.converters.keras.layout import KT, Mask
from netferry.converters.keras.registry import Slot, layer
from netferry.converters.keras.spec import Spec
from netferry.errors import MalformedFile
from netferry.schemas.graph import Builder
from netferry.schemas.ir import ir


def _attention_slots(spec: Spec) -> list[Slot]:
    scale = [Slot("scale")] if spec.config.get("use_scale", False) else []
    return scale + ([Slot("concat_score_weight")] if spec.config.get("score_mode") == "concat" else [])


@layer("Attention", weights=_attention_slots, mask="own")
def attention(b: Builder, l: Layer, *inputs: KT) -> KT | tuple[KT, ...]:
    """softmax(query key^T) value, or scores by tanh(query + key) in concat mode; inputs are query, value, key."""
    mode = l.config.choice("score_mode", "dot", "dot", "concat")
    scaled = l.config.flag("use_scale", False)
    query, key = _query_and_key(b, l, inputs)
    scale = l.weight(b, "scale", "scale", ()) if scaled else None
    if mode == "dot":
        back = (*range(key.rank - 2), key.rank - 1, key.rank - 2)
        scores = b.op("MatMul", query.logical(b), key.to(b, back))
        scores = scores if scale is None else b.op("Mul", scores, scale)
    else:
        total = _sums(b, query, key)
        curved = b.op("Tanh", total if scale is None else b.op("Mul", total, scale))
        weight = l.weight(b, "concat_score_weight", "concat_score_weight", ())
        scores = b.op("Mul", b.op("ReduceSum", curved, b.const([-1], "axes"), keepdims=0), weight)
    return _attended(b, l, inputs, query, key, scores)


def _additive_slots(spec: Spec) -> list[Slot]:
    return [Slot("scale")] if spec.config.get("use_scale", True) else []


@layer("AdditiveAttention", weights=_additive_slots, mask="own")
def additive_attention(b: Builder, l: Layer, *inputs: KT) -> KT | tuple[KT, ...]:
    """Scores are the (weighted) sum of tanh(query + key): Bahdanau's attention."""
    query, key = _query_and_key(b, l, inputs)
    curved = b.op("Tanh", _sums(b, query, key))
    if l.config.flag("use_scale", True):
        size = l.dim(query, -1, "the size of the last axis")
        column = l.weight(b, "scale", "scale", (size,))
        scores = b.op("MatMul", curved, column)
    else:
        scores = b.op("ReduceSum", curved, b.const([-1], "axes"), keepdims=0)
    return _attended(b, l, inputs, query, key, scores)


def _query_and_key(b: Builder, l: Layer, inputs: tuple[KT, ...]) -> tuple[KT, KT]:
    if len(inputs) not in (2, 3):
        raise MalformedFile(f"{l.type} takes query, value and maybe key, not {len(inputs)} tensors", layer=l.path)
    if any(x.rank < 3 for x in inputs):
        raise MalformedFile(f"{l.type} takes tensors of rank 3 or more", layer=l.path)
    l.config.ignore("dropout")
    return as_float(b, inputs[0]), as_float(b, inputs[-1] if len(inputs) == 3 else inputs[1])


def _sums(b: Builder, query: KT, key: KT) -> ir.Value:
    """Every query plus every key: (batch, query steps, key steps, size)."""
    first = b.op("Unsqueeze", query.logical(b), b.const([query.rank - 1], "axes"))
    second = b.op("Unsqueeze", key.logical(b), b.const([key.rank - 2], "axes"))
    return b.op("Add", first, second)


def _given_masks(l: Layer, inputs: tuple[KT, ...]) -> list[Mask | None]:
    """Masks of query and value: those of the call, else of the tensors."""
    given: Any = l.kwargs.get("mask")
    if isinstance(given, (list, tuple)):
        return [explicit_mask(m) if isinstance(m, KT) else None for m in [*given, None, None][:2]]
    return [x.mask for x in inputs[:2]]


def _attended(
    b: Builder, l: Layer, inputs: tuple[KT, ...], query: KT, key: KT, scores: ir.Value
) -> KT | tuple[KT, ...]:
    """Mask the scores, take the softmax, weigh the values."""
    query_mask, value_mask = _given_masks(l, inputs)
    causal = bool(l.kwargs.get("use_causal_mask")) or l.config.flag("causal", False)
    seen: ir.Value | None = None
    if value_mask is not None:
        seen = b.op("Unsqueeze", value_mask.value(b), b.const([1], "axes"))
    allowed = both(b, [seen, window_mask(b, query, key, -2, causal=causal, width=None)])
    if allowed is not None:
        # a row without any allowed position keeps its own weights in Keras: all its scores fall by the same number
        scores = b.op("Where", allowed, scores, b.op("Add", scores, b.const(NEVER, "never")))
    weights = b.op("Softmax", scores, axis=-1)
    out = b.op("MatMul", weights, as_float(b, inputs[1]).logical(b))
    if query_mask is not None:
        counts = b.op("Unsqueeze", query_mask.value(b), b.const([-1], "axes"))
        out = b.op("Where", counts, out, b.const(0.0, "zero"))
    made = KT.of(out, None, query_mask)
    return (made, KT.of(weights)) if l.kwargs.get("return_attention_scores") else made
