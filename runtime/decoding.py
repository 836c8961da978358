"""Pictures of every kind, decoded: upright, opaque, on the scale 0..255.

What a viewer shows is what the network gets: EXIF rotation is applied, transparency lies on white, 16-bit grey is
brought to 0..255 (65535 is 255), CMYK and palettes become RGB, and of several frames the first counts.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageOps

from netferry.errors import InputError, LimitExceeded, NetferryError, UsageError, quoted
from netferry.schemas.opening import open_regular
from netferry.schemas.preprocessing import MAX_PIXELS
from netferry.schemas.remote import Remote

Picture = str | os.PathLike[str] | Remote | bytes | Image.Image | np.ndarray
"""A path, a file at a URL, the bytes of a picture's file, a Pillow image, or an array H x W or H x W x C (C = 1 grey,
2 grey with alpha, 3 RGB, 4 RGB with alpha); uint8 and floats are on the scale 0..255, uint16 on 0..65535, bool is black
and white."""

_FORMATS = ("PNG", "JPEG", "MPO", "BMP", "GIF", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF", "TGA", "PCX", "ICO")
"""Decoders that only decode. EPS is left out on purpose: Pillow starts Ghostscript for it."""
Bands = list[Image.Image]
"""One 8-bit image (mode L or RGB), or one float image (mode F) per channel."""


def load_picture(picture: Picture, *, max_pixels: int = MAX_PIXELS) -> list[Image.Image]:
    """Return a picture upright and opaque: one image of mode L or RGB, or float images (mode F), one per channel.

    Raises:
        InputError, LimitExceeded, UsageError: the picture cannot be read, has more than ``max_pixels`` pixels, or is an
            array of no picture's shape.
    """
    if isinstance(picture, np.ndarray):
        return _from_array(picture, max_pixels)
    if isinstance(picture, Image.Image):
        _check_pixels(picture.size, max_pixels)
        return _decoded(lambda: _opaque(ImageOps.exif_transpose(picture)))
    if isinstance(picture, bytes | Remote):
        return _from_file(io.BytesIO(picture if isinstance(picture, bytes) else picture.read()), max_pixels)
    path = Path(picture)
    opened = open_regular(path)
    try:
        with opened as file:
            return _from_file(file, max_pixels)
    except InputError as error:
        from netferry.runtime.data.files import SOUNDS

        if path.suffix.lower() in SOUNDS:
            hint = (
                "the network reads pictures; one of log-mel patches hears after convert --front-end yamnet (or vggish)"
            )
            raise InputError(f"{error.reason}, but by its name a sound", hint=hint) from None
        raise
    except (OSError, ValueError) as error:
        raise InputError(getattr(error, "strerror", None) or str(error)) from None


def _from_file(file: IO[bytes], max_pixels: int) -> Bands:
    Image.init()
    formats = [f for f in _FORMATS if f in Image.OPEN]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of large pictures and odd metadata; the limit is ours
        image = _decoded(lambda: [Image.open(file, formats=formats)])[0]
        _check_pixels(image.size, max_pixels)
        return _decoded(lambda: _opaque(ImageOps.exif_transpose(image)))


def _decoded(decode: Callable[[], Bands]) -> Bands:
    """Run a decoder: whatever a damaged picture makes it raise is one typed error."""
    try:
        return decode()
    except Image.DecompressionBombError as error:
        raise LimitExceeded(f"the picture is too large to decode ({quoted(error)[1:-1]})") from None
    except NetferryError:
        raise
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error, ValueError and others
        why = "not a picture of a known format" if type(error).__name__ == "UnidentifiedImageError" else None
        raise InputError(f"the picture cannot be read: {why or quoted(error)[1:-1]}") from None


def _check_pixels(size: Sequence[int], max_pixels: int) -> None:
    if size[0] * size[1] > max_pixels:
        raise LimitExceeded(f"the picture has {size[0]} x {size[1]} pixels, more than max_pixels = {max_pixels:,}")
    if not size[0] * size[1]:
        raise InputError("the picture has no pixels")


def _opaque(image: Image.Image) -> Bands:
    image.load()
    if image.mode in ("I", "I;16", "I;16L", "I;16B", "I;16N"):  # Pillow holds 16-bit grey in one of these
        return [Image.fromarray(np.asarray(image).astype(np.float32) / 257)]
    if image.mode == "F":
        return [_finite(image)]
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")  # La and PA have no direct way
        ground = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return [Image.alpha_composite(ground, image).convert("RGB")]
    return [image.convert("L") if image.mode in ("1", "L") else image.convert("RGB")]


def _from_array(array: np.ndarray, max_pixels: int) -> Bands:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 2, 3, 4)):
        raise UsageError(f"an array of shape {list(array.shape)} is no picture (H x W, or H x W x 1, 2, 3 or 4)")
    _check_pixels(array.shape, max_pixels)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * np.uint8(255)
    elif array.dtype == np.uint16:
        array = array.astype(np.float32) / 257
    elif array.dtype.kind in "iu" and array.dtype != np.uint8:
        if array.min() < 0 or array.max() > 255:
            raise UsageError(f"an array of {array.dtype} must hold 0..255, this one {array.min()}..{array.max()}")
        array = array.astype(np.uint8)
    if array.dtype == np.uint8:
        return _opaque(Image.fromarray(np.ascontiguousarray(array)))
    if array.dtype.kind != "f":
        raise UsageError(f"an array of {array.dtype} is no picture")
    planes = array[:, :, None] if array.ndim == 2 else array
    if planes.shape[2] in (2, 4):
        alpha = planes[:, :, -1:] / 255
        planes = planes[:, :, :-1] * alpha + 255 * (1 - alpha)
    return [_finite(Image.fromarray(np.ascontiguousarray(planes[:, :, c], np.float32))) for c in range(planes.shape[2])]


def _finite(band: Image.Image) -> Image.Image:
    if not np.isfinite(np.asarray(band)).all():
        raise InputError("the picture has values that are no numbers")
    return band
