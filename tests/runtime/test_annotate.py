"""The annotated picture is there, whole, and carries ink; how it looks was looked at by eye."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from netferry.errors import InputError, NetferryError, OutputError, UsageError
from netferry.runtime.annotate import MAX_ON_SHEET, annotate
from netferry.runtime.predict import Candidate, Prediction

GREY = np.full((40, 60, 3), 120, np.uint8)


def prediction(label: str = "seven", score: float = 0.987, item: str = "p.png") -> Prediction:
    return Prediction(item, (Candidate(label, 7, score), Candidate("one", 1, 0.01), Candidate("two", 2, 0.001)))


def ink(image: Image.Image, box: tuple[int, int, int, int]) -> int:
    """Number of dark pixels in a part of the picture."""
    return int((np.asarray(image.convert("L").crop(box)) < 100).sum())


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        pytest.param((1, 1, 3), (320, 320), id="one-pixel"),
        pytest.param((20, 20), (320, 320), id="grey-20"),
        pytest.param((375, 500, 3), (500, 375), id="photograph"),
        pytest.param((4000, 3000, 3), (1200, 1600), id="large"),
        pytest.param((2, 3000, 3), (1600, 1), id="strip"),
    ],
)
def test_one_picture_of_any_size(tmp_path: Path, shape: tuple[int, ...], size: tuple[int, int]) -> None:
    out = tmp_path / "out.png"
    assert annotate([prediction()], out, [np.full(shape, 200, np.uint8)]) == 1
    with Image.open(out) as image:
        assert image.format == "PNG"
        assert image.width == size[0]
        assert ink(image, (0, size[1], image.width, image.height)) > 100
        assert image.convert("RGB").getpixel((size[0] // 2, size[1] // 2)) == (200, 200, 200)
    assert [p.name for p in tmp_path.iterdir()] == ["out.png"]


@pytest.mark.parametrize(
    "label",
    ["", "x" * 500, "many " * 100, "naïve Köter", "猫", "\x1b[31mred", "a (b) c", "kit fox, Vulpes macrotis"],
    ids=["empty", "long-word", "long", "accents", "cjk", "control", "brackets", "synset"],
)
def test_any_label_fits(tmp_path: Path, label: str) -> None:
    out = tmp_path / "out.png"
    annotate([prediction(label, score=-123.4)], out, [GREY])
    annotate([prediction(label)] * 2, out, [GREY] * 2)
    with Image.open(out) as image:
        assert image.width == 14 + 2 * (240 + 14)
        for x in (0, 14 + 240, image.width - 14):  # nothing runs into the gaps
            assert ink(image, (x, 14 + 240, x + 14, image.height)) == 0


def test_sheet_with_a_picture_that_could_not_be_read(tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    broken = Prediction("broken.png", error=InputError("no picture"))
    assert annotate([prediction(), broken, prediction()], out, [GREY, "nowhere", GREY]) == 3
    with Image.open(out) as image:
        assert image.width == 14 + 2 * 254


def test_a_sheet_has_an_end(tmp_path: Path) -> None:
    count = MAX_ON_SHEET + 1
    assert annotate([prediction()] * count, tmp_path / "out.png", [GREY] * count) == MAX_ON_SHEET


@pytest.mark.parametrize(
    ("predictions", "name", "error"),
    [
        pytest.param([], "out.png", UsageError, id="nothing"),
        pytest.param([prediction()], "out.jpg", UsageError, id="suffix"),
        pytest.param([prediction()], "file/out.png", OutputError, id="folder"),
        pytest.param([prediction()] * 2, "out.png", UsageError, id="count"),
    ],
)
def test_refuses(tmp_path: Path, predictions: list[Prediction], name: str, error: type[NetferryError]) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(error):
        annotate(predictions, tmp_path / name, [GREY])
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_an_old_file_survives_a_failure(tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    out.write_bytes(b"old")
    with pytest.raises(InputError):
        annotate([prediction(item=str(tmp_path / "gone.png"))], out)
    assert out.read_bytes() == b"old"
