"""MultiHeadAttention and GroupedQueryAttention as plain MatMul and Softmax nodes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from netferry.converters.keras.layer import Layer
from netferry.converters.keras.layers.attention_masks import NEVER, as_bool, both, window_mask
from netferry.converters.keras.layers.recurrent_masks import explicit_mask
from netferry.converters.keras.layers.scaling import as_float
from netferry.converters.keras.layout import KT, Mask
from netferry.converters.keras.registry import Slot, layer
from netferry.converters.keras.spec import Spec
from netferry.errors import MalformedFile, UnsupportedOption
from netferry.schemas.graph import Builder, Dim, shape_of
from netferry.schemas.ir import ir

Label = int | str


def _slots(spec: Spec) -> list[Slot]:
    """Projections in the order of their creation; versions differ in whether attributes carry an underscore."""
    biased = bool(spec.config.get("use_bias", True))
    names = (
        ["query", "key", "gate", "value", "output"]
        if spec.config.get("use_gate")
        else ["query", "key", "value", "output"]
    )
    parts = ("kernel", "bias") if biased else ("kernel",)
    return [Slot(f"{name}_dense/{part}", also=f"_{name}_dense/{part}") for name in names for part in parts]


@dataclass
class Call:
    """Tensors and switches of one call."""

    query: KT
    value: KT
    key: KT
    masks: list[Mask | None]
    """of query, value and, where it is given on its own, key"""
    given: KT | None
    """attention_mask"""
    scores: bool
    causal: bool


_ARGUMENTS = {
    2: ("query", "value", "key", "attention_mask", "return_attention_scores", "training", "use_causal_mask"),
    3: ("query", "value", "key", "query_mask", "value_mask", "key_mask", "attention_mask", "return_attention_scores",
        "training", "use_causal_mask"),
}  # fmt: skip


def _call(b: Builder, l: Layer) -> Call:
    found: dict[str, Any] = dict(zip(_ARGUMENTS[3 if l.generation == 3 else 2], l.args, strict=False))
    found.update(l.kwargs)
    query, value, key = found.get("query"), found.get("value"), found.get("key")
    if not isinstance(query, KT) or not isinstance(value, KT):
        raise MalformedFile(f"{l.type} takes a query and a value", layer=l.path)
    if query.rank < 3 or value.rank != query.rank:
        raise MalformedFile(f"{l.type} takes tensors of equal rank from 3 on", layer=l.path)
    masks = [query.mask, value.mask, key.mask if isinstance(key, KT) else None]
    for i, name in enumerate(("query_mask", "value_mask", "key_mask")):
        given = found.get(name)
        if isinstance(given, KT) and (i or l.type != "MultiHeadAttention"):
            masks[i] = explicit_mask(given)
    mask = found.get("attention_mask")
    return Call(
        as_float(b, query),
        as_float(b, value),
        as_float(b, key if isinstance(key, KT) else value),
        masks,
        mask if isinstance(mask, KT) else None,
        bool(found.get("return_attention_scores")),
        bool(found.get("use_causal_mask")),
    )


def _project(b: Builder, l: Layer, x: KT, name: str, units: int) -> tuple[ir.Value, list[Label]]:
    """Multiply the last axis by a projection, in the order in which the tensor lies; returns the axes' labels too."""
    order = x.order if x.order[-1] == x.rank - 1 else tuple(range(x.rank))
    size = l.dim(x, -1, "the size of the last axis")
    made = b.op("MatMul", x.to(b, order), l.weight(b, f"{name}_dense/kernel", f"{name}.weight", (size, units)))
    if l.config.flag("use_bias", True):
        made = b.op("Add", made, l.weight(b, f"{name}_dense/bias", f"{name}.bias", (units,)))
    return made, list(order[:-1])


def _arranged(b: Builder, value: ir.Value, labels: Sequence[Label], wanted: Sequence[Label]) -> ir.Value:
    perm = [labels.index(label) for label in wanted]
    return value if perm == sorted(perm) else b.op("Transpose", value, perm=perm)


def _split(
    b: Builder,
    projected: tuple[ir.Value, list[Label]],
    sizes: Sequence[int],
    names: Sequence[Label],
    wanted: Sequence[Label],
) -> ir.Value:
    """Take the last axis apart into heads and bring the axes into the wanted order."""
    value, labels = projected
    apart = b.reshape(value, [*([0] * len(labels)), *sizes])
    return _arranged(b, apart, [*labels, *names], wanted)


