"""Broken caffemodels and HDF5 snapshots, beside a sound prototxt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tests.attacks import unusual_caffe, unusual_onnx
from tests.attacks.making import Make, net
from tests.converters.caffe.caffemodel_writer import blob, message, text, varint

CASES: dict[str, Make] = {}
"""name -> writes the files into a folder; returns their paths as ``convert`` takes them"""

_NET, _BLOBS = unusual_caffe.NET, unusual_caffe.stored()
_EXTRA = text(1, "ip") + text(2, "InnerProduct")
_PLAIN = unusual_onnx.linear().SerializeToString()


def _blob(*fields: bytes) -> Make:
    """Weights of the plain network whose first blob has these fields."""
    inner = b"".join(fields)
    bias = message(7, message(7, message(1, varint(4))) + message(5, bytes(16)))
    return net(_NET, message(100, text(1, "ip") + text(2, "InnerProduct") + message(7, inner) + bias))


_DIMS = message(7, message(1, varint(4) + varint(3)))
_FLOATS = message(5, bytes(48))
_NEGATIVE = varint((1 << 64) - 1)
CASES |= {
    "caffe-weights-of-nobody": net(_NET, message(100, text(1, "other") + message(7, b""))[:-1]),
    "caffe-weights-of-three-axes": net(_NET, message(100, _EXTRA + message(7, message(7, message(1, varint(2) * 3)) + message(5, bytes(32))))),
    "caffe-weights-short": net(_NET, _BLOBS[:-5]),
    "caffe-weights-are-text": net(_NET, _NET.encode()),
    "caffe-weights-are-hdf5": net(_NET, b"\x89HDF\r\n\x1a\n" + bytes(200)),
    "caffe-weights-are-onnx": net(_NET, _PLAIN),
    "caffe-blob-dim-negative": _blob(message(7, message(1, varint(4) + _NEGATIVE)), _FLOATS),
    "caffe-blob-dims-overflow": _blob(message(7, message(1, varint(1 << 31) * 4)), _FLOATS),
    "caffe-blob-dim-0": _blob(message(7, message(1, varint(0) + varint(3))), b""),
    "caffe-blob-floats-of-7-bytes": _blob(_DIMS, message(5, bytes(47))),
    "caffe-blob-floats-and-doubles": _blob(_DIMS, _FLOATS, message(8, bytes(96))),
    "caffe-blob-without-data": _blob(_DIMS),
    "caffe-blob-of-gradients-alone": _blob(_DIMS, message(6, bytes(48))),
    "caffe-blob-shape-and-legacy-disagree": _blob(_DIMS, varint(1 << 3) + varint(7), message(5, bytes(28))),
    "caffe-blob-legacy-dims-negative": _blob(b"".join(varint(i << 3) + _NEGATIVE for i in (1, 2, 3, 4)), _FLOATS),
    "caffe-blob-shape-of-wrong-wire-type": _blob(varint(7 << 3) + varint(5), _FLOATS),
    "caffe-blob-data-of-wrong-wire-type": _blob(_DIMS, varint(5 << 3 | 1) + bytes(8)),
    "caffe-weights-varint-of-11-bytes": net(_NET, _BLOBS + b"\xf8\x3f" + b"\xff" * 10 + b"\x01"),
    "caffe-weights-field-0": net(_NET, _BLOBS + b"\x02\x01a"),
    "caffe-weights-group-never-ended": net(_NET, _BLOBS + b"\xf3\x3f"),
    "caffe-weights-name-of-invalid-utf-8": net(_NET, message(100, message(1, b"\xff\xfe") + message(7, _DIMS + _FLOATS))),
    "caffe-weights-with-a-bias-that-is-switched-off": net(_NET.replace("num_output: 4", "num_output: 4 bias_term: false"), _BLOBS),
    "caffe-weights-of-one-blob-too-many": net(_NET, message(100, _EXTRA + message(7, _DIMS + _FLOATS) + message(7, blob(np.zeros(4))) * 2)),
    "caffe-weights-without-the-bias": net(_NET, message(100, text(1, "ip") + message(7, blob(unusual_caffe.W)))),
    "caffe-weights-empty": net(_NET, b""),
    "caffe-weights-of-layers-without-blobs": net(_NET, message(100, text(1, "ip") + text(2, "InnerProduct"))),
}  # fmt: skip


def snapshot(change: Callable[[h5py.File], object]) -> Make:
    """The plain network with weights as Caffe's HDF5 snapshots hold them, changed."""

    def make(folder: Path) -> list[Path]:
        (folder / "net.prototxt").write_text(_NET)
        with h5py.File(folder / "net.caffemodel.h5", "w") as file:
            file["data/ip/0"], file["data/ip/1"] = unusual_caffe.W, unusual_caffe.B
            change(file)
        return [folder / "net.prototxt", folder / "net.caffemodel.h5"]

    return make


