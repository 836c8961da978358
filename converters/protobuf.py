"""Protobuf's wire format over a file, read in small pieces, without a schema.

Nothing large passes through here: a field says where its bytes lie. A mapped file that shrinks would kill the process,
so reading is by position. Encoding: https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

from netferry.converters.options import Limits
from netferry.errors import LimitExceeded, MalformedFile
from netferry.schemas.opening import open_regular

VARINT, FIXED64, BYTES, GROUP, GROUP_END, FIXED32 = range(6)
_WINDOW = 1 << 12
"""bytes read at a time: weights between the fields are jumped over, so more would be read for nothing"""


class Field(NamedTuple):
    """One field of a message: a varint has ``value``, all others the byte range ``start``..``end``."""

    number: int
    kind: int
    start: int
    end: int
    value: int = 0


def varint(value: int) -> bytes:
    """Encode a number."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class ProtoFile:
    """A protobuf message in a file.

    Raises:
        InputError: it cannot be opened.
    """

    def __init__(self, path: Path, limits: Limits) -> None:
        self.path, self.limits = path, limits
        self._file = open_regular(path)
        self.size = os.fstat(self._file.fileno()).st_size
        self._start, self._window = 0, b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def fail(self, reason: str, offset: int) -> MalformedFile:
        """Return the error for this file at a byte offset."""
        return MalformedFile(reason, file=self.path, offset=offset)

    def read(self, start: int, count: int) -> bytes:
        """Return ``count`` bytes.

        Raises:
            MalformedFile: the file ends before.
        """
        if start + count > self.size:
            raise self.fail(f"the file ends inside {count} announced bytes", start)
        parts: list[bytes] = []
        while count:
            part = os.pread(self._file.fileno(), count, start)
            if not part:
                raise self.fail("the file became shorter while it was read", start)
            parts.append(part)
            start, count = start + len(part), count - len(part)
        return b"".join(parts)

    def varint(self, at: int, end: int) -> tuple[int, int]:
        """Return (value, offset after it)."""
        offset = at - self._start
        if at < end and 0 <= offset < len(self._window) and (byte := self._window[offset]) < 0x80:
            return byte, at + 1
        value = 0
        for shift in range(0, 70, 7):
            if at >= end:
                raise self.fail("a number runs past the end of its message", at)
            offset = at - self._start
            if not 0 <= offset < len(self._window):
                self._start, self._window, offset = at, os.pread(self._file.fileno(), _WINDOW, at), 0
                if not self._window:
                    raise self.fail("the file ends inside a field", at)
            byte = self._window[offset]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & 0xFFFFFFFFFFFFFFFF, at
        raise self.fail("a number of more than 10 bytes", at)

    def field(self, at: int, end: int) -> Field:
        """Return the field at ``at`` of a message that ends at ``end``.

        Raises:
            MalformedFile: it runs past the end, or is of no known wire type.
            LimitExceeded: it is longer than a message may be.
        """
        offset, window = at - self._start, self._window
        if 0 <= offset < len(window) - 2 and window[offset] & 0x87 == BYTES:
            # most fields: a tag of one byte and a length of one or two
            number, length, after = window[offset] >> 3, window[offset + 1], at + 2
            if length >= 0x80:
                high, after = window[offset + 2], at + 3
                length = (length & 0x7F) | (high << 7) if high < 0x80 else -1  # longer: below
            if number and 0 <= length <= end - after:
                return Field(number, BYTES, after, after + length)
        tag, after = self.varint(at, end)
        number, kind = tag >> 3, tag & 7
        if number == 0 or number >= 1 << 29:
            raise self.fail("not a protobuf message (bad field number)", at)
        if kind == VARINT:
            value, past = self.varint(after, end)
            return Field(number, kind, after, past, value)
        if kind == BYTES:
            length, after = self.varint(after, end)
        elif kind in (FIXED32, FIXED64):
            length = 4 if kind == FIXED32 else 8
        elif kind == GROUP:
            return Field(number, kind, after, self._group_end(number, after, end))
        else:
            raise self.fail(f"not a protobuf message (wire type {kind})", at)
        if length > end - after:
            raise self.fail(f"field {number} claims {length} bytes, its message has {end - after} left", at)
        if length > self.limits.message_bytes:
            raise LimitExceeded(f"a message of {length} bytes (limit message_bytes)", file=self.path)
        return Field(number, kind, after, after + length)

    def _group_end(self, number: int, at: int, end: int) -> int:
        """The offset behind a group, the old form of a message inside a message, which may hold further ones."""
        open_ = [number]
        while open_:
            tag, after = self.varint(at, end)
            if tag & 7 == GROUP:
                open_.append(tag >> 3)
                if len(open_) > self.limits.nesting:
                    raise LimitExceeded(f"nested deeper than limit nesting={self.limits.nesting}", file=self.path)
            elif tag & 7 == GROUP_END:
                if open_.pop() != tag >> 3:
                    raise self.fail("not a protobuf message (a group ends that has not begun)", at)
            else:
                after = self.field(at, end).end
            at = after
        return at

    def fields(self, start: int, end: int) -> Iterator[Field]:
        """The fields of the message in ``start``..``end``; groups, which no format here has, are passed over."""
        while start < end:
            found = self.field(start, end)
            if found.kind != GROUP:
                yield found
            start = found.end
