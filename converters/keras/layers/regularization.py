"""Layers that act in training only: Dropout stays as an annotated node, noise is left out with a note."""

from __future__ import annotations

from netferry.converters.keras.layer import Layer
from netferry.converters.keras.layout import KT
from netferry.converters.keras.registry import layer
from netferry.errors import MalformedFile
from netferry.schemas.graph import Builder


@layer("Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", mask="keep")
def dropout(b: Builder, l: Layer, x: KT) -> KT:
    """Kept for fine-tuning (ratio and, for spatial ones, whole channels); passes values on at inference."""
    rate = l.config.number("rate", also=("p",))
    if not 0 <= rate <= 1:
        raise MalformedFile(f"rate={rate} is not between 0 and 1", layer=l.path)
    first = l.config.take("data_format", None) == "channels_first" or l.config.take("dim_ordering", None) == "th"
    l.config.ignore("noise_shape")
    channels = 1 if first and not l.type.endswith("1D") else x.rank - 1
    made = b.op(
        "Dropout",
        x.value,
        b.const(min(rate, 0.999999), "ratio"),
        metadata={"netferry.spatial": str(x.order.index(channels))} if l.type.startswith("Spatial") else None,
    )
    return x.like(made)


@layer("GaussianNoise", "GaussianDropout", "AlphaDropout", mask="keep")
def noise(b: Builder, l: Layer, x: KT) -> KT:
    """Noise in training; nothing at inference."""
    del b
    l.config.ignore("stddev", "rate", "sigma", "p", "noise_shape", "seed")
    l.note("dropped", f"{l.type} acts in training only")
    return x


@layer("ActivityRegularization", mask="keep")
def activity_regularization(b: Builder, l: Layer, x: KT) -> KT:
    """A penalty in training; nothing at inference."""
    del b
    l.config.ignore("l1", "l2")
    return x
