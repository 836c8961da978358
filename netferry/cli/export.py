"""``netferry export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from netferry.cli.app import app, show
from netferry.cli.options import (
    Dim,
    Format,
    Init,
    InputShape,
    InputsNchw,
    Json,
    Level,
    Limit,
    OutputsNchw,
    Plugin,
    RightPadded,
    SkipMissing,
    Stage,
    Weights,
    keras_options,
    parse_sizes,
    reading_options,
)
from netferry.errors import UsageError


@app.command()
def export(
    source: Annotated[Path, typer.Argument(help="The network.")],
    files: Annotated[list[Path], typer.Argument(help="Where to; before it the weights, if a second file.")],
    to: Annotated[str, typer.Option("--to", help="torch-source (a folder) or torch-export (a .pt2 file).")],
    weights: Weights = None,
    check: Annotated[str, typer.Option(help="auto: run the result beside the graph; none.")] = "auto",
    dim: Dim = None,
    batch: Annotated[str, typer.Option(help="dynamic, or a number to fix it.")] = "dynamic",
    format: Format = None,
    input_shape: InputShape = None,
    init: Init = None,
    skip_missing: SkipMissing = False,
    stage: Stage = None,
    level: Level = 0,
    inputs_as_nchw: InputsNchw = None,
    outputs_as_nchw: OutputsNchw = None,
    right_padded_masks: RightPadded = False,
    plugin: Plugin = None,
    limit: Limit = None,
    as_json: Json = False,
) -> None:
    """Write a network as PyTorch source with its weights, or as a .pt2 program: neither needs netferry to run.

    Example: netferry export fixtures/digits.prototxt fixtures/digits.caffemodel digits/ --to torch-source
    """
    from netferry import api

    if len(files) > 2 or (len(files) == 2 and weights is not None):
        raise UsageError("export takes SOURCE [WEIGHTS] TARGET")
    reading = reading_options(format, input_shape, limit, batch, init, skip_missing, stage, level, plugin)
    reading.update(keras_options(inputs_as_nchw, outputs_as_nchw, right_padded_masks))
    result = api.export(
        source,
        files[-1],
        weights or (files[0] if len(files) == 2 else None),
        to=to,
        check=check,
        sizes=parse_sizes(dim),
        **reading,
    )
    show(result, as_json, "export.exported")


def exported(result: dict[str, object]) -> None:
    """Print what was written and how far it is from the graph."""
    for row in result["files"]:  # type: ignore[attr-defined]
        typer.echo(f"{row['file']}  {row['bytes'] / 1e6:.2f} MB")
    found = result["check"]
    if found:
        worst = max(found["max_rel"].values(), default=0.0)  # type: ignore[index]
        typer.echo(f"agrees with {found['beside']}: largest relative difference {worst:.1e}")  # type: ignore[index]
