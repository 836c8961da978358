"""Raising: opset 7 to 12, and settings that became inputs."""

from __future__ import annotations

from typing import Any

import numpy as np

from netferry.converters.passes.opset_rules import Cannot, Rewriter, lift
from netferry.schemas.ir import ir


def _input(b: Rewriter, i: int, name: str, value: Any) -> None:
    """Turn an attribute into an input."""
    b.set(**{name: None})
    if value is not None:
        b.feed(i, value, name)


@lift("BatchNormalization", 9)
def spatial(b: Rewriter) -> ir.Value | None:
    """One mean per channel; one per activation (``spatial=0``) is written out: (x - mean) / sqrt(var + eps) * s + b."""
    per_activation = not b.attribute("spatial", 1) and b.rank(b.data(1)) > 1
    b.set(spatial=None)
    if not per_activation:
        return None
    if any(v.uses() or v.is_graph_output() for v in b.node.outputs[1:]):
        raise Cannot("outputs of the old training form are gone")
    x, scale, bias, mean, variance = (b.data(i) for i in range(5))
    deviation = b.op("Sqrt", b.op("Add", variance, b.like(b.attribute("epsilon", 1e-5), x)))
    normal = b.op("Div", b.op("Sub", x, mean), deviation)
    return b.op("Add", b.op("Mul", normal, scale), bias)


@lift("Upsample", 9)
def upsample_scales(b: Rewriter) -> None:
    """The scales are an input since 9."""
    _input(b, 1, "scales", np.array(b.attribute("scales"), np.float32))


@lift("Upsample", 10)
def upsample(b: Rewriter) -> ir.Value:
    """Upsample became Resize."""
    mode = b.attribute("mode", "nearest")
    return b.op("Resize", b.data(), b.data(1), mode="linear" if mode == "bilinear" else mode)


@lift("Slice", 10)
def slice_inputs(b: Rewriter) -> None:
    """Starts, ends and axes are inputs since 10."""
    for i, name in ((1, "starts"), (2, "ends"), (3, "axes")):
        held = b.attribute(name)
        _input(b, i, name, None if held is None else np.array(held, np.int64))


@lift("TopK", 10)
def top_k(b: Rewriter) -> None:
    """k is an input since 10."""
    _input(b, 1, "k", np.array([b.attribute("k")], np.int64))


@lift("Dropout", 10)
def dropout_mask(b: Rewriter) -> list[ir.Value] | None:
    """The mask is boolean since 10; who reads it still gets the old type."""
    if len(b.node.outputs) < 2 or not (b.node.outputs[1].uses() or b.node.outputs[1].is_graph_output()):
        return None
    y, mask = b.op("Dropout", b.data(), outputs=2, ratio=b.attribute("ratio"))
    return [y, b.cast(mask, b.dtype(b.node.outputs[1]))]


@lift("Dropout", 12)
def dropout_ratio(b: Rewriter) -> None:
    """The ratio is an input since 12; without a training mode it rests, as before."""
    ratio = b.attribute("ratio")
    _input(b, 1, "ratio", None if ratio is None else np.array(ratio, np.float32))


@lift("Clip", 11)
def clip_bounds(b: Rewriter) -> None:
    """The bounds are inputs since 11."""
    kind = b.dtype(b.data()).numpy()
    for i, name in ((1, "min"), (2, "max")):
        bound = b.attribute(name)
        _input(b, i, name, None if bound is None else np.array(bound, kind))


@lift("Pad", 11)
def pad_inputs(b: Rewriter) -> None:
    """Pads and the value are inputs since 11."""
    _input(b, 1, "pads", np.array(b.attribute("pads"), np.int64))
    value = b.attribute("value")
    constant = b.attribute("mode", "constant") == "constant"
    _input(b, 2, "value", np.array(value, b.dtype(b.data()).numpy()) if value and constant else None)


@lift("Resize", 11)
def resize_modes(b: Rewriter) -> ir.Value:
    """Resize 10 rounds down from the asymmetric coordinate; the region is an input since 11."""
    return b.op(
        "Resize",
        b.data(),
        np.zeros(0, np.float32),
        b.data(1),
        mode=b.attribute("mode", "nearest"),
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )


@lift("Scatter", 11)
def scatter(b: Rewriter) -> ir.Value:
    """Scatter became ScatterElements."""
    return b.op("ScatterElements", b.data(), b.data(1), b.data(2), axis=b.attribute("axis", 0))
