"""The .keras archive: a zip read in place, member by member, nothing extracted."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

from netferry.converters.hdf5_data import Place
from netferry.converters.options import Limits
from netferry.errors import LimitExceeded, MalformedFile, UnsafeFile, quoted

_LOCAL = struct.Struct("<4s5H3I2H")


class Archive:
    """Read-only view of a zip archive.

    Raises:
        MalformedFile: not a sound zip, or one member name twice.
        LimitExceeded: more members than ``zip_members``; a member that is packed more than ``zip_ratio`` times.
        UnsafeFile: encrypted, or packed by another method than deflate.
    """

    def __init__(self, path: Path, limits: Limits) -> None:
        self.path, self.limits = path, limits
        self.files = [path]
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError) as error:
            raise MalformedFile(f"not a sound zip archive: {error}", file=path) from None
        members = self._zip.infolist()
        if len(members) > limits.zip_members:
            self._zip.close()
            raise LimitExceeded(f"{len(members)} members (limit zip_members={limits.zip_members})", file=path)
        self._members = {m.filename: m for m in members}
        if len(self._members) != len(members):
            names = [m.filename for m in members]
            twice = next(n for n in names if names.count(n) > 1)
            raise MalformedFile(f"member {quoted(twice)} is there twice", file=path)

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def _member(self, name: str) -> zipfile.ZipInfo:
        member = self._members.get(name)
        if member is None:
            raise MalformedFile(f"the archive has no {quoted(name)}", file=self.path)
        if member.flag_bits & 0x1:
            raise UnsafeFile(f"member {quoted(name)} is encrypted", file=self.path)
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UnsafeFile(f"member {quoted(name)} is neither stored nor deflated", file=self.path)
        limits = self.limits
        if member.file_size > limits.ratio_bytes and member.file_size > limits.zip_ratio * max(member.compress_size, 1):
            raise LimitExceeded(
                f"member {quoted(name)} unpacks {member.compress_size} bytes to {member.file_size} "
                f"(limit zip_ratio={limits.zip_ratio} above ratio_bytes={limits.ratio_bytes})",
                file=self.path,
            )
        return member

    def text(self, name: str) -> bytes:
        """Return the content of a member that holds text."""
        size, most = self._member(name).file_size, self.limits.text_bytes
        if size > most:
            raise LimitExceeded(f"member {quoted(name)} has {size} bytes (limit text_bytes={most})", file=self.path)
        return self._read(name)

    def _read(self, name: str) -> bytes:
        member = self._member(name)
        try:
            with self._zip.open(member) as file:
                content = file.read(member.file_size + 1)
        except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, ValueError, RuntimeError) as error:
            raise MalformedFile(f"member {quoted(name)} cannot be read: {error}", file=self.path) from None
        except Exception as error:  # zlib.error derives from Exception alone
            raise MalformedFile(f"member {quoted(name)} cannot be unpacked: {error}", file=self.path) from None
        if len(content) != member.file_size:
            raise MalformedFile(f"member {quoted(name)} is not as long as it says", file=self.path)
        return content

    def place(self, name: str) -> Place:
        """Return where a member's bytes lie: in the archive itself where it is stored, else in memory."""
        member = self._member(name)
        if member.compress_type == zipfile.ZIP_DEFLATED:
            return Place(self.path, content=self._read(name))
        with self.path.open("rb") as file:
            file.seek(member.header_offset)
            head = file.read(_LOCAL.size)
        if len(head) != _LOCAL.size or head[:4] != b"PK\x03\x04":
            raise MalformedFile(f"member {quoted(name)} has no local header", file=self.path)
        fields = _LOCAL.unpack(head)
        if fields[2] & 0x1 or fields[3] != member.compress_type:
            raise MalformedFile(f"member {quoted(name)} is packed otherwise than the directory says", file=self.path)
        start = member.header_offset + _LOCAL.size + fields[9] + fields[10]
        if member.file_size != member.compress_size or start + member.file_size > self.path.stat().st_size:
            raise MalformedFile(f"member {quoted(name)} runs past the end of the archive", file=self.path)
        return Place(self.path, start, member.file_size)
