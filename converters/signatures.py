"""How files begin."""

from __future__ import annotations

HDF5, ZIP = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"
HEAD = 1 << 16
"""bytes of a file's beginning that are looked at"""


def is_hdf5(head: bytes) -> bool:
    """Whether a file is HDF5: its signature stands at 0, or after a user block of 512, 1024, 2048 … bytes.

    HDF5 File Format Specification 3.0, II.A (superblock).
    """
    if head.startswith(HDF5):
        return True
    at = 512
    while at < len(head) and not head.startswith(ZIP):
        if head.startswith(HDF5, at):
            return True
        at *= 2
    return False


def is_text(head: bytes) -> bool:
    """Whether the beginning of a file is text: no control bytes but white space."""
    return bool(head) and not any(b < 9 or 13 < b < 32 for b in head[:4096])
