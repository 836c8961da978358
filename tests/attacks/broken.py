"""Broken and hostile files beyond those of the other modules: builders by name; each must end in one typed error."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.attacks import unusual_caffe, unusual_darknet, unusual_keras, unusual_onnx
from tests.converters.caffe.caffemodel_writer import message, text, varint

Make = Callable[[Path], list[Path]]
CASES: dict[str, Make] = {}
"""name -> writes the files into a folder; returns their paths as ``convert`` takes them"""


def stored(name: str, content: bytes) -> Make:
    def make(folder: Path) -> list[Path]:
        (folder / name).write_bytes(content)
        return [folder / name]

    return make


# ONNX ----------------------------------------------------------------------------------------------------------------


def model(change: Callable[[onnx.ModelProto], object]) -> Make:
    """The linear network of unusual_onnx, changed."""

    def make(folder: Path) -> list[Path]:
        made = unusual_onnx.linear()
        change(made)
        (folder / "net.onnx").write_bytes(made.SerializeToString())
        return [folder / "net.onnx"]

    return make


def external(**entries: object) -> Make:
    def change(m: onnx.ModelProto) -> None:
        tensor = m.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in entries.items():
            tensor.external_data.add(key=key.rstrip("_"), value=str(value))

    def make(folder: Path) -> list[Path]:
        (folder / "w.bin").write_bytes(unusual_onnx.W.tobytes())
        return model(change)(folder)

    return make


def _node(*arguments: Any, at: int = 99, **settings: Any) -> Callable[[onnx.ModelProto], object]:
    return lambda m: m.graph.node.insert(min(at, len(m.graph.node)), helper.make_node(*arguments, **settings))


def _fill(m: onnx.ModelProto, dims: list[int]) -> None:
    """y = relu(…) + a constant of these dimensions, made by ConstantOfShape."""
    m.graph.initializer.append(numpy_helper.from_array(np.array(dims, np.int64), "dims"))
    m.graph.node.append(helper.make_node("ConstantOfShape", ["dims"], ["big"]))
    m.graph.node.append(helper.make_node("Add", ["s", "big"], ["z"]))


def _cycle(m: onnx.ModelProto) -> None:
    m.graph.node[0].input[0] = "y"


def _two_graphs(m: onnx.ModelProto) -> bytes:
    return m.SerializeToString() + onnx.ModelProto(graph=m.graph).SerializeToString()


def _shape_of_40_axes(m: onnx.ModelProto) -> None:
    m.graph.initializer[1].dims[:] = [1] * 39 + [4]


def _text(m: onnx.ModelProto) -> None:
    m.graph.initializer[1].CopyFrom(helper.make_tensor("b", TensorProto.STRING, [4], np.array(list("abcd"))))


def _segment(m: onnx.ModelProto) -> None:
    m.graph.initializer[0].segment.begin = 1


def _opset(version: int) -> Callable[[onnx.ModelProto], None]:
    def change(m: onnx.ModelProto) -> None:
        m.opset_import[0].version = version

    return change


def _input_shape(m: onnx.ModelProto) -> None:
    m.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 2**62


def _output_type(m: onnx.ModelProto) -> None:
    m.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64


def _no_output(m: onnx.ModelProto) -> None:
    del m.graph.output[:]


def _bad_utf8_name(m: bytes) -> bytes:
    return m.replace(b"relu", b"re\xff\xfe")


_PLAIN = unusual_onnx.linear().SerializeToString()
CASES |= {
    "onnx-cycle": model(_cycle),
    "onnx-two-graphs": stored("net.onnx", _two_graphs(unusual_onnx.linear())),
    "onnx-half": stored("net.onnx", _PLAIN[: len(_PLAIN) // 2]),
    "onnx-then-text": stored("net.onnx", _PLAIN + b"trailing text"),
    "onnx-doubled": stored("net.onnx", _PLAIN * 2),
    "onnx-name-of-bytes": stored("net.onnx", _bad_utf8_name(_PLAIN)),
    "onnx-zeros": stored("net.onnx", bytes(100_000)),
    "onnx-is-a-picture": stored("net.onnx", b"\x89PNG\r\n\x1a\n" + bytes(500)),
    "onnx-is-html": stored("net.onnx", b"<!DOCTYPE html><html><body>404</body></html>"),
    "onnx-is-a-git-lfs-pointer": stored("net.onnx", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"),
    "onnx-is-gzip": stored("net.onnx", b"\x1f\x8b\x08\x00" + bytes(60)),
    "onnx-unknown-operator": model(_node("Frobnicate", ["s"], ["z"])),
    "onnx-unknown-domain": model(_node("Foo", ["s"], ["z"], domain="org.nobody")),
    "onnx-too-many-inputs": model(_node("Relu", ["s", "s", "s"], ["z"])),
    "onnx-unknown-attribute": model(_node("Relu", ["s"], ["z"], warp=3)),
    "onnx-attribute-of-other-type": model(_node("Softmax", ["s"], ["z"], axis="first")),
    "onnx-axis-out-of-range": model(_node("Softmax", ["s"], ["z"], axis=77)),
    "onnx-shapes-do-not-fit": model(lambda m: m.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.ones(5, np.float32), "b"))),
    "onnx-types-do-not-fit": model(lambda m: m.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.ones(4), "b"))),
    "onnx-texts-for-numbers": model(_text),
    "onnx-40-axes": model(_shape_of_40_axes),
    "onnx-segment": model(_segment),
    "onnx-opset-0": model(_opset(0)),
    "onnx-opset-negative": model(_opset(-5)),
    "onnx-opset-of-the-future": model(_opset(9999)),
    "onnx-input-of-2-to-the-62": model(_input_shape),
    "onnx-output-of-other-type": model(_output_type),
    "onnx-no-output": model(_no_output),
    "onnx-external-outside": external(location="../../../../../../etc/passwd", offset=0, length=48),
    "onnx-external-absolute": external(location="/etc/passwd", offset=0, length=48),
    "onnx-external-device": external(location="/dev/zero", offset=0, length=48),
    "onnx-external-url": external(location="file:///etc/passwd", offset=0, length=48),
    "onnx-external-itself-missing": external(location="none.bin"),
    "onnx-external-beyond-the-end": external(location="w.bin", offset=8, length=48),
    "onnx-external-no-number": external(location="w.bin", offset="eight"),
    "onnx-external-huge-number": external(location="w.bin", offset="9" * 400),
    "onnx-external-negative": external(location="w.bin", offset=-48),
    "onnx-external-without-location": external(offset=0),
    "onnx-external-location-twice": external(location="w.bin", location_="w.bin"),
    "onnx-external-nul": external(location="w.bin\0.txt"),
    "onnx-external-long-name": external(location="w" * 5000),
}  # fmt: skip

# Keras ---------------------------------------------------------------------------------------------------------------


def hdf5(change: Callable[[h5py.File], object] | None = None, **options: Any) -> Make:
    def make(folder: Path) -> list[Path]:
        path = unusual_keras.hdf5(folder / "net.h5", **options)
        if change is not None:
            with h5py.File(path, "r+") as file:
                change(file)
        return [path]

    return make


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


_CONFIG = json.dumps(unusual_keras.sequential()).encode()
_META = b'{"keras_version": "3.3.3"}'


def config(**changes: Any) -> Make:
    return stored("net.json", json.dumps(unusual_keras.sequential(unusual_keras.dense(**changes))).encode())


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

# Caffe and Darknet ---------------------------------------------------------------------------------------------------


def net(content: str | bytes, weights: bytes | None = None) -> Make:
    def make(folder: Path) -> list[Path]:
        (folder / "net.prototxt").write_bytes(content.encode() if isinstance(content, str) else content)
        if weights is None:
            return [folder / "net.prototxt"]
        (folder / "net.caffemodel").write_bytes(weights)
        return [folder / "net.prototxt", folder / "net.caffemodel"]

    return make


def darknet(content: str, weights: bytes | None = None) -> Make:
    def make(folder: Path) -> list[Path]:
        (folder / "net.cfg").write_text(content)
        (folder / "net.weights").write_bytes(unusual_darknet.stored() if weights is None else weights)
        return [folder / "net.cfg", folder / "net.weights"]

    return make


_NET, _BLOBS = unusual_caffe.NET, unusual_caffe.stored()
_EXTRA = text(1, "ip") + text(2, "InnerProduct")
CASES |= {
    "caffe-input-made-again": net(_NET + 'layer { name: "z" type: "ReLU" bottom: "y" top: "x" }', _BLOBS),
    "caffe-bottom-later": net(_NET.replace('bottom: "x" top: "ip"', 'bottom: "y" top: "ip"'), _BLOBS),
    "caffe-unclosed-string": net(_NET.replace('"relu"', '"relu'), _BLOBS),
    "caffe-unknown-escape": net(_NET.replace('"relu"', '"\\q"'), _BLOBS),
    "caffe-closed-too-often": net(_NET + "}", _BLOBS),
    "caffe-utf-16": net(_NET.encode("utf-16")),
    "caffe-nul": net(_NET.replace("relu", "re\0lu"), _BLOBS),
    "caffe-number-of-two-points": net(_NET.replace("num_output: 4", "num_output: 4.4.4"), _BLOBS),
    "caffe-number-is-text": net(_NET.replace("num_output: 4", 'num_output: "4"'), _BLOBS),
    "caffe-number-missing": net(_NET.replace("num_output: 4", ""), _BLOBS),
    "caffe-name-of-100-kilobytes": net(_NET.replace("inner_product_param", "i" * 100_000), _BLOBS),
    "caffe-weights-of-nobody": net(_NET, message(100, text(1, "other") + message(7, b""))[:-1]),
    "caffe-weights-of-three-axes": net(_NET, message(100, _EXTRA + message(7, message(7, message(1, varint(2) * 3)) + message(5, bytes(32))))),
    "caffe-weights-short": net(_NET, _BLOBS[:-5]),
    "caffe-weights-are-text": net(_NET, _NET.encode()),
    "caffe-weights-are-hdf5": net(_NET, b"\x89HDF\r\n\x1a\n" + bytes(200)),
    "caffe-weights-are-onnx": net(_NET, _PLAIN),
    "darknet-weights-short": darknet(unusual_darknet.NET, unusual_darknet.stored()[:-4]),
    "darknet-weights-empty": darknet(unusual_darknet.NET, b""),
    "darknet-weights-a-header": darknet(unusual_darknet.NET, struct.pack("<3iQ", 0, 2, 5, 0)),
    "darknet-weights-are-text": darknet(unusual_darknet.NET, b"text\n" * 50),
    "darknet-output-missing": darknet(unusual_darknet.NET.replace("output=4", "output=")),
    "darknet-output-infinite": darknet(unusual_darknet.NET.replace("output=4", "output=inf")),
    "darknet-output-hexadecimal": darknet(unusual_darknet.NET.replace("output=4", "output=0x10000000")),
    "darknet-nul": darknet(unusual_darknet.NET.replace("leaky", "le\0aky")),
}  # fmt: skip

# things that no reader knows -----------------------------------------------------------------------------------------


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
