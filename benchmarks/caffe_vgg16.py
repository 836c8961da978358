"""Conversion of a VGG16-size caffemodel (528 MiB) against OpenCV 4's ``readNetFromCaffe``, which only reads.

    python -m benchmarks.caffe_vgg16 [--rounds 5] [--folder DIR]

The network has VGG16's layers with seeded weights. Bars: with the checks that run the network off, wall <= 0.6, cpu
<= 0.8, peak memory <= 150 MiB + the largest tensor (392 MiB); with them on, wall <= 1.0.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import BinaryIO

import numpy as np

from benchmarks.measure import alternate, table

_BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
_LARGEST = 4096 * 25088 * 4 / 2**20


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _layers() -> list[tuple[str, str, str, tuple[int, ...]]]:
    """(name, bottom, settings, weight shape) of every layer."""
    rows: list[tuple[str, str, str, tuple[int, ...]]] = []
    bottom, channels = "data", 3
    for i, (width, count) in enumerate(_BLOCKS, 1):
        for j in range(1, count + 1):
            name = f"conv{i}_{j}"
            settings = f"convolution_param {{ num_output: {width} pad: 1 kernel_size: 3 }}"
            rows.append((name, bottom, f'type: "Convolution" {settings}', (width, channels, 3, 3)))
            rows.append((f"relu{i}_{j}", name, 'type: "ReLU"', ()))
            bottom, channels = name, width
        settings = "pooling_param { pool: MAX kernel_size: 2 stride: 2 }"
        rows.append((f"pool{i}", bottom, f'type: "Pooling" {settings}', ()))
        bottom = f"pool{i}"
    features = 25088
    for name, width in (("fc6", 4096), ("fc7", 4096), ("fc8", 1000)):
        rows.append(
            (name, bottom, f'type: "InnerProduct" inner_product_param {{ num_output: {width} }}', (width, features))
        )
        if name != "fc8":
            rows.append((name.replace("fc", "relu"), name, 'type: "ReLU"', ()))
            rows.append((name.replace("fc", "drop"), name, 'type: "Dropout" dropout_param { dropout_ratio: 0.5 }', ()))
        bottom, features = name, width
    rows.append(("prob", bottom, 'type: "Softmax"', ()))
    return rows


def write_network(folder: Path) -> tuple[Path, Path]:
    """Write the prototxt and the caffemodel; returns their paths."""
    prototxt, caffemodel = folder / "vgg16.prototxt", folder / "vgg16.caffemodel"
    text = ['name: "VGG16"', 'input: "data"', *(f"input_dim: {d}" for d in (1, 3, 224, 224))]
    rng = np.random.default_rng(0)
    with caffemodel.open("wb") as file:
        file.write(_field(1, b"VGG16"))
        for name, bottom, settings, shape in _layers():
            top = bottom if 'type: "ReLU"' in settings or 'type: "Dropout"' in settings else name
            text.append(f'layer {{ name: "{name}" bottom: "{bottom}" top: "{top}" {settings} }}')
            if shape:
                _write_layer(file, name, shape, rng)
    prototxt.write_text("\n".join(text) + "\n")
    return prototxt, caffemodel


def _write_layer(file: BinaryIO, name: str, shape: tuple[int, ...], rng: np.random.Generator) -> None:
    blobs: list[tuple[bytes, np.ndarray]] = []
    fan_in = int(np.prod(shape[1:]))
    for dims in (shape, shape[:1]):
        values = rng.standard_normal(dims, np.float32) * np.float32(np.sqrt(2 / fan_in))
        blobs.append((_field(7, _field(1, b"".join(_varint(d) for d in dims))), values))
    kind = "InnerProduct" if len(shape) == 2 else "Convolution"
    head = _field(1, name.encode()) + _field(2, kind.encode())
    sizes = [len(_varint(5 << 3 | 2) + _varint(v.nbytes)) + v.nbytes + len(s) for s, v in blobs]
    total = len(head) + sum(len(_varint(7 << 3 | 2) + _varint(size)) + size for size in sizes)
    file.write(_varint(100 << 3 | 2) + _varint(total) + head)
    for (dims_field, values), size in zip(blobs, sizes, strict=True):
        file.write(_varint(7 << 3 | 2) + _varint(size) + _varint(5 << 3 | 2) + _varint(values.nbytes))
        file.write(values.data)
        file.write(dims_field)


def main() -> None:
    """Measure and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="keep the network here")
    parser.add_argument("--cold", action="store_true", help="drop the caffemodel from the page cache before each run")
    parser.add_argument("--make", type=Path, help="only write the network there")
    given = parser.parse_args()
    if given.make is not None:
        write_network(given.make)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        # in a process of its own: a child's peak counts the memory of the process that it was forked from
        subprocess.run([sys.executable, "-m", "benchmarks.caffe_vgg16", "--make", str(folder)], check=True)
        prototxt, caffemodel = folder / "vgg16.prototxt", folder / "vgg16.caffemodel"
        read = f"import cv2; cv2.dnn.readNetFromCaffe({str(prototxt)!r}, {str(caffemodel)!r})"
        convert = [sys.executable, "-m", "netferry", "convert", str(prototxt), str(caffemodel), "-o"]
        costs = alternate(
            {
                "OpenCV readNetFromCaffe": [sys.executable, "-c", read],
                "netferry convert --check structure": [*convert, str(folder / "a.onnx"), "--check", "structure"],
                "netferry convert": [*convert, str(folder / "b.onnx"), "--check", "run"],
            },
            given.rounds,
            fresh=[folder / "a.onnx", folder / "b.onnx"],
            cold=[caffemodel] if given.cold else [],
        )
    print(table(costs, "OpenCV readNetFromCaffe"))
    print(f"peak memory allowed with --check structure: 150 MiB + largest tensor = {150 + _LARGEST:.0f} MiB")


if __name__ == "__main__":
    main()
