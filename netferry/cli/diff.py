"""``netferry diff``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from netferry.cli.app import app, show
from netferry.cli.options import Format, InputShape, Json, Limit, Plugin, reading_options
from netferry.errors import CheckFailed


@app.command()
def diff(
    a: Annotated[Path, typer.Argument(help="A network, in any format.")],
    b: Annotated[Path, typer.Argument(help="Another.")],
    weights: Annotated[
        Path | None, typer.Option("--weights", "-w", help="The first one's weights, if a second file.")
    ] = None,
    weights_b: Annotated[Path | None, typer.Option("--weights-b", help="The other one's.")] = None,
    tolerance: Annotated[
        float, typer.Option(help="Weights this near (over their largest magnitude) count as equal.", min=0)
    ] = 0.0,
    ignore: Annotated[
        list[str] | None, typer.Option(help="metadata, names or weights: does not count (repeat).")
    ] = None,
    format: Format = None,
    input_shape: InputShape = None,
    plugin: Plugin = None,
    limit: Limit = None,
    as_json: Json = False,
) -> None:
    """Compare two networks without running them: exit code 0 where they are the same, 9 where they differ.

    Example: netferry diff digits.onnx digits-small.onnx
    """
    from netferry import api

    reading = reading_options(format, input_shape, limit, "dynamic", None, False, None, 0, plugin)
    result = api.diff(
        a, b, weights=weights, weights_b=weights_b, tolerance=tolerance, ignore=tuple(ignore or ()), **reading
    )
    show(result, as_json, "tables_diff.differing")
    if not result["same"]:
        raise typer.Exit(CheckFailed.exit_code)
