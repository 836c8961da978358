"""The machine-readable account of a conversion (report.schema.json): what came in, what was done, what went out."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections import Counter
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from netferry.errors import InputError, OutputError
from netferry.schemas.model import Model
from netferry.schemas.publish import write_whole

REPORT_VERSION = 1
_PACKAGES = ("onnx", "onnx-ir", "numpy", "protobuf")


class Report:
    """Collects the facts of one conversion; :meth:`finish` gives the document.

    Args:
        model: the model as it was read.
        netferry_version: our own version.
        options: what the caller asked for, as JSON can say it.
    """

    def __init__(self, model: Model, *, netferry_version: str, options: dict[str, Any] | None = None) -> None:
        self._model = model
        self._netferry = netferry_version
        self._options = dict(options or {})
        self._layers = Counter(row.type for row in model.layers)
        self._timings: dict[str, float] = {}
        self._checks: list[dict[str, Any]] = []
        self._outputs: list[dict[str, Any]] = []
        self._facts: dict[str, Any] = {}

    def timing(self, name: str, seconds: float) -> None:
        """Record how long a step took."""
        self._timings[name] = round(seconds, 6)

    def check(self, name: str, outcome: str, detail: Any = None) -> None:
        """Record a check: ``passed`` or ``skipped``."""
        self._checks.append({"name": name, "outcome": outcome} | ({} if detail is None else {"detail": detail}))

    def written(self, result: dict[str, Any]) -> None:
        """Take over what :func:`netferry.converters.onnx.write.write` returned."""
        self._outputs.extend(dict(output) for output in result.get("outputs", ()))
        for check in result.get("checks", ()):
            self.check(check["name"], check["outcome"], check.get("detail"))
        for name, seconds in result.get("timings", {}).items():
            self.timing(name, seconds)
        self._facts.update({k: result[k] for k in ("opset", "ir_version") if k in result})

    def changed(self, reports: dict[str, Any]) -> None:
        """Take over what :func:`netferry.api.changing.change` returned: reports by kind of change."""
        if reports:
            self._facts["changes"] = reports

    def as_dict(self, *, hashes: bool = False) -> dict[str, Any]:
        """Return the document.

        Args:
            hashes: read sources and outputs once more for their SHA-256.

        Raises:
            InputError: a source is no longer there.
        """
        source = self._model.source
        head: dict[str, Any] = {"format": source.format}
        if source.version is not None:
            head["version"] = source.version
        if training := {k: source.details[k] for k in ("loss", "metrics") if source.details.get(k)}:
            head["training"] = training
        ran = any(check["name"] == "run" and check["outcome"] == "passed" for check in self._checks)
        return {
            "report_version": REPORT_VERSION,
            "source": head | {"files": [_file(Path(file), hashes) for file in source.files]},
            "versions": _versions(self._netferry, ran),
            "options": self._options,
            "layers": dict(sorted(self._layers.items())),
            "inputs": [info.as_dict() for info in self._model.inputs],
            "outputs": [_file(Path(o["file"]), hashes) | o for o in self._outputs],
            **({"labels": dict(self._model.labels)} if self._model.labels else {}),
            **self._facts,
            "checks": self._checks,
            "notes": [note.as_dict() for note in self._model.notes],
            "timings": self._timings,
        }

    def finish(self, target: str | Path | None = None) -> dict[str, Any]:
        """Return the document; with ``target`` also write it there as JSON, with hashes.

        Raises:
            OutputError: the report cannot be written, or would replace a source or an output.
        """
        if target is None:
            return self.as_dict()
        path = Path(target)
        for file in (*self._model.source.files, *(o["file"] for o in self._outputs)):
            if path.exists() and os.path.exists(file) and os.path.samefile(file, path):
                raise OutputError("the report would replace a file of the conversion", file=path)
        document = self.as_dict(hashes=True)
        text = json.dumps(document, indent=2, ensure_ascii=True, allow_nan=False) + "\n"
        write_whole(path, text)
        return document


def _file(path: Path, hashes: bool) -> dict[str, Any]:
    try:
        out: dict[str, Any] = {"file": str(path), "bytes": path.stat().st_size}
        if hashes:
            with path.open("rb") as file:
                out["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"cannot be opened again for the report: {error.strerror}", file=path) from None
    return out


def _versions(netferry: str, ran: bool) -> dict[str, str]:
    out = {"netferry": netferry, "python": platform.python_version()}
    for package in _PACKAGES:
        out[package] = version(package)
    if ran:
        for package in ("onnxruntime", "onnxruntime-gpu"):
            with suppress(PackageNotFoundError):
                out[package] = version(package)
    return out
