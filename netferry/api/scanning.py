"""``scan``: what is suspicious in a file, without loading its weights or running anything."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netferry.api.reading import StrPath, load
from netferry.errors import (
    FormatError,
    InputError,
    NetferryError,
    UnknownFormat,
    UnsafeFile,
    UnsupportedError,
    UnsupportedLayer,
    quoted,
)

if TYPE_CHECKING:
    from netferry.converters.options import Limits
    from netferry.schemas.findings import Finding

_PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_PICKLE_SUFFIXES = (".pkl", ".pickle", ".joblib", ".pt", ".pth", ".bin", ".ckpt")
_TENSORFLOW_CODE = (b"PyFunc", b"EagerPyFunc", b"PyFuncStateless", b"ReadFile", b"WriteFile", b"LoadLibrary")
_PIECE = 1 << 22


def scan(source: StrPath, weights: StrPath | None = None, *, limits: Mapping[str, int] | None = None) -> dict[str, Any]:
    """Look for what is suspicious in a network's files: code, references to outside, odd sizes, unknown things.

    Args:
        source: a file of any format, whether netferry reads it or not.
        weights: the second file, for formats that have one.
        limits: other bounds than the defaults.

    Returns:
        ``verdict`` (clean, suspicious, dangerous), ``format``, ``findings`` (severity, kind, message, layer), the
        worst first.

    Raises:
        InputError: the file cannot be opened.
        UsageError: a limit that there is not.
    """
    from netferry.converters.options import Limits
    from netferry.schemas.findings import Severity, verdict

    path = Path(source)
    name, findings = _looked_at(path, Limits.of(limits))
    if name is not None and name != "tensorflow" and not any(f.severity is Severity.DANGER for f in findings):
        findings += _read(path, weights, limits)
    order = list(Severity)
    findings = sorted(dict.fromkeys(findings), key=lambda f: order.index(f.severity))
    return {
        "file": str(source),
        "format": name,
        "verdict": verdict(findings),
        "findings": [f.as_dict() for f in findings],
    }


def _looked_at(path: Path, limits: Limits) -> tuple[str | None, list[Finding]]:
    from netferry.converters.formats import detect
    from netferry.schemas.findings import Finding, Severity

    if os.path.isfile(path):
        with path.open("rb") as file:
            head = file.read(4096)
        pickled = head.startswith(_PICKLES) or (
            path.suffix in _PICKLE_SUFFIXES and head.startswith(b"PK") and b"data.pkl" in head
        )
        if pickled:
            return None, [Finding(Severity.DANGER, "code", "a pickle: whoever loads it runs the code that it names")]
    try:
        format_ = detect(path)
    except UnknownFormat as error:
        return None, [Finding(Severity.WARNING, "unknown", error.reason)]
    if format_.name == "tensorflow":
        return format_.name, _tensorflow(path)
    module = f"netferry.converters.{format_.name}.scan"
    try:
        scanner = import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        return format_.name, []
    try:
        return format_.name, scanner.scan(path, limits)
    except InputError:
        raise
    except NetferryError as error:
        return format_.name, [_refused(error)]


def _tensorflow(path: Path) -> list[Finding]:
    from netferry.schemas.findings import Finding, Severity
    from netferry.schemas.opening import open_regular

    file = path / "saved_model.pb" if os.path.isdir(path) else path
    found: set[bytes] = set()
    with open_regular(file) as stream:  # piece by piece: constants may make the message large
        before = b""
        while piece := stream.read(_PIECE):
            content = before + piece
            found.update(n for n in _TENSORFLOW_CODE if bytes([len(n)]) + n in content)
            before = content[-max(map(len, _TENSORFLOW_CODE)) :]
    names = [n.decode() for n in _TENSORFLOW_CODE if n in found]
    return [Finding(Severity.DANGER, "code", f"operator {name} runs code or touches files") for name in names]


def _read(path: Path, weights: StrPath | None, limits: Mapping[str, int] | None) -> list[Finding]:
    """Findings of the reader itself; weights stay where they are."""
    from netferry.schemas.findings import Finding, Severity
    from netferry.schemas.layers import layer_of

    try:
        model = load(path, weights, limits=limits, skip_missing=True)
    except InputError:
        raise
    except UnsupportedLayer as error:
        rows = error.layers
        return [Finding(Severity.WARNING, "unknown", f"{quoted(kind)}: {why}", name) for name, kind, why in rows]
    except NetferryError as error:
        return [_refused(error)]
    layers = [layer_of(node) for node in model.placeholders()]
    return [Finding(Severity.WARNING, "unknown", f"no reader knows {quoted(kind)}", name) for name, kind in layers]


def _refused(error: NetferryError) -> Finding:
    from netferry.schemas.findings import Finding, Severity

    if isinstance(error, UnsafeFile):
        return Finding(Severity.DANGER, "outside", error.reason, error.layer)
    if isinstance(error, FormatError):
        return Finding(Severity.DANGER, "damaged", f"refused: {error.reason}", error.layer)
    kind = "unsupported" if isinstance(error, UnsupportedError) else "incomplete"
    return Finding(Severity.WARNING, kind, f"refused: {error.reason}", error.layer)
