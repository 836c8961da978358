"""Preprocessing inside the graph agrees with the one outside (Pillow and NumPy), for pictures of any size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

import netferry
from fixtures import make
from netferry.errors import UnsupportedOption, UsageError
from netferry.runtime.predict import predict
from netferry.runtime.preprocess import preprocess
from netferry.runtime.session import Session
from netferry.schemas.preprocessing import Preprocessing

FIXTURES = Path(make.__file__).parent
LEVELS = {"bicubic": 4.0}
"""Grey levels of 0..255 that a pixel may be off before the scale; 1 for others. Pillow rounds between two passes."""
MEANS = np.random.default_rng(0).random((3, 40, 44)).astype(np.float32) * 100


def identity(tmp_path: Path, recipe: Preprocessing, size: tuple[int, int] | None = (24, 32), opset: int = 21) -> Path:
    """A net that gives its input, with a recipe, and its preprocessing embedded."""
    channels = 1 if recipe.color == "GRAY" else 3
    dims = "H, W" if size is None else f"{size[0]}, {size[1]}"
    shape = f"N, {channels}, {dims}" if recipe.layout == "NCHW" else f"N, {dims}, {channels}"
    text = (
        f'<ir_version: 8, opset_import: ["": {opset}]> g (float[{shape}] x) => (float[{shape}] y) {{ y = Identity(x) }}'
    )
    onnx.save(onnx.parser.parse_model(text), tmp_path / "plain.onnx")
    netferry.convert(tmp_path / "plain.onnx", tmp_path / "out.onnx", preprocessing=recipe, embed_preprocessing=True)
    return tmp_path / "out.onnx"


CASES: dict[str, Preprocessing] = {
    "plain": Preprocessing(),
    "bgr-mean-scale": Preprocessing(color="BGR", mean=(104, 117, 123), scale=(0.017, 0.02, 0.03)),
    "gray": Preprocessing(color="GRAY", mean=(127.5,), scale=(1 / 127.5,)),
    "nhwc": Preprocessing(layout="NHWC", mean=(1, 2, 3)),
    "bicubic": Preprocessing(interpolation="bicubic"),
    "nearest": Preprocessing(interpolation="nearest"),
    "stretch-crop": Preprocessing(size=(30, 40), crop=(24, 32)),
    "shortest": Preprocessing(resize="shortest", size=(33, 33), crop=(24, 32), mean=(3.0,)),
    "shortest-no-crop": Preprocessing(resize="shortest"),
    "letterbox": Preprocessing(resize="letterbox", scale=(1 / 255,)),
    "aligned": Preprocessing(interpolation="aligned", resize="letterbox", size=(24, 32)),
    "mean-image": Preprocessing(color="BGR", mean_image=MEANS, scale=(0.5,), crop=(24, 32)),
}


@pytest.mark.parametrize("opset", [17, 21])
@pytest.mark.parametrize("name", CASES)
def test_agrees_with_the_outside(tmp_path: Path, name: str, opset: int) -> None:
    recipe = CASES[name]
    size = (24, 32) if name != "shortest-no-crop" else (24, 24)
    session = Session(identity(tmp_path, recipe, size, opset), "cpu")
    (port,) = session.inputs
    assert (port.name, port.dtype) == ("x", "uint8")
    rng = np.random.default_rng(1)
    for height, width in ((24, 32), (50, 61), (33, 90), (12, 17), (97, 33), (200, 300)):
        coarse = rng.integers(0, 256, (height // 3 + 1, width // 3 + 1, 3), np.uint8)
        picture = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        if recipe.color == "GRAY":
            picture = picture.convert("L")
        expected = preprocess(picture, recipe, size)
        pixels = np.asarray(picture).reshape(1, height, width, -1)
        found = session.run({"x": pixels})["y"][0]
        scale = np.max(recipe.scale or (1.0,))
        apart = np.abs(found - expected) / scale
        assert apart.max() <= LEVELS.get(name, 1.0) + 1e-3, (height, width)
        assert apart.mean() <= 0.3, (height, width)


def test_the_net_takes_any_size(tmp_path: Path) -> None:
    recipe = Preprocessing(mean=(5.0,))
    session = Session(identity(tmp_path, recipe, None), "cpu")
    pixels = np.arange(2 * 5 * 7 * 3, dtype=np.uint8).reshape(2, 5, 7, 3)
    np.testing.assert_allclose(session.run({"x": pixels})["y"], pixels.transpose(0, 3, 1, 2) - 5.0)


def test_predict_gives_the_same_answers(tmp_path: Path) -> None:
    """The digits net: its own recipe outside, the same inside; predict finds out by itself."""
    given: dict[str, Any] = {
        "weights": FIXTURES / "digits.caffemodel",
        "mean_file": FIXTURES / "digits_mean.binaryproto",
        "recipe": {"scale": (1 / 256,)},
        "labels": FIXTURES / "digits_labels.txt",
    }
    for name in ("outside", "inside"):
        netferry.convert(
            FIXTURES / "digits.prototxt", tmp_path / f"{name}.onnx", embed_preprocessing=name == "inside", **given
        )
    pictures = sorted(FIXTURES.glob("digit_*.png"))
    outside, inside = (predict(Session(tmp_path / f"{n}.onnx", "cpu"), pictures) for n in ("outside", "inside"))
    for a, b in zip(outside, inside, strict=True):
        assert a.best is not None
        assert b.best is not None
        assert a.best.label == b.best.label
        assert a.best.score == pytest.approx(b.best.score, abs=2e-2)
    domains = {o.domain for o in onnx.load(tmp_path / "inside.onnx").opset_import}
    assert domains <= {"", "ai.onnx"}


def test_what_cannot_be_embedded(tmp_path: Path) -> None:
    for recipe, error in (
        (Preprocessing(interpolation="lanczos"), UnsupportedOption),
        (Preprocessing(resize="none", crop=(3, 3)), UnsupportedOption),
    ):
        with pytest.raises(error):
            identity(tmp_path, recipe)
        assert not (tmp_path / "out.onnx").exists()
    with pytest.raises(UsageError, match="no preprocessing"):
        netferry.convert(tmp_path / "plain.onnx", tmp_path / "out.onnx", embed_preprocessing=True)
