"""Classes that keras.applications and well-known model files register: what they compute is settled."""

from __future__ import annotations

from netferry.converters.keras.layer import Layer
from netferry.converters.keras.layers.merging import aligned
from netferry.converters.keras.layers.normalization import along
from netferry.converters.keras.layout import KT
from netferry.converters.keras.registry import layer
from netferry.converters.keras.training import acts_in_training, check_rate
from netferry.errors import MalformedFile
from netferry.schemas.graph import Builder


@layer("LayerScale", weights=("gamma",), mask="keep")
def layer_scale(b: Builder, l: Layer, x: KT) -> KT:
    """ConvNeXt: a learnt factor per channel (Touvron et al. 2021)."""
    size = l.config.integer("projection_dim", least=1)
    l.config.ignore("init_values")
    order = tuple(range(x.rank)) if x.flat is not None else x.order
    factor = along(b, l, "gamma", "weight", [x.rank - 1], [size], order)
    return KT(b.op("Mul", x.to(b, order), factor), order)


@layer("StochasticDepth", mask="keep")
def stochastic_depth(b: Builder, l: Layer, x: KT) -> KT:
    """ConvNeXt: drops whole branches in training; nothing at inference."""
    rate = check_rate(l, l.config.number("drop_path_rate"))
    batch = x.order.index(0)
    return acts_in_training(b, x, "Dropout", rate=rate, shared=[i for i in range(x.rank) if i != batch])


@layer("CustomScaleLayer")
def custom_scale(b: Builder, l: Layer, x: KT, y: KT) -> KT:
    """InceptionResNetV2 of Keras 3: the first tensor plus the second times a constant."""
    scale = l.config.number("scale")
    (first, second), lies = aligned(b, l, [x, y])
    made = b.op("Add", first, b.op("Mul", second, b.const(scale, "scale")))
    return lies.like(made) if isinstance(lies, KT) else KT(made, lies)


@layer("FixedDropout", mask="keep")
def fixed_dropout(b: Builder, l: Layer, x: KT) -> KT:
    """EfficientNet of other packages: Dropout whose noise_shape may hold None."""
    rate = l.config.number("rate")
    if not 0 <= rate <= 1:
        raise MalformedFile(f"rate={rate} is not between 0 and 1", layer=l.path)
    l.config.ignore("noise_shape")
    return x.like(b.op("Dropout", x.value, b.const(min(rate, 0.999999), "ratio")))
