"""Files that the runtime writes: they appear whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from netferry.schemas.publish import whole, write_whole


@contextmanager
def whole_file(out: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Give a binary file that takes the name ``out`` when the block ends well; missing folders are made.

    Raises:
        OutputError: the file cannot be written there.
    """
    with whole(out) as scratch, scratch.open("wb") as file:
        yield file


def write_text(out: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    write_whole(out, text)


def write_json(out: str | os.PathLike[str], document: Any) -> None:
    """Write a document as JSON that any reader takes (ASCII, no NaN), whole or not at all."""
    write_text(out, json.dumps(document, indent=2, ensure_ascii=True, allow_nan=False, default=str) + "\n")
