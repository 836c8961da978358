"""Preprocessing: BVLC Caffe's recorded input and answers are the oracle; for formats, Pillow's own files."""

from __future__ import annotations

import io
import json
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from netferry.errors import InputError, LimitExceeded, NetferryError, UsageError
from netferry.runtime.preprocess import preprocess
from netferry.schemas.preprocessing import Preprocessing
from tests.shared import shared

SQUEEZENET = Preprocessing(color="BGR", size=(227, 227), mean=(104, 117, 123))
PLAIN = Preprocessing()
GREY = Preprocessing(color="GRAY")


def test_the_tensor_is_the_one_caffe_was_given() -> None:
    reference = np.load(shared("data", "squeezenet_v1.1", "reference.npz"))["data"]
    rows = json.loads(shared("data", "images", "squeezenet_reference.json").read_text())
    tensors = [preprocess(shared("data", "images", row["file"]), SQUEEZENET) for row in rows]
    for expected in reference:  # the file does not say which four pictures they are
        assert any(np.array_equal(expected, got) for got in tensors)


def test_photographs_get_the_recorded_labels() -> None:
    net = cv2.dnn.readNetFromCaffe(
        str(shared("data", "squeezenet_v1.1", "deploy.prototxt")),
        str(shared("data", "squeezenet_v1.1", "squeezenet_v1.1.caffemodel")),
    )
    for row in json.loads(shared("data", "images", "squeezenet_reference.json").read_text()):
        net.setInput(preprocess(shared("data", "images", row["file"]), SQUEEZENET)[None])
        prob = np.asarray(net.forward()).reshape(-1)
        assert prob.argmax() == row["top1"], row["file"]
        assert prob.max() == pytest.approx(row["prob"], abs=1e-3)


RAMP = np.arange(60, dtype=np.uint8).reshape(4, 5, 3) * 4  # 4 high, 5 wide, RGB


def as_file(image: Image.Image, kind: str, **options: object) -> io.BytesIO:
    out = io.BytesIO()
    image.save(out, kind, **options)  # pyright: ignore[reportArgumentType]
    return out


