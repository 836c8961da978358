"""More unusual but valid files: each case makes its files, what they are fed with, and what an oracle expects."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.attacks import unusual_caffe, unusual_darknet, unusual_keras, unusual_onnx
from tests.converters.caffe.caffemodel_writer import blob, message, text, varint

W, B, X, WANTED = unusual_onnx.W, unusual_onnx.B, unusual_onnx.X, unusual_onnx.WANTED
info = unusual_onnx.info


@dataclass
class Made:
    """Files as ``convert`` takes them, what the first input is fed with, and what the first output should be."""

    files: list[Path]
    wanted: np.ndarray
    x: np.ndarray
    tolerance: float = 1e-5


CASES: dict[str, Callable[[Path], Made]] = {}


def case(function: Callable[[Path], Made]) -> Callable[[Path], Made]:
    """Register a case under its function's name."""
    CASES[function.__name__.replace("_", "-")] = function
    return function


def onnx_case(change: Callable[[onnx.ModelProto, Path], np.ndarray | None]) -> Callable[..., Any]:
    """Register the linear network of unusual_onnx, changed."""

    def make(folder: Path) -> Made:
        model = unusual_onnx.linear()
        wanted = change(model, folder)
        path = folder / "net.onnx"
        if not path.exists():
            path.write_bytes(model.SerializeToString())
        # onnxruntime rounds what enters a product with four-bit weights
        return Made([path], WANTED if wanted is None else wanted, X, 2e-3 if "int4" in change.__name__ else 1e-5)

    CASES[f"onnx-{change.__name__.replace('_', '-')}"] = make
    return change


# ONNX: the bytes -----------------------------------------------------------------------------------------------------


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


# ONNX: types ---------------------------------------------------------------------------------------------------------


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


# ONNX: structure -----------------------------------------------------------------------------------------------------


@onnx_case
def a_loop(m: onnx.ModelProto, _: Path) -> np.ndarray:
    """relu(x @ W + b) is doubled three times by a Loop whose body names an outer value."""
    body = helper.make_graph(
        [helper.make_node("Add", ["v", "v"], ["v2"]), helper.make_node("Identity", ["more"], ["more2"])],
        "body",
        [info("i", [], TensorProto.INT64), info("more", [], TensorProto.BOOL), info("v", None)],
        [info("more2", [], TensorProto.BOOL), info("v2", None)],
    )
    m.graph.initializer.append(numpy_helper.from_array(np.array(3), "times"))
    m.graph.node.append(helper.make_node("Loop", ["times", "", "y"], ["z"], body=body))
    m.graph.output[0].CopyFrom(info("z", ["N", 4]))
    return 8 * WANTED


@onnx_case
def branches_within_branches(m: onnx.ModelProto, _: Path) -> None:
    node = helper.make_node("Relu", ["s"], ["r0"])
    for i in range(1, 6):
        then = helper.make_graph([node], f"t{i}", [], [info(f"r{i - 1}", None)])
        other = helper.make_graph([helper.make_node("Neg", ["s"], [f"n{i}"])], f"e{i}", [], [info(f"n{i}", None)])
        node = helper.make_node("If", ["c"], ["y" if i == 5 else f"r{i}"], then_branch=then, else_branch=other)
    m.graph.initializer.append(numpy_helper.from_array(np.array(True), "c"))
    m.graph.node[2].CopyFrom(node)


@onnx_case
def a_branch_with_weights_of_its_own(m: onnx.ModelProto, folder: Path) -> np.ndarray:
    """An initializer of a subgraph, in another file."""
    (folder / "w.bin").write_bytes(bytes(100) + (2 * B).tobytes())
    tensor = TensorProto(name="b2", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "w.bin"), ("offset", "100"), ("length", "16")):
        tensor.external_data.add(key=key, value=value)
    then = helper.make_graph([helper.make_node("Add", ["h", "b2"], ["t"])], "t", [], [info("t", None)], [tensor])
    other = helper.make_graph([helper.make_node("Neg", ["h"], ["e"])], "e", [], [info("e", None)])
    m.graph.input.append(info("idle", [1]))
    m.graph.node.insert(1, helper.make_node("Less", ["idle", "one"], ["c"]))
    m.graph.initializer.append(numpy_helper.from_array(np.ones(1, np.float32), "one"))
    m.graph.node[2].CopyFrom(helper.make_node("If", ["c"], ["s"], then_branch=then, else_branch=other))
    return np.maximum(X @ W + 2 * B, 0)


