"""ONNX files as protobuf messages whose big weights are cut out, or put back in.

Both ways go over the serialised bytes: reading notes where a weight lies in the file, writing leaves a gap that the
file's bytes are streamed into. So the graph is parsed by protobuf, and no weight ever passes through it. Encoding:
https://protobuf.dev/programming-guides/encoding/; field numbers: onnx.proto.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import onnx

from netferry.converters.protobuf import BYTES, FIXED32, VARINT, ProtoFile, varint
from netferry.errors import LimitExceeded, MalformedFile

BIG = 1024
"""bytes from which a weight is kept apart from its graph"""

_INSIDE: dict[str, dict[int, str]] = {
    "model": {7: "main graph", 25: "function"},
    "main graph": {1: "node", 5: "tensor"},
    "graph": {1: "node", 5: "tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph"},
    "function": {7: "node", 11: "attribute"},
}
"""message -> field number -> kind of message in which tensors may lie"""
_RAW_DATA, _EXTERNAL_DATA, _DATA_LOCATION = 9, 13, 14


@dataclass(frozen=True)
class Gap:
    """The place where the bytes of tensor ``index`` go."""

    index: int
    nbytes: int


# reading -------------------------------------------------------------------------------------------------------


class OnnxFile(ProtoFile):
    """An ONNX file whose graph is read and whose weights stay where they are."""

    def structure(self, token: str, apart: dict[int, tuple[int, int]] | None = None) -> bytes:
        """Return the model without its big weights.

        A tensor whose weights were left out claims to be external data at ``location`` = ``token`` with ``offset``
        and ``length`` in this file; the token is one that the file cannot contain. Where ``apart`` is given, most
        claims need not be written and read again: it gets (offset, length) of initializers of the main graph by
        their number, and these claim nothing.

        Raises:
            MalformedFile: not a protobuf message, or contradictory.
            LimitExceeded: the file or its nesting is beyond the limits.
        """
        if self.size == 0:
            raise MalformedFile("the file is empty", file=self.path)
        if self.size > self.limits.message_bytes:
            raise LimitExceeded(f"{self.size} bytes (limit message_bytes={self.limits.message_bytes})", file=self.path)
        self._apart = apart
        pieces = self._message("model", 0, self.size, token, 0) or [(0, self.size)]
        return b"".join(p if isinstance(p, bytes) else self.read(p[0], p[1] - p[0]) for p in pieces)

    def _message(self, kind: str, start: int, end: int, token: str, depth: int) -> list[bytes | tuple[int, int]] | None:
        """The message as bytes and ranges of the file, or None where nothing is cut out of it."""
        if depth > self.limits.nesting:
            raise LimitExceeded(f"nested deeper than limit nesting={self.limits.nesting}", file=self.path)
        inside = _INSIDE[kind]
        pieces: list[bytes | tuple[int, int]] = []
        at = kept = start
        graphs = initializers = 0
        main = kind == "main graph" and self._apart is not None
        while at < end:
            f = self.field(at, end)
            number, first, after = f.number, f.start, f.end
            graphs += kind == "model" and number == 7 and f.kind == BYTES
            child = inside.get(number) if f.kind == BYTES and after - first >= BIG else None
            if child is not None:
                found = (
                    self._tensor(first, after, token, initializers if main else None)
                    if child == "tensor"
                    else self._message(child, first, after, token, depth + child.endswith("graph"))
                )
                if found is not None:
                    size = sum(len(p) if isinstance(p, bytes) else p[1] - p[0] for p in found)
                    pieces += [(kept, at), varint(number << 3 | BYTES) + varint(size), *found]
                    kept = after
            initializers += number == 5 and f.kind == BYTES
            at = after
        if graphs > 1:
            raise MalformedFile("the file holds two graphs", file=self.path)
        return None if kept == start else [*pieces, (kept, end)]

    def _tensor(
        self, start: int, end: int, token: str, initializer: int | None
    ) -> list[bytes | tuple[int, int]] | None:
        at, raw = start, []
        while at < end:
            f = self.field(at, end)
            if f.number in (_EXTERNAL_DATA, _DATA_LOCATION):
                return None
            if f.number == _RAW_DATA and f.kind == BYTES:
                raw.append((at, f.start, f.end))
            at = f.end
        if len(raw) > 1:
            raise MalformedFile("a tensor with two values", file=self.path, offset=start)
        if not raw or raw[0][2] - raw[0][1] < BIG:
            return None
        field, first, after = raw[0]
        if initializer is not None and self._apart is not None:
            self._apart[initializer] = first, after - first
            return [(start, field), (after, end)]
        return [(start, field), (after, end), _claim(token, first, after - first)]


def _claim(token: str, offset: int, length: int) -> bytes:
    """The fields of a tensor that say where its values lie; as ``onnx.TensorProto`` would write them."""
    entries = [
        _bytes(1, key) + _bytes(2, value.encode())
        for key, value in ((b"location", token), (b"offset", str(offset)), (b"length", str(length)))
    ]
    location = varint(_DATA_LOCATION << 3 | VARINT) + varint(onnx.TensorProto.EXTERNAL)
    return b"".join(_bytes(_EXTERNAL_DATA, entry) for entry in entries) + location


def _bytes(number: int, value: bytes) -> bytes:
    return varint(number << 3 | BYTES) + varint(len(value)) + value


# writing -------------------------------------------------------------------------------------------------------


def with_gaps(structure: bytes, token: str, sizes: Sequence[int]) -> list[bytes | memoryview | Gap]:
    """Return a serialised model as pieces, with a gap for each tensor that claims to lie at ``token``.

    ``offset`` of such a tensor is its index in ``sizes``, the bytes of each. Everything comes in the order in which
    protobuf itself would have written it.
    """
    mark = token.encode()
    marks: list[int] = []
    at = structure.find(mark)
    while at >= 0:
        marks.append(at)
        at = structure.find(mark, at + len(mark))
    view = memoryview(structure)
    return _fill("model", view, 0, len(structure), marks, sizes)


def _fill(
    kind: str, view: memoryview, start: int, end: int, marks: list[int], sizes: Sequence[int]
) -> list[bytes | memoryview | Gap]:
    if kind == "tensor":
        return _gapped(onnx.TensorProto.FromString(bytes(view[start:end])), sizes)
    pieces: list[bytes | memoryview | Gap] = []
    at = kept = start
    inside = _INSIDE[kind]
    while at < end:
        next_mark = bisect_left(marks, at)
        if next_mark == len(marks) or marks[next_mark] >= end:
            break
        tag, first = _number(view, at)
        number, wire = tag >> 3, tag & 7
        if wire == VARINT:
            at = _number(view, first)[1]
            continue
        length, first = _number(view, first) if wire == BYTES else (4 if wire == FIXED32 else 8, first)
        after = first + length
        if wire == BYTES and number in inside and first <= marks[next_mark] < after:
            found = _fill(inside[number], view, first, after, marks, sizes)
            pieces += [view[kept:at], varint(tag) + varint(length_of(found)), *found]
            kept = after
        at = after
    return [*pieces, view[kept:end]]


def _gapped(tensor: onnx.TensorProto, sizes: Sequence[int]) -> list[bytes | memoryview | Gap]:
    """dims 1, data_type 2 and name 8 come before raw_data 9; doc_string 12 and metadata_props 16 after it."""
    index = int(next(e.value for e in tensor.external_data if e.key == "offset"))
    for field in ("external_data", "data_location"):
        tensor.ClearField(field)
    tail = onnx.TensorProto(metadata_props=tensor.metadata_props)
    if tensor.HasField("doc_string"):
        tail.doc_string = tensor.doc_string
    tensor.ClearField("doc_string")
    tensor.ClearField("metadata_props")
    head = tensor.SerializeToString() + varint(_RAW_DATA << 3 | BYTES) + varint(sizes[index])
    return [head, Gap(index, sizes[index]), tail.SerializeToString()]


def length_of(pieces: Sequence[bytes | memoryview | Gap]) -> int:
    """Return the bytes that the pieces take, gaps filled."""
    return sum(p.nbytes if isinstance(p, (Gap, memoryview)) else len(p) for p in pieces)


def _number(view: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
