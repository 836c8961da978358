"""deploy/: the recipes name what there is, and the component's call runs; no container engine is needed for that."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import onnx
import pytest
import yaml

from tests.shared import REPOSITORY

DEPLOY = REPOSITORY / "deploy"
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
COMPONENT = yaml.safe_load((DEPLOY / "kubeflow-component.yaml").read_text())
FIXTURES = REPOSITORY / "fixtures"
KEYWORDS = {"FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "ENTRYPOINT", "CMD"}


def instructions(kind: str) -> list[tuple[str, str]]:
    text = (DEPLOY / f"Dockerfile.{kind}").read_text()
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines]


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_a_dockerfile_names_what_there_is(kind: str) -> None:
    steps = instructions(kind)
    assert {word for word, _ in steps} <= KEYWORDS
    assert steps[0][0] == "FROM"
    stages = {rest.split(" AS ")[1] for word, rest in steps if word == "FROM" and " AS " in rest}
    for word, rest in steps:
        if word == "COPY" and not rest.startswith("--from="):
            for source in rest.split()[:-1]:
                assert (REPOSITORY / source).exists(), source
        elif word == "COPY":
            assert rest.split()[0].removeprefix("--from=") in stages
    (install,) = [rest for word, rest in steps if word == "RUN" and "pip install" in rest]
    extras = re.search(r"'\.\[([\w,]+)\]'", install)
    assert extras is not None
    assert set(extras[1].split(",")) <= set(PROJECT["project"]["optional-dependencies"])
    assert extras[1].split(",")[0] == kind
    assert "-c constraints.txt" in install
    assert steps[-2:] == [("ENTRYPOINT", '["netferry"]'), ("CMD", '["--help"]')]
    assert [rest for word, rest in steps if word == "USER"] == ["netferry"]
    for line in [rest for word, rest in steps if word == "RUN"]:
        subprocess.run(["bash", "-n", "-c", line], check=True)


def test_the_context_holds_what_is_copied() -> None:
    kept = {line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {s for w, r in instructions("cpu") if w == "COPY" and "--from" not in r for s in r.split()[:-1]}
    assert kept == copied
    rooms = {path.split("/")[0] for path in PROJECT["tool"]["setuptools"]["package-dir"].values()}
    assert {"netferry", *rooms} <= copied


def test_the_images_are_called_after_the_version() -> None:
    version = PROJECT["project"]["version"]
    assert COMPONENT["implementation"]["container"]["image"] == f"netferry:{version}-cpu"
    for kind in ("cpu", "gpu"):
        assert f"-t netferry:{version}-{kind} ." in (DEPLOY / f"Dockerfile.{kind}").read_text()


def placeholders(value: Any) -> list[tuple[str, str]]:
    if isinstance(value, list):
        return [p for item in value for p in placeholders(item)]
    if isinstance(value, dict):
        if set(value) == {"if"}:
            inner = value["if"]
            return [("input", inner["cond"]["isPresent"]), *placeholders(inner["then"])]
        ((kind, name),) = value.items()
        return [("output" if kind == "outputPath" else "input", name)]
    return []


def test_the_component_declares_what_it_uses() -> None:
    container = COMPONENT["implementation"]["container"]
    used = set(placeholders(container["command"]) + placeholders(container["args"]))
    declared = {("input", i["name"]) for i in COMPONENT["inputs"]} | {
        ("output", o["name"]) for o in COMPONENT["outputs"]
    }
    assert used == declared
    required = {i["name"] for i in COMPONENT["inputs"] if not i.get("optional")}
    assert required == {"source"}


def resolved(value: Any, given: dict[str, str], outputs: dict[str, Path]) -> list[str]:
    """The call that Kubeflow makes of a part of the command."""
    if isinstance(value, list):
        return [word for item in value for word in resolved(item, given, outputs)]
    if isinstance(value, str):
        return [value]
    if "if" in value:
        present = value["if"]["cond"]["isPresent"] in given
        return resolved(value["if"]["then"], given, outputs) if present else []
    ((kind, name),) = value.items()
    return [str(outputs[name]) if kind == "outputPath" else given[name]]


@pytest.mark.parametrize("whole", [True, False], ids=["all-inputs", "source-and-weights"])
def test_the_components_call_runs(whole: bool, tmp_path: Path) -> None:
    given: dict[str, str] = {}
    for name, file in (
        ("source", "digits.prototxt"),
        ("weights", "digits.caffemodel"),
        ("labels", "digits_labels.txt"),
    ):
        place = tmp_path / "inputs" / name / "data"  # Kubeflow's files have no names of their own
        place.parent.mkdir(parents=True)
        place.write_bytes((FIXTURES / file).read_bytes())
        given[name] = str(place)
    given |= {"opset": "17", "optimize": "safe"}
    if not whole:
        given = {name: given[name] for name in ("source", "weights")}
    outputs = {o["name"]: tmp_path / "outputs" / o["name"] / "data" for o in COMPONENT["outputs"]}
    container = COMPONENT["implementation"]["container"]
    words = resolved(container["command"] + container["args"], given, outputs)
    assert shlex.join(words).startswith("netferry convert")
    done = subprocess.run([sys.executable, "-m", *words], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    model = onnx.load(outputs["model"])
    assert model.opset_import[0].version == (17 if whole else 21)
    assert outputs["report"].exists()
