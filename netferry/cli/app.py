"""The command line's root: what every command hangs on, and how results are shown."""

from __future__ import annotations

import json
import os
from importlib import import_module
from typing import Annotated, Any

import typer

from netferry import __version__

_EPILOG = (
    "Exit codes: 0 done · 1 other · 2 usage · 3 file cannot be opened · 4 malformed or unknown file · 5 over a limit · "
    "6 unsafe file · 7 not supported · 8 weights · 9 check failed · 10 missing extra · 11 device · 12 output · "
    "130, 143 interrupted"
)
app = typer.Typer(
    name="netferry",
    help="Carries trained networks between formats: Keras, Caffe and ONNX files in, checked ONNX and predictions out.",
    epilog=_EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"netferry {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    _version_option: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    if debug:
        os.environ["NETFERRY_DEBUG"] = "1"


def show(result: Any, as_json: bool, table: str, *columns: str) -> None:
    """Print a result as JSON, or by a function of netferry.cli: ``tables.listed`` is ``listed`` in tables.py."""
    if as_json:
        print_json(result)
    else:
        module, _, function = table.rpartition(".")
        getattr(import_module(f"netferry.cli.{module}"), function)(result, *columns)


def print_json(document: Any) -> None:
    """Print a document as JSON on stdout."""
    typer.echo(json.dumps(document, indent=2, ensure_ascii=True, default=str))
