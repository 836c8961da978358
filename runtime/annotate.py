"""Pictures with their labels under them: one picture, or a sheet of many, as PNG."""

from __future__ import annotations

import contextlib
import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from netferry.errors import InputError, NetferryError, UsageError, quoted
from netferry.runtime.decoding import Picture, load_picture
from netferry.runtime.predict import Candidate, Prediction
from netferry.runtime.sounds import spectrogram_picture
from netferry.schemas.publish import whole

MAX_ON_SHEET = 400
"""More pictures than this do not fit a sheet that anybody can look at; the sheet says how many it leaves out."""
_LEAST, _MOST, _CELL = 320, 1600, 240  # pixels: sides of a single picture, width of a picture on a sheet
_GROUND, _INK, _PALE, _RED = (255, 255, 255), (20, 20, 20), (105, 105, 105), (160, 20, 20)
_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
# Pillow's own font has ASCII alone; for other text the first of these that the system has
_WIDE_FONTS = ("DejaVuSans.ttf", "NotoSansCJK-Regular.ttc", "Arial Unicode.ttf", "arial.ttf", "Arial.ttf")


def annotate(
    predictions: Sequence[Prediction], out: str | os.PathLike[str], pictures: Sequence[Picture] | None = None
) -> int:
    """Write a PNG of the pictures with ``label (score)`` under each; returns how many are on it.

    One picture comes with its best three answers, several come as a sheet with the best of each. Small pictures are
    enlarged and large ones reduced, so that the text is readable on all. The file appears whole or not at all.

    Args:
        predictions: what :func:`netferry.runtime.predict.predict` gave.
        out: the file to write, ``*.png``.
        pictures: the pictures, in the same order; by default the predictions' own, or read from their paths.

    Raises:
        UsageError: nothing to show, another number of pictures, or another suffix than .png.
        InputError: a picture cannot be read.
        OutputError: the file cannot be written.
    """
    sources: Sequence[Picture] = (
        [p.item if p.source is None else p.source for p in predictions] if pictures is None else pictures
    )
    if not predictions or len(sources) != len(predictions):
        raise UsageError(f"{len(predictions)} predictions and {len(sources)} pictures cannot be shown")
    if Path(out).suffix.lower() != ".png":
        raise UsageError(f"the annotated picture is a PNG file, not {quoted(Path(out).suffix)}", file=out)
    if len(predictions) == 1:
        image, shown = _single(sources[0], predictions[0]), 1
    else:
        shown = min(len(predictions), MAX_ON_SHEET)
        image = _sheet(sources[:shown], predictions[:shown], len(predictions) - shown)
    with whole(out) as scratch:
        image.save(scratch, "PNG")
    return shown


def viewed(picture: Picture) -> Image.Image:
    """The picture as a viewer shows it, 8-bit RGB; of a sound its log-mel spectrogram.

    Raises:
        InputError, LimitExceeded, UsageError: it is neither.
    """
    try:
        bands = load_picture(picture)
    except NetferryError as error:
        if isinstance(error, InputError) and isinstance(picture, str | os.PathLike | bytes):
            with contextlib.suppress(NetferryError):
                return spectrogram_picture(picture)
        raise error.at(file=picture if isinstance(picture, str | os.PathLike) else None) from error.__cause__
    if bands[0].mode != "F":
        return bands[0].convert("RGB")
    planes = [Image.fromarray(np.clip(np.round(np.asarray(b)), 0, 255).astype(np.uint8)) for b in bands]
    return Image.merge("RGB", planes if len(planes) == 3 else planes * 3)


def _fitted(image: Image.Image, least: int, most_w: int, most_h: int) -> Image.Image:
    """Enlarge by whole pixels up to ``least``, reduce to the bounds; the aspect is kept."""
    width, height = image.size
    if max(width, height) * 2 <= least:
        times = least // max(width, height)
        return image.resize((width * times, height * times), Image.Resampling.NEAREST)
    factor = min(most_w / width, most_h / height, 1.0)
    if factor == 1.0:
        return image
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return image.resize(size, Image.Resampling.LANCZOS)


def shown_as(picture: Picture) -> Image.Image:
    """The picture as a viewer shows it, enlarged or reduced so that text beside it is readable."""
    return _fitted(viewed(picture), _LEAST, _MOST, _MOST)


def _wide_font() -> str | None:
    """Name of a font of the system with more than ASCII."""
    for name in _WIDE_FONTS:
        with contextlib.suppress(OSError):
            ImageFont.truetype(name, 10)
            return name
    return None


def font_of(size: int, texts: Sequence[str]) -> _Font:
    wide = None if all(t.isascii() for t in texts) else _wide_font()
    return ImageFont.load_default(size) if wide is None else ImageFont.truetype(wide, size)


def drawable(text: str) -> str:
    """The text, printable; without accents, and ``?`` for what then is not ASCII, where no font has the rest."""
    text = quoted(text)[1:-1]
    if text.isascii() or _wide_font() is not None:
        return text
    bare = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return "".join(c if c.isascii() else "?" for c in bare)


