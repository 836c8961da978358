"""What ``netferry scan`` finds in a file: one row each, the worst first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from netferry.errors import quoted

ODD_SIZE = 1 << 28
"""a declared number beyond this is worth a look: more values than the largest published layer has"""


class Severity(StrEnum):
    """How bad a finding is."""

    DANGER = "danger"
    """asks to run code, reaches outside the model's folder, or is built to hurt"""
    WARNING = "warning"
    """nothing that a plain network needs: unknown layers and domains, odd sizes, references to other files"""
    NOTE = "note"
    """worth knowing, harmless"""


@dataclass(frozen=True)
class Finding:
    """One finding."""

    severity: Severity
    kind: str
    """code, outside, reference, unknown, size, damaged, unsupported, domain, external-data"""
    message: str
    layer: str | None = None

    def as_dict(self) -> dict[str, str]:
        """JSON form; names from the file escaped."""
        out = {"severity": str(self.severity), "kind": self.kind, "message": self.message}
        return out if self.layer is None else {**out, "layer": quoted(self.layer)[1:-1]}


def verdict(findings: Iterable[Finding]) -> str:
    """Return ``dangerous``, ``suspicious`` or ``clean``."""
    worst = {f.severity for f in findings}
    return "dangerous" if Severity.DANGER in worst else "suspicious" if Severity.WARNING in worst else "clean"


def leaves(path: str) -> bool:
    """Whether a path as a file spells it leads out of the model's folder (on any system)."""
    parts = path.replace("\\", "/").split("/")
    return "\0" in path or path.startswith(("/", "\\", "~")) or ".." in parts or (len(path) > 1 and path[1] == ":")


def reference(name: str, path: str, layer: str | None) -> Finding:
    """The finding for a setting that names a file."""
    what = f"{name} names {quoted(path)}"
    if leaves(path):
        return Finding(Severity.DANGER, "outside", f"{what}, outside the model's folder", layer)
    return Finding(Severity.WARNING, "reference", f"{what}, another file", layer)


def odd_size(name: str, value: int, layer: str | None) -> Finding:
    """The finding for a huge declared number."""
    return Finding(Severity.WARNING, "size", f"{name} = {value}", layer)
