"""Augmentation: layers that change pictures in training only; at inference pictures pass."""

from __future__ import annotations

from typing import Any

from netferry.converters.keras.arguments import flattened
from netferry.converters.keras.layer import Layer
from netferry.converters.keras.layers.scaling import as_float
from netferry.converters.keras.layout import KT
from netferry.converters.keras.registry import Slot, layer, slots_of
from netferry.converters.keras.spec import Spec, snake_case
from netferry.converters.keras.training import acts_in_training, bounds, picture_axes
from netferry.errors import MalformedFile, UnsupportedOption
from netferry.schemas.graph import Builder

_LEFT_OUT = (
    "RandomHeight", "RandomWidth", "RandomShear", "RandomHue", "RandomSaturation", "RandomSharpness",
    "RandomColorJitter", "RandomColorDegeneration", "RandomGrayscale", "RandomPosterization", "RandomPerspective",
    "RandomErasing", "RandomElasticTransform", "RandomGaussianBlur", "RandomInvert", "AugMix", "CutMix", "MixUp",
    "RandAugment", "Equalization", "Solarization", "BaseImageAugmentationLayer",
)  # fmt: skip


@layer("RandomFlip", mask="keep")
def random_flip(b: Builder, l: Layer, x: KT) -> KT:
    """Reflects half of the pictures in training; they pass at inference."""
    mode = l.config.choice("mode", "horizontal_and_vertical", "horizontal", "vertical", "horizontal_and_vertical")
    return _picture(b, l, x, horizontal="horizontal" in mode, vertical="vertical" in mode, apart=l.generation < 3)


@layer("RandomRotation", mask="keep")
def random_rotation(b: Builder, l: Layer, x: KT) -> KT:
    """Rotates in training; pictures pass at inference."""
    return _picture(b, l, x, factor=bounds(l, "factor", least=-1.0), **_resampling(l))


@layer("RandomZoom", mask="keep")
def random_zoom(b: Builder, l: Layer, x: KT) -> KT:
    """Zooms in training; pictures pass at inference."""
    width = None if l.config.take("width_factor", None) is None else bounds(l, "width_factor", least=-1.0)
    return _picture(b, l, x, height=bounds(l, "height_factor", least=-1.0), width=width, **_resampling(l))


@layer("RandomTranslation", mask="keep")
def random_translation(b: Builder, l: Layer, x: KT) -> KT:
    """Moves pictures in training; they pass at inference."""
    height, width = (bounds(l, name, least=-1.0) for name in ("height_factor", "width_factor"))
    return _picture(b, l, x, height=height, width=width, **_resampling(l))


@layer("RandomContrast", mask="keep")
def random_contrast(b: Builder, l: Layer, x: KT) -> KT:
    """Changes the contrast in training; pictures pass at inference."""
    return _picture(b, l, x, factor=bounds(l, "factor", least=0.0, about=False), value_range=_values(l))


@layer("RandomBrightness", mask="keep")
def random_brightness(b: Builder, l: Layer, x: KT) -> KT:
    """Changes the brightness in training; pictures pass at inference."""
    return _picture(b, l, x, factor=bounds(l, "factor", least=-1.0), value_range=sorted(_values(l)))


def _picture(b: Builder, l: Layer, x: KT, **settings: Any) -> KT:
    """What training does to pictures, noted; a single picture without a batch is not met inside a network."""
    l.config.ignore("data_format", "bounding_box_format", "seed")
    made = as_float(b, x) if l.generation < 3 else x
    return made if x.rank != 4 else acts_in_training(b, made, l.type, axes=picture_axes(l, made), **settings)


def _resampling(l: Layer) -> dict[str, Any]:
    return {
        "interpolation": l.config.choice("interpolation", "bilinear", "bilinear", "nearest"),
        "fill_mode": l.config.choice("fill_mode", "reflect", "reflect", "constant", "wrap", "nearest"),
        "fill_value": l.config.number("fill_value", 0.0),
    }


def _values(l: Layer) -> list[float]:
    given = l.config.take("value_range", [0, 255])
    if not isinstance(given, (list, tuple)) or len(given) != 2:
        raise l.config.bad("value_range", given, "two numbers")
    if any(isinstance(v, bool) or not isinstance(v, (int, float)) for v in given):
        raise l.config.bad("value_range", given, "two numbers")
    return [float(v) for v in given]


@layer(*_LEFT_OUT, mask="keep")
def augmentation(b: Builder, l: Layer, x: KT, *others: KT) -> Any:
    """Random changes in training; pictures pass at inference."""
    l.config.ignore(*l.config.raw)
    l.note("dropped", f"{l.type} acts in training only, and training with PyTorch leaves it out")
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