def _masked_softmax(b: Builder, scores: ir.Value, allowed: ir.Value | None, *, zeroed: bool) -> ir.Value:
    """Softmax over the last axis; a row without any allowed position is even, or zero where ``zeroed``."""
    if allowed is None:
        return b.op("Softmax", scores, axis=-1)
    weights = b.op("Softmax", b.op("Where", allowed, scores, b.const(NEVER, "never")), axis=-1)
    return b.op("Where", allowed, weights, b.const(0.0, "zero")) if zeroed else weights


def _allowed(b: Builder, call: Call, axis: int, width: int | None) -> ir.Value | None:
    """What may be seen: boolean, (query steps, value steps) with a batch in front where that matters."""
    parts: list[ir.Value | None] = []
    for mask, place in zip(call.masks, (2, 1, 1), strict=True):
        if mask is not None:
            parts.append(b.op("Unsqueeze", mask.value(b), b.const([place], "axes")))
    parts.append(window_mask(b, call.query, call.value, axis, causal=call.causal, width=width))
    if call.given is not None:
        parts.append(as_bool(b, call.given.logical(b)))
    return both(b, parts)


def _output(b: Builder, l: Layer, call: Call, joined: ir.Value, size: int) -> KT:
    """Gate, and project the joined heads."""
    if l.config.flag("use_gate", False):
        gate, labels = _project(b, l, call.query, "gate", size)
        gate = _arranged(b, gate, [*labels, "F"], [*range(len(labels)), "F"])
        joined = b.op("Mul", joined, b.op("Sigmoid", gate))
    raw = l.config.take("output_shape", None)
    shape = [l.dim(call.query, -1)] if not raw else l.config.whole_numbers("output_shape")
    if any(d < 1 for d in shape):
        raise l.config.bad("output_shape", raw, "positive whole numbers")
    units = math.prod(shape)
    made = b.op("MatMul", joined, l.weight(b, "output_dense/kernel", "output.weight", (size, units)))
    if l.config.flag("use_bias", True):
        made = b.op("Add", made, l.weight(b, "output_dense/bias", "output.bias", (units,)))
    if len(shape) > 1:
        made = b.reshape(made, [*([0] * (call.query.rank - 1)), *shape])
    return KT.of(made, None, call.masks[0])


@layer("MultiHeadAttention", weights=_slots, mask="own")
def multi_head_attention(b: Builder, l: Layer, *_: KT) -> KT | tuple[KT, ...]:
    """Scaled dot-product attention of several heads over one or more axes."""
    call = _call(b, l)
    heads, size = l.config.integer("num_heads", least=1), l.config.integer("key_dim", least=1)
    value_size = size if l.config.take("value_dim", None) is None else l.config.integer("value_dim", least=1)
    width = None if l.config.take("sliding_window", None) is None else l.config.integer("sliding_window", least=1)
    dropout = l.config.number("dropout", 0.0)
    l.config.ignore("softmax_robust_masking", "query_shape", "key_shape", "value_shape", "flash_attention")
    rank = call.query.rank
    raw = l.config.take("attention_axes", None)
    axes = [a % rank for a in (l.config.whole_numbers("attention_axes") if raw else range(1, rank - 1))]
    if any(not 1 <= a <= rank - 2 for a in axes) or len(set(axes)) != len(axes):
        raise l.config.bad("attention_axes", raw, f"axes of a tensor of rank {rank}")
    around: list[Label] = [0, *(a for a in range(1, rank - 1) if a not in axes)]
    lead = len(around) + 1
    query = _split(
        b, _project(b, l, call.query, "query", heads * size), [heads, size], "NH", [*around, "N", *axes, "H"]
    )
    key = _split(b, _project(b, l, call.key, "key", heads * size), [heads, size], "NH", [*around, "N", "H", *axes])
    value = _split(
        b,
        _project(b, l, call.value, "value", heads * value_size),
        [heads, value_size],
        "NH",
        [*around, "N", *axes, "H"],
    )
    if len(axes) > 1:
        query = b.reshape(query, [*([0] * lead), -1, size])
        key = b.reshape(key, [*([0] * lead), size, -1])
        value = b.reshape(value, [*([0] * lead), -1, value_size])
    scores = b.op("MatMul", b.op("Mul", query, b.const(1 / math.sqrt(size), "scale")), key)
    allowed = _allowed_for(b, l, call, axes, lead, width)
    # Keras 3 takes another way where scores are wanted, dropout is set or the rank is higher: rows without any
    # allowed position are zero there
    zeroed = l.generation == 3 and (call.scores or dropout > 0 or rank != 3)
    weights = _masked_softmax(b, scores, allowed, zeroed=zeroed)
    made = b.op("MatMul", weights, value)
    if len(axes) > 1:
        made = b.reshape(made, [*([0] * lead), *_extents(l, call.query, axes), value_size])
    joined = _arranged(b, made, [*around, "N", *axes, "H"], [*range(rank - 1), "N", "H"])
    joined = b.reshape(joined, [*([0] * (rank - 1)), heads * value_size])
    out = _output(b, l, call, joined, heads * value_size)
    if not call.scores:
        return out
    if len(axes) > 1:
        extents = [*_extents(l, call.query, axes), *_extents(l, call.value, axes)]
        weights = b.reshape(weights, [*([0] * lead), *extents])
    return out, KT.of(weights)


