"""Changes to training pictures: ranges, probabilities, what comes from outside, the same draws the same picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from netferry.errors import UsageError
from netferry.runtime.data.folder import Pictures
from netferry.runtime.training.augment import Augment, outside, parse_augment
from netferry.runtime.training.examples import PictureExamples
from netferry.schemas.preprocessing import Preprocessing

STILL: dict[str, Any] = {"flip_x": 0.0, "translate": (0, 0)}


def picture(width: int = 9, height: int = 7) -> Image.Image:
    values = np.arange(width * height, dtype=np.uint8).reshape(height, width) + 100
    return Image.fromarray(values)


def changed(augment: Augment, seed: int = 0, fill: float = 0.0) -> np.ndarray:
    return np.asarray(augment.apply([picture()], np.random.default_rng(seed), [fill] * 3)[0])


def test_reflections_and_translations_move_values_only() -> None:
    plain = np.asarray(picture())
    assert np.array_equal(changed(Augment(**{**STILL, "flip_x": 1.0})), plain[:, ::-1])
    assert np.array_equal(changed(Augment(**{**STILL, "flip_y": 1.0})), plain[::-1])
    seen = set()
    for seed in range(200):
        found = changed(Augment(**{**STILL, "translate": (2, 1)}), seed, fill=7)
        place = np.argwhere(found == 131)  # the pixel in row 3, column 4
        assert len(place) == 1
        dy, dx = int(place[0][0]) - 3, int(place[0][1]) - 4
        seen.add((dx, dy))
        wanted = np.full_like(plain, 7)
        ys, xs = np.mgrid[0:7, 0:9]
        inside = (ys - dy >= 0) & (ys - dy < 7) & (xs - dx >= 0) & (xs - dx < 9)
        wanted[inside] = plain[(ys - dy)[inside], (xs - dx)[inside]]
        assert np.array_equal(found, wanted)
    assert seen == {(x, y) for x in range(-2, 3) for y in range(-1, 2)}, "bounds included, nothing beyond"


def test_half_of_the_pictures_are_reflected() -> None:
    plain = np.asarray(picture())
    flips = sum(not np.array_equal(changed(Augment(translate=(0, 0)), seed), plain) for seed in range(400))
    assert 160 < flips < 240


@pytest.mark.parametrize(
    ("options", "check"),
    [
        pytest.param({"rotate": 90.0}, lambda a: 90 <= a.mean() <= 170, id="rotate"),
        pytest.param({"scale": (2.0, 2.0)}, lambda a: a[3, 4] in range(129, 134) and a.std() < 12, id="scale"),
        pytest.param({"crop": (0.25, 0.25)}, lambda a: a.std() < 12, id="crop"),
        pytest.param({"color": 0.5}, lambda a: a.shape == (7, 9), id="color"),
    ],
)
def test_resampling_changes(options: dict[str, Any], check: Any) -> None:
    augment = Augment(**{**STILL, **options})
    assert not augment.does_nothing
    made = changed(augment, 3, fill=128)
    assert check(made.astype(float))
    assert np.array_equal(made, changed(augment, 3, fill=128))
    assert not np.array_equal(made, np.asarray(picture()))
    never = Augment(**{**STILL, **options, **{f"{k}_p": 0.0 for k in options}})
    assert never.does_nothing
    assert np.array_equal(changed(never), np.asarray(picture()))


def test_a_quarter_turn_is_exact_on_a_square() -> None:
    values = np.arange(64, dtype=np.uint8).reshape(8, 8)
    augment = Augment(**{**STILL, "rotate": 90.0})

    class Draws:
        def random(self, n: int) -> np.ndarray:
            return np.full(n, 0.0) + np.eye(n)[6]  # the angle at its upper bound, all else at the lower

    turned = np.asarray(augment.apply([Image.fromarray(values)], Draws(), [0.0])[0])  # type: ignore[arg-type]
    assert np.array_equal(turned, np.rot90(values)) or np.array_equal(turned, np.rot90(values, -1))


def test_float_bands_and_colour() -> None:
    bands = [Image.fromarray(np.full((4, 4), v, np.float32)) for v in (10.0, 20.0, 30.0)]
    made = Augment(**{**STILL, "scale": (0.5, 0.5)}).apply(bands, np.random.default_rng(0), [1.0, 2.0, 3.0])
    assert [float(np.asarray(b)[0, 0]) for b in made] == [1.0, 2.0, 3.0], "outside, per channel"
    assert [float(np.asarray(b)[2, 2]) for b in made] == [10.0, 20.0, 30.0]
    made = Augment(**{**STILL, "color": 0.5}).apply(bands, np.random.default_rng(0), [0.0] * 3)
    assert all(0 <= np.asarray(b).min() <= np.asarray(b).max() <= 255 for b in made)


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        pytest.param(Preprocessing(color="BGR", mean=(1, 2, 3)), [3, 2, 1], id="bgr-is-turned"),
        pytest.param(Preprocessing(mean=(5,)), [5, 5, 5], id="one-for-all"),
        pytest.param(Preprocessing(), [0, 0, 0], id="black"),
    ],
)
def test_what_comes_from_outside(recipe: Preprocessing, expected: list[float]) -> None:
    assert outside(Augment(), recipe) == expected
    assert outside(Augment(fill=9), recipe) == [9, 9, 9]


def test_only_asked_for_draws_change_examples(tmp_path: Path) -> None:
    picture(12, 12).save(tmp_path / "a.png")
    pictures = Pictures(tmp_path, (tmp_path / "a.png",), np.zeros(1, np.int64), ("a",))
    recipe = Preprocessing(color="GRAY")
    examples = PictureExamples(pictures, recipe, (8, 8), augment=Augment(translate=(3, 3)), seed=1)
    plain = PictureExamples(pictures, recipe, (8, 8))
    assert np.array_equal(examples.inputs([0])[0], plain.inputs([0], [5])[0])
    assert np.array_equal(examples.inputs([0], [5])[0], examples.inputs([0], [5])[0])
    drawn = [examples.inputs([0], [epoch])[0].tobytes() for epoch in range(20)]
    assert len(set(drawn)) > 12


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("none", Augment(**STILL)),
        ("flip,translate=30", Augment()),
        ("flip@0.3,flip-y", Augment(flip_x=0.3, flip_y=0.5, translate=(0, 0))),
        ("translate=5x7@0.5", Augment(flip_x=0.0, translate=(5, 7), translate_p=0.5)),
        ("rotate=10,scale=0.9:1.1,crop=0.7", Augment(**STILL, rotate=10.0, scale=(0.9, 1.1), crop=(0.7, 1.0))),
        ("color=0.2@0.8,fill=127", Augment(**STILL, color=0.2, color_p=0.8, fill=127.0)),
    ],
)
def test_texts(text: str, expected: Augment) -> None:
    assert parse_augment(text) == expected


@pytest.mark.parametrize("text", ["shear=3", "rotate", "translate=x", "flip@2", "scale=1.2:0.8", "rotate=200"])
def test_texts_that_mean_nothing(text: str) -> None:
    with pytest.raises(UsageError):
        parse_augment(text)