def said(label: str, value: float) -> str:
    """``label (score)``."""
    score = f"{value:.3f}" if abs(value) <= 1 else f"{value:.4g}"
    return f"{drawable(label)} ({score})"


def _said(candidate: Candidate) -> str:
    return said(candidate.label, candidate.score)


def _wrapped(text: str, font: _Font, width: int, lines: int) -> list[str]:
    """Break the text at spaces into at most ``lines`` lines of ``width`` pixels; what is too long gets an ellipsis.

    The part in the last brackets (the score) is never cut off.
    """
    head, _, tail = text.rpartition(" (")
    ending = f" ({tail}" if head else ""
    words, out = (head or text).split(), [""]
    for position, word in enumerate(words):
        longer = f"{out[-1]} {word}".strip()
        last = position == len(words) - 1
        if font.getlength(longer + (ending if last else "")) <= width or not out[-1]:
            out[-1] = longer
        elif len(out) < lines:
            out.append(word)
        else:
            out[-1] = longer  # too long: cut below
            break
    whole = " ".join(out) == " ".join(words)
    room = out[-1]
    mark = "" if whole else "…"
    while room and font.getlength(room + mark + ending) > width:
        room, mark = room[:-1].rstrip(" ,"), "…"
    return [*out[:-1], room + mark + ending]


def _single(picture: Picture, prediction: Prediction) -> Image.Image:
    image = shown_as(picture)
    width = max(image.width, _LEAST)
    size = max(20, width // 22)
    texts, less = [_said(c) for c in prediction.top[:3]], max(16, size * 7 // 10)
    large, small = font_of(size, texts), font_of(less, texts)
    rows = [(line, large, _INK) for text in texts[:1] for line in _wrapped(text, large, width - size, 2)]
    rows += [(line, small, _PALE) for text in texts[1:] for line in _wrapped(text, small, width - size, 1)]
    steps = [(size if font is large else less) * 27 // 20 for _, font, _ in rows]
    sheet = Image.new("RGB", (width, image.height + sum(steps) + size), _GROUND)
    sheet.paste(image, ((width - image.width) // 2, 0))
    draw, y = ImageDraw.Draw(sheet), image.height + size // 2
    for (line, font, ink), step in zip(rows, steps, strict=True):
        draw.text((size // 2, y), line, ink, font)
        y += step
    return sheet


def _sheet(pictures: Sequence[Picture], predictions: Sequence[Prediction], left_out: int) -> Image.Image:
    captions = [None if p.best is None else _said(p.best) for p in predictions]
    return sheet_of(pictures, captions, [Path(p.item).name for p in predictions], left_out)


def sheet_of(
    pictures: Sequence[Picture], captions: Sequence[str | None], names: Sequence[str], left_out: int = 0
) -> Image.Image:
    """Pictures in rows and columns, each with its caption and its name under it; None is one that cannot be read."""
    leaves = [drawable(name) for name in names]
    font, small = font_of(18, [c for c in captions if c]), font_of(13, leaves)
    gap, caption = 14, 70
    columns = next(c for c in range(1, 21) if c * c >= len(pictures)) if len(pictures) <= 36 else 8
    rows = -(-len(pictures) // columns)
    footer = 34 if left_out else 0
    width = gap + columns * (_CELL + gap)
    images = [
        None if said is None else _fitted(viewed(picture), _CELL, _CELL, _CELL)
        for picture, said in zip(pictures, captions, strict=True)
    ]
    tall = [_CELL if image is None else image.height for image in images]
    heights = [max(tall[row * columns : (row + 1) * columns]) for row in range(rows)]  # spectrograms are flat
    tops = [gap + sum(heights[:row]) + row * (caption + gap) for row in range(rows + 1)]
    sheet = Image.new("RGB", (width, tops[-1] + footer), _GROUND)
    draw = ImageDraw.Draw(sheet)
    for number, (image, said) in enumerate(zip(images, captions, strict=True)):
        x = gap + number % columns * (_CELL + gap)
        bottom = tops[number // columns] + heights[number // columns]
        ink = _INK
        if image is None or said is None:
            draw.rectangle((x, bottom - _CELL, x + _CELL - 1, bottom - 1), (235, 235, 235))
            lines, ink = ["cannot be read"], _RED
        else:
            sheet.paste(image, (x + (_CELL - image.width) // 2, bottom - image.height))
            lines = _wrapped(said, font, _CELL, 2)
        for row, line in enumerate(lines):
            draw.text((x, bottom + 5 + 22 * row), line, ink, font)
        draw.text((x, bottom + 7 + 22 * len(lines)), _wrapped(leaves[number], small, _CELL, 1)[0], _PALE, small)
    if left_out:
        draw.text((gap, sheet.height - footer), f"the first {len(pictures)}; {left_out} more left out", _PALE, font)
    return sheet
