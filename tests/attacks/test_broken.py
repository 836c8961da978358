"""Broken and hostile files of every format: one typed error each, in little time and memory, nothing left behind."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

import netferry
from netferry.errors import NetferryError
from netferry.sandbox import available
from tests.attacks import broken, unusual_caffe, unusual_darknet, unusual_keras, unusual_more, unusual_onnx
from tests.attacks.measured import measured

CASES = broken.CASES
NATIVE = {name for name in CASES if "flip" in name}
"""these crash HDF5 itself, or send it round in circles: only the sandbox makes errors of them"""
SECONDS, BYTES = 2, 300 << 20
UNUSUAL = {
    **{f"onnx-{name}": lambda folder, name=name: [unusual_onnx.write(name, folder)[0]] for name in unusual_onnx.CASES},
    **{f"caffe-{name}": lambda folder, name=name: unusual_caffe.write(name, folder)[0] for name in unusual_caffe.CASES},
    **{f"keras-{name}": lambda folder, make=make: make(folder)[0] for name, make in unusual_keras.CASES.items()},
    **{f"more-{name}": lambda folder, make=make: make(folder).files for name, make in unusual_more.CASES.items()},
    **{f"darknet-{n}": lambda folder, n=n: unusual_darknet.write(n, folder)[0] for n in unusual_darknet.CASES},
}


def filled(name: str, *weights: Path) -> int | None:
    """The seed for parameters without values: where there are no weights, the structure must be what is refused."""
    return 0 if not weights and not name.startswith("keras-h5-weights") else None


@pytest.mark.parametrize("name", [name for name in CASES if name not in NATIVE])
@pytest.mark.parametrize("verb", [netferry.inspect, netferry.scan])
def test_looking_at_it_is_a_typed_error_or_a_finding(tmp_path: Path, name: str, verb: Callable[..., object]) -> None:
    source, *weights = CASES[name](tmp_path)
    there = sorted(tmp_path.iterdir())
    started = time.process_time()
    with suppress(NetferryError):
        verb(source, *weights)
    assert time.process_time() - started < SECONDS
    assert sorted(tmp_path.iterdir()) == there


@pytest.mark.parametrize("name", CASES)
def test_one_typed_error(tmp_path: Path, name: str) -> None:
    if name in NATIVE and not available():
        pytest.skip("processes cannot be forked here")
    source, *weights = CASES[name](tmp_path)
    there = sorted(tmp_path.iterdir())
    started = time.process_time()
    target = tmp_path / "out" / "net.onnx"
    with pytest.raises(NetferryError) as caught:
        netferry.convert(source, target, *weights, sandbox=name in NATIVE, init=filled(name, *weights))
    assert time.process_time() - started < SECONDS
    assert caught.value.exit_code > 1, str(caught.value)
    assert "internal" not in str(caught.value)
    assert sorted(tmp_path.iterdir()) == there


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_command_line_refuses(tmp_path: Path, name: str) -> None:
    files = CASES[name](tmp_path)
    there = sorted(tmp_path.iterdir())
    command = [sys.executable, "-m", "netferry", "convert", *map(str, files), "-o", str(tmp_path / "net.onnx")]
    if filled(name, *files[1:]) is not None:
        command += ["--init", "0"]
    code, said, cpu, peak = measured(*command)
    assert 2 <= code <= 12, said
    assert said.startswith("error: ")
    assert "Traceback" not in said
    assert sorted(tmp_path.iterdir()) == there
    assert (cpu < SECONDS, peak < BYTES) == (True, True), (cpu, peak)


@pytest.mark.slow
@pytest.mark.parametrize("name", UNUSUAL)
def test_the_command_line_converts(tmp_path: Path, name: str) -> None:
    files = UNUSUAL[name](tmp_path)
    command = [sys.executable, "-m", "netferry", "convert", *map(str, files), "-o", str(tmp_path / "out.onnx")]
    code, said, _, _ = measured(*command)
    assert code == 0, said
    assert "Traceback" not in said
    assert (tmp_path / "out.onnx").exists()
