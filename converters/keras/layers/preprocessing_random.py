"""Augmentation: layers that change pictures in training only; nothing is left of them at inference."""

from __future__ import annotations

from typing import Any

from netferry.converters.keras.layer import Layer
from netferry.converters.keras.layers.scaling import as_float
from netferry.converters.keras.layout import KT
from netferry.converters.keras.network import flattened
from netferry.converters.keras.registry import Slot, layer, slots_of
from netferry.converters.keras.spec import Spec, snake_case
from netferry.errors import MalformedFile, UnsupportedOption
from netferry.schemas.graph import Builder

_TRAINING_ONLY = (
    "RandomFlip", "RandomRotation", "RandomZoom", "RandomTranslation", "RandomContrast", "RandomBrightness",
    "RandomHeight", "RandomWidth", "RandomShear", "RandomHue", "RandomSaturation", "RandomSharpness",
    "RandomColorJitter", "RandomColorDegeneration", "RandomGrayscale", "RandomPosterization", "RandomPerspective",
    "RandomErasing", "RandomElasticTransform", "RandomGaussianBlur", "RandomInvert", "AugMix", "CutMix", "MixUp",
    "RandAugment", "Equalization", "Solarization", "BaseImageAugmentationLayer",
)  # fmt: skip


@layer(*_TRAINING_ONLY, mask="keep")
def augmentation(b: Builder, l: Layer, x: KT, *others: KT) -> Any:
    """Random changes in training; pictures pass at inference."""
    l.config.ignore(*l.config.raw)
    l.note("dropped", f"{l.type} acts in training only")
    made = as_float(b, x) if l.generation < 3 else x
    return (made, *others) if others else made


@layer("MaxNumBoundingBoxes", mask="keep")
def max_num_bounding_boxes(b: Builder, l: Layer, x: KT, *others: KT) -> KT:
    """Pictures pass; the boxes of a dictionary of pictures, boxes and labels are not read."""
    del b
    l.config.ignore("max_number", "fill_value", "data_format", "bounding_box_format")
    if others:
        raise UnsupportedOption("bounding boxes in a dictionary are not supported, pictures are", layer=l.path)
    return x


def _pipeline_slots(spec: Spec) -> list[Slot]:
    found: list[Slot] = []
    for key, child in _children(spec):
        found += [Slot(f"layers/{key}/{s.name}", s.trainable) for s in slots_of(child)]
    return found


def _children(spec: Spec) -> list[tuple[str, Spec]]:
    """The layers of a Pipeline with their key in weight files."""
    raw = spec.config.get("layers")
    used: dict[str, int] = {}
    out: list[tuple[str, Spec]] = []
    for item in raw if isinstance(raw, list) else []:
        child = spec.inner(item)
        base = snake_case(child.variable_type)
        n = used.get(base, -1) + 1
        used[base] = n
        out.append((base if n == 0 else f"{base}_{n}", child))
    return out


@layer("Pipeline", weights=_pipeline_slots)
def pipeline(b: Builder, l: Layer, x: KT) -> KT:
    """Preprocessing layers one after the other."""
    raw = l.config.take("layers")
    if not isinstance(raw, list):
        raise MalformedFile("a Pipeline without layers", layer=l.path)
    value = x
    for (key, _), item in zip(_children(l.spec), raw, strict=True):
        made = flattened(l.inner(b, item, f"layers/{key}", value))
        value = made[0]
    return value
