"""Work on files of strangers in a process of its own, which may die without harm.

The command line forks before anything heavy is imported. The child gets limits (address space, processor time, size of
files, descriptors), no network where the system allows that, and does the work; the parent waits, passes signals on,
turns a crash into a typed error and removes what a killed child left half-written. POSIX only: elsewhere the work runs
in the one process. Promises 7 and 9 of docs/security.md rest on this module.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from netferry.errors import LimitExceeded, MalformedFile, NetferryError, UsageError
from netferry.schemas import watch
from netferry.schemas.publish import JOURNAL, unfinished

GRACE = 0.8
"""seconds that an interrupted child has to clean up before it is killed"""
_LAST = 5.0
"""seconds that a child whose parent is gone has"""
_GIB = 1 << 30
_CRASHES = ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGILL", "SIGFPE", "SIGSYS", "SIGTRAP")


@dataclass(frozen=True)
class Bounds:
    """Limits of the child; zero means none. Each is an option: ``netferry --sandbox-limit memory=32 …``."""

    memory: int | None = None
    """GiB of address space, by default 16 or the machine's memory where that is more; four times the size of the
    input comes on top"""
    cpu: int = 3600
    """seconds of processor time"""
    file: int = 256
    """GiB of one written file"""
    files: int = 4096
    """open files"""

    @classmethod
    def of(cls, texts: Sequence[str]) -> Bounds:
        """Read ``NAME=NUMBER`` texts.

        Raises:
            UsageError: no such limit, or no number.
        """
        given: dict[str, int] = {}
        for text in texts:
            name, _, number = text.partition("=")
            if name not in cls.__dataclass_fields__ or not (number.isascii() and number.isdigit() and len(number) < 10):
                known = ", ".join(cls.__dataclass_fields__)
                raise UsageError(f"--sandbox-limit is NAME=NUMBER with one of {known}, not {text!r}")
            given[name] = int(number)
        return cls(**given)


def available() -> bool:
    """Whether this system can fork and limit processes."""
    return hasattr(os, "fork") and sys.platform != "win32"


def enter(inputs: Sequence[str], bounds: Bounds, *, network: bool, report: Callable[[NetferryError], int]) -> None:
    """Go on in a child; the parent waits for it here and exits with its code.

    Args:
        inputs: the arguments of the command; the sizes of those that are files widen the memory limit.
        network: leave the child its network.
        report: shows an error and returns its exit code.
    """
    size = size_of(inputs)
    journal, told = os.pipe()
    alive, ours = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os.close(journal)
        os.close(ours)
        os.set_blocking(told, False)
        os.environ[JOURNAL] = str(told)
        confine(bounds, size, network=network)
        threading.Thread(target=end_with, args=(alive,), daemon=True).start()
        return
    os.close(told)
    os.close(alive)
    _supervise(child, journal, bounds, inputs, report)


def confine(bounds: Bounds, size: int, *, network: bool) -> None:
    """Put the limits on this process, for good; it must have one thread."""
    import resource

    watch.confined()
    memory = 0
    if bounds.memory != 0 and not _has_gpu():
        allowed = max(16 * _GIB, _physical()) if bounds.memory is None else bounds.memory * _GIB
        memory = allowed + 4 * size
    for name, amount in (
        ("RLIMIT_CORE", -1),
        ("RLIMIT_AS", memory),
        ("RLIMIT_CPU", bounds.cpu),
        ("RLIMIT_FSIZE", bounds.file * _GIB),
        ("RLIMIT_NOFILE", bounds.files),
    ):
        kind = getattr(resource, name, None)
        if kind is None or amount == 0:
            continue
        wanted = max(amount, 0)
        _, hard = resource.getrlimit(kind)
        if hard != resource.RLIM_INFINITY:
            wanted = min(wanted, hard)
        with suppress(ValueError, OSError):  # a system that knows the limit but does not let it be set
            resource.setrlimit(kind, (wanted, hard if name == "RLIMIT_CPU" else wanted))
    if hasattr(signal, "SIGXFSZ"):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing fails with EFBIG instead
    if not network:
        _leave_network()


def error_of(status: int, bounds: Bounds, inputs: Sequence[str] = ()) -> NetferryError | None:
    """Return what a child's wait status means, None where it ended by itself; ``inputs`` as for :func:`enter`."""
    if not os.WIFSIGNALED(status):
        return None
    name = signal.Signals(os.WTERMSIG(status)).name
    file = next((text for text in inputs if os.path.isfile(text)), None)
    if name in _CRASHES:
        return MalformedFile(
            f"the file crashed a library that reads it ({name}); nothing was written",
            file=file,
            hint="the file is damaged or hostile; netferry --no-sandbox --debug … shows where",
        )
    if name == "SIGPROF":
        return MalformedFile(
            "a library that reads the file came to no end; nothing was written",
            file=file,
            hint="the file is damaged or hostile",
        )
    if name == "SIGXCPU":
        return LimitExceeded(
            f"more than {bounds.cpu} s of processor time (--sandbox-limit cpu={bounds.cpu})", file=file
        )
    return LimitExceeded(
        f"the process was ended from outside ({name}), as systems do that run out of memory", file=file
    )


