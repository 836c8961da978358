"""The .keras archive: a zip read in place, member by member, nothing extracted."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

from netferry.converters.hdf5 import Place
from netferry.converters.options import Limits
from netferry.errors import LimitExceeded, MalformedFile, UnsafeFile, quoted

MEMBERS, RATIO, RATIO_ABOVE = 10_000, 100, 16 << 20
_LOCAL = struct.Struct("<4s5H3I2H")


class Archive:
    """Read-only view of a zip archive.

    Raises:
        MalformedFile: not a sound zip, or one member name twice.
        LimitExceeded: more than 10,000 members; a member of over 16 MB that is packed more than 100 times.
        UnsafeFile: encrypted, or packed by another method than deflate.
    """

    def __init__(self, path: Path, limits: Limits) -> None:
        self.path, self.limits = path, limits
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError) as error:
            raise MalformedFile(f"not a sound zip archive: {error}", file=path) from None
        members = self._zip.infolist()
        if len(members) > MEMBERS:
            self._zip.close()
            raise LimitExceeded(f"{len(members)} members, at most {MEMBERS} are read", file=path)
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

    def names(self) -> list[str]:
        """Names of all members."""
        return list(self._members)

    def _member(self, name: str) -> zipfile.ZipInfo:
        member = self._members.get(name)
        if member is None:
            raise MalformedFile(f"the archive has no {quoted(name)}", file=self.path)
        if member.flag_bits & 0x1:
            raise UnsafeFile(f"member {quoted(name)} is encrypted", file=self.path)
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UnsafeFile(f"member {quoted(name)} is neither stored nor deflated", file=self.path)
        if member.file_size > RATIO_ABOVE and member.file_size > RATIO * max(member.compress_size, 1):
            raise LimitExceeded(
                f"member {quoted(name)} unpacks {member.compress_size} bytes to {member.file_size}", file=self.path
            )
        return member

    def read(self, name: str, limit: int) -> bytes:
        """Return a member's content, which may have at most ``limit`` bytes."""
        member = self._member(name)
        if member.file_size > limit:
            raise LimitExceeded(f"member {quoted(name)} has {member.file_size} bytes, at most {limit}", file=self.path)
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
            return Place(self.path, content=self.read(name, 1 << 62))
        with self.path.open("rb") as file:
            file.seek(member.header_offset)
            head = file.read(_LOCAL.size)
        if len(head) != _LOCAL.size or head[:4] != b"PK\x03\x04":
            raise MalformedFile(f"member {quoted(name)} has no local header", file=self.path)
        fields = _LOCAL.unpack(head)
        start = member.header_offset + _LOCAL.size + fields[9] + fields[10]
        if member.file_size != member.compress_size or start + member.file_size > self.path.stat().st_size:
            raise MalformedFile(f"member {quoted(name)} runs past the end of the archive", file=self.path)
        return Place(self.path, start, member.file_size)
