"""The weights reader: every way in which a caffemodel says numbers; protobuf's own encoder rules are the oracle."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from fixtures.caffe_writer import wire
from netferry.converters.caffe.wire import StoredLayer, read_mean, read_weights
from netferry.converters.options import Limits
from netferry.errors import LimitExceeded, MalformedFile, NetferryError

VALUES = np.random.default_rng(3).standard_normal((2, 3, 1, 2)).astype(np.float32)
DIGITS = Path(__file__).resolve().parents[3] / "fixtures" / "digits.caffemodel"


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def shape(*dims: int) -> bytes:
    return field(7, field(1, b"".join(varint(d) for d in dims)))


def unpacked_shape(*dims: int) -> bytes:
    return field(7, b"".join(varint(1 << 3) + varint(d) for d in dims))


def legacy(*dims: int) -> bytes:
    return b"".join(varint((i + 1) << 3) + varint(d) for i, d in enumerate(dims))


def model(*blobs: bytes) -> bytes:
    layer = field(1, b"conv") + field(2, b"Convolution") + b"".join(field(7, b) for b in blobs)
    return field(1, b"net") + field(100, layer)


def read(folder: Path, content: bytes, limits: Limits | None = None) -> list[StoredLayer]:
    path = folder / "w.caffemodel"
    path.write_bytes(content)
    return read_weights(path, limits or Limits())[1]


FLAT = VALUES.ravel()
GROUPS = b"\x0b\x10\x04\x0c" + b"\xfb\x06\x1b\x2d1234\x1c\xfc\x06"
"""fields 1 and 111 as groups, which protobuf passes over; one holds another"""


@pytest.mark.parametrize(
    "blob",
    [
        pytest.param(shape(2, 3, 1, 2) + field(5, FLAT.tobytes()), id="packed"),
        pytest.param(field(5, FLAT.tobytes()) + shape(2, 3, 1, 2), id="data-before-shape"),
        pytest.param(unpacked_shape(2, 3, 1, 2) + field(5, FLAT.tobytes()), id="unpacked-dims"),
        pytest.param(shape(2, 3, 1, 2) + b"".join(b"\x2d" + struct.pack("<f", v) for v in FLAT), id="unpacked-floats"),
        pytest.param(
            shape(2, 3, 1, 2) + field(5, FLAT[:5].tobytes()) + field(5, FLAT[5:].tobytes()), id="two-packed-runs"
        ),
        pytest.param(
            shape(2, 3, 1, 2)
            + field(5, FLAT[:5].tobytes())
            + b"".join(b"\x2d" + struct.pack("<f", v) for v in FLAT[5:]),
            id="packed-then-unpacked",
        ),
        pytest.param(shape(2, 3, 1, 2) + field(8, FLAT.astype("<f8").tobytes()), id="double"),
        pytest.param(shape(2, 3, 1, 2) + b"".join(b"\x41" + struct.pack("<d", v) for v in FLAT), id="unpacked-doubles"),
        pytest.param(legacy(2, 3, 1, 2) + field(5, FLAT.tobytes()), id="legacy-4d"),
        pytest.param(shape(2, 3, 1, 2) + field(5, FLAT.tobytes()) + field(6, FLAT.tobytes()), id="with-diff"),
        pytest.param(shape(2, 3, 1, 2) + varint(10 << 3) + b"\x01" + field(12, FLAT.tobytes()), id="raw-float"),
        pytest.param(shape(2, 3, 1, 2) + field(5, FLAT.tobytes()) + field(99, b"fork"), id="unknown-field"),
        pytest.param(GROUPS + shape(2, 3, 1, 2) + field(5, FLAT.tobytes()) + GROUPS, id="unknown-groups"),
    ],
)
def test_ways_to_store_numbers(tmp_path: Path, blob: bytes) -> None:
    (layer,) = read(tmp_path, model(blob))
    assert (layer.name, layer.type, layer.blobs[0].shape) == ("conv", "Convolution", (2, 3, 1, 2))
    np.testing.assert_array_equal(layer.blobs[0].array(), VALUES)


def test_half_precision_raw_data(tmp_path: Path) -> None:
    blob = shape(12) + varint(10 << 3) + b"\x02" + field(12, FLAT.astype("<f2").tobytes())
    (layer,) = read(tmp_path, model(blob))
    np.testing.assert_array_equal(layer.blobs[0].array(), FLAT.astype(np.float16).astype(np.float32))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"", "empty", id="empty"),
        pytest.param(model(shape(2, 3) + field(5, FLAT.tobytes())), "needs 6 numbers, the file has 12", id="too-many"),
        pytest.param(model(shape(2**40) + field(5, b"")), "dimension", id="huge-dimension"),
        pytest.param(model(shape(2**20, 2**20) + field(5, b"")), "needs 1099511627776 numbers", id="huge-product"),
        pytest.param(model(shape(*[1] * 40) + field(5, b"\0" * 4)), "axes", id="many-axes"),
        pytest.param(model(shape(12) + field(5, FLAT.tobytes()[:-1])), "no multiple", id="odd-bytes"),
        pytest.param(
            model(shape(3) + field(5, FLAT[:2].tobytes()) + field(8, b"\0" * 8)), "both", id="float-and-double"
        ),
        pytest.param(field(1, b"net") + b"\xa2\x06\xff\xff\xff\xff\x07", "claims", id="layer-longer-than-file"),
        pytest.param(b"\xff" * 40, "10 bytes", id="endless-number"),
        pytest.param(b"\x0e\x04", "wire type", id="no-wire-type"),
        pytest.param(b"\x0c", "wire type 4", id="end-of-no-group"),
        pytest.param(b"\x0b\x10\x04", "past the end", id="group-without-end"),
        pytest.param(b"\x0b\x10\x04\x14", "has not begun", id="group-ends-as-another"),
        pytest.param(b"\x0b" * 200 + b"\x0c" * 200, "limit nesting", id="groups-in-groups"),
        pytest.param(model(varint(10 << 3) + b"\x07" + field(12, b"\0" * 4)), "raw_data_type", id="raw-type"),
    ],
)
def test_damage_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises((MalformedFile, LimitExceeded), match=reason):
        read(tmp_path, content)


def test_every_truncation_ends_in_a_typed_error_or_fewer_layers(tmp_path: Path) -> None:
    content = DIGITS.read_bytes()
    whole = [layer.name for layer in read(tmp_path, content)]
    step = max(1, len(content) // 400)
    for end in [*range(300), *range(300, len(content), step)]:
        try:
            layers = read(tmp_path, content[:end])
        except NetferryError:
            continue
        assert [layer.name for layer in layers] == whole[: len(layers)]


def test_bit_flips_never_escape_the_error_tree(tmp_path: Path) -> None:
    content = bytearray(DIGITS.read_bytes())
    rng = np.random.default_rng(0)
    for position in rng.integers(0, 400, 400):
        broken = bytearray(content)
        broken[position] ^= 1 << int(rng.integers(8))
        try:
            for layer in read(tmp_path, bytes(broken)):
                for blob in layer.blobs:
                    blob.array()
        except NetferryError as error:
            assert error.reason


def test_mean_images(tmp_path: Path) -> None:
    path = tmp_path / "mean.binaryproto"
    image = np.arange(12, dtype=np.float32).reshape(1, 3, 2, 2)
    path.write_bytes(legacy(1, 3, 2, 2) + field(5, image.tobytes()))
    np.testing.assert_array_equal(read_mean(path, Limits()), image[0])
    path.write_bytes(legacy(2, 3, 2, 1) + field(5, image.tobytes()))
    with pytest.raises(MalformedFile, match="1 x C x H x W"):
        read_mean(path, Limits())


def test_the_fixtures_writer_and_the_reader_agree(tmp_path: Path) -> None:
    content = wire([("name", "n"), ("layer", [("name", "ip"), ("type", "InnerProduct")])])
    (layer,) = read(tmp_path, content)
    assert (layer.name, layer.type, layer.blobs) == ("ip", "InnerProduct", [])
