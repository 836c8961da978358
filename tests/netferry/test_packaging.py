"""The wheel's package list, the links, the import rules and the public surface."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import netferry
from netferry.cli import COMMANDS, _asked

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("converters", "runtime", "schemas")


def test_the_package_list_equals_the_folders_that_have_an_init() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = ["netferry", *(f"netferry.{p.parent.name}" for p in (ROOT / "netferry").glob("*/__init__.py"))]
    found = [name for name in found if name.split(".")[-1] not in ROOMS]
    for room in ROOMS:
        for init in sorted((ROOT / room).rglob("__init__.py")):
            found.append("netferry." + ".".join(init.parent.relative_to(ROOT).parts))
    assert sorted(listed) == sorted(found)


@pytest.mark.parametrize("room", ROOMS)
def test_the_links_point_to_the_rooms(room: str) -> None:
    link = ROOT / "netferry" / room
    assert link.is_symlink()
    assert link.resolve() == ROOT / room


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_refuses_its_bare_name(room: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import {room}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "ImportError: import netferry." in done.stderr


def test_import_rules_hold() -> None:
    from importlinter.application.use_cases import lint_imports
    from importlinter.configuration import configure

    configure()
    assert lint_imports(config_filename=str(ROOT / "pyproject.toml"), is_debug_mode=False)


def test_the_public_surface_is_what_all_says() -> None:
    from netferry import api

    assert sorted(netferry.__all__) == sorted(
        [
            "Augment",
            "ImageFolder",
            "Model",
            "NetferryError",
            "Preprocessing",
            "SoundAugment",
            "TrainOptions",
            *api.__all__,
        ]
    )
    assert api.__all__ == [
        "advise",
        "compare",
        "compare_zoo",
        "convert",
        "diff",
        "doctor",
        "evaluate",
        "export",
        "features",
        "fit",
        "formats",
        "inspect",
        "layers",
        "load",
        "load_weights",
        "merge_features",
        "open_data",
        "package",
        "predict",
        "preview",
        "quantize",
        "rebatch",
        "retrain",
        "run",
        "save",
        "save_weights",
        "scan",
        "session",
        "to_torch",
        "train_head",
        "update_from",
        "verify",
        "view",
        "visualize",
        "zoo",
    ]
    for name in netferry.__all__:
        assert getattr(netferry, name) is not None
    with pytest.raises(AttributeError):
        netferry.nothing  # noqa: B018


@pytest.mark.parametrize(
    ("statement", "forbidden"),
    [
        pytest.param("import netferry", ("numpy", "onnx", "onnx_ir", "torch", "typer"), id="import-netferry"),
        pytest.param("from netferry.cli import register\nregister()", ("numpy", "onnx", "onnx_ir", "torch"), id="cli"),
        pytest.param("import netferry.runtime.session", ("onnx", "onnx_ir", "torch"), id="session"),
        pytest.param("from netferry.schemas.ir import ir", ("sympy.core", "torch"), id="ir-leaves-sympy-alone"),
    ],
)
def test_light_imports_stay_light(statement: str, forbidden: tuple[str, ...]) -> None:
    code = f"{statement}\nimport sys\nprint([m for m in {forbidden!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_sympy_still_works_after_the_lazy_import() -> None:
    from netferry.schemas.ir import ir

    assert (ir.SymbolicDim("batch") + 1).value == "batch + 1"


@pytest.mark.parametrize(("module", "names"), COMMANDS.items())
def test_a_module_of_commands_registers_the_names_it_is_listed_with(module: str, names: tuple[str, ...]) -> None:
    code = (
        f"import netferry.cli\nfrom netferry.cli.app import app\nnetferry.cli.import_module('netferry.cli.{module}')\n"
        "print(*[c.name or c.callback.__name__.replace('_', '-') for c in app.registered_commands],"
        " *[g.name for g in app.registered_groups])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert tuple(done.stdout.split()) == names


@pytest.mark.parametrize(
    ("line", "command"),
    [
        pytest.param("convert a.onnx", "convert", id="plain"),
        pytest.param("--debug --sandbox-limit memory=2 inspect a.onnx", "inspect", id="options-before"),
        pytest.param("--help", None, id="help"),
        pytest.param("--version", None, id="version"),
        pytest.param("", None, id="nothing"),
    ],
)
def test_only_the_asked_command_is_registered(line: str, command: str | None) -> None:
    assert _asked(line.split()) == command