def _exchanged(name: str, value: Any) -> Make:
    def change(file: h5py.File) -> None:
        del file[name]
        if value is not None:
            file[name] = value

    return snapshot(change)


CASES |= {
    "caffe-h5-without-data": snapshot(lambda f: f.move("data", "date")),
    "caffe-h5-blob-called-otherwise": snapshot(lambda f: f.move("data/ip/1", "data/ip/bias")),
    "caffe-h5-blob-missing-in-between": snapshot(lambda f: f.move("data/ip/1", "data/ip/2")),
    "caffe-h5-layer-is-an-array": _exchanged("data/ip", np.zeros(3, np.float32)),
    "caffe-h5-blob-is-text": _exchanged("data/ip/0", "text"),
    "caffe-h5-blob-of-other-shape": _exchanged("data/ip/0", np.zeros((5, 3), np.float32)),
    "caffe-h5-blob-is-a-link": _exchanged("data/ip/0", h5py.SoftLink("/data/ip/1")),
    "caffe-h5-data-is-a-link": _exchanged("data", h5py.ExternalLink("/etc/passwd", "/x")),
    "caffe-h5-layer-of-another-net": snapshot(lambda f: f.move("data/ip", "data/other")),
}


def _with_mean(settings: str, *mean: bytes) -> Make:
    """A training net whose data layer names a mean image of 3 x 9 x 9."""

    def make(folder: Path) -> list[Path]:
        head = (
            f'layer {{ name: "d" type: "Data" top: "x" transform_param {{ mean_file: "m.binaryproto" {settings} }} }}'
        )
        dims = b"".join(varint(i << 3) + varint(d) for i, d in ((1, 1), (2, 3), (3, 9), (4, 9)))
        (folder / "m.binaryproto").write_bytes(dims + message(5, b"".join(mean) or bytes(4 * 243)))
        (folder / "net.prototxt").write_text(head + 'layer { name: "r" type: "ReLU" bottom: "x" top: "y" }')
        return [folder / "net.prototxt"]

    return make


CASES |= {
    "caffe-mean-smaller-than-the-crop": _with_mean("crop_size: 20"),
    "caffe-mean-file-and-values": _with_mean("mean_value: 104"),
    "caffe-mean-of-no-numbers": _with_mean("", np.full(243, np.nan, "<f4").tobytes()),
}


def _in_text(blobs: str) -> Make:
    """Weights in the prototxt itself."""
    return net(_NET.replace('top: "ip"', blobs + ' top: "ip"'))


CASES |= {
    "caffe-text-blob-of-other-shape": _in_text("blobs { data: 1 data: 2 shape { dim: 3 } }"),
    "caffe-text-blob-of-words": _in_text("blobs { data: one shape { dim: 1 } }"),
    "caffe-text-blob-of-messages": _in_text("blobs { data { x: 1 } shape { dim: 1 } }"),
    "caffe-text-blob-is-a-number": _in_text("blobs: 1"),
    "caffe-text-blob-of-floats-and-doubles": _in_text("blobs { data: 1 double_data: 2 shape { dim: 1 } }"),
    "caffe-text-blob-dim-negative": _in_text("blobs { data: 1 shape { dim: -1 } }"),
    "caffe-text-blob-dims-overflow": _in_text("blobs { data: 1 shape { dim: 4294967296 dim: 4294967296 } }"),
}