@onnx_case
def functions_with_settings(m: onnx.ModelProto, _: Path) -> np.ndarray:
    """A function with a given and a defaulted attribute, of another opset than the model's."""
    leaky = helper.make_node("LeakyRelu", ["a"], ["t"])
    leaky.attribute.add(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT)
    scaled = helper.make_node("Constant", [], ["k"])
    scaled.attribute.add(name="value_float", ref_attr_name="scale", type=onnx.AttributeProto.FLOAT)
    function = helper.make_function(
        "own", "f", ["a"], ["c"], [leaky, scaled, helper.make_node("Mul", ["t", "k"], ["c"])],
        [helper.make_opsetid("", 16)], ["slope"], [helper.make_attribute("scale", 2.0)],
    )  # fmt: skip
    m.functions.append(function)
    m.opset_import.append(helper.make_opsetid("own", 1))
    m.graph.node[2].CopyFrom(helper.make_node("f", ["s"], ["y"], domain="own", slope=0.5))
    s = X @ W + B
    return 2 * np.where(s > 0, s, 0.5 * s)


@onnx_case
def a_function_with_inputs_left_out(m: onnx.ModelProto, _: Path) -> np.ndarray:
    clip = helper.make_node("Clip", ["a", "low", "high"], ["c"])
    m.functions.append(
        helper.make_function("own", "f", ["a", "low", "high"], ["c"], [clip], [helper.make_opsetid("", 17)])
    )
    m.opset_import.append(helper.make_opsetid("own", 1))
    m.graph.initializer.append(numpy_helper.from_array(np.array(0, np.float32), "zero"))
    m.graph.node[2].CopyFrom(helper.make_node("f", ["s", "zero"], ["y"], domain="own"))
    return WANTED


@onnx_case
def a_sequence_on_the_way(m: onnx.ModelProto, _: Path) -> None:
    m.graph.node[2].output[0] = "r"
    m.graph.initializer.append(numpy_helper.from_array(np.array(-1), "last"))
    m.graph.node.append(helper.make_node("SequenceConstruct", ["s", "r"], ["both"]))
    m.graph.node.append(helper.make_node("SequenceAt", ["both", "last"], ["y"]))


@onnx_case
def operators_of_onnxruntime(m: onnx.ModelProto, _: Path) -> np.ndarray:
    m.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    m.graph.node[2].CopyFrom(helper.make_node("QuickGelu", ["s"], ["y"], domain="com.microsoft", alpha=1.5))
    s = X @ W + B
    return s / (1 + np.exp(-1.5 * s))


@onnx_case
def weights_that_nobody_multiplied(m: onnx.ModelProto, _: Path) -> np.ndarray:
    """Constants computed from constants: the weight is a transposed product."""
    q, r = np.linalg.qr(W.astype(np.float64))
    del m.graph.initializer[0]
    m.graph.initializer.extend(
        [numpy_helper.from_array(q.T.astype(np.float32), "q"), numpy_helper.from_array(r.astype(np.float32), "r")]
    )
    m.graph.node.insert(0, helper.make_node("Transpose", ["q"], ["qt"], perm=[1, 0]))
    m.graph.node.insert(1, helper.make_node("MatMul", ["qt", "r"], ["w"]))
    return WANTED


# ONNX: data in other files -------------------------------------------------------------------------------------------


@onnx_case
def external_beyond_four_gigabytes(m: onnx.ModelProto, folder: Path) -> None:
    """A file with a hole: what is read lies behind 5 GB of nothing."""
    with (folder / "w.bin").open("wb") as file:
        file.seek(5 << 30)
        file.write(W.tobytes())
    unusual_onnx._external(m, 0, location="w.bin", offset=5 << 30, length=W.nbytes)


@onnx_case
def external_through_a_link_beside(m: onnx.ModelProto, folder: Path) -> None:
    (folder / "real.bin").write_bytes(W.tobytes())
    (folder / "w.bin").symlink_to("real.bin")
    unusual_onnx._external(m, 0, location="w.bin")


@onnx_case
def external_numbers_with_zeros_in_front(m: onnx.ModelProto, folder: Path) -> None:
    (folder / "w.bin").write_bytes(bytes(8) + W.tobytes())
    unusual_onnx._external(m, 0, location="w.bin", offset="008", length=f"{W.nbytes:010d}")


@case
def the_folder_has_an_odd_name(folder: Path) -> Made:
    inner = folder / "größe %20 \n'$(x)' –"
    inner.mkdir()
    model = unusual_onnx.linear()
    (inner / "w.bin").write_bytes(W.tobytes())
    unusual_onnx._external(model, 0, location="w.bin")
    path = inner / "net (1).v2.onnx"
    path.write_bytes(model.SerializeToString())
    return Made([path], WANTED, X)


