"""Pictures to input tensors, by the recipe that the model carries (:mod:`netferry.schemas.preprocessing`).

How a picture is read: :mod:`netferry.runtime.decoding`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from PIL import Image

from netferry.errors import InputError, LimitExceeded, NetferryError, UsageError
from netferry.runtime.decoding import Bands, Picture, load_picture
from netferry.schemas.preprocessing import COLORS, LETTERBOX_FILL, MAX_PIXELS, Preprocessing
from netferry.schemas.remote import Remote

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_LUMA = (0.299, 0.587, 0.114)  # ITU-R 601, as Pillow and OpenCV have it


def preprocess(
    picture: Picture,
    recipe: Preprocessing,
    input_size: tuple[int | None, int | None] = (None, None),
    *,
    max_pixels: int = MAX_PIXELS,
) -> np.ndarray:
    """Return the float32 tensor of one picture, C x H x W or H x W x C as ``recipe.layout`` says; no batch dimension.

    Where ``recipe.size`` is None, the picture is resized to the mean image's size if it is cropped afterwards and
    there is one, else to ``input_size`` (height, width; None is dynamic and leaves the picture's own). ``shortest``
    without a crop is cropped to ``input_size``. Cropping takes the centre, rounded up and left, as Caffe does.

    Raises:
        InputError: the picture cannot be read or is smaller than the crop.
        LimitExceeded: more than ``max_pixels`` pixels.
        UsageError: an array of no picture's shape; a mean image that does not fit.
    """
    try:
        return to_tensor(fitted(picture, recipe, input_size, max_pixels=max_pixels), recipe)
    except NetferryError as error:
        raise error.at(file=_named(picture)) from error.__cause__


def fitted(
    picture: Picture,
    recipe: Preprocessing,
    input_size: tuple[int | None, int | None] = (None, None),
    *,
    max_pixels: int = MAX_PIXELS,
) -> list[Image.Image]:
    """The first half of :func:`preprocess`: the picture grey or RGB, resized and cropped, values 0..255 still."""
    try:
        bands = _in_color(load_picture(picture, max_pixels=max_pixels), recipe.color)
        return _cropped(_resized(bands, recipe, input_size), recipe, input_size)
    except NetferryError as error:
        raise error.at(file=_named(picture)) from error.__cause__


def _named(picture: Picture) -> object:
    """What to call a picture in an error; None where it has no name."""
    return picture if isinstance(picture, str | os.PathLike | Remote) else None


def to_tensor(bands: list[Image.Image], recipe: Preprocessing) -> np.ndarray:
    """The second half of :func:`preprocess`: channel order, mean, scale, layout."""
    array = np.stack([np.asarray(b, np.float32) for b in bands], -1) if len(bands) > 1 else _array(bands[0])
    if recipe.color == "BGR":
        array = array[:, :, ::-1]
    return _normalised(array, recipe)


def _in_color(bands: Bands, color: str) -> Bands:
    """Grey or RGB (BGR is turned at the end)."""
    first = bands[0]
    if color == "GRAY":
        if first.mode == "F":
            if len(bands) == 1:
                return bands
            mixed = sum(w * np.asarray(b) for w, b in zip(_LUMA, bands, strict=True))
            return [Image.fromarray(np.asarray(mixed, np.float32))]
        return [first.convert("L")]
    if first.mode == "F":
        return bands * 3 if len(bands) == 1 else bands
    return [first.convert("RGB")]


def _resized(bands: Bands, recipe: Preprocessing, input_size: tuple[int | None, int | None]) -> Bands:
    width, height = bands[0].size
    wanted, box = _sizes(recipe, input_size, (height, width))
    if wanted != (height, width):
        if recipe.interpolation == "aligned":
            bands = _aligned(bands, *wanted)
        else:
            bands = [b.resize((wanted[1], wanted[0]), _FILTERS[recipe.interpolation]) for b in bands]
    return [_boxed(b, box) for b in bands]


def _sizes(
    recipe: Preprocessing, input_size: tuple[int | None, int | None], picture: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Height and width that a picture (height, width) is resized to, and those of the box that it then lies in."""
    height, width = picture
    if recipe.resize == "none":
        return picture, picture
    if recipe.size is not None:
        wanted_h, wanted_w = recipe.size
    elif recipe.crop is not None and recipe.mean_image is not None:
        wanted_h, wanted_w = recipe.mean_image.shape[1:]
    else:
        wanted_h, wanted_w = input_size[0] or height, input_size[1] or width
    if recipe.resize == "letterbox":
        return letterboxed((wanted_h, wanted_w), picture), (wanted_h, wanted_w)
    if recipe.resize == "shortest":
        side = min(wanted_h, wanted_w)
        short = min(height, width)
        # the longer side rounded down, as torchvision and most training code have it
        wanted_h, wanted_w = height * side // short, width * side // short
        if wanted_h * wanted_w > MAX_PIXELS:  # a strip of one pixel's width grows without bound
            raise LimitExceeded(f"the picture of {width} x {height} pixels would grow to {wanted_w} x {wanted_h}")
    return (wanted_h, wanted_w), (wanted_h, wanted_w)


def on_picture(
    boxes: np.ndarray, recipe: Preprocessing, input_size: tuple[int | None, int | None], picture: tuple[int, int]
) -> np.ndarray:
    """Return boxes on the picture, in its pixels, that a network found on its input: resizing and cropping undone.

    Args:
        boxes: N x 4: left, top, right, bottom as parts of the input's width and height.
        recipe, input_size: how the picture became the input.
        picture: its height and width.
    """
    (high, wide), box = _sizes(recipe, input_size, picture)
    whole = _crop_of(recipe, input_size, box) or box
    scale = np.array([picture[1] / wide, picture[0] / high] * 2)
    # where the resized picture's corner lies on the input: in the middle of a letterbox, outside a crop
    corner = [(b - r) // 2 - (b - w) // 2 for b, r, w in zip(box, (high, wide), whole, strict=True)]
    found = (np.asarray(boxes, np.float64) * np.array([whole[1], whole[0]] * 2) - np.array(corner[::-1] * 2)) * scale
    return np.clip(found, 0, np.array([picture[1], picture[0]] * 2))


def letterboxed(box: tuple[int, int], picture: tuple[int, int]) -> tuple[int, int]:
    """Return height and width of a picture (height, width) made as large as fits into a box, rounded down."""
    return (
        max(1, min(box[0], picture[0] * box[1] // picture[1])),
        max(1, min(box[1], picture[1] * box[0] // picture[0])),
    )


def _boxed(band: Image.Image, box: tuple[int, int]) -> Image.Image:
    if band.size == (box[1], box[0]):
        return band
    fill = (LETTERBOX_FILL,) * 3 if band.mode == "RGB" else LETTERBOX_FILL
    out = Image.new(band.mode, (box[1], box[0]), fill)
    out.paste(band, ((box[1] - band.width) // 2, (box[0] - band.height) // 2))
    return out


def _aligned(bands: Bands, height: int, width: int) -> Bands:
    """Bilinear with corners on corners, as resize_image of Darknet's image.c; one float image per channel."""
    planes = [np.asarray(b, np.float32) for b in bands]
    planes = [p[:, :, c] for p in planes for c in range(p.shape[2])] if planes[0].ndim == 3 else planes
    for axis, size in ((1, width), (0, height)):
        have = planes[0].shape[axis]
        place = np.arange(size, dtype=np.float32) * np.float32((have - 1) / max(size - 1, 1))
        low = np.minimum(place.astype(np.int64), have - 1)
        share = (place - low).astype(np.float32).reshape((-1, 1) if axis == 0 else (1, -1))
        high = np.minimum(low + 1, have - 1)
        planes = [p.take(low, axis) * (1 - share) + p.take(high, axis) * share for p in planes]
    return [Image.fromarray(np.ascontiguousarray(p, np.float32)) for p in planes]


def _cropped(bands: Bands, recipe: Preprocessing, input_size: tuple[int | None, int | None]) -> Bands:
    width, height = bands[0].size
    crop = _crop_of(recipe, input_size, (height, width))
    if crop is None:
        return bands
    crop_h, crop_w = crop
    if crop_h > height or crop_w > width:
        raise InputError(f"the picture is {width} x {height}, smaller than the crop of {crop_w} x {crop_h}")
    top, left = (height - crop_h) // 2, (width - crop_w) // 2
    return [b.crop((left, top, left + crop_w, top + crop_h)) for b in bands]


def _crop_of(
    recipe: Preprocessing, input_size: tuple[int | None, int | None], resized: tuple[int, int]
) -> tuple[int, int] | None:
    if recipe.crop is not None:
        return recipe.crop
    if recipe.resize == "shortest":
        return input_size[0] or resized[0], input_size[1] or resized[1]
    return None


def _array(image: Image.Image) -> np.ndarray:
    array = np.asarray(image, np.float32)
    return array[:, :, None] if array.ndim == 2 else array


def _normalised(array: np.ndarray, recipe: Preprocessing) -> np.ndarray:
    """``(pixel - mean) * scale`` on H x W x C, arranged as the layout says."""
    if recipe.mean_image is not None:
        array = array - _mean_for(recipe.mean_image, array.shape, recipe.color)
    elif recipe.mean:
        array = array - np.asarray(recipe.mean, np.float32)
    if recipe.scale:
        with np.errstate(over="ignore"):  # what is infinite then, the check of the scores finds
            array = array * np.asarray(recipe.scale, np.float32)
    if recipe.layout == "NCHW":
        array = array.transpose(2, 0, 1)
    return np.ascontiguousarray(array, np.float32)


def _mean_for(mean: np.ndarray, shape: Sequence[int], color: str) -> np.ndarray:
    """The mean image as H x W x C, its centre where it is larger than the picture."""
    height, width = shape[:2]
    if mean.ndim != 3 or mean.shape[0] != COLORS[color]:
        raise UsageError(f"the mean image of shape {list(mean.shape)} does not fit {color} pictures (C x H x W)")
    if mean.shape[1] < height or mean.shape[2] < width:
        raise UsageError(
            f"the mean image is {mean.shape[2]} x {mean.shape[1]}, smaller than the input of {width} x {height}",
            hint="give a mean image of the input's size, or one value per channel (--mean)",
        )
    top, left = (mean.shape[1] - height) // 2, (mean.shape[2] - width) // 2
    return mean[:, top : top + height, left : left + width].transpose(1, 2, 0).astype(np.float32)
