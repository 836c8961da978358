"""Preprocessing as ONNX operators gives what Pillow gives, to two grey levels of 255 at worst, to 0.3 on average."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import netferry
from netferry.converters.preprocessing import preprocessing_model
from netferry.errors import UnsupportedOption
from netferry.runtime.preprocess import preprocess
from netferry.runtime.session import Session
from netferry.schemas.preprocessing import Preprocessing

pytest.importorskip("onnxruntime")
MEAN = np.random.default_rng(1).random((3, 60, 70), np.float32) * 255
SIZES = [pytest.param((120, 100), id="larger"), pytest.param((333, 200), id="high"), pytest.param((61, 90), id="wide")]


def made(recipe: Preprocessing, size: tuple[int | None, int | None], folder: Path, channels: int = 3) -> Session:
    netferry.save(preprocessing_model(recipe, "data", size, channels=channels), folder / "p.onnx", check="structure")
    return Session(folder / "p.onnx", "cpu", threads=1)


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize(
    ("recipe", "size"),
    [
        pytest.param(Preprocessing(color="BGR", mean=(104, 117, 123)), (227, 227), id="caffe"),
        pytest.param(
            Preprocessing(size=(64, 80), resize="shortest", crop=(56, 48), mean=(124, 116, 104),
                          scale=(1 / 58, 1 / 57, 1 / 57), interpolation="bicubic"),
            (56, 48), id="shortest-crop-bicubic"),
        pytest.param(Preprocessing(resize="shortest", layout="NHWC", scale=(1 / 255,)), (48, 48), id="keras"),
        pytest.param(Preprocessing(color="GRAY", mean=(3,), scale=(1 / 256,)), (20, 20), id="gray-of-rgb"),
        pytest.param(Preprocessing(resize="none", crop=(40, 50)), (40, 50), id="crop-only"),
        pytest.param(Preprocessing(resize="none"), (None, None), id="any-size"),
        pytest.param(Preprocessing(color="BGR", mean_image=MEAN, crop=(50, 44)), (50, 44), id="mean-image-cropped"),
        pytest.param(Preprocessing(mean_image=MEAN), (60, 70), id="mean-image"),
        pytest.param(Preprocessing(resize="letterbox", scale=(1 / 255,)), (48, 60), id="letterbox"),
        pytest.param(Preprocessing(resize="letterbox", size=(40, 40), interpolation="aligned"), (40, 40), id="darknet"),
        pytest.param(Preprocessing(resize="letterbox"), (None, 96), id="letterbox-dynamic"),
        pytest.param(Preprocessing(), (None, 96), id="one-side-dynamic"),
    ],
)  # fmt: skip
def test_equals_pillow(
    recipe: Preprocessing, size: tuple[int | None, int | None], shape: tuple[int, int], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (3, *shape, 3)).astype(np.uint8)
    got = made(recipe, size, tmp_path).run({"picture": pictures})["data"]
    step = max(recipe.scale, default=1.0)  # one grey level
    for row, picture in zip(got, pictures, strict=True):
        np.testing.assert_allclose(row, preprocess(picture, recipe, size), atol=2.01 * step)
        assert np.abs(row - preprocess(picture, recipe, size)).mean() < 0.3 * step


def test_without_resampling_every_bit_is_equal(tmp_path: Path) -> None:
    recipe = Preprocessing(color="GRAY", resize="none")
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    got = made(recipe, (None, None), tmp_path).run({"picture": picture[None]})["data"][0]
    np.testing.assert_array_equal(got, preprocess(picture, recipe))


def test_grey_pictures_become_three_channels(tmp_path: Path) -> None:
    recipe = Preprocessing(resize="none", color="BGR")
    picture = np.random.default_rng(0).integers(0, 256, (8, 9, 1)).astype(np.uint8)
    got = made(recipe, (None, None), tmp_path, channels=1).run({"picture": picture[None]})["data"][0]
    np.testing.assert_array_equal(got, preprocess(picture, recipe))


def test_lanczos_is_refused() -> None:
    with pytest.raises(UnsupportedOption, match="lanczos"):
        preprocessing_model(Preprocessing(interpolation="lanczos"), "data", (8, 8))
