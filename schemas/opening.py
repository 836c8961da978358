"""Opening files that a user or another file names: a pipe or device is refused before anything waits for it."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path
from typing import BinaryIO

from netferry.errors import InputError, LimitExceeded


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file for reading.

    Reading a pipe waits for whoever writes into it, perhaps for ever, and a device such as ``/dev/zero`` has no end.
    The kind is asked of the opened descriptor, so that nothing can take the file's place in between.

    Raises:
        InputError: no such file, a folder, a pipe, a device, a socket, or no permission.
    """
    flags = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        if Path(path).is_dir():  # Windows opens no folders at all
            raise InputError("is a folder, not a file", file=path)
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        raise InputError("no such file", file=path) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise InputError(f"cannot be opened: {getattr(error, 'strerror', None) or error}", file=path) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputError("is not a regular file", file=path, hint="a pipe's content must be written into a file first")
    return os.fdopen(descriptor, "rb")


def read_bounded(path: str | os.PathLike[str], most: int, what: str) -> bytes:
    """Return the content of a regular file of at most ``most`` bytes; ``what`` says in the error what it is.

    Raises:
        InputError: as :func:`open_regular`.
        LimitExceeded: it is longer.
    """
    with open_regular(path) as file:
        raw = file.read(most + 1)
    if len(raw) > most:
        raise LimitExceeded(f"{what} may have {most:,} bytes", file=path)
    return raw


def open_text(path: str | os.PathLike[str]) -> io.TextIOWrapper:
    """Open a regular file as UTF-8 text, with or without a byte order mark, its line ends as they are.

    Raises:
        InputError: as :func:`open_regular`.
    """
    return io.TextIOWrapper(open_regular(path), "utf-8-sig", newline="")


def missing(path: str | os.PathLike[str]) -> InputError:
    """Return the error for a path at which ``os.path.exists`` sees nothing: not there, not reachable, or no path."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        pass
    except OSError as error:
        return InputError(f"cannot be opened: {error.strerror}", file=path)
    return InputError("no such file", file=path)


def need_regular(path: str | os.PathLike[str]) -> Path:
    """Return a path that a library is to open by itself.

    Raises:
        InputError: as :func:`open_regular`.
    """
    open_regular(path).close()
    return Path(path)


def keep_hdf5_plugins_out() -> None:
    """Let HDF5 load no filter plug-ins, which are code found by path; to be called before h5py is imported."""
    os.environ.setdefault("HDF5_PLUGIN_PRELOAD", "::")
