"""``netferry predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from netferry.cli.app import app, show
from netferry.cli.options import (
    URL,
    Crop,
    Format,
    InputShape,
    Json,
    Labels,
    Limit,
    Mean,
    Order,
    Plugin,
    Resize,
    Scale,
    Size,
    Weights,
    parse_mean,
    parse_numbers,
    parse_pair,
    reading_options,
)


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="The network: .onnx, or any source format.", **URL)],
    pictures: Annotated[list[str], typer.Argument(help="Pictures, folders, globs.")],
    weights: Weights = None,
    top: Annotated[int, typer.Option(help="How many labels per picture.", min=1)] = 5,
    labels: Labels = None,
    annotate: Annotated[Path | None, typer.Option(help="Write the pictures with labels here (PNG).", **URL)] = None,
    mean: Mean = None,
    scale: Scale = None,
    channel_order: Order = None,
    resize: Resize = None,
    size: Size = None,
    crop: Crop = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 …")] = "auto",
    batch_size: Annotated[int, typer.Option(help="Pictures per run.", min=1)] = 16,
    output: Annotated[str | None, typer.Option(help="Name of the output with the scores.")] = None,
    on_error: Annotated[str, typer.Option(help="What to do with a corrupt picture: fail or skip.")] = "fail",
    format: Format = None,
    input_shape: InputShape = None,
    plugin: Plugin = None,
    limit: Limit = None,
    as_json: Json = False,
) -> None:
    """Label pictures. Example: netferry predict digits.onnx fixtures/digit_7_09.png --top 3"""
    from netferry import api

    reading = reading_options(format, input_shape, limit, "dynamic", None, False, None, 0, plugin)
    result = api.predict(
        model,
        pictures,
        weights=weights,
        top=top,
        labels=labels,
        annotate=annotate,
        mean=parse_mean(mean)[0],
        mean_file=parse_mean(mean)[1],
        scale=parse_numbers(scale, "--scale"),
        channel_order=channel_order,
        resize=resize,
        size=parse_pair(size, "--size"),
        crop=parse_pair(crop, "--crop"),
        device=device,
        batch_size=batch_size,
        output=output,
        on_error=on_error,
        **reading,
    )
    show(result, as_json, "tables.predicted")
