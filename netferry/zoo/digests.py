"""Digests of files: computed here, and as servers tell them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Told:
    """A digest that the server tells of the whole file, and the header that it stood in."""

    algorithm: str
    hexes: str
    header: str


def digest(path: Path, algorithm: str) -> str:
    """Return the hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def told_by(headers: Any, *, part_only: bool) -> Told | None:
    """Return the strongest digest that a response's headers tell of the whole file; a header may come several times.

    ``Repr-Digest`` (RFC 9530) and ``Digest`` (RFC 3230) are of the whole file, also where a part comes; ``Content-MD5``
    is of what comes. Google Cloud Storage's ``x-goog-hash`` is of what is stored: where that is compressed and comes
    decompressed it says nothing, and of objects made of several it has no MD5 (cloud.google.com/storage/docs/xml-api).

    Args:
        part_only: the response brings a part of the file.
    """
    found: list[Told] = []

    def add(header: str, algorithm: str, text: str) -> None:
        with suppress(binascii.Error, ValueError):
            raw = base64.b64decode(text, validate=True)
            if len(raw) == hashlib.new(algorithm, usedforsecurity=False).digest_size:
                found.append(Told(algorithm, raw.hex(), header))

    def values(header: str) -> str:
        return ", ".join(headers.get_all(header) or ())

    for header in ("Repr-Digest", "Digest"):
        for name, text in re.findall(r"(sha-512|sha-256|md5)=:?([A-Za-z0-9+/=]+):?", values(header), re.IGNORECASE):
            add(header, name.lower().replace("-", ""), text)
    if (headers.get("x-goog-stored-content-encoding") or "identity").lower() == "identity":
        for text in re.findall(r"\bmd5=([A-Za-z0-9+/=]+)", values("x-goog-hash")):
            add("x-goog-hash", "md5", text)
    if not part_only:
        add("Content-MD5", "md5", values("Content-MD5").strip())
    strength = ("sha512", "sha256", "md5")
    return min(found, key=lambda told: strength.index(told.algorithm), default=None)