@case
def the_name_is_no_utf_8(folder: Path) -> Made:
    path = folder / os.fsdecode(b"net\xff.onnx")
    path.write_bytes(unusual_onnx.linear().SerializeToString())
    return Made([path], WANTED, X)


# files under names of another format ---------------------------------------------------------------------------------


def renamed(name: str, make: Callable[[Path], tuple[list[Path], np.ndarray]], x: np.ndarray, *suffixes: str) -> None:
    def moved(folder: Path) -> Made:
        files, wanted = make(folder)
        return Made(
            [f.rename(folder / f"net-{i}{s}") for i, (f, s) in enumerate(zip(files, suffixes, strict=True))], wanted, x
        )

    CASES[name] = moved


def _plain(folder: Path) -> tuple[list[Path], np.ndarray]:
    (folder / "net.onnx").write_bytes(unusual_onnx.linear().SerializeToString())
    return [folder / "net.onnx"], WANTED


KX = unusual_keras.X
renamed("onnx-called-h5", _plain, X, ".h5")
renamed("onnx-called-pb", _plain, X, ".pb")
renamed("onnx-without-an-ending", _plain, X, "")
renamed("hdf5-called-onnx", unusual_keras.CASES["plain"], KX, ".onnx")
renamed("hdf5-called-keras", unusual_keras.CASES["plain"], KX, ".keras")
renamed("hdf5-called-weights", unusual_keras.CASES["plain"], KX, ".weights")
renamed("archive-called-h5", unusual_keras.CASES["archive"], KX, ".h5")
renamed("json-called-txt", unusual_keras.CASES["json-with-white-space-around"], KX, ".txt", ".bin")
renamed(
    "prototxt-called-txt", lambda folder: unusual_caffe.write("single-quotes", folder), unusual_caffe.X, ".txt", ".bin"
)
renamed(
    "cfg-called-txt", lambda folder: unusual_darknet.write("comments", folder), unusual_darknet.X, ".txt", ".weights"
)

# Keras ---------------------------------------------------------------------------------------------------------------


def keras_case(make: Callable[[Path], tuple[list[Path], np.ndarray]]) -> Callable[..., Any]:
    CASES[f"keras-{make.__name__.replace('_', '-')}"] = lambda folder: Made(*make(folder), KX)
    return make


KW, KB = unusual_keras.W, unusual_keras.B


def _changed(folder: Path, change: Callable[[h5py.Group], object]) -> list[Path]:
    path = unusual_keras.hdf5(folder / "net.h5")
    with h5py.File(path, "r+") as file:
        group = file["model_weights/d/d"]
        assert isinstance(group, h5py.Group)
        change(group)
    return [path]


@keras_case
def weights_in_long_doubles(folder: Path) -> tuple[list[Path], np.ndarray]:
    def change(group: h5py.Group) -> None:
        del group["kernel:0"]
        group["kernel:0"] = KW.astype(np.longdouble)

    return _changed(folder, change), unusual_keras.WANTED


@keras_case
def big_endian_gzip_shuffle_checksum(folder: Path) -> tuple[list[Path], np.ndarray]:
    def change(group: h5py.Group) -> None:
        del group["kernel:0"]
        group.create_dataset(
            "kernel:0", data=KW.astype(">f8"), chunks=(2, 3), compression="gzip", shuffle=True, fletcher32=True
        )

    return _changed(folder, change), unusual_keras.WANTED


@keras_case
def chunks_larger_than_the_array(folder: Path) -> tuple[list[Path], np.ndarray]:
    def change(group: h5py.Group) -> None:
        del group["kernel:0"]
        group.create_dataset("kernel:0", data=KW, chunks=(64, 64), maxshape=(None, None), compression="gzip")

    return _changed(folder, change), unusual_keras.WANTED


@keras_case
def layers_without_weights_beside(folder: Path) -> tuple[list[Path], np.ndarray]:
    """Groups with an empty weight_names, as Keras writes for Dropout and Flatten; layer_names in another order."""
    drop = {"class_name": "Dropout", "config": {"name": "drop", "rate": 0.5}}
    path = unusual_keras.hdf5(folder / "net.h5", unusual_keras.sequential(unusual_keras.dense(), drop))
    with h5py.File(path, "r+") as file:
        top = file["model_weights"]
        top.attrs["layer_names"] = [b"drop", b"d"]
        group = file.create_group("model_weights/drop")
        group.attrs["weight_names"] = np.array([], "S1")
    return [path], unusual_keras.WANTED