def turned(orientation: int) -> bytes:
    """The ramp stored so that it is upright only after the EXIF rotation."""
    undo = {1: 0, 6: 1, 3: 2, 8: 3}[orientation]  # quarter turns anticlockwise that EXIF's clockwise ones undo
    image = Image.fromarray(np.ascontiguousarray(np.rot90(RAMP, undo)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    return as_file(image, "PNG", exif=exif).getvalue()


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_exif_rotation(tmp_path: Path, orientation: int) -> None:
    path = tmp_path / "turned.png"
    path.write_bytes(turned(orientation))
    np.testing.assert_array_equal(preprocess(path, PLAIN), RAMP.transpose(2, 0, 1))


def mode(name: str, size: tuple[int, int] = (3, 2), value: object = 0) -> Image.Image:
    return Image.new(name, size, value)  # pyright: ignore[reportArgumentType]


def palette_with_hole() -> Image.Image:
    image = mode("P")
    image.putpalette([10, 20, 30] * 256)
    image.info["transparency"] = 0
    return image


@pytest.mark.parametrize(
    ("image", "kind", "rgb"),
    [
        pytest.param(mode("1", value=1), "PNG", (255, 255, 255), id="one-bit"),
        pytest.param(mode("L", value=77), "PNG", (77, 77, 77), id="grey"),
        pytest.param(mode("LA", value=(77, 0)), "PNG", (255, 255, 255), id="grey-transparent-on-white"),
        pytest.param(mode("RGB", value=(1, 2, 3)), "PNG", (1, 2, 3), id="rgb"),
        pytest.param(mode("RGBA", value=(1, 2, 3, 255)), "PNG", (1, 2, 3), id="rgba-opaque"),
        pytest.param(mode("RGBA", value=(9, 9, 9, 0)), "PNG", (255, 255, 255), id="rgba-transparent-on-white"),
        pytest.param(mode("RGBA", value=(0, 0, 0, 51)), "PNG", (204, 204, 204), id="rgba-a-fifth-black"),
        pytest.param(palette_with_hole(), "PNG", (255, 255, 255), id="palette-transparent-on-white"),
        pytest.param(mode("I;16", value=65535), "PNG", (255, 255, 255), id="16-bit-white"),
        pytest.param(mode("I;16", value=257 * 100), "TIFF", (100, 100, 100), id="16-bit-tiff"),
        pytest.param(mode("I;16", value=128), "PNG", (128 / 257,) * 3, id="16-bit-dark-keeps-fractions"),
        pytest.param(mode("F", value=12.5), "TIFF", (12.5,) * 3, id="float-tiff"),
        pytest.param(mode("CMYK", value=(0, 255, 255, 0)), "TIFF", (255, 0, 0), id="cmyk-red"),
        pytest.param(mode("RGB", value=(5, 6, 7)), "BMP", (5, 6, 7), id="bmp"),
        pytest.param(mode("RGB", value=(5, 6, 7)), "GIF", (5, 6, 7), id="gif"),
    ],
)
def test_kinds_of_pictures(tmp_path: Path, image: Image.Image, kind: str, rgb: tuple[float, ...]) -> None:
    path = tmp_path / f"p.{kind.lower()}"
    image.save(path, kind)
    expected = np.broadcast_to(np.array(rgb, np.float32)[:, None, None], (3, 2, 3))
    np.testing.assert_allclose(preprocess(path, PLAIN), expected, atol=1e-4)
    if kind != "GIF":  # a saved GIF is a palette picture, the open image is not
        np.testing.assert_allclose(preprocess(image, PLAIN), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("array", "rgb"),
    [
        pytest.param(np.full((2, 3), 9, np.uint8), (9, 9, 9), id="grey"),
        pytest.param(np.full((2, 3, 1), 9, np.uint8), (9, 9, 9), id="grey-with-channel"),
        pytest.param(np.full((2, 3, 3), [1, 2, 3], np.uint8), (1, 2, 3), id="rgb"),
        pytest.param(np.full((2, 3, 3), [1, 2, 3], np.int64), (1, 2, 3), id="int64"),
        pytest.param(np.full((2, 3, 3), [0.5, 2, 3], np.float64), (0.5, 2, 3), id="float"),
        pytest.param(np.full((2, 3, 4), [0, 0, 0, 51], np.uint8), (204, 204, 204), id="rgba"),
        pytest.param(np.full((2, 3, 4), [0, 0, 0, 51.0]), (204, 204, 204), id="rgba-float"),
        pytest.param(np.full((2, 3), 257 * 8, np.uint16), (8, 8, 8), id="uint16"),
        pytest.param(np.ones((2, 3), bool), (255, 255, 255), id="bool"),
    ],
)
def test_arrays(array: np.ndarray, rgb: tuple[float, ...]) -> None:
    expected = np.broadcast_to(np.array(rgb, np.float32)[:, None, None], (3, 2, 3))
    np.testing.assert_allclose(preprocess(array, PLAIN), expected, atol=1e-4)


def test_grey_is_itu_601() -> None:
    expected = RAMP.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    np.testing.assert_allclose(preprocess(RAMP, GREY)[0], expected, atol=0.51)
    np.testing.assert_allclose(preprocess(RAMP.astype(np.float32), GREY)[0], expected, atol=1e-3)


SIX = np.arange(36, dtype=np.float32).reshape(6, 6)


@pytest.mark.parametrize(
    ("change", "picture", "input_size", "expected"),
    [
        pytest.param({"crop": (2, 4), "resize": "none"}, SIX, (None, None), SIX[2:4, 1:5], id="crop"),
        pytest.param({"crop": (3, 3), "resize": "none"}, SIX, (None, None), SIX[1:4, 1:4], id="crop-odd-up-left"),
        pytest.param({"resize": "none"}, SIX, (2, 2), SIX, id="none-leaves-the-size"),
        pytest.param({}, SIX, (6, 6), SIX, id="input-size-is-there"),
        pytest.param({}, SIX, (None, None), SIX, id="dynamic-input"),
        pytest.param({"interpolation": "nearest"}, SIX, (3, 3), SIX[1::2, 1::2], id="nearest"),
        pytest.param({"size": (12, 6), "interpolation": "nearest"}, SIX, (3, 3), SIX.repeat(2, 0), id="stretch"),
        pytest.param(
            {"size": (6, 6), "resize": "shortest", "crop": (2, 2)}, np.hstack([SIX, SIX]), (2, 2),
            np.hstack([SIX, SIX])[2:4, 5:7], id="shortest-and-crop",
        ),
        pytest.param({"resize": "shortest"}, np.hstack([SIX, SIX]), (6, 6), np.hstack([SIX, SIX])[:, 3:9],
                     id="shortest-is-cropped-to-the-input"),
        pytest.param({"mean": (2.0,), "scale": (0.5,)}, SIX, (6, 6), (SIX - 2) * 0.5, id="mean-then-scale"),
        pytest.param({"mean_image": SIX[None]}, SIX, (6, 6), SIX * 0, id="mean-image"),
        pytest.param({"mean_image": SIX[None], "crop": (2, 2)}, SIX, (2, 2), SIX[:2, :2] * 0,
                     id="mean-image-gives-the-size-and-is-cropped"),
    ],
)  # fmt: skip
def test_geometry(
    change: dict[str, object], picture: np.ndarray, input_size: tuple[int, int], expected: np.ndarray
) -> None:
    np.testing.assert_allclose(preprocess(picture, GREY.with_(**change), input_size)[0], expected, atol=1e-5)


def test_order_and_layout() -> None:
    recipe = Preprocessing(color="BGR", mean=(1, 2, 3), scale=(1, 2, 4), layout="NHWC")
    got = preprocess(np.full((2, 3, 3), [30, 20, 10], np.uint8), recipe)  # R, G, B
    np.testing.assert_array_equal(got, np.full((2, 3, 3), [10 - 1, (20 - 2) * 2, (30 - 3) * 4]))
    mean = np.stack([np.full((2, 3), v, np.float32) for v in (10, 20, 30)])  # in the recipe's order: B, G, R
    assert not preprocess(np.full((2, 3, 3), [30, 20, 10], np.uint8), Preprocessing(color="BGR", mean_image=mean)).any()


@pytest.mark.parametrize(
    ("recipe", "picture", "error", "says"),
    [
        pytest.param(GREY.with_(crop=(7, 7), resize="none"), SIX, InputError, "smaller than the crop", id="crop"),
        pytest.param(GREY.with_(mean_image=np.zeros((1, 5, 6))), SIX, UsageError, "smaller than the input", id="mean"),
        pytest.param(PLAIN.with_(mean_image=np.zeros((1, 6, 6))), SIX, UsageError, "does not fit RGB", id="channels"),
        pytest.param(GREY, np.zeros((2, 3, 5)), UsageError, "no picture", id="five-channels"),
        pytest.param(GREY, np.zeros((0, 3)), InputError, "no pixels", id="empty"),
        pytest.param(GREY, np.full((2, 2), 300), UsageError, "0..255", id="out-of-range"),
        pytest.param(GREY, np.full((2, 2), "a"), UsageError, "no picture", id="text"),
    ],
)
def test_refuses(recipe: Preprocessing, picture: np.ndarray, error: type[NetferryError], says: str) -> None:
    with pytest.raises(error, match=says):
        preprocess(picture, recipe)


def bomb() -> bytes:
    """A PNG that declares 60,000 x 60,000 pixels in a few bytes."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    data = b"IDAT" + zlib.compress(bytes(1000))
    chunks = [header, data, b"IEND"]
    framed = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


GOOD = as_file(Image.fromarray(RAMP), "PNG").getvalue()
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"


@pytest.mark.parametrize(
    ("content", "error", "says"),
    [
        pytest.param(b"", InputError, "not a picture", id="empty"),
        pytest.param(b"hello", InputError, "not a picture", id="text"),
        pytest.param(GOOD[:50], InputError, "cannot be read", id="truncated"),
        pytest.param(GOOD[:45] + b"\xff" * 20 + GOOD[65:], InputError, "cannot be read", id="damaged"),
        pytest.param(bomb(), LimitExceeded, "too large|max_pixels", id="bomb"),
        pytest.param(EPS, InputError, "not a picture", id="eps-would-start-ghostscript"),
    ],
)
def test_hostile_and_broken_files(tmp_path: Path, content: bytes, error: type[NetferryError], says: str) -> None:
    path = tmp_path / "p.png"
    path.write_bytes(content)
    with pytest.raises(error, match=says) as caught:
        preprocess(path, PLAIN)
    assert caught.value.file == str(path)


def test_pixel_limit(tmp_path: Path) -> None:
    path = tmp_path / "p.png"
    path.write_bytes(GOOD)
    preprocess(path, PLAIN, max_pixels=20)
    with pytest.raises(LimitExceeded, match="max_pixels = 19"):
        preprocess(path, PLAIN, max_pixels=19)


def test_missing_and_folder(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.png", "nul\0.png"):
        with pytest.raises(InputError):
            preprocess(path, PLAIN)


def darknet_resize(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """resize_image of Darknet's image.c, loop by loop; C x H x W."""
    channels, im_h, im_w = image.shape
    part, resized = np.zeros((channels, im_h, width), np.float32), np.zeros((channels, height, width), np.float32)
    w_scale, h_scale = np.float32((im_w - 1) / (width - 1)), np.float32((im_h - 1) / (height - 1))
    for c in range(width):
        if c == width - 1 or im_w == 1:
            part[:, :, c] = image[:, :, im_w - 1]
        else:
            ix, dx = int(c * w_scale), np.float32(c * w_scale - int(c * w_scale))
            part[:, :, c] = (1 - dx) * image[:, :, ix] + dx * image[:, :, ix + 1]
    for r in range(height):
        iy, dy = int(r * h_scale), np.float32(r * h_scale - int(r * h_scale))
        resized[:, r] = (1 - dy) * part[:, iy]
        if not (r == height - 1 or im_h == 1):
            resized[:, r] += dy * part[:, iy + 1]
    return resized


@pytest.mark.parametrize("size", [(37, 61), (61, 37), (20, 20), (200, 90), (33, 500)], ids=str)
def test_letterbox_is_darknets(size: tuple[int, int]) -> None:
    """letterbox_image of Darknet's image.c: 0.5 around, RGB / 255."""
    picture = np.random.default_rng(1).integers(0, 256, (*size, 3)).astype(np.uint8)
    high, wide = 48, 64
    recipe = Preprocessing(size=(high, wide), resize="letterbox", interpolation="aligned", scale=(1 / 255,))
    got = preprocess(picture, recipe)
    h, w = size
    new_w, new_h = (wide, h * wide // w) if wide / w < high / h else (w * high // h, high)
    wanted = np.full((3, high, wide), 0.5, np.float32)
    top, left = (high - new_h) // 2, (wide - new_w) // 2
    small = darknet_resize(picture.transpose(2, 0, 1).astype(np.float32) / 255, new_w, new_h)
    wanted[:, top : top + new_h, left : left + new_w] = small
    np.testing.assert_allclose(got[:, top : top + new_h, left : left + new_w], small, atol=2e-4)
    np.testing.assert_allclose(got, wanted, atol=0.002)  # 128 / 255 for 0.5
