"""``netferry view``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from netferry.cli.app import app, sandbox_of
from netferry.cli.options import Weights


@app.command()
def view(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(help="The network.")],
    weights: Weights = None,
    page: Annotated[bool, typer.Option("--page", help="Our own page, also where Netron is installed.")] = False,
    port: Annotated[int, typer.Option(help="Netron's port on this machine; any free one by default.", min=0)] = 0,
    browse: Annotated[bool, typer.Option("--browse/--no-browse", help="Open the browser.")] = True,
) -> None:
    """Look at a network in the browser: in Netron where it is installed, else on the page of inspect --html.

    Example: netferry view digits.onnx
    """
    from netferry import api

    shown = api.view(source, weights, page=page, port=port, browse=browse, sandbox=sandbox_of(context))
    typer.echo(shown["address"])
    if shown["server"] is not None:
        typer.echo("Netron serves until Ctrl+C", err=True)
        shown["server"].wait()
