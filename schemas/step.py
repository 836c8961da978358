"""Step files (step.schema.json): YAML with environment variables, read safely; errors say where in the file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from netferry.errors import LimitExceeded, MalformedFile, UsageError, quoted
from netferry.schemas.opening import read_bounded

MAX_BYTES = 1 << 20
MAX_NODES = 100_000
_DEEPEST = 20
"""steps on the way to a place"""
_VARIABLE = re.compile(r"\$(?:\$|\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|\{)")
Where = tuple[str | int, ...]
"""A place in the document: keys and positions from the top."""


def schema() -> dict[str, Any]:
    """Return the JSON schema of step files."""
    return json.loads((Path(__file__).parent / "step.schema.json").read_text("utf-8"))


def read_step(path: Path, environment: Mapping[str, str], changes: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return a step file's document, its variables filled in, valid by the schema.

    A text that consists of one variable takes the type that the schema asks for there: ``opset: ${OPSET}`` is a number.

    Args:
        environment: the variables.
        changes: values for places in the document (``{"options.opset": "17"}``), as YAML.

    Raises:
        InputError: the file cannot be opened. LimitExceeded: larger than a step file is.
        MalformedFile: no YAML, or against the schema; names line and place.
        UsageError: a variable without value, a change to a place that cannot be.
    """
    reader = _Reader(path, environment)
    document = reader.read(_text(path))
    for place, value in (changes or {}).items():
        _change(document, place, value)
    return _valid(document, reader, path)


def _text(path: Path) -> str:
    raw = read_bounded(path, MAX_BYTES, "a step file")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MalformedFile("is not UTF-8 text", file=path, offset=error.start) from None


