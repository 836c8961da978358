"""Every leaf of the error tree is asked for by some test, and its exit code is in the README."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from netferry import errors
from netferry.errors import NetferryError

ROOT = Path(__file__).resolve().parents[2]
TREE = sorted(name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, NetferryError))
LEAVES = [name for name in TREE if not vars(errors)[name].__subclasses__()]
TESTS = {p: p.read_text("utf-8") for p in (ROOT / "tests").rglob("test_*.py") if p != Path(__file__).resolve()}


@pytest.mark.parametrize("name", LEAVES)
def test_some_test_asks_for_the_error(name: str) -> None:
    raised = re.compile(rf"raises\(\s*(\(.*)?{name}\b|{name}[,)\]]|{name}\.exit_code")
    assert any(raised.search(text) for text in TESTS.values()), f"no test asserts that {name} is raised"


def test_the_readme_names_every_exit_code() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    for code in sorted({vars(errors)[name].exit_code for name in TREE}):
        assert re.search(rf"^\| {code} \|", text, re.MULTILINE), code
