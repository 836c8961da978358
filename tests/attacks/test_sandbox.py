"""The confined child of the command line: crashes, limits, signals, network, and what a killed child leaves."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

import netferry
from netferry.errors import LimitExceeded, MalformedFile, NetferryError
from netferry.sandbox import available

ROOT = Path(__file__).resolve().parents[2]
NET = [str(ROOT / "fixtures/digits.prototxt"), str(ROOT / "fixtures/digits.caffemodel")]
ONE_LAYER = (
    'input: "data" input_dim: 1 input_dim: 2 input_dim: 1 input_dim: 1 '
    'layer { name: "x" type: "Evil" bottom: "data" top: "out" }'
)
PLUGIN = """
import os, signal, socket
from netferry.converters.caffe.registry import layer

@layer("Evil")
def evil(b, l, x):
    \"\"\"What a hole in a native library could do.\"\"\"
    {body}
    return b.op("Relu", x)
"""

pytestmark = pytest.mark.skipif(not available(), reason="processes cannot be forked here")


def evil(tmp_path: Path, body: str) -> list[str]:
    """Arguments that convert a net whose one layer does ``body`` while it is read."""
    (tmp_path / "net.prototxt").write_text(ONE_LAYER)
    (tmp_path / "plugin.py").write_text(PLUGIN.format(body=body))
    return [str(tmp_path / "net.prototxt"), "--plugin", str(tmp_path / "plugin.py"), "-o", str(tmp_path / "o.onnx")]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "netferry", *arguments]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGBUS", "SIGABRT", "SIGILL", "SIGFPE"])
def test_a_crash_is_a_typed_error(tmp_path: Path, name: str) -> None:
    done = run("convert", *evil(tmp_path, f"os.kill(os.getpid(), signal.{name})"), "--json")
    assert done.returncode == MalformedFile.exit_code, done.stderr
    assert done.stderr.startswith("error: ")
    assert name in done.stderr
    said = json.loads(done.stdout)
    assert (said["error"], said["file"]) == ("MalformedFile", str(tmp_path / "net.prototxt"))
    assert not (tmp_path / "o.onnx").exists()


def test_a_crash_of_a_step_is_a_typed_error() -> None:
    """``run`` is confined as well, though it keeps the network for the addresses in its file."""
    code = (
        "import os, signal, sys\nimport netferry.api\nfrom netferry.cli import main\n"
        "netferry.api.run = lambda *_, **__: os.kill(os.getpid(), signal.SIGSEGV)\n"
        "sys.argv = ['netferry', 'run', 'fixtures/step.yaml']\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == MalformedFile.exit_code, done.stderr
    assert "SIGSEGV" in done.stderr


@pytest.mark.parametrize(
    ("limit", "body"),
    [
        pytest.param("memory=2", "a = bytearray(3 << 30)", id="memory"),
        pytest.param("cpu=2", "n = 0\n    while True: n += 1", id="cpu"),
    ],
)
def test_a_limit_is_a_typed_error(tmp_path: Path, limit: str, body: str) -> None:
    done = run("--sandbox-limit", limit, "convert", *evil(tmp_path, body))
    assert done.returncode == LimitExceeded.exit_code, done.stderr
    assert limit.partition("=")[0] in done.stderr
    assert not (tmp_path / "o.onnx").exists()


def test_the_killed_child_of_a_system_without_memory(tmp_path: Path) -> None:
    done = run("convert", *evil(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)"))
    assert done.returncode == LimitExceeded.exit_code, done.stderr


ENDLESS = {
    "operator": "from netferry.runtime import budget, session\nbudget.GRACE = 0.1\n"
    "class Kernel:\n    run = endless\n"
    "plain = session.Session.__init__\n"
    "def made(self, *args, **options):\n    plain(self, *args, **options)\n    self._session = Kernel()\n"
    "session.Session.__init__ = made\n",
    "check": "import onnx.checker\nonnx.checker.check_model = endless\n",
    "inference": "import onnx.shape_inference\nonnx.shape_inference.infer_shapes = endless\n",
}


@pytest.mark.parametrize("what", ENDLESS)
def test_a_library_without_an_end(tmp_path: Path, what: str) -> None:
    """onnxruntime asks between operators whether to stop, onnx never does. No file is known that either hangs on."""
    code = (
        "import sys\nfrom netferry.cli import main\nfrom netferry.schemas import watch\nwatch.SECONDS = 0.5\n"
        f"def endless(*_, **__):\n    while True: pass\n{ENDLESS[what]}"
        f"sys.argv = ['netferry', 'convert', *{NET!r}, '-o', {str(tmp_path / 'o.onnx')!r}, "
        "'--limit', 'run_seconds=1', '--optimize', 'full']\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == MalformedFile.exit_code, done.stderr
    assert "no end" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_orphan_that_hears_nothing(tmp_path: Path) -> None:
    """A library of C that never comes back when the parent is killed: its process ends, and leaves nothing."""
    made = tmp_path / "made.tmp"
    body = (
        f"import ctypes, pathlib\n    pathlib.Path({str(made)!r}).touch()\n"
        f"    from netferry.schemas.publish import announce\n    announce({str(made)!r})\n"
        "    c, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(128)\n"
        "    c.pthread_mutex_lock(mutex), c.pthread_mutex_lock(mutex)"  # no signal ends this
    )
    process = subprocess.Popen(command("convert", *evil(tmp_path, body)), cwd=ROOT, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 20
    while not (child := children(process.pid)) and time.monotonic() < until:
        time.sleep(0.05)
    while not made.exists() and time.monotonic() < until:
        time.sleep(0.05)
    process.kill()
    process.wait(20)
    until = time.monotonic() + 20
    while Path(f"/proc/{child[0]}/exe").exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert not Path(f"/proc/{child[0]}/exe").exists()
    assert not made.exists()


@pytest.mark.parametrize("text", ["memory", "speed=3", "cpu=-1", "cpu=1e3"])
def test_limits_are_checked(text: str) -> None:
    done = run("--sandbox-limit", text, "inspect", NET[0])
    assert done.returncode == 2
    assert "--sandbox-limit" in done.stderr


def test_no_network(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        body = f'socket.create_connection(("127.0.0.1", {server.getsockname()[1]}), 2)'
        arguments = evil(tmp_path, body)
        assert run("--no-sandbox", "convert", *arguments).returncode == 0
        if subprocess.run(["unshare", "-n", "true"], check=False, capture_output=True).returncode:
            pytest.skip("this system does not let a process leave the network")
        (tmp_path / "o.onnx").unlink()
        assert run("convert", *arguments).returncode != 0
        assert not (tmp_path / "o.onnx").exists()


def test_no_sandbox_shows_the_crash(tmp_path: Path) -> None:
    done = run("--no-sandbox", "convert", *evil(tmp_path, "os.kill(os.getpid(), signal.SIGSEGV)"))
    assert done.returncode == -signal.SIGSEGV


def children(parent: int) -> list[int]:
    with suppress(FileNotFoundError, ProcessLookupError):
        return [int(c) for c in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
    return []


def left_over(folder: Path) -> list[str]:
    return [p.name for p in folder.iterdir() if p.name != "o.onnx"]


def whole(target: Path) -> bool:
    return not target.exists() or netferry.load(target).opset == 21


def interrupted(tmp_path: Path, moments: int, number: int, whom: str) -> list[int]:
    """Convert again and again, with a signal at a random moment each time; returns the exit codes."""
    rng = random.Random(number)
    codes: list[int] = []
    for _ in range(moments):
        target = tmp_path / "o.onnx"
        target.unlink(missing_ok=True)
        process = subprocess.Popen(
            command("convert", *NET, "-o", str(target)), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(rng.uniform(0.1, 1.0))
        whose = [process.pid] if whom == "parent" else children(process.pid)
        child = children(process.pid)
        for one in whose:
            with suppress(ProcessLookupError):
                os.kill(one, number)
        codes.append(process.wait(20))
        for one in child:  # an orphan ends by itself
            until = time.monotonic() + 20
            while Path(f"/proc/{one}/exe").exists() and time.monotonic() < until:
                time.sleep(0.02)
        assert left_over(tmp_path) == []
        assert whole(target)
    return codes


MOMENTS = [pytest.param(6, id="6-moments"), pytest.param(50, id="50-moments", marks=pytest.mark.slow)]


@pytest.mark.parametrize("moments", MOMENTS)
@pytest.mark.parametrize(
    ("name", "allowed"), [pytest.param("SIGTERM", {0, 143}, id="term"), pytest.param("SIGINT", {0, 130}, id="int")]
)
def test_interrupted_at_any_moment(tmp_path: Path, moments: int, name: str, allowed: set[int]) -> None:
    codes = interrupted(tmp_path, moments, signal.Signals[name], "parent")
    # before Python has its handlers in place the signal's own effect stands
    assert set(codes) <= allowed | {-signal.Signals[name], 1 if name == "SIGINT" else 0}, codes


@pytest.mark.parametrize("moments", MOMENTS)
@pytest.mark.parametrize("whom", ["parent", "child"])
def test_killed_at_any_moment(tmp_path: Path, moments: int, whom: str) -> None:
    codes = interrupted(tmp_path, moments, signal.SIGKILL, whom)
    assert set(codes) <= {0, -signal.SIGKILL if whom == "parent" else LimitExceeded.exit_code}, codes
    assert run("convert", *NET, "-o", str(tmp_path / "o.onnx")).returncode == 0


# from Python -------------------------------------------------------------------------------------------------------


def test_python_gets_the_same_model(tmp_path: Path) -> None:
    plain, confined = netferry.load(*NET), netferry.load(*NET, sandbox=True)
    netferry.save(plain, tmp_path / "a.onnx")
    netferry.save(confined, tmp_path / "b.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert confined.source == plain.source
    assert [n.as_dict() for n in confined.notes] == [n.as_dict() for n in plain.notes]


def test_python_gets_crashes_as_errors(tmp_path: Path) -> None:
    net, _, plugin, *_ = evil(tmp_path, "os.kill(os.getpid(), signal.SIGSEGV)")
    with pytest.raises(MalformedFile, match="SIGSEGV"):
        netferry.load(net, plugins=[plugin], sandbox=True)
    with pytest.raises(MalformedFile, match="SIGSEGV"):
        netferry.convert(net, tmp_path / "o.onnx", plugins=[plugin], sandbox=True)
    assert not (tmp_path / "o.onnx").exists()


def test_python_gets_the_childs_errors_whole(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text('input: "data" input_dim: 1 input_dim: 2\nlayer {')
    errors: list[NetferryError] = []
    for sandbox in (False, True):
        with pytest.raises(MalformedFile) as caught:
            netferry.load(path, sandbox=sandbox)
        errors.append(caught.value)
    assert errors[0].as_dict() == errors[1].as_dict()


def test_python_from_several_threads(tmp_path: Path) -> None:
    done: list[object] = []

    def work(n: int) -> None:
        done.append(netferry.convert(NET[0], tmp_path / f"{n}.onnx", NET[1], sandbox=True))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 3
    assert len({(tmp_path / f"{n}.onnx").read_bytes() for n in range(3)}) == 1
