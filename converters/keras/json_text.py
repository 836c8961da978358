"""JSON from strangers: bounded size, depth and digits, no key twice, nothing after the end."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from netferry.converters.options import Limits
from netferry.errors import LimitExceeded, MalformedFile, quoted

_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
"""a string; one without an end goes to the end of the text"""
_NOT_BRACKETS = re.compile(r"[^][{}]+")


def parse_json(text: bytes | str, limits: Limits, *, file: Path) -> Any:
    """Return the value of a JSON text (NaN and Infinity allowed, as Keras writes them).

    Raises:
        LimitExceeded: longer, deeper or with longer numbers than allowed.
        MalformedFile: not JSON, a key twice in one object, or text after the end.
    """
    if len(text) > limits.text_bytes:
        raise LimitExceeded(f"a text of {len(text)} bytes (limit text_bytes={limits.text_bytes})", file=file)
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise MalformedFile("not UTF-8 text", file=file, offset=error.start) from None
    _check_depth(text, limits, file)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            seen: set[str] = set()
            twice = next(k for k, _ in pairs if k in seen or seen.add(k))
            raise MalformedFile(f"key {quoted(twice)} is given twice", file=file)
        return found

    def whole(digits: str) -> int:
        if len(digits) > limits.digits:
            raise LimitExceeded(f"a number of {len(digits)} digits (limit digits={limits.digits})", file=file)
        return int(digits)

    try:
        return json.loads(text, object_pairs_hook=unique, parse_int=whole)
    except json.JSONDecodeError as error:
        raise MalformedFile(error.msg, file=file, line=error.lineno, column=error.colno) from None
    except RecursionError:
        raise LimitExceeded("the JSON is nested too deep", file=file) from None


def _check_depth(text: str, limits: Limits, file: Path) -> None:
    """Count brackets outside strings: json.loads would recurse before anyone could stop it.

    A network's own nesting multiplies the depth of its JSON, so the text may be four times as deep as ``nesting``.
    """
    allowed = limits.nesting * 4
    if text.count("[") + text.count("{") <= allowed:
        return
    depth = 0
    for bracket in _NOT_BRACKETS.sub("", _STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        if depth > allowed:
            raise LimitExceeded(f"JSON nested deeper than {allowed} (limit nesting={limits.nesting})", file=file)
