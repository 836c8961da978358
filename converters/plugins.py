"""Layer readers of users: a Python file given by ``--plugin``, or packages with the entry point ``netferry.plugins``.

A plug-in is the user's own program and runs as such; nothing in a model file can name one.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import sys
from pathlib import Path

from netferry.errors import InputError, UsageError, quoted

ENTRY_POINT = "netferry.plugins"


def load_plugin(path: Path) -> None:
    """Run a plug-in file, which registers readers with ``netferry.converters.<format>.registry.layer``.

    Loading the same file twice does nothing.

    Raises:
        InputError: no such file.
        UsageError: the plug-in fails, or registers a type that has a reader.
    """
    path = path.resolve()
    if not path.is_file():
        raise InputError("no such plug-in", file=path)
    name = f"netferry_plugin_{path.stem}_{abs(hash(str(path)))}"
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError("a plug-in is a Python file (.py)", file=path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise UsageError(f"the plug-in fails: {type(error).__name__}: {error}", file=path) from error


def load_installed() -> None:
    """Load the plug-ins of installed packages.

    Raises:
        UsageError: one of them fails.
    """
    for entry in _installed(tuple(sys.path)):
        try:
            entry.load()
        except Exception as error:
            raise UsageError(f"plug-in {quoted(entry.name)} fails: {type(error).__name__}: {error}") from error


@functools.lru_cache(1)
def _installed(path: tuple[str, ...]) -> list[importlib.metadata.EntryPoint]:
    """Entry points of the packages on ``path``; to look through all installed packages takes several ms."""
    del path
    return list(importlib.metadata.entry_points(group=ENTRY_POINT))
