"""Pictures with the boxes that a network found on them: one picture, or a sheet of many, as PNG."""

from __future__ import annotations

import colorsys
import os
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from netferry.errors import UsageError, quoted
from netferry.runtime.annotate import MAX_ON_SHEET, font_of, said, sheet_of, shown_as
from netferry.runtime.detect import Detection
from netferry.schemas.publish import whole


def annotate_boxes(detections: Sequence[Detection], out: str | os.PathLike[str]) -> int:
    """Write a PNG of the pictures with a frame, label and score around every object; returns how many are on it.

    Raises:
        UsageError: nothing to show, or another suffix than .png.
        InputError: a picture cannot be read.
        OutputError: the file cannot be written.
    """
    if not detections:
        raise UsageError("there are no pictures to show")
    if Path(out).suffix.lower() != ".png":
        raise UsageError(f"the annotated picture is a PNG file, not {quoted(Path(out).suffix)}", file=out)
    shown = list(detections[:MAX_ON_SHEET])
    drawn = [Image.new("RGB", (8, 8)) if d.error is not None else framed(d) for d in shown]
    if len(shown) == 1 and shown[0].error is None:
        image = drawn[0]
    else:
        captions = [None if d.error is not None else _counted(d) for d in shown]
        names = [Path(d.item).name for d in shown]
        image = sheet_of(drawn, captions, names, len(detections) - len(shown))
    with whole(out) as scratch:
        image.save(scratch, "PNG")
    return len(shown)


def framed(detection: Detection) -> Image.Image:
    """The picture, enlarged or reduced so that text is readable, with a frame around every object."""
    plain = detection.item if detection.source is None else detection.source
    image = shown_as(plain)
    height, width = detection.size
    scale = image.width / width, image.height / height
    draw = ImageDraw.Draw(image)
    thick = max(2, round(max(image.size) / 300))
    size = max(13, round(max(image.size) / 40))
    for found in reversed(detection.objects):  # the surest on top
        ink = color_of(found.index)
        left, top, right, bottom = (v * scale[i % 2] for i, v in enumerate(found.box))
        draw.rectangle((left, top, max(right, left), max(bottom, top)), outline=ink, width=thick)
        text = said(found.label, found.score)
        font = font_of(size, [text])
        x0, y0, x1, y1 = draw.textbbox((0, 0), text, font)
        wide, high = x1 - x0 + 6, y1 - y0 + 6
        x = min(max(left, 0), max(image.width - wide, 0))
        y = top - high if top >= high else min(top, image.height - high)
        draw.rectangle((x, y, x + wide, y + high), ink)
        dark = 0.299 * ink[0] + 0.587 * ink[1] + 0.114 * ink[2] > 140
        draw.text((x + 3 - x0, y + 3 - y0), text, (0, 0, 0) if dark else (255, 255, 255), font)
    return image


def color_of(index: int) -> tuple[int, int, int]:
    """A colour for a class; neighbours differ by the golden angle."""
    red, green, blue = colorsys.hsv_to_rgb(index * 0.618034 % 1, 0.85, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)


def _counted(detection: Detection) -> str:
    names = [f.label for f in detection.objects]
    counts = {name: names.count(name) for name in dict.fromkeys(names)}
    return ", ".join(name if n == 1 else f"{n} x {name}" for name, n in counts.items()) or "nothing found"
