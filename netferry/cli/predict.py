"""``netferry predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from netferry.cli.app import app, show
from netferry.cli.options import (
    ITEMS,
    URL,
    ArrayName,
    Arrays,
    BatchSize,
    Crop,
    DataRoot,
    Device,
    Format,
    InputShape,
    Json,
    LabelColumn,
    Labels,
    Limit,
    Mean,
    OnError,
    Order,
    PathColumn,
    Plugin,
    Resize,
    Scale,
    Shard,
    Size,
    Weights,
    Workers,
    data_options,
    parse_mean,
    parse_numbers,
    parse_pair,
    reading_options,
)
from netferry.cli.progress import progress


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="The network: .onnx, or any source format.", **URL)],
    pictures: Annotated[list[str], typer.Argument(help=ITEMS)],
    weights: Weights = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write them here: .csv, .tsv, .jsonl, .parquet.", **URL)
    ] = None,
    out_raw: Annotated[
        Path | None, typer.Option("--out-raw", help="The scores of all classes: .npz, .npy, .parquet, .h5.", **URL)
    ] = None,
    top: Annotated[int, typer.Option(help="How many labels per picture.", min=1)] = 5,
    labels: Labels = None,
    annotate: Annotated[Path | None, typer.Option(help="Write the pictures with labels here (PNG).", **URL)] = None,
    mean: Mean = None,
    scale: Scale = None,
    channel_order: Order = None,
    resize: Resize = None,
    size: Size = None,
    crop: Crop = None,
    device: Device = "auto",
    batch_size: BatchSize = 16,
    workers: Workers = None,
    scores: Annotated[str | None, typer.Option(help="Name of the output with the scores.")] = None,
    on_error: OnError = "fail",
    shard: Shard = None,
    root: DataRoot = None,
    path_column: PathColumn = None,
    label_column: LabelColumn = None,
    array: ArrayName = None,
    arrays: Arrays = "auto",
    format: Format = None,
    input_shape: InputShape = None,
    plugin: Plugin = None,
    limit: Limit = None,
    as_json: Json = False,
) -> None:
    """Label pictures. Example: netferry predict digits.onnx fixtures/digit_7_09.png --top 3"""
    from netferry import api

    reading = reading_options(format, input_shape, limit, "dynamic", None, False, None, 0, plugin)
    with progress("items") as bar:
        result = api.predict(
            model,
            pictures,
            weights=weights,
            output=output,
            out_raw=out_raw,
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
            workers=workers,
            scores=scores,
            on_error=on_error,
            shard=shard,
            data_options=data_options(root, path_column, label_column, array, arrays),
            progress=bar,
            **reading,
        )
    show(result, as_json, "tables.predicted")
