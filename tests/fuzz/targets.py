"""What is fuzzed: each reader, from bytes to a model; anything but a NetferryError that leaves it is a finding."""

from __future__ import annotations

import functools
import json
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import netferry
from netferry.errors import NetferryError

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "fixtures"
_SHARED_MEMORY = Path("/dev/shm")
FOLDER = Path(tempfile.mkdtemp(prefix="netferry-fuzz-", dir=_SHARED_MEMORY if _SHARED_MEMORY.is_dir() else None))
LIMITS = {"init_elements": 1_000_000}
LARGEST = 1 << 16
"""bytes of a seed that is taken from the tests"""


@dataclass(frozen=True)
class Target:
    """A reader: how bytes become its input, and inputs to begin with."""

    run: Callable[[bytes], None]
    suffix: str
    seeds: Callable[[], list[bytes]]
    confined: Callable[[bytes], bool] | None = None
    """where a library of C reads the bytes, which may crash: whether the sandbox makes that a typed error"""

    def corpus(self) -> list[bytes]:
        """The seeds, and the unusual and broken files of the tests."""
        return [*self.seeds(), *_unusual().get(self.suffix, [])]


def read(name: str, content: bytes, *more: Path) -> None:
    """Read and describe a file as a user would; and write it again."""
    path = FOLDER / name
    path.write_bytes(content)
    try:
        model = netferry.load(path, *more, limits=LIMITS, init=0)
        netferry.inspect(model)
        netferry.save(model, FOLDER / "out.onnx", check="structure")
    except NetferryError as error:
        assert str(error)
        assert error.as_dict()  # both must work on whatever the file held


def contained(name: str, content: bytes) -> bool:
    """Whether reading in the sandbox ends in a typed error, or not in an error at all."""
    path = FOLDER / name
    path.write_bytes(content)
    try:
        netferry.load(path, limits=LIMITS, init=0, sandbox=True)
    except NetferryError as error:
        return "internal" not in str(error)
    return True


def _files(*patterns: str) -> Callable[[], list[bytes]]:
    return lambda: [p.read_bytes() for pattern in patterns for p in sorted(FIXTURES.glob(pattern))]


@functools.cache
def _unusual() -> dict[str, list[bytes]]:
    """By suffix, the files of the tests that are unusual or broken: what is near them is worth a try."""
    from tests.attacks.test_broken import CASES, UNUSUAL

    found: dict[str, dict[bytes, None]] = {}
    for make in (*UNUSUAL.values(), *CASES.values()):
        with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
            try:
                made = make(Path(folder))
            except OSError:
                continue  # what this system cannot make
            for path in made:
                if path.is_file() and path.stat().st_size <= LARGEST:
                    found.setdefault(path.suffix, {})[path.read_bytes()] = None
    return {suffix: list(contents) for suffix, contents in found.items()}


def _layer(kind: str, **config: object) -> dict[str, object]:
    return {"class_name": kind, "config": {"name": kind.lower(), **config}}


def keras_architecture() -> dict[str, object]:
    """A small Keras model with layers of several families."""
    layers = [
        _layer("InputLayer", batch_input_shape=[None, 8, 8, 3], dtype="float32"),
        _layer(
            "Conv2D", filters=2, kernel_size=[3, 3], strides=[2, 2], padding="same", activation="relu", use_bias=True
        ),
        _layer("BatchNormalization", axis=[3], epsilon=0.001, momentum=0.9, center=True, scale=True),
        _layer("MaxPooling2D", pool_size=[2, 2], strides=[2, 2], padding="valid"),
        _layer("Flatten"),
        _layer("Dropout", rate=0.5),
        _layer("Dense", units=3, activation="softmax", use_bias=True),
    ]
    return {"class_name": "Sequential", "config": {"name": "s", "layers": layers}, "keras_version": "2.11.0"}