def _supervise(
    child: int, journal: int, bounds: Bounds, inputs: Sequence[str], report: Callable[[NetferryError], int]
) -> NoReturn:
    asked: list[int] = []

    def passed_on(number: int, _frame: Any) -> None:
        asked.append(number)
        with suppress(ProcessLookupError):
            # a terminal sends Ctrl-C to both; the child hears a second one only where it heard none
            os.kill(child, signal.SIGTERM if number == signal.SIGTERM else signal.SIGINT)
        signal.setitimer(signal.ITIMER_REAL, GRACE)

    def too_late(_number: int, _frame: Any) -> None:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)

    signal.signal(signal.SIGALRM, too_late)
    signal.signal(signal.SIGTERM, passed_on)
    signal.signal(signal.SIGINT, passed_on)
    _, status = os.waitpid(child, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    error = error_of(status, bounds, inputs)
    if error is not None:
        clean(journal)
    if asked:
        os._exit(128 + asked[0])
    if error is not None:
        code = report(error)
        sys.stdout.flush()
        os._exit(code)
    os._exit(os.WEXITSTATUS(status))


def clean(journal: int) -> None:
    """Remove the files that a killed child had in the making."""
    told = b""
    with suppress(OSError):
        while piece := os.read(journal, 1 << 16):
            told += piece
    making: dict[bytes, None] = {}
    for entry in told.split(b"\0")[:-1]:
        if entry[:1] == b"+":
            making[entry[1:]] = None
        else:
            making.pop(entry[1:], None)
    _remove(list(making))


def _remove(paths: Sequence[bytes]) -> None:
    """Remove files and folders that were in the making; full folders only where they are our own temporary ones."""
    import tempfile
    from shutil import rmtree

    temporary = os.fsencode(tempfile.gettempdir())
    for path in reversed(paths):
        with suppress(OSError):
            if os.path.islink(path) or not os.path.isdir(path):
                os.unlink(path)
            elif os.path.dirname(path) == temporary and os.path.basename(path).startswith(b"netferry-"):
                rmtree(path, ignore_errors=True)
            else:
                os.rmdir(path)


def end_with(alive: int) -> None:
    """Wait until the other end of a pipe is gone, which the parent holds, then end: at once where the main thread can.

    It hears of it when the library that it is in comes back; one that does not is not waited for.
    """
    while True:
        try:
            if os.read(alive, 1) == b"":
                break
        except OSError as error:
            if error.errno != errno.EINTR:
                return
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_LAST)
    _remove([os.fsencode(path) for path in unfinished()])
    os.kill(os.getpid(), signal.SIGKILL)


def _leave_network() -> None:
    """Move to an empty network namespace, as root or by a namespace of users; systems without them keep theirs."""
    if not sys.platform.startswith("linux"):
        return
    users, net = 0x10000000, 0x40000000
    flags = net if os.geteuid() == 0 else users | net
    with suppress(OSError, AttributeError):
        if sys.version_info >= (3, 12):
            os.unshare(flags)
        else:
            import ctypes

            ctypes.CDLL(None).unshare(flags)


def size_of(inputs: Sequence[str]) -> int:
    """Return the size of all those arguments that are files."""
    total = 0
    for text in inputs:
        with suppress(OSError, ValueError):
            path = Path(text)
            if path.is_file():
                total += path.stat().st_size
    return total


def _physical() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return 0


def _has_gpu() -> bool:
    """Drivers of GPUs reserve address space far beyond memory, which a limit would forbid."""
    return any(os.path.exists(path) for path in ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg"))
