"""``netferry verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from netferry.cli.app import app, show
from netferry.cli.options import (
    Dim,
    Format,
    InputShape,
    InputsNchw,
    Json,
    Level,
    Limit,
    OutputsNchw,
    Plugin,
    RightPadded,
    Stage,
    Weights,
    keras_options,
    parse_sizes,
    reading_options,
)
from netferry.errors import CheckFailed, UsageError


@app.command()
def verify(
    source: Annotated[Path, typer.Argument(help="The source: ONNX, Keras, Caffe, Darknet or TensorFlow.")],
    files: Annotated[list[Path], typer.Argument(help="The ONNX file; before it the weights, if a second file.")],
    weights: Weights = None,
    atol: Annotated[float, typer.Option(help="Largest difference allowed.", min=0)] = 1e-6,
    rtol: Annotated[float, typer.Option(help="Or: relative to the output's largest magnitude.", min=0)] = 1e-4,
    seeds: Annotated[int, typer.Option(help="How many sets of inputs.", min=1)] = 2,
    dim: Dim = None,
    bisect: Annotated[bool, typer.Option("--bisect", help="Name the first layer whose values differ.")] = False,
    python: Annotated[
        str | None, typer.Option("--python", help="Interpreter that has the source's framework; this one by default.")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds that the source's framework may take.", min=1)] = 600,
    format: Format = None,
    input_shape: InputShape = None,
    stage: Stage = None,
    level: Level = 0,
    inputs_as_nchw: InputsNchw = None,
    outputs_as_nchw: OutputsNchw = None,
    right_padded_masks: RightPadded = False,
    plugin: Plugin = None,
    limit: Limit = None,
    as_json: Json = False,
) -> None:
    """Run the same inputs through a source and its ONNX file; exit code 9 where they differ.

    Example: netferry verify fixtures/digits.prototxt fixtures/digits.caffemodel digits.onnx --bisect
    """
    from netferry import api

    if len(files) > 2 or (len(files) == 2 and weights is not None):
        raise UsageError("verify takes SOURCE [WEIGHTS] OUT.onnx")
    reading = reading_options(format, input_shape, limit, "dynamic", None, False, stage, level, plugin)
    reading.update(keras_options(inputs_as_nchw, outputs_as_nchw, right_padded_masks))
    result = api.verify(
        source,
        files[-1],
        weights or (files[0] if len(files) == 2 else None),
        atol=atol,
        rtol=rtol,
        seeds=seeds,
        sizes=parse_sizes(dim),
        bisect=bisect,
        python=python,
        timeout=timeout,
        **reading,
    )
    show(result, as_json, "tables.verified")
    if not result["agrees"]:
        raise typer.Exit(CheckFailed.exit_code)
