"""``netferry predict``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from netferry.cli.app import app, show
from netferry.cli.groups import ItemOptions, RecipeOptions, RunOptions, SourceOptions, grouped
from netferry.cli.options import (
    ITEMS,
    URL,
    DecodeBoxes,
    Json,
    Labels,
    Location,
    Overlap,
    ScoreThreshold,
    Shard,
    Weights,
)
from netferry.cli.progress import progress


@app.command()
@grouped
def predict(
    model: Annotated[Location, typer.Argument(help="The network: .onnx, or any source format.", **URL)],
    pictures: Annotated[list[str], typer.Argument(help=ITEMS)],
    *,
    weights: Weights = None,
    output: Annotated[
        Location | None, typer.Option("--output", "-o", help="Write them here: .csv, .tsv, .jsonl, .parquet.", **URL)
    ] = None,
    out_raw: Annotated[
        Location | None, typer.Option("--out-raw", help="The scores of all classes: .npz, .npy, .parquet, .h5.", **URL)
    ] = None,
    top: Annotated[int, typer.Option(help="How many labels per picture.", min=1)] = 5,
    labels: Labels = None,
    annotate: Annotated[
        Location | None, typer.Option(help="Write the pictures with labels (and boxes) here (PNG).", **URL)
    ] = None,
    recipe: RecipeOptions,
    run: RunOptions,
    items: ItemOptions,
    scores: Annotated[str | None, typer.Option(help="Name of the output with the scores.")] = None,
    shard: Shard = None,
    decode_boxes: DecodeBoxes = False,
    score_threshold: ScoreThreshold = 0.25,
    overlap: Overlap = 0.45,
    source: SourceOptions,
    as_json: Json = False,
) -> None:
    """Label pictures. Example: netferry predict digits.onnx fixtures/digit_7_09.png --top 3"""
    from netferry import api

    boxes: dict[str, Any] = {}
    if decode_boxes:
        boxes = {"decode_boxes": True, "score_threshold": score_threshold, "overlap": overlap}
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
            **vars(run),
            scores=scores,
            shard=shard,
            progress=bar,
            **items.arguments(),
            **recipe.separate(),
            **source.arguments(),
            **boxes,
        )
    detected = any("objects" in row for row in result["predictions"])
    show(result, as_json, "tables_detections.detected" if detected else "tables.predicted")
