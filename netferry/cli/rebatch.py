"""``netferry rebatch``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from netferry.cli.app import app, show
from netferry.cli.options import Format, Json, Weights
from netferry.errors import UsageError


@app.command()
def rebatch(
    source: Annotated[Path, typer.Argument(help="The network.")],
    output: Annotated[Path, typer.Argument(help="The ONNX file to write.")],
    weights: Weights = None,
    axis: Annotated[
        list[str] | None, typer.Option("--axis", help="INPUT=AXIS: where an input has its batch, if not on axis 0.")
    ] = None,
    traced: Annotated[
        int | None, typer.Option(help="The batch that was baked in, where the inputs do not say.", min=1)
    ] = None,
    name: Annotated[str, typer.Option(help="The name of the dynamic dimension.")] = "batch",
    format: Format = None,
    report: Annotated[Path | None, typer.Option(help="Write the report (JSON) here.")] = None,
    as_json: Json = False,
) -> None:
    """Make a baked-in batch dynamic.

    Example: netferry rebatch fixtures/digits.prototxt any.onnx -w fixtures/digits.caffemodel --traced 1
    """
    from netferry import api

    axes: dict[str, int] = {}
    for text in axis or ():
        key, _, number = text.rpartition("=")
        if not key or not (number.isascii() and number.isdigit()):
            raise UsageError(f"--axis is INPUT=AXIS, not {text!r}")
        axes[key] = int(number)
    result = api.rebatch(
        source, output, weights=weights, axes=axes or None, traced=traced, name=name, report=report, format=format
    )
    show(result, as_json, "rebatch.shown")


def shown(result: dict[str, Any]) -> None:
    """Print what was mended and checked."""
    done = result["rebatch"]
    for row in done["changes"]:
        typer.echo(f"{row['layer']}: {row['change']}")
    for check in done["checks"]:
        typer.echo(f"batch {check['batch']}: agrees with the original ({check['max_rel']:.1e})")
    for output in result["outputs"]:
        typer.echo(f"{output['file']} ({output['bytes']} bytes)")
