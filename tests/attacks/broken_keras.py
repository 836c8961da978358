"""Broken Keras files: the whole file, its model, its weights."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tests.attacks import unusual_keras
from tests.attacks.making import Make, config, hdf5, stored

CASES: dict[str, Make] = {}
"""name -> writes the files into a folder; returns their paths as ``convert`` takes them"""


def _replaced(file: h5py.File, value: Any) -> None:
    del file["model_weights/d/d/kernel:0"]
    file["model_weights/d/d/kernel:0"] = value


def _huge(file: h5py.File) -> None:
    del file["model_weights/d/d/kernel:0"]
    group = file["model_weights/d/d"]
    assert isinstance(group, h5py.Group)
    group.create_dataset("kernel:0", (2**20, 2**20), "f4", chunks=(1, 1024), compression="gzip")


def _virtual(file: h5py.File) -> None:
    del file["model_weights/d/d/kernel:0"]
    layout = h5py.VirtualLayout((3, 4), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (3, 4))
    group = file["model_weights/d/d"]
    assert isinstance(group, h5py.Group)
    group.create_virtual_dataset("kernel:0", layout)


def _circle(file: h5py.File) -> None:
    group = file["model_weights/d"]
    group["again"] = group  # pyright: ignore[reportIndexIssue]
    group.attrs["weight_names"] = [b"again/" * 200 + b"d/kernel:0", b"d/bias:0"]


def _cut(kind: str, part: float) -> Make:
    def make(folder: Path) -> list[Path]:
        path = unusual_keras.hdf5(folder / "net.h5") if kind == "h5" else unusual_keras.archive(folder / "net.keras")
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * part)])
        return [path]

    return make


def _flipped(position: int, bit: int) -> Make:
    """A bit of an HDF5 file flipped: found by fuzzing, HDF5 2.0 and 1.14 crash or loop on them."""

    def make(folder: Path) -> list[Path]:
        from tests.fuzz.targets import TARGETS

        content = bytearray(TARGETS["keras-hdf5"].seeds()[0])
        content[position] ^= bit
        (folder / "net.h5").write_bytes(content)
        return [folder / "net.h5"]

    return make


def archive(**members: bytes) -> Make:
    """A zip of these members; ``_`` stands for a dot."""

    def make(folder: Path) -> list[Path]:
        with zipfile.ZipFile(folder / "net.keras", "w", zipfile.ZIP_DEFLATED) as out:
            for name, content in members.items():
                out.writestr(name.replace("_", "."), content)
        return [folder / "net.keras"]

    return make


def _name_of_bytes() -> bytes:
    """HDF5 weights in which the name of a group is no UTF-8."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.create_group("layers").create_group(b"dens\xff")
    return buffer.getvalue()


_CONFIG = json.dumps(unusual_keras.sequential()).encode()
_META = b'{"keras_version": "3.3.3"}'


