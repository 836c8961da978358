"""Messages and exit codes of the error tree."""

from __future__ import annotations

import pytest

from netferry import errors
from netferry.errors import MalformedFile, NetferryError, UnsupportedLayer, quoted


def _leaves() -> list[type[NetferryError]]:
    found, queue = [], [NetferryError]
    while queue:
        kind = queue.pop()
        found.append(kind)
        queue.extend(kind.__subclasses__())
    return [k for k in found if k.__module__ == "netferry.errors"]


def test_every_class_is_drawn_in_the_tree_with_its_code() -> None:
    rows = [line.strip("│├└─ ").split() for line in (errors.__doc__ or "").splitlines()]
    drawn = {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}
    assert drawn == {kind.__name__: kind.exit_code for kind in _leaves()}


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        pytest.param("plain", "'plain'", id="plain"),
        pytest.param("a\x1b[31mb", "'a\\x1b[31mb'", id="terminal-sequence"),
        pytest.param("línea", "'línea'", id="unicode-stays"),
        pytest.param("a\nb", "'a\\nb'", id="newline"),
        pytest.param("x" * 500, "'" + "x" * 199 + "…'", id="cut"),
        pytest.param("\udcff", "'\\udcff'", id="surrogate"),
    ],
)
def test_names_from_files_are_quoted(name: str, shown: str) -> None:
    assert quoted(name) == shown


def test_an_error_says_where_what_and_advises() -> None:
    error = MalformedFile("a value is expected", line=3, column=7).at(file="net.prototxt", layer="conv1")
    assert str(error) == "'net.prototxt': 'conv1': line 3, column 7: a value is expected"
    assert error.as_dict() == {
        "error": "MalformedFile",
        "exit_code": 4,
        "file": "net.prototxt",
        "layer": "conv1",
        "reason": "line 3, column 7: a value is expected",
    }


def test_unsupported_layers_are_listed_all_at_once() -> None:
    error = UnsupportedLayer([("a", "Warp", "no reader"), ("b", "Python", "runs code")], file="n.prototxt")
    assert "uses 2 layers" in str(error)
    assert "'a'  (Warp)  no reader" in str(error)
    assert [row["name"] for row in error.as_dict()["layers"]] == ["a", "b"]  # pyright: ignore[reportIndexIssue, reportGeneralTypeIssues]
