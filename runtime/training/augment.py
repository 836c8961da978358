"""Random changes to training pictures: reflection, translation, rotation, scale, crop, colour.

All geometry is one affine map, so that a picture is resampled once; reflections and whole-pixel translations alone do
not resample at all. Validation and test pictures never come here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance

from netferry.errors import UsageError
from netferry.schemas.preprocessing import Preprocessing

Pair = tuple[float, float]


@dataclass(frozen=True)
class Augment:
    """What may happen to a training picture, after it was resized to the network's input; each with its probability.

    The defaults are those of MATLAB's example for retraining: reflection and translation by up to 30 pixels.
    """

    flip_x: float = 0.5
    """probability of a reflection left to right"""
    flip_y: float = 0.0
    """probability of a reflection top to bottom"""
    translate: tuple[int, int] = (30, 30)
    """most pixels of the network's input by which a picture moves along x and y; whole numbers, bounds included"""
    translate_p: float = 1.0
    rotate: float = 0.0
    """most degrees, either way"""
    rotate_p: float = 1.0
    scale: Pair = (1.0, 1.0)
    """factors from least to most, the centre stays"""
    scale_p: float = 1.0
    crop: Pair = (1.0, 1.0)
    """share of the area that is cut out at a random place and enlarged to the whole, from least to most"""
    crop_p: float = 1.0
    color: float = 0.0
    """brightness, contrast and saturation are multiplied by 1 - color to 1 + color each"""
    color_p: float = 1.0
    fill: float | None = None
    """value 0..255 of places that come from outside the picture; by default the mean that preprocessing subtracts,
    black where it subtracts none"""

    def __post_init__(self) -> None:
        for name in ("flip_x", "flip_y", *(f.name for f in fields(self) if f.name.endswith("_p"))):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"augmentation: {name} is a probability, not {getattr(self, name)}")
        for name, most in (("scale", 10.0), ("crop", 1.0)):
            low, high = getattr(self, name)
            if not 0 < low <= high <= most:
                raise UsageError(f"augmentation: {name} is a range within 0 and {most:g}, not {low} to {high}")
        if min(self.translate) < 0 or not 0 <= self.rotate <= 180 or not 0 <= self.color < 1:
            raise UsageError("augmentation: translate is 0 or more, rotate 0 to 180, color 0 to below 1")

    @property
    def does_nothing(self) -> bool:
        """Whether every picture stays as it is."""
        return (
            not self.flip_x
            and not self.flip_y
            and not (any(self.translate) and self.translate_p)
            and not (self.rotate and self.rotate_p)
            and (self.scale == (1.0, 1.0) or not self.scale_p)
            and (self.crop == (1.0, 1.0) or not self.crop_p)
            and not (self.color and self.color_p)
        )

    def as_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)

    def apply(self, bands: list[Image.Image], rng: np.random.Generator, fill: Sequence[float]) -> list[Image.Image]:
        """Return a changed picture: one image (L, RGB) or one float image per channel, as it came.

        Args:
            bands: the picture, resized already.
            rng: the same draws give the same picture.
            fill: value of outside places, per channel.
        """
        draw = rng.random(16)  # always as many, so that one option does not change what another draws
        width, height = bands[0].size
        flips = (draw[0] < self.flip_x, draw[1] < self.flip_y)
        moves = draw[2] < self.translate_p
        shift = [int(draw[3 + i] * (2 * t + 1)) - t if moves else 0 for i, t in enumerate(self.translate)]
        angle = (2 * draw[6] - 1) * self.rotate if draw[5] < self.rotate_p else 0.0
        factor = _between(self.scale, draw[8]) if draw[7] < self.scale_p else 1.0
        side = math.sqrt(_between(self.crop, draw[10])) if draw[9] < self.crop_p else 1.0
        if angle == 0 and factor == 1 and side == 1:
            bands = [_moved(b, flips, shift, _of_band(fill, i, b)) for i, b in enumerate(bands)]
        else:
            offset = ((draw[11] - 0.5) * (1 - side) * width, (draw[12] - 0.5) * (1 - side) * height)
            turn, zoom = math.radians(angle), side / factor
            a, b = zoom * math.cos(turn), zoom * math.sin(turn)
            sx, sy = -1 if flips[0] else 1, -1 if flips[1] else 1
            cx, cy = width / 2, height / 2
            ox, oy = cx + shift[0], cy + shift[1]
            m = (sx * a, sx * b, -sx * (a * ox + b * oy) + cx + offset[0],
                 -sy * b, sy * a, sy * (b * ox - a * oy) + cy + offset[1])  # fmt: skip
            bilinear = Image.Resampling.BILINEAR
            bands = [
                band.transform(band.size, Image.Transform.AFFINE, m, bilinear, fillcolor=_of_band(fill, i, band))
                for i, band in enumerate(bands)
            ]
        if self.color and draw[13] < self.color_p:
            bands = _recolored(bands, 1 + self.color * (2 * rng.random(3) - 1))
        return bands