class _Reader:
    """Builds the document from YAML's nodes, which know their lines.

    Attributes:
        lines: place -> (line, column), from 1.
        whole: places whose text was one variable and nothing else.
    """

    def __init__(self, path: Path, environment: Mapping[str, str]) -> None:
        self.path, self.environment = path, environment
        self.lines: dict[Where, tuple[int, int]] = {}
        self.whole: set[Where] = set()
        self._nodes = 0

    def read(self, text: str) -> Any:
        try:
            loader = yaml.SafeLoader(text)
            node = loader.get_single_node()
            return None if node is None else self._built(loader, node, ())
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line, column = (mark.line + 1, mark.column + 1) if mark else (None, None)
            raise MalformedFile(f"is no YAML: {error.problem}", file=self.path, line=line, column=column) from None
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise MalformedFile(f"is no YAML: {quoted(error)[1:-1]}", file=self.path) from None

    def _built(self, loader: Any, node: Any, where: Where) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES:  # aliases of aliases
            raise LimitExceeded(f"a step file has at most {MAX_NODES:,} entries", file=self.path)
        self.lines[where] = (node.start_mark.line + 1, node.start_mark.column + 1)
        if isinstance(node, yaml.SequenceNode):
            return [self._built(loader, item, (*where, i)) for i, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            found: dict[str, Any] = {}
            for key_node, value in node.value:
                key = loader.construct_object(key_node)
                mark = key_node.start_mark
                if not isinstance(key, str) or key in found:
                    why = f"key {quoted(key)} appears twice" if isinstance(key, str) else "keys are texts"
                    raise MalformedFile(why, file=self.path, line=mark.line + 1, column=mark.column + 1)
                found[key] = self._built(loader, value, (*where, key))
                self.lines[(*where, key)] = (mark.line + 1, mark.column + 1)
            return found
        value = loader.construct_object(node)
        return self._filled(value, where) if isinstance(value, str) else value

    def _filled(self, text: str, where: Where) -> str:
        def value(found: re.Match[str]) -> str:
            name, default = found[1], found[2]
            if found[0] == "$$":
                return "$"
            if name is None:
                raise self.error(where, f"{quoted(text)} has '${{' without a variable's name; '$$' is a dollar")
            known = self.environment.get(name)
            if (known is None or known == "") and default is not None:
                return default
            if known is None:
                line, column = self.lines[where]
                raise UsageError(
                    f"line {line}, column {column}: {shown(where)}: the environment has no {name}",
                    file=self.path,
                    hint=f"set {name}, or give a default: ${{{name}:-value}}",
                )
            return known

        match = _VARIABLE.fullmatch(text)
        if match is not None and match[1] is not None:
            self.whole.add(where)
        return _VARIABLE.sub(value, text)

    def error(self, where: Where, reason: str) -> MalformedFile:
        """An error that names the place and its line; of a missing key, those of what lacks it."""
        known = where
        while known not in self.lines and known:
            known = known[:-1]
        line, column = self.lines.get(known, (None, None))
        return MalformedFile(f"{shown(where)}: {reason}", file=self.path, line=line, column=column)


def shown(where: Where) -> str:
    """Return a place as people write it: ``package[0].to``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where).lstrip(".")
    return quoted(text)[1:-1] if text else "the document"


def _change(document: Any, place: str, value: str) -> None:
    """Set a value at a place like ``options.opset``; objects on the way are made."""
    *way, last = place.split(".", _DEEPEST)
    here = document
    for key in way:
        here = here.setdefault(key, {}) if isinstance(here, dict) else None
    if not isinstance(here, dict) or not last:
        raise UsageError(f"no place {quoted(place)} in the step file that a value can be set at")
    try:
        here[last] = yaml.safe_load(value)
    except yaml.YAMLError:
        raise UsageError(f"{quoted(value)} is no YAML value, for {quoted(place)}") from None


def _valid(document: Any, reader: _Reader, path: Path) -> dict[str, Any]:
    from jsonschema import Draft202012Validator

    validator = Draft202012Validator(schema())
    for error in _leaves(validator.iter_errors(document)):
        where = tuple(error.absolute_path)
        if where in reader.whole:
            _retype(document, where)
    found = sorted(
        _leaves(validator.iter_errors(document)),
        key=lambda e: (len(e.absolute_path) == 0, list(map(str, e.absolute_path))),
    )
    if not found:
        return document
    where, reason = _said(found[0])
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    error = reader.error(where, reason + more)
    error.file = str(path)
    error.hint = "schemas/step.schema.json says what a step file may hold"
    raise error


def _leaves(errors: Any) -> list[Any]:
    """The errors that say most: inside anyOf, those of the branch that the value's type fits."""
    found: list[Any] = []
    for error in errors:
        if error.validator == "anyOf" and error.context:
            branches: dict[int, list[Any]] = {}
            for inner in error.context:
                branches.setdefault(inner.schema_path[0], []).append(inner)
            fitting = [
                b for b in branches.values() if not any(e.validator in ("type", "const") and not e.path for e in b)
            ]
            if len(fitting) == 1:
                found.extend(_leaves(fitting[0]))
                continue
        found.append(error)
    return found


def _retype(document: Any, where: Where) -> None:
    """A variable's text as the number or truth value that it spells."""
    here = document
    for part in where[:-1]:
        here = here[part]
    try:
        value = yaml.safe_load(here[where[-1]])
    except yaml.YAMLError:
        return
    if isinstance(value, (bool, int, float)):
        here[where[-1]] = value


def _said(error: Any) -> tuple[Where, str]:
    """Where and what, in words."""
    where: Where = tuple(error.absolute_path)
    value = quoted(json.dumps(error.instance, default=str), 80)[1:-1]
    if error.validator == "additionalProperties":
        known = sorted(error.schema["properties"]) if "properties" in error.schema else []
        unknown = next((k for k in error.instance if k not in known), "?")
        return (*where, unknown), f"no such key (there are {', '.join(known)})"
    if error.validator == "required":
        missing = next(k for k in error.validator_value if k not in error.instance)
        return where, f"{missing!r} is missing"
    if error.validator == "anyOf" and not where:
        return where, "'outputs' or 'package' is missing: the step would leave nothing behind"
    if error.validator in ("enum", "const"):
        allowed = error.validator_value if error.validator == "enum" else [error.validator_value]
        return where, f"is {', '.join(map(str, allowed))}, not {value}"
    if error.validator == "type":
        return where, f"is of type {error.validator_value}, not {value}"
    if error.validator == "anyOf":
        kinds = [s.get("type") or s.get("const") or "object" for s in error.validator_value]
        return where, f"is {' or '.join(map(str, kinds))}, not {value}"
    return where, quoted(error.message, 200)[1:-1]
