"""Conversion of Keras ``.h5`` files against tf2onnx, and against a bare script that writes the same bytes.

    python -m benchmarks.keras_h5 --tensorflow-python PYTHON [--rounds 3] [--folder DIR] [NETWORK ...]

PYTHON has tensorflow, keras and tf2onnx; it makes the networks (seeded weights) and is the peer. Bars: wall <= 0.15 of
tf2onnx's (MobileNetV2), <= 0.08 (ResNet50, DenseNet201), all checks on; VGG16 completes, where tf2onnx needs more
than 13 GiB. With the checks that run the network off: peak memory <= 200 MiB + the largest tensor, cpu <= 2 of the
bare script for files above 80 MB.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import h5py

from benchmarks.measure import alternate, run, table

QUIET = {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
BARS = {"MobileNetV2": 0.15, "ResNet50": 0.08, "DenseNet201": 0.08}
TOO_LARGE = {"VGG16"}
"""tf2onnx takes more than 13 GiB for these"""

MAKE = """
import sys
import keras
keras.utils.set_random_seed(0)
getattr(keras.applications, sys.argv[1])(weights=None).save(sys.argv[2])
"""
PEER = """
import sys
import keras, tensorflow, tf2onnx
model = keras.models.load_model(sys.argv[1], compile=False)
shape = tensorflow.TensorSpec((None, *model.input_shape[1:]), tensorflow.float32, name="x")
tf2onnx.convert.from_keras(model, (shape,), opset=17, output_path=sys.argv[2])
"""
BARE = '''
"""The floor: the arrays of an HDF5 file as initializers of an .onnx, kernels in ONNX's order, by numpy and h5py."""
import sys
import h5py
import numpy


def varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number, size):
    return varint(number << 3 | 2) + varint(size)


arrays = []
with h5py.File(sys.argv[1], "r") as file, open(sys.argv[2], "wb") as out:
    file.visititems(lambda name, item: arrays.append(name) if isinstance(item, h5py.Dataset) else None)
    heads = []
    for name in arrays:
        data = file[name]
        dims = b"".join(varint(1 << 3) + varint(d) for d in data.shape)
        text = name.encode()
        head = dims + varint(2 << 3) + varint(1) + field(8, len(text)) + text + field(9, data.size * 4)
        heads.append(field(5, len(head) + data.size * 4) + head)
    total = sum(len(head) + file[name].size * 4 for head, name in zip(heads, arrays))
    out.write(varint(1 << 3) + varint(10) + field(7, total))
    for head, name in zip(heads, arrays):
        out.write(head)
        values = file[name][()]
        if values.ndim == 4:
            values = numpy.moveaxis(values, (-1, -2), (0, 1))
        out.write(numpy.ascontiguousarray(values, numpy.float32).data)
'''


def largest(file: Path) -> float:
    """MiB of the largest array."""
    found = [0]
    with h5py.File(file, "r") as opened:
        opened.visititems(
            lambda _, item: found.append((item.size or 0) * 4) if isinstance(item, h5py.Dataset) else None
        )
    return max(found) / 2**20


def compare(python: str, network: str, folder: Path, rounds: int) -> str:
    """Measure one network; return the tables."""
    source, made = folder / f"{network}.h5", folder / f"{network}.onnx"
    if not source.exists():
        run([python, "-c", MAKE, network, str(source)], env=QUIET)
    convert = [sys.executable, "-m", "netferry", "convert", str(source), "-o", str(made)]
    commands: dict[str, Sequence[str]] = {
        "bare copy": [sys.executable, "-c", BARE, str(source), str(made)],
        "netferry convert": convert,
        "netferry --check structure": [*convert, "--check", "structure"],
    }
    if network not in TOO_LARGE:
        commands["tf2onnx"] = [
            "env",
            *(f"{k}={v}" for k, v in QUIET.items()),
            python,
            "-c",
            PEER,
            *convert[4:5],
            str(made),
        ]
    costs = alternate(commands, rounds)
    lines = [f"{network}: {source.stat().st_size / 2**20:.0f} MiB, largest array {largest(source):.0f} MiB"]
    if network not in TOO_LARGE:
        lines += [table(costs, "tf2onnx"), f"bar for netferry convert: wall {BARS.get(network, 0.08)}"]
    lines += [table(costs, "bare copy"), f"peak allowed with --check structure: {200 + largest(source):.0f} MiB"]
    return "\n".join(lines)


def main() -> None:
    """Measure and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=[*BARS, *sorted(TOO_LARGE)])
    parser.add_argument("--tensorflow-python", required=True, help="an interpreter with tensorflow and tf2onnx")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="keep the networks here")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        for network in given.networks:
            print(compare(given.tensorflow_python, network, folder, given.rounds), flush=True)


if __name__ == "__main__":
    main()
