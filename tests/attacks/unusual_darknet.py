"""Unusual but valid Darknet files; each computes leaky(W x + b) of a batch of pictures of one pixel and three channels."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

RNG = np.random.default_rng(10)
W, B = RNG.standard_normal((4, 3)).astype(np.float32), RNG.standard_normal(4).astype(np.float32)
X = RNG.standard_normal((2, 3, 1, 1)).astype(np.float32)
_SUM = X.reshape(2, 3) @ W.T + B
WANTED = np.where(_SUM > 0, _SUM, 0.1 * _SUM)
NET = """[net]
height=1
width=1
channels=3

[connected]
output=4
activation=leaky
"""


def stored(major: int = 0, minor: int = 2, wide: bool = True) -> bytes:
    head = struct.pack("<3i", major, minor, 5) + struct.pack("<Q" if wide else "<I", 64)
    return head + B.tobytes() + W.tobytes()


@dataclass
class Files:
    """What a case is made of."""

    net: bytes = NET.encode()
    weights: bytes = field(default_factory=stored)


CASES: dict[str, Callable[[], Files]] = {
    "byte-order-mark": lambda: Files(b"\xef\xbb\xbf" + NET.encode()),
    "windows-line-ends": lambda: Files(NET.replace("\n", "\r\n").encode()),
    "no-line-end-at-the-end": lambda: Files(NET.rstrip().encode()),
    "spaces-and-tabs": lambda: Files(NET.replace("=", " \t= ").replace("\n", " \t\n").encode()),
    "indented": lambda: Files(NET.replace("\n", "\n\t ").encode()),
    "comments": lambda: Files(("# first\n" + NET.replace("\n", "\n; [net]\n# größe\n")).encode("latin-1")),
    "network-for-net": lambda: Files(NET.replace("[net]", "[network]").encode()),
    "conn-for-connected": lambda: Files(NET.replace("[connected]", "[conn]").encode()),
    "blank-lines": lambda: Files(("\n\n" + NET.replace("\n", "\n\n\n")).encode()),
    "settings-for-training": lambda: Files(
        NET.replace(
            "[connected]",
            "batch=64\nsubdivisions=16\npolicy=steps\nsteps=10,20\nscales=.1,.1\nburn_in=1000\n"
            "learning_rate=0.001\nmosaic=1\nletter_box=1\n\n[connected]",
        ).encode()
    ),
    "settings-that-nobody-knows": lambda: Files((NET + "org.example=1\n").encode()),
    "a-float-for-an-integer": lambda: Files(NET.replace("output=4", "output=4.0").encode()),
    "dropout-and-cost": lambda: Files((NET + "\n[dropout]\nprobability=.5\n\n[cost]\ntype=sse\n").encode()),
    "weights-of-version-0-1": lambda: Files(weights=stored(0, 1, wide=False)),
    "weights-of-version-1-0": lambda: Files(weights=stored(1, 0)),
}


def write(name: str, folder: Path) -> tuple[list[Path], np.ndarray]:
    """Make a case's files; returns their paths as ``convert`` takes them, and what the first output should be."""
    files = CASES[name]()
    (folder / "net.cfg").write_bytes(files.net)
    (folder / "net.weights").write_bytes(files.weights)
    return [folder / "net.cfg", folder / "net.weights"], WANTED
