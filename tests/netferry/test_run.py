"""Step files: what they do, where their errors point, and that nothing appears unless all checks passed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest

import netferry
from netferry.errors import CheckFailed, InputError, LimitExceeded, MalformedFile, NetferryError, UsageError
from netferry.schemas.step import read_step, schema
from tests.shared import REPOSITORY

FIXTURES = REPOSITORY / "fixtures"
STEP = """\
netferry: 1
source: {file: digits.prototxt, weights: digits.caffemodel, labels: digits_labels.txt}
options: {opset: 17}
checks: {run: false}
outputs: {model: out/net.onnx, report: out/report.json}
"""


def folder_with(tmp_path: Path, text: str) -> Path:
    for file in FIXTURES.glob("digit*"):
        shutil.copy(file, tmp_path)
    (tmp_path / "step.yaml").write_text(text)
    return tmp_path / "step.yaml"


def test_the_fixture_does_everything(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    report = netferry.run(FIXTURES / "step.yaml", environment={"OUT": str(tmp_path), "OPSET": "18"})
    assert report["status"] == "done"
    assert report["accuracy"] == {"top": 1, "value": 1.0, "at_least": 0.9, "items": 12}
    assert [p["target"] for p in report["packages"]] == ["triton", "mlflow"]
    assert [c["name"] for c in report["conversion"]["checks"]] == ["structure", "run"]
    assert json.loads((tmp_path / "report.json").read_text()) == json.loads(json.dumps(report, default=str))
    assert onnx.load(tmp_path / "digits.onnx").opset_import[0].version == 18
    again = netferry.run(FIXTURES / "step.yaml", environment={"OUT": str(tmp_path), "OPSET": "18"})
    assert all(unit["unchanged"] for package in again["packages"] for unit in package["units"])


def test_paths_are_relative_to_the_step_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = folder_with(tmp_path, STEP)
    monkeypatch.chdir(FIXTURES)
    netferry.run(step)
    assert (tmp_path / "out" / "net.onnx").exists()


def test_a_failing_check_leaves_no_output_but_a_report(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    wrong = "checks: {accuracy: {data: digits.csv, at_least: 0.9}}\noptions: {preprocessing: {scale: [0.0]}}\n"
    step = folder_with(tmp_path, STEP.replace("checks: {run: false}\n", "").replace("options: {opset: 17}\n", wrong))
    with pytest.raises(CheckFailed, match=r"accuracy on digits\.csv"):
        netferry.run(step)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["report.json"]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["status"], report["error"]["exit_code"]) == ("failed", 9)
    assert report["accuracy"]["value"] < 0.9


def test_only_a_package(tmp_path: Path) -> None:
    step = folder_with(tmp_path, STEP.replace("outputs: {model: out/net.onnx, report: out/report.json}",
                                              "package: {to: dir, out: served, name: n}"))  # fmt: skip
    netferry.run(step)
    assert (tmp_path / "served" / "model.onnx").exists()
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == ["served"]


def test_changes_from_the_command_line(tmp_path: Path) -> None:
    step = folder_with(tmp_path, STEP)
    report = netferry.run(step, changes={"options.opset": "15", "options.preprocessing.scale": "[0.5]"})
    assert report["conversion"]["opset"] == 15
    assert report["document"]["options"]["preprocessing"] == {"scale": [0.5]}
    with pytest.raises(UsageError, match="no place"):
        netferry.run(step, changes={"netferry.x": "1"})


# reading -------------------------------------------------------------------------------------------------------


def read(tmp_path: Path, text: str, **environment: str) -> dict[str, Any]:
    path = tmp_path / "step.yaml"
    path.write_text(text)
    return read_step(path, environment)


def test_variables(tmp_path: Path) -> None:
    text = (
        "netferry: 1\nsource: ${DIR}/${NAME:-net}.onnx\nname: costs $$5 ${EMPTY:-nothing}\n"
        "options: {opset: '${OPSET}', external_data: $FLAG, batch: '${BATCH:-dynamic}'}\noutputs: {model: '${MODEL}'}\n"
    ).replace("$FLAG", "'${FLAG}'")
    got = read(tmp_path, text, DIR="a", OPSET="17", FLAG="true", MODEL="2024", EMPTY="", NAME="x: [injected]")
    assert got == {
        "netferry": 1, "source": "a/x: [injected].onnx", "name": "costs $5 nothing",
        "options": {"opset": 17, "external_data": True, "batch": "dynamic"}, "outputs": {"model": "2024"},
    }  # fmt: skip


HEAD = "netferry: 1\nsource: a.onnx\n"
TAIL = "outputs: {model: b.onnx}\n"


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        pytest.param(HEAD, MalformedFile, "'outputs' or 'package' is missing", id="nothing-to-do"),
        pytest.param("source: a\n" + TAIL, MalformedFile, "line 1, column 1: the document: 'netferry' is missing",
                     id="version"),
        pytest.param(HEAD + "options:\n  opset: seventeen\n" + TAIL, MalformedFile,
                     'line 4, column 3: options.opset: is of type integer, not "seventeen"', id="type"),
        pytest.param(HEAD + "options:\n  optimise: full\n" + TAIL, MalformedFile,
                     "line 4, column 3: options.optimise: no such key", id="unknown-key"),
        pytest.param(HEAD + "options: {optimize: all}\n" + TAIL, MalformedFile,
                     'options.optimize: is none, safe, full, not "all"', id="enum"),
        pytest.param(HEAD + "package:\n- {to: triton, out: r}\n- {to: torchserve, out: r}\n", MalformedFile,
                     "line 5, column 4: package[1].to: is triton", id="inside-a-list"),
        pytest.param(HEAD.replace("a.onnx", "{weights: w}") + TAIL, MalformedFile, "source: 'file' is missing",
                     id="required-inside"),
        pytest.param(HEAD + "checks: {accuracy: {data: d, at_least: 90}}\n" + TAIL, MalformedFile,
                     "checks.accuracy.at_least: 90 is greater than the maximum of 1", id="range"),
        pytest.param(HEAD + "name: ${NOWHERE}\n" + TAIL, UsageError, "line 3, column 7: name: the environment has no",
                     id="variable"),
        pytest.param(HEAD + "options: {opset: '${WORD}'}\n" + TAIL, MalformedFile, "options.opset: is of type integer",
                     id="variable-of-wrong-type"),
        pytest.param(HEAD + "name: ${bad-name}\n" + TAIL, MalformedFile, "without a variable", id="bad-variable"),
        pytest.param(HEAD + "name: a\nname: b\n" + TAIL, MalformedFile, "line 4, column 1: key 'name' appears twice",
                     id="twice"),
        pytest.param(HEAD + "name: [unclosed\n", MalformedFile, "is no YAML", id="syntax"),
        pytest.param(HEAD + "name: !!python/object/apply:os.system [ls]\n" + TAIL, MalformedFile, "no YAML|name",
                     id="python-tag"),
        pytest.param(HEAD + "yes: 1\n" + TAIL, MalformedFile, "keys are texts", id="truth-as-key"),
        pytest.param("- a\n", MalformedFile, "the document: is of type object", id="a-list"),
        pytest.param("", MalformedFile, "the document: is of type object", id="empty"),
        pytest.param("a: &a [x, x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a, *a]\n"
                     "c: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b, *b]\nd: &d [*c, *c, *c, *c, *c, *c, *c, *c, *c, *c]\n"
                     "e: [*d, *d, *d, *d, *d, *d, *d, *d, *d, *d, *d]\n", LimitExceeded, "entries", id="alias-bomb"),
        pytest.param("a: &a [*a]\n", NetferryError, "entries|no YAML", id="alias-of-itself"),
        pytest.param("#" * (1 << 20) + "\n", LimitExceeded, "bytes", id="too-large"),
        pytest.param("name: \x07\n", MalformedFile, "no YAML", id="control-character"),
    ],
)  # fmt: skip
def test_errors_point_at_the_place(text: str, error: type[NetferryError], message: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=message.replace("[1]", r"\[1\]").replace("(", r"\(")) as raised:
        read(tmp_path, text, WORD="many")
    assert raised.value.file == str(tmp_path / "step.yaml")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        netferry.run(tmp_path / "none.yaml")


def test_the_schema_is_one() -> None:
    from jsonschema import Draft202012Validator

    Draft202012Validator.check_schema(schema())


def test_validate_touches_nothing(tmp_path: Path) -> None:
    assert netferry.run(folder_with(tmp_path, STEP), validate=True)["status"] == "valid"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        pytest.param(["--validate"], 0, id="valid"),
        pytest.param(["--set", "options.opset=99"], 4, id="against-the-schema"),
        pytest.param(["--set", "source.file=none.prototxt"], 3, id="missing-source"),
        pytest.param(["--set", "nonsense"], 2, id="usage"),
        pytest.param(["--set", "source.weights=null", "--set", "source={file: digits.prototxt}"], 8, id="no-weights"),
    ],
)
def test_exit_codes_and_one_json_document(arguments: list[str], code: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "netferry", "run", str(folder_with(tmp_path, STEP)), *arguments, "--json"],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    document = json.loads(done.stdout)
    assert document.get("exit_code", 0) == code
