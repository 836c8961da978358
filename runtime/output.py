"""Files that the runtime writes: they appear whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from netferry.errors import OutputError


@contextlib.contextmanager
def whole_file(out: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Give a binary file that takes the name ``out`` when the block ends well; missing folders are made.

    Raises:
        OutputError: the file cannot be written there.
    """
    path = Path(out)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.", suffix=".part")
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)  # mkstemp makes files for their owner alone; give what open() would
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(error.strerror or str(error), file=out) from None
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def write_text(out: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    with whole_file(out) as file:
        file.write(text.encode())


def write_json(out: str | os.PathLike[str], document: Any) -> None:
    """Write a document as JSON that any reader takes (ASCII, no NaN), whole or not at all."""
    write_text(out, json.dumps(document, indent=2, ensure_ascii=True, allow_nan=False, default=str) + "\n")
