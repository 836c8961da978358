"""Broken HDF5 files of Keras."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tests.attacks import unusual_keras
from tests.attacks.making import Make, hdf5, stored

CASES: dict[str, Make] = {}
"""name -> writes the files into a folder; returns their paths as ``convert`` takes them"""


def _filtered(**options: Any) -> Make:
    return hdf5(arrays=(np.zeros((3, 4), options.pop("dtype", "f4")), unusual_keras.B), **options)


def _linked(link: Any) -> Make:
    def change(file: h5py.File) -> None:
        del file["model_weights/d/d/kernel:0"]
        file["model_weights/d/d/kernel:0"] = link

    return hdf5(change)


def _references(file: h5py.File) -> None:
    del file["model_weights/d/d/kernel:0"]
    group = file["model_weights/d/d"]
    assert isinstance(group, h5py.Group)
    group.create_dataset("kernel:0", data=[group.ref] * 4, dtype=h5py.ref_dtype)


def _ragged(file: h5py.File) -> None:
    del file["model_weights/d/d/kernel:0"]
    group = file["model_weights/d/d"]
    assert isinstance(group, h5py.Group)
    made = group.create_dataset("kernel:0", (3,), h5py.vlen_dtype(np.float32))
    made[:] = [np.zeros(4, "f4")] * 3


def _empty_space(file: h5py.File) -> None:
    del file["model_weights/d/d/kernel:0"]
    file["model_weights/d/d/kernel:0"] = h5py.Empty("f4")


def _a_type_for_an_array(file: h5py.File) -> None:
    del file["model_weights/d/d/kernel:0"]
    file["model_weights/d/d/kernel:0"] = np.dtype("f4")


def _a_group_for_an_array(file: h5py.File) -> None:
    del file["model_weights/d/d/kernel:0"]
    file.create_group("model_weights/d/d/kernel:0")


def _external_file(file: h5py.File) -> None:
    del file["model_weights/d/d/kernel:0"]
    group = file["model_weights/d/d"]
    assert isinstance(group, h5py.Group)
    group.create_dataset("kernel:0", (3, 4), "f4", external=[("/etc/passwd", 0, 48)])


def _deep(file: h5py.File) -> None:
    group = file["model_weights/d"]
    assert isinstance(group, h5py.Group)
    group.create_dataset("a/" * 300 + "kernel:0", data=unusual_keras.W)
    group.attrs["weight_names"] = [("a/" * 300 + "kernel:0").encode(), b"d/bias:0"]


def _recurrent_transposed(folder: Path) -> list[Path]:
    """An LSTM whose kernel has the axes of another framework."""
    layer = {"class_name": "LSTM", "config": {"name": "d", "units": 2, "batch_input_shape": [None, 5, 3]}}
    arrays = (np.zeros((8, 3), "f4"), np.zeros(8, "f4"))
    path = unusual_keras.hdf5(folder / "net.h5", unusual_keras.sequential(layer), arrays=arrays)
    with h5py.File(path, "r+") as file:
        group = file["model_weights/d"]
        file["model_weights/d/d/recurrent_kernel:0"] = np.zeros((2, 8), "f4")
        group.attrs["weight_names"] = [b"d/kernel:0", b"d/recurrent_kernel:0", b"d/bias:0"]
    return [path]


CASES |= {
    "keras-h5-recurrent-kernel-transposed": _recurrent_transposed,
    "keras-h5-kernel-transposed": hdf5(arrays=(unusual_keras.W.T, unusual_keras.B)),
    "keras-h5-lzf": _filtered(compression="lzf"),
    "keras-h5-scale-and-offset": _filtered(scaleoffset=4, dtype="i4"),
    "keras-h5-soft-link": _linked(h5py.SoftLink("/model_weights/d/d/bias:0")),
    "keras-h5-link-to-nothing": _linked(h5py.SoftLink("/nothing")),
    "keras-h5-link-to-another-file": _linked(h5py.ExternalLink("/etc/passwd", "/x")),
    "keras-h5-values-in-another-file": hdf5(_external_file),
    "keras-h5-references": hdf5(_references),
    "keras-h5-arrays-of-many-lengths": hdf5(_ragged),
    "keras-h5-no-space": hdf5(_empty_space),
    "keras-h5-a-type-for-an-array": hdf5(_a_type_for_an_array),
    "keras-h5-a-group-for-an-array": hdf5(_a_group_for_an_array),
    "keras-h5-300-groups-deep": hdf5(_deep),
    "keras-h5-model-of-invalid-utf-8": hdf5(text=np.bytes_(b'{"class_name": "\xff\xfe"}')),
    "keras-h5-model-in-an-array-of-two": hdf5(text=np.array(["{}", "{}"], dtype=object)),
    "keras-h5-models-of-100-megabytes-in-digits": hdf5(text='{"class_name": ' + "9" * 60_000 + "}"),
    "keras-h5-layer-names-twice": hdf5(lambda f: f["model_weights"].attrs.__setitem__("layer_names", [b"d", b"d"])),
    "keras-h5-gzipped": stored("net.h5.gz", gzip.compress(bytes(3000))),
    "keras-h5-behind-text": stored("net.h5", b"text\n" * 100 + b"\x89HDF\r\n\x1a\n"),
}  # fmt: skip