def _allowed_for(
    b: Builder, l: Layer, call: Call, axes: Sequence[int], lead: int, width: int | None
) -> ir.Value | None:
    if len(axes) > 1 and (call.causal or width is not None or any(m is not None for m in call.masks)):
        raise UnsupportedOption("masks over several attention axes are not supported", layer=l.path)
    allowed = _allowed(b, call, 1, width)
    if allowed is None:
        return None
    rank = len(shape_of(allowed))
    if len(axes) > 1:
        rest = rank - 2 * len(axes)
        sizes = [math.prod(_extents(l, call.query, axes)), math.prod(_extents(l, call.value, axes))]
        if rest < 0 or any(s < 0 for s in sizes):
            raise UnsupportedOption("this attention_mask over several axes is not supported", layer=l.path)
        allowed = b.reshape(allowed, [*([0] * rest), *sizes])
        rank = rest + 2
    missing = lead + 2 - rank
    if rank > 2 and missing > 0:
        allowed = b.op("Unsqueeze", allowed, b.const([rank - 2 + i for i in range(missing)], "axes"))
    return allowed


def _extents(l: Layer, x: KT, axes: Sequence[int]) -> list[int]:
    """Sizes of the attention axes for a Reshape: at most one may be dynamic."""
    dims: list[Dim] = [x.shape[a] for a in axes]
    if sum(not isinstance(d, int) for d in dims) > 1:
        raise UnsupportedOption("several attention axes of dynamic size are not supported", layer=l.path)
    return [d if isinstance(d, int) else -1 for d in dims]


@layer("GroupedQueryAttention", "GroupQueryAttention", weights=_slots, mask="own")
def grouped_query_attention(b: Builder, l: Layer, *_: KT) -> KT | tuple[KT, ...]:
    """Attention in which several heads of the query share a head of key and value; nothing is copied."""
    call = _call(b, l)
    l.rank(call.query, 3)
    size = l.config.integer("head_dim", least=1)
    heads = l.config.integer("num_query_heads", least=1)
    shared = l.config.integer("num_key_value_heads", least=1)
    width = None if l.config.take("sliding_window", None) is None else l.config.integer("sliding_window", least=1)
    dropout = l.config.number("dropout", 0.0)
    l.config.ignore("flash_attention")
    if heads % shared:
        raise MalformedFile(f"{heads} heads do not divide into {shared} groups", layer=l.path)
    each = heads // shared
    query = _split(
        b, _project(b, l, call.query, "query", heads * size), [shared, each, size], "KRH", [0, "K", "R", 1, "H"]
    )
    key = _split(b, _project(b, l, call.key, "key", shared * size), [shared, 1, size], "KRH", [0, "K", "R", "H", 1])
    value = _split(
        b, _project(b, l, call.value, "value", shared * size), [shared, 1, size], "KRH", [0, "K", "R", 1, "H"]
    )
    scores = b.op("MatMul", b.op("Mul", query, b.const(1 / math.sqrt(size), "scale")), key)
    allowed = _allowed(b, call, 1, width)
    if allowed is not None and len(shape_of(allowed)) == 3:
        allowed = b.op("Unsqueeze", allowed, b.const([1, 2], "axes"))
    weights = _masked_softmax(b, scores, allowed, zeroed=call.scores or dropout > 0)
    made = b.op("Transpose", b.op("MatMul", weights, value), perm=[0, 3, 1, 2, 4])
    out = _output(b, l, call, b.reshape(made, [0, 0, heads * size]), heads * size)
    if not call.scores:
        return out
    count = b.const(np.array([heads]), "heads")
    target = b.op("Concat", b.op("Shape", weights, start=0, end=1), count, b.op("Shape", weights, start=3), axis=0)
    flat = b.op("Reshape", weights, target)
    batch, _groups, _each, rows, columns = shape_of(weights)
    flat.shape = ir.Shape([batch, heads, rows, columns])
    return out, KT.of(flat)
