"""``netferry inspect``, ``formats``, ``layers``, ``doctor``: what there is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from netferry.cli.app import app, show
from netferry.cli.options import (
    Dim,
    Format,
    InputShape,
    Json,
    Level,
    Limit,
    Plugin,
    Stage,
    Weights,
    parse_sizes,
    reading_options,
)


@app.command()
def inspect(
    source: Annotated[Path, typer.Argument(help="The network.")],
    second: Annotated[Path | None, typer.Argument(help="The weights, where they are a second file.")] = None,
    weights: Weights = None,
    format: Format = None,
    input_shape: InputShape = None,
    stage: Stage = None,
    level: Level = 0,
    plugin: Plugin = None,
    limit: Limit = None,
    dim: Dim = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write a page that draws the network here.")] = None,
    as_json: Json = False,
) -> None:
    """Show a network: inputs, outputs, layers, costs, warnings. Example: netferry inspect fixtures/digits.prototxt"""
    from netferry import api

    reading = reading_options(format, input_shape, limit, "dynamic", None, False, stage, level, plugin)
    result = api.inspect(source, weights or second, sizes=parse_sizes(dim), html=html, **reading)
    show(result, as_json, "tables_inspect.inspected")


@app.command()
def formats(as_json: Json = False) -> None:
    """List the formats that netferry reads. Example: netferry formats"""
    from netferry import api

    result = api.formats()
    show(result, as_json, "tables.listed", "format", "about", "files", "layers")


@app.command()
def layers(
    format: Annotated[str | None, typer.Argument(help="A source format; all of them by default.")] = None,
    plugin: Plugin = None,
    as_json: Json = False,
) -> None:
    """List the layer types that netferry reads, from the registries. Example: netferry layers caffe"""
    from netferry import api

    result = api.layers(format, plugins=plugin or ())
    show(result, as_json, "tables.listed", "format", "type", "family", "about")


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check the installation: packages, extras, devices, with the fix for what is missing. Example: netferry doctor"""
    from netferry import api

    result = api.doctor()
    show(result, as_json, "tables.diagnosed")
