"""Files that no reader knows."""

from __future__ import annotations

import io

import numpy as np

from tests.attacks.making import Make, stored

CASES: dict[str, Make] = {}
"""name -> writes the files into a folder; returns their paths as ``convert`` takes them"""


def _npz() -> bytes:
    content = io.BytesIO()
    np.savez(content, a=np.zeros(3))
    return content.getvalue()


CASES |= {
    "npz": stored("net.npz", _npz()),
    "pickle": stored("net.pkl", b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94\x8c\x06system\x94\x93\x94."),
    "empty": stored("net.bin", b""),
    "one-byte": stored("net.bin", b"\x00"),
    "noise": stored("net.bin", np.random.default_rng(1).bytes(5000)),
    "text": stored("net.txt", b"hello\n"),
    "elf": stored("net.so", b"\x7fELF\x02\x01\x01" + bytes(100)),
    "tar": stored("net.tar", b"net/".ljust(512, b"\0") + bytes(1024)),
}  # fmt: skip

# TensorFlow: told from the bytes, before TensorFlow is started
_OUTSIDE = b"\x1c\0\0\0TFL3" + bytes(50)
CASES |= {
    "tf-saved-model-cut": stored("saved_model.pb", b"\x08\x01\x12\x05abcde"),
    "tf-saved-model-of-no-graphs": stored("saved_model.pb", b"\x08\x01\x12\x00\x1a\x00"[:2] + b"\x12\x7f"),
    "tf-graph-cut": stored("graph.pb", b"\x0a\x10\x0a\x01x\x12\x06PyFunc\x1a\x7fy"),
    "tf-tflite-points-outside": stored("net.tflite", b"\xff\xff\xff\x7fTFL3" + bytes(50)),
    "tf-tflite-without-subgraphs": stored("net.tflite", _OUTSIDE),
    "tf-tflite-of-8-bytes": stored("net.tflite", b"\x08\0\0\0TFL3"),
}
