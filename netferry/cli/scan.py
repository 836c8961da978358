"""``netferry scan``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from netferry.cli.app import app, show
from netferry.cli.options import Json, Limit, Weights, reading_options
from netferry.errors import UnsafeFile, UnsupportedError


@app.command()
def scan(
    source: Annotated[Path, typer.Argument(help="A file of any format.")],
    second: Annotated[Path | None, typer.Argument(help="The weights, where they are a second file.")] = None,
    weights: Weights = None,
    strict: Annotated[bool, typer.Option("--strict", help="Suspicious files end with exit code 7 too.")] = False,
    limit: Limit = None,
    as_json: Json = False,
) -> None:
    """Tell what is suspicious in a file; exit code 6 where it is dangerous.

    Example: netferry scan fixtures/digits.prototxt
    """
    from netferry import api

    limits = reading_options(None, None, limit, "dynamic", None, False, None, 0, None)["limits"]
    result = api.scan(source, weights or second, limits=limits)
    show(result, as_json, "scan.scanned")
    if result["verdict"] == "dangerous":
        raise typer.Exit(UnsafeFile.exit_code)
    if strict and result["verdict"] == "suspicious":
        raise typer.Exit(UnsupportedError.exit_code)


def scanned(result: dict[str, Any]) -> None:
    """Print the verdict and the findings."""
    from rich.console import Console
    from rich.markup import escape

    out = Console(highlight=False, soft_wrap=True)
    colors = {"clean": "green", "suspicious": "yellow", "dangerous": "red"}
    color = colors[result["verdict"]]
    out.print(
        f"[bold]{escape(result['file'])}[/bold]  {result['format'] or '?'}  [{color}]{result['verdict']}[/{color}]"
    )
    for row in result["findings"]:
        where = f"{row['layer']}: " if "layer" in row else ""
        out.print(f"  {row['severity']:8} {row['kind']:13} {escape(where + row['message'])}")
