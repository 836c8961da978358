"""Rewritings of serialised ONNX models: the same message in other bytes, as protobuf's encoding allows.

https://protobuf.dev/programming-guides/encoding/: fields in any order, repeated numbers packed or not, submessages in
parts that are merged, numbers longer than needed, unknown fields, fields given twice, of which the last counts.
"""

from __future__ import annotations

import random
import struct
from typing import Any

import onnx
from google.protobuf.descriptor import FieldDescriptor as F

from tests.converters.onnx.rewriting import BYTES, rewrite

_VARINTS = {F.TYPE_INT32, F.TYPE_INT64, F.TYPE_UINT64, F.TYPE_ENUM, F.TYPE_BOOL, F.TYPE_UINT32}
_FIXED = {F.TYPE_FLOAT: ("<f", 5), F.TYPE_DOUBLE: ("<d", 1)}
_ONCE = {("ModelProto", "graph"), ("TensorProto", "raw_data")}
"""given twice they are refused, by design"""


class Encoder:
    """Encodes messages in an unusual way; ``habits`` says in which."""

    def __init__(self, rng: random.Random, habits: set[str]) -> None:
        self.rng, self.habits = rng, habits

    def does(self, habit: str) -> bool:
        return habit in self.habits and self.rng.random() < 0.4

    def varint(self, value: int, longest: int = 10) -> bytes:
        value &= (1 << 64) - 1
        out = bytearray()
        while value > 0x7F:
            out.append(value & 0x7F | 0x80)
            value >>= 7
        out.append(value)
        if self.does("long") and len(out) < longest:
            more = self.rng.randint(1, longest - len(out))
            out[-1] |= 0x80
            out += b"\x80" * (more - 1) + b"\0"
        return bytes(out)

    def tag(self, number: int, wire: int) -> bytes:
        return self.varint(number << 3 | wire, 5)

    def block(self, number: int, content: bytes) -> bytes:
        return self.tag(number, 2) + self.varint(len(content), 5) + content

    def unknown(self) -> bytes:
        number = self.rng.choice([1000, 19, 99, 536870911]) if self.rng.random() < 0.3 else self.rng.randint(900, 5000)
        kind = self.rng.choice([0, 1, 2, 3, 5])
        if kind == 3:  # a group, with what it holds
            return self.tag(number, kind) + self.unknown() + self.tag(number, 4)
        content = {0: self.varint(7), 1: bytes(8), 2: self.varint(5, 5) + b"later", 5: bytes(4)}
        return self.tag(number, kind) + content[kind]

    def scalar(self, field: Any, value: Any) -> tuple[int, bytes]:
        """(wire type, bytes) of one number, text or message."""
        if field.type in _VARINTS:
            return 0, self.varint(int(value))
        if field.type in _FIXED:
            form, wire = _FIXED[field.type]
            return wire, struct.pack(form, value)
        content = (
            self.message(value) if field.type == F.TYPE_MESSAGE else value.encode() if isinstance(value, str) else value
        )
        return 2, self.varint(len(content), 5) + content

    def one(self, field: Any, value: Any) -> bytes:
        wire, content = self.scalar(field, value)
        return self.tag(field.number, wire) + content

    def repeated(self, field: Any, values: Any) -> list[bytes]:
        if field.type in (F.TYPE_MESSAGE, F.TYPE_STRING, F.TYPE_BYTES):
            return [self.one(field, value) for value in values]
        values, pieces = list(values), []
        packed = field.is_packed != ("packing" in self.habits and self.rng.random() < 0.5)
        parts = [values]
        if self.does("packing") and len(values) > 1:
            at = self.rng.randint(1, len(values) - 1)
            parts = [values[:at], values[at:]]
        for part in parts:
            if packed:
                pieces.append(self.block(field.number, b"".join(self.scalar(field, v)[1] for v in part)))
            else:
                pieces.append(b"".join(self.one(field, v) for v in part))
            packed = packed != (len(parts) > 1 and self.rng.random() < 0.5)
        return pieces

    def message(self, message: Any) -> bytes:
        chunks: list[list[bytes]] = []
        name = message.DESCRIPTOR.name
        for field, value in message.ListFields():
            once = (name, field.name) in _ONCE
            if field.is_repeated:
                pieces = self.repeated(field, value)
            elif field.type == F.TYPE_MESSAGE and not once and self.does("split"):
                pieces = [self.block(field.number, part) for part in self.halves(value)]
            else:
                pieces = [self.one(field, value)]
                if (
                    not once
                    and field.type in (F.TYPE_INT64, F.TYPE_STRING)
                    and field.containing_oneof is None
                    and self.does("twice")
                ):
                    other = 3 if field.type == F.TYPE_INT64 else "other"
                    pieces.insert(0, self.one(field, other))
            chunks.append(pieces)
        return self.merged(chunks)

    def merged(self, chunks: list[list[bytes]]) -> bytes:
        """Chunks one after the other, or mixed; the pieces of each stay in their order."""
        if "order" in self.habits:
            order = [i for i, pieces in enumerate(chunks) for _ in pieces]
            if self.rng.random() < 0.5:
                self.rng.shuffle(order)
            else:
                self.rng.shuffle(chunks)
                order = [i for i, pieces in enumerate(chunks) for _ in pieces]
            queues = [iter(pieces) for pieces in chunks]
            flat = [next(queues[i]) for i in order]
        else:
            flat = [piece for pieces in chunks for piece in pieces]
        if self.does("unknown"):
            flat.insert(self.rng.randint(0, len(flat)), self.unknown())
        return b"".join(flat)

    def halves(self, message: Any) -> tuple[bytes, bytes]:
        """Two messages that protobuf merges into one."""
        first, second = type(message)(), type(message)()
        for field, value in message.ListFields():
            part = self.rng.choice([first, second])
            if field.is_repeated:
                getattr(part, field.name).extend(value)
            elif field.type == F.TYPE_MESSAGE:
                getattr(part, field.name).CopyFrom(value)
            else:
                setattr(part, field.name, value)
        return self.message(first), self.message(second)


@rewrite(BYTES)
def encoded_by_hand(content: bytes, rng: random.Random) -> bytes:
    habits = {h for h in ("long", "order", "packing", "split", "twice", "unknown") if rng.random() < 0.5}
    out = Encoder(rng, habits).message(onnx.ModelProto.FromString(content))
    assert onnx.ModelProto.FromString(out).SerializeToString() or not content
    return out
