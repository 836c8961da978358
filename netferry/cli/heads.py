"""``netferry train-head``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from netferry.cli.app import app, show
from netferry.cli.groups import ItemOptions, RecipeOptions, RunOptions, SourceOptions, grouped
from netferry.cli.options import URL, Json, Location, Weights
from netferry.cli.progress import progress


@app.command()
@grouped
def train_head(
    model: Annotated[Location, typer.Argument(help="The network: .onnx, or any source format.", **URL)],
    data: Annotated[
        list[str] | None, typer.Argument(help="Labelled items: a folder per class, CSV, Parquet, tar, .npz …")
    ] = None,
    *,
    output: Annotated[
        Location, typer.Option("--output", "-o", help="The ONNX file of trunk and classifier.", **URL)
    ] = Path("head.onnx"),
    on: Annotated[
        str, typer.Option("--on", help="features (computed now), or a file of netferry features.")
    ] = "features",
    layer: Annotated[
        str | None, typer.Option("--layer", "-l", help="The layer; by default the one in front of the softmax.")
    ] = None,
    pool: Annotated[str, typer.Option(help="avg or max over a feature map, or flatten.")] = "avg",
    classifier: Annotated[str, typer.Option(help="svm (linear), logistic or knn.")] = "svm",
    c: Annotated[float | None, typer.Option("--c", help="svm, logistic: inverse strength of regularisation.")] = None,
    neighbors: Annotated[int, typer.Option(help="knn: how many neighbours.", min=1)] = 5,
    test_size: Annotated[float, typer.Option(help="Share of the items held back to measure.", min=0, max=1)] = 0.3,
    seeds: Annotated[int, typer.Option(help="How many such splits; 0 for none.", min=0)] = 5,
    folds: Annotated[int, typer.Option(help="Of the cross-validation; 0 for none.", min=0)] = 5,
    weights: Weights = None,
    run: RunOptions,
    items: ItemOptions,
    recipe: RecipeOptions,
    source: SourceOptions,
    as_json: Json = False,
) -> None:
    """Train a classifier on a network's features; trunk and classifier become one ONNX file.

    Example: netferry train-head digits.onnx fixtures/digits.csv --classifier knn --neighbors 1 -o mine.onnx
    """
    from netferry import api

    with progress("items") as bar:
        result = api.train_head(
            model,
            data or None,
            output,
            on=on,
            layer=layer,
            pool=pool,
            classifier=classifier,
            c=c,
            neighbors=neighbors,
            test_size=test_size,
            seeds=seeds,
            folds=folds,
            weights=weights,
            **vars(run),
            progress=bar,
            **items.arguments(),
            **recipe.arguments(),
            **source.arguments(),
        )
    show(result, as_json, "heads.trained")


def trained(result: dict[str, Any]) -> None:
    """Print what was learned and how well."""
    from netferry.cli.tables import listed, noted, skipped

    typer.echo(f"{result['output']}: {result['classifier']} on {result['features']} features of {result['layer']}")
    listed([{"class": name, "items": count} for name, count in result["classes"].items()], "class", "items")
    held, crossed = result["held_back"], result["cross_validation"]
    if held is not None:
        typer.echo(
            f"accuracy {held['mean']:.3f} on held-back {held['test_size']:.0%}, mean of {len(held['accuracies'])} "
            f"splits ({min(held['accuracies']):.3f} to {max(held['accuracies']):.3f})"
        )
    if crossed is not None:
        typer.echo(f"accuracy {crossed['mean']:.3f} ± {crossed['std']:.3f} in {crossed['folds']}-fold cross-validation")
    noted(result)
    skipped(result["skipped"])
