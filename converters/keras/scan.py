"""What is suspicious in a Keras file, told from its configuration alone; nothing of it is evaluated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from netferry.converters.keras.archive import open_content
from netferry.converters.options import Limits
from netferry.errors import quoted
from netferry.schemas.findings import ODD_SIZE, Finding, Severity, leaves, odd_size, reference

_OWN = ("keras", "tensorflow.keras", "tf_keras", "tensorflow.python.keras", "builtins")
_PATHS = ("filepath", "file_path", "directory", "vocabulary_file", "path")


def scan(path: Path, limits: Limits) -> list[Finding]:
    """Return the findings of a Keras ``.h5``, ``.keras`` or ``.json`` file.

    Raises:
        NetferryError: the file cannot be read at all.
    """
    with ExitStack() as stack:
        content = open_content(path, limits, stack)
        return list(_walk(content.architecture, None, 0, limits.nesting * 4))


def _walk(node: Any, layer: str | None, depth: int, deepest: int) -> Iterator[Finding]:
    if depth > deepest:
        return  # parse_json bounds the depth; an HDF5 attribute goes through it too
    if isinstance(node, list):
        for item in node:
            yield from _walk(item, layer, depth + 1, deepest)
        return
    if not isinstance(node, dict):
        return
    kind, config = node.get("class_name"), node.get("config")
    if isinstance(kind, str) and isinstance(config, (dict, str)):
        name = config.get("name") if isinstance(config, dict) else None
        layer = name if isinstance(name, str) else layer
        yield from _object(node, kind, config, layer)
    for key, value in node.items():
        if isinstance(value, str) and _names_a_file(key, value):
            yield reference(key, value, layer)
        elif isinstance(value, int) and _is_odd(key, value):
            yield odd_size(key, value, layer)
        yield from _walk(value, layer, depth + 1, deepest)


def _object(node: dict[str, Any], kind: str, config: Any, layer: str | None) -> Iterator[Finding]:
    module = node.get("module")
    if kind == "__lambda__":
        yield Finding(Severity.DANGER, "code", "holds marshalled Python code", layer)
    elif kind == "Lambda":
        yield Finding(Severity.DANGER, "code", "a Lambda layer: it runs Python code", layer)
    elif kind == "function" and not _is_own(module):
        yield Finding(Severity.DANGER, "code", f"names the function {quoted(config)} of module {quoted(module)}", layer)
    elif module is not None and not _is_own(module):
        what = quoted(f"{module}.{kind}")
        yield Finding(Severity.DANGER, "code", f"asks to import {what}, which no Keras has", layer)


def _is_odd(key: str, number: int) -> bool:
    """Whether a number is larger than settings are; ``shared_object_id`` is where an object lay in memory."""
    return abs(number) > ODD_SIZE and "seed" not in key and key != "shared_object_id"


def _names_a_file(key: str, value: str) -> bool:
    return (key in _PATHS and ("/" in value or "\\" in value)) or (key == "vocabulary" and leaves(value))


def _is_own(module: Any) -> bool:
    return isinstance(module, str) and any(module == own or module.startswith(f"{own}.") for own in _OWN)
