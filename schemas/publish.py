"""Files that appear whole or not at all: written beside their place, brought to the disk, then renamed."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from netferry.errors import OutputError

JOURNAL = "NETFERRY_JOURNAL"
"""environment variable with the descriptor of a supervisor (netferry/sandbox.py), which cleans up after a crash"""


_making: dict[str, None] = {}
"""what a supervised process has announced, in order"""


def unfinished() -> list[str]:
    """Files and folders that this process, where it is supervised, has in the making, in order."""
    return list(_making)


def replaceable(target: str | os.PathLike[str]) -> Path:
    """Return where a file that is to be written lies; a link is followed.

    Raises:
        OutputError: a folder, a pipe or a device is there. (The file for all that would take the place of /dev/null!)
    """
    try:
        place = Path(os.path.realpath(target))
        if place.is_dir():
            raise OutputError("is a folder", file=target, hint="name a file in it")
        if place.exists() and not place.is_file():
            raise OutputError("is not a regular file", file=target)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise OutputError(f"cannot be written: {getattr(error, 'strerror', None) or error}", file=target) from None
    return place


def keep_sources(target: object, *sources: object) -> None:
    """Refuse to write over what is read; what is no path (None, a list of labels) does not matter.

    Raises:
        OutputError: ``target`` is one of the ``sources``.
    """
    for source in sources:
        if not all(isinstance(path, str | os.PathLike) and os.path.exists(path) for path in (target, source)):
            continue
        if os.path.samefile(target, source):  # pyright: ignore[reportArgumentType]
            raise OutputError("is read here, too: it would be replaced", file=target, hint="choose another name")


@contextmanager
def whole(target: str | os.PathLike[str], *, make_folder: bool = True) -> Iterator[Path]:
    """Give the path of a hidden file beside ``target``; it takes the target's place when the block ends well.

    Args:
        target: the file to write; a link is followed.
        make_folder: make missing folders on the way.

    Raises:
        OutputError: it cannot be written there (a folder, a pipe, a device, no space, no permission).
    """
    place = replaceable(target)
    scratch = place.parent / scratch_name()
    try:
        if make_folder:
            place.parent.mkdir(parents=True, exist_ok=True)
        announce(scratch)
        yield scratch
        with scratch.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(scratch, place)
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror or error}", file=target) from error
    finally:
        with suppress(OSError):
            scratch.unlink(missing_ok=True)


def write_whole(target: str | os.PathLike[str], content: bytes | str) -> None:
    """Write a small file (text as UTF-8), whole or not at all.

    Raises:
        OutputError: it cannot be written there.
    """
    with whole(target) as scratch:
        scratch.write_bytes(content.encode() if isinstance(content, str) else content)


def scratch_name() -> str:
    """Return a fresh name for a hidden file in the making."""
    return f".netferry-{secrets.token_hex(8)}.tmp"


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Give a folder for passing files, removed in the end, also by the supervisor of a killed process."""
    with tempfile.TemporaryDirectory(prefix="netferry-") as name:
        announce(name)
        yield Path(name)


def announce(path: str | os.PathLike[str], *, done: bool = False) -> None:
    """Tell the supervisor, if there is one, of a file or folder in the making, or that it is here to stay."""
    descriptor = os.environ.get(JOURNAL)
    if not descriptor:
        return
    place = os.path.abspath(path)
    if done:
        _making.pop(place, None)
    else:
        _making[place] = None
    with suppress(OSError, ValueError):  # a full journal only means less cleaning up after a crash
        os.write(int(descriptor), b"+-"[done : done + 1] + os.fsencode(place) + b"\0")
