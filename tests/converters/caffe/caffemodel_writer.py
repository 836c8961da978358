"""Writes small caffemodels for tests: the wire bytes of NetParameter by BVLC's field numbers, from scratch.

It shares no code with the reader under test (https://protobuf.dev/programming-guides/encoding/).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def caffemodel(layers: Mapping[str, tuple[str, Sequence[np.ndarray]]], *, name: str = "net") -> bytes:
    """Return a V2 caffemodel: layer name -> (type, blobs)."""
    body = text(1, name)
    for layer, (kind, blobs) in layers.items():
        body += message(100, text(1, layer) + text(2, kind) + b"".join(message(7, blob(array)) for array in blobs))
    return body


def blob(array: np.ndarray) -> bytes:
    """Return a BlobProto with a shape and packed float data."""
    dims = b"".join(varint(d) for d in array.shape)
    return message(7, message(1, dims)) + message(5, np.ascontiguousarray(array, "<f4").tobytes())


def message(number: int, body: bytes) -> bytes:
    """Return a length-delimited field."""
    return varint(number << 3 | 2) + varint(len(body)) + body


def text(number: int, value: str) -> bytes:
    """Return a string field."""
    return message(number, value.encode())


def varint(value: int) -> bytes:
    """Return a base-128 varint."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
