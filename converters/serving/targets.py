"""The table of stacks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from netferry.converters.serving import huggingface, kserve, mlflow, triton
from netferry.converters.serving.contents import Contents, Unit, as_json, label_lines, sound_facts
from netferry.errors import UsageError


def _plain(contents: Contents) -> list[Unit]:
    """A folder for a server of one's own: the model, its labels, its preprocessing, or what it hears."""
    files: dict[str, bytes | Path] = {file.name: file for file in contents.files}
    for labels in contents.labels.values():
        files.setdefault("labels.txt", label_lines(labels))
    if contents.preprocessing:
        files["preprocessing.json"] = as_json({n: r.as_dict() for n, r in contents.preprocessing.items()})
    if contents.sound:
        files["sound.json"] = as_json(sound_facts(contents))
    return [Unit("", files)]


TARGETS: dict[str, Callable[[Contents], list[Unit]]] = {
    "triton": triton.units,
    "kserve": kserve.units,
    "mlflow": mlflow.units,
    "huggingface": huggingface.units,
    "dir": _plain,
}
"""Name of a stack -> what makes its folders."""


def layout(target: str, contents: Contents) -> list[Unit]:
    """Return the folders that hand ``contents`` to a stack.

    Raises:
        UsageError: no such stack. UnsupportedError: the stack cannot take the model.
    """
    if target not in TARGETS:
        raise UsageError(f"a package is for {', '.join(TARGETS)}, not {target!r}")
    return TARGETS[target](contents)
