"""What is fuzzed beside models: lists, labels, step files, arrays, tars, pictures, sounds, weights, old checkpoints."""

from __future__ import annotations

import functools
import io
import itertools
import json
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from netferry.errors import NetferryError
from tests.fuzz.targets import FIXTURES, FOLDER, Target

_KINDS = ("png", "jpeg", "gif", "bmp", "tiff", "webp")
_ITEMS = 50
"""items that are taken from a file of data"""


def _target(name: str, use: Callable[[Path], object], *seeds: Callable[[], bytes]) -> Target:
    def run(content: bytes) -> None:
        path = FOLDER / name
        path.write_bytes(content)
        try:
            found = use(path)
            if isinstance(found, Iterable) and not isinstance(found, list | dict | str | np.ndarray):
                for _ in itertools.islice(found, _ITEMS):
                    pass
        except NetferryError as error:
            assert str(error)
            assert error.as_dict()

    return Target(run, f" {name}", lambda: [seed() for seed in seeds])  # no file of the tests ends so


def _items(path: Path) -> Iterable[object]:
    """Items of a data file, decoded as a session would."""
    from netferry.runtime.data.sources import open_data
    from netferry.runtime.decoding import load_picture

    for item in open_data(path):
        yield item if isinstance(item.source, dict) else load_picture(item.source, max_pixels=1 << 20)


def _labels(path: Path) -> object:
    from netferry.schemas.labels import read_labels

    return read_labels(path)


def _step(path: Path) -> object:
    from netferry.schemas.step import read_step

    return read_step(path, {"HOME": "/nowhere"})


def _recipe(path: Path) -> object:
    from netferry.errors import MalformedFile
    from netferry.schemas.preprocessing import Preprocessing

    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise MalformedFile("no JSON") from None
    if not isinstance(document, dict):
        raise MalformedFile("no object")
    return Preprocessing.from_dict(document)


def _picture(path: Path) -> object:
    from netferry.runtime.decoding import load_picture

    return load_picture(path, max_pixels=1 << 20)


def _sound(path: Path) -> object:
    from netferry.runtime.sounds import length_of, read_sound

    length_of(path, 16_000)
    return read_sound(path, 16_000)


def _weights(path: Path) -> object:
    import netferry

    model = netferry.load(FIXTURES / "digits.prototxt", init=0)
    return netferry.load_weights(model, path, skip_missing=True)


def _checkpoint(path: Path) -> object:
    from netferry.converters.checkpoint import read_checkpoint
    from netferry.converters.options import Limits

    return {name: one.read() for name, one in itertools.islice(read_checkpoint(path, Limits()).items(), _ITEMS)}


def _png() -> bytes:
    return _saved("png")


def _saved(kind: str) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(out, kind)
    return out.getvalue()


def _wav() -> bytes:
    import wave

    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(1600))
    return out.getvalue()


def _npy() -> bytes:
    out = io.BytesIO()
    np.save(out, np.zeros((3, 8, 8, 3), np.uint8))
    return out.getvalue()


def _npz() -> bytes:
    out = io.BytesIO()
    np.savez(out, x=np.zeros((3, 8, 8, 3), np.uint8), labels=np.arange(3))
    return out.getvalue()


def _tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as file:
        for name, content in (("a.png", _png()), ("a.cls", b"3"), ("b.png", _png()), ("b.json", b'{"label": "x"}')):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return out.getvalue()


def _safetensors() -> bytes:
    from safetensors.numpy import save

    return save({"conv1.weight": np.zeros((8, 1, 5, 5), np.float32), "ip.bias": np.zeros(10, np.float32)})


def _old_checkpoint() -> bytes:
    from tests.converters.test_checkpoint import table

    return table({"a/w": np.ones((3, 2), np.float32), "a/b": np.zeros(2, np.float32)})


_STEP = b"predict:\n  source: net.onnx\n  data: pictures\n  output: out.json\n  batch_size: 4\n"
_RECIPE = {"layout": "NCHW", "color": "RGB", "size": [8, 8], "mean": [1.0, 2.0, 3.0], "scale": 0.5}

DATA_TARGETS: dict[str, Target] = {
    "labels": _target("l.txt", _labels, lambda: b"n01440764 tench, fish\nn01443537 goldfish\n"),
    "labels-json": _target("l.json", _labels, lambda: b'{"0": ["n0", "a"], "1": ["n1", "b"]}', lambda: b'["a", "b"]'),
    "step": _target("step.yaml", _step, lambda: _STEP),
    "recipe": _target("recipe.json", _recipe, lambda: json.dumps(_RECIPE).encode()),
    "picture": _target("p.img", _picture, *(functools.partial(_saved, kind) for kind in _KINDS)),
    "sound": _target("s.wav", _sound, _wav),
    "list-csv": _target("list.csv", _items, lambda: b"path,label\na.png,x\nb.png,y\n"),
    "list-jsonl": _target("list.jsonl", _items, lambda: b'{"path": "a.png", "label": 3}\n{"path": "b.png"}\n'),
    "array": _target("a.npy", _items, _npy),
    "arrays": _target("a.npz", _items, _npz),
    "tar": _target("a.tar", _items, _tar),
    "safetensors": _target("w.safetensors", _weights, _safetensors),
    "checkpoint": _target("w.ckpt", _checkpoint, _old_checkpoint),
}
"""by name: what reads the file of a user beside the model"""