@keras_case
def one_layer_called_three_times(folder: Path) -> tuple[list[Path], np.ndarray]:
    """A square layer shared with itself: d(d(d(x))), of nodes 0, 1 and 2."""
    square = np.round(np.eye(3, dtype=np.float32) + 0.5, 1)
    zero = np.zeros(3, np.float32)
    calls = [[["a", 0, 0, {}]], [["d", 0, 0, {}]], [["d", 1, 0, {}]]]
    layer = {**unusual_keras.dense(units=3, activation="linear"), "name": "d", "inbound_nodes": calls}
    model = unusual_keras._functional([unusual_keras._input("a"), layer], [["a", 0, 0]], [["d", 2, 0]])
    path = unusual_keras.hdf5(folder / "net.h5", {**model, "keras_version": "2.11.0"}, arrays=(square, zero))
    return [path], KX @ square @ square @ square


@keras_case
def one_model_called_twice(folder: Path) -> tuple[list[Path], np.ndarray]:
    inner = unusual_keras._functional(
        [unusual_keras._input("in"), {**unusual_keras.dense(), "name": "d", "inbound_nodes": [[["in", 0, 0, {}]]]}],
        [["in", 0, 0]], [["d", 0, 0]], "inner",
    )  # fmt: skip
    nested = {**inner, "name": "inner", "inbound_nodes": [[["a", 0, 0, {}]], [["n", 0, 0, {}]]]}
    negate = {
        "class_name": "Activation",
        "name": "n",
        "config": {"name": "n", "activation": "relu"},
        "inbound_nodes": [[["a", 0, 0, {}]]],
    }
    subtract = {
        "class_name": "Subtract",
        "name": "s",
        "config": {"name": "s"},
        "inbound_nodes": [[["inner", 1, 0, {}], ["inner", 2, 0, {}]]],
    }
    model = unusual_keras._functional(
        [unusual_keras._input("a"), negate, nested, subtract], [["a", 0, 0]], [["s", 0, 0]]
    )
    path = folder / "net.h5"
    with h5py.File(path, "w") as file:
        file.attrs["model_config"], file.attrs["keras_version"] = json.dumps(model), "2.11.0"
        top = file.create_group("model_weights")
        top.attrs["layer_names"] = [b"inner"]
        group = top.create_group("inner")
        group.attrs["weight_names"] = [b"d/kernel:0", b"d/bias:0"]
        group["d/kernel:0"], group["d/bias:0"] = KW, KB
    dense = lambda x: np.maximum(x @ KW + KB, 0)  # noqa: E731
    return [path], dense(KX) - dense(np.maximum(KX, 0))


@keras_case
def archive_of_another_folder_s_names(folder: Path) -> tuple[list[Path], np.ndarray]:
    """Members with attributes of links and of Windows do not matter: nothing is extracted."""
    path = folder / "net.keras"
    with zipfile.ZipFile(path, "w") as out:
        for name, content in (("metadata.json", b'{"keras_version": "3.3.3"}'), ("config.json", json.dumps(unusual_keras.sequential()).encode()),
                              ("model.weights.h5", unusual_keras.weights_h5()), ("../outside.txt", b"x"), ("/etc/passwd", b"x"), ("a\\b", b"x")):  # fmt: skip
            out.writestr(name, content)
    return [path], unusual_keras.WANTED


@keras_case
def archive_with_weights_in_two_shards(folder: Path) -> tuple[list[Path], np.ndarray]:
    shards = []
    for i, array in enumerate((KW, KB)):
        content = io.BytesIO()
        with h5py.File(content, "w") as file:
            file[f"layers/dense/vars/{i}"] = array
        shards.append(content.getvalue())
    path = folder / "net.keras"
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("metadata.json", '{"keras_version": "3.10.0"}')
        out.writestr("config.json", json.dumps(unusual_keras.sequential()))
        index = {
            "metadata": {"total_size": 64},
            "weight_map": {"/layers/dense/vars": ["model_00000.weights.h5", "model_00001.weights.h5"]},
        }
        out.writestr("model.weights.json", json.dumps(index))
        for i, content in enumerate(shards):
            out.writestr(f"model_{i:05d}.weights.h5", content)
    return [path], unusual_keras.WANTED


