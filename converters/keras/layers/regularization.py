"""Layers that act in training only: Dropout and noise stay as annotated nodes, for fine-tuning."""

from __future__ import annotations

import json

from netferry.converters.keras.layer import Layer
from netferry.converters.keras.layout import KT
from netferry.converters.keras.registry import layer
from netferry.converters.keras.training import acts_in_training, check_rate, shared_axes
from netferry.errors import MalformedFile
from netferry.schemas.graph import Builder
from netferry.schemas.layers import TRAINING


@layer("Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", mask="keep")
def dropout(b: Builder, l: Layer, x: KT) -> KT:
    """Kept for fine-tuning (ratio and, for spatial ones, whole channels); passes values on at inference."""
    rate = check_rate(l, l.config.number("rate", also=("p",)))
    first = l.config.take("data_format", None) == "channels_first" or l.config.take("dim_ordering", None) == "th"
    metadata = None
    if l.type.startswith("Spatial"):
        channels = 1 if first and not l.type.endswith("1D") else x.rank - 1
        metadata = {"netferry.spatial": str(x.order.index(channels))}
        l.config.ignore("noise_shape")
    elif shared := shared_axes(l, x):
        metadata = {TRAINING: json.dumps({"layer": "Dropout", "rate": rate, "shared": shared})}
    return x.like(b.op("Dropout", x.value, b.const(rate, "ratio"), metadata=metadata))


@layer("GaussianNoise", mask="keep")
def gaussian_noise(b: Builder, l: Layer, x: KT) -> KT:
    """Adds normal noise in training; nothing at inference."""
    stddev = l.config.number("stddev", also=("sigma",))
    if stddev < 0:
        raise MalformedFile(f"stddev={stddev} is below 0", layer=l.path)
    return acts_in_training(b, x, l.type, stddev=stddev)


@layer("GaussianDropout", mask="keep")
def gaussian_dropout(b: Builder, l: Layer, x: KT) -> KT:
    """Multiplies by normal noise around 1 in training; nothing at inference."""
    return acts_in_training(b, x, l.type, rate=check_rate(l, l.config.number("rate", also=("p",))))


@layer("AlphaDropout", mask="keep")
def alpha_dropout(b: Builder, l: Layer, x: KT) -> KT:
    """Drops to the saturation of SELU in training, mean and variance stay; nothing at inference."""
    rate = check_rate(l, l.config.number("rate", also=("p",)))
    return acts_in_training(b, x, l.type, rate=rate, shared=shared_axes(l, x))


@layer("ActivityRegularization", mask="keep")
def activity_regularization(b: Builder, l: Layer, x: KT) -> KT:
    """A penalty in training; nothing at inference."""
    del b
    l.config.ignore("l1", "l2")
    return x
