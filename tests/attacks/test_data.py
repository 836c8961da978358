"""Broken and unusual files of data: sounds, pictures, arrays, and what a model's metadata say of them."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx
import pytest
from PIL import Image

import netferry
from netferry.errors import InputError, LimitExceeded, MalformedFile, NetferryError, UsageError
from netferry.runtime.data import open_data
from netferry.runtime.sounds import length_of, read_sound
from netferry.schemas.preprocessing import Preprocessing
from netferry.schemas.sound import RECIPES, SoundRecipe

RATE = 16_000


def wav(rate: int = RATE, kind: int = 1, bits: int = 16, channels: int = 1, data: bytes = bytes(200)) -> bytes:
    """A WAV file with any header."""
    form = struct.pack("<HHIIHH", kind, channels, rate, rate * channels * bits // 8, channels * bits // 8, bits)
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def flac(change: Callable[[bytearray], object]) -> bytes:
    soundfile = pytest.importorskip("soundfile", reason="soundfile is not installed")
    out = io.BytesIO()
    soundfile.write(out, 0.5 * np.sin(np.arange(RATE) / 9), RATE, format="FLAC")
    content = bytearray(out.getvalue())
    change(content)
    return bytes(content)


def unknown_length(content: bytearray) -> None:
    """What an encoder writes that cannot go back in its output: 0 samples in the header."""
    content[21] &= 0xF0
    content[22:26] = bytes(4)


def claims_much(content: bytearray) -> None:
    content[21] |= 0x0F
    content[22:26] = b"\xff" * 4


@pytest.mark.parametrize(
    ("content", "error"),
    [
        pytest.param(lambda: wav(1), InputError, id="rate-1"),
        pytest.param(lambda: wav(2**31 - 1), InputError, id="rate-of-gigahertz"),
        pytest.param(lambda: wav(0), InputError, id="rate-0"),
        pytest.param(lambda: wav(channels=0), InputError, id="no-channels"),
        pytest.param(lambda: wav(kind=3, bits=32, data=np.full(9, np.nan, "<f4").tobytes()), InputError, id="nan"),
        pytest.param(lambda: wav(kind=3, bits=64, data=np.full(9, 1e300).tobytes()), InputError, id="double-1e300"),
        pytest.param(
            lambda: wav(kind=3, bits=32, channels=2, data=np.full(8, 3e38, "<f4").tobytes()),
            InputError,
            id="means-beyond-float32",
        ),
        pytest.param(lambda: flac(claims_much), LimitExceeded, id="flac-of-a-month"),
    ],
)
def test_broken_sounds(tmp_path: Path, content: Callable[[], bytes], error: type[NetferryError]) -> None:
    pytest.importorskip("soxr", reason="soxr is not installed")
    path = tmp_path / "s.wav"
    path.write_bytes(content())
    with pytest.raises(error) as caught:
        read_sound(path, RATE)
    assert caught.value.file == str(path)


def test_a_flac_that_was_written_as_a_stream(tmp_path: Path) -> None:
    pytest.importorskip("soxr", reason="soxr is not installed")
    streamed, known = tmp_path / "s.flac", tmp_path / "k.flac"
    streamed.write_bytes(flac(unknown_length))
    known.write_bytes(flac(lambda _: None))
    np.testing.assert_array_equal(read_sound(streamed, RATE), read_sound(known, RATE))
    assert length_of(streamed, RATE) == length_of(known, RATE) == RATE


def test_a_sound_that_cannot_be_sought_in(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile", reason="soundfile is not installed")
    pytest.importorskip("soxr", reason="soxr is not installed")
    soundfile.write(tmp_path / "s.wav", 0.5 * np.sin(np.arange(8000) / 9), 8000, subtype="GSM610")
    assert len(read_sound(tmp_path / "s.wav", RATE)) >= RATE


@pytest.mark.parametrize(
    "change",
    [
        {"offset": "a"}, {"offset": None}, {"offset": [1]}, {"offset": 10**400}, {"offset": 0}, {"offset": float("nan")},
        {"pad": [1]}, {"pad": "no"}, {"name": [1]}, {"sample_rate": True}, {"low": "a"}, {"high": float("inf")},
        {"fft": 1048575}, {"fft": 1048575, "window": 1048575}, {"patch_hop": 1048575}, {"hop": 1048575},
        {"bands": 1048575}, {"window": 513}, {"other": 1},
    ],
    ids=repr,
)  # fmt: skip
def test_broken_recipes_of_sounds(change: dict[str, Any]) -> None:
    with pytest.raises(MalformedFile):
        SoundRecipe.from_dict({**RECIPES["yamnet"].as_dict(), **change})


def header(shape: str, kind: str = "'<f4'", body: bytes = bytes(4096)) -> bytes:
    """A .npy file with any header."""
    text = f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + body


def headed(text: bytes) -> bytes:
    """A .npy file whose header is this text."""
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text + bytes(64)


def zipped(change: Callable[[bytearray], object] = lambda _: None) -> bytes:
    out, array = io.BytesIO(), io.BytesIO()
    np.save(array, np.random.default_rng(0).standard_normal((2, 3, 8, 8)))
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", array.getvalue())
    content = bytearray(out.getvalue())
    change(content)
    return bytes(content)


def method(number: int) -> Callable[[bytearray], None]:
    def change(content: bytearray) -> None:
        content[8:10] = struct.pack("<H", number)
        at = content.find(b"PK\1\2")
        content[at + 10 : at + 12] = struct.pack("<H", number)

    return change


def encrypted(content: bytearray) -> None:
    content[6] |= 1
    content[content.find(b"PK\1\2") + 8] |= 1


def damaged(content: bytearray) -> None:
    content[300:340] = b"\xff" * 40


def sparse(shape: tuple[int, ...]) -> bytes:
    """An HDF5 file whose array claims much and holds nothing."""
    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        file.create_dataset("x", shape, "u1", chunks=(1, 8, 8, 3), compression="gzip")
    return out.getvalue()


@pytest.mark.parametrize(
    ("content", "error"),
    [
        pytest.param(header("(True, 3, 8, 8)"), MalformedFile, id="shape-of-a-truth"),
        pytest.param(header("(4294967296, 4294967296, 4)"), LimitExceeded, id="shape-that-overflows-to-nothing"),
        pytest.param(header("(99999999999, 3)"), MalformedFile, id="not-whole"),
        pytest.param(header("(1000000000000, 3)", "'|S0'"), MalformedFile, id="elements-of-no-bytes"),
        pytest.param(header("(1000000000000, 0)", body=b""), UsageError, id="items-of-no-elements"),
        pytest.param(header("(2,)", "('<f4', (3, 8, 8))"), MalformedFile, id="elements-that-are-arrays"),
        pytest.param(header("(2,)" + " " * 30_000), MalformedFile, id="header-of-30-kilobytes"),
        pytest.param(headed(b"{'descr': '<f4', ("), MalformedFile, id="npy-header-without-an-end"),
        pytest.param(headed(b"(" * 9000), MalformedFile, id="npy-header-of-brackets"),
        pytest.param(headed(b"-" * 9000 + b"1"), MalformedFile, id="npy-header-of-signs"),
        pytest.param(headed(b"['descr']"), MalformedFile, id="npy-header-that-is-a-list"),
        pytest.param(
            headed(b"{'descr': {}, 'fortran_order': False, 'shape': ()}"), MalformedFile, id="npy-type-that-is-none"
        ),
        pytest.param(zipped(encrypted), MalformedFile, id="npz-encrypted"),
        pytest.param(zipped(method(9)), MalformedFile, id="npz-deflate64"),
        pytest.param(zipped(method(93)), MalformedFile, id="npz-zstandard"),
        pytest.param(zipped(method(14)), MalformedFile, id="npz-lzma-that-is-none"),
        pytest.param(zipped(damaged), MalformedFile, id="npz-damaged"),
        pytest.param(sparse((1 << 40, 8, 8, 3)), LimitExceeded, id="hdf5-of-terabytes"),
        pytest.param(sparse((1, 16384, 16384, 3)), LimitExceeded, id="hdf5-with-an-item-of-800-megabytes"),
    ],
)
def test_broken_arrays(tmp_path: Path, content: bytes, error: type[NetferryError]) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(content)
    with pytest.raises(error) as caught:
        next(iter(open_data(path)))
    assert caught.value.file == str(path)
    assert "allow_pickle" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"size": [10**9, 10**9]}, {"size": [0, 0]}, {"size": [float("inf"), 5]}, {"size": [-1, 5]}, {"crop": [-1, -1]}, {"crop": [0, 8]},
        {"scale": [1e300]}, {"mean": [float("nan")]},
        {"mean_image": {"shape": [3, 1, 1], "float32": "AADAfwAAwH8AAMB/"}},
    ],
    ids=repr,
)  # fmt: skip
def test_broken_recipes_of_pictures(change: dict[str, Any]) -> None:
    with pytest.raises(MalformedFile):
        Preprocessing.from_dict(change)


def network(path: Path) -> Path:
    """Averages of three colours."""
    made = onnx.helper.make_graph(
        [onnx.helper.make_node("GlobalAveragePool", ["x"], ["p"]), onnx.helper.make_node("Flatten", ["p"], ["y"])],
        "colours",
        [onnx.helper.make_tensor_value_info("x", 1, ["n", 3, 8, 8])],
        [onnx.helper.make_tensor_value_info("y", 1, ["n", 3])],
    )
    model = onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def test_a_picture_of_no_numbers_is_the_picture_s_fault(tmp_path: Path) -> None:
    Image.new("F", (8, 8), float("nan")).save(tmp_path / "p.tiff")
    with pytest.raises(InputError, match="no numbers") as caught:
        netferry.predict(network(tmp_path / "n.onnx"), [tmp_path / "p.tiff"])
    assert caught.value.file == str(tmp_path / "p.tiff")


def test_an_error_names_the_row_of_a_table(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"image": [b"no picture"]}), tmp_path / "t.parquet")
    with pytest.raises(InputError) as caught:
        netferry.predict(network(tmp_path / "n.onnx"), [tmp_path / "t.parquet"])
    assert caught.value.file == f"{tmp_path / 't.parquet'}#0"


def test_blank_lines_in_front_of_a_table(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("\n \npath,label\na.png,cat\n")
    assert [item.label for item in open_data(tmp_path / "t.csv")] == ["cat"]


def test_broken_metadata_of_sounds_name_the_file(tmp_path: Path) -> None:
    model = onnx.load(network(tmp_path / "n.onnx"))
    entry = model.metadata_props.add()
    entry.key, entry.value = "netferry.sound", json.dumps({"x": {"offset": "a"}})
    onnx.save(model, tmp_path / "s.onnx")
    with pytest.raises(MalformedFile) as caught:
        netferry.predict(tmp_path / "s.onnx", [tmp_path / "a.wav"])
    assert caught.value.file == str(tmp_path / "s.onnx")
