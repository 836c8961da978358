"""Unusual but valid ONNX files: how the bytes lie, element types, data in other files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.attacks import unusual_onnx
from tests.attacks.unusual_made import Made, case, onnx_case
from tests.converters.caffe.caffemodel_writer import message, varint

W, B, X, WANTED = unusual_onnx.W, unusual_onnx.B, unusual_onnx.X, unusual_onnx.WANTED
info = unusual_onnx.info


@onnx_case
def numbers_longer_than_needed(m: onnx.ModelProto, folder: Path) -> None:
    """The IR version as a varint of five bytes: legal protobuf, which some encoders write."""
    content = m.SerializeToString()
    assert content[:2] == b"\x08\x08"
    (folder / "net.onnx").write_bytes(b"\x08\x88\x80\x80\x80\x00" + content[2:])


@onnx_case
def a_field_given_twice_the_last_counts(m: onnx.ModelProto, folder: Path) -> None:
    (folder / "net.onnx").write_bytes(b"\x08\x03" + m.SerializeToString())


@onnx_case
def floats_one_by_one(m: onnx.ModelProto, folder: Path) -> None:
    """float_data that is not packed, as encoders of proto2 write it."""
    m.graph.initializer[1].ClearField("raw_data")
    tensor = m.graph.initializer[1]
    plain = tensor.SerializeToString()
    loose = plain + b"".join(b"\x25" + np.float32(v).tobytes() for v in B)
    graph = m.graph
    rest = [message(5, graph.initializer[0].SerializeToString()), message(5, loose)]
    del graph.initializer[:]
    inner = graph.SerializeToString() + b"".join(rest)
    m.ClearField("graph")
    (folder / "net.onnx").write_bytes(m.SerializeToString() + message(7, inner))


@onnx_case
def dims_packed(m: onnx.ModelProto, folder: Path) -> None:
    """dims as one packed field, as encoders of proto3 write it."""
    tensor = m.graph.initializer[1]
    packed = message(1, varint(4)) + varint(2 << 3) + varint(1) + message(8, b"b") + message(9, B.tobytes())
    del tensor
    graph, first = m.graph, m.graph.initializer[0].SerializeToString()
    del graph.initializer[:]
    inner = graph.SerializeToString() + message(5, first) + message(5, packed)
    m.ClearField("graph")
    (folder / "net.onnx").write_bytes(m.SerializeToString() + message(7, inner))


def _packed_int4(values: np.ndarray) -> bytes:
    flat = values.ravel() & 0xF
    flat = np.append(flat, 0) if flat.size % 2 else flat
    return (flat[::2] | flat[1::2] << 4).astype(np.uint8).tobytes()


def _dequantized(m: onnx.ModelProto, w: onnx.TensorProto, scale: np.ndarray, **settings: Any) -> None:
    m.graph.initializer[0].CopyFrom(w)
    m.graph.initializer.append(numpy_helper.from_array(scale.astype(np.float32), "scale"))
    m.graph.node.insert(0, helper.make_node("DequantizeLinear", ["w0", "scale"], ["w"], **settings))


@onnx_case
def int4_weights(m: onnx.ModelProto, _: Path) -> np.ndarray:
    m.ir_version, m.opset_import[0].version = 10, 21
    small, scale = np.clip(np.round(W * 4), -8, 7).astype(np.int8), np.array(0.25, np.float32)
    tensor = helper.make_tensor("w0", TensorProto.INT4, [3, 4], _packed_int4(small), raw=True)
    _dequantized(m, tensor, scale)
    return np.maximum(X @ (small * scale) + B, 0)


@onnx_case
def int4_of_an_odd_count(m: onnx.ModelProto, _: Path) -> np.ndarray:
    """15 values in 8 bytes."""
    m.ir_version, m.opset_import[0].version = 10, 21
    wide = np.clip(np.round(np.pad(W, ((0, 0), (0, 1))) * 4), -8, 7).astype(np.int8)
    tensor = helper.make_tensor("w0", TensorProto.INT4, [3, 5], _packed_int4(wide), raw=True)
    _dequantized(m, tensor, np.array(0.25))
    m.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.append(B, 0).astype(np.float32), "b"))
    m.graph.output[0].CopyFrom(info("y", ["N", 5]))
    return np.maximum(X @ (wide * np.float32(0.25)) + np.append(B, 0), 0)


@onnx_case
def weights_in_blocks(m: onnx.ModelProto, _: Path) -> np.ndarray:
    m.ir_version, m.opset_import[0].version = 10, 21
    small = np.clip(np.round(W * 30), -127, 127).astype(np.int8)
    scale = np.array([[0.02, 0.04], [0.03, 0.05], [0.01, 0.06]], np.float32)
    _dequantized(m, numpy_helper.from_array(small, "w0"), scale, axis=1, block_size=2)
    return np.maximum(X @ (small * np.repeat(scale, 2, axis=1)) + B, 0)


@onnx_case
def float8_weights(m: onnx.ModelProto, _: Path) -> np.ndarray:
    m.ir_version, m.opset_import[0].version = 9, 19
    small = W.astype(ml_dtypes.float8_e4m3fn)
    tensor = helper.make_tensor("w0", TensorProto.FLOAT8E4M3FN, [3, 4], small.tobytes(), raw=True)
    m.graph.initializer[0].CopyFrom(tensor)
    m.graph.node.insert(0, helper.make_node("Cast", ["w0"], ["w"], to=TensorProto.FLOAT))
    return np.maximum(X @ small.astype(np.float32) + B, 0)


@onnx_case
def bfloat16_in_int32_data(m: onnx.ModelProto, _: Path) -> np.ndarray:
    brain = W.astype(ml_dtypes.bfloat16)
    tensor = TensorProto(name="w0", data_type=TensorProto.BFLOAT16, dims=[3, 4])
    tensor.int32_data.extend(brain.view(np.uint16).ravel().tolist())
    m.graph.initializer[0].CopyFrom(tensor)
    m.graph.node.insert(0, helper.make_node("Cast", ["w0"], ["w"], to=TensorProto.FLOAT))
    return np.maximum(X @ brain.astype(np.float32) + B, 0)


@onnx_case
def texts_beside_numbers(m: onnx.ModelProto, _: Path) -> None:
    """A second output of strings, some of them empty."""
    names = np.array([b"a", b"", "ü".encode(), b"\0"], object)
    m.graph.initializer.append(helper.make_tensor("names", TensorProto.STRING, [4], names))
    m.graph.node.append(helper.make_node("ArgMax", ["y"], ["at"], axis=1, keepdims=0))
    m.graph.node.append(helper.make_node("Gather", ["names", "at"], ["label"]))
    m.graph.output.append(info("label", ["N"], TensorProto.STRING))


@onnx_case
def zero_columns(m: onnx.ModelProto, _: Path) -> np.ndarray:
    """A layer of no units: every tensor on its way is empty but the batch."""
    m.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.zeros((3, 0), np.float32), "w"))
    m.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.zeros(0, np.float32), "b"))
    m.graph.output[0].CopyFrom(info("y", ["N", 0]))
    return np.zeros((2, 0), np.float32)


@onnx_case
def scalar_throughout(m: onnx.ModelProto, _: Path) -> np.ndarray:
    m.graph.node.append(helper.make_node("ReduceSum", ["y"], ["total"], keepdims=0))
    m.graph.output[0].CopyFrom(info("total", []))
    return WANTED.sum(dtype=np.float32)


@onnx_case
def external_beyond_four_gigabytes(m: onnx.ModelProto, folder: Path) -> None:
    """A file with a hole: what is read lies behind 5 GB of nothing."""
    with (folder / "w.bin").open("wb") as file:
        file.seek(5 << 30)
        file.write(W.tobytes())
    unusual_onnx.external(m, 0, location="w.bin", offset=5 << 30, length=W.nbytes)


@onnx_case
def external_through_a_link_beside(m: onnx.ModelProto, folder: Path) -> None:
    (folder / "real.bin").write_bytes(W.tobytes())
    (folder / "w.bin").symlink_to("real.bin")
    unusual_onnx.external(m, 0, location="w.bin")


@onnx_case
def external_numbers_with_zeros_in_front(m: onnx.ModelProto, folder: Path) -> None:
    (folder / "w.bin").write_bytes(bytes(8) + W.tobytes())
    unusual_onnx.external(m, 0, location="w.bin", offset="008", length=f"{W.nbytes:010d}")


@case
def the_folder_has_an_odd_name(folder: Path) -> Made:
    inner = folder / "größe %20 \n'$(x)' –"
    inner.mkdir()
    model = unusual_onnx.linear()
    (inner / "w.bin").write_bytes(W.tobytes())
    unusual_onnx.external(model, 0, location="w.bin")
    path = inner / "net (1).v2.onnx"
    path.write_bytes(model.SerializeToString())
    return Made([path], WANTED, X)


@case
def the_name_is_no_utf_8(folder: Path) -> Made:
    path = folder / os.fsdecode(b"net\xff.onnx")
    path.write_bytes(unusual_onnx.linear().SerializeToString())
    return Made([path], WANTED, X)


@onnx_case
def two_sparse_constants(m: onnx.ModelProto, _: Path) -> np.ndarray:
    """Alike but for their values, which lie beside the graph: no pass may take one for the other."""
    for name, value, place in (("k1", 2.0, 1), ("k2", 5.0, 3)):
        values = numpy_helper.from_array(np.array([value], np.float32), "")
        sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(np.array([place]), ""), [4])
        m.graph.node.append(helper.make_node("Constant", [], [name], sparse_value=sparse))
    m.graph.node.append(helper.make_node("Add", ["y", "k1"], ["z1"]))
    m.graph.node.append(helper.make_node("Mul", ["z1", "k2"], ["z"]))
    m.graph.output[0].CopyFrom(info("z", ["N", 4]))
    return (WANTED + np.array([0, 2, 0, 0])) * np.array([0, 0, 0, 5])
