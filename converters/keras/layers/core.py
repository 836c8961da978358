"""Inputs, identities, masks, embeddings."""

from __future__ import annotations

import numpy as np

from netferry.converters.keras.layer import Layer
from netferry.converters.keras.layout import KT, Mask
from netferry.converters.keras.quantized import restore, slots
from netferry.converters.keras.registry import Slot, layer
from netferry.converters.keras.spec import Spec
from netferry.schemas.graph import Builder
from netferry.schemas.ir import ir


@layer("InputLayer", mask="keep")
def input_layer(b: Builder, l: Layer, x: KT) -> KT:
    """A nested model's input: what the model was called with."""
    del b
    l.config.ignore(*l.config.raw)
    return x


@layer("Identity", mask="keep")
def same(b: Builder, l: Layer, x: KT) -> KT:
    """Nothing."""
    del b, l
    return x


def _reversible_slots(spec: Spec) -> list[Slot]:
    tied = spec.config.get("tie_weights", True)
    return [Slot("embeddings")] if tied else [Slot("embeddings"), Slot("reverse_embeddings")]


@layer("ReversibleEmbedding", weights=_reversible_slots, mask="own")
def reversible_embedding(b: Builder, l: Layer, x: KT) -> KT:
    """Rows of a table by number; called with ``reverse=True`` the scores of all numbers, by the same table if tied."""
    tied, cap = l.config.flag("tie_weights", True), l.config.maybe_number("logit_soft_cap")
    l.config.ignore("reverse_dtype")
    back = l.kwargs.get("reverse", l.args[1] if len(l.args) > 1 else False)
    if not back:
        return embedding(b, l, x)
    rows, size = l.config.integer("input_dim", least=1), l.config.integer("output_dim", least=1)
    l.config.ignore("mask_zero")
    if tied:
        kernel = b.op("Transpose", l.weight(b, "embeddings", "weight", (rows, size)), perm=[1, 0])
    else:
        kernel = l.weight(b, "reverse_embeddings", "reverse.weight", (size, rows))
    scores = b.op("MatMul", x.logical(b), kernel)
    if cap is not None:
        limit = b.const(cap, "logit_soft_cap")
        scores = b.op("Mul", b.op("Tanh", b.op("Div", scores, limit)), limit)
    return KT.of(scores)


def _embedding_slots(spec: Spec) -> list[Slot]:
    return slots(spec, "embeddings")


@layer("Embedding", weights=_embedding_slots, mask="own")
def embedding(b: Builder, l: Layer, x: KT) -> KT:
    """Rows of a table by number; with mask_zero the number 0 marks steps that do not count."""
    rows = l.config.integer("input_dim", least=1)
    size = l.config.integer("output_dim", least=1)
    masked = l.config.flag("mask_zero", False)
    l.config.ignore("input_length", "dropout")
    restore(l, "embeddings", lambda scale: scale.reshape(-1, 1))
    table = l.weight(b, "embeddings", "weight", (rows, size))
    places = x.logical(b)
    if places.dtype not in (ir.DataType.INT32, ir.DataType.INT64):
        places = b.op("Cast", places, to=int(ir.DataType.INT32))
    out = KT.of(b.op("Gather", table, places, axis=0))
    if masked:
        zero = places

        def make(builder: Builder) -> ir.Value:
            kind = "int64" if zero.dtype == ir.DataType.INT64 else "int32"
            return builder.op("Not", builder.op("Equal", zero, builder.const(0, "zero", dtype=np.dtype(kind))))

        out.mask = Mask(make)
    return out


@layer("Masking", mask="own")
def masking(b: Builder, l: Layer, x: KT) -> KT:
    """Steps in which every feature equals mask_value become 0 and do not count."""
    value = l.config.number("mask_value", 0.0)
    v = x.logical(b)
    differs = b.op("Not", b.op("Equal", v, b.const(value, "mask_value")))
    as_int = b.op("Cast", differs, to=int(ir.DataType.FLOAT))
    any_ = b.op("ReduceMax", as_int, b.const([-1], "axes"), keepdims=1)
    out = KT.of(b.op("Mul", v, any_))

    def make(builder: Builder) -> ir.Value:
        flat = builder.op("Squeeze", any_, builder.const([-1], "axes"))
        return builder.op("Cast", flat, to=int(ir.DataType.BOOL))

    out.mask = Mask(make)
    return out
