"""Promises of docs/security.md that are about whole runs: sources untouched, memory and time in step with the file."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import netferry
from tests.attacks import unusual_caffe, unusual_darknet, unusual_keras, unusual_onnx
from tests.attacks.measured import measured
from tests.converters.caffe.caffemodel_writer import caffemodel

SOURCES: dict[str, Callable[[Path], list[Path]]] = {
    "onnx": lambda folder: [unusual_onnx.write("external-with-offset", folder)[0]],
    "keras": lambda folder: unusual_keras.CASES["archive-deflated"](folder)[0],
    "caffe": lambda folder: unusual_caffe.write("v1-layers", folder)[0],
    "darknet": lambda folder: unusual_darknet.write("comments", folder)[0],
}


@pytest.mark.parametrize("name", SOURCES)
def test_inputs_in_a_read_only_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    source, *weights = SOURCES[name](folder)

    def state() -> dict[str, tuple[str, int]]:
        return {
            str(p): (hashlib.sha256(p.read_bytes()).hexdigest(), p.stat().st_mtime_ns)
            for p in sorted(folder.rglob("*")) if p.is_file()
        }  # fmt: skip

    before = state()
    folder.chmod(0o555)
    try:
        netferry.convert(source, tmp_path / "out" / "net.onnx", *weights)
        netferry.inspect(source, *weights)
    finally:
        folder.chmod(0o755)
    assert state() == before
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["net.onnx"]


def _onnx(folder: Path, megabytes: int) -> list[Path]:
    model = unusual_onnx.linear()
    size = megabytes * 250_000
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.ones((size, 4), np.float32)[: size // 4, :4], "b"))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    model.graph.output[0].type.tensor_type.shape.dim[0].Clear()
    (folder / "net.onnx").write_bytes(model.SerializeToString())
    return [folder / "net.onnx"]


def _hdf5(folder: Path, megabytes: int, **stored: Any) -> list[Path]:
    units = megabytes * 250_000 // 3
    arrays = (np.ones((3, units), np.float32), np.zeros(units, np.float32))
    rng = np.random.default_rng(0)
    arrays[0][:] = rng.standard_normal(arrays[0].shape)
    model = unusual_keras.sequential(unusual_keras.dense(units=units))
    return [unusual_keras.hdf5(folder / "net.h5", model, arrays=arrays, **stored)]


def _caffe(folder: Path, megabytes: int) -> list[Path]:
    outputs = megabytes * 250_000 // 4
    (folder / "net.prototxt").write_text(unusual_caffe.NET.replace("num_output: 4", f"num_output: {outputs}"))
    blobs = [np.ones((outputs, 3), np.float32), np.zeros(outputs, np.float32)]
    (folder / "net.caffemodel").write_bytes(caffemodel({"ip": ("InnerProduct", blobs)}))
    return [folder / "net.prototxt", folder / "net.caffemodel"]


LARGE: dict[str, Callable[[Path, int], list[Path]]] = {
    "onnx": _onnx,
    "hdf5": _hdf5,
    "hdf5-gzip": lambda folder, n: _hdf5(folder, n, compression="gzip", compression_opts=1),
    "caffe": _caffe,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_memory_grows_with_the_file(tmp_path: Path, name: str) -> None:
    peaks: list[int] = []
    sizes: list[int] = []
    for megabytes in (10, 60):
        folder = tmp_path / str(megabytes)
        folder.mkdir()
        files = LARGE[name](folder, megabytes)
        sizes.append(sum(f.stat().st_size for f in files))
        command = [sys.executable, "-m", "netferry", "convert", *map(str, files), "--check", "structure", "-o"]
        code, said, _, peak = measured(*command, str(tmp_path / "out.onnx"))
        assert code == 0, said
        peaks.append(peak)
    slope = (peaks[1] - peaks[0]) / (sizes[1] - sizes[0])
    assert slope < 3, (slope, peaks, sizes)


def _chain(count: int) -> list[onnx.NodeProto]:
    names = ["x", *(f"v{i}" for i in range(count - 1)), "y"]
    return [helper.make_node("Relu", [names[i]], [names[i + 1]]) for i in range(count)]


def _fan(count: int) -> list[onnx.NodeProto]:
    leaves = [helper.make_node("Relu", ["x"], [f"v{i}"]) for i in range(count - 1)]
    return [*leaves, helper.make_node("Sum", [n.output[0] for n in leaves], ["y"])]


def _diamonds(count: int) -> list[onnx.NodeProto]:
    nodes: list[onnx.NodeProto] = []
    at = "x"
    for i in range(count // 3):
        last = "y" if i == count // 3 - 1 else f"d{i}"
        nodes += [helper.make_node("Relu", [at], [f"a{i}"]), helper.make_node("Neg", [at], [f"b{i}"])]
        nodes.append(helper.make_node("Add", [f"a{i}", f"b{i}"], [last]))
        at = last
    return nodes


@pytest.mark.slow
@pytest.mark.parametrize("make", [_chain, _fan, _diamonds], ids=["chain", "fan-out", "diamonds"])
def test_time_grows_with_the_graph(tmp_path: Path, make: Callable[[int], list[onnx.NodeProto]]) -> None:
    spent: list[float] = []
    for count in (3000, 12_000):
        info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 3]) for n in "xy"]
        graph = helper.make_graph(make(count), "g", info[:1], info[1:])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        path = tmp_path / f"{count}.onnx"
        path.write_bytes(model.SerializeToString())
        times: list[float] = []
        for _ in range(2):
            started = time.process_time()
            netferry.convert(path, tmp_path / "out.onnx", check="structure")
            times.append(time.process_time() - started)
        spent.append(min(times))
    assert spent[1] / spent[0] < 2.5**2, spent  # two doublings: quadratic time would give 16
