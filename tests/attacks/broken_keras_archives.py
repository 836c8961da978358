"""Broken .keras archives."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

from tests.attacks import unusual_keras
from tests.attacks.making import Make

CASES: dict[str, Make] = {}
"""name -> writes the files into a folder; returns their paths as ``convert`` takes them"""


def altered(change: Callable[[bytearray], object], method: int = zipfile.ZIP_STORED) -> Make:
    """The plain archive with bytes changed."""

    def make(folder: Path) -> list[Path]:
        path = unusual_keras.archive(folder / "net.keras", method=method)
        content = bytearray(path.read_bytes())
        change(content)
        path.write_bytes(content)
        return [path]

    return make


def _central(content: bytearray, member: bytes = b"model.weights.h5") -> int:
    """Where the entry of a member in the central directory begins."""
    return content.rindex(member) - 46


def _put(content: bytearray, at: int, form: str, value: int) -> None:
    struct.pack_into(form, content, at, value)


def _method(number: int) -> Callable[[bytearray], None]:
    return lambda c: _put(c, _central(c) + 10, "<H", number)


def _encrypted(c: bytearray) -> None:
    _put(c, _central(c) + 8, "<H", 1)


def _larger(c: bytearray) -> None:
    _put(c, _central(c) + 20, "<I", 1 << 30)
    _put(c, _central(c) + 24, "<I", 1 << 30)


def _offset(c: bytearray) -> None:
    _put(c, _central(c) + 42, "<I", len(c) - 30)


def _overlapping(c: bytearray) -> None:
    (start,) = struct.unpack_from("<I", c, _central(c, b"config.json") + 42)
    _put(c, _central(c) + 42, "<I", start)


def _long_name_in_front(c: bytearray) -> None:
    (start,) = struct.unpack_from("<I", c, _central(c) + 42)
    _put(c, start + 26, "<H", 60_000)


def _directory_elsewhere(c: bytearray) -> None:
    _put(c, c.rindex(b"PK\5\6") + 16, "<I", 1 << 31)


def _checksum(c: bytearray) -> None:
    at = _central(c, b"config.json")
    _put(c, at + 16, "<I", 1)


def _damaged(c: bytearray) -> None:
    (start,) = struct.unpack_from("<I", c, _central(c, b"config.json") + 42)
    c[start + 60 : start + 70] = b"\xff" * 10


def members(*entries: tuple[str | zipfile.ZipInfo, bytes]) -> Make:
    def make(folder: Path) -> list[Path]:
        with zipfile.ZipFile(folder / "net.keras", "w") as out:
            for name, content in entries:
                out.writestr(name, content)
        return [folder / "net.keras"]

    return make


def _link(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.create_system, entry.external_attr = 3, 0o120777 << 16
    return entry


_CONFIG = json.dumps(unusual_keras.sequential()).encode()
_META = b'{"keras_version": "3.3.3"}'
CASES |= {
    "keras-zip-method-deflate64": altered(_method(9)),
    "keras-zip-method-lzma": altered(_method(14)),
    "keras-zip-method-of-nobody": altered(_method(77)),
    "keras-zip-encrypted": altered(_encrypted),
    "keras-zip-member-larger-than-the-archive": altered(_larger),
    "keras-zip-member-outside": altered(_offset),
    "keras-zip-members-overlap": altered(_overlapping),
    "keras-zip-name-in-front-longer": altered(_long_name_in_front),
    "keras-zip-directory-elsewhere": altered(_directory_elsewhere),
    "keras-zip-checksum": altered(_checksum),
    "keras-zip-damaged": altered(_damaged, zipfile.ZIP_DEFLATED),
    "keras-zip-config-is-a-link": members(("metadata.json", _META), (_link("config.json"), b"/etc/passwd")),
    "keras-zip-weights-are-a-link": members(
        ("metadata.json", _META), ("config.json", _CONFIG), (_link("model.weights.h5"), b"/etc/passwd")
    ),
    "keras-zip-names-absolute": members(("/metadata.json", _META), ("/config.json", _CONFIG)),
    "keras-zip-names-outside": members(("../metadata.json", _META), ("../config.json", _CONFIG)),
    "keras-zip-config-is-a-folder": members(("metadata.json", _META), ("config.json/", b"")),
    "keras-zip-shards-outside": members(
        ("metadata.json", _META), ("config.json", _CONFIG),
        ("model.weights.json", b'{"weight_map": {"/layers/dense/vars": "../../w.h5"}}'),
    ),
    "keras-zip-shards-missing": members(
        ("metadata.json", _META), ("config.json", _CONFIG),
        ("model.weights.json", b'{"weight_map": {"/layers/dense/vars": "w.h5"}}'),
    ),
    "keras-zip-shards-of-nothing": members(
        ("metadata.json", _META), ("config.json", _CONFIG), ("model.weights.json", b'{"weight_map": 3}')
    ),
}  # fmt: skip
