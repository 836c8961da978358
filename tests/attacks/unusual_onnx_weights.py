"""Unusual but valid ONNX files: how numbers are kept, and in which files."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.attacks.unusual_linear import B, W, X, case, external, weight_of_type

# how numbers are kept -------------------------------------------------------------------------------------------------


@case
def typed_fields(m: onnx.ModelProto, _: Path) -> None:
    m.graph.initializer[0].CopyFrom(helper.make_tensor("w", TensorProto.FLOAT, W.shape, W.ravel()))


@case
def float16_in_int32_data(m: onnx.ModelProto, _: Path) -> np.ndarray:
    half = W.astype(np.float16)
    tensor = helper.make_tensor("w0", TensorProto.FLOAT16, W.shape, half.ravel())
    assert len(tensor.int32_data) == 12
    wanted = weight_of_type(m, half)
    m.graph.initializer[0].CopyFrom(tensor)
    return wanted


@case
def float16_raw(m: onnx.ModelProto, _: Path) -> np.ndarray:
    return weight_of_type(m, W.astype(np.float16))


@case
def bfloat16_raw(m: onnx.ModelProto, _: Path) -> np.ndarray:
    return weight_of_type(m, W.astype(ml_dtypes.bfloat16))


@case
def double_raw(m: onnx.ModelProto, _: Path) -> np.ndarray:
    return weight_of_type(m, W.astype(np.float64))


@case
def int8_raw(m: onnx.ModelProto, _: Path) -> np.ndarray:
    return weight_of_type(m, (W * 10).astype(np.int8))


@case
def int8_in_int32_data(m: onnx.ModelProto, _: Path) -> np.ndarray:
    small = (W * 10).astype(np.int8)
    wanted = weight_of_type(m, small)
    m.graph.initializer[0].CopyFrom(helper.make_tensor("w0", TensorProto.INT8, W.shape, small.ravel()))
    return wanted


@case
def bool_weights(m: onnx.ModelProto, _: Path) -> np.ndarray:
    return weight_of_type(m, W > 0)


@case
def uint64_weights(m: onnx.ModelProto, _: Path) -> np.ndarray:
    return weight_of_type(m, np.abs(W * 10).astype(np.uint64))


@case
def quantized_weight(m: onnx.ModelProto, _: Path) -> np.ndarray:
    small, scale = np.clip(np.round(W * 40), -127, 127).astype(np.int8), np.array(1 / 40, np.float32)
    m.graph.initializer[0].CopyFrom(numpy_helper.from_array(small, "w0"))
    m.graph.initializer.extend(
        [numpy_helper.from_array(scale, "scale"), numpy_helper.from_array(np.array(0, np.int8), "zero")]
    )
    m.graph.node.insert(0, helper.make_node("DequantizeLinear", ["w0", "scale", "zero"], ["w"]))
    return np.maximum(X @ (small * scale) + B, 0)


@case
def scalar_initializer(m: onnx.ModelProto, _: Path) -> np.ndarray:
    m.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.array(2, np.float32), "b"))
    return np.maximum(X @ W + 2, 0)


@case
def empty_raw_data_of_an_empty_tensor(m: onnx.ModelProto, _: Path) -> None:
    m.graph.initializer.append(numpy_helper.from_array(np.zeros((0, 4), np.float32), "none"))
    m.graph.node.insert(2, helper.make_node("Concat", ["s", "none"], ["s2"], axis=0))
    m.graph.node[3].input[0] = "s2"


@case
def constants_of_every_attribute(m: onnx.ModelProto, _: Path) -> None:
    del m.graph.initializer[:]
    nodes = [
        helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(W)),
        helper.make_node("Constant", [], ["b"], value_floats=B.tolist()),
        helper.make_node("Constant", [], ["one"], value_float=1.0),
        helper.make_node("Constant", [], ["i"], value_int=1),
        helper.make_node("Constant", [], ["is"], value_ints=[1, 2]),
        helper.make_node("Constant", [], ["text"], value_string="é"),
    ]
    for i, node in enumerate(nodes):
        m.graph.node.insert(i, node)


@case
def sparse_initializer(m: onnx.ModelProto, _: Path) -> np.ndarray:
    del m.graph.initializer[0]
    values = numpy_helper.from_array(np.array([2, -1], np.float32), "w")
    at = numpy_helper.from_array(np.array([1, 6], np.int64), "w_at")
    m.graph.sparse_initializer.append(helper.make_sparse_tensor(values, at, [3, 4]))
    dense = np.zeros(12, np.float32)
    dense[[1, 6]] = 2, -1
    return np.maximum(X @ dense.reshape(3, 4) + B, 0)


@case
def nan_and_infinity(m: onnx.ModelProto, _: Path) -> np.ndarray:
    bias = np.array([np.nan, np.inf, 0, 0], np.float32)
    m.graph.initializer[1].CopyFrom(numpy_helper.from_array(bias, "b"))
    return np.where(np.isnan(bias), np.nan, np.maximum(X @ W + bias, 0))


@case
def denormal_and_negative_zero(m: onnx.ModelProto, _: Path) -> np.ndarray:
    m.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.array([1e-42, -0.0, 0, 1], np.float32), "b"))
    return np.maximum(X @ W + np.array([0, 0, 0, 1], np.float32), 0)


# data in other files --------------------------------------------------------------------------------------------------


@case
def external_with_offset(m: onnx.ModelProto, folder: Path) -> None:
    (folder / "w.bin").write_bytes(b"\xff" * 4096 + W.tobytes() + B.tobytes())
    external(m, 0, location="w.bin", offset=4096, length=W.nbytes)
    external(m, 1, location="w.bin", offset=4096 + W.nbytes, length=B.nbytes)


@case
def external_up_to_the_end_without_length(m: onnx.ModelProto, folder: Path) -> None:
    (folder / "w.bin").write_bytes(bytes(7) + W.tobytes())
    external(m, 0, location="w.bin", offset=7)


@case
def external_without_offset(m: onnx.ModelProto, folder: Path) -> None:
    (folder / "w.bin").write_bytes(W.tobytes())
    external(m, 0, location="w.bin")


@case
def external_with_dot(m: onnx.ModelProto, folder: Path) -> None:
    (folder / "w.bin").write_bytes(W.tobytes())
    external(m, 0, location="./w.bin", offset=0, length=W.nbytes)


@case
def external_in_folders(m: onnx.ModelProto, folder: Path) -> None:
    (folder / "sub" / "dir").mkdir(parents=True)
    (folder / "sub/dir/w.bin").write_bytes(W.tobytes())
    external(m, 0, location="sub//dir/w.bin", offset=0, length=W.nbytes)


@case
def external_of_a_name_with_spaces(m: onnx.ModelProto, folder: Path) -> None:
    (folder / "gewichte für ü.bin").write_bytes(W.tobytes())
    external(m, 0, location="gewichte für ü.bin")


@case
def external_with_checksum_and_more(m: onnx.ModelProto, folder: Path) -> None:
    (folder / "w.bin").write_bytes(W.tobytes())
    external(m, 0, location="w.bin", checksum="0" * 40, basepath="", theirs="kept")


@case
def external_regions_shared(m: onnx.ModelProto, folder: Path) -> np.ndarray:
    (folder / "w.bin").write_bytes(W.tobytes())
    external(m, 0, location="w.bin", offset=0, length=W.nbytes)
    external(m, 1, location="w.bin", offset=0, length=16)
    return np.maximum(X @ W + W[0], 0)


@case
def external_and_empty(m: onnx.ModelProto, folder: Path) -> None:
    (folder / "w.bin").write_bytes(W.tobytes())
    empty_raw_data_of_an_empty_tensor(m, folder)
    external(m, 0, location="w.bin")
    external(m, 2, location="w.bin", offset=W.nbytes, length=0)


@case
def external_in_a_constant(m: onnx.ModelProto, folder: Path) -> None:
    (folder / "w.bin").write_bytes(W.tobytes())
    external(m, 0, location="w.bin")
    tensor = TensorProto()
    tensor.CopyFrom(m.graph.initializer[0])
    del m.graph.initializer[0]
    m.graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=tensor))
