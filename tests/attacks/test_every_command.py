"""Every command that reads a model does so where a crash is a typed error: a file that crashes whoever opens it."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from netferry.errors import MalformedFile
from netferry.sandbox import available
from tests.netferry.test_help import examples

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "fixtures"
HOOK = """
import os, signal, sys

def crash(event, arguments):
    if event == "open" and str(arguments[0]).endswith("evil.prototxt"):
        os.kill(os.getpid(), signal.SIGSEGV)

sys.addaudithook(crash)
"""
"""what a hole in a native library does, at the moment when the file is opened"""
PICTURE = str(FIXTURES / "digit_0_04.png")
COMMANDS = {
    "convert": "convert {evil} -o {out}",
    "optimize": "optimize {evil} {out}",
    "export": "export {evil} {out} --to torch-source",
    "rebatch": "rebatch {evil} {out}",
    "verify": "verify {evil} {evil}",
    "inspect": "inspect {evil}",
    "diff": "diff {evil} {evil}",
    "view": "view {evil} --page --no-browse",
    "scan": "scan {evil}",
    "predict": "predict {evil} {picture}",
    "quantize": "quantize {evil} {out} --calibrate {picture}",
    "features": "features {evil} {picture} --layers a -o {out}.npz",
    "train-head": "train-head {evil} {data} -o {out}",
    "advise": "advise {data} {evil}",
    "package": "package {evil} --to dir -o {out}",
    "evaluate": "evaluate {evil} {data} -o {out}",
    "compare": "compare {evil} {evil} --data {data} -o {out}",
    "visualize": "visualize {evil} {picture} -o {out}",
    "run": "run {step}",
    "zoo build": "zoo build alexnet --weights {evil} -o {out}",
}
NO_MODEL = {"formats", "layers", "doctor", "merge-features"}
"""these read no model"""
ELSEWHERE = {
    "retrain": "tests/netferry/test_retrain.py: it reads the network in a child of its own",
    "zoo pull": "the same as zoo build once the file is there; it keeps the network",
}


def test_no_command_is_forgotten() -> None:
    names = {name for name, _ in examples()}
    others = {name for name in names if name.startswith(("data ", "zoo ")) and name not in COMMANDS}
    assert names - others - set(COMMANDS) - NO_MODEL - set(ELSEWHERE) == set()
    assert {n for n in others if not n.startswith("data ")} - set(ELSEWHERE) <= {
        "zoo list", "zoo show", "zoo compare", "zoo ontology", "zoo sounds",
    }  # fmt: skip


@pytest.mark.skipif(not available(), reason="processes cannot be forked here")
@pytest.mark.parametrize("name", COMMANDS)
def test_a_crash_is_a_typed_error(tmp_path: Path, name: str) -> None:
    if name == "export" and find_spec("torch") is None:
        pytest.skip("needs torch: pip install 'netferry[train]'")
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(HOOK)
    evil = tmp_path / "evil.prototxt"
    evil.write_text('input: "data" input_dim: 1 input_dim: 1 input_dim: 20 input_dim: 20 layer { name: "a" type: "ReLU" bottom: "data" top: "o" }')  # fmt: skip
    (tmp_path / "step.yaml").write_text(
        f"netferry: 1\nname: evil\nsource:\n  file: {evil.name}\noutputs:\n  model: out.onnx\n"
    )
    names = {"evil": evil, "out": tmp_path / "out", "picture": PICTURE, "data": FIXTURES / "digits.csv"}
    words = COMMANDS[name].format(**names, step=tmp_path / "step.yaml").split()
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path / "hook"), str(ROOT)])}
    done = subprocess.run(
        [sys.executable, "-m", "netferry", *words],
        cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == MalformedFile.exit_code, done.stderr
    assert "SIGSEGV" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
