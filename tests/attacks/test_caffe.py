"""Hostile and broken Caffe files: each ends in one typed error, in little time and memory, with nothing left behind."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import netferry
from netferry.errors import NetferryError
from tests.attacks.measured import measured
from tests.converters.caffe.test_wire import field, model, shape, varint

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
ROOT = FIXTURES.parent
HEAD = 'input: "data" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8\n'
BIG = 2**31 - 1


RELU = 'layer { name: "l" type: "ReLU" bottom: "data" top: "out" }'


def one(kind: str, settings: str = "", top: str = "out") -> str:
    return f'{HEAD}layer {{ name: "l" type: "{kind}" bottom: "data" top: "{top}" {settings} }}'


NETS: dict[str, tuple[str, int]] = {
    # name: (prototxt, exit code of the error)
    "empty": ("", 4),
    "only-space": ("  \n# nothing\n", 4),
    "solver": ("net: 'x' base_lr: 0.1", 4),
    "no-layers": (HEAD, 4),
    "binary-noise": ("\x00\x01\x02", 4),
    "unclosed": (HEAD + "layer {", 4),
    "deep": ("layer {" * 5000, 5),
    "long-number": (f"{HEAD} x: {'9' * 5000}", 5),
    "no-input-shape": ('layer { name: "d" type: "Input" top: "data" } layer { name: "r" type: "ReLU" bottom: "data" top: "o" }', 2),
    "no-such-bottom": (HEAD + 'layer { name: "l" type: "ReLU" bottom: "nothing" top: "o" }', 4),
    "two-inputs-of-one-name": (HEAD + 'layer { name: "d" type: "Input" top: "data" input_param { shape { dim: 1 } } } ' + RELU, 4),
    "input-dim-zero": (HEAD.replace("input_dim: 8", "input_dim: 0", 1) + RELU, 4),
    "input-dim-negative": (HEAD.replace("input_dim: 8", "input_dim: -1", 1) + RELU, 4),
    "input-dim-huge": (HEAD.replace("input_dim: 8", f"input_dim: {2**40}", 1) + RELU, 4),
    "many-axes": ('layer { name: "d" type: "Input" top: "data" input_param { shape { ' + "dim: 1 " * 40 + "} } }", 5),
    "product-huge": (one("InnerProduct", f"inner_product_param {{ num_output: {BIG} }}"), 8),
    "conv-huge": (one("Convolution", f"convolution_param {{ num_output: {BIG} kernel_size: 3 }}"), 5),
    "kernel-huge": (one("Convolution", f"convolution_param {{ num_output: 4 kernel_size: {BIG} }}"), 4),
    "pad-huge": (one("Convolution", f"convolution_param {{ num_output: 4 kernel_size: 3 pad: {BIG} }}"), 5),
    "stride-zero": (one("Convolution", "convolution_param { num_output: 4 kernel_size: 3 stride: 0 }"), 4),
    "group-zero": (one("Convolution", "convolution_param { num_output: 4 kernel_size: 3 group: 0 }"), 4),
    "group-uneven": (one("Convolution", "convolution_param { num_output: 4 kernel_size: 3 group: 2 }"), 4),
    "outputs-negative": (one("Convolution", "convolution_param { num_output: -4 kernel_size: 3 }"), 4),
    "kernel-missing": (one("Convolution", "convolution_param { num_output: 4 }"), 4),
    "pool-kernel-zero": (one("Pooling", "pooling_param { kernel_size: 0 }"), 4),
    "pool-method": (one("Pooling", "pooling_param { pool: WARP kernel_size: 2 }"), 7),
    "axis-out-of-range": (one("Softmax", "softmax_param { axis: 9 }"), 4),
    "slice-beyond": (one("Slice", 'slice_param { slice_point: 9 } top: "b"'), 4),
    "concat-axis": (one("Concat", "concat_param { axis: -9 }"), 4),
    "reshape-count": (one("Reshape", "reshape_param { shape { dim: 0 dim: 7 } }"), 4),
    "tile-huge": (one("Tile", f"tile_param {{ tiles: {BIG} }}"), 5),
    "dummy-huge": (HEAD + f'layer {{ name: "d" type: "DummyData" top: "o" dummy_data_param {{ shape {{ dim: {BIG} dim: {BIG} }} }} }}', 5),
    "parameter-huge": (HEAD + f'layer {{ name: "p" type: "Parameter" top: "o" parameter_param {{ shape {{ dim: {BIG} dim: 9 }} }} }}', 5),
    "include-and-exclude": (one("ReLU", "include { phase: TEST } exclude { phase: TRAIN }"), 4),
    "mean-outside": (
        'layer { name: "d" type: "Data" top: "data" transform_param { mean_file: "../../../etc/passwd" crop_size: 8 } } '
        + RELU, 6,
    ),
    "mean-nul": (
        'layer { name: "d" type: "Data" top: "data" transform_param { mean_file: "a\\000b" crop_size: 8 } } '
        + RELU, 6,
    ),
    "python": (one("Python", 'python_param { module: "os" layer: "system" param_str: "rm" }'), 7),
    "unknown-type": (one("Warp"), 7),
    "shared-weights-disagree": (
        HEAD + 'layer { name: "a" type: "InnerProduct" bottom: "data" top: "a" param { name: "w" } inner_product_param { num_output: 2 } } '
        'layer { name: "b" type: "InnerProduct" bottom: "a" top: "b" param { name: "w" } inner_product_param { num_output: 3 } }', 8,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NETS)
def test_nets(tmp_path: Path, name: str) -> None:
    text, code = NETS[name]
    path = tmp_path / "net.prototxt"
    path.write_bytes(text.encode())
    target = tmp_path / "out" / "net.onnx"
    started = time.process_time()
    with pytest.raises(NetferryError) as caught:
        netferry.convert(path, target, check="structure")
    assert caught.value.exit_code == code, str(caught.value)
    assert time.process_time() - started < 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.prototxt"]


DIGITS = (FIXTURES / "digits.caffemodel").read_bytes()
WEIGHTS: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "half": lambda: DIGITS[: len(DIGITS) // 2],
    "one-byte-short": lambda: DIGITS[:-1],
    "text": lambda: b"hello, this is no caffemodel at all\n",
    "zeros": lambda: bytes(4096),
    "ones": lambda: b"\xff" * 4096,
    "hdf5-signature-only": lambda: b"\x89HDF\r\n\x1a\n" + bytes(64),
    "endless-length": lambda: field(1, b"net") + varint(100 << 3 | 2) + b"\xff" * 9 + b"\x01",
    "blob-of-other-shape": lambda: field(100, field(1, b"conv1") + field(7, shape(8, 1, 5, 4) + field(5, bytes(640)))),
    "blob-claims-terabytes": lambda: field(100, field(1, b"conv1") + field(7, shape(2**20, 2**20) + field(5, b""))),
    "nested-groups": lambda: b"\x0b" * 4096,
    "no-layers": lambda: field(1, b"net"),
    "solver-state": lambda: varint(1 << 3) + b"\x05" + field(2, b"net.caffemodel"),
    "other-net": lambda: model(shape(1) + field(5, bytes(4))),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights(tmp_path: Path, name: str) -> None:
    (tmp_path / "w.caffemodel").write_bytes(WEIGHTS[name]())
    started = time.process_time()
    try:
        netferry.convert(
            FIXTURES / "digits.prototxt", tmp_path / "net.onnx", tmp_path / "w.caffemodel", check="structure"
        )
    except NetferryError as error:
        assert error.exit_code in (4, 5, 8), str(error)
        assert not (tmp_path / "net.onnx").exists()
    else:
        assert name == "other-net"  # layers that the net lacks are legal in Caffe; the fillers give the values
    assert time.process_time() - started < 2
    assert not list(tmp_path.glob(".netferry*"))


@pytest.mark.parametrize("kind", ["folder", "fifo", "missing", "link-to-itself"])
def test_things_that_are_no_files(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "net.prototxt"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "link-to-itself":
        path.symlink_to(path)
    with pytest.raises(NetferryError) as caught:
        netferry.convert(path, tmp_path / "net.onnx")
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("text", "code"),
    [
        pytest.param(one("InnerProduct", f"inner_product_param {{ num_output: {BIG} }}"), 8, id="num-output"),
        pytest.param("layer {" * 100000, 5, id="nesting"),
        pytest.param(one("ReLU").replace("ReLU", "\\033[31mred"), 7, id="terminal-sequence"),
    ],
)
def test_the_command_line_stays_small_and_polite(tmp_path: Path, text: str, code: int) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    command = [sys.executable, "-m", "netferry", "convert", str(path), "-o", str(tmp_path / "net.onnx")]
    returncode, err, cpu, peak = measured(*command)
    assert returncode == code, err
    assert cpu < 2
    assert peak < 200 << 20
    assert "Traceback" not in err
    assert "\x1b" not in err
    assert err.startswith("error: ")
    assert not (tmp_path / "net.onnx").exists()
