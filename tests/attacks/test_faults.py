"""Disks that fail: one typed error, nothing at the target, nothing beside it, and a second try succeeds."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import netferry
from netferry.errors import NetferryError, OutputError

ROOT = Path(__file__).resolve().parents[2]
PROTOTXT, CAFFEMODEL = ROOT / "fixtures/digits.prototxt", ROOT / "fixtures/digits.caffemodel"
_CALLS = ("write", "pwrite", "writev", "copy_file_range", "sendfile", "fsync", "replace", "mkdir", "posix_fallocate")


class Disk:
    """Counts what changes a folder, and fails at the ``k``-th such call."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path, k: int, code: int) -> None:
        self.k, self.code, self.count, self.folder = k, code, 0, str(folder)
        for name in _CALLS:
            if hasattr(os, name):
                monkeypatch.setattr(os, name, self._counted(getattr(os, name)))
        opened = os.open

        def _open(path: Any, flags: int, *rest: Any, **more: Any) -> int:
            if flags & os.O_CREAT and str(path).startswith(self.folder):
                self._tick()
            return opened(path, flags, *rest, **more)

        monkeypatch.setattr(os, "open", _open)

    def _counted(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            self._tick()
            return real(*arguments, **more)

        return call

    def _tick(self) -> None:
        self.count += 1
        if self.count == self.k:
            raise OSError(self.code, os.strerror(self.code))


def convert(target: Path, external: bool, report: Path | None) -> None:
    netferry.convert(PROTOTXT, target, CAFFEMODEL, external_data=external, report=report, check="structure")


@contextmanager
def failing(folder: Path, k: int, code: int) -> Iterator[Disk]:
    with pytest.MonkeyPatch.context() as patch:
        yield Disk(patch, folder, k, code)


@pytest.mark.parametrize("external", [False, True], ids=["one-file", "two-files"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT], ids=lambda c: errno.errorcode[c])
@pytest.mark.parametrize("old", [False, True], ids=["nothing-there", "over-an-old-file"])
def test_the_kth_write_fails_for_every_k(tmp_path: Path, external: bool, code: int, old: bool) -> None:
    whole = tmp_path / "whole"
    with failing(whole, 0, code) as disk:
        convert(whole / "net.onnx", external, None)
    calls = disk.count
    assert calls >= 4
    wanted = {p.name: p.read_bytes() for p in whole.iterdir()}
    failed = 0
    for k in range(1, calls + 1):
        folder = tmp_path / str(k)
        if old:
            folder.mkdir()
            (folder / "net.onnx").write_bytes(b"an earlier network")
        with failing(folder, k, code):
            try:
                convert(folder / "net.onnx", external, None)
            except NetferryError as error:
                failed += 1
                assert isinstance(error, OutputError)
                there = {p.name: p.read_bytes() for p in folder.iterdir()} if folder.exists() else {}
                assert there == ({"net.onnx": b"an earlier network"} if old else {})
        convert(folder / "net.onnx", external, None)
        assert {p.name: p.read_bytes() for p in folder.iterdir()} == wanted
    assert failed >= calls - 3  # the folder exists already in half of the rows; its own fsync may fail without harm


def test_a_report_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(OutputError):
        convert(tmp_path / "net.onnx", False, tmp_path / "taken" / "report.json")
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".netferry")) == []


@pytest.mark.parametrize("size", [1, 1000, 20_000])
def test_files_may_not_grow(tmp_path: Path, size: int) -> None:
    """RLIMIT_FSIZE: EFBIG in the middle of a write that the kernel carries out."""
    code = (
        "import resource, signal, sys, netferry\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))\n"
        f"try: netferry.convert({str(PROTOTXT)!r}, {str(tmp_path / 'net.onnx')!r}, {str(CAFFEMODEL)!r}, check='structure')\n"
        "except netferry.NetferryError as error: sys.exit(error.exit_code)\n"
    )
    done = subprocess.run([sys.executable, "-B", "-c", code], cwd=ROOT, check=False, capture_output=True)
    assert done.returncode == OutputError.exit_code, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(mount, check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("a small file system cannot be mounted here")
    try:
        with pytest.raises(OutputError, match="space"):
            convert(disk / "net.onnx", False, None)
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError):
        convert(tmp_path / "net.onnx", False, None)


def test_sources_are_left_alone(tmp_path: Path) -> None:
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in (PROTOTXT, CAFFEMODEL)}
    convert(tmp_path / "net.onnx", True, tmp_path / "report.json")
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in before} == before
    with pytest.raises(OutputError):
        convert(CAFFEMODEL, False, None)
    assert CAFFEMODEL.read_bytes() == before[CAFFEMODEL][0]
