"""``netferry quantize``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from netferry.cli.app import app, show
from netferry.cli.options import (
    Crop,
    Format,
    InputShape,
    Json,
    KeepLayer,
    Labels,
    Limit,
    Mean,
    Order,
    Plugin,
    Resize,
    Scale,
    Size,
    Weights,
    add_recipe,
    reading_options,
)


@app.command()
def quantize(
    source: Annotated[Path, typer.Argument(help="The network, in any format.")],
    output: Annotated[Path, typer.Argument(help="The ONNX file to write.")],
    calibrate: Annotated[
        list[Path],
        typer.Option(
            "--calibrate", help="Pictures (a folder; sub-folders are labels) or .npy/.npz arrays to measure on."
        ),
    ],
    weights: Weights = None,
    evaluate: Annotated[
        list[Path] | None,
        typer.Option("--evaluate", help="Labelled data for accuracy; the calibration data by default."),
    ] = None,
    max_drop: Annotated[
        float, typer.Option(help="How much accuracy (else agreement) may fall: 0.01 is one point.", min=0)
    ] = 0.01,
    samples: Annotated[int, typer.Option(help="How many items to calibrate with.", min=1)] = 256,
    method: Annotated[str, typer.Option(help="Ranges by minmax, entropy or percentile.")] = "minmax",
    keep_layer: KeepLayer = None,
    scores: Annotated[str | None, typer.Option("--scores", help="The output with the scores, of several.")] = None,
    batch_size: Annotated[int, typer.Option(help="Items in one run.", min=1)] = 16,
    seed: Annotated[int, typer.Option(help="Of the choice of items.")] = 0,
    format: Format = None,
    input_shape: InputShape = None,
    labels: Labels = None,
    mean: Mean = None,
    scale: Scale = None,
    channel_order: Order = None,
    resize: Resize = None,
    size: Size = None,
    crop: Crop = None,
    plugin: Plugin = None,
    limit: Limit = None,
    report: Annotated[Path | None, typer.Option(help="Write the report (JSON) here.")] = None,
    as_json: Json = False,
) -> None:
    """Write a network in int8, calibrated on your data; refused (exit code 9) where it becomes too much worse.

    Example: netferry quantize digits.onnx digits-int8.onnx --calibrate fixtures
    """
    from netferry import api

    reading = reading_options(format, input_shape, limit, "dynamic", None, False, None, 0, plugin)
    reading["labels"] = labels
    add_recipe(reading, source, weights, mean, scale, channel_order, resize, size, crop)
    result = api.quantize(
        source,
        output,
        calibrate,
        weights=weights,
        evaluate=evaluate or None,
        max_drop=max_drop,
        samples=samples,
        method=method,
        keep_layers=tuple(keep_layer or ()),
        output=scores,
        batch_size=batch_size,
        seed=seed,
        report=report,
        **reading,
    )
    show(result, as_json, "tables_inspect.quantized")
