"""Nets of a few layers for tests: written as files, converted, run, and given to OpenCV as a second opinion."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from netferry.converters.caffe.read import read
from netferry.converters.options import ReadOptions
from netferry.schemas.model import Model
from tests.converters.caffe.conformance import Arrays, Runner

Blobs = Mapping[str, Sequence[np.ndarray]]


def seeded(*shape: int, seed: int = 0) -> np.ndarray:
    """Normal values, the same for the same arguments."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def write_net(folder: Path, layers: str, feeds: Arrays, blobs: Blobs | None = None) -> tuple[Path, Path | None]:
    """Write net.prototxt (an Input layer per feed, then ``layers``) and, where there are blobs, net.caffemodel."""
    inputs = [
        f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ '
        + " ".join(f"dim: {d}" for d in array.shape)
        + " } } }"
        for name, array in feeds.items()
    ]
    text = folder / "net.prototxt"
    text.write_text("\n".join(['name: "net"', *inputs, layers]))
    if blobs is None:
        return text, None
    weights = folder / "net.caffemodel"
    weights.write_bytes(b"".join(_field(100, _stored(name, arrays)) for name, arrays in blobs.items()))
    return text, weights


def convert(folder: Path, layers: str, feeds: Arrays, blobs: Blobs | None = None, batch: int | None = None) -> Model:
    """Write and read a net."""
    text, weights = write_net(folder, layers, feeds, blobs)
    return read(text, ReadOptions(weights=weights, batch=batch))


def outputs(folder: Path, layers: str, feeds: Arrays, blobs: Blobs | None = None) -> Arrays:
    """Write, read and run a net; also at twice the batch where that is dynamic, which must repeat the rows."""
    model = convert(folder, layers, feeds, blobs)
    assert not model.placeholders()
    runner = Runner(model)
    got = runner.run(feeds)
    if runner.dims and all(dims[:1] == ["batch"] for dims in runner.dims.values()):
        doubled = runner.run({k: np.concatenate([v, v]) for k, v in feeds.items()})
        for name, array in doubled.items():
            if got[name].ndim:
                np.testing.assert_allclose(array, np.concatenate([got[name]] * 2), rtol=1e-5, atol=1e-5)
    return got


def opencv(folder: Path, layers: str, feeds: Arrays, blobs: Blobs | None = None) -> np.ndarray:
    """What OpenCV's Caffe reader computes for the net's one output."""
    text, weights = write_net(folder, layers, feeds, blobs or {"none": []})
    net = cv2.dnn.readNetFromCaffe(str(text), str(weights))
    for name, array in feeds.items():
        net.setInput(array, name)
    return net.forward()


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _field(number: int, payload: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


def _stored(name: str, arrays: Sequence[np.ndarray]) -> bytes:
    blobs = (
        _field(7, _field(1, b"".join(_varint(d) for d in a.shape)))
        + _field(5, struct.pack(f"<{a.size}f", *a.ravel().tolist()))
        for a in arrays
    )
    return _field(1, name.encode()) + b"".join(_field(7, blob) for blob in blobs)
