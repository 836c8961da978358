"""Every command's help shows an example, and the example works on fixtures/."""

from __future__ import annotations

import inspect
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shared import REPOSITORY

FIXTURES = REPOSITORY / "fixtures"
DIGITS = (
    "convert fixtures/digits.prototxt fixtures/digits.caffemodel -o digits.onnx --labels fixtures/digits_labels.txt "
    "--mean fixtures/digits_mean.binaryproto --scale 0.00390625"
)
BEFORE = {  # what an example takes for granted, made by the examples of other commands
    "compare": ["optimize digits.onnx digits-small.onnx"],
    "merge-features": [f"features digits.onnx fixtures/digits.csv -l ip1 -o f-{n}.npz --shard {n}/2" for n in (1, 2)],
}
ELSEWHERE = {"zoo pull"}
"""examples that need the network: tests/zoo/test_pull.py runs them against a server of its own"""


def examples() -> list[tuple[str, str | None]]:
    """(command, example) of every command, those of groups as ``group command``."""
    from netferry.cli import register
    from netferry.cli.app import app

    register()
    found: list[tuple[str, str | None]] = []
    groups = [("", app), *((f"{g.name} ", g.typer_instance) for g in app.registered_groups)]
    for prefix, group in groups:
        for command in getattr(group, "registered_commands", ()):
            assert command.callback is not None
            name = prefix + (command.name or command.callback.__name__.replace("_", "-"))
            text = " ".join((inspect.getdoc(command.callback) or command.help or "").split())
            shown = re.search(r"Examples?: (netferry .*)$", text)
            found.append((name, shown[1] if shown else None))
    return sorted(found)


@pytest.mark.parametrize(("command", "example"), examples())
def test_every_help_shows_an_example_of_the_command(command: str, example: str | None) -> None:
    assert example is not None, f"the help of {command} shows no example"
    assert example.startswith(f"netferry {command}"), example
    for word in shlex.split(example):
        if word.startswith("fixtures/"):
            assert (REPOSITORY / word).exists() or "*" in word, word


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("examples")
    shutil.copytree(FIXTURES, made / "fixtures", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    call(DIGITS, made)
    return made


def call(line: str, folder: Path, serves: bool = False) -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "netferry", *shlex.split(line)], cwd=folder, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(REPOSITORY), "BROWSER": "true"}, text=True,
    )  # fmt: skip
    with child:
        if serves:  # until somebody ends it
            assert child.stdout is not None
            assert child.stdout.readline().startswith(("http://", "file://"))
            child.terminate()
        _, said = child.communicate(timeout=600)
    assert child.returncode == 0 or (serves and child.returncode == 143), f"netferry {line}\n{said}"


@pytest.mark.slow
@pytest.mark.parametrize(("command", "example"), [row for row in examples() if row[0] not in ELSEWHERE])
def test_the_example_works(command: str, example: str | None, folder: Path) -> None:
    assert example is not None
    for line in BEFORE.get(command, ()):
        call(line, folder)
    call(example.removeprefix("netferry "), folder, serves=command == "view")