CASES |= {
    "keras-h5-half": _cut("h5", 0.5),
    "keras-h5-signature": stored("net.h5", b"\x89HDF\r\n\x1a\n"),
    "keras-h5-noise": stored("net.h5", b"\x89HDF\r\n\x1a\n" + np.random.default_rng(0).bytes(4096)),
    "keras-h5-flip-that-crashes": _flipped(6193, 2),
    "keras-h5-flip-that-loops": _flipped(2216, 1),
    "keras-h5-no-model": hdf5(lambda f: (f.attrs.__delitem__("model_config"), f.__delitem__("model_weights"))),
    "keras-h5-model-is-a-number": hdf5(text=np.int64(5)),
    "keras-h5-model-is-no-json": hdf5(text="not json"),
    "keras-h5-model-is-null": hdf5(text="null"),
    "keras-h5-model-is-a-list": hdf5(text="[]"),
    "keras-h5-declares-terabytes": hdf5(_huge),
    "keras-h5-virtual": hdf5(_virtual),
    "keras-h5-group-in-itself": hdf5(_circle),
    "keras-h5-weights-of-text": hdf5(lambda f: _replaced(f, "text")),
    "keras-h5-weights-of-records": hdf5(lambda f: _replaced(f, np.zeros(3, [("a", "f4"), ("b", "f4")]))),
    "keras-h5-weights-complex": hdf5(lambda f: _replaced(f, unusual_keras.W.astype(complex))),
    "keras-h5-weights-of-other-shape": hdf5(lambda f: _replaced(f, np.zeros((4, 4), "f4"))),
    "keras-h5-weights-missing": hdf5(lambda f: f.__delitem__("model_weights/d/d/bias:0")),
    "keras-h5-names-are-numbers": hdf5(lambda f: f["model_weights"].attrs.__setitem__("layer_names", [1, 2])),
    "keras-h5-names-outside": hdf5(lambda f: f["model_weights/d"].attrs.__setitem__("weight_names", [b"../../d", b"/etc/passwd"])),
    "keras-json-empty-object": stored("net.json", b'{"class_name": 1}'),
    "keras-json-key-twice": stored("net.json", _CONFIG.replace(b'"units": 4', b'"units": 4, "units": 5')),
    "keras-json-trailing": stored("net.json", _CONFIG + b"{}"),
    "keras-json-unfinished": stored("net.json", _CONFIG[:-20]),
    "keras-json-deep": stored("net.json", b'{"class_name": "Sequential", "config": ' + b"[" * 100_000),
    "keras-json-long-number": stored("net.json", _CONFIG.replace(b'"units": 4', b'"units": ' + b"4" * 5000)),
    "keras-json-surrogate": stored("net.json", _CONFIG.replace(b'"Dense"', b'"\\ud800"')),
    "keras-units-negative": config(units=-1),
    "keras-units-a-text": config(units="4"),
    "keras-units-a-float": config(units=4.5),
    "keras-units-nan": config(units=float("nan")),
    "keras-units-huge": config(units=10**18),
    "keras-units-true": config(units=True),
    "keras-activation-unknown": config(activation="warp"),
    "keras-shape-negative": config(batch_input_shape=[None, -3]),
    "keras-shape-huge": config(batch_input_shape=[None, 10**15]),
    "keras-shape-a-text": config(batch_input_shape="3"),
    "keras-layer-is-null": stored("net.json", json.dumps({**unusual_keras.sequential(), "config": {"name": "m", "layers": [None]}}).encode()),
    "keras-zip-half": _cut("keras", 0.5),
    "keras-zip-no-config": archive(metadata_json=_META),
    "keras-zip-bomb": archive(metadata_json=_META, config_json=_CONFIG, model_weights_h5=bytes(64 << 20)),
    "keras-zip-config-bomb": archive(metadata_json=_META, config_json=b" " * (64 << 20) + _CONFIG),
    "keras-zip-weights-are-text": archive(metadata_json=_META, config_json=_CONFIG, model_weights_h5=b"text"),
    "keras-zip-name-that-is-no-utf8": archive(metadata_json=_META, config_json=_CONFIG, model_weights_h5=_name_of_bytes()),
    "keras-zip-weights-pickled": archive(metadata_json=_META, config_json=_CONFIG, model_weights_npz=b"\x80\x04."),
    "keras-zip-config-is-no-json": archive(metadata_json=_META, config_json=b"\xff\xfe"),
}  # fmt: skip


def _twice(folder: Path) -> list[Path]:
    with zipfile.ZipFile(folder / "net.keras", "w") as out:
        out.writestr("config.json", _CONFIG)
        out.writestr("metadata.json", _META)
    content = (folder / "net.keras").read_bytes().replace(b"metadata.json", b"config.json\0\0")
    (folder / "net.keras").write_bytes(content)
    return [folder / "net.keras"]


CASES["keras-zip-member-twice"] = _twice
