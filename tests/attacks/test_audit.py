"""No code of a file runs, nothing that a file names is imported, only the model's own files are opened, no network."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("netferry", "converters", "schemas", "runtime")
WATCH = """
import json, os, sys, sysconfig
import netferry
allowed = [os.path.realpath(p) for p in json.loads(sys.argv[2])]
root = os.path.dirname(os.path.dirname(os.path.realpath(netferry.__file__)))  # an editable install's metadata
packages = [os.path.realpath(p) for p in {*sys.path, os.path.join(root, "netferry.egg-info"), sysconfig.get_path("stdlib"), sys.prefix, sys.base_prefix} if p]
# what is lazily imported is imported now, by the same conversion of a network of the project's own
for source in json.loads(sys.argv[3]):
    netferry.convert(source[0], sys.argv[4], *source[1:], check="structure")
bad, names = [], {"os_evil", "evil_module"}
def hook(event, arguments):
    if event in ("marshal.loads", "pickle.find_class", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn",
                 "os.fork", "ctypes.dlopen", "cpython.run_command") or event.startswith("socket."):
        bad.append([event, str(arguments)[:200]])
    elif event == "import" and arguments[0].split(".")[0] in names:
        bad.append([event, arguments[0]])
    elif event == "compile" and not (arguments[1] is None or str(arguments[1]).startswith("<") or any(
            os.path.realpath(str(arguments[1])).startswith(p) for p in packages)):
        bad.append([event, str(arguments[1])])
    elif event == "open" and isinstance(arguments[0], (str, bytes)):
        path = os.path.realpath(os.fsdecode(arguments[0]))
        if not any(path.startswith(p) for p in (*allowed, *packages, "/proc/self", "/sys/", "/dev/")):
            bad.append([event, path])
sys.addaudithook(hook)
try:
    source, *weights = json.loads(sys.argv[1])
    netferry.convert(source, sys.argv[4], *weights, check="structure")
    said = "converted"
except netferry.NetferryError as error:
    said = type(error).__name__
print(json.dumps([said, bad]))
"""
WARM = [
    [str(ROOT / "fixtures/digits.prototxt"), str(ROOT / "fixtures/digits.caffemodel")],
]


def watched(tmp_path: Path, *files: Path) -> tuple[str, list[Any]]:
    """Convert with the auditor on; returns the error's class (or ``converted``) and what was forbidden."""
    (tmp_path / "out").mkdir(exist_ok=True)
    model = json.dumps([str(f) for f in files])
    allowed = json.dumps([str(tmp_path)])
    keras = tmp_path / "warm.json"
    keras.write_text(
        json.dumps(sequential({"class_name": "Activation", "config": {"name": "a", "activation": "relu"}}))
    )
    warm = json.dumps([*WARM, [str(keras)]])
    target = str(tmp_path / "out" / "net.onnx")
    done = subprocess.run(
        [sys.executable, "-c", WATCH, model, allowed, warm, target],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said, bad = json.loads(done.stdout)
    return said, bad


def sequential(*layers: dict[str, Any]) -> dict[str, Any]:
    first = {"class_name": "InputLayer", "config": {"name": "i", "batch_input_shape": [None, 4], "dtype": "float32"}}
    return {"class_name": "Sequential", "config": {"name": "s", "layers": [first, *layers]}, "keras_version": "2.11.0"}


MARSHALLED = "4wAAAAAAAAAAAAAAAAIAAAADAAAA8wAAAABsAG8AcwA="  # begins as a code object does
CONFIGS: dict[str, dict[str, Any]] = {
    "lambda-marshalled": {"class_name": "Lambda", "config": {"name": "l", "function": [MARSHALLED, None, None], "function_type": "lambda"}},
    "lambda-keras-3": {
        "class_name": "Lambda", "module": "keras.layers", "registered_name": None,
        "config": {"name": "l", "function": {"class_name": "__lambda__", "config": {"code": MARSHALLED, "defaults": None, "closure": None}}},
    },
    "lambda-by-name": {"class_name": "Lambda", "config": {"name": "l", "function": "system", "function_type": "function", "module": "os_evil"}},
    "module-and-name": {"class_name": "system", "module": "os_evil", "registered_name": "os_evil>system", "config": {"name": "l"}},
    "function-as-module": {"class_name": "function", "module": "os_evil", "config": "system", "registered_name": "function"},
    "activation-as-module": {
        "class_name": "Activation",
        "config": {"name": "a", "activation": {"module": "os_evil", "class_name": "function", "config": "system", "registered_name": "function"}},
    },
    "initializer-as-module": {
        "class_name": "Dense",
        "config": {"name": "d", "units": 2, "kernel_initializer": {"module": "evil_module", "class_name": "X", "config": {"command": "id"}}},
    },
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_keras_configs_that_name_code(tmp_path: Path, name: str) -> None:
    path = tmp_path / "net.json"
    path.write_text(json.dumps(sequential(CONFIGS[name])))
    said, bad = watched(tmp_path, path)
    assert bad == []
    assert said != "converted"


NETS = {
    "python-layer": 'type: "Python" python_param { module: "os_evil" layer: "system" param_str: "id" }',
    "data-source": 'type: "Data" data_param { source: "/etc/passwd" batch_size: 1 }',
    "window-file": 'type: "WindowData" window_data_param { source: "/etc/passwd" mean_file: "/etc/shadow" }',
    "label-map": 'type: "DetectionOutput" detection_output_param { num_classes: 2 save_output_param { label_map_file: "/etc/passwd" output_directory: "/tmp" } }',
}  # fmt: skip


@pytest.mark.parametrize("name", NETS)
def test_prototxts_that_name_files_or_code(tmp_path: Path, name: str) -> None:
    path = tmp_path / "net.prototxt"
    head = 'input: "data" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8 '
    path.write_text(f'{head} layer {{ name: "l" bottom: "data" top: "out" {NETS[name]} }}')
    _, bad = watched(tmp_path, path)
    assert bad == []


def test_an_honest_network_needs_nothing_else_either(tmp_path: Path) -> None:
    (tmp_path / "n.prototxt").write_bytes((ROOT / "fixtures/digits.prototxt").read_bytes())
    (tmp_path / "n.caffemodel").write_bytes((ROOT / "fixtures/digits.caffemodel").read_bytes())
    said, bad = watched(tmp_path, tmp_path / "n.prototxt", tmp_path / "n.caffemodel")
    assert (said, bad) == ("converted", [])


FORBIDDEN = {"eval", "exec", "compile", "__import__", "breakpoint"}
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "marshal", "shelve", "cloudpickle", "joblib"}


def sources() -> list[Path]:
    return [p for room in ROOMS for p in sorted((ROOT / room).rglob("*.py")) if not _through_link(p)]


def _through_link(path: Path) -> bool:
    return any(parent.is_symlink() for parent in path.parents)


def test_the_package_neither_evaluates_nor_unpickles() -> None:
    found: list[str] = []
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            where = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN:
                found.append(f"{where} {node.func.id}()")
            elif isinstance(node, ast.Import):
                found.extend(f"{where} {a.name}" for a in node.names if a.name.split(".")[0] in FORBIDDEN_MODULES)
            elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in FORBIDDEN_MODULES:
                found.append(f"{where} {node.module}")
            elif isinstance(node, ast.keyword) and node.arg == "allow_pickle" and not _is_false(node.value):
                found.append(f"{where} allow_pickle")
    assert found == []


def _is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False
