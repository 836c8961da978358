"""``netferry convert`` and ``optimize``."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from netferry.cli.app import app, show
from netferry.cli.options import (
    URL,
    Crop,
    DecodeBoxes,
    Disable,
    Format,
    FrontEnd,
    HalfIo,
    Init,
    Inputs,
    InputShape,
    InputsNchw,
    Json,
    KeepLayer,
    Labels,
    Level,
    Limit,
    Location,
    MaxError,
    Mean,
    NoWeights,
    Order,
    Outputs,
    OutputsNchw,
    Overlap,
    Plugin,
    Postprocess,
    Precision,
    Resize,
    RightPadded,
    Scale,
    ScoreThreshold,
    Size,
    SkipMissing,
    Stage,
    Weights,
    add_recipe,
    beside,
    keras_options,
    part_options,
    reading_options,
)
from netferry.cli.progress import progress


@app.command()
def convert(
    source: Annotated[Location, typer.Argument(help="The network: .prototxt, .h5, .cfg, .onnx …", **URL)],
    second: Annotated[Location | None, typer.Argument(help="The weights, where they are a second file.", **URL)] = None,
    output: Annotated[Location | None, typer.Option("--output", "-o", help="The ONNX file to write.", **URL)] = None,
    weights: Weights = None,
    opset: Annotated[
        int | None,
        typer.Option(help="11 to 26; by default an ONNX source's, else 21 (18 for pools that are slow later).", min=1),
    ] = None,
    ir_version: Annotated[int | None, typer.Option(help="The lowest that carries the content by default.")] = None,
    batch: Annotated[str, typer.Option(help="dynamic, or a number to fix it.")] = "dynamic",
    format: Format = None,
    input_shape: InputShape = None,
    labels: Labels = None,
    mean: Mean = None,
    scale: Scale = None,
    channel_order: Order = None,
    resize: Resize = None,
    size: Size = None,
    crop: Crop = None,
    inputs: Inputs = None,
    outputs: Outputs = None,
    no_weights: NoWeights = False,
    init: Init = None,
    front_end: FrontEnd = None,
    postprocess: Postprocess = None,
    skip_missing: SkipMissing = False,
    stage: Stage = None,
    level: Level = 0,
    inputs_as_nchw: InputsNchw = None,
    outputs_as_nchw: OutputsNchw = None,
    right_padded_masks: RightPadded = False,
    decode_boxes: DecodeBoxes = False,
    score_threshold: ScoreThreshold = 0.25,
    overlap: Overlap = 0.45,
    plugin: Plugin = None,
    limit: Limit = None,
    allow_placeholders: Annotated[
        bool, typer.Option("--allow-placeholders", help="Write unknown layers under netferry's own domain.")
    ] = False,
    external_data: Annotated[
        bool | None,
        typer.Option("--external-data/--no-external-data", help="Weights in a second file (by itself above 1.8 GB)."),
    ] = None,
    check: Annotated[str, typer.Option(help="structure, run, or auto: run where onnxruntime is installed.")] = "auto",
    optimize: Annotated[str, typer.Option(help="none, safe or full: a smaller graph that computes the same.")] = "none",
    precision: Precision = None,
    half_io: HalfIo = False,
    keep_layer: KeepLayer = None,
    max_error: MaxError = None,
    disable: Disable = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare with the source in its own framework before the file appears.")
    ] = False,
    embed_preprocessing: Annotated[
        bool,
        typer.Option("--embed-preprocessing", help="Take uint8 pictures (N x H x W x C); resize, normalise inside."),
    ] = False,
    report: Annotated[Location | None, typer.Option(help="Write the conversion report (JSON) here.", **URL)] = None,
    as_json: Json = False,
) -> None:
    """Convert a network to ONNX. Example: netferry convert fixtures/digits.prototxt fixtures/digits.caffemodel"""
    from netferry import api

    target = output or beside(source, ".onnx")
    reading = reading_options(format, input_shape, limit, batch, init, skip_missing, stage, level, plugin)
    reading.update(labels=labels, front_end=front_end, postprocess=postprocess)
    if decode_boxes:
        reading.update(decode_boxes=True, score_threshold=score_threshold, overlap=overlap)
    reading.update(keras_options(inputs_as_nchw, outputs_as_nchw, right_padded_masks))
    reading.update(part_options(inputs, outputs, no_weights))
    add_recipe(reading, source, weights or second, mean, scale, channel_order, resize, size, crop)
    with progress("measuring half precision") if precision else nullcontext() as told:
        result = api.convert(
            source,
            target,
            weights or second,
            progress=told,
            report=report,
            opset=opset,
            ir_version=ir_version,
            external_data=external_data,
            check=check,
            allow_placeholders=allow_placeholders,
            optimize=optimize,
            precision=precision,
            half_io=half_io,
            keep_layers=tuple(keep_layer or ()),
            max_error=max_error,
            disable=tuple(disable or ()),
            verify=verify,
            embed_preprocessing=embed_preprocessing,
            **reading,
        )
    show(result, as_json, "conversion.converted")


@app.command()
def optimize(
    source: Annotated[Path, typer.Argument(help="The network.")],
    output: Annotated[Path, typer.Argument(help="The ONNX file to write.")],
    weights: Weights = None,
    level: Annotated[str, typer.Option(help="safe or full.")] = "full",
    precision: Precision = None,
    half_io: HalfIo = False,
    keep_layer: KeepLayer = None,
    max_error: MaxError = None,
    disable: Disable = None,
    opset: Annotated[int | None, typer.Option(help="11 to 26.", min=1)] = None,
    check: Annotated[str, typer.Option(help="structure, run, or auto.")] = "auto",
    report: Annotated[Path | None, typer.Option(help="Write the report (JSON) here.")] = None,
    as_json: Json = False,
) -> None:
    """Make a network's graph smaller. Example: netferry optimize digits.onnx digits-small.onnx"""
    from netferry import api

    with progress("measuring half precision") if precision else nullcontext() as told:
        result = api.convert(
            source,
            output,
            weights,
            progress=told,
            report=report,
            opset=opset,
            check=check,
            optimize=level,
            precision=precision,
            half_io=half_io,
            keep_layers=tuple(keep_layer or ()),
            max_error=max_error,
            disable=tuple(disable or ()),
        )
    show(result, as_json, "conversion.converted")
