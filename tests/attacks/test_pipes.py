"""Pipes, devices and folders in the place of files: one typed error at once, wherever a file is named."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import netferry
from netferry.errors import InputError, NetferryError, OutputError
from netferry.schemas.labels import read_labels
from netferry.schemas.opening import open_regular
from netferry.schemas.publish import write_whole

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "fixtures"
NET, WEIGHTS = FIXTURES / "digits.prototxt", FIXTURES / "digits.caffemodel"


@pytest.fixture(autouse=True)
def _never_for_long() -> Iterator[None]:
    """A reader that waits for a pipe is woken by an alarm, and the test fails."""

    def late(_number: int, _frame: Any) -> None:
        raise AssertionError("it waits for the pipe")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, 20)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def pipe(folder: Path, name: str) -> Path:
    os.mkfifo(folder / name)
    return folder / name


def device(folder: Path, name: str) -> Path:
    (folder / name).symlink_to("/dev/zero")
    return folder / name


def directory(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    return folder / name


def _converted(source: Path, *weights: Path, folder: Path, **options: Any) -> object:
    return netferry.convert(source, folder / "out.onnx", *weights, **options)


def _onnx(folder: Path) -> Path:
    netferry.convert(NET, folder / "net.onnx", WEIGHTS)
    return folder / "net.onnx"


PLACES: dict[str, tuple[str, Callable[[Path, Path], object]]] = {
    # place: (the file's name, what reads it)
    "prototxt": ("f.prototxt", lambda f, d: _converted(f, folder=d)),
    "caffemodel": ("f.caffemodel", lambda f, d: _converted(NET, f, folder=d)),
    "mean": ("f.binaryproto", lambda f, d: _converted(NET, WEIGHTS, folder=d, mean_file=f)),
    "labels": ("f.txt", lambda f, d: _converted(NET, WEIGHTS, folder=d, labels=f)),
    "labels of Darknet": ("f.data", lambda f, d: _converted(NET, WEIGHTS, folder=d, labels=f)),
    "plug-in": ("f.py", lambda f, d: _converted(NET, WEIGHTS, folder=d, plugins=[f])),
    "postprocess": ("f.npz", lambda f, d: _converted(NET, WEIGHTS, folder=d, postprocess=f)),
    "onnx": ("f.onnx", lambda f, d: _converted(f, folder=d)),
    "hdf5": ("f.h5", lambda f, d: _converted(f, folder=d)),
    "json": ("f.json", lambda f, d: _converted(f, folder=d)),
    "cfg": ("f.cfg", lambda f, d: _converted(f, folder=d)),
    "step": ("f.yaml", lambda f, _: netferry.run(f)),
    "scan": ("f.onnx", lambda f, _: netferry.scan(f)),
    "picture": ("f.png", lambda f, d: netferry.predict(_onnx(d), [f])),
    "list": ("f.txt", lambda f, _: list(netferry.open_data(f))),
    "csv": ("f.csv", lambda f, _: list(netferry.open_data(f))),
    "lines": ("f.jsonl", lambda f, _: list(netferry.open_data(f))),
    "tar": ("f.tar", lambda f, _: list(netferry.open_data(f))),
    "array": ("f.npy", lambda f, _: list(netferry.open_data(f))),
    "arrays": ("f.npz", lambda f, _: list(netferry.open_data(f))),
    "features": ("f.h5", lambda f, d: netferry.merge_features([f], d / "out.npz")),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("make", [pipe, device, directory])
def test_it_is_no_file(tmp_path: Path, place: str, make: Callable[[Path, str], Path]) -> None:
    name, read = PLACES[place]
    (tmp_path / "in").mkdir()
    file = make(tmp_path / "in", name)
    with pytest.raises(NetferryError) as caught:
        read(file, tmp_path)
    assert caught.value.exit_code > 1
    assert not list(tmp_path.glob("out*"))


def test_the_kind_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a regular file"):
        read_labels(pipe(tmp_path, "labels.txt"))
    with pytest.raises(InputError, match="folder"):
        open_regular(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        open_regular(tmp_path / "none")
    with pytest.raises(InputError, match="null"):
        open_regular("a\0b")


@pytest.mark.parametrize("make", [pipe, device, directory])
def test_what_is_no_file_is_not_written_over(tmp_path: Path, make: Callable[[Path, str], Path]) -> None:
    """As root a rename would put a file in the place of /dev/null, for all programs."""
    place = make(tmp_path, "out.json")
    kind = os.stat(place).st_mode
    with pytest.raises(OutputError):
        write_whole(place, "{}")
    with pytest.raises(OutputError):  # before the network is written
        netferry.convert(NET, tmp_path / "out.onnx", WEIGHTS, report=place)
    assert stat.S_IFMT(os.stat(place).st_mode) == stat.S_IFMT(kind)
    assert not (tmp_path / "out.onnx").exists()


def test_a_picture_of_a_list_may_be_a_pipe(tmp_path: Path) -> None:
    pipe(tmp_path, "p.png")
    (tmp_path / "list.txt").write_text("p.png\n")
    with pytest.raises(InputError, match="not a regular file"):
        netferry.predict(_onnx(tmp_path), [tmp_path / "list.txt"])


def test_nothing_is_left_where_nothing_was_done(tmp_path: Path) -> None:
    """Features of data that cannot be read, a page of a network that cannot be read."""
    net = tmp_path / "digits.onnx"
    netferry.convert(NET, net, WEIGHTS)
    (tmp_path / "broken.csv").write_text("path\nnone.png\n")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(NetferryError):
        netferry.features(net, [tmp_path / "broken.csv"], tmp_path / "f.npz", layers=["ip1"])
    assert sorted(tmp_path.iterdir()) == before


def test_only_the_output_is_written_wherever_one_looks(tmp_path: Path) -> None:
    """No library keeps anything in the home or the temporary folder: onnxruntime would, and tell its maker."""
    for name in ("home", "tmp", "out"):
        (tmp_path / name).mkdir()
    env = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY" and not k.startswith("XDG_")}
    env |= {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "tmp"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "netferry", "convert", str(NET), str(WEIGHTS), "-o", str(tmp_path / "out/n.onnx")]
    subprocess.run(command, cwd=tmp_path, env=env, check=True, capture_output=True)
    command[3:] = ["view", str(tmp_path / "none.onnx"), "--page", "--no-browse"]
    assert subprocess.run(command, cwd=tmp_path, env=env, check=False, capture_output=True).returncode == 3
    files = [str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()]
    assert files == ["out/n.onnx"]
