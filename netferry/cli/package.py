"""``netferry package``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from netferry.cli.app import app, show
from netferry.cli.options import (
    URL,
    Crop,
    Format,
    FrontEnd,
    Init,
    InputShape,
    InputsNchw,
    Json,
    Labels,
    Limit,
    Location,
    Mean,
    Order,
    OutputsNchw,
    Plugin,
    Postprocess,
    Resize,
    Scale,
    Size,
    Weights,
    add_recipe,
    keras_options,
    reading_options,
)


@app.command()
def package(
    model: Annotated[Location, typer.Argument(help="The network: .onnx, or any source format.", **URL)],
    second: Annotated[Location | None, typer.Argument(help="The weights, where they are a second file.", **URL)] = None,
    to: Annotated[str, typer.Option("--to", help="triton, kserve, mlflow, huggingface or dir.")] = "dir",
    output: Annotated[Location, typer.Option("--output", "-o", help="The folder to write.", **URL)] = Path("package"),
    name: Annotated[str | None, typer.Option(help="The model's name in the stack; the file's by default.")] = None,
    preprocessing: Annotated[
        str,
        typer.Option(
            help="embed (inside the network: uint8 pictures or a waveform in, any stack), ensemble (Triton: a model in "
            "front), none, or auto: for Triton an ensemble where there is a recipe."
        ),
    ] = "auto",
    max_batch: Annotated[int | None, typer.Option(help="Triton: the largest batch (32).", min=1)] = None,
    storage_uri: Annotated[str | None, typer.Option(help="KServe: where the cluster finds the folder.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace edited files; use a folder with other files.")
    ] = False,
    check: Annotated[str, typer.Option(help="structure, run, or auto: run where onnxruntime is installed.")] = "auto",
    weights: Weights = None,
    labels: Labels = None,
    mean: Mean = None,
    scale: Scale = None,
    channel_order: Order = None,
    resize: Resize = None,
    size: Size = None,
    crop: Crop = None,
    batch: Annotated[str, typer.Option(help="dynamic, or a number to fix it.")] = "dynamic",
    format: Format = None,
    input_shape: InputShape = None,
    init: Init = None,
    inputs_as_nchw: InputsNchw = None,
    outputs_as_nchw: OutputsNchw = None,
    front_end: FrontEnd = None,
    postprocess: Postprocess = None,
    plugin: Plugin = None,
    limit: Limit = None,
    as_json: Json = False,
) -> None:
    """Lay a network out for a serving stack; the same again changes nothing, another counts the version up.

    Example: netferry package fixtures/digits.prototxt fixtures/digits.caffemodel --to triton -o repository
    """
    from netferry import api

    reading = reading_options(format, input_shape, limit, batch, init, False, None, 0, plugin)
    reading.update(labels=labels, front_end=front_end, postprocess=postprocess)
    reading.update(keras_options(inputs_as_nchw, outputs_as_nchw, False))
    add_recipe(reading, model, weights or second, mean, scale, channel_order, resize, size, crop)
    result = api.package(
        model,
        output,
        weights or second,
        to=to,
        name=name,
        preprocessing=preprocessing,
        max_batch=max_batch,
        storage_uri=storage_uri,
        overwrite=overwrite,
        check=check,
        **reading,
    )
    show(result, as_json, "package.packaged")


def packaged(result: dict[str, Any]) -> None:
    """Print which folders were written, in which version."""
    for unit in result["units"]:
        what = "unchanged" if unit["unchanged"] else f"{len(unit['files'])} files"
        typer.echo(f"{unit['folder']}  version {unit['version']}, {what}")
    for note in result["notes"]:
        typer.echo(f"note: {note}", err=True)
