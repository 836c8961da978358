"""``netferry features`` and ``merge-features``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from netferry.cli.app import app, show
from netferry.cli.groups import ItemOptions, RecipeOptions, RunOptions, SourceOptions, grouped
from netferry.cli.options import ITEMS, URL, Json, Location, Shard, Weights
from netferry.cli.progress import progress


@app.command()
@grouped
def features(
    model: Annotated[Location, typer.Argument(help="The network: .onnx, or any source format.", **URL)],
    data: Annotated[
        list[str],
        typer.Argument(help=ITEMS),
    ],
    layers: Annotated[str, typer.Option("--layers", "-l", help="Layers by the source's names: pool10,fire9.")],
    output: Annotated[Location, typer.Option("--output", "-o", help=".npz, .npy, .parquet or .h5.", **URL)],
    *,
    pool: Annotated[str, typer.Option(help="avg or max over a feature map, flatten, none.")] = "avg",
    weights: Weights = None,
    shard: Shard = None,
    restart: Annotated[bool, typer.Option("--restart", help="Throw an unfinished run away.")] = False,
    ray: Annotated[
        str | None, typer.Option(help="Address of a Ray cluster (auto, local): a session per worker.")
    ] = None,
    run: RunOptions,
    items: ItemOptions,
    recipe: RecipeOptions,
    source: SourceOptions,
    as_json: Json = False,
) -> None:
    """Write the values of layers for all items. Killed in the middle, it goes on when started again.

    Example: netferry features fixtures/digits.prototxt fixtures -w fixtures/digits.caffemodel -l ip1,pool2 -o f.npz
    """
    from netferry import api

    with progress("items") as bar:
        result = api.features(
            model,
            data,
            output,
            layers=[name.strip() for name in layers.split(",") if name.strip()],
            pool=pool,
            weights=weights,
            shard=shard,
            restart=restart,
            ray=ray,
            **vars(run),
            progress=bar,
            **items.arguments(),
            **recipe.arguments(),
            **source.arguments(),
        )
    show(result, as_json, "features.written")


@app.command()
def merge_features(
    files: Annotated[list[Location], typer.Argument(help="The shards' files, all of them, in any order.", **URL)],
    output: Annotated[Location, typer.Option("--output", "-o", help=".npz, .npy, .parquet or .h5.", **URL)],
    as_json: Json = False,
) -> None:
    """Put the shards of a features run together. Example: netferry merge-features f-1.npz f-2.npz -o f.npz"""
    from netferry import api

    show(api.merge_features(files, output), as_json, "features.written")


def written(result: dict[str, Any]) -> None:
    """Print what is in the file."""
    from netferry.cli.tables import listed, noted, skipped

    shard = "" if result.get("shard", "1/1") == "1/1" else f", shard {result['shard']}"
    typer.echo(f"{result['output']}: {result['rows']} rows{shard}")
    rows = [
        {"layer": c["name"], "shape": " × ".join(map(str, c["shape"])), "type": c["dtype"]} for c in result["layers"]
    ]
    listed(rows, "layer", "shape", "type")
    skipped(result["skipped"], f"{result['output']}.json")
    noted(result)
