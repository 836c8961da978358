"""Is a TensorFlow file whole? Asked before TensorFlow itself is started, which takes seconds to say no.

Facts: saved_model.proto (1 schema version, 2 meta graphs), meta_graph.proto (2 graph), graph.proto (1 nodes);
flatbuffers' internals (https://flatbuffers.dev/internals/) and tensorflow/lite's schema.fbs (Model: 2 subgraphs,
4 buffers).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from netferry.converters.options import Limits
from netferry.converters.tensorflow.files import SAVED_MODEL, TFLITE, field_at, graph_ends
from netferry.errors import MalformedFile
from netferry.schemas.opening import open_regular

_GRAPHS, _GRAPH = 2, 2
_SUBGRAPHS, _BUFFERS = 2, 4


def check_whole(path: Path, kind: str, limits: Limits) -> None:
    """Raise where a file is cut off, or is not what its beginning says.

    Raises:
        InputError: it cannot be opened.
        MalformedFile: with the byte offset where that is known.
        LimitExceeded: more nodes or longer names than the limits allow.
    """
    if kind not in (SAVED_MODEL, TFLITE):
        graph_ends(path, limits)
        return
    file = path / "saved_model.pb" if path.is_dir() else path
    with open_regular(file) as opened:
        size = os.fstat(opened.fileno()).st_size
        try:
            _saved_model(opened, size) if kind == SAVED_MODEL else _flatbuffer(opened, size)
        except MalformedFile as error:
            raise error.at(file=file) from None


def _saved_model(file: BinaryIO, size: int) -> None:
    graphs = [place for number, *place in _fields(file, 0, size) if number == _GRAPHS]
    if not graphs:
        raise MalformedFile("a SavedModel without graphs")
    for start, end in graphs:
        for number, *place in list(_fields(file, start, end)):
            if number == _GRAPH:
                for _ in _fields(file, *place):
                    pass


def _fields(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(number, start, end) of the fields between two places."""
    file.seek(start)
    while (at := file.tell()) < end:
        number, length = field_at(file, end)
        at = file.tell()
        yield number, at, at + length
        file.seek(at + length)


def _flatbuffer(file: BinaryIO, size: int) -> None:
    def number(at: int, form: str) -> int:
        length = struct.calcsize(form)
        if not 0 <= at <= size - length:
            raise MalformedFile("the flatbuffer points outside itself", offset=min(max(at, 0), size))
        file.seek(at)
        return struct.unpack(form, file.read(length))[0]

    root = number(0, "<I")
    table = root - number(root, "<i")
    length = number(table, "<H")
    for which, name in ((_SUBGRAPHS, "subgraphs"), (_BUFFERS, "buffers")):
        slot = 4 + 2 * which
        offset = number(table + slot, "<H") if slot < length else 0
        if not offset:
            raise MalformedFile(f"a TFLite model without {name}")
        place = root + offset
        vector = place + number(place, "<I")
        count = number(vector, "<I")
        if count == 0 or count > size // 4:
            raise MalformedFile(f"a TFLite model of {count} {name}", offset=vector)
        for i in range(count):
            entry = vector + 4 + 4 * i
            number(entry + number(entry, "<I"), "<i")
