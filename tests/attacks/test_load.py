"""Many conversions in one process: memory and descriptors stay flat, threads and processes do not meet."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import netferry
from netferry.errors import NetferryError
from tests.fuzz.targets import CFG, keras_architecture, keras_sequence

ROOT = Path(__file__).resolve().parents[2]
DIGITS = (ROOT / "fixtures/digits.prototxt", ROOT / "fixtures/digits.caffemodel")


def sources(folder: Path) -> list[tuple[Path, ...]]:
    """Good and bad files of all formats."""
    made: dict[str, bytes] = {
        "a.json": json.dumps(keras_architecture()).encode(),
        "b.json": json.dumps(keras_sequence()).encode(),
        "n.cfg": CFG.replace(b"\n[route]\nlayers=-1,-2\n", b""),
        "bad.prototxt": b"layer {",
        "bad.json": b'{"class_name": "Sequential"',
        "bad.onnx": b"\x08\x0a\xff\xff",
        "bad.h5": b"\x89HDF\r\n\x1a\n" + bytes(100),
        "bad.keras": b"PK\x03\x04" + bytes(100),
    }
    folder.mkdir()
    for name, content in made.items():
        (folder / name).write_bytes(content)
    netferry.convert(DIGITS[0], folder / "d.onnx", DIGITS[1], check="structure")
    return [DIGITS, *((folder / name,) for name in made), (folder / "d.onnx",)]


def convert(files: tuple[Path, ...], target: Path) -> str:
    """Convert; returns the hash of what was written, or the error."""
    try:
        netferry.convert(files[0], target, *files[1:], init=0, check="structure")
    except NetferryError as error:
        return str(error)
    return hashlib.sha256(target.read_bytes()).hexdigest()


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


ROUNDS = [pytest.param(6, id="60-conversions"), pytest.param(50, id="500-conversions", marks=pytest.mark.slow)]


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is told by /proc")
@pytest.mark.parametrize("rounds", ROUNDS)
def test_soak(tmp_path: Path, rounds: int) -> None:
    files = sources(tmp_path / "in")
    wanted = [convert(f, tmp_path / "o.onnx") for f in files]
    for _ in range(2):
        for f in files:
            convert(f, tmp_path / "o.onnx")
    gc.collect()
    memory, held = resident(), descriptors()
    for _ in range(rounds):
        assert [convert(f, tmp_path / "o.onnx") for f in files] == wanted
    gc.collect()
    assert descriptors() == held
    assert resident() - memory < (4 << 20) + rounds * (1 << 18)  # allocators keep some; a leaked network would show


THREADS = [pytest.param(4, 3, id="4-by-3"), pytest.param(8, 50, id="8-by-50", marks=pytest.mark.slow)]


@pytest.mark.parametrize(("threads", "each"), THREADS)
def test_threads_get_the_bytes_of_a_lone_run(tmp_path: Path, threads: int, each: int) -> None:
    files = sources(tmp_path / "in")
    wanted = [convert(f, tmp_path / "o.onnx") for f in files]

    def work(n: int) -> list[tuple[int, str]]:
        chosen = [(n + k) % len(files) for k in range(each)]
        return [(i, convert(files[i], tmp_path / f"{n}-{k}.onnx")) for k, i in enumerate(chosen)]

    with ThreadPoolExecutor(threads) as pool:
        done = [pair for pairs in pool.map(work, range(threads)) for pair in pairs]
    assert len(done) == threads * each
    assert all(said == wanted[i] for i, said in done)


def _together(count: int, target: Callable[[int], Path]) -> list[int]:
    command = [sys.executable, "-m", "netferry", "convert", *map(str, DIGITS), "--check", "structure", "-o"]
    started = [
        subprocess.Popen([*command, str(target(n))], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for n in range(count)
    ]
    return [p.wait(120) for p in started]


@pytest.mark.parametrize("count", [pytest.param(3, id="3"), pytest.param(16, id="16", marks=pytest.mark.slow)])
@pytest.mark.parametrize("same", [True, False], ids=["one-target", "own-targets"])
def test_processes_do_not_meet(tmp_path: Path, count: int, same: bool) -> None:
    netferry.convert(DIGITS[0], tmp_path / "lone.onnx", DIGITS[1], check="structure")
    folder = tmp_path / "out"
    assert set(_together(count, lambda n: folder / ("o.onnx" if same else f"{n}.onnx"))) == {0}
    made = sorted(folder.iterdir())
    assert len(made) == (1 if same else count)
    for path in made:
        assert path.read_bytes() == (tmp_path / "lone.onnx").read_bytes()


VARIED = {"PYTHONHASHSEED": "7", "LC_ALL": "C", "LANG": "tr_TR.UTF-8", "TZ": "Pacific/Apia"}


def test_the_same_bytes_whatever_the_surroundings(tmp_path: Path) -> None:
    hashes: set[str] = set()
    for n, change in enumerate([{}, VARIED]):
        folder = tmp_path / ("a" if n == 0 else "another folder, ünï")
        folder.mkdir()
        command = [sys.executable, "-m", "netferry", "convert", *map(str, DIGITS), "-o", str(folder / "o.onnx")]
        env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0", **change}
        subprocess.run([*command, "--check", "structure"], cwd=folder, env=env, check=True, capture_output=True)
        hashes.add(hashlib.sha256((folder / "o.onnx").read_bytes()).hexdigest())
    assert len(hashes) == 1