def keras_sequence() -> dict[str, object]:
    """A recurrent Keras model with a mask."""
    layers = [
        _layer("InputLayer", batch_input_shape=[None, None], dtype="int32"),
        _layer("Embedding", input_dim=9, output_dim=4, mask_zero=True),
        _layer("Bidirectional", layer=_layer("LSTM", units=2, return_sequences=True), merge_mode="concat"),
        _layer("GRU", units=2, reset_after=True),
        _layer("Activation", activation="hard_sigmoid"),
    ]
    return {"class_name": "Sequential", "config": {"name": "q", "layers": layers}, "keras_version": "2.11.0"}


def _jsons() -> list[bytes]:
    return [json.dumps(make()).encode() for make in (keras_architecture, keras_sequence)]


def _hdf5() -> list[bytes]:
    import h5py
    import numpy as np

    out: list[bytes] = []
    for compressed in (None, "gzip"):
        buffer = BytesIO()
        with h5py.File(buffer, "w") as file:
            file.attrs["model_config"] = json.dumps(keras_architecture())
            file.attrs["keras_version"] = "2.11.0"
            root = file.create_group("model_weights")
            shapes = {"conv2d": [(3, 3, 3, 2), (2,)], "batchnormalization": [(2,)] * 4, "dense": [(8, 3), (3,)]}
            root.attrs["layer_names"] = [n.encode() for n in shapes]
            for layer, held in shapes.items():
                group = root.create_group(layer)
                group.attrs["weight_names"] = [f"{layer}/w{i}".encode() for i in range(len(held))]
                for i, shape in enumerate(held):
                    group.create_dataset(f"{layer}/w{i}", data=np.ones(shape, np.float32), compression=compressed)
        out.append(buffer.getvalue())
    return out


def _zips() -> list[bytes]:
    out: list[bytes] = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        buffer = BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as archive:
            archive.writestr("metadata.json", '{"keras_version": "3.0.0"}')
            archive.writestr("config.json", json.dumps(keras_architecture()))
        out.append(buffer.getvalue())
    return out


def _onnx() -> list[bytes]:
    target = FOLDER / "seed.onnx"
    netferry.convert(FIXTURES / "digits.prototxt", target, FIXTURES / "digits.caffemodel", check="structure")
    (FOLDER / "seed.json").write_bytes(_jsons()[1])
    netferry.convert(FOLDER / "seed.json", FOLDER / "seed2.onnx", init=0, check="structure")
    return [target.read_bytes(), (FOLDER / "seed2.onnx").read_bytes()]


CFG = (
    b"[net]\nwidth=16\nheight=16\nchannels=3\n\n[convolutional]\nbatch_normalize=1\nfilters=4\nsize=3\nstride=2\npad=1\n"
    b"activation=leaky\n\n[maxpool]\nsize=2\nstride=2\n\n[route]\nlayers=-1,-2\n\n[upsample]\nstride=2\n\n[connected]\n"
    b"output=3\nactivation=linear\n\n[softmax]\n"
)


def _darknet_weights(content: bytes) -> None:
    (FOLDER / "w.weights").write_bytes(content)
    read("net.cfg", CFG.replace(b"\n[route]\nlayers=-1,-2\n", b""), FOLDER / "w.weights")


def _confined(name: str) -> Callable[[bytes], bool]:
    return lambda content: contained(name, content)


def _reads(name: str) -> Callable[[bytes], None]:
    return lambda content: read(name, content)


TARGETS: dict[str, Target] = {
    "prototxt": Target(_reads("net.prototxt"), ".prototxt", _files("*.prototxt")),
    "caffemodel": Target(_reads("net.caffemodel"), ".caffemodel", _files("*.caffemodel")),
    "keras-json": Target(_reads("net.json"), ".json", _jsons),
    "keras-hdf5": Target(_reads("net.h5"), ".h5", _hdf5, _confined("net.h5")),
    "keras-zip": Target(_reads("net.keras"), ".keras", _zips, _confined("net.keras")),
    "onnx": Target(_reads("net.onnx"), ".onnx", _onnx, _confined("net.onnx")),
    "darknet-cfg": Target(_reads("net.cfg"), ".cfg", lambda: [CFG]),
    "darknet-weights": Target(
        _darknet_weights, ".weights", lambda: [bytes([0, 0, 0, 0, 2, 0, 0, 0, 5, 0, 0, 0]) + bytes(1200)]
    ),
}
