"""Every leaf of the error tree is asked for by some test, and its exit code is in the README."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from netferry import errors
from netferry.errors import NetferryError

ROOT = Path(__file__).resolve().parents[2]
TREE = sorted(name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, NetferryError))
LEAVES = [name for name in TREE if not vars(errors)[name].__subclasses__()]


def _asked_for() -> set[str]:
    """Names that tests hand to a call: to ``pytest.raises``, or in a row to what does. Imports do not count."""
    found: set[str] = set()
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, (ast.Call, ast.Assign, ast.AnnAssign)):
                given = [*node.args, *(k.value for k in node.keywords)] if isinstance(node, ast.Call) else [node.value]
                inside = [n for value in given if value is not None for n in ast.walk(value)]
                found.update(n.id for n in inside if isinstance(n, ast.Name))
                found.update(n.attr for n in inside if isinstance(n, ast.Attribute))
    return found


ASKED_FOR = _asked_for()


@pytest.mark.parametrize("name", LEAVES)
def test_some_test_asks_for_the_error(name: str) -> None:
    assert name in ASKED_FOR, f"no test asserts that {name} is raised"


def test_the_readme_names_every_exit_code() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    for code in sorted({vars(errors)[name].exit_code for name in TREE}):
        assert re.search(rf"^\| {code} \|", text, re.MULTILINE), code