@keras_case
def config_with_a_byte_order_mark_in_an_archive(folder: Path) -> tuple[list[Path], np.ndarray]:
    path = folder / "net.keras"
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("metadata.json", b'\xef\xbb\xbf{"keras_version": "3.3.3"}\r\n')
        out.writestr(
            "config.json",
            b"\xef\xbb\xbf" + json.dumps(unusual_keras.sequential(), indent="\t").replace("\n", "\r\n").encode(),
        )
        out.writestr("model.weights.h5", unusual_keras.weights_h5(chunks=True, fletcher32=True))
    return [path], unusual_keras.WANTED


# Caffe ---------------------------------------------------------------------------------------------------------------


def caffe_case(make: Callable[[], unusual_caffe.Files]) -> Callable[..., Any]:
    def written(folder: Path) -> Made:
        files = make()
        (folder / "net.prototxt").write_bytes(files.net or b"")
        (folder / "net.caffemodel").write_bytes(files.weights or b"")
        return Made([folder / "net.prototxt", folder / "net.caffemodel"], files.wanted, unusual_caffe.X)

    CASES[f"caffe-{make.__name__.replace('_', '-')}"] = written
    return make


_NET, CW, CB = unusual_caffe.NET, unusual_caffe.W, unusual_caffe.B


@caffe_case
def v1_and_v2_layers_in_one_net() -> unusual_caffe.Files:
    """Hand-merged nets; all their layers count, in the order of the two lists."""
    more = 'layers { name: "p" type: POWER bottom: "y" top: "z" power_param { scale: 2 } }'
    return unusual_caffe.Files(net=(_NET + more).encode(), wanted=2 * unusual_caffe.WANTED)


@caffe_case
def v1_and_v2_layers_in_one_weights_file() -> unusual_caffe.Files:
    v1 = text(4, "old") + varint(5 << 3) + varint(14) + message(6, unusual_caffe.legacy(CW))
    return unusual_caffe.Files(weights=message(2, v1) + unusual_caffe.stored())


@caffe_case
def shape_in_pieces() -> unusual_caffe.Files:
    """A packed field may come in several pieces, and one by one; so may the numbers."""
    dims = message(7, message(1, varint(4)) + varint(1 << 3) + varint(3))
    data = CW.tobytes()
    pieces = message(5, data[:20]) + message(5, data[20:44]) + b"\x2d" + data[44:]
    return unusual_caffe.Files(
        weights=message(100, text(1, "ip") + text(2, "InnerProduct") + message(7, dims + pieces) + message(7, blob(CB)))
    )


@caffe_case
def dims_longer_than_needed() -> unusual_caffe.Files:
    dims = message(7, message(1, b"\x84\x80\x00" + b"\x83\x80\x80\x00"))
    return unusual_caffe.Files(
        weights=message(
            100,
            text(1, "ip")
            + text(2, "InnerProduct")
            + message(7, dims + message(5, CW.tobytes()))
            + message(7, blob(CB)),
        )
    )


@caffe_case
def vertical_tabs_and_no_line_end() -> unusual_caffe.Files:
    return unusual_caffe.Files(net=_NET.rstrip().replace(" {", "\v{").replace(": ", ":\t").encode())


@caffe_case
def blobs_one_by_one_after_everything() -> unusual_caffe.Files:
    """The weights' fields in another order than Caffe's own writer has."""
    return unusual_caffe.Files(
        weights=message(100, message(7, blob(CW)) + message(7, blob(CB)) + text(2, "InnerProduct") + text(1, "ip"))
        + text(1, "net")
    )


@caffe_case
def inputs_of_mixed_kinds() -> unusual_caffe.Files:
    """An Input layer, and its shape in a nested message with comments between."""
    text_ = _NET.replace(
        'input: "x"\ninput_shape { dim: 1 dim: 3 }',
        'layer { name: "x" type: "Input" top: "x" input_param { # shape\n shape: { dim: 1 # batch\n dim: 3 } } }',
    )
    return unusual_caffe.Files(net=text_.encode())


@caffe_case
def include_and_exclude_rules() -> unusual_caffe.Files:
    more = (
        'layer { name: "a" type: "Power" bottom: "y" top: "y" power_param { scale: 3 } include { phase: TEST } }'
        'layer { name: "b" type: "Power" bottom: "y" top: "y" power_param { scale: 5 } exclude { phase: TEST } }'
        'layer { name: "c" type: "Power" bottom: "y" top: "y" power_param { scale: 7 } include { min_level: 1 } }'
        'layer { name: "d" type: "Power" bottom: "y" top: "y" power_param { scale: 11 } include { not_stage: "deploy" } }'
    )
    return unusual_caffe.Files(net=(_NET + more).encode(), wanted=33 * unusual_caffe.WANTED)
