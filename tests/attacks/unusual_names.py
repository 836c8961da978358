"""Sound files under names of another format."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.attacks import unusual_caffe, unusual_darknet, unusual_keras, unusual_onnx
from tests.attacks.unusual_made import KX, renamed

W, B, X, WANTED = unusual_onnx.W, unusual_onnx.B, unusual_onnx.X, unusual_onnx.WANTED
info = unusual_onnx.info


def _plain(folder: Path) -> tuple[list[Path], np.ndarray]:
    (folder / "net.onnx").write_bytes(unusual_onnx.linear().SerializeToString())
    return [folder / "net.onnx"], WANTED


renamed("onnx-called-h5", _plain, X, ".h5")
renamed("onnx-called-pb", _plain, X, ".pb")
renamed("onnx-without-an-ending", _plain, X, "")
renamed("hdf5-called-onnx", unusual_keras.CASES["plain"], KX, ".onnx")
renamed("hdf5-called-keras", unusual_keras.CASES["plain"], KX, ".keras")
renamed("hdf5-called-weights", unusual_keras.CASES["plain"], KX, ".weights")
renamed("archive-called-h5", unusual_keras.CASES["archive"], KX, ".h5")
renamed("json-called-txt", unusual_keras.CASES["json-with-white-space-around"], KX, ".txt", ".bin")
renamed(
    "prototxt-called-txt", lambda folder: unusual_caffe.write("single-quotes", folder), unusual_caffe.X, ".txt", ".bin"
)
renamed(
    "cfg-called-txt", lambda folder: unusual_darknet.write("comments", folder), unusual_darknet.X, ".txt", ".weights"
)
