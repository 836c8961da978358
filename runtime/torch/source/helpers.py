"""Functions of netferry that written code calls: their own source, with all that they need, and nothing else."""

from __future__ import annotations

import ast
import copy
import functools
import importlib
import inspect
import io
import tokenize
from collections.abc import Callable, Iterable
from typing import Any

_ROOT = "netferry."
_HOST_TYPES = {"HostInts": "list[int]", "HostInt": "int", "HostFloats": "list[float]", "HostFloat": "float"}
_IMPORTED_ALREADY = {"torch", "nn", "F", "math", "Tensor"}


class Helpers:
    """Collects definitions, those that others need first; two of one name are told apart.

    Args:
        unsigned: keep the wrapping that serves uint16, uint32 and uint64.
        reserved: names that the written file uses otherwise.
    """

    def __init__(self, *, unsigned: bool, reserved: Iterable[str] = ()) -> None:
        self.unsigned = unsigned
        self.imports: set[tuple[str, str]] = set()
        """(module, name); an empty module for a plain import"""
        self.texts: list[str] = []
        self._names: dict[tuple[str, str], str] = {}
        self._taken = {*_IMPORTED_ALREADY, *reserved}

    @property
    def names(self) -> set[str]:
        """Names that the collected definitions have in the file."""
        return set(self._names.values())

    def import_lines(self) -> list[str]:
        """What the collected definitions import."""
        by_module: dict[str, list[str]] = {}
        for module, name in sorted(self.imports):
            by_module.setdefault(module, []).append(name)
        plain = [f"import {name}" for name in by_module.pop("", [])]
        return [*plain, *(f"from {module} import {', '.join(names)}" for module, names in by_module.items())]

    def name(self, function: Callable[..., Any]) -> str:
        """The name under which the file has a function of netferry; it is collected at the first call."""
        return self._take(function.__module__, function.__name__)

    def _take(self, module: str, name: str) -> str:
        key = (module, name)
        if key in self._names:
            return self._names[key]
        shown = name
        while shown in self._taken:
            shown = f"{shown}_{module.rpartition('.')[2]}"
        self._names[key] = shown
        self._taken.add(shown)
        definition = _index(module).definitions[name]
        changes = self._needs(module, definition)
        if shown != name:
            changes[name] = shown
        self.texts.append(_renamed(self._text(module, definition), changes))
        return shown

    def _needs(self, module: str, definition: ast.stmt) -> dict[str, str]:
        """Collect what a definition uses; returns the names that the file spells otherwise."""
        index, changes = _index(module), dict[str, str]()
        for used in sorted(_used_names(self._kept(definition))):
            shown: str | None = None
            if used in index.definitions:
                shown = self._take(module, used)
            elif used in index.imports:
                where, what = index.imports[used]
                if used in _HOST_TYPES:
                    shown = _HOST_TYPES[used]
                elif where.startswith(_ROOT):
                    shown = self._take(where, what)
                elif used not in _IMPORTED_ALREADY:
                    self.imports.add((where, what))
            if shown is not None and shown != used:
                changes[used] = shown
        return changes

    def _kept(self, definition: ast.stmt) -> ast.stmt:
        """The definition without the decorators that are left out."""
        if not isinstance(definition, ast.FunctionDef):
            return definition
        kept = copy.copy(definition)
        kept.decorator_list = [d for d in definition.decorator_list if self._keeps(d)]
        return kept

    def _keeps(self, decorator: ast.expr) -> bool:
        name = decorator.func if isinstance(decorator, ast.Call) else decorator
        plain = name.id if isinstance(name, ast.Name) else ""
        return plain != "op" and (self.unsigned or plain != "unsigned")

    def _text(self, module: str, definition: ast.stmt) -> str:
        lines = _index(module).lines
        text = "\n".join(lines[definition.lineno - 1 : definition.end_lineno])
        if isinstance(definition, (ast.FunctionDef, ast.ClassDef)):
            kept = ["@" + ast.unparse(d) for d in definition.decorator_list if self._keeps(d)]
            return "\n".join([*kept, text])
        return text


class _Index:
    """What one module defines and imports at its top."""

    def __init__(self, module: str) -> None:
        text = inspect.getsource(importlib.import_module(module))
        self.lines = text.splitlines()
        self.definitions: dict[str, ast.stmt] = {}
        self.imports: dict[str, tuple[str, str]] = {}
        for statement in ast.parse(text).body:
            if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
                self.definitions[statement.name] = statement
            elif isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                self.definitions[statement.targets[0].id] = statement
            elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                self.definitions[statement.target.id] = statement
            elif isinstance(statement, ast.Import):
                for alias in statement.names:
                    self.imports[alias.asname or alias.name] = ("", alias.name)
            elif isinstance(statement, ast.ImportFrom):
                for alias in statement.names:
                    self.imports[alias.asname or alias.name] = (statement.module or "", alias.name)


@functools.cache
def _index(module: str) -> _Index:
    return _Index(module)


def _used_names(definition: ast.stmt) -> set[str]:
    """Names that a definition reads and does not set itself."""
    read, own = set[str](), set[str]()
    for node in ast.walk(definition):
        if isinstance(node, ast.Name):
            (read if isinstance(node.ctx, ast.Load) else own).add(node.id)
        elif isinstance(node, ast.arg):
            own.add(node.arg)
        elif isinstance(node, ast.FunctionDef) and node is not definition:
            own.add(node.name)
    return read - own


def _renamed(text: str, changes: dict[str, str]) -> str:
    """The text with names changed, where they are names and no attributes or keywords."""
    if not changes:
        return text
    lines = text.splitlines(keepends=True)
    found: list[tuple[int, int, int, str]] = []
    tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    depth = 0
    for i, token in enumerate(tokens):
        depth += (token.string in "([{" and bool(token.string)) - (token.string in ")]}" and bool(token.string))
        if token.type != tokenize.NAME or token.string not in changes:
            continue
        before, after = tokens[i - 1].string if i else "", tokens[i + 1].string
        if before != "." and not (after == "=" and depth > 0):
            found.append((token.start[0] - 1, token.start[1], token.end[1], changes[token.string]))
    for row, start, end, new in reversed(found):
        lines[row] = lines[row][:start] + new + lines[row][end:]
    return "".join(lines)