def outside(augment: Augment, recipe: Preprocessing) -> list[float]:
    """Value of places outside a picture per channel, in the order of the picture (grey, or RGB)."""
    if augment.fill is not None:
        return [augment.fill] * 3
    if recipe.mean_image is not None:
        mean = [float(v) for v in recipe.mean_image.mean((1, 2))]
    else:
        mean = list(recipe.mean) or [0.0]
    mean = mean * 3 if len(mean) == 1 else mean
    return mean[::-1] if recipe.color == "BGR" else mean


def _between(bounds: Pair, share: float) -> float:
    return bounds[0] + (bounds[1] - bounds[0]) * float(share)


def _of_band(fill: Sequence[float], index: int, band: Image.Image) -> Any:
    if band.mode == "RGB":
        return tuple(round(v) for v in fill)
    return fill[index] if band.mode == "F" else round(fill[0])


def _moved(band: Image.Image, flips: tuple[bool, bool], shift: Sequence[int], fill: Any) -> Image.Image:
    """Reflect and move by whole pixels; no value is computed anew."""
    if flips[0]:
        band = band.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if flips[1]:
        band = band.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    if not any(shift):
        return band
    moved = Image.new(band.mode, band.size, fill)
    moved.paste(band, (shift[0], shift[1]))
    return moved


def _recolored(bands: list[Image.Image], factors: np.ndarray) -> list[Image.Image]:
    """Brightness, contrast about the mean, saturation about the grey picture."""
    if bands[0].mode != "F":
        image = bands[0]
        enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
        for enhance, factor in zip(enhancers, factors, strict=True):
            image = enhance(image).enhance(float(factor))
        return [image]
    planes = np.stack([np.asarray(b, np.float32) for b in bands]) * np.float32(factors[0])
    for middle, factor in ((planes.mean(), factors[1]), (planes.mean(0, keepdims=True), factors[2])):
        planes = middle + (planes - middle) * np.float32(factor)
    return [Image.fromarray(np.clip(p, 0, 255)) for p in planes]


_WORD = re.compile(r"\s*(\w+)(?:=([0-9.x:-]+))?(?:@([0-9.]+))?\s*$")


def parse_augment(text: str) -> Augment:
    """Read ``flip,translate=30,rotate=10@0.5,scale=0.9:1.1,crop=0.6:1,color=0.2``; ``none`` is nothing at all.

    ``flip`` (left to right) and ``flip-y`` take a probability alone (0.5 without one), ``translate`` one number or
    ``30x20``, ``scale`` and ``crop`` a range; ``@`` gives the probability of the others.

    Raises:
        UsageError: not of this form.
    """
    found: dict[str, Any] = {"flip_x": 0.0, "translate": (0, 0)}
    if text.strip() in ("none", "off", ""):
        return Augment(**found)
    for part in text.split(","):
        match = _WORD.match(part.replace("flip-", "flip_"))
        word, value, chance = match.groups() if match else ("", None, None)
        try:
            if word in ("flip", "flip_x", "flip_y"):
                found["flip_y" if word == "flip_y" else "flip_x"] = float(chance or value or 0.5)
                continue
            if word == "translate":
                numbers = [int(v) for v in str(value).split("x")]
                found[word] = (numbers[0], numbers[-1])
            elif word in ("scale", "crop"):
                numbers = [float(v) for v in str(value).split(":")]
                found[word] = (numbers[0], numbers[1] if len(numbers) > 1 else 1.0)
            elif word in ("rotate", "color", "fill"):
                found[word] = float(str(value))
            else:
                raise ValueError(word)
            if chance is not None and word != "fill":
                found[f"{word}_p"] = float(chance)
        except (ValueError, IndexError):
            known = "flip, flip-y, translate=30, rotate=10, scale=0.9:1.1, crop=0.7:1, color=0.2, fill=127"
            raise UsageError(f"augmentation {part.strip()!r} is not understood", hint=f"{known}; @0.5: half") from None
    return Augment(**found)
