"""TensorFlow 1 checkpoints of one file: VGGish's against TensorFlow itself, and files that are none."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

import netferry
from netferry.converters.checkpoint import as_keras_weights, is_checkpoint, read_checkpoint
from netferry.converters.options import Limits
from netferry.converters.protobuf import varint
from netferry.errors import CheckFailed, MalformedFile, NetferryError, UnsupportedOption, WeightsError
from netferry.runtime.session import Session
from tests.converters.keras.oracle import tensorflow_python

MAGIC = struct.pack("<Q", 0xDB4775248B80FB57)
RNG = np.random.default_rng(0)
ARRAYS = {
    "net/conv1/weights": RNG.standard_normal((3, 3, 1, 4)).astype(np.float32),
    "net/conv1/biases": RNG.standard_normal(4).astype(np.float32),
    "scale": RNG.standard_normal(()).astype(np.float32),
}


def field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def entries(rows: list[tuple[bytes, bytes]], kind: bytes = b"\0") -> bytes:
    """A block without shared beginnings, and its trailer."""
    body = b"".join(b"\0" + varint(len(k)) + varint(len(v)) + k + v for k, v in rows)
    return body + struct.pack("<II", 0, 1) + kind + bytes(4)


def table(arrays: dict[str, np.ndarray], *, kind: bytes = b"\0", twice: bool = False) -> bytes:
    meta = b""
    for name, array in arrays.items():
        shape = b"".join(field(2, field(1, n)) for n in array.shape)
        meta += field(1, field(1, name.encode()) + field(2, shape) + field(3, 1))
    rows = [(b"", field(1, meta))]
    for name, array in arrays.items():
        tensor = field(1, 1) + field(5, array.tobytes())
        rows += [(name.encode(), field(2, field(1, name.encode()) + field(3, tensor)))] * (2 if twice else 1)
    out, handles = b"", []
    for row in rows:
        block = entries([row], kind)
        handles.append((row[0], varint(len(out)) + varint(len(block) - 5)))
        out += block
    meta_index = varint(len(out)) + varint(len(entries([])) - 5)
    out += entries([])
    index = varint(len(out)) + varint(len(entries(handles)) - 5)
    out += entries(handles)
    return out + (meta_index + index).ljust(40, b"\0") + MAGIC


def test_variables(tmp_path: Path) -> None:
    (tmp_path / "m.ckpt").write_bytes(table(ARRAYS))
    assert is_checkpoint(tmp_path / "m.ckpt")
    found = read_checkpoint(tmp_path / "m.ckpt", Limits())
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name].read(), array)


def test_every_truncation_and_many_flips_are_typed_errors(tmp_path: Path) -> None:
    whole = table(ARRAYS)
    path = tmp_path / "m.ckpt"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(NetferryError):
            read_checkpoint(path, Limits())
    rng = np.random.default_rng(1)
    for _ in range(2000):
        changed = bytearray(whole)
        for place in rng.integers(0, len(whole) - 8, 3):
            changed[place] = rng.integers(0, 256)
        path.write_bytes(changed)
        try:
            found = read_checkpoint(path, Limits())
        except NetferryError:
            continue
        assert all(v.read().nbytes <= len(whole) for v in found.values())


def test_what_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "m.ckpt"
    path.write_bytes(table(ARRAYS, kind=b"\1"))
    with pytest.raises(UnsupportedOption, match="compressed"):
        read_checkpoint(path, Limits())
    path.write_bytes(table(ARRAYS, twice=True))
    with pytest.raises(UnsupportedOption, match="parts"):
        read_checkpoint(path, Limits())
    path.write_bytes(b"no table" * 20)
    assert not is_checkpoint(path)
    with pytest.raises(MalformedFile, match="checkpoint"):
        read_checkpoint(path, Limits())
    path.write_bytes(table({"a/conv1/weights": ARRAYS["scale"], "b/conv1/weights": ARRAYS["scale"]}))
    with pytest.raises(WeightsError, match="two"):
        as_keras_weights(read_checkpoint(path, Limits()), tmp_path / "w.h5")


@pytest.mark.parametrize("name", ["net/con\0v1/weights", "net/./weights", "."], ids=repr)
def test_a_variable_that_no_layer_can_be_called_like(tmp_path: Path, name: str) -> None:
    (tmp_path / "m.ckpt").write_bytes(table({name: ARRAYS["scale"]}))
    with pytest.raises(MalformedFile, match="a variable called"):
        read_checkpoint(tmp_path / "m.ckpt", Limits())


def test_a_variable_without_elements_has_no_values_in_the_file(tmp_path: Path) -> None:
    meta = field(1, b"empty") + field(2, field(2, field(1, 0)) + field(2, field(1, 3))) + field(3, 1)
    block = entries([(b"", field(1, field(1, meta)))])
    index = entries([(b"", varint(0) + varint(len(block) - 5))])
    places = [varint(len(block)) + varint(3), varint(len(block)) + varint(len(index) - 5)]
    (tmp_path / "m.ckpt").write_bytes(block + index + b"".join(places).ljust(40, b"\0") + MAGIC)
    assert read_checkpoint(tmp_path / "m.ckpt", Limits())["empty"].read().shape == (0, 3)


def test_a_checkpoint_of_another_network(tmp_path: Path) -> None:
    (tmp_path / "m.ckpt").write_bytes(table(ARRAYS))
    with pytest.raises(WeightsError):
        netferry.zoo.load("vggish", weights=tmp_path / "m.ckpt")
    with pytest.raises(CheckFailed, match="published sha256"):
        netferry.zoo.pull("vggish", file=tmp_path / "m.ckpt", cache=tmp_path / "c")
    assert not list((tmp_path / "c").rglob("*.ckpt"))


@pytest.mark.slow
def test_vggish_as_tensorflow_has_it(tmp_path: Path) -> None:
    """A checkpoint written by TensorFlow itself, of VGGish's names and shapes, and what TensorFlow computes with it."""
    python = tensorflow_python()
    if python is None:
        pytest.skip("needs tensorflow (here, or in NETFERRY_TF_PYTHON)")
    maker = Path(__file__).resolve().parents[1] / "zoo" / "checkpoint_maker.py"
    subprocess.run(
        [python, str(maker), str(tmp_path / "vggish_model.ckpt"), str(tmp_path / "ref.npz")],
        check=True, capture_output=True, timeout=600,
    )  # fmt: skip
    done = netferry.zoo.pull(
        "vggish", file=tmp_path / "vggish_model.ckpt", cache=tmp_path / "c", output=tmp_path / "v.onnx"
    )
    assert done["checked_by"] == "given by hand"
    with np.load(tmp_path / "ref.npz") as held:
        session = Session(tmp_path / "v.onnx", "cpu")
        got = next(iter(session.run({session.inputs[0].name: held["x"]}).values()))
        np.testing.assert_allclose(got, held["y"], rtol=0, atol=1e-4)
    again = netferry.zoo.load("vggish", weights="published", cache=tmp_path / "c")
    assert not again.uninitialised
