"""The command line's root: what every command hangs on, and how results are shown."""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from typing import Annotated, Any

import typer

from netferry import __version__
from netferry.errors import NetferryError
from netferry.sandbox import Bounds, available, enter

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


_OUTSIDE = {"formats", "layers", "doctor", "retrain", "view"}
"""commands that stay in the one process: they read no file of strangers, or need devices, network or children;
``retrain`` and ``view`` read the network in a child"""
_NETWORK = {"run"}
"""confined commands that keep the network: their files name addresses"""


@app.callback()
def _root(
    context: typer.Context,
    _version_option: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    sandbox: Annotated[
        bool, typer.Option("--sandbox/--no-sandbox", help="Read files in a confined process that may crash.")
    ] = True,
    sandbox_limit: Annotated[
        list[str] | None,
        typer.Option(help="NAME=NUMBER: memory (GiB), cpu (seconds), file (GiB), files; 0 means no limit."),
    ] = None,
) -> None:
    if debug:
        os.environ["NETFERRY_DEBUG"] = "1"
    bounds = Bounds.of(sandbox_limit or ())
    asks_for_help = any(word in ("-h", "--help") for word in sys.argv)
    if sandbox and available() and not asks_for_help and context.invoked_subcommand not in _OUTSIDE:
        addresses = context.invoked_subcommand in _NETWORK or sys.argv[1:3] == ["zoo", "pull"]
        network = addresses or any("://" in word or word.startswith("--ray") for word in sys.argv)
        enter(sys.argv[1:], bounds, network=network, report=report)


def sandbox_of(context: typer.Context) -> Bounds | bool:
    """The limits for a command of _OUTSIDE that lets a confined child read; False for --no-sandbox."""
    given = context.find_root().params
    return Bounds.of(given["sandbox_limit"] or ()) if given["sandbox"] and available() else False


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


def report(error: NetferryError) -> int:
    """Show an error, as JSON too where that was asked for; returns its exit code."""
    if "--json" in sys.argv:
        print_json(error.as_dict())
    print(f"error: {error}", file=sys.stderr)
    if error.hint:
        print(f"hint: {error.hint}", file=sys.stderr)
    return error.exit_code
